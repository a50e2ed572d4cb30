//! Files of the build, read through the gateway: directories of the client and remote contexts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::Gateway;
use super::guard::{self, Precision};
use crate::policy::MAX_DATA;
use crate::source::SourceOp;
use crate::wire::proto::{gateway, pb};
use crate::wire::raw;

/// Most files that are listed of one directory tree.
const MAX_FILES: usize = 2_000;
/// Most bytes of all files that are read for one policy.
const MAX_TOTAL: usize = 64 << 20;
/// Bytes that are asked for at once: a daemon sends no message of more than 16 MiB.
const PIECE: usize = 4 << 20;
/// Name of a file by URL in the tree that it is unpacked into, where it is no archive.
pub const UNPACKED: &str = "context";
/// Bit of a directory in the mode of an entry.
const DIRECTORY: u32 = 1 << 31;

/// A tree that a source was solved into; none of it is read yet.
pub struct Tree<'g> {
    gateway: &'g Gateway,
    reference: String,
}

/// A file that was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The daemon does not give it.
    #[error("{}", .0.message())]
    Daemon(#[from] Box<Status>),
    /// It is cut off by nobody, and larger than it may be.
    #[error("`{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// The limit.
        limit: u64,
    },
}

impl<'g> Tree<'g> {
    /// Has the daemon load `op`. Whoever calls this has judged it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn load(gateway: &'g Gateway, op: &SourceOp) -> Result<Self, Status> {
        Self::solve(gateway, std::slice::from_ref(op), definition(op)).await
    }

    /// A client's own static rules apply to what we ask for as well: nothing but `ops` may come of it.
    async fn solve(
        gateway: &'g Gateway,
        ops: &[SourceOp],
        definition: pb::Definition,
    ) -> Result<Self, Status> {
        let request = gateway::SolveRequest {
            definition: Some(definition),
            source_policies: vec![guard::only(ops, Precision::Exact)],
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Default::default()
        };
        let answer: gateway::SolveResponse = gateway.call("Solve", &request).await?;
        let reference = match answer.result.and_then(|result| result.result) {
            Some(gateway::result::Result::Ref(gateway::Ref { id, def: _ })) => id,
            Some(gateway::result::Result::RefDeprecated(id)) => id,
            Some(gateway::result::Result::Refs(_) | gateway::result::Result::RefsDeprecated(_))
            | None => answer.r#ref,
        };
        Ok(Self { gateway, reference })
    }

    /// Has the daemon make what a definition says of these sources. Whoever calls this has judged them.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn solved(
        gateway: &'g Gateway,
        definition: pb::Definition,
        sources: &[SourceOp],
    ) -> Result<Self, Status> {
        Self::solve(gateway, sources, definition).await
    }

    /// Has the daemon download an archive and unpack it; any other file stands in it as it is. Whoever
    /// calls this has judged it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn unpacked(gateway: &'g Gateway, op: &SourceOp) -> Result<Self, Status> {
        let mut file = op.clone();
        file.attrs.insert("http.filename".into(), UNPACKED.into());
        Self::solve(gateway, std::slice::from_ref(&file), unpacking(&file)).await
    }

    /// Paths of all regular files below `dir` (`""` is the root), relative to it.
    ///
    /// # Errors
    /// What the daemon says, and where there are too many.
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, Status> {
        let mut open = vec![String::new()];
        let mut files = Vec::new();
        while let Some(below) = open.pop() {
            let request = gateway::ReadDirRequest {
                r#ref: self.reference.clone(),
                dir_path: join(dir, &below),
                ..Default::default()
            };
            let answer: gateway::ReadDirResponse = self.gateway.call("ReadDir", &request).await?;
            for entry in answer.entries {
                let name = Path::new(&entry.path).file_name().unwrap_or_default();
                let path = join(&below, &name.to_string_lossy());
                if entry.mode & DIRECTORY != 0 {
                    open.push(path)
                } else {
                    files.push(path)
                }
                if open.len() + files.len() > MAX_FILES {
                    return Err(too_many());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Whether there is an entry of this name at the top.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn has(&self, name: &str) -> Result<bool, Status> {
        let request = gateway::ReadDirRequest {
            r#ref: self.reference.clone(),
            include_pattern: name.to_owned(),
            ..Default::default()
        };
        let answer: gateway::ReadDirResponse = self.gateway.call("ReadDir", &request).await?;
        Ok(!answer.entries.is_empty())
    }

    /// One file of at most `limit` bytes, whole.
    ///
    /// # Errors
    /// What the daemon says, and where it is larger.
    pub async fn read(&self, path: &str, limit: u64) -> Result<Bytes, ReadError> {
        let data = self.first(path, limit).await.map_err(Box::new)?;
        if data.len() as u64 > limit {
            return Err(ReadError::TooLarge { path: path.to_owned(), limit });
        }
        Ok(data)
    }

    /// What a file begins with: up to `limit` bytes, and one more where there are more.
    async fn first(&self, path: &str, limit: u64) -> Result<Bytes, Status> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(1);
        let mut data = BytesMut::new();
        loop {
            let length = PIECE.min(most - data.len());
            let offset = |bytes: usize| {
                i64::try_from(bytes).map_err(|_| Status::out_of_range("a file of 2^63 bytes"))
            };
            let range = gateway::FileRange { offset: offset(data.len())?, length: offset(length)? };
            let request = gateway::ReadFileRequest {
                r#ref: self.reference.clone(),
                file_path: path.to_owned(),
                range: Some(range),
                ..Default::default()
            };
            let answer: gateway::ReadFileResponse = self.gateway.call("ReadFile", &request).await?;
            if answer.data.len() > length {
                return Err(Status::internal(
                    "the daemon reads more of a file than it was asked for",
                ));
            }
            data.extend_from_slice(&answer.data);
            if answer.data.len() < length || data.len() == most {
                return Ok(data.freeze());
            }
        }
    }

    /// A file of a policy. What is too large is cut, just so far that whoever uses it sees that it is.
    async fn file(&self, path: &str, total: &mut usize) -> Result<Bytes, Status> {
        let content = self.first(path, MAX_DATA).await?;
        *total += content.len();
        if *total > MAX_TOTAL {
            let text = format!("more than {MAX_TOTAL} bytes of files beside a policy");
            return Err(Status::resource_exhausted(text));
        }
        Ok(content)
    }

    /// The files of these names below `dir`, by their path below it. `*` in a name is anything in one
    /// part of a path. A name that nothing has is no error.
    ///
    /// # Errors
    /// What the daemon says, and where there are too many.
    pub async fn read_named(
        &self,
        dir: &str,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, Bytes>, Status> {
        let (mut files, mut total) = (BTreeMap::new(), 0);
        let parts = dir.split('/').filter(|part| !matches!(*part, "" | "."));
        let above: Vec<&str> = parts.collect();
        for name in names {
            let mut found = vec![String::new()];
            let path: Vec<&str> = above.iter().copied().chain(name.split('/')).collect();
            for (at, part) in path.iter().enumerate() {
                let mut below = Vec::new();
                for dir in found {
                    below.extend(self.entries(&dir, part, at + 1 < path.len()).await?);
                }
                found = below;
            }
            if files.len() + found.len() > MAX_FILES {
                return Err(too_many());
            }
            for path in found {
                let content = self.file(&path, &mut total).await?;
                let name = path.strip_prefix(&above.join("/")).unwrap_or(&path);
                files.insert(name.trim_start_matches('/').to_owned(), content);
            }
        }
        Ok(files)
    }

    /// Entries of a directory that have this name: directories, or files.
    async fn entries(&self, dir: &str, name: &str, dirs: bool) -> Result<Vec<String>, Status> {
        let request = gateway::ReadDirRequest {
            r#ref: self.reference.clone(),
            dir_path: dir.to_owned(),
            include_pattern: name.to_owned(),
            ..Default::default()
        };
        let answer: gateway::ReadDirResponse = self.gateway.call("ReadDir", &request).await?;
        let of_kind = answer.entries.iter().filter(|it| (it.mode & DIRECTORY != 0) == dirs);
        let names = of_kind.filter_map(|it| Path::new(&it.path).file_name());
        Ok(names.map(|name| join(dir, &name.to_string_lossy())).collect())
    }

    /// All files below `dir`, by their path below it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn read_all(&self, dir: &str) -> Result<BTreeMap<String, Bytes>, Status> {
        let (mut files, mut total) = (BTreeMap::new(), 0);
        for path in self.list(dir).await? {
            let content = self.file(&join(dir, &path), &mut total).await?;
            files.insert(path, content);
        }
        Ok(files)
    }
}

/// A directory of the client, of which only what matches `patterns` is sent; all where there are none.
pub fn local(name: &str, session: &str, patterns: &[String]) -> SourceOp {
    let mut op = SourceOp::new(format!("local://{name}"));
    if !session.is_empty() {
        op.attrs.insert("local.session".into(), session.to_owned());
    }
    if !patterns.is_empty() {
        let patterns = serde_json::Value::from(patterns.to_vec()).to_string();
        op.attrs.insert("local.followpaths".into(), patterns);
    }
    op.attrs.insert("local.sharedkeyhint".into(), format!("buildgate-policy-{name}"));
    op
}

/// Two parts of a path, either of which may be empty.
pub fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("", name) => name.to_owned(),
        (dir, "") => dir.to_owned(),
        (dir, name) => format!("{dir}/{name}"),
    }
}

