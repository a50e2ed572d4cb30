//! Builtins that need the evaluation they are called in: its files, its clock, its image, its output.

mod attestations;
mod image;
mod signatures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use regorus::Value;

use self::signatures::CallError;
use super::Shared;
use super::builtins::{Origin, lookup};
use super::error::{EvalError, Position};
use super::eval::Watch;
use super::files::{MAX_DATA, PolicyFiles};
use crate::input::{Field, Input};
use crate::meta::{ChecksumRequest, MetaRequest};
use crate::source::Digest;

/// Most that a policy may print in one evaluation, in bytes.
const MAX_PRINT: usize = 64 << 10;

/// What a call comes to.
pub(super) enum Called {
    /// A value.
    Value(Value),
    /// Nothing, as in OPA where a builtin fails.
    Undefined,
    /// It needs something first.
    Needs(Wanted),
}

/// What a call needs before it can come to anything.
pub(super) enum Wanted {
    /// A digest of the file that is judged.
    Checksum(ChecksumRequest),
    /// A field of the source that is judged.
    Field(Field),
    /// Something that is asked of somebody else than who resolves the source.
    Aside(MetaRequest),
}

/// State of one evaluation that builtins read or leave something in.
pub(super) struct Natives<'p> {
    shared: &'p Shared,
    /// The image that is judged, as rules see it.
    image: Option<Value>,
    /// Digest that the image is known by already.
    checksum: Option<String>,
    /// Digests that `pin_image` was called with.
    pub pins: BTreeSet<String>,
    /// What `print` was called with.
    pub prints: Vec<String>,
    /// Why signatures that rules asked about are not verified.
    pub notes: Vec<String>,
    /// The input that is judged, with what rules do not see; without it nothing is verified.
    verifying: Option<&'p Input>,
    /// The commit, the tag and the file that are judged, as rules see them.
    commit: Option<Value>,
    tag: Option<Value>,
    http: Option<Value>,
    printed: usize,
    now: Option<Value>,
    /// The clock of the evaluation, which what verifies many signatures looks at between them.
    watch: Option<Watch>,
}

impl<'p> Natives<'p> {
    pub fn new(shared: &'p Shared, input: &Value) -> Self {
        let image = member(input, "image");
        let git = member(input, "git");
        let checksum = match &image {
            Some(Value::Object(image)) => match image.get(&Value::from("checksum")) {
                Some(Value::String(checksum)) => Some(checksum.to_string()),
                _ => None,
            },
            _ => None,
        };
        Self {
            shared,
            image,
            checksum,
            pins: BTreeSet::new(),
            prints: Vec::new(),
            notes: Vec::new(),
            verifying: None,
            commit: git.as_ref().and_then(|git| member(git, "commit")),
            tag: git.as_ref().and_then(|git| member(git, "tag")),
            http: member(input, "http"),
            printed: 0,
            now: None,
            watch: None,
        }
    }

    /// Verifies what `input` carries.
    pub fn verifying(mut self, input: &'p Input) -> Self {
        self.verifying = Some(input);
        self
    }

