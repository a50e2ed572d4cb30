//! Files of the build, read through the gateway: directories of the client and remote contexts.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::Gateway;
use crate::policy::MAX_DATA;
use crate::source::SourceOp;
use crate::wire::proto::{gateway, pb};

/// Most files that are listed of one directory tree.
const MAX_FILES: usize = 2_000;
/// Bit of a directory in the mode of an entry.
const DIRECTORY: u32 = 1 << 31;

/// A tree that a source was solved into; none of it is read yet.
pub struct Tree<'g> {
    gateway: &'g Gateway,
    reference: String,
}

impl<'g> Tree<'g> {
    /// Has the daemon load `op`. Whoever calls this has judged it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn load(gateway: &'g Gateway, op: &SourceOp) -> Result<Self, Status> {
        let request = gateway::SolveRequest {
            definition: Some(definition(op)),
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
                    return Err(Status::resource_exhausted(format!(
                        "more than {MAX_FILES} files beside a policy"
                    )));
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

    /// One file.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn read(&self, path: &str) -> Result<Bytes, Status> {
        let limit = i64::try_from(MAX_DATA).unwrap_or(i64::MAX).saturating_add(1);
        let request = gateway::ReadFileRequest {
            r#ref: self.reference.clone(),
            file_path: path.to_owned(),
            range: Some(gateway::FileRange { offset: 0, length: limit }),
            ..Default::default()
        };
        let answer: gateway::ReadFileResponse = self.gateway.call("ReadFile", &request).await?;
        Ok(answer.data)
    }

    /// All files below `dir`, by their path below it.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn read_all(&self, dir: &str) -> Result<BTreeMap<String, Bytes>, Status> {
        let mut files = BTreeMap::new();
        for path in self.list(dir).await? {
            let content = self.read(&join(dir, &path)).await?;
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

/// The definition that loads one source and nothing else.
fn definition(op: &SourceOp) -> pb::Definition {
    let source = pb::Op { op: Some(pb::op::Op::Source(op.clone().into())), ..Default::default() }
        .encode_to_vec();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&source)));
    let result = pb::Op {
        inputs: vec![pb::Input { digest: digest.clone(), index: 0 }],
        ..Default::default()
    };
    let name = format!("[buildgate] load policies from {}", op.masked());
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
