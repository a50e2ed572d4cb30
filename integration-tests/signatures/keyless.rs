//! What the real cosign makes by logging in, with services of our own in place of Sigstore's: `sign` of
//! an image and of its attestations, `attest`, `attest-blob` and `sign-blob`, by Rekor v1 and v2.

use std::sync::Arc;

use serde_json::Value;

use super::cosign::Cosign;
use super::doors::{Door, check as said};
use super::{Repository, by_identity, check, policy};
use crate::cli::Folder;
use crate::forge::services::token;
use crate::forge::{Forge, Who};
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, Request, Response, World, need};

/// Fulcio, Rekor v1 and v2, and a timestamp authority, all at one place.
struct Services {
    forge: Arc<Forge>,
    server: HttpServer,
}

impl Services {
    fn new(seed: u8) -> Self {
        let forge = Arc::new(Forge::new(seed));
        let server = HttpServer::start({
            let forge = Arc::clone(&forge);
            move |request| answer(&forge, request)
        });
        Self { forge, server }
    }

    fn root(&self) -> String {
        self.forge.trusted_root().to_string()
    }

    /// Tells cosign of them: `v1.json`, `v2.json`.
    fn tell(&self, cosign: &Cosign) {
        cosign.write("ours.json", &self.root());
        let since = "start-time=2024-01-01T00:00:00Z,operator=ours";
        let (base, stamps) = (self.server.url(""), self.server.url("/timestamp"));
        for version in [1, 2] {
            let mut args = vec![
                "signing-config".to_owned(),
                "create".to_owned(),
                format!("--fulcio=url={base},api-version=1,{since}"),
                format!("--rekor=url={base},api-version={version},{since}"),
                "--rekor-config=ANY".to_owned(),
                format!("--out=v{version}.json"),
            ];
            if version == 2 {
                args.push(format!("--tsa=url={stamps},api-version=1,{since}"));
                args.push("--tsa-config=ANY".to_owned());
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            cosign.run(&args);
        }
    }
}

fn answer(forge: &Forge, request: &Request) -> Response {
    let json = || serde_json::from_slice::<Value>(&request.body).unwrap();
    let created = |body: Value| {
        Response { status: 201, ..Response::ok(body.to_string()) }
            .with("Content-Type", "application/json")
    };
    match request.path.as_str() {
        "/api/v2/signingCert" => {
            let token = request.headers["authorization"].trim_start_matches("Bearer ");
            Response::ok(forge.certify(token, &json()).to_string())
        }
        "/api/v1/log/entries" => {
            let (name, entry) = forge.enter(&json());
            created(serde_json::json!({name.as_str(): entry})).with("ETag", &name)
        }
        "/api/v2/log/entries" => created(forge.append(&json())),
        "/timestamp" => {
            let reply = Response::ok(forge.stamp(&request.body));
            reply.with("Content-Type", "application/timestamp-reply")
        }
        _ => Response::status(404),
    }
}

/// Runs a command of cosign for whoever logs in, by Rekor of that version.
fn logged_in(cosign: &Cosign, who: &Who, version: u8, args: &[&str]) {
    let token = format!("--identity-token={}", token(&who.subject, who.issuer()));
    let config = format!("--signing-config=v{version}.json");
    let own = [args[0], &token, &config, "--trusted-root=ours.json"];
    cosign.run(&[&own[..], &args[1..]].concat());
}

const PREDICATE: &str = "{\"buildDefinition\": {}, \"runDetails\": {}}";

/// A gate that trusts these services in place of Sigstore's, and as `ours`.
fn gate(world: &World, rule: &str, root: &str) -> Gate {
    let rules = policy(rule);
    let registry = format!("--signature-registries={}", world.registry.host());
    let files = [("policy/p.rego", rules.as_str()), ("ours.json", root)];
    let flags = ["--trust-root=ours.json", "--trust-root=ours=ours.json", &registry];
    Gate::with_files(world, &files, &flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cosign_signs_by_logging_in() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    let services = Services::new(150);
    services.tell(&cosign);
    let root = services.root();
    let (jane, john) = (Who::person("jane@example.com"), Who::person("john@example.com"));
    let rule = by_identity("jane@example.com", jane.issuer(), "ours");
    let rule = format!("{rule}\nsigned.type == \"bundle-v0.3\"\nsigned.trustRoot == \"ours\"");
    let gate = gate(world, &rule, &root);
    for (version, name) in [(1, "signed/login-1"), (2, "signed/login-2")] {
        let (repository, signed) = Repository::with_image(world, name).await;
        let named = repository.reference("1");
        let image = format!("{named}@{signed}");
        let by = |what: &str, code: i32, words: &str| {
            let files = [("ours.json", root.as_str())];
            let ran = repository.judged("1", &rule, &files, "--trust-root ours=ours.json");
            check(&format!("{what}, Rekor v{version}"), &ran, code, words);
            let built = gate.build(&format!("FROM {named}\nCOPY Dockerfile /x\n"));
            let wanted = if code == 0 { Ok("") } else { Err(words) };
            let what = format!("{what}, Rekor v{version}, gate");
            said(&what, &(built.passed, built.said), wanted);
        };
        by("unsigned", 1, "it has no signature");
        // What somebody states of an image is no signature of it.
        cosign.write("predicate.json", PREDICATE);
        let attest = ["attest", "--type=slsaprovenance1", "--predicate=predicate.json"];
        let registry = "--allow-http-registry";
        logged_in(&cosign, &jane, version, &[&attest[..], &[registry, &image]].concat());
        by("attested", 1, "its predicate type is");
        logged_in(&cosign, &john, version, &["sign", registry, &image]);
        by("by another", 1, "it was signed by \"john@example.com\"");
        logged_in(&cosign, &jane, version, &["sign", registry, &image]);
        by("signed", 0, &signed);
        repository.build("1", &["label:moved=yes"], "");
        by("re-tagged", 1, "it has no signature");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_that_cosign_signs_by_logging_in() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    let services = Services::new(160);
    services.tell(&cosign);
    let root = services.root();
    let (jane, john) = (Who::person("jane@example.com"), Who::person("john@example.com"));
    let rule = "some signature in input.image.signatures\n\
                signature.signer.subjectAlternativeName == \"jane@example.com\"\n\
                signature.kind == \"self-signed\"";
    let gate = gate(world, rule, &root);
    let repository = Repository { world, name: "signed/login-attested" };
    let registry = "--allow-http-registry";
    cosign.write("predicate.json", PREDICATE);
    // An image for each: a daemon remembers the attestations of one that it has seen.
    for (tag, version, signed, code, words) in [
        ("unsigned", 1, vec![], 1, "the image's attestations are not signed"),
        ("v1", 1, vec![(&jane, "sign")], 0, "@sha256:"),
        ("v2", 2, vec![(&jane, "sign")], 0, "@sha256:"),
        ("by-another", 1, vec![(&john, "sign")], 1, ""),
        // A scanner's report about the attestations is no signature of them.
        ("stated", 2, vec![(&jane, "attest")], 1, "its predicate type is"),
    ] {
        let attest = ["attest:provenance=mode=max,version=v1"];
        repository.build(tag, &attest, ",oci-mediatypes=true,oci-artifact=true");
        let image = format!("{}@{}", repository.reference(tag), repository.attestation(tag).await);
        for (who, how) in signed {
            let options: &[&str] = match how {
                "attest" => &["attest", "--type=vuln", "--predicate=predicate.json"],
                how => &[how],
            };
            logged_in(&cosign, who, version, &[options, &[registry, &image]].concat());
        }
        let ran = repository.judged(
            tag,
            rule,
            &[("ours.json", root.as_str())],
            "--trust-root sigstore=ours.json",
        );
        check(tag, &ran, code, if code == 0 { "" } else { words });
        let built =
            gate.build(&format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(tag)));
        let wanted = if code == 0 { Ok(words) } else { Err(words) };
        said(&format!("{tag}, gate"), &(built.passed, built.said), wanted);
    }
    // Who signs last stands behind who signed first: both are looked at.
    repository.build(
        "both",
        &["attest:provenance=mode=max,version=v1"],
        ",oci-mediatypes=true,oci-artifact=true",
    );
    let image =
        format!("{}@{}", repository.reference("both"), repository.attestation("both").await);
    for who in [&john, &jane] {
        logged_in(&cosign, who, 1, &["sign", registry, &image]);
    }
    let files = [("ours.json", root.as_str())];
    for who in ["jane@", "john@"] {
        let rule = rule.replace("jane@", who);
        let ran = repository.judged("both", &rule, &files, "--trust-root sigstore=ours.json");
        check(who, &ran, 0, "");
    }
}

#[test]
fn files_that_cosign_attests_by_logging_in() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    let services = Services::new(170);
    services.tell(&cosign);
    let root = services.root();
    let jane = Who::person("jane@example.com");
    cosign.write("predicate.json", PREDICATE);
    cosign.write("app", "release 3.0\n");
    cosign.write("evil", "release 6.6\n");
    let files = HttpServer::files([
        ("/app", b"release 3.0\n".to_vec()),
        ("/evil", b"release 6.6\n".to_vec()),
    ]);
    let rule = "signed := artifact_attestation(input.http, \"app.sigstore.json\")\n\
                signed.signer.subjectAlternativeName == \"jane@example.com\"";
    let attest = |kind: &str, to: &str, version: Option<u8>| {
        let (kind, to) = (format!("--type={kind}"), format!("--bundle={to}"));
        let args = ["attest-blob", &kind, "--predicate=predicate.json", &to, "app"];
        match version {
            Some(version) => logged_in(&cosign, &jane, version, &args),
            None => {
                let own = ["attest-blob", "--key=ours.key", "--signing-config=services.json"];
                cosign.run(&[&own[..], &["--trusted-root=root.json"], &args[1..]].concat());
            }
        }
    };
    attest("slsaprovenance1", "v1.bundle", Some(1));
    attest("slsaprovenance1", "v2.bundle", Some(2));
    attest("vuln", "report.bundle", Some(1));
    attest("slsaprovenance1", "key.bundle", None);
    logged_in(&cosign, &jane, 1, &["sign-blob", "--bundle=blob.bundle", "app"]);
    for (what, bundle, path, wanted) in [
        ("Rekor v1", "v1.bundle", "/app", Ok("")),
        ("Rekor v2", "v2.bundle", "/app", Ok("")),
        ("another file", "v1.bundle", "/evil", Err("about something else")),
        ("no provenance", "report.bundle", "/app", Err("its predicate type is")),
        ("a bare signature", "blob.bundle", "/app", Err("its predicate type is \"\"")),
        ("a key's", "key.bundle", "/app", Err("it was made with a key")),
    ] {
        let bundle = cosign.read(bundle);
        let dockerfile = format!("FROM scratch\nADD {} /app\n", files.url(path));
        let rules = policy(rule);
        let all = [
            ("Dockerfile", dockerfile.as_str()),
            ("Dockerfile.rego", &rules),
            ("app.sigstore.json", &bundle),
            ("ours.json", &root),
        ];
        let ran = Folder::with(&all).run("check . --trust-root sigstore=ours.json");
        let (Ok(words) | Err(words)) = wanted;
        check(what, &ran, i32::from(wanted.is_err()), words);
        let own = [
            ("policy/p.rego", rules.as_str()),
            ("policy/app.sigstore.json", &bundle),
            ("ours.json", &root),
        ];
        let gate = Gate::with_files(world, &own, &["--trust-root=ours.json"]);
        let built = gate.build(&dockerfile);
        said(&format!("{what}, {:?}", Door::Gate), &(built.passed, built.said), wanted);
    }
}
