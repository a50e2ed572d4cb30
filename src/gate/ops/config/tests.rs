//! Tables: a file, and its plan or the exact error.

use super::*;

/// The least that a configuration says.
const LEAST: &str = "listen = [\"unix:///l\"]\nupstream = [\"unix:///u\"]\npolicy = [\"p\"]\n";
/// TLS, as much of it as a listener wants.
const TLS: &str = "tls-cert = \"c\"\ntls-key = \"k\"\ntls-client-ca = \"ca\"\n";

fn plan_of(text: &str) -> Result<Plan, ConfigError> {
    plan::plan(Top::default(), file::File::parse("/etc/g/gate.toml", text)?)
}

/// Each text and why it is no configuration.
fn refused(cases: &[String]) -> String {
    let mut out = String::new();
    for text in cases {
        let error = match plan_of(text) {
            Ok(_) => "A CONFIGURATION".to_owned(),
            Err(error) => error.to_string(),
        };
        out.push_str(&format!("{}\n=> {error}\n\n", text.trim_end()));
    }
    out
}

#[test]
fn what_is_no_configuration_says_where_and_what_would_be_one() {
    let cases = [
        "".to_owned(),
        "policy = [\"p\"]".to_owned(),
        "policy = [\"p\"]\nlisten = [\"unix:///l\"]".to_owned(),
        "policy = []\nlisten = [\"unix:///l\"]".to_owned(),
        "listen = ".to_owned(),
        "a\n".to_owned(),
        "\n\nlissen = [\"unix:///l\"]".to_owned(),
        "listen = \"unix:///l\"".to_owned(),
        "\ndrain = \"30s\"".to_owned(),
        "drain = -1".to_owned(),
        "insecure = \"yes\"".to_owned(),
        "policy = [\"p\"]\npolicy = [\"q\"]".to_owned(),
        "[[listener]]\nmode = \"audit\"".to_owned(),
        "[[listener]]\nlisten = \"unix:///l\"\nupstream = [\"unix:///u\"]".to_owned(),
        "[[listener]]\nlisten = \"unix:///l\"\n[[listener.client]]\nnames = [\"*\"]".to_owned(),
        "listen = [\"unix:///l\"]\nupstream = [\"unix:///u\"]\n\
         [policy-sets]\nprod = [\"p\"]\nstaging = [\"q\"]"
            .to_owned(),
        "listen = [\"unix:///l\"]\nupstream = [\"unix:///u\", \"unix:///u\"]\npolicy = [\"p\"]"
            .to_owned(),
        "listen = [\"unix:///l\"]\nupstream = [\"tcp://build.example:1\"]\npolicy = [\"p\"]"
            .to_owned(),
        "listen = [\"tcp://127.0.0.1:1\"]\nupstream = [\"unix:///u\"]\npolicy = [\"p\"]\n\
         listen-group = \"docker\""
            .to_owned(),
    ];
    insta::assert_snapshot!("refused", refused(&cases));
    // With the least before them, so that lines count from four.
    let more = [
        "policy-set = \"prod\"".to_owned(),
        "trust-root = [\"\"]".to_owned(),
        "trust-root = [\"=a\"]".to_owned(),
        "trust-root = [\"ours=\"]".to_owned(),
        "trust-root = [\"ours=a\", \"ours=b\"]".to_owned(),
        "github-api = \"\"".to_owned(),
        "github-api = \"http://git.corp.example/api/v3\"".to_owned(),
        "github-api = [\"https://git.corp.example/api/v3\"]".to_owned(),
        "signature-registries = [\"\"]".to_owned(),
        "signature-registries = [\"https://reg.example\"]".to_owned(),
        "signature-registries = [\"reg.example/app\"]".to_owned(),
        "signature-registries = [\"*\"]".to_owned(),
        "signature-registries = [\"library\"]".to_owned(),
        "ca-file = \"ca.pem\"".to_owned(),
        "plain-http = [\"reg.example\"]".to_owned(),
        "signature-registries = [\"docker.io\"]\nregistry-mirror = [\"docker.io\"]".to_owned(),
        "signature-registries = [\"docker.io\"]\nregistry-mirror = [\"docker.io=ftp://m\"]"
            .to_owned(),
        "mode = \"log\"".to_owned(),
        "git-submodules = \"Judge\"".to_owned(),
        "build-op = \"judge\"".to_owned(),
        "cache-types = [\"registry\", \"inline\"]".to_owned(),
        "deny-entitlement = [\"network\"]".to_owned(),
        "frontends = [\"\"]".to_owned(),
        "frontends = [\"gateway.v0\"]".to_owned(),
        "frontends = [\"docker/dockerfile:1\"]".to_owned(),
        "methods = [\"everything\"]".to_owned(),
        "deny-methods = [\"Prune\"]".to_owned(),
        "listen-mode = \"0888\"".to_owned(),
        "listen-mode = \"7777\"".to_owned(),
        "listen-group = \"\"".to_owned(),
        "tls-cert = \"c\"\ntls-key = \"k\"\ntls-client-ca = \"a\"".to_owned(),
        "tls-client-name = [\"dns:a\"]".to_owned(),
        "metrics-listen = \"9464\"".to_owned(),
        "metrics-listen = \"localhost:9464\"".to_owned(),
        "decision-log = \"\"".to_owned(),
        "drain = 86401".to_owned(),
        "upstream-tls-ca = \"ca\"".to_owned(),
        "upstream-tls-cert = \"c\"".to_owned(),
        "upstream-tls-cert = \"c\"\nupstream-tls-key = \"k\"".to_owned(),
        "verifier-listen = \"unix:///l\"".to_owned(),
        "verifier-listen = \"tcp://0.0.0.0:1\"".to_owned(),
        "verifier-policy-set = \"default\"".to_owned(),
        "[policy-sets]\ndefault = [\"q\"]".to_owned(),
        "[policy-sets]\nprod = []".to_owned(),
        "[policy-sets]\n\"pr od\" = [\"q\"]".to_owned(),
        "[[listener]]\nlisten = \"/run/l\"".to_owned(),
        "[[listener]]\nlisten = \"unix:///l\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://0.0.0.0:1\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://10.0.0.1:1\"\ntls-cert = \"c\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://10.0.0.1:1\"\ntls-cert = \"c\"\ntls-key = \"k\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://127.0.0.1:1\"\ntls-client-ca = \"c\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://127.0.0.1:1\"\nlisten-mode = \"0660\"".to_owned(),
        "[[listener]]\nlisten = \"tcp://127.0.0.1:1\"\ntls-client-name = [\"dns:a\"]".to_owned(),
        "[[listener]]\nlisten = \"unix:///m\"\ntls-key = \"k\"".to_owned(),
        "[[listener]]\nlisten = \"unix:///m\"\npolicy-set = \"prod\"".to_owned(),
        "[[listener]]\nlisten = \"unix:///m\"\n[[listener.client]]\nname = [\"spiffe://d/a\"]"
            .to_owned(),
        "[[listener]]\nlisten = \"unix:///m\"\n[[listener.client]]\nname = [\"uid:root\"]"
            .to_owned(),
        format!(
            "[[listener]]\nlisten = \"tcp://:1\"\n{TLS}tls-client-name = [\"dns:a\"]\n\
             [[listener.client]]\nname = [\"dns:b\"]"
        ),
    ];
    let cases: Vec<String> = more.iter().map(|text| format!("{LEAST}{text}")).collect();
    let text = refused(&cases).replace(LEAST, "");
    insta::assert_snapshot!("refused_beside_the_least", text);
}

