//! Which methods a client may call.
//!
//! What a list names is compared with the path of the call, byte by byte, as the daemon does it.
//! What the method does is not known here.

use std::str::FromStr;

use tonic::Status;

use super::client::{Client, ClientPattern};

/// Methods that are allowed and methods that are not: a call must match one of the first and none of
/// the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods {
    /// What may be called. Everything, unless it is said.
    pub allow: Vec<MethodPattern>,
    /// What may not be called although it is allowed above.
    pub deny: Vec<MethodPattern>,
}

/// `*`, `Service/*`, `Service/Method` (the service with or without its package), `read-only` or
/// `build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodPattern {
    /// Every method.
    Any,
    /// Looking: usage of the disk, workers, progress and history of builds, contents, health.
    ReadOnly,
    /// Building: what looks, sessions, solves, the gateway, traces. Not `Prune`, not
    /// `UpdateBuildHistory`.
    Build,
    /// One method, or all of a service.
    Method {
        /// `moby.buildkit.v1.Control`, or `Control` for a service of that name in any package.
        service: String,
        /// `None` for every one.
        method: Option<String>,
    },
}

/// What names no method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: methods are *, read-only, build, Service/* or Service/Method (as in Control/Prune)")]
pub struct MethodPatternError(String);

/// What `read-only` means.
const READ_ONLY: [(&str, &[&str]); 5] = [
    (
        "moby.buildkit.v1.Control",
        &["DiskUsage", "Status", "ListWorkers", "Info", "ListenBuildHistory"],
    ),
    ("containerd.services.content.v1.Content", &["Info", "List", "Read", "Status", "ListStatuses"]),
    ("grpc.health.v1.Health", &["Check", "Watch", "List"]),
    ("grpc.reflection.v1.ServerReflection", &["ServerReflectionInfo"]),
    ("grpc.reflection.v1alpha.ServerReflection", &["ServerReflectionInfo"]),
];

impl Default for Methods {
    fn default() -> Self {
        Self { allow: vec![MethodPattern::Any], deny: Vec::new() }
    }
}

impl Methods {
    /// Whether this path (`/package.Service/Method`) may be called.
    #[must_use]
    pub fn permit(&self, path: &str) -> bool {
        self.allow.iter().any(|pattern| pattern.matches(path))
            && !self.deny.iter().any(|pattern| pattern.matches(path))
    }
}

impl MethodPattern {
    fn matches(&self, path: &str) -> bool {
        let split = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
        let Some((service, method)) = split else { return matches!(self, Self::Any) };
        match self {
            Self::Any => true,
            Self::ReadOnly => looks(service, method),
            Self::Build => {
                looks(service, method)
                    || service == "moby.buildkit.v1.frontend.LLBBridge"
                    || service == "moby.buildkit.v1.Control"
                        && ["Solve", "Session"].contains(&method)
                    || service == "opentelemetry.proto.collector.trace.v1.TraceService"
            }
            Self::Method { service: wanted, method: one } => {
                let named = service == wanted
                    || !wanted.contains('.')
                        && service.rsplit_once('.').is_some_and(|(_, last)| last == wanted);
                named && one.as_ref().is_none_or(|one| one == method)
            }
        }
    }
}

fn looks(service: &str, method: &str) -> bool {
    READ_ONLY.iter().any(|(name, methods)| *name == service && methods.contains(&method))
}

impl FromStr for MethodPattern {
    type Err = MethodPatternError;

    fn from_str(text: &str) -> Result<Self, MethodPatternError> {
        let no = || MethodPatternError(text.to_owned());
        match text {
            "*" => return Ok(Self::Any),
            "read-only" => return Ok(Self::ReadOnly),
            "build" => return Ok(Self::Build),
            _ => {}
        }
        let (service, method) =
            text.strip_prefix('/').unwrap_or(text).rsplit_once('/').ok_or_else(no)?;
        let name = |text: &str, dots: bool| {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || dots && c == '.')
        };
        if !name(service, true) || !(method == "*" || name(method, false)) {
            return Err(no());
        }
        let method = Some(method).filter(|method| *method != "*").map(str::to_owned);
        Ok(Self::Method { service: service.to_owned(), method })
    }
}

