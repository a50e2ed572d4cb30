//! The policies of a build: those baked into the image, the one in the named context `policy`, and
//! the one beside the Dockerfile. All must allow; without any the build is refused.
//!
//! What a policy beside the Dockerfile reads is told by its text: imports, and literals that look
//! like the name of a file. Only those are asked of the client, never its whole directory.

mod image;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use tonic::Status;

use self::image::{baked, trusted};
use self::names::named_by;
use super::options::{BuildOptions, Place};
use crate::check::{self, CheckError, Outcome, Pin, Question, reasons};
use crate::gateway::{self, Gateway, Tree, join, local};
use crate::meta::{GitRequest, HttpRequest, MetaRequest, ResolveSourceMeta};
use crate::policy::{Policy, PolicyError, PolicyFiles};
use crate::source::{Source, SourceError, SourceOp, mask, parse_git_user};

/// Attributes that pin a source.
const CHECKSUMS: [&str; 2] = ["git.checksum", "http.checksum"];
/// Rounds of reading what the files read so far name.
const ROUNDS: usize = 8;

/// What a build is judged by.
#[derive(Debug)]
pub struct Policies {
    /// All of them; never none.
    pub policies: Vec<Policy>,
    /// The Dockerfile, where it is known.
    pub dockerfile: Option<String>,
    /// The remote context as it was read: the build gets this and no later one.
    read: Option<SourceOp>,
}

impl Policies {
    /// The source, pinned to the content that the policy in it was read from, where it is the
    /// remote context.
    pub fn as_read(&self, op: &SourceOp) -> SourceOp {
        let mut op = op.clone();
        let Some(read) = self.read.as_ref().filter(|it| same_place(it, &op)) else { return op };
        for name in CHECKSUMS {
            if let Some(checksum) = read.attrs.get(name) {
                op.attrs.entry(name.to_owned()).or_insert_with(|| checksum.clone());
            }
        }
        op
    }
}

/// Whether two sources are one repository at one reference, or one URL.
fn same_place(one: &SourceOp, other: &SourceOp) -> bool {
    match (Source::parse(one), Source::parse(other)) {
        (Ok(Source::Git(one)), Ok(Source::Git(other))) => {
            one.remote == other.remote && one.reference == other.reference
        }
        (Ok(Source::Http(one)), Ok(Source::Http(other))) => one.url == other.url,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// What lies beside a Dockerfile.
#[derive(Default)]
struct Beside {
    files: BTreeMap<String, Bytes>,
    dockerfile: Option<String>,
    /// The remote context that they were read from.
    read: Option<SourceOp>,
}

/// Policies that cannot be had. The build is refused.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none at all.
    #[error(
        "there is no policy, so nothing is allowed: put {file}.rego beside the Dockerfile, pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    None {
        /// Name of the Dockerfile.
        file: String,
    },
    /// One cannot be loaded.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The folder of the image cannot be read.
    #[error("{path}: {source}")]
    Baked {
        /// The folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A trust root of the image cannot be used.
    #[error("trust root: {0}")]
    Trust(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon could not read the files.
    #[error("the policy files of {place} cannot be read: {}", status.message())]
    Files {
        /// Where they are.
        place: String,
        /// What the daemon said.
        status: Box<Status>,
    },
    /// The named context is of a kind that no policy is read from.
    #[error("the build context `policy` is `{value}`; only a directory can hold a policy")]
    Context {
        /// As given.
        value: String,
    },
    /// A remote context without anyone to judge it.
    #[error(
        "the context {context} would be fetched before any policy is known: pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    Unjudged {
        /// As given.
        context: String,
    },
    /// A remote context that is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What holds the policy could not be judged.
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    /// What holds the policy is denied by the policies before it.
    #[error("{op} is denied by {policy}: {}", messages.join("; "))]
    Denied {
        /// The source.
        op: SourceOp,
        /// Who denies it.
        policy: String,
        /// In its words.
        messages: Vec<String>,
    },
    /// A policy wants the build's HTTP traffic proxied.
    #[error(
        "a policy asks for exec.proxy, which no frontend can switch on: it takes a gate in front \
         of buildkitd, or Buildx's own --policy"
    )]
    ExecProxy,
}

