//! Who signed an image: signatures in a real registry, made by cosign and by throwaway parties of our
//! own, and rules about them judged through the command line.

mod cosign;
pub(crate) mod doors;
mod downloads;
mod frontend;
mod gate;
mod hardened;
mod keyless;
mod locked;
mod offline;
mod several;
mod trusting;

use serde_json::{Value, json};

use crate::cli::{Folder, Ran};
use crate::forge::{Forge, Leaf, Rekor, Who, about, digest, ed25519_spki, key, pem, public_pem};
use crate::peers::{self, World, need};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// More than a registry client reads of one signature.
const HUGE: usize = (16 << 20) + 1;

/// Signed by a key of the policy.
const BY_KEY: &str = "signed := verify_image_signature(input.image, {\"key\": \"cosign.pub\"})\n\
                      signed.digest == input.image.checksum";

/// A repository of the registry.
struct Repository<'w> {
    world: &'w World,
    name: &'static str,
}

/// One layer of a manifest: media type, content, annotations.
type Layer = (&'static str, Vec<u8>, Value);

impl<'w> Repository<'w> {
    /// One with an image `1` in it that BuildKit pushed; gives the image's digest.
    async fn with_image(world: &'w World, name: &'static str) -> (Self, String) {
        let repository = Self { world, name };
        repository.build("1", &[], "");
        let digest = repository.digest("1").await;
        (repository, digest)
    }

    fn reference(&self, tag: &str) -> String {
        self.world.image(&format!("{}:{tag}", self.name))
    }

    fn build(&self, tag: &str, options: &[&str], export: &str) {
        let context = tempfile::tempdir().unwrap();
        let dockerfile = format!("FROM scratch\nCOPY Dockerfile /{tag}\nLABEL made={tag}\n");
        std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
        self.world.buildkit.push(context.path(), &self.reference(tag), options, export);
    }

    async fn digest(&self, tag: &str) -> String {
        digest(self.world.registry.manifest(self.name, tag).await)
    }

    async fn put_blob(&self, data: &[u8]) -> Value {
        let base = format!("http://{}/v2/{}/blobs/uploads/", self.world.registry.host(), self.name);
        let client = peers::client();
        let begun = client.post(base).send().await.unwrap().error_for_status().unwrap();
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let url = format!("{place}&digest={}", digest(data));
        client.put(url).body(data.to_vec()).send().await.unwrap().error_for_status().unwrap();
        json!({"digest": digest(data), "size": data.len()})
    }

    async fn put(&self, name: &str, media_type: &str, manifest: &Value) -> Value {
        let body = manifest.to_string();
        let host = self.world.registry.host();
        let url = format!("http://{host}/v2/{}/manifests/{name}", self.name);
        let request = peers::client().put(url).header("Content-Type", media_type);
        let answer = request.body(body.clone()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
        json!({"mediaType": media_type, "digest": digest(&body), "size": body.len()})
    }

    /// A manifest of layers, about `subject`.
    async fn manifest(&self, layers: &[Layer], kind: &str, subject: Option<&Value>) -> Value {
        let mut config = self.put_blob(b"{}").await;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let mut described = Vec::new();
        for (media_type, data, annotations) in layers {
            let mut layer = self.put_blob(data).await;
            layer["mediaType"] = (*media_type).into();
            layer["annotations"] = annotations.clone();
            described.push(layer);
        }
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described,
        });
        if !kind.is_empty() {
            manifest["artifactType"] = kind.into();
        }
        if let Some(subject) = subject {
            manifest["subject"] = subject.clone();
        }
        manifest
    }

    /// Puts layers where cosign's older format is looked for.
    async fn sign_by_tag(&self, image: &str, layers: &[Layer]) {
        let manifest = self.manifest(layers, "", None).await;
        self.put(&format!("{}.sig", image.replace(':', "-")), MANIFEST, &manifest).await;
    }

    /// Makes one manifest with these layers the only referrer of `subject`.
    async fn refer(&self, subject: &Value, kind: &str, layers: &[Layer]) {
        let descriptor = self.referring(subject, kind, layers).await;
        self.refer_by(subject, &[descriptor]).await;
    }

    /// Puts a manifest with these layers about `subject`, and gives what a list says of it.
    async fn referring(&self, subject: &Value, kind: &str, layers: &[Layer]) -> Value {
        let manifest = self.manifest(layers, kind, Some(subject)).await;
        let name = digest(manifest.to_string());
        let mut descriptor = self.put(&name, MANIFEST, &manifest).await;
        descriptor["artifactType"] = kind.into();
        descriptor
    }

    /// Makes manifests that are there, as described, the only referrers of `subject`.
    async fn refer_by(&self, subject: &Value, descriptors: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors});
        let tag = subject["digest"].as_str().unwrap().replace(':', "-");
        self.put(&tag, INDEX, &index).await;
    }

    /// The descriptor of a manifest that is there.
    async fn described(&self, reference: &str) -> Value {
        let data = self.world.registry.manifest(self.name, reference).await;
        let manifest: Value = serde_json::from_slice(&data).unwrap();
        json!({"mediaType": manifest["mediaType"], "digest": digest(&data), "size": data.len()})
    }

    /// Digest of an image's attestation manifest.
    async fn attestation(&self, tag: &str) -> String {
        let index = self.world.registry.manifest(self.name, tag).await;
        let index: Value = serde_json::from_slice(&index).unwrap();
        let attests =
            |it: &&Value| it["annotations"]["vnd.docker.reference.type"] == "attestation-manifest";
        let found = index["manifests"].as_array().unwrap().iter().find(attests).unwrap();
        found["digest"].as_str().unwrap().to_owned()
    }

    /// What a policy says of an image, by the command line.
    fn judged(&self, tag: &str, rule: &str, files: &[(&str, &str)], flags: &str) -> Ran {
        let policy = policy(rule);
        let dockerfile = format!("FROM {}\n", self.reference(tag));
        let mut all = vec![("Dockerfile", dockerfile.as_str()), ("Dockerfile.rego", &policy)];
        all.extend(files);
        Folder::with(&all).run(&format!("check . {flags}"))
    }
}