#[test]
fn the_least_is_a_plan() {
    insta::assert_debug_snapshot!("least", plan_of(LEAST).unwrap());
}

/// All there is to say.
const MOST: &str = r#"
upstream = ["unix:///run/buildkit/a.sock", "tcp://build.example:1234"]
upstream-tls-ca = "tls/daemon-ca.pem"
upstream-tls-cert = "tls/gate.pem"
upstream-tls-key = "/abs/gate.key"
policy-set = "staging"
trust-root = ["sigstore.json", "ours=trust/ours.json", "theirs=/etc/theirs.json"]
github-api = "https://git.corp.example/api/v3/"
signature-registries = ["docker.io", "Reg.example:5000"]
registry-mirror = ["docker.io=https://mirror.example", "docker.io=https://other.example"]
plain-http = ["reg.example:5000"]
ca-file = "tls/registries.pem"
decision-log = "decisions.jsonl"
metrics-listen = "0.0.0.0:9464"
verifier-listen = "unix:///run/verifier.sock"
verifier-policy-set = "production"
listen-mode = "0660"
listen-group = "docker"
deny-entitlement = ["security.insecure"]
frontends = ["dockerfile.v0", "docker/dockerfile", "reg.example:5000/blubber"]
drain = 90
listen = ["unix:///run/gate.sock"]
tls-cert = "tls/gate.pem"
tls-key = "tls/gate.key"
tls-client-ca = "tls/clients.pem"

