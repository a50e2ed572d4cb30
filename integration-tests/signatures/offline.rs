//! Whoever decides asks nobody who signed: what is resolved is resolved before, once, and what a trust
//! root names is never called.

use serde_json::{Value, json};

use super::doors::{Door, check as said};
use super::trusting::Org;
use super::{BUNDLE, COSIGN_SIGN, Repository, SIMPLE, SLSA, by_identity, check, layer, policy};
use crate::cli::Folder;
use crate::forge::{Forge, Rekor, Who, about, digest};
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, Response, need};

/// A trust root whose parties are all at this server.
fn at(server: &HttpServer, root: &Value) -> String {
    let named = ["fulcio", "rekor", "rekor2", "ct", "tsa"];
    named.iter().fold(root.to_string(), |text, name| {
        let from = format!("https://{name}.example.com");
        assert!(text.contains(&from), "{name}");
        text.replace(&from, &server.url(&format!("/{name}")))
    })
}

/// An image `1` whose attestations and which itself somebody has signed, both ways.
async fn signed(repository: &Repository<'_>, forge: &Forge) -> String {
    let export = ",oci-mediatypes=true,oci-artifact=true";
    repository.build("1", &["attest:provenance=mode=max,version=v1"], export);
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let attestation = repository.attestation("1").await;
    let subject = repository.described(&attestation).await;
    let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V2).to_string();
    repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle.into_bytes(), json!({}))]).await;
    let image = repository.digest("1").await;
    repository.sign_by_tag(&image, &[layer(SIMPLE, forge.simple(&leaf, &image))]).await;
    image
}