fn too_many() -> Status {
    Status::resource_exhausted(format!("more than {MAX_FILES} files beside a policy"))
}

/// The definition that unpacks a file into an empty tree (`FileOp` with one `copy`).
fn unpacking(op: &SourceOp) -> pb::Definition {
    let pb::Definition { mut def, metadata, source } = definition(op);
    let file = def.first().cloned().unwrap_or_default();
    let last = def.pop();
    drop(last);
    let input = pb::Input { digest: digest(&file), index: 0 };
    let mut copy = BytesMut::new();
    for (number, path) in [(1, "/context"), (2, "/")] {
        raw::put(&mut copy, number, path.as_bytes());
    }
    // Mode as it is; attemptUnpackDockerCompatibility, createDestPath.
    copy.extend_from_slice(&[0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    copy.extend_from_slice(&[0x38, 1, 0x40, 1]);
    let mut action = BytesMut::new();
    // An input of -1 is an empty tree; the other is the file.
    action.extend_from_slice(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    action.extend_from_slice(&[0x10, 0, 0x18, 0]);
    raw::put(&mut action, 4, &copy);
    let mut actions = BytesMut::new();
    raw::put(&mut actions, 2, &action);
    let mut unpack = BytesMut::from(
        pb::Op { inputs: vec![input], ..Default::default() }.encode_to_vec().as_slice(),
    );
    raw::put(&mut unpack, 4, &actions);
    let unpack = unpack.freeze();
    let result = pb::Op {
        inputs: vec![pb::Input { digest: digest(&unpack), index: 0 }],
        ..Default::default()
    };
    def.extend([unpack, result.encode_to_vec().into()]);
    pb::Definition { def, metadata, source }
}

fn digest(op: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(op)))
}

/// The definition that loads one source and nothing else.
fn definition(op: &SourceOp) -> pb::Definition {
    let source = pb::Op { op: Some(pb::op::Op::Source(op.clone().into())), ..Default::default() }
        .encode_to_vec();
    let digest = digest(&source);
    let result = pb::Op {
        inputs: vec![pb::Input { digest: digest.clone(), index: 0 }],
        ..Default::default()
    };
    let name = format!("[buildgate] look into {}", op.masked());
    let metadata = pb::OpMetadata {
        description: [("llb.customname".to_owned(), name)].into(),
        ..Default::default()
    };
    pb::Definition {
        def: vec![source.into(), result.encode_to_vec().into()],
        metadata: [(digest, metadata)].into(),
        source: None,
    }
}