[policy-sets]
staging = ["base"]
production = ["base", "/etc/production.rego"]

[[listener]]
listen = "tcp://0.0.0.0:1234"
deny-methods = ["Control/Prune"]

[[listener.client]]
name = ["spiffe://corp/ci/*", "dns:release.corp"]
policy-set = "production"
git-submodules = "deny"
build-op = "allow"
cache-types = ["gha"]
frontends = ["dockerfile.v0"]
deny-entitlement = ["network.host", "device"]

[[listener.client]]
name = ["subject:CN=dashboard"]
methods = ["read-only"]

[[listener]]
listen = "tcp://127.0.0.1:1235"
policy-set = "staging"
mode = "audit"
tls-client-name = ["spiffe://corp/dev/*"]
"#;

#[test]
fn all_there_is_to_say_is_a_plan() {
    insta::assert_debug_snapshot!("most", plan_of(MOST).unwrap());
}

#[test]
fn a_flag_and_the_file_do_not_say_the_same() {
    let file = |text| file::File::parse("gate.toml", text).unwrap();
    let flags = |name: &'static str| Top {
        listen: vec![Said::flag("--listen", format!("unix:///{name}"))],
        mode: Some(Said::flag("--mode", "audit".to_owned())),
        ..Top::default()
    };
    let error = plan::plan(flags("a"), file(LEAST)).unwrap_err().to_string();
    assert_eq!(error, "--listen and gate.toml:1: listen: say it in one place");
    let error = plan::plan(flags("a"), file("\nmode = \"enforce\"")).unwrap_err().to_string();
    assert_eq!(error, "--mode and gate.toml:2: mode: say it in one place");
    let rest = "upstream = [\"unix:///u\"]\npolicy = [\"p\"]\n";
    let plan = plan::plan(flags("a"), file(rest)).unwrap();
    assert_eq!(plan.listeners[0].address.to_string(), "unix:///a");
    let wrong = Top { mode: Some(Said::flag("--mode", "off".to_owned())), ..flags("a") };
    let error = plan::plan(wrong, file(rest)).unwrap_err().to_string();
    assert_eq!(error, "--mode: `off` is none of enforce, audit");
}

#[test]
fn who_has_what() {
    let plan = plan_of(MOST).unwrap();
    let uid = |uid| Identity::Unix { uid, gid: 0, pid: None };
    let set = |at: usize, who: &Identity| {
        plan.listeners[at].access(who).map(|access| access.set.as_str())
    };
    assert_eq!(set(0, &uid(7)), Some("staging"));
    assert_eq!(set(1, &uid(7)), None, "only those that are named");
    assert_eq!(set(2, &uid(7)), None, "only certificates of these names");
    let more = format!(
        "{LEAST}[policy-sets]\nci = [\"q\"]\n[[listener]]\nlisten = \"unix:///m\"\n\
         [[listener.client]]\nname = [\"uid:7\"]\npolicy-set = \"ci\"\n"
    );
    let plan = plan_of(&more).unwrap();
    let set = |who| plan.listeners[1].access(&who).map(|access| access.set.as_str());
    assert_eq!((set(uid(7)), set(uid(8))), (Some("ci"), None));
    let open = plan_of(&format!("{more}[[listener.client]]\nname = [\"*\"]\n")).unwrap();
    let set = |who| open.listeners[1].access(&who).map(|access| access.set.as_str());
    assert_eq!((set(uid(7)), set(uid(8))), (Some("ci"), Some("default")));
}
