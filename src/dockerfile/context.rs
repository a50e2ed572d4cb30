//! Contexts: the main one, and the named ones that stand in for stages and images.

use super::error::Problem;
use super::variables::Base;
use super::{ContextKind, Options, Platform, WarningKind};
use crate::source::{ImageSource, SourceOp, parse_git_user};

/// A named context that was matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedContext {
    /// As the caller gave it.
    pub(super) name: String,
    value: String,
    /// The name that was looked for.
    image: ImageSource,
    platform: Platform,
}

/// What loading a named context takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) op: Option<SourceOp>,
    pub(super) platform: Option<Platform>,
    pub(super) when: When,
    pub(super) base: Base,
    pub(super) warning: Option<WarningKind>,
}

/// When a source is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// While the plan is made: configuration of an image, `.dockerignore` of a directory.
    Planning,
    /// When files of it are used.
    Used,
}

/// The named context that stands in for the image or stage `name`.
///
/// Names are compared as Docker shortens them: `docker.io/library/alpine:latest` is `alpine`. A
/// context for this platform (`alpine::linux/arm64`) goes before one for all.
pub(super) fn named_context(
    options: &Options,
    name: &str,
    platform: &Platform,
) -> Result<Option<NamedContext>, Problem> {
    let image = parse_image(name)?;
    let short = familiar(&image);
    let mut general = None;
    for (given, value) in &options.contexts {
        let (wanted, suffix) = match given.split_once("::") {
            Some((wanted, suffix)) => (wanted, Some(suffix)),
            None => (given.as_str(), None),
        };
        // BuildKit looks a name up as it is written; Buildx shortens what the caller writes.
        if wanted != short && familiar(&parse_image(wanted)?) != short {
            continue;
        }
        let found = NamedContext {
            name: given.clone(),
            value: value.clone(),
            image: image.clone(),
            platform: platform.clone(),
        };
        match suffix {
            None => general = Some(found),
            Some(suffix) if suffix == platform.to_string() => return Ok(Some(found)),
            Some(_) => {}
        }
    }
    Ok(general)
}

fn parse_image(name: &str) -> Result<ImageSource, Problem> {
    ImageSource::parse(name).map_err(|error| Problem::ImageName { written: name.to_owned(), error })
}

fn familiar(image: &ImageSource) -> String {
    let whole = image.reference();
    let short = image.familiar_repo();
    let rest = whole.strip_prefix(&image.full_repo()).unwrap_or_default();
    let text = format!("{short}{rest}");
    text.strip_suffix(":latest").map(str::to_owned).unwrap_or(text)
}

/// The source of an image by name, as `FROM` has it.
pub(super) fn image_op(name: &str) -> Result<SourceOp, Problem> {
    Ok(SourceOp::new(parse_image(name)?.or_latest().identifier()))
}

impl NamedContext {
    /// What the frontend does to load it.
    pub(super) fn load(&self, options: &Options) -> Result<Loaded, Problem> {
        let of_files = |op| Loaded {
            op: Some(op),
            platform: None,
            when: When::Used,
            base: Base::Known,
            warning: None,
        };
        let of_image = |op| Loaded {
            platform: Some(self.platform.clone()),
            when: When::Planning,
            base: Base::Image,
            ..of_files(op)
        };
        let value = self.value.as_str();
        if let Some(name) = value.strip_prefix("docker-image:") {
            let name = name.strip_prefix("//").unwrap_or(name);
            if name == super::graph::SCRATCH {
                return Ok(Loaded { op: None, ..of_files(SourceOp::default()) });
            }
            return Ok(of_image(image_op(name)?));
        }
        if let Some(layout) = value.strip_prefix("oci-layout:") {
            return self.layout(layout).map(of_image);
        }
        if let Some(input) = value.strip_prefix("input:") {
            let warning = Some(WarningKind::ClientInput { name: input.to_owned() });
            let unknown = of_image(SourceOp::default());
            return Ok(Loaded { op: None, warning, ..unknown });
        }
        if value.starts_with("target:") {
            return Err(self.invalid("targets of other builds exist in bake files only"));
        }
        if let Some(git) = parse_git_user(value).map_err(git_error)? {
            // The frontend looks at what stands before the first `:`.
            let scheme = value.split(':').next().unwrap_or_default();
            if !matches!(scheme, "git" | "http" | "https") && !scheme.starts_with("git@") {
                return Err(self.invalid("expected git://, git@host:path, http:// or https://"));
            }
            return Ok(of_files(with_advice(git.to_op(), options)));
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            return Ok(of_files(http_op(value)));
        }
        let name = match (value.strip_prefix("local:"), self.name.as_str()) {
            (Some(name), _) => name.to_owned(),
            // The two names that the main context and the Dockerfile have.
            (None, reserved @ ("context" | "dockerfile")) => format!("_{reserved}"),
            (None, name) => name.to_owned(),
        };
        let op = SourceOp::new(format!("local://{name}"));
        Ok(Loaded { when: When::Planning, ..of_files(op) })
    }

    fn layout(&self, layout: &str) -> Result<SourceOp, Problem> {
        let Some((_, digest)) = layout.rsplit_once('@') else {
            return Err(self.invalid("an OCI layout needs the digest: oci-layout://path@sha256:…"));
        };
        let digest = digest.parse().map_err(|_| {
            self.invalid("an OCI layout needs a whole digest: oci-layout://path@sha256:…")
        })?;
        let reference = self.image.with_digest(&digest).reference();
        Ok(SourceOp::new(format!("oci-layout://{reference}")))
    }

    fn invalid(&self, reason: &str) -> Problem {
        invalid(&self.name, &self.value, reason)
    }
}

/// The main context, and whether it is remote.
pub(super) fn main_context(options: &Options) -> Result<SourceOp, Problem> {
    let ContextKind::Remote(url) = &options.context else {
        return Ok(SourceOp::new("local://context"));
    };
    if let Some(mut git) = parse_git_user(url).map_err(git_error)? {
        if truth(options.build_arg("BUILDKIT_CONTEXT_KEEP_GIT_DIR")) {
            git.keep_git_dir = Some(true);
        }
        let epoch = options.build_arg("SOURCE_DATE_EPOCH").is_some_and(|value| !value.is_empty());
        if epoch && git.mtime.is_none() {
            git.mtime = Some("commit".into());
        }
        return Ok(with_advice(git.to_op(), options));
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(http_op(url));
    }
    Err(invalid("context", url, "expected a directory, a git repository or a URL"))
}

fn invalid(name: &str, value: &str, reason: &str) -> Problem {
    Problem::Context {
        name: name.to_owned(),
        value: crate::source::mask(value),
        reason: reason.to_owned(),
    }
}

pub(super) fn git_error(error: crate::source::SourceError) -> Problem {
    Problem::Git { error: Box::new(error) }
}

/// `BUILDKIT_GIT_ADVICE` reaches every git source.
pub(super) fn with_advice(mut op: SourceOp, options: &Options) -> SourceOp {
    if truth(options.build_arg("BUILDKIT_GIT_ADVICE")) {
        op.attrs.insert("git.advice".into(), "true".into());
    }
    op
}

fn http_op(url: &str) -> SourceOp {
    let mut op = SourceOp::new(url);
    op.attrs.insert("http.filename".into(), "context".into());
    op
}

/// The spellings of true that Go's `strconv.ParseBool` takes.
fn truth(value: Option<&str>) -> bool {
    matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
}
