#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool that cannot go on fails")]
//! Seeds for the fuzz targets, written to `fuzz/corpus`: what throwaway parties of our own, gpg and
//! ssh-keygen make. From nothing, a fuzzer does not leave the parser of JSON within minutes.

#[path = "../integration-tests/forge/mod.rs"]
mod forge;

use std::path::Path;
use std::process::{Command, Stdio};

use forge::{Forge, Rekor, Who, about, digest, key, public_pem, spki, statement};
use serde_json::json;

const SLSA: &str = "https://slsa.dev/provenance/v1";
const ARTIFACT: &[u8] = b"a tarball";
/// What parts of one input stand between.
const SEPARATOR: &str = "\n--8<--\n";

fn seed(target: &str, name: &str, content: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), content).unwrap();
    println!("corpus/{target}/{name}");
}

fn main() {
    let forge = Forge::new(10);
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let slsa = statement(SLSA, ARTIFACT);
    for (name, bundle) in [
        ("rekor1", forge.attest(&leaf, &slsa, Rekor::V1)),
        ("rekor2", forge.attest(&leaf, &slsa, Rekor::V2)),
        ("timestamp", forge.attest(&leaf, &slsa, Rekor::None)),
        ("file", forge.sign_file(&leaf, ARTIFACT, Rekor::V1)),
        ("file2", forge.sign_file(&leaf, ARTIFACT, Rekor::V2)),
        ("key", forge.attest_by_key(&key(50), &slsa, None)),
        ("key-logged", forge.attest_by_key(&key(50), &slsa, Some(Rekor::V1))),
    ] {
        seed("bundle", name, bundle.to_string());
    }
    let nobody = format!("sha256:{}", "0".repeat(64));
    let keyed = forge.simple_by_key(&key(50), &nobody, true);
    for (name, (payload, annotations)) in
        [("keyless", forge.simple(&leaf, &nobody)), ("key", keyed)]
    {
        let mut parts = payload;
        for name in [
            "dev.cosignproject.cosign/signature",
            "dev.sigstore.cosign/certificate",
            "dev.sigstore.cosign/chain",
            "dev.sigstore.cosign/bundle",
            "dev.sigstore.cosign/rfc3161timestamp",
        ] {
            parts.push(0);
            parts.extend(annotations.get(name).map_or("", String::as_str).as_bytes());
        }
        seed("simple_signing", name, parts);
    }
    let root = forge.trusted_root();
    seed("trust_root", "plain", root.to_string());
    seed("trust_root", "updated", json!({
        "mediaType": "application/vnd.buildgate.trust-root.v2+json",
        "source": "https://tuf.example.com/",
        "fetched": "2025-06-01T00:00:00Z", "expires": "2099-01-01T00:00:00Z",
        "vouched": {
            "versions": {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1},
            "root": {"signed": {}, "signatures": []},
        },
        "trustedRoot": root,
    }).to_string());
    seed("public_key", "p256", public_pem(&key(50)));
    seed("public_key", "der", spki(&key(50)));
    chains(&forge);
    github(&forge);
    openpgp();
    ssh();
}

fn chains(forge: &Forge) {
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let descriptor = |name: &str| json!({"mediaType": manifest, "digest": format!("@{name}"), "size": format!("#{name}")});
    let mut listed = descriptor("attestation");
    listed["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": "@image",
    });
    let statement = json!({
        "mediaType": "application/vnd.in-toto+json", "digest": digest(b"{}"), "size": 2,
        "annotations": {"in-toto.io/predicate-type": SLSA},
    });
    let mut hardened = descriptor("image");
    hardened["annotations"] = json!({"com.docker.dhi.build.id": "7"});
    let index = json!({"manifests": [descriptor("image"), listed]});
    let dhi = json!({
        "manifests": [hardened], "annotations": {"org.opencontainers.image.title": "dhi/app"},
    });
    let attestation = json!({"layers": [statement], "subject": descriptor("image")});
    let signature = json!({
        "artifactType": kind, "subject": descriptor("attestation"),
        "layers": [{"mediaType": kind, "digest": "@content", "size": "#content"}],
    });
    let content = forge.attest(&leaf, &about(SLSA, &digest(ARTIFACT)), Rekor::V1);
    for (name, index) in [("listed", index), ("hardened", dhi)] {
        let parts = [&index, &attestation, &signature, &content, &json!({"layers": []})];
        let parts: Vec<String> = parts.map(|it| it.to_string()).to_vec();
        seed("chain", name, parts.join(SEPARATOR));
    }
}

fn github(forge: &Forge) {
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let checksum = format!("sha256:{}", "a".repeat(64));
    let bundle = forge.attest(&leaf, &about(SLSA, &checksum), Rekor::V1);
    let list = json!({"attestations": [{"bundle": bundle, "repository_id": 1}]});
    seed("github", "inline", list.to_string());
    let stored = "https://storage.example.com/bundle.json.sn";
    let list = json!({"attestations": [{"bundle": null, "bundle_url": stored}]}).to_string();
    let packed = snap::raw::Encoder::new().compress_vec(bundle.to_string().as_bytes()).unwrap();
    seed("github", "stored", [list.as_bytes(), SEPARATOR.as_bytes(), &packed].concat());
}

/// What a program prints; nothing where it is not installed.
fn output(command: &mut Command) -> Vec<u8> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    out.map(|it| it.stdout).unwrap_or_default()
}

fn openpgp() {
    let home = tempfile::tempdir().unwrap();
    let content = home.path().join("content");
    std::fs::write(&content, ARTIFACT).unwrap();
    let gpg = |args: &[&str]| {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(home.path()).args(["--batch", "--yes", "--quiet"]);
        gpg.args(["--pinentry-mode", "loopback", "--passphrase", ""]);
        output(gpg.args(["--faked-system-time", "20290101T000000!"]).args(args))
    };
    for algorithm in ["ed25519", "nistp256", "rsa2048"] {
        gpg(&["--quick-generate-key", algorithm, algorithm, "sign,cert", "never"]);
        let path = content.to_str().unwrap();
        let signature = gpg(&["--armor", "-u", algorithm, "-o", "-", "--detach-sign", path]);
        for (name, keys) in [
            ("armored", gpg(&["--armor", "--export", algorithm])),
            ("binary", gpg(&["--export", algorithm])),
        ] {
            let parts = [&keys[..], &signature, ARTIFACT].join(SEPARATOR.as_bytes());
            seed("keys", &format!("{algorithm}-{name}"), &parts);
            seed("git_signature", &format!("{algorithm}-{name}"), &parts);
        }
    }
    output(Command::new("gpgconf").arg("--homedir").arg(home.path()).args(["--kill", "all"]));
}

fn ssh() {
    let home = tempfile::tempdir().unwrap();
    let content = home.path().join("content");
    std::fs::write(&content, ARTIFACT).unwrap();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = home.path().join(kind);
        output(Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(&key));
        output(
            Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", "git", "-f"])
                .args([&key, &content]),
        );
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap_or_default();
        let signature = std::fs::read_to_string(content.with_extension("sig")).unwrap_or_default();
        let _ = std::fs::remove_file(content.with_extension("sig"));
        let allowed = format!("a@b.c namespaces=\"git\",valid-after=\"20200101\" {public}");
        seed("git_signature", kind, [&allowed, &signature, "\nmessage\n"].join(SEPARATOR));
    }
}
