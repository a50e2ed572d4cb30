//! The policies of a build: those baked into the image, the one in the named context `policy`, and
//! the one beside the Dockerfile. All must allow; without any the build is refused.
//!
//! What a policy beside the Dockerfile reads is told by its text ([`names`]). Only that is asked of the
//! client, never its whole directory.

mod error;
mod image;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use tonic::Status;

pub use self::error::SetupError;
use self::image::{baked, trusted};
use self::names::named_by;
use super::options::{BuildOptions, Place};
use crate::check::{self, Outcome, Pin, Question, reasons};
use crate::gateway::{self, Gateway, Tree, UNPACKED, is_fixed, join, local};
use crate::meta::{GitRequest, HttpRequest, MetaRequest, ResolveSourceMeta};
use crate::policy::{Policy, PolicyFiles};
use crate::source::{Platform, Source, SourceOp, mask, parse_git_user};
use crate::wire::llb::{Loads, SourceVertex};
use crate::wire::proto::{gateway as wire, pb};
use crate::wire::rewrite::rewrite;

/// Attributes that pin a source.
const CHECKSUMS: [&str; 2] = ["git.checksum", "http.checksum"];
/// Where a daemon has what the client itself sends as its context, an archive on standard input.
const UPLOAD: &str = "http://buildkit-session/";
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
    read: Vec<SourceOp>,
}

/// A build that nothing judges.
#[derive(Debug)]
pub struct Unready {
    /// Why.
    pub error: SetupError,
    /// The Dockerfile, where it is known all the same.
    pub dockerfile: Option<String>,
}

