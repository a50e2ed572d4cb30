//! What the real cosign signs, with a key and with a certificate of our own authority.

use std::process::Command;

use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{BY_KEY, Repository, by_identity, check, policy};
use crate::forge::{Forge, Who, public_pem};
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, Response, World, need};

/// cosign with a key pair of its own, and services of nobody.
pub(super) struct Cosign {
    program: std::path::PathBuf,
    folder: TempDir,
}

impl Cosign {
    pub(super) fn start() -> Result<Self, peers::NoPeer> {
        let cosign =
            Self { program: peers::pinned("cosign")?, folder: tempfile::tempdir().unwrap() };
        let root = Forge::new(77).trusted_root().to_string();
        std::fs::write(cosign.folder.path().join("root.json"), root).unwrap();
        cosign.run(&["signing-config", "create", "--out", "services.json"]);
        for name in ["ours", "theirs"] {
            cosign.run(&["generate-key-pair", "--output-key-prefix", name]);
        }
        Ok(cosign)
    }

    pub(super) fn run(&self, args: &[&str]) {
        let out = Command::new(&self.program)
            .args(args)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("COSIGN_PASSWORD", "throwaway")
            .env("COSIGN_YES", "true")
            // Whose word it takes for a certificate's place in a log.
            .env("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", self.folder.path().join("ct.pub"))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "cosign {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn public(&self, name: &str) -> String {
        self.read(&format!("{name}.pub"))
    }