/// Who may call what at a listener: its own list, and the list of the first client rule that is
/// about the caller. Both must allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// For everyone at the listener.
    pub methods: Methods,
    /// For some of them. A client that no rule is about has the listener's list alone.
    pub clients: Vec<ClientRule>,
}

/// What one kind of client may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRule {
    /// Which clients: any of these.
    pub client: Vec<ClientPattern>,
    /// What they may call.
    pub methods: Methods,
}

impl Access {
    /// Lets a call through or not.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, with the method, the client and the listener.
    pub fn admit(&self, client: &Client, path: &str) -> Result<(), Status> {
        let about = |rule: &&ClientRule| {
            rule.client.iter().any(|pattern| pattern.matches(&client.identity))
        };
        let own = self.clients.iter().find(about);
        let whose = if !self.methods.permit(path) {
            "to anyone".to_owned()
        } else if own.is_some_and(|rule| !rule.methods.permit(path)) {
            format!("to {}", client.identity)
        } else {
            return Ok(());
        };
        Err(Status::permission_denied(format!(
            "buildgate: {} is not open {whose} at {}",
            path.strip_prefix('/').unwrap_or(path),
            client.listener
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rule` is what is allowed, and behind `but` what is not.
    fn check(rule: &str, allowed: &[&str], refused: &[&str]) {
        let (allow, deny) = rule.split_once("but").unwrap_or((rule, ""));
        let all = |list: &str| list.split_whitespace().map(|it| it.parse().unwrap()).collect();
        let methods = Methods { allow: all(allow), deny: all(deny) };
        for (paths, wanted) in [(allowed, true), (refused, false)] {
            for path in paths {
                assert_eq!(methods.permit(path), wanted, "{rule}: {path}");
            }
        }
    }

    const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
    const PRUNE: &str = "/moby.buildkit.v1.Control/Prune";
    const USAGE: &str = "/moby.buildkit.v1.Control/DiskUsage";
    const UPDATE: &str = "/moby.buildkit.v1.Control/UpdateBuildHistory";
    const GATEWAY: &str = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
    const WRITE: &str = "/containerd.services.content.v1.Content/Write";
    const READ: &str = "/containerd.services.content.v1.Content/Read";
    const NEW: &str = "/some.New/Thing";

    #[test]
    fn lists_allow_what_they_say() {
        assert_eq!(Methods::default().allow, [MethodPattern::Any]);
        check("*", &[SOLVE, PRUNE, GATEWAY, NEW, "/odd", "odd"], &[]);
        check("", &[], &[SOLVE, PRUNE, NEW, "/odd", "odd", ""]);
        check(
            "read-only",
            &[USAGE, READ, "/grpc.health.v1.Health/Check"],
            &[SOLVE, PRUNE, UPDATE, GATEWAY, WRITE, NEW, "/x.Control/DiskUsage"],
        );
        check(
            "build",
            &[SOLVE, USAGE, READ, GATEWAY, "/moby.buildkit.v1.Control/Session"],
            &[PRUNE, UPDATE, WRITE, NEW, "/moby.buildkit.v1.Control/Else"],
        );
        check("* but Control/Prune Content/*", &[SOLVE, NEW], &[PRUNE, READ, WRITE]);
        check("* but *", &[], &[SOLVE, "/odd", "odd"]);
        check("Control/* but /moby.buildkit.v1.Control/Solve", &[PRUNE], &[SOLVE, GATEWAY]);
        check(
            "moby.buildkit.v1.Control/Solve",
            &[SOLVE],
            &[
                "/moby.buildkit.v1.Control/solve",
                "/moby.buildkit.v1.Control/Solve/",
                "//moby.buildkit.v1.Control/Solve",
                "/x.moby.buildkit.v1.Control/Solve",
                "moby.buildkit.v1.Control/Solve",
            ],
        );
    }

    #[test]
    fn what_names_no_method_is_an_error() {
        for text in
            ["", "Prune", "Control/", "/Prune", "Control/Pr*", "Con trol/X", "readonly", "a/b/c"]
        {
            let error = text.parse::<MethodPattern>().unwrap_err().to_string();
            assert!(error.contains("methods are *, read-only, build"), "{error}");
        }
    }
}