fn policy(rule: &str) -> String {
    format!(
        "package docker\ndefault allow := false\nallow if input.local\nallow if {{\n{rule}\n}}\n\
         decision := {{\"allow\": allow}}\n"
    )
}

#[track_caller]
fn check(about: &str, ran: &Ran, code: i32, words: &str) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, Some(code), "{about}: {said}");
    assert!(said.contains(words), "{about}: {words:?} is not in: {said}");
}

/// Somebody's rule about an identity, with a trust root of the organisation's own.
fn by_identity(identity: &str, issuer: &str, root: &str) -> String {
    format!(
        "signed := verify_image_signature(input.image, {{\"identity\": \"{identity}\", \
         \"issuer\": \"{issuer}\", \"trust_root\": \"{root}\"}})\n\
         signed.digest == input.image.checksum"
    )
}

fn layer(kind: &'static str, (data, annotations): (Vec<u8>, impl serde::Serialize)) -> Layer {
    (kind, data, json!(annotations))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_without_a_key() {
    let world = need!(peers::world());
    let (repository, image) = Repository::with_image(world, "signed/keyless").await;
    let forge = Forge::new(40);
    let stranger = Forge::new(41);
    let root = forge.trusted_root().to_string();
    let jane = Who::person("jane@example.com");
    let issuer = jane.issuer().to_owned();
    let leaf = forge.leaf(&jane, 100);
    let late = forge.leaf(&Who { begins: 120, ..jane.clone() }, 100);
    let foreign = stranger.leaf(&jane, 100);
    let else_where = digest(b"another image");
    let judged = |identity: &str, issuer: &str, root_name: &str| {
        let rule = by_identity(identity, issuer, root_name);
        repository.judged("1", &rule, &[("ours.json", &root)], "--trust-root ours=ours.json")
    };

    let simple = |forge: &Forge, leaf: &Leaf, about: &str| layer(SIMPLE, forge.simple(leaf, about));
    let right = simple(&forge, &leaf, &image);
    let mut other_payload = right.clone();
    other_payload.1 =
        String::from_utf8(right.1.clone()).unwrap().replace("app", "evil").into_bytes();
    let mut other_signature = right.clone();
    let elsewhere = simple(&forge, &leaf, &else_where);
    let name = "dev.cosignproject.cosign/signature";
    other_signature.2[name] = elsewhere.2[name].clone();
    let mut no_log = right.clone();
    no_log.2.as_object_mut().unwrap().remove("dev.sigstore.cosign/bundle");
    for (what, layers, code, words) in [
        ("right", vec![right.clone()], 0, ""),
        ("among others", vec![simple(&stranger, &foreign, &image), right.clone()], 0, ""),
        (
            "another authority",
            vec![simple(&stranger, &foreign, &image)],
            1,
            "ours does not vouch for it",
        ),
        ("another image", vec![simple(&forge, &leaf, &else_where)], 1, "about something else"),
        ("another payload", vec![other_payload], 1, "the signature does not match"),
        ("another signature", vec![other_signature], 1, "the signature does not match"),
        (
            "expired certificate",
            vec![simple(&forge, &late, &image)],
            1,
            "certificate is not accepted",
        ),
        ("no log entry", vec![no_log], 1, "the signature has no log entry"),
        ("nothing", vec![(SIMPLE, Vec::new(), json!({}))], 1, "it is not signed"),
        (
            "truncated",
            vec![(SIMPLE, right.1[..9].to_vec(), right.2.clone())],
            1,
            "the signature does not match",
        ),
        ("huge", vec![(SIMPLE, vec![b' '; HUGE], json!({}))], 2, "larger than the limit"),
    ] {
        repository.sign_by_tag(&image, &layers).await;
        check(what, &judged("jane@example.com", &issuer, "ours"), code, words);
    }
    repository.sign_by_tag(&image, &[right]).await;
    // The log's key is withdrawn as of a day before the signature.
    let mut withdrawn = forge.trusted_root();
    withdrawn["tlogs"][0]["publicKey"]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    let rule = by_identity("jane@example.com", &issuer, "ours");
    let files = [("ours.json", withdrawn.to_string())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let revoked = repository.judged("1", &rule, &files, "--trust-root ours=ours.json");
    check("revoked", &revoked, 1, "the transparency log of trust root ours does not vouch for it");
    let mut ended = forge.trusted_root();
    ended["certificateAuthorities"][0]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    let files = [("ours.json", ended.to_string())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let ended = repository.judged("1", &rule, &files, "--trust-root ours=ours.json");
    check("expired root", &ended, 2, "trust root ours expired at 2025-01-01T00:00:00Z");
    let other = judged("john@example.com", &issuer, "ours");
    check("another identity", &other, 1, "it was signed by \"jane@example.com\"");
    let other = judged("jane@example.com", "https://issuer.example.net", "ours");
    check(
        "another issuer",
        &other,
        1,
        "it was signed by \"jane@example.com\" of \"https://accounts",
    );
    let none = "there is no trust root \"theirs\"; known are github, ours, sigstore";
    check("no such root", &judged("jane@example.com", &issuer, "theirs"), 2, none);
    let public = judged("jane@example.com", &issuer, "sigstore");
    check("the public root", &public, 1, "trust root sigstore does not vouch for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_that_refer_to_an_image() {
    let world = need!(peers::world());
    let (repository, image) = Repository::with_image(world, "signed/bundles").await;
    let subject = repository.described("1").await;
    let forge = Forge::new(42);
    let root = forge.trusted_root().to_string();
    let jane = Who::person("jane@example.com");
    let leaf = forge.leaf(&jane, 100);
    let sign = |predicate: &str, digest: &str| {
        forge.attest(&leaf, &about(predicate, digest), Rekor::V1).to_string().into_bytes()
    };
    let right = sign(COSIGN_SIGN, &image);
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(right.clone()).unwrap();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let rule = by_identity("jane@example.com", jane.issuer(), "ours");
    for (what, bundle, code, words) in [
        ("right", right.clone(), 0, ""),
        ("another image", sign(COSIGN_SIGN, &digest(b"x")), 1, "about something else"),
        ("another statement", sign(SLSA, &image), 1, "its predicate type is"),
        ("altered", altered("\"sig\":\"ME", "\"sig\":\"MA"), 1, "the signature does not match"),
        ("truncated", right[..right.len() / 2].to_vec(), 1, "it cannot be read"),
        ("another JSON", b"{}".to_vec(), 1, "it cannot be read"),
        ("empty", Vec::new(), 1, "it is empty"),
        ("huge", vec![b' '; HUGE], 2, "larger than the limit"),
    ] {
        repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle, json!({}))]).await;
        let files = [("ours.json", root.as_str())];
        let ran = repository.judged("1", &rule, &files, "--trust-root ours=ours.json");
        check(what, &ran, code, words);
    }
    // A key needs no log, and no certificate.
    let own = key(9);
    let by_key = forge.attest_by_key(&own, &about(COSIGN_SIGN, &image), None).to_string();
    repository.refer(&subject, BUNDLE, &[(BUNDLE, by_key.into_bytes(), json!({}))]).await;
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let ed25519 = pem("PUBLIC KEY", &ed25519_spki(&ed25519));
    let mismatch = "is not signed by the key in `cosign.pub`: its signature is not valid: the signature \
                    does not match";
    for (what, pem, code, words) in [
        ("own key", public_pem(&own), 0, ""),
        ("wrong", public_pem(&key(8)), 1, mismatch),
        ("another algorithm", ed25519, 1, mismatch),
    ] {
        check(what, &repository.judged("1", BY_KEY, &[("cosign.pub", &pem)], ""), code, words);
    }
    let no_key = repository.judged("1", BY_KEY, &[("cosign.pub", "no key")], "");
    check(
        "no key",
        &no_key,
        2,
        "could not verify input.image by `cosign.pub`: the key file holds no",
    );
    let logged = BY_KEY
        .replace("\"key\": \"cosign.pub\"", "\"key\": \"cosign.pub\", \"trust_root\": \"ours\"");
    let files = [("cosign.pub", public_pem(&own)), ("ours.json", root)];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let ran = repository.judged("1", &logged, &files, "--trust-root ours=ours.json");
    check("a key whose use must be logged", &ran, 1, "it cannot be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_are_signed_by() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/attested" };
    let export = ",oci-mediatypes=true,oci-artifact=true";
    repository.build("1", &["attest:provenance=mode=max,version=v1"], export);
    let forge = Forge::new(43);
    let root = forge.trusted_root().to_string();
    let attestation = repository.attestation("1").await;
    let subject = repository.described(&attestation).await;
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let bundle = |about_digest: &str| {
        let statement = about(COSIGN_SIGN, about_digest);
        forge.attest(&leaf, &statement, Rekor::V1).to_string().into_bytes()
    };
    let rule = "some signature in input.image.signatures\n\
                signature.signer.subjectAlternativeName == \"jane@example.com\"\n\
                signature.type in {\"bundle-v0.3\", \"simplesigning-v1\"}\n\
                count(signature.timestamps) > 0";
    let judged = |flags: &str| repository.judged("1", rule, &[("root.json", &root)], flags);
    let ours = "--trust-root sigstore=root.json";
    check("unsigned", &judged(ours), 1, "the image's attestations are not signed");
    let simple = |about: &str| layer(SIMPLE, forge.simple(&leaf, about));
    let cosign = "application/vnd.dev.cosign.artifact.sig.v1+json";
    let image = repository.digest("1").await;
    for (what, kind, layers, code, words) in [
        ("bundle", BUNDLE, vec![(BUNDLE, bundle(&attestation), json!({}))], 0, ""),
        ("simple signing", cosign, vec![simple(&attestation)], 0, ""),
        (
            "of the image",
            BUNDLE,
            vec![(BUNDLE, bundle(&image), json!({}))],
            1,
            "about something else",
        ),
        ("another's payload", cosign, vec![simple(&image)], 1, "about something else"),
        ("garbage", BUNDLE, vec![(BUNDLE, b"garbage".to_vec(), json!({}))], 1, "cannot be read"),
        ("no layer", BUNDLE, vec![], 1, "is empty"),
    ] {
        repository.refer(&subject, kind, &layers).await;
        check(what, &judged(ours), code, words);
    }
    repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle(&attestation), json!({}))]).await;
    let unknown = "trust root sigstore does not vouch for it";
    check("by a root that does not know them", &judged(""), 1, unknown);
}
