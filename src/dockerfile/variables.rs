//! What variables are worth at one place of a Dockerfile, and which of them the base image may set.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::error::{ExpandError, Problem};
use super::expand::{Budget, Expanded, Lookup, Mode, expand};
use super::{Options, Platform};

/// Arguments that are never put into a stage's environment.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a shell finds commands by, where no image says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether variables can be set that the Dockerfile does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Base {
    /// The stage starts from nothing, or from files without a configuration.
    #[default]
    Known,
    /// The stage starts from an image whose configuration is not read here.
    Image,
}

#[derive(Clone, Debug)]
struct Value {
    text: Arc<str>,
    /// The first variable that went into it and that the base image may set.
    uncertain: Option<Arc<str>>,
}

/// The variables of a stage, or the global ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    values: Arc<HashMap<Arc<str>, Value>>,
    base: Base,
}

/// A word with its variables replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Variables without a value.
    pub(super) unset: Vec<String>,
    /// The first variable in it that the base image may set.
    pub(super) uncertain: Option<Arc<str>>,
}

struct Reading<'v> {
    variables: &'v Variables,
    uncertain: RefCell<Option<Arc<str>>>,
}

impl Lookup for Reading<'_> {
    fn get(&self, name: &str) -> Option<Arc<str>> {
        let value = self.variables.values.get(name);
        let uncertain = match (value, self.variables.base) {
            (Some(value), _) => value.uncertain.clone(),
            (None, Base::Image) => Some(Arc::from(name)),
            (None, Base::Known) => None,
        };
        if let Some(name) = uncertain {
            self.uncertain.borrow_mut().get_or_insert(name);
        }
        value.map(|value| Arc::clone(&value.text))
    }
}

impl Variables {
    /// The variables of a stage before its first instruction.
    pub(super) fn of_base(base: Base, os: &str) -> Self {
        let mut variables = Self { base, ..Self::default() };
        if base == Base::Known && os != "windows" {
            variables.set("PATH", Word { text: DEFAULT_PATH.into(), ..Word::default() });
        }
        variables
    }

    /// The automatic platform arguments; a build argument of the same name replaces one.
    pub(super) fn automatic(options: &Options, target: &Platform, stage: Option<&str>) -> Self {
        let build = &options.build_platform;
        let (build_name, target_name) = (build.to_string(), target.to_string());
        let mut variables = Self::default();
        for (name, value) in [
            ("BUILDPLATFORM", build_name.as_str()),
            ("BUILDOS", &build.os),
            ("BUILDOSVERSION", ""),
            ("BUILDARCH", &build.architecture),
            ("BUILDVARIANT", &build.variant),
            ("TARGETPLATFORM", &target_name),
            ("TARGETOS", &target.os),
            ("TARGETOSVERSION", ""),
            ("TARGETARCH", &target.architecture),
            ("TARGETVARIANT", &target.variant),
            ("TARGETSTAGE", stage.unwrap_or("default")),
        ] {
            let value = options.build_arg(name).unwrap_or(value);
            variables.set(name, Word { text: value.to_owned(), ..Word::default() });
        }
        variables
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| &*value.text)
    }

    pub(super) fn set(&mut self, name: &str, word: Word) {
        let value = Value { text: word.text.into(), uncertain: word.uncertain };
        Arc::make_mut(&mut self.values).insert(name.into(), value);
    }

    pub(super) fn unset(&mut self, name: &str) {
        Arc::make_mut(&mut self.values).remove(name);
    }

    /// Replaces the variables in `word`.
    pub(super) fn expand(
        &self,
        word: &str,
        escape: char,
        budget: &Budget,
    ) -> Result<Word, Problem> {
        let reading = Reading { variables: self, uncertain: RefCell::new(None) };
        let expanded: Result<Expanded, ExpandError> =
            expand(word, Mode::plain(escape), &reading, budget);
        let Expanded { text, unset, .. } = expanded
            .map_err(|error| Problem::Expand { word: word.chars().take(200).collect(), error })?;
        let unset = unset.into_iter().collect();
        Ok(Word { text, unset, uncertain: reading.uncertain.into_inner() })
    }

    /// `ARG` within a stage: the build argument, the default, or the global value, in this order.
    pub(super) fn declare(
        &mut self,
        (name, default): (&str, Option<&str>),
        options: &Options,
        globals: &Self,
        (escape, budget): (char, &Budget),
    ) -> Result<(), Problem> {
        let known = |text: &str| Word { text: text.to_owned(), ..Word::default() };
        let word = match (options.build_arg(name), default) {
            (Some(given), _) => Some(known(given)),
            (None, Some(default)) => Some(self.expand(default, escape, budget)?),
            (None, None) => globals.get(name).map(known),
        };
        if let Some(word) = word.filter(|_| !NOT_IN_ENVIRONMENT.contains(&name)) {
            self.set(name, word);
        }
        Ok(())
    }

    /// `ARG` before the first `FROM`.
    pub(super) fn declare_global(
        &mut self,
        (name, default): (&str, Option<&str>),
        options: &Options,
        (escape, budget): (char, &Budget),
    ) -> Result<(), Problem> {
        let word = match (options.build_arg(name), default) {
            (Some(given), _) => Word { text: given.to_owned(), ..Word::default() },
            (None, Some(default)) => self.expand(default, escape, budget)?,
            (None, None) => return Ok(()),
        };
        self.set(name, word);
        Ok(())
    }
}