/// Who loads policies, and from where.
pub struct Loader<'a> {
    /// Reads the build's files.
    pub gateway: &'a Gateway,
    /// The build.
    pub options: &'a BuildOptions,
    /// Folder of the policies in the image.
    pub baked: &'a Path,
}

impl Loader<'_> {
    /// Loads all of them, each judged by those before it.
    ///
    /// # Errors
    /// When there is none, or one cannot be had.
    pub async fn load(&self) -> Result<Policies, SetupError> {
        let trust = trusted(&self.baked.with_file_name("trust"))?;
        let trusting = |policies: Vec<Policy>| -> Vec<Policy> {
            policies.into_iter().map(|policy| policy.with_trust(trust.clone())).collect()
        };
        let mut policies = trusting(baked(self.baked)?);
        if let Some(named) = self.named(&policies).await? {
            policies.push(named);
        }
        let (own, dockerfile, read) = self.own(&policies).await?;
        policies.extend(own);
        if policies.is_empty() {
            return Err(SetupError::None { file: self.options.filename().to_owned() });
        }
        let caps = check::caps(&policies, &self.options.env()).map_err(Box::new)?;
        if caps.exec_proxy == Some(true) {
            return Err(SetupError::ExecProxy);
        }
        Ok(Policies { policies: trusting(policies), dockerfile, read })
    }

    /// The policy in the named context `policy`.
    async fn named(&self, before: &[Policy]) -> Result<Option<Policy>, SetupError> {
        let Some(value) = self.options.get("context:policy") else { return Ok(None) };
        let Some(name) = value.strip_prefix("local:") else {
            return Err(SetupError::Context { value: mask(value) });
        };
        let place = || "the build context `policy`".to_owned();
        let op = self.judged(before, local(name, self.options.session_of(name), &[])).await?;
        let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
        let files = tree.read_all("").await.map_err(|it| files(place(), it))?;
        let modules: Vec<String> = files
            .keys()
            .filter(|name| !name.contains('/') && !name.starts_with('.'))
            .filter(|name| name.ends_with(".rego") && !name.ends_with("_test.rego"))
            .cloned()
            .collect();
        Ok(Some(Policy::load("policy (build context)", PolicyFiles::memory(files), &modules)?))
    }

    /// The policy beside the Dockerfile, the Dockerfile, and the remote context they are in.
    async fn own(&self, before: &[Policy]) -> Result<Own, SetupError> {
        let filename = self.options.filename();
        let (dir, file) = filename.rsplit_once('/').unwrap_or(("", filename));
        let module = format!("{file}.rego");
        let Beside { files, dockerfile, read } = match self.options.dockerfile() {
            Place::Local(name) => self.beside_local(before, &name, dir, &module).await?,
            Place::Remote(context) => self.beside_remote(before, &context, dir, &module).await?,
        };
        if !files.contains_key(&module) {
            return Ok((None, dockerfile, read));
        }
        let policy =
            Policy::load(&module, PolicyFiles::memory(files), std::slice::from_ref(&module))?;
        Ok((Some(policy), dockerfile, read))
    }

    async fn beside_local(
        &self,
        before: &[Policy],
        name: &str,
        dir: &str,
        module: &str,
    ) -> Result<Beside, SetupError> {
        let place = || format!("`{name}`");
        let filename = self.options.filename();
        let mut wanted = BTreeSet::from([module.to_owned()]);
        let mut beside = Beside::default();
        for _ in 0..ROUNDS {
            let patterns: Vec<String> =
                wanted.iter().map(|path| join(dir, path)).chain([filename.to_owned()]).collect();
            let op = local(name, self.options.session_of(name), &patterns);
            let op = self.judged(before, op).await?;
            let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
            let below = tree.read_named(dir, &wanted).await.map_err(|it| files(place(), it))?;
            let file = filename.rsplit('/').next().unwrap_or(filename).to_owned();
            let text = tree.read_named(dir, &[file.clone()].into()).await;
            let text = text.map_err(|it| files(place(), it))?.remove(&file);
            beside.dockerfile = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            beside.files = below;
            let known = wanted.len();
            wanted.extend(named_by(&beside.files));
            if wanted.len() == known {
                break;
            }
        }
        Ok(beside)
    }

    /// Files of a remote context, which the policies before judge first.
    async fn beside_remote(
        &self,
        before: &[Policy],
        context: &str,
        dir: &str,
        module: &str,
    ) -> Result<Beside, SetupError> {
        if before.is_empty() {
            return Err(SetupError::Unjudged { context: mask(context) });
        }
        let place = || mask(context);
        let git = parse_git_user(context)?;
        let op = match &git {
            Some(git) => git.to_op(),
            None => SourceOp::new(context),
        };
        let op = self.judged(before, op).await?;
        let op = self.fixed(op).await.map_err(|it| files(place(), it))?;
        let tree = match git {
            Some(_) => {
                let mut whole = op.clone();
                // Policies are the repository's own files; its submodules are judged by them.
                whole.attrs.insert("git.skipsubmodules".into(), "true".into());
                Tree::load(self.gateway, &whole).await
            }
            None => Tree::unpacked(self.gateway, &op).await,
        };
        let tree = tree.map_err(|it| files(place(), it))?;
        let mut wanted = BTreeSet::from([module.to_owned()]);
        let mut found = BTreeMap::new();
        for _ in 0..ROUNDS {
            found = tree.read_named(dir, &wanted).await.map_err(|it| files(place(), it))?;
            let known = wanted.len();
            wanted.extend(named_by(&found));
            if wanted.len() == known {
                break;
            }
        }
        Ok(Beside { files: found, dockerfile: None, read: Some(op) })
    }

    /// The source at the content that it has now: what is read of it, the build gets.
    async fn fixed(&self, op: SourceOp) -> Result<SourceOp, Status> {
        if CHECKSUMS.iter().any(|name| op.attrs.contains_key(*name)) {
            return Ok(op);
        }
        let mut request = MetaRequest { source: op.clone(), ..MetaRequest::default() };
        match Source::parse(&op) {
            Ok(Source::Git(_)) => request.git = Some(GitRequest::default()),
            _ => request.http = Some(HttpRequest::default()),
        }
        let meta = self.gateway.resolve(&request).await;
        let meta = meta.map_err(|error| Status::unknown(error.to_string()))?;
        let pin = match (meta.git, meta.http) {
            (Some(git), _) => Pin::Git(git.checksum),
            (None, Some(http)) => Pin::Http(http.checksum),
            (None, None) => return Err(Status::unknown("the daemon does not tell its digest")),
        };
        Ok(gateway::pinned(&op, Some(&pin)))
    }

    /// What holds a policy, judged by the policies before it, as it is to be fetched.
    async fn judged(&self, before: &[Policy], op: SourceOp) -> Result<SourceOp, SetupError> {
        if before.is_empty() {
            return Ok(op);
        }
        let question =
            Question { op, platform: self.options.platform.clone(), env: self.options.env() };
        let checked = check::check(before, &question, self.gateway).await.map_err(Box::new)?;
        let messages = reasons::refusal(before, &checked);
        match checked.outcome {
            Outcome::Allowed(allowed) => Ok(gateway::pinned(&checked.op, allowed.pin.as_ref())),
            Outcome::Denied(denied) => {
                Err(SetupError::Denied { op: checked.op, policy: denied.policy, messages })
            }
            Outcome::Converted(op) => Ok(op),
        }
    }
}

/// The policy beside the Dockerfile, the Dockerfile, and the remote context they are in.
type Own = (Option<Policy>, Option<String>, Option<SourceOp>);

fn files(place: String, status: Status) -> SetupError {
    SetupError::Files { place, status: Box::new(status) }
}