impl Policies {
    /// The source, pinned to the content that the policy in it was read from, where it is the
    /// remote context.
    pub fn as_read(&self, op: &SourceOp) -> SourceOp {
        let mut op = op.clone();
        let Some(read) = self.read.iter().find(|it| same_place(it, &op)) else { return op };
        for name in CHECKSUMS {
            let open = !op.attrs.get(name).is_some_and(|declared| is_fixed(name, declared));
            if let Some(checksum) = read.attrs.get(name).filter(|_| open) {
                op.attrs.insert(name.to_owned(), checksum.clone());
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
    /// What they were read from, where it is not the client's own.
    read: Vec<SourceOp>,
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
    pub async fn load(&self) -> Result<Policies, Unready> {
        let mut dockerfile = None;
        match self.all(&mut dockerfile).await {
            Ok((policies, read)) => Ok(Policies { policies, dockerfile, read }),
            Err(error) => Err(Unready { error, dockerfile }),
        }
    }

    /// The same, and what the context was read as; the Dockerfile is noted as soon as it is known.
    async fn all(
        &self,
        dockerfile: &mut Option<String>,
    ) -> Result<(Vec<Policy>, Vec<SourceOp>), SetupError> {
        if let Some(other) = self.options.other_frontend() {
            return Err(SetupError::Syntax { other: mask(other) });
        }
        let trust = trusted(&self.baked.with_file_name("trust"))?;
        let trusting = |policy: Policy| policy.with_trust(trust.clone());
        let mut policies: Vec<Policy> = baked(self.baked)?.into_iter().map(trusting).collect();
        if let Some(named) = Box::pin(self.named(&policies)).await? {
            policies.push(trusting(named));
        }
        let beside = Box::pin(self.found(&policies)).await?;
        dockerfile.clone_from(&beside.dockerfile);
        policies.extend(self.own(&beside.files)?.map(trusting));
        if policies.is_empty() {
            return Err(SetupError::None { file: self.options.filename().to_owned() });
        }
        let caps = check::caps(&policies, &self.options.env()).map_err(Box::new)?;
        if caps.exec_proxy == Some(true) {
            return Err(SetupError::ExecProxy);
        }
        Ok((policies, beside.read))
    }

    /// The policy in the named context `policy`.
    async fn named(&self, before: &[Policy]) -> Result<Option<Policy>, SetupError> {
        let Some(value) = self.options.get("context:policy") else { return Ok(None) };
        let Some(name) = value.strip_prefix("local:") else {
            return Err(SetupError::Context { value: mask(value) });
        };
        let place = || "the build context `policy`".to_owned();
        let op = local(name, self.options.session_of(name), &[]);
        let op = self.judged(before, op, None).await?;
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

    /// What lies beside the Dockerfile.
    async fn found(&self, before: &[Policy]) -> Result<Beside, SetupError> {
        match self.options.dockerfile() {
            Place::Local(name) => match self.input(&name).await? {
                Some(definition) => Box::pin(self.beside_input(before, &name, &definition)).await,
                None => Box::pin(self.beside_local(before, &name)).await,
            },
            Place::Remote(context) => Box::pin(self.beside_remote(before, &context)).await,
        }
    }

    /// The policy among these files, that of the Dockerfile.
    fn own(&self, files: &BTreeMap<String, Bytes>) -> Result<Option<Policy>, SetupError> {
        let module = format!("{}.rego", self.place().1);
        if !files.contains_key(&module) {
            return Ok(None);
        }
        let files = PolicyFiles::memory(files.clone());
        Ok(Some(Policy::load(&module, files, std::slice::from_ref(&module))?))
    }

    /// Folder and name of the Dockerfile.
    fn place(&self) -> (&str, &str) {
        let filename = self.options.filename();
        filename.rsplit_once('/').unwrap_or(("", filename))
    }

    /// The input of the build that the child takes the Dockerfile from, in place of the client's directory.
    async fn input(&self, name: &str) -> Result<Option<pb::Definition>, SetupError> {
        if self.options.get("dockerfilekey").is_some() {
            return Ok(None);
        }
        let request = wire::InputsRequest::default();
        let inputs: Result<wire::InputsResponse, Status> =
            self.gateway.call("Inputs", &request).await;
        let place = || "the build's inputs".to_owned();
        let wire::InputsResponse { mut definitions } = inputs.map_err(|it| files(place(), it))?;
        Ok(definitions.remove(name))
    }

    async fn beside_local(&self, before: &[Policy], name: &str) -> Result<Beside, SetupError> {
        let place = || format!("`{name}`");
        let (dir, file) = self.place();
        let mut wanted = BTreeSet::from([format!("{file}.rego")]);
        let mut beside = Beside::default();
        for _ in 0..ROUNDS {
            let all = wanted.iter().map(String::as_str).chain(spellings(file));
            let patterns: Vec<String> = all.map(|path| join(dir, path)).collect();
            let op = local(name, self.options.session_of(name), &patterns);
            let op = self.judged(before, op, None).await?;
            let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
            beside.files = tree.read_named(dir, &wanted).await.map_err(|it| files(place(), it))?;
            beside.dockerfile = self.dockerfile_in(&tree).await.map_err(|it| files(place(), it))?;
            let known = wanted.len();
            wanted.extend(named_by(&beside.files)?);
            if wanted.len() == known {
                break;
            }
        }
        Ok(beside)
    }

    /// Files of a remote context, which the policies before judge first.
    async fn beside_remote(&self, before: &[Policy], context: &str) -> Result<Beside, SetupError> {
        if before.is_empty() && !context.starts_with(UPLOAD) {
            return Err(SetupError::Unjudged { context: mask(context) });
        }
        let place = || mask(context);
        let git = parse_git_user(context)?;
        let op = match &git {
            Some(git) => git.to_op(),
            None => {
                let mut op = SourceOp::new(context);
                // As the child asks for it: the daemon then fetches it once, and an upload is there once.
                op.attrs.insert("http.filename".into(), UNPACKED.into());
                op
            }
        };
        let op = self.judged(before, op, None).await?;
        let op = self.fixed(op).await.map_err(|it| files(place(), it))?;
        let tree = match git {
            Some(_) => Tree::load(self.gateway, &alone(&op)).await,
            None => Tree::unpacked(self.gateway, &op).await,
        };
        let tree = tree.map_err(|it| files(place(), it))?;
        let beside = self.beside(&tree).await?.map_err(|it| files(place(), it))?;
        Ok(Beside { read: vec![op], ..beside })
    }

    /// Files of an input of the build that holds the Dockerfile: what it is made of is judged first.
    async fn beside_input(
        &self,
        before: &[Policy],
        name: &str,
        definition: &pb::Definition,
    ) -> Result<Beside, SetupError> {
        let wrong = |source| SetupError::Input { name: name.to_owned(), source };
        let place = || format!("the input `{name}`");
        let Loads { sources, builds } =
            Loads::of(definition).map_err(|error| wrong(error.into()))?;
        if !builds.is_empty() {
            return Err(wrong("its LLB is read from a file while the build runs".into()));
        }
        let (mut read, mut changed) = (Vec::new(), BTreeMap::new());
        for SourceVertex { digest, source, platform, lines: _ } in sources {
            let is_local = matches!(Source::parse(&source), Ok(Source::Local(_)));
            if before.is_empty() && !is_local {
                return Err(SetupError::Unjudged { context: source.masked() });
            }
            let op = self.judged(before, source.clone(), platform).await?;
            let op = match is_local {
                true => op,
                false => self.fixed(op).await.map_err(|it| files(place(), it))?,
            };
            let loaded = alone(&op);
            if loaded != source {
                changed.insert(digest, loaded);
            }
            read.push(op);
        }
        let definition = rewrite(&definition.encode_to_vec().into(), &changed)
            .map_err(|error| wrong(error.into()))?;
        let definition = pb::Definition::decode(definition).map_err(|error| wrong(error.into()))?;
        let loaded: Vec<SourceOp> = read.iter().map(alone).collect();
        let tree = Tree::solved(self.gateway, definition, &loaded).await;
        let tree = tree.map_err(|it| files(place(), it))?;
        let beside = self.beside(&tree).await?.map_err(|it| files(place(), it))?;
        Ok(Beside { read, ..beside })
    }

    /// What a tree holds of a policy, and the Dockerfile.
    async fn beside(&self, tree: &Tree<'_>) -> Result<Result<Beside, Status>, regex::Error> {
        let (dir, file) = self.place();
        let mut wanted = BTreeSet::from([format!("{file}.rego")]);
        let mut beside = Beside::default();
        for _ in 0..ROUNDS {
            beside.files = match tree.read_named(dir, &wanted).await {
                Ok(found) => found,
                Err(status) => return Ok(Err(status)),
            };
            let known = wanted.len();
            wanted.extend(named_by(&beside.files)?);
            if wanted.len() == known {
                break;
            }
        }
        Ok(self.dockerfile_in(tree).await.map(|dockerfile| Beside { dockerfile, ..beside }))
    }

    /// The Dockerfile, as the child finds it.
    async fn dockerfile_in(&self, tree: &Tree<'_>) -> Result<Option<String>, Status> {
        let (dir, file) = self.place();
        let names = spellings(file).map(str::to_owned).collect();
        let mut found = tree.read_named(dir, &names).await?;
        let mut text = spellings(file).find_map(|name| found.remove(name));
        if text.is_none() && matches!(self.options.dockerfile(), Place::Remote(_)) {
            // A file by URL that is no archive is the Dockerfile itself.
            text = tree.read_named("", &[UNPACKED.to_owned()].into()).await?.remove(UNPACKED);
        }
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// The source at the content that it has now: what is read of it, the build gets.
    async fn fixed(&self, op: SourceOp) -> Result<SourceOp, Status> {
        if CHECKSUMS.iter().any(|name| op.attrs.get(*name).is_some_and(|it| is_fixed(name, it))) {
            return Ok(op);
        }
        let mut request = MetaRequest { source: op.clone(), ..MetaRequest::default() };
        match Source::parse(&op) {
            Ok(Source::Git(_)) => request.git = Some(GitRequest::default()),
            Ok(Source::Http(_)) => request.http = Some(HttpRequest::default()),
            Ok(Source::Image(image)) if image.digest.is_some() => return Ok(op),
            Ok(Source::OciLayout(_) | Source::Blob(_)) => return Ok(op),
            Ok(Source::Image(_) | Source::Local(_)) => {
                return Err(Status::failed_precondition("no digest holds what is read of it"));
            }
            Err(error) => return Err(Status::invalid_argument(error.to_string())),
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
    async fn judged(
        &self,
        before: &[Policy],
        op: SourceOp,
        platform: Option<Platform>,
    ) -> Result<SourceOp, SetupError> {
        if before.is_empty() {
            return Ok(op);
        }
        let platform = platform.unwrap_or_else(|| self.options.platform.clone());
        let question = Question { op, platform, env: self.options.env() };
        let checked = check::check(before, &question, self.gateway).await.map_err(Box::new)?;
        let messages = reasons::refusal(before, &checked);
        match checked.outcome {
            Outcome::Allowed(allowed) => Ok(gateway::pinned(&checked.op, allowed.pin.as_ref())),
            Outcome::Denied(denied) => {
                Err(SetupError::Denied { op: checked.op, policy: denied.policy, messages })
            }
            Outcome::Converted(_) => Err(SetupError::Unsettled { op: question.op }),
        }
    }
}

/// Policies are a repository's own files; its submodules are judged by them.
fn alone(op: &SourceOp) -> SourceOp {
    let mut op = op.clone();
    if matches!(Source::parse(&op), Ok(Source::Git(_))) {
        op.attrs.insert("git.skipsubmodules".into(), "true".into());
    }
    op
}

/// The names under which the child looks for the Dockerfile, one after the other.
fn spellings(file: &str) -> impl Iterator<Item = &str> {
    let lower = (file == "Dockerfile").then_some("dockerfile");
    std::iter::once(file).chain(lower)
}

fn files(place: String, status: Status) -> SetupError {
    SetupError::Files { place, status: Box::new(status) }
}
