#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]
//! What one verification costs, by kind of signature; and what it costs again, when it is known.

#[path = "../integration-tests/forge/mod.rs"]
mod forge;

use std::hint::black_box;
use std::process::{Command, Stdio};

use buildgate::input::gitobject::{GitObject, Kind};
use buildgate::meta::{AttestationBlob, AttestationChain, ChecksumResponse};
use buildgate::verify::chain::{BUNDLE, PROVENANCE, verify_chain};
use buildgate::verify::sigstore::{
    Artifact, Log, PublicKey, Signer, SimpleSigning, TrustRoot, TrustRoots, VerificationCache,
    verify_bundle, verify_simple_signing,
};
use buildgate::verify::{DetachedSignature, KeyFile, ObjectFormat, Trust, verify_git};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forge::{AT, Forge, Rekor, Who, about, digest, key, public_pem, statement};
use serde_json::json;
use sha2::{Digest as _, Sha512};

const ARTIFACT: &[u8] = b"a tarball";
const NOW: i64 = AT + 86_400;

fn bundles(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let statement = statement("https://slsa.dev/provenance/v1", ARTIFACT);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let keyless = Signer::Keyless(&root);
    let artifact = digest(ARTIFACT);
    let artifact = Artifact::Digest(&artifact);
    for (name, bundle, by) in [
        ("bundle, Rekor v1", forge.attest(&leaf, &statement, Rekor::V1), keyless),
        ("bundle, Rekor v2", forge.attest(&leaf, &statement, Rekor::V2), keyless),
        (
            "bundle by key, logged",
            forge.attest_by_key(&key(50), &statement, Some(Rekor::V1)),
            Signer::Key(&ours, Log::Required(&root)),
        ),
        (
            "bundle by key alone",
            forge.attest_by_key(&key(50), &statement, None),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let bundle = bundle.to_string();
        c.bench_function(&format!("verify: {name}"), |b| {
            b.iter(|| black_box(verify_bundle(bundle.as_bytes(), artifact, by, NOW).unwrap()));
        });
        let cache = VerificationCache::default();
        c.bench_function(&format!("verify again: {name}"), |b| {
            b.iter(|| black_box(cache.bundle(bundle.as_bytes(), artifact, by, NOW).unwrap()));
        });
    }
    c.bench_function("read a trust root", |b| {
        b.iter(|| black_box(TrustRoot::parse("sigstore", json.as_bytes()).unwrap()));
    });
}

fn simple_signing(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let manifest = digest(b"a manifest");
    for (name, (payload, annotations), by) in [
        ("simple signing", forge.simple(&leaf, &manifest), Signer::Keyless(&root)),
        (
            "simple signing by key alone",
            forge.simple_by_key(&key(50), &manifest, false),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let signed = SimpleSigning { payload: &payload, annotations: &annotations };
        c.bench_function(&format!("verify: {name}"), |b| {
            b.iter(|| black_box(verify_simple_signing(&signed, &manifest, by, NOW).unwrap()));
        });
        let cache = VerificationCache::default();
        c.bench_function(&format!("verify again: {name}"), |b| {
            b.iter(|| black_box(cache.simple_signing(&signed, &manifest, by, NOW).unwrap()));
        });
    }
}

/// A chain of attestations with one signature.
fn chain(forge: &Forge) -> AttestationChain {
    let mut chain = AttestationChain::default();
    let mut put = |json: serde_json::Value, media_type: &str| {
        let data = json.to_string().into_bytes();
        let (name, size) = (digest(&data), data.len());
        let blob = AttestationBlob { data: data.into(), ..AttestationBlob::default() };
        chain.blobs.insert(name.clone(), blob);
        json!({"mediaType": media_type, "digest": name, "size": size})
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let image = put(json!({"layers": []}), manifest);
    let statement = json!({
        "mediaType": "application/vnd.in-toto+json", "digest": digest(b"{}"), "size": 2,
        "annotations": {"in-toto.io/predicate-type": PROVENANCE[0]},
    });
    let attestation = put(json!({"layers": [statement], "subject": image}), manifest);
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let about = about(PROVENANCE[0], attestation["digest"].as_str().unwrap());
    let layer = put(forge.attest(&leaf, &about, Rekor::V1), BUNDLE);
    let signature = json!({"artifactType": BUNDLE, "layers": [layer], "subject": attestation});
    let signature = put(signature, manifest);
    let mut listed = attestation.clone();
    listed["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    });
    let index = put(json!({"manifests": [image, listed]}), manifest);
    let text = |it: &serde_json::Value| it["digest"].as_str().unwrap().to_owned();
    chain.root = text(&index);
    chain.image_manifest = text(&image);
    chain.attestation_manifest = text(&attestation);
    chain.signature_manifests = vec![text(&signature)];
    chain
}

fn chains(c: &mut Criterion) {
    let forge = Forge::new(10);
    let chain = chain(&forge);
    let trust = || {
        let root = forge.trusted_root().to_string();
        let mut roots = TrustRoots::embedded().unwrap();
        roots.insert(TrustRoot::parse("sigstore", root.as_bytes()).unwrap()).unwrap();
        Trust::new(roots)
    };
    let verify = |trust: &Trust| {
        let signers = verify_chain(&chain, trust, NOW).unwrap();
        assert_eq!(signers.verified.len(), 1);
    };
    c.bench_function("verify: chain of attestations", |b| {
        b.iter_batched(trust, |trust| verify(&trust), BatchSize::PerIteration);
    });
    let known = trust();
    c.bench_function("verify again: chain of attestations", |b| b.iter(|| verify(&known)));
}

fn run(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn openpgp(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, ARTIFACT).unwrap();
    let gpg = |args: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(home.path()).args(["--batch", "--yes", "--quiet"]);
        run(gpg.args(["--pinentry-mode", "loopback", "--passphrase", ""]).args(args))
    };
    let now = jiff::Timestamp::now().as_second();
    for algorithm in ["ed25519", "rsa2048"] {
        gpg(&["--quick-generate-key", algorithm, algorithm, "sign,cert", "never"]);
        let (user, path) = (["-u", algorithm], file.to_str().unwrap());
        let signature =
            gpg(&[&user[..], &["--digest-algo", "SHA512", "-o", "-", "--detach-sign", path]]
                .concat());
        let keys = match KeyFile::parse(&gpg(&["--export", algorithm])).unwrap() {
            KeyFile::OpenPgp(keys) => Some(keys),
            KeyFile::Ssh(_) => None,
        };
        let keys = keys.unwrap();
        let signature = DetachedSignature::parse(&signature).unwrap();
        c.bench_function(&format!("verify: OpenPGP {algorithm}"), |b| {
            b.iter(|| black_box(signature.verify(ARTIFACT, &keys, now).unwrap()));
        });
        let request = signature.checksum_request().unwrap();
        let hash = Sha512::new().chain_update(ARTIFACT).chain_update(&request.suffix).finalize();
        let digest = format!("sha512:{}", hex::encode(hash));
        let response = ChecksumResponse { digest, suffix: request.suffix };
        c.bench_function(&format!("verify: OpenPGP {algorithm} by the daemon's digest"), |b| {
            b.iter(|| black_box(signature.verify_digest(&response, &keys, now).unwrap()));
        });
    }
    run(Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]));
}

fn ssh(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let (head, tail) = (
        "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
                         author A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n",
        "\nmessage\n",
    );
    for kind in ["ed25519", "rsa"] {
        let (key, commit) = (home.path().join(kind), home.path().join(format!("{kind}.commit")));
        std::fs::write(&commit, format!("{head}{tail}")).unwrap();
        run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key));
        let mut sign = Command::new("ssh-keygen");
        run(sign.args(["-q", "-Y", "sign", "-n", "git", "-f"]).args([&key, &commit]));
        let signature = std::fs::read_to_string(home.path().join(format!("{kind}.commit.sig")));
        let signature = signature.unwrap().trim_end().replace('\n', "\n ");
        let raw = format!("{head}gpgsig {signature}\n{tail}");
        let object = GitObject::parse(Kind::Commit, raw.into()).unwrap();
        let keys = KeyFile::parse(&std::fs::read(key.with_extension("pub")).unwrap()).unwrap();
        c.bench_function(&format!("verify: git commit, SSH {kind}"), |b| {
            b.iter(|| black_box(verify_git(&object, ObjectFormat::Sha1, &keys, NOW).unwrap()));
        });
    }
}

criterion_group!(benches, bundles, simple_signing, chains, openpgp, ssh);
criterion_main!(benches);
