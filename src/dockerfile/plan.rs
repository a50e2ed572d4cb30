//! The plan: frontend, Dockerfile and main context, then a build for each platform.

use super::build::Build;
use super::context::{image_op, main_context, named_context};
use super::directive::{Form, Syntax, detect_syntax};
use super::error::{DockerfileError, Fault, Problem};
use super::stages;
use super::{
    ContextKind, DockerfileKind, Lines, Options, Plan, SourceUse, Via, Warning, WarningKind,
};
use crate::source::SourceOp;

/// What BuildKit reads of a Dockerfile at most.
const MAX_BYTES: usize = 16 << 20;

/// Every source that a build of `text` would load.
///
/// # Errors
/// When the stock frontend would refuse the Dockerfile or the options, or when a limit is met that
/// no honest Dockerfile comes near.
pub fn plan(text: &str, options: &Options) -> Result<Plan, DockerfileError> {
    read(text, options).map_err(|fault| fault.draw(text))
}

fn read(text: &str, options: &Options) -> Result<Plan, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Problem::TooLarge { what: "bytes", limit: MAX_BYTES }.into());
    }
    let mut plan = Plan::default();
    let syntax = syntax(text, options);
    if let Some((syntax, written)) = &syntax {
        plan.frontend(syntax, written, options)?;
    }
    plan.main_sources(options)?;
    let file = match (stages::parse(text), syntax) {
        (Ok(file), _) => file,
        // Another frontend's language need not look like a Dockerfile.
        (Err(_), Some((Syntax { image, form: Form::Foreign, .. }, _))) => {
            plan.warn(None, WarningKind::NotADockerfile { image });
            return Ok(plan);
        }
        (Err(fault), _) => return Err(fault),
    };
    let default = [options.build_platform.clone()];
    let platforms = if options.platforms.is_empty() { &default[..] } else { &options.platforms };
    for platform in platforms {
        Build::new(&file, options, platform)?.run(&mut plan)?;
    }
    Ok(plan)
}

/// The frontend that will read the file, and how the Dockerfile or the caller names it.
fn syntax(text: &str, options: &Options) -> Option<(Syntax, Option<Lines>)> {
    match options.build_arg("BUILDKIT_SYNTAX") {
        Some(given) => {
            let image = given.trim().split(' ').next().unwrap_or_default().to_owned();
            Some((Syntax { image, line: 0, form: Form::Hash }, None))
        }
        None => detect_syntax(text).map(|syntax| {
            let lines = Lines::one(syntax.line);
            (syntax, Some(lines))
        }),
    }
}

impl Plan {
    pub(super) fn add(&mut self, used: SourceUse) {
        if !self.sources.contains(&used) {
            self.sources.push(used);
        }
    }

    pub(super) fn warn(&mut self, lines: Option<Lines>, kind: WarningKind) {
        let warning = Warning { lines, kind };
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn frontend(
        &mut self,
        syntax: &Syntax,
        lines: &Option<Lines>,
        options: &Options,
    ) -> Result<(), Fault> {
        let fault = |problem| Fault { lines: *lines, problem };
        let text = syntax.image.clone();
        let named =
            named_context(options, &syntax.image, &options.build_platform).map_err(fault)?;
        let (op, via) = match named {
            Some(context) => {
                let loaded = context.load(options).map_err(fault)?;
                if let Some(warning) = loaded.warning {
                    self.warn(*lines, warning);
                }
                (loaded.op, Via::NamedContext { name: context.name })
            }
            None => (Some(image_op(&syntax.image).map_err(fault)?), Via::Syntax),
        };
        let stock = op.as_ref().is_some_and(|op| is_stock(&op.identifier));
        if let Some(op) = op {
            // The daemon resolves a frontend for its own platform.
            self.add(SourceUse { op, platform: None, via, lines: *lines, text: text.clone() });
        }
        if !stock {
            self.warn(*lines, WarningKind::OtherFrontend { image: text });
        }
        Ok(())
    }

    fn main_sources(&mut self, options: &Options) -> Result<(), Fault> {
        let context = main_context(options)?;
        let text = match &options.context {
            ContextKind::Remote(url) => crate::source::mask(url),
            ContextKind::Local | ContextKind::Stdin => String::new(),
        };
        let remote = matches!(options.context, ContextKind::Remote(_));
        if !(remote && options.dockerfile == DockerfileKind::Context) {
            let op = SourceOp::new("local://dockerfile");
            let via = Via::Dockerfile;
            self.add(SourceUse { op, platform: None, via, lines: None, text: String::new() });
        }
        self.add(SourceUse { op: context, platform: None, via: Via::Context, lines: None, text });
        Ok(())
    }
}

fn is_stock(identifier: &str) -> bool {
    let name = identifier.strip_prefix("docker-image://").unwrap_or_default();
    ["docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"]
        .iter()
        .any(|stock| name.strip_prefix(stock).is_some_and(|rest| rest.starts_with([':', '@'])))
}