    /// Goes by the clock of an evaluation.
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Calls a builtin that needs state. `None` for an argument that is undefined.
    ///
    /// # Errors
    /// When it cannot do what it is asked to: a missing file, a digest that is none.
    pub fn call(
        &mut self,
        name: &str,
        args: &[Option<Value>],
        position: Option<&Position>,
    ) -> Result<Called, Box<EvalError>> {
        let fail = |message: String| {
            Box::new(EvalError::Builtin {
                position: position.cloned().unwrap_or_else(nowhere),
                builtin: name.to_owned(),
                message,
            })
        };
        let failed = |error: CallError| match error {
            CallError::Limit(limit) => limit,
            other => fail(other.to_string()),
        };
        match name {
            "print" => {
                self.print(args, position);
                Ok(Called::Value(Value::Bool(true)))
            }
            "time.now_ns" => self.now().map(|now| Called::Value(now.clone())).map_err(failed),
            "load_json" => match args {
                [Some(Value::String(path))] => {
                    self.shared.json(path).map(Called::Value).map_err(fail)
                }
                _ => Err(fail("the path must be a string".to_owned())),
            },
            "pin_image" => match args {
                [Some(image), Some(Value::String(digest))] => self
                    .pin(image, digest)
                    .map(Called::Value)
                    .map_err(|message| fail(message.to_owned())),
                _ => Err(fail("it takes an image and a digest as a string".to_owned())),
            },
            "verify_git_signature" => match args {
                [Some(object), Some(Value::String(keys))] => {
                    self.verify_git(object, keys).map_err(failed)
                }
                _ => Err(fail("it takes a commit or tag, and a key file".to_owned())),
            },
            "verify_http_pgp_signature" => match args {
                [Some(http), Some(Value::String(signature)), Some(Value::String(keys))] => {
                    self.verify_http(http, signature, keys).map_err(failed)
                }
                _ => Err(fail("it takes a file, a signature file and a key file".to_owned())),
            },
            "artifact_attestation" => match args {
                [Some(http), Some(Value::String(path))] => {
                    self.artifact_attestation(http, path).map_err(failed)
                }
                _ => Err(fail("it takes a file and the path of a bundle".to_owned())),
            },
            "github_attestation" => match args {
                [Some(http), Some(Value::String(repository))] => {
                    self.github_attestation(http, repository).map_err(failed)
                }
                _ => Err(fail("it takes a file and a repository, `owner/name`".to_owned())),
            },
            "verify_image_signature" => match args {
                [Some(image), Some(options)] => self.verify_image(image, options).map_err(failed),
                _ => Err(fail("it takes an image and an object".to_owned())),
            },
            _ => Err(fail("it is no function of this version of buildgate".to_owned())),
        }
    }

    pub fn print(&mut self, args: &[Option<Value>], position: Option<&Position>) {
        let text: Vec<String> = args
            .iter()
            .map(|arg| match arg {
                None => "<undefined>".to_owned(),
                Some(Value::String(text)) => text.to_string(),
                Some(value) => super::builtins::to_rego_text(value),
            })
            .collect();
        let place = position.map_or(String::new(), |at| format!("{}:{}: ", at.file, at.line));
        let line = format!("{place}{}", text.join(" "));
        self.printed = self.printed.saturating_add(line.len());
        if self.printed <= MAX_PRINT {
            self.prints.push(line);
        }
    }

    /// The time in nanoseconds since 1970, one for the whole evaluation.
    fn now(&mut self) -> Result<&Value, CallError> {
        if self.now.is_none() {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            let since = since.map_err(|_| CallError::Clock)?;
            let nanos = u64::try_from(since.as_nanos()).map_err(|_| CallError::Clock)?;
            self.now = Some(Value::from(nanos));
        }
        self.now.as_ref().ok_or(CallError::Clock)
    }

    /// Whether there is time left to go on.
    fn in_time(&self) -> Result<(), CallError> {
        self.watch.map_or(Ok(()), |watch| watch.check().map_err(CallError::Limit))
    }

    fn pin(&mut self, image: &Value, digest: &str) -> Result<Value, &'static str> {
        let Some(own) = &self.image else { return Ok(Value::Bool(false)) };
        if image != own {
            return Err("the first argument is not input.image");
        }
        if digest.parse::<Digest>().is_err() {
            return Err("the second argument is not a digest such as sha256:…");
        }
        if self.checksum.as_deref() != Some(digest) {
            self.pins.insert(digest.to_owned());
        }
        Ok(Value::Bool(true))
    }
}

fn member(object: &Value, name: &str) -> Option<Value> {
    match object {
        Value::Object(object) => object.get(&Value::from(name)).cloned(),
        _ => None,
    }
}

fn nowhere() -> Position {
    Position { file: "policy".into(), line: 1, column: 1 }
}

/// Reads and parses a JSON file of a policy.
pub(super) fn read_json(files: &PolicyFiles, path: &str) -> Result<Value, String> {
    let text = files.read_text(path, MAX_DATA).map_err(|error| error.to_string())?;
    let Some(Origin::Ours(unmarshal)) = lookup("json.unmarshal").map(|builtin| builtin.origin)
    else {
        return Err("json.unmarshal is missing".to_owned());
    };
    match unmarshal(&[Value::from(text)]) {
        Ok(Value::Undefined) => Err(format!("`{path}` is not JSON")),
        Ok(value) => Ok(value),
        Err(error) => Err(format!("`{path}`: {error}")),
    }
}

/// JSON files read so far, by path.
pub(super) type JsonCache = BTreeMap<String, Result<Value, String>>;
