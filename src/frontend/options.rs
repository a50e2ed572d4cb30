//! The build's options, as the daemon gives them to a frontend in its environment.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use serde::Deserialize;

use crate::dockerfile::{self, ContextKind, DockerfileKind};
use crate::input::Env;
use crate::source::{Platform, parse_git_user};

const OPTION: &str = "BUILDKIT_FRONTEND_OPT_";
const SESSION: &str = "BUILDKIT_SESSION_ID";
const WORKERS: &str = "BUILDKIT_WORKERS";

/// A variable that the child might read otherwise than we do. The build is refused.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No text.
    #[error("{name} in the environment is no UTF-8")]
    Text {
        /// The variable.
        name: String,
    },
    /// An option without a number.
    #[error("{name} in the environment is no option of a build")]
    Name {
        /// The variable.
        name: String,
    },
    /// Two variables or two options of one name: which of them counts, the child may see otherwise.
    #[error("{name} is given twice in the environment")]
    Twice {
        /// The variable, or the option.
        name: String,
    },
    /// The list of workers.
    #[error("{WORKERS} in the environment cannot be read, so the platform of the build is unknown")]
    Workers(#[source] serde_json::Error),
    /// A worker without platforms.
    #[error("{WORKERS} in the environment names no platform")]
    NoPlatform,
}

/// What a daemon tells its frontend of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// Options by name (`build-arg:NAME`, `target`, `context:NAME`).
    options: BTreeMap<String, String>,
    /// How many numbered variables there are.
    count: usize,
    /// The session whose files and credentials the build has.
    pub session: String,
    /// The platform of the first worker; ours where none is named.
    pub platform: Platform,
}

/// Where the build's own files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of the client, by its name.
    Local(String),
    /// A git repository or a URL, as written.
    Remote(String),
}

#[derive(Deserialize)]
struct Worker {
    #[serde(alias = "Platforms", default)]
    platforms: Vec<WorkerPlatform>,
}

#[derive(Deserialize)]
struct WorkerPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

/// The platform that the daemon takes for sources that name none.
fn first_platform(workers: &str) -> Result<Platform, EnvironmentError> {
    let workers: Vec<Worker> = serde_json::from_str(workers).map_err(EnvironmentError::Workers)?;
    let first = workers.first().and_then(|worker| worker.platforms.first());
    let WorkerPlatform { architecture, os, variant } = first.ok_or(EnvironmentError::NoPlatform)?;
    Ok(Platform::from_parts(os, architecture, variant))
}

impl BuildOptions {
    /// Reads the variables of an environment, as the child does.
    ///
    /// # Errors
    /// When one of a daemon's cannot be read.
    pub fn from_env(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, EnvironmentError> {
        let mut this = Self::default();
        let mut seen = BTreeSet::new();
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            let number = name.strip_prefix(OPTION);
            if number.is_none() && name != SESSION && name != WORKERS {
                continue;
            }
            if !seen.insert(name.clone()) {
                return Err(EnvironmentError::Twice { name });
            }
            let Ok(value) = value.into_string() else {
                return Err(EnvironmentError::Text { name });
            };
            if let Some(number) = number {
                let Ok(number) = number.parse::<usize>() else {
                    return Err(EnvironmentError::Name { name });
                };
                this.count = this.count.max(number.saturating_add(1));
                let (key, value) = value.split_once('=').unwrap_or((&value, ""));
                if this.options.insert(key.to_owned(), value.to_owned()).is_some() {
                    return Err(EnvironmentError::Twice { name: format!("the option {key}") });
                }
            } else if name == SESSION {
                this.session = value;
            } else {
                this.platform = first_platform(&value)?;
            }
        }
        Ok(this)
    }

    /// An option by its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Variables that the child gets beside ours: `cmdline` where it is absent, so that it reads
    /// the Dockerfile itself and follows no `# syntax` line out of our sight.
    pub fn for_child(&self) -> Vec<(OsString, OsString)> {
        if self.options.contains_key("cmdline") {
            return Vec::new();
        }
        let image = self.get("source").unwrap_or("buildgate");
        vec![(format!("{OPTION}{}", self.count).into(), format!("cmdline={image}").into())]
    }

