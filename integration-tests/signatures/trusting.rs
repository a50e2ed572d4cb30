//! Whom an organisation trusts, in real builds: several trust roots by name, an expired one, another
//! GitHub. Behind `# syntax=` it is in the image's `/etc/buildgate`, at the gate in its TOML file.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use buildgate::verify::Github;
use serde_json::{Value, json};

use super::doors::{Door, check, context};
use super::downloads::workflow;
use super::{BUNDLE, COSIGN_SIGN, Repository, SIMPLE, SLSA, by_identity, layer, policy};
use crate::cli::Folder;
use crate::forge::{Forge, Rekor, Who, about, b64, digest};
use crate::frontend;
use crate::gate_ops::{Gate, folder};
use crate::peers::{self, HttpServer, Request, Response, World, need};

/// An organisation, and whom it trusts.
pub(super) struct Org<'w> {
    world: &'w World,
    /// Trust roots by name.
    roots: Vec<(&'static str, String)>,
    /// GitHub's API.
    github: Option<String>,
    /// The frontend's image with all of it.
    frontend: String,
}

impl<'w> Org<'w> {
    pub(super) fn new(
        world: &'w World,
        name: &str,
        roots: Vec<(&'static str, String)>,
        github: Option<String>,
    ) -> Self {
        let context = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = context.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let base = frontend::image(world);
        write("Dockerfile", &format!("FROM {base}\nCOPY etc/ /etc/buildgate/\n"));
        for (name, root) in &roots {
            write(&format!("etc/trust/{name}.json"), root);
        }
        if let Some(url) = &github {
            write("etc/github-api", &format!("{url}\n"));
        }
        let frontend = world.image(&format!("buildgate:{name}"));
        world.buildkit.push(context.path(), &frontend, &[], "");
        Self { world, roots, github, frontend }
    }

    /// Builds under a rule with its files: whether it passes, and what is said.
    pub(super) fn built(
        &self,
        door: Door,
        dockerfile: &str,
        (rule, files): (&str, &[(&str, &str)]),
    ) -> (bool, String) {
        match door {
            Door::Frontend => {
                let context = context(dockerfile, rule, files);
                let built = frontend::build(self.world, &self.frontend, context.path(), &[]);
                (built.passed, built.said)
            }
            Door::Gate => {
                let built = self.gate(rule, files).build(dockerfile);
                (built.passed, built.said)
            }
        }
    }

    /// A gate that is told everything by its file.
    fn gate(&self, rule: &str, files: &[(&str, &str)]) -> Gate {
        let rules = policy(rule);
        let mut all = vec![("policy/p.rego".to_owned(), rules.as_str())];
        all.extend(files.iter().map(|(name, text)| (format!("policy/{name}"), *text)));
        for (name, root) in &self.roots {
            all.push((format!("trust/{name}.json"), root));
        }
        let all: Vec<(&str, &str)> = all.iter().map(|(name, text)| (&**name, *text)).collect();
        let dir = folder(&all);
        let roots: Vec<String> = self
            .roots
            .iter()
            .map(|(name, _)| match *name {
                "sigstore" => "\"trust/sigstore.json\"".to_owned(),
                name => format!("\"{name}=trust/{name}.json\""),
            })
            .collect();
        let mut config = format!(
            "listen = [\"unix://{}/gate.sock\"]\nupstream = [\"{}\"]\npolicy = [\"policy\"]\n\
             trust-root = [{}]\nsignature-registries = [\"{}\"]\n",
            dir.path().display(),
            self.world.buildkit.address(),
            roots.join(", "),
            self.world.registry.host(),
        );
        if let Some(url) = &self.github {
            config.push_str(&format!("github-api = \"{url}\"\n"));
        }
        std::fs::write(dir.path().join("gate.toml"), config).unwrap();
        Gate::start(dir, &["--config", "gate.toml"], &[])
    }
}

/// A root whose certificate authority has ended.
fn ended(forge: &Forge) -> String {
    let mut root = forge.trusted_root();
    root["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T12:00:00Z".into();
    root.to_string()
}

const ATTESTED: &str = "artifact_attestation(input.http, \"app.sigstore.json\")";

#[test]
fn downloads_are_judged_by_their_attestation() {
    let world = need!(peers::world());
    let (forge, stranger) = (Forge::new(80), Forge::new(90));
    let root = forge.trusted_root().to_string();
    let org = Org::new(world, "attesting", vec![("sigstore", root)], None);
    let late = Org::new(world, "late", vec![("sigstore", ended(&forge))], None);
    let jane = Who::person("jane@example.com");
    let file = b"release 2.0\n";
    let server = HttpServer::files([
        ("/frontend", file.to_vec()),
        ("/gate", file.to_vec()),
        ("/evil", b"release 6.6\n".to_vec()),
    ]);
    let attest = |forge: &Forge, predicate: &str, file: &[u8]| {
        let leaf = forge.leaf(&jane, 100);
        forge.attest(&leaf, &about(predicate, &digest(file)), Rekor::V1)
    };
    let right = attest(&forge, SLSA, file);
    let mut tampered = right.clone();
    let statement = String::from_utf8(about(SLSA, &digest(file))).unwrap();
    tampered["dsseEnvelope"]["payload"] = b64(statement.replace("ours", "evil")).into();
    let text = |bundle: &Value| bundle.to_string();
    let by_jane = format!("{ATTESTED}.signer.subjectAlternativeName == \"jane@example.com\"");
    let by_john = by_jane.replace("jane@", "john@");
    let negated = format!("not {ATTESTED}");
    let no_bundle = "could not verify";
    for (door, path) in [(Door::Frontend, "/frontend"), (Door::Gate, "/gate")] {
        for (what, org, path, rule, bundle, wanted) in [
            ("right", &org, path, &by_jane, text(&right), Ok("")),
            (
                "by another",
                &org,
                path,
                &by_john,
                text(&right),
                Err("not allowed by policy: action DENY"),
            ),
            ("another file", &org, "/evil", &by_jane, text(&right), Err("about something else")),
            (
                "a stranger's",
                &org,
                path,
                &by_jane,
                text(&attest(&stranger, SLSA, file)),
                Err("trust root sigstore does not vouch for it"),
            ),
            ("tampered", &org, path, &by_jane, text(&tampered), Err("its signature is not valid")),
            (
                "no provenance",
                &org,
                path,
                &by_jane,
                text(&attest(&forge, COSIGN_SIGN, file)),
                Err("its predicate type is \"https://sigstore.dev/cosign/sign/v1\""),
            ),
            ("empty", &org, path, &by_jane, String::new(), Err("it is empty")),
            ("an expired root", &late, path, &by_jane, text(&right), Err("expired at 2025-06-01")),
            // Whoever allows what nobody attests is told what that is, and not what cannot be known.
            (
                "not, a stranger's",
                &org,
                path,
                &negated,
                text(&attest(&stranger, SLSA, file)),
                Ok(""),
            ),
            (
                "not, right",
                &org,
                path,
                &negated,
                text(&right),
                Err("not allowed by policy: action DENY"),
            ),
            (
                "not, an expired root",
                &late,
                path,
                &negated,
                text(&right),
                Err("expired at 2025-06"),
            ),
        ] {
            let dockerfile = format!("FROM scratch\nADD {} /app\n", server.url(path));
            let files = [("app.sigstore.json", bundle.as_str())];
            let came = org.built(door, &dockerfile, (rule, &files));
            check(&format!("{what}, {door:?}"), &came, wanted);
            if what.ends_with("expired root") {
                assert!(came.1.contains(no_bundle), "{what}, {door:?}: {}", came.1);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_not_judged_by_an_expired_root() {
    let world = need!(peers::world());
    let forge = Forge::new(81);
    let root = forge.trusted_root().to_string();
    let org = Org::new(world, "in-force", vec![("sigstore", root)], None);
    let late = Org::new(world, "expired", vec![("sigstore", ended(&forge))], None);
    let repository = Repository { world, name: "signed/expiring" };
    let export = ",oci-mediatypes=true,oci-artifact=true";
    let jane = Who::person("jane@example.com");
    let leaf = forge.leaf(&jane, 100);
    let signatures = "not input.image.signatures";
    let on_image = by_identity("jane@example.com", jane.issuer(), "sigstore");
    let on_image =
        format!("not {}", on_image.lines().next().unwrap().trim_start_matches("signed := "));
    for door in [Door::Frontend, Door::Gate] {
        // An image for each: a daemon remembers the attestations of one that it has seen.
        let tag = format!("{door:?}").to_lowercase();
        repository.build(&tag, &["attest:provenance=mode=max,version=v1"], export);
        let attestation = repository.attestation(&tag).await;
        let subject = repository.described(&attestation).await;
        let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V1).to_string();
        repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle.into_bytes(), json!({}))]).await;
        let image = repository.digest(&tag).await;
        repository.sign_by_tag(&image, &[layer(SIMPLE, forge.simple(&leaf, &image))]).await;
        let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(&tag));
        for (what, org, rule, wanted) in [
            ("signed", &org, signatures, Err("not allowed by policy: action DENY")),
            ("by an expired root", &late, signatures, Err("expired at 2025-06-01")),
        ] {
            let came = org.built(door, &dockerfile, (rule, &[]));
            check(&format!("{what}, {door:?}"), &came, wanted);
        }
    }
    // What signs an image itself the gate looks for.
    let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference("gate"));
    let came = org.built(Door::Gate, &dockerfile, (&on_image, &[]));
    check("the image, signed", &came, Err("not allowed by policy: action DENY"));
    let came = late.built(Door::Gate, &dockerfile, (&on_image, &[]));
    check("the image, at the gate", &came, Err("expired at 2025-06-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trust_root_has_its_name() {
    let world = need!(peers::world());
    let (ours, theirs) = (Forge::new(82), Forge::new(83));
    let roots = vec![
        ("ours", ours.trusted_root().to_string()),
        ("theirs", theirs.trusted_root().to_string()),
    ];
    let org = Org::new(world, "naming", roots, None);
    let repository = Repository { world, name: "signed/named" };
    let jane = Who::person("jane@example.com");
    // The tag is the name of the root that is asked.
    let rule =
        by_identity("jane@example.com", jane.issuer(), "TAG").replace("\"TAG\"", "input.image.tag");
    let gate = org.gate(&rule, &[]);
    for (tag, by, wanted) in [
        ("ours", &ours, Ok("")),
        ("theirs", &theirs, Ok("")),
        ("ours", &theirs, Err("trust root ours does not vouch for it")),
        ("theirs", &ours, Err("trust root theirs does not vouch for it")),
        (
            "nobodys",
            &ours,
            Err("there is no trust root \"nobodys\"; known are github, ours, sigstore"),
        ),
        ("sigstore", &ours, Err("trust root sigstore does not vouch for it")),
    ] {
        repository.build(tag, &[], "");
        let image = repository.digest(tag).await;
        let leaf = by.leaf(&jane, 100);
        repository.sign_by_tag(&image, &[layer(SIMPLE, by.simple(&leaf, &image))]).await;
        let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(tag));
        let built = gate.build(&dockerfile);
        check(tag, &(built.passed, built.said), wanted);
        // The frontend knows the names as well; what signs an image it cannot read.
        let wanted = match wanted {
            Err(words) if words.starts_with("there is no") => words,
            _ => "`buildgate check` verify it",
        };
        let came = org.built(Door::Frontend, &dockerfile, (&rule, &[]));
        check(&format!("{tag}, frontend"), &came, Err(wanted));
    }
    let log = gate.log();
    for root in
        ["trust root `ours`: from a file, as of unknown", "trust root `theirs`: from a file"]
    {
        assert!(log.contains(root), "{root}: {log}");
    }
}

#[test]
fn another_github_is_asked_at_each_door() {
    let world = need!(peers::world());
    let (public, private, stranger) = (Forge::new(84), Forge::new(85), Forge::new(93));
    let answers: Arc<OnceLock<BTreeMap<String, Response>>> = Arc::default();
    let server = HttpServer::start({
        let answers = Arc::clone(&answers);
        move |request| {
            let answers = answers.get().unwrap();
            let answer = answers.get(&request.path.replace("%3A", ":")).cloned();
            let answer = answer.unwrap_or_else(|| Response::status(404));
            // Each is asked anew.
            answer.with("ETag", &format!("\"{}\"", digest(request.path.as_bytes())))
        }
    });
    let github = Github::at(&server.url("/api/v3")).unwrap();
    let (web, issuer) = (github.web.as_str(), github.issuer.as_str());
    let kept = |forge: &Forge, (web, issuer, repository): (&str, &str, &str), file: &str| {
        let leaf = forge.leaf(&workflow(web, issuer, repository), 100);
        let bundle = forge.attest(&leaf, &about(SLSA, &digest(file)), Rekor::V2);
        Response::ok(json!({"attestations": [{"bundle": bundle}]}).to_string())
    };
    let app = (web, issuer, "org/app");
    let hub = ("https://github.com", "https://token.actions.githubusercontent.com", "org/app");
    let unread = "could not verify by GitHub's attestations";
    // Each file is named, and holds the name of its case.
    let cases = [
        ("right", kept(&public, app, "right"), Ok("")),
        ("private", kept(&private, app, "private"), Ok("")),
        ("another-file", kept(&public, app, "right"), Err("about something else")),
        (
            "another-repository",
            kept(&public, (web, issuer, "org/other"), "another-repository"),
            Err("/org/other\", not from \"http://127.0.0.1:"),
        ),
        (
            "another-issuer",
            kept(&public, (web, "https://accounts.example.com", "org/app"), "another-issuer"),
            Err("\"https://accounts.example.com\" vouched for who signed it"),
        ),
        ("another-github", kept(&public, hub, "another-github"), Err("vouched for who signed it")),
        ("a-stranger", kept(&stranger, app, "a-stranger"), Err("no trusted time of trust root")),
        ("none", Response::ok("{\"attestations\": []}"), Err("there are none")),
        ("no-list", Response::ok("{\"message\": \"rate limited\"}"), Err(unread)),
        ("failing", Response::status(500), Err("500")),
        // What is not found is no answer at any door: a private repository is not found either.
        ("not-found", Response::status(404), Err("404")),
    ];
    let all = cases.iter().flat_map(|(what, answer, _)| {
        let api = format!("/api/v3/repos/org/app/attestations/{}", digest(what));
        [(format!("/{what}"), Response::ok(*what)), (api, answer.clone())]
    });
    answers.set(all.collect()).unwrap();
    let roots = vec![
        ("sigstore", public.trusted_root().to_string()),
        ("github", private.trusted_root().to_string()),
    ];
    let rule = format!("github_attestation(input.http, \"org/app\").signer.issuer == \"{issuer}\"");
    let org = Org::new(world, "enterprise", roots, Some(github.api.clone()));
    let gate = org.gate(&rule, &[]);
    let asked = || {
        let of_api = |it: &Request| it.path.starts_with("/api/v3/repos/org/app/attestations/");
        server.asked().into_iter().filter(of_api).collect::<Vec<_>>()
    };
    for (what, _, wanted) in &cases {
        let dockerfile = format!("FROM scratch\nADD {} /app\n", server.url(&format!("/{what}")));
        let built = gate.build(&dockerfile);
        check(&format!("{what}, gate"), &(built.passed, built.said), *wanted);
        let came = org.built(Door::Frontend, &dockerfile, (&rule, &[]));
        check(&format!("{what}, frontend"), &came, *wanted);
        // The command line asks for itself.
        let rules = policy(&rule);
        let mut files = vec![("Dockerfile", dockerfile.as_str()), ("Dockerfile.rego", &rules)];
        let names = ["sigstore.json", "github.json"];
        files.extend(names.into_iter().zip(org.roots.iter().map(|(_, root)| root.as_str())));
        let before = asked().len();
        let ran = Folder::with(&files).run(&format!(
            "check . --trust-root sigstore.json --trust-root github=github.json --github-api {}",
            github.api
        ));
        let said = format!("{}{}", ran.stdout, ran.stderr);
        check(&format!("{what}, check"), &(ran.code == Some(0), said), *wanted);
        assert!(asked().len() > before, "{what}: the command line asked nobody");
    }
    let accepts = |it: &Request| it.headers["accept"] == "application/vnd.github+json";
    let asked = asked();
    assert!(asked.len() >= 3 * cases.len() && asked.iter().all(accepts), "{asked:?}");
}