const ATTESTED: &str = "some signature in input.image.signatures\n\
                        signature.signer.subjectAlternativeName == \"jane@example.com\"";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_while_deciding() {
    let world = need!(peers::world());
    let forge = Forge::new(120);
    let parties = HttpServer::start(|_| Response::status(404));
    let files = HttpServer::files([("/app", b"release".to_vec())]);
    let root = at(&parties, &forge.trusted_root());
    let repository = Repository { world, name: "signed/offline" };
    signed(&repository, &forge).await;
    let jane = Who::person("jane@example.com");
    let on_image = by_identity("jane@example.com", jane.issuer(), "sigstore");
    let leaf = forge.leaf(&jane, 100);
    let bundle = forge.attest(&leaf, &about(SLSA, &digest(b"release")), Rekor::V2).to_string();
    let of_file = "artifact_attestation(input.http, \"app.sigstore.json\").signer";
    let dockerfile =
        format!("FROM {}\nADD {} /app\n", repository.reference("1"), files.url("/app"));
    let rule = |image: &str| format!("{image}\n}}\nallow if {{\n{of_file}");
    // One policy that asks once, and three that ask again and again.
    let image = format!("{ATTESTED}\n{on_image}");
    let again = format!("{image}\nagain := {}", on_image.trim_start_matches("signed := "));
    let once = policy(&rule(&image));
    let often = policy(&rule(&again));
    let judged = |root: &str, more: &str| {
        let all = [
            ("Dockerfile", dockerfile.as_str()),
            ("Dockerfile.rego", if more.is_empty() { &once } else { &often }),
            ("app.sigstore.json", &bundle),
            ("a/p.rego", &often),
            ("a/app.sigstore.json", &bundle),
            ("b/p.rego", &often),
            ("b/app.sigstore.json", &bundle),
            ("root.json", root),
        ];
        let before = (world.registry.accesses(&[repository.name]).len(), files.asked().len());
        let ran = Folder::with(&all).run(&format!("check . --trust-root root.json {more}"));
        let after = (world.registry.accesses(&[repository.name]).len(), files.asked().len());
        (ran, (after.0 - before.0, after.1 - before.1))
    };
    let (ran, asked_once) = judged(&root, "");
    check("once", &ran, 0, "");
    assert!(asked_once.0 > 0 && asked_once.1 > 0, "{asked_once:?}");
    let (ran, asked_often) = judged(&root, "--policy a --policy b");
    check("often", &ran, 0, "");
    assert_eq!(asked_often, asked_once, "what was resolved is not asked for again");
    // An update that has run out is not fetched anew, and one in force is used as it is.
    for (expires, code, words) in [("2020-01-01", 2, "expired"), ("2099-01-01", 0, "")] {
        let updated = json!({
            "mediaType": "application/vnd.buildgate.trust-root.v2+json",
            "source": parties.url("/tuf"), "fetched": "2019-12-01T00:00:00Z",
            "expires": format!("{expires}T00:00:00Z"),
            "trustedRoot": serde_json::from_str::<Value>(&root).unwrap(),
        });
        let (ran, _) = judged(&updated.to_string(), "");
        check(expires, &ran, code, words);
    }
    // And at the doors, where a daemon fetches what is judged.
    let org = Org::new(world, "offline", vec![("sigstore", root)], None);
    let attached = [("app.sigstore.json", bundle.as_str())];
    for (door, image) in [(Door::Frontend, ATTESTED), (Door::Gate, &image)] {
        let came = org.built(door, &dockerfile, (&rule(image), &attached));
        said(&format!("{door:?}"), &came, Ok(""));
    }
    assert_eq!(parties.asked().len(), 0, "{:?}", parties.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_verified_once_a_build() {
    let world = need!(peers::world());
    let forge = Forge::new(121);
    let root = forge.trusted_root().to_string();
    let jane = Who::person("jane@example.com");
    for (name, rule) in [
        ("signed/once-attested", ATTESTED.to_owned()),
        ("signed/once", by_identity("jane@example.com", jane.issuer(), "sigstore")),
    ] {
        let repository = Repository { world, name };
        signed(&repository, &forge).await;
        let rules = policy(&rule);
        let registry = format!("--signature-registries={}", world.registry.host());
        let gate = Gate::with_files(
            world,
            &[("policy/p.rego", &rules), ("more/p.rego", &rules), ("root.json", &root)],
            &[
                "--policy=more",
                "--trust-root=root.json",
                "--metrics-listen=127.0.0.1:0",
                registry.as_str(),
            ],
        );
        let worked = || {
            let metrics = gate.http("/metrics");
            let name = "buildgate_signature_verifications_total ";
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
        };
        assert_eq!(worked(), "0");
        let image = repository.reference("1");
        let dockerfile = format!("FROM {image} AS a\nFROM {image}\nCOPY --from={image} /1 /x\n");
        for build in ["first", "second"] {
            let built = gate.build(&dockerfile);
            assert!(built.passed, "{build}: {}", built.said);
            assert_eq!(worked(), "1", "{name}, {build}");
        }
        let metrics = gate.http("/metrics");
        assert!(
            metrics.contains("buildgate_trust_root_age_seconds{root=\"github\"} "),
            "{metrics}"
        );
    }
}

#[test]
fn the_gate_says_how_old_its_trust_roots_are() {
    let world = need!(peers::world());
    let forge = Forge::new(122);
    let mut ended = forge.trusted_root();
    ended["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T12:00:00Z".into();
    let updated = json!({
        "mediaType": "application/vnd.buildgate.trust-root.v2+json",
        "source": "https://tuf.example.com/", "fetched": "2026-01-01T00:00:00Z",
        "expires": "2099-01-01T00:00:00Z", "trustedRoot": forge.trusted_root(),
    });
    let (ended, updated) = (ended.to_string(), updated.to_string());
    let files = [
        ("policy/p.rego", "package docker\ndecision := {\"allow\": true}\n"),
        ("ended.json", ended.as_str()),
        ("updated.json", &updated),
    ];
    let roots = ["--trust-root=ours=ended.json", "--trust-root=theirs=updated.json"];
    let gate = Gate::with_files(world, &files, &roots);
    let ran = Folder::with(&files).run(&format!(
        "serve --listen unix:///nowhere/gate.sock --upstream unix:///nowhere/b.sock --policy policy \
         --check {}",
        roots.join(" ")
    ));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for (what, said) in [("the log", gate.log()), ("--check", ran.stdout)] {
        for line in [
            r"trust root `sigstore`: built in, as of 20\d\d-\d\d-\d\dT00:00:00Z \(\d+ days? old\), expires never",
            r"trust root `ours`: from a file, as of unknown: .*, expires 2025-06-01T12:00:00Z: EXPIRED",
            r"trust root `theirs`: from a file, by TUF, as of 2026-01-01T00:00:00Z \(\d+ days old\), expires 2099-01-01T00:00:00Z \(in \d+ days\)",
        ] {
            assert!(regex::Regex::new(line).unwrap().is_match(&said), "{what}: {line}: {said}");
        }
        assert!(said.contains("no signature can be verified"), "{what}: {said}");
    }
}