    /// Signs with the key `ours`, as this version does, or as older ones did.
    fn sign(&self, image: &str, format: &str) {
        let old =
            ["--use-signing-config=false", "--new-bundle-format=false", "--tlog-upload=false"];
        let new = ["--signing-config=services.json", "--trusted-root=root.json"];
        let mut args = vec!["sign", "--key=ours.key", "--allow-http-registry"];
        args.extend(if format == "old" { &old[..] } else { &new[..] });
        args.push(image);
        self.run(&args);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cosign_signs_with_a_key() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    for (format, name, kind) in
        [("old", "signed/tag", "simplesigning-v1"), ("new", "signed/bundle", "bundle-v0.3")]
    {
        let (repository, signed) = Repository::with_image(world, name).await;
        repository.build("unsigned", &[], "");
        let by = |tag: &str, key: &str| {
            let rule = format!("{BY_KEY}\nsigned.type == \"{kind}\"");
            repository.judged(tag, &rule, &[("cosign.pub", &cosign.public(key))], "")
        };
        check("before it is signed", &by("1", "ours"), 1, "it has no signature");
        cosign.sign(&format!("{}@{signed}", repository.reference("1")), format);
        check("signed", &by("1", "ours"), 0, &signed);
        check("another's key", &by("1", "theirs"), 1, "is not signed by the key in `cosign.pub`");
        check("another image", &by("unsigned", "ours"), 1, "it has no signature");
        // Somebody moves the tag to an image that nobody signed.
        repository.build("1", &["label:moved=yes"], "");
        check("re-tagged", &by("1", "ours"), 1, "it has no signature");
        // And puts the good one's signature beside the bad one.
        steal(&repository, format, &signed).await;
        check("the signature of another", &by("1", "ours"), 1, "is not signed by the key");
    }
}

/// Puts the signature of the image `signed` beside the one that the tag `1` names now.
async fn steal(repository: &Repository<'_>, format: &str, signed: &str) {
    let moved = repository.digest("1").await;
    let from = match format {
        "old" => format!("{}.sig", signed.replace(':', "-")),
        _ => signed.replace(':', "-"),
    };
    let stolen = repository.world.registry.manifest(repository.name, &from).await;
    let stolen: Value = serde_json::from_slice(&stolen).unwrap();
    let media_type = stolen["mediaType"].as_str().unwrap().to_owned();
    repository.put(&from.replace(&signed[7..], &moved[7..]), &media_type, &stolen).await;
}

/// A gate with one rule about who signed, and this key.
fn gate(world: &World, key: &str) -> Gate {
    let rules = policy(BY_KEY);
    let registry = format!("--signature-registries={}", world.registry.host());
    Gate::with_files(world, &[("policy/p.rego", &rules), ("policy/cosign.pub", key)], &[&registry])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cosign_signs_is_judged_at_the_gate() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    let ours = gate(world, &cosign.public("ours"));
    let theirs = gate(world, &cosign.public("theirs"));
    for (format, name) in [("old", "signed/gate-tag"), ("new", "signed/gate-bundle")] {
        let (repository, signed) = Repository::with_image(world, name).await;
        repository.build("unsigned", &[], "");
        let built = |gate: &Gate, what: &str, image: &str, wanted: Result<&str, &str>| {
            let built = gate.build(&format!("FROM {image}\nCOPY Dockerfile /x\n"));
            let (Ok(words) | Err(words)) = wanted;
            assert_eq!(built.passed, wanted.is_ok(), "{format}, {what}: {}", built.said);
            assert!(built.said.contains(words), "{format}, {what}: {}", built.said);
        };
        let named = repository.reference("1");
        built(&ours, "before it is signed", &named, Err("it has no signature"));
        cosign.sign(&format!("{named}@{signed}"), format);
        built(&ours, "signed", &named, Ok(&format!("-> docker-image://{named}@{signed}")));
        built(&theirs, "another's key", &named, Err("is not signed by the key in `cosign.pub`"));
        built(&ours, "unsigned", &repository.reference("unsigned"), Err("it has no signature"));
        repository.build("1", &["label:moved=yes"], "");
        built(&ours, "re-tagged", &named, Err("it has no signature"));
        steal(&repository, format, &signed).await;
        built(&ours, "the signature of another", &named, Err("is not signed by the key"));
        built(
            &ours,
            "the signed one still",
            &format!("{named}@{signed}"),
            Ok("allow docker-image://"),
        );
    }
}

/// A timestamp authority of the forge, over HTTP.
fn timestamps(seed: u8) -> HttpServer {
    let forge = Forge::new(seed);
    HttpServer::start(move |request| {
        let reply = Response::ok(forge.stamp(&request.body));
        reply.with("Content-Type", "application/timestamp-reply")
    })
}

/// As older versions did with a certificate that was there already. Of a log it knows none here, so that
/// a timestamp authority says when it was.
#[tokio::test(flavor = "multi_thread")]
async fn what_cosign_signs_with_a_certificate() {
    let world = need!(peers::world());
    let cosign = need!(Cosign::start());
    let forge = Forge::new(130);
    let stamps = timestamps(130);
    let jane = Who::person("jane@example.com");
    let leaf = forge.leaf(&jane, 100);
    let private = leaf.key.to_pkcs8_pem(LineEnding::LF).unwrap();
    cosign.write("jane.pem", &private);
    cosign.write("jane.crt", &leaf.pem());
    cosign.write("ca.pem", &forge.authority_pem());
    cosign.write("ct.pub", &public_pem(&forge.ct));
    cosign.run(&["import-key-pair", "--key=jane.pem", "--output-key-prefix=jane"]);
    let (repository, signed) = Repository::with_image(world, "signed/certified").await;
    repository.build("unsigned", &[], "");
    let named = repository.reference("1");
    let sign = |image: &str| {
        cosign.run(&[
            "sign",
            "--key=jane.key",
            "--certificate=jane.crt",
            "--certificate-chain=ca.pem",
            "--allow-http-registry",
            "--use-signing-config=false",
            "--new-bundle-format=false",
            "--tlog-upload=false",
            &format!("--timestamp-server-url={}", stamps.url("/api/v1/timestamp")),
            image,
        ]);
    };
    sign(&format!("{named}@{signed}"));
    assert_eq!(stamps.asked().len(), 1);
    let without_log = |forge: &Forge| {
        let mut root = forge.trusted_root();
        root["tlogs"] = json!([]);
        root.to_string()
    };
    let (ours, theirs) = (without_log(&forge), without_log(&Forge::new(140)));
    let whole = forge.trusted_root().to_string();
    let rule = |who: &str| {
        let rule = by_identity(who, jane.issuer(), "ours");
        format!("{rule}\nsigned.type == \"simplesigning-v1\"\nnot signed.key")
    };
    let by = |tag: &str, who: &str, root: &str| {
        let flags = "--trust-root ours=ours.json";
        repository.judged(tag, &rule(who), &[("ours.json", root)], flags)
    };
    check("signed", &by("1", "jane@example.com", &ours), 0, &signed);
    let john = by("1", "john@example.com", &ours);
    check("another identity", &john, 1, "it was signed by \"jane@example.com\"");
    let other = by("1", "jane@example.com", &theirs);
    check("another authority", &other, 1, "no trusted time of trust root ours says when");
    let logged = by("1", "jane@example.com", &whole);
    check("by a root with a log", &logged, 1, "the signature has no log entry");
    check("unsigned", &by("unsigned", "jane@example.com", &ours), 1, "it has no signature");

    let rules = policy(&rule("jane@example.com"));
    let registry = format!("--signature-registries={}", world.registry.host());
    let gate = Gate::with_files(
        world,
        &[("policy/p.rego", &rules), ("ours.json", &ours)],
        &["--trust-root=ours=ours.json", registry.as_str()],
    );
    let built = |what: &str, image: &str, wanted: Result<&str, &str>| {
        let built = gate.build(&format!("FROM {image}\nCOPY Dockerfile /x\n"));
        let (Ok(words) | Err(words)) = wanted;
        assert_eq!(built.passed, wanted.is_ok(), "{what}: {}", built.said);
        assert!(built.said.contains(words), "{what}: {}", built.said);
    };
    built("signed", &named, Ok(&format!("-> docker-image://{named}@{signed}")));
    built("unsigned", &repository.reference("unsigned"), Err("it has no signature"));
    repository.build("1", &["label:moved=yes"], "");
    check("re-tagged", &by("1", "jane@example.com", &ours), 1, "it has no signature");
    built("re-tagged", &named, Err("it has no signature"));
    steal(&repository, "old", &signed).await;
    let stolen = by("1", "jane@example.com", &ours);
    check("the signature of another", &stolen, 1, "about something else");
    built("the signature of another", &named, Err("about something else"));
}