    /// Another frontend that the build's arguments name, where the child follows none: somebody means the
    /// build to be made by that one.
    pub fn other_frontend(&self) -> Option<&str> {
        let named = self.get("build-arg:BUILDKIT_SYNTAX")?;
        let ours = self.get("cmdline").or(self.get("source")).unwrap_or_default();
        (named.trim() != ours.trim()).then_some(named)
    }

    /// The session that has this directory of the client: bake shares one among its builds.
    pub fn session_of(&self, directory: &str) -> &str {
        self.get(&format!("local-sessionid:{directory}")).unwrap_or(&self.session)
    }

    /// The name of the Dockerfile.
    pub fn filename(&self) -> &str {
        self.get("filename").filter(|name| !name.is_empty()).unwrap_or("Dockerfile")
    }

    /// Where the Dockerfile is.
    pub fn dockerfile(&self) -> Place {
        if let Some(name) = self.get("dockerfilekey") {
            return Place::Local(name.to_owned());
        }
        match self.context() {
            remote @ Place::Remote(_) => remote,
            Place::Local(_) => Place::Local("dockerfile".into()),
        }
    }

    /// Where the main context is.
    fn context(&self) -> Place {
        let value = self.get(self.get("contextkey").unwrap_or("context")).unwrap_or_default();
        let web = ["http://", "https://"].iter().any(|scheme| value.starts_with(scheme));
        match parse_git_user(value) {
            Ok(None) if !web => Place::Local("context".into()),
            Ok(_) | Err(_) => Place::Remote(value.to_owned()),
        }
    }

    /// The build as rules see it.
    pub fn env(&self) -> Env {
        Env::of_options(&self.options)
    }

    /// The build as [`crate::dockerfile`] reads it.
    pub fn plan(&self) -> dockerfile::Options {
        let platforms = self.get("platform").unwrap_or_default();
        dockerfile::Options {
            build_args: self
                .prefixed("build-arg:")
                .map(|(name, value)| (name, Some(value)))
                .collect(),
            target: self.get("target").filter(|it| !it.is_empty()).map(str::to_owned),
            platforms: platforms.split(',').filter_map(|it| Platform::parse(it).ok()).collect(),
            build_platform: self.platform.clone(),
            contexts: self.prefixed("context:").collect(),
            context: match self.context() {
                Place::Local(_) => ContextKind::Local,
                Place::Remote(url) => ContextKind::Remote(url),
            },
            dockerfile: match self.dockerfile() {
                Place::Local(_) => DockerfileKind::Client,
                Place::Remote(_) => DockerfileKind::Context,
            },
        }
    }

    fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
        self.options
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
            .map(|(name, value)| (name.to_owned(), value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> BuildOptions {
        read(variables).unwrap()
    }

    fn read(variables: &[(&str, &str)]) -> Result<BuildOptions, EnvironmentError> {
        BuildOptions::from_env(variables.iter().map(|(n, v)| ((*n).into(), (*v).into())))
    }

    #[test]
    fn the_environment_is_read() {
        let build = options(&[
            ("BUILDKIT_FRONTEND_OPT_0", "build-arg:A=b=c"),
            ("BUILDKIT_FRONTEND_OPT_1", "label:x.y=z"),
            ("BUILDKIT_FRONTEND_OPT_2", "target=app"),
            ("BUILDKIT_FRONTEND_OPT_3", "local-sessionid:d=s2"),
            ("BUILDKIT_SESSION_ID", "s1"),
            (
                "BUILDKIT_WORKERS",
                r#"[{"id":"w","platforms":[{"architecture":"arm64","os":"linux"}]}]"#,
            ),
            ("PATH", "/bin"),
        ]);
        assert_eq!(build.session, "s1");
        assert_eq!(build.platform.to_string(), "linux/arm64");
        assert_eq!((build.session_of("context"), build.session_of("d")), ("s1", "s2"));
        let env = build.env();
        assert_eq!(env.args.get("A"), Some(&Some("b=c".to_owned())));
        assert_eq!(env.labels.get("x.y").map(String::as_str), Some("z"));
        assert_eq!((env.target.as_str(), build.filename()), ("app", "Dockerfile"));
    }

    /// What is left out here, the child might act on.
    #[test]
    fn what_cannot_be_read_ends_the_build() {
        for (name, value, wanted) in [
            ("BUILDKIT_WORKERS", "", "BUILDKIT_WORKERS in the environment cannot be read"),
            ("BUILDKIT_WORKERS", "{}", "BUILDKIT_WORKERS in the environment cannot be read"),
            ("BUILDKIT_WORKERS", "[]", "names no platform"),
            ("BUILDKIT_WORKERS", "[{\"Platforms\":[]}]", "names no platform"),
            ("BUILDKIT_FRONTEND_OPT_x", "context=elsewhere", "BUILDKIT_FRONTEND_OPT_x in the"),
        ] {
            let said = read(&[(name, value)]).unwrap_err().to_string();
            assert!(said.contains(wanted), "{said}");
        }
        let [first, second] = ["BUILDKIT_FRONTEND_OPT_0", "BUILDKIT_FRONTEND_OPT_1"];
        for (one, other, wanted) in [
            ((first, "target=a"), (second, "target=b"), "the option target"),
            ((first, "target=a"), (second, "target=a"), "the option target"),
            ((first, "target=a"), (second, "target"), "the option target"),
            ((first, "target=a"), (first, "filename=b"), first),
            ((SESSION, "a"), (SESSION, "b"), SESSION),
        ] {
            let said = read(&[one, other]).unwrap_err().to_string();
            assert_eq!(said, format!("{wanted} is given twice in the environment"));
        }
        use std::os::unix::ffi::OsStringExt as _;
        let value = OsString::from_vec(b"target=\xff".to_vec());
        let read = BuildOptions::from_env([("BUILDKIT_FRONTEND_OPT_0".into(), value)]);
        assert!(matches!(read, Err(EnvironmentError::Text { .. })), "{read:?}");
        // As the child has it.
        assert_eq!(
            options(&[("BUILDKIT_FRONTEND_OPT_0", "dockerfilekey")]).dockerfile(),
            Place::Local(String::new())
        );
    }

    #[test]
    fn the_child_follows_no_syntax_line() {
        let build = options(&[("BUILDKIT_FRONTEND_OPT_0", "source=r.example/gate:1")]);
        let wanted = ("BUILDKIT_FRONTEND_OPT_1".into(), "cmdline=r.example/gate:1".into());
        assert_eq!(build.for_child(), [wanted]);
        let named = options(&[("BUILDKIT_FRONTEND_OPT_0", "cmdline=r.example/gate:1 x")]);
        assert_eq!(named.for_child(), []);
    }

    #[test]
    fn another_frontend_is_told() {
        let named = ("BUILDKIT_FRONTEND_OPT_0", "build-arg:BUILDKIT_SYNTAX=r.example/gate:1 x");
        for (ours, wanted) in [
            ("cmdline=r.example/gate:1 x", None),
            ("cmdline=r.example/gate:1", Some("r.example/gate:1 x")),
            ("source=r.example/gate:1 x", None),
            ("source=r.example/other:1", Some("r.example/gate:1 x")),
            ("target=x", Some("r.example/gate:1 x")),
        ] {
            let build = options(&[named, ("BUILDKIT_FRONTEND_OPT_1", ours)]);
            assert_eq!(build.other_frontend(), wanted, "{ours}");
        }
        assert_eq!(options(&[]).other_frontend(), None);
    }

    #[test]
    fn places_are_told_apart() {
        for (variables, wanted) in [
            (vec![], Place::Local("dockerfile".into())),
            (vec!["dockerfilekey=d2"], Place::Local("d2".into())),
            (
                vec!["context=https://git.example/a.git#main"],
                Place::Remote("https://git.example/a.git#main".into()),
            ),
            (
                vec!["context=http://files.example/a.tgz"],
                Place::Remote("http://files.example/a.tgz".into()),
            ),
            (
                vec!["context=https://git.example/a.git", "dockerfilekey=d"],
                Place::Local("d".into()),
            ),
        ] {
            let names: Vec<_> =
                (0..variables.len()).map(|at| format!("BUILDKIT_FRONTEND_OPT_{at}")).collect();
            let pairs: Vec<_> =
                names.iter().map(String::as_str).zip(variables.iter().copied()).collect();
            assert_eq!(options(&pairs).dockerfile(), wanted, "{variables:?}");
        }
    }
}
