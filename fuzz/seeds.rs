#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool that cannot go on fails")]
//! Seeds for the fuzz targets, written to `fuzz/corpus`: what throwaway parties of our own, gpg and
//! ssh-keygen make. From nothing, a fuzzer does not leave the parser of JSON within minutes.

#[path = "../integration-tests/forge/mod.rs"]
mod forge;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge::{Forge, Rekor, Who, about, digest, key, public_pem, sha256, sign, spki, statement};
use serde_json::{Value, json};

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
    seed(
        "trust_root",
        "updated",
        json!({
            "mediaType": "application/vnd.buildgate.trust-root.v2+json",
            "source": "https://tuf.example.com/",
            "fetched": "2025-06-01T00:00:00Z", "expires": "2099-01-01T00:00:00Z",
            "vouched": {
                "versions": {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1},
                "root": {"signed": {}, "signatures": []},
            },
            "trustedRoot": root,
        })
        .to_string(),
    );
    seed("public_key", "p256", public_pem(&key(50)));
    seed("public_key", "der", spki(&key(50)));
    chains(&forge);
    github(&forge);
    timestamps(&forge);
    material(&forge);
    updates(&forge);
    registry();
    openpgp();
    ssh();
}

fn timestamps(forge: &Forge) {
    let slsa = statement(SLSA, ARTIFACT);
    let mut bundle = forge.attest_by_key(&key(50), &slsa, Some(Rekor::None));
    let times = &mut bundle["verificationMaterial"]["timestampVerificationData"];
    let token = times["rfc3161Timestamps"][0]["signedTimestamp"].take();
    let token = STANDARD.decode(token.as_str().unwrap()).unwrap();
    times["rfc3161Timestamps"][0]["signedTimestamp"] = "@token".into();
    let (pem, root) = (public_pem(&key(50)), forge.trusted_root().to_string());
    let bundle = bundle.to_string();
    let parts = [pem.as_bytes(), root.as_bytes(), bundle.as_bytes(), &token];
    seed("timestamp", "rfc3161", parts.join(SEPARATOR.as_bytes()));
}

/// The value in the place of a name, which takes its place.
fn taken(place: &mut Value, name: &str) -> Vec<u8> {
    let text = place.take();
    *place = name.into();
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}

fn material(forge: &Forge) {
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let slsa = statement(SLSA, ARTIFACT);
    let root = forge.trusted_root().to_string();
    for (name, rekor) in [("rekor1", Rekor::V1), ("rekor2", Rekor::V2), ("timestamp", Rekor::None)]
    {
        let mut bundle = forge.attest(&leaf, &slsa, rekor);
        let payload = taken(&mut bundle["dsseEnvelope"]["payload"], "@payload");
        let held = &mut bundle["verificationMaterial"];
        let certificate = taken(&mut held["certificate"]["rawBytes"], "@certificate");
        let body = match rekor {
            Rekor::None => Vec::new(),
            Rekor::V1 | Rekor::V2 => {
                taken(&mut held["tlogEntries"][0]["canonicalizedBody"], "@body")
            }
        };
        let bundle = bundle.to_string();
        let parts = [root.as_bytes(), bundle.as_bytes(), &certificate, &body, &payload];
        seed("material", name, parts.join(SEPARATOR.as_bytes()));
    }
}

/// The octets of an armoured SSH signature.
fn unarmoured(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let inner: String = text.lines().filter(|it| !it.starts_with('-')).collect();
    STANDARD.decode(inner).unwrap_or_default()
}

/// The commit that is signed in the seeds of `blob`, as that target makes it.
const COMMIT: &str = "tree 0000000000000000000000000000000000000000000000000000000000000000\n\
                      author A <a@b.c> 1861920000 +0000\ncommitter A <a@b.c> 1861920000 +0000\n";
const MESSAGE: &str = "\nmessage\n";

/// What TUF signs: sorted names, no blanks, and in strings only `"` and `\` escaped.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let fields =
                sorted.iter().map(|(name, field)| format!("\"{name}\":{}", canonical(field)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::String(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Metadata of TUF, signed by these keys.
fn metadata(kind: &str, version: u64, content: Value, signers: &[u8]) -> String {
    let mut signed = json!({
        "_type": kind, "spec_version": "1.0.0", "version": version,
        "expires": "2099-01-01T00:00:00Z",
    });
    signed.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
    let text = canonical(&signed);
    let signature = |seed: &u8| json!({"keyid": seed.to_string(), "sig": hex::encode(sign(&key(*seed), text.as_bytes()))});
    let signatures: Vec<Value> = signers.iter().map(signature).collect();
    json!({"signed": signed, "signatures": signatures}).to_string()
}

fn updates(forge: &Forge) {
    let root = |version, seed: u8, signers: &[u8]| {
        let role = json!({"keyids": [seed.to_string()], "threshold": 1});
        let public = public_pem(&key(seed));
        let content = json!({
            "consistent_snapshot": false,
            "keys": {seed.to_string(): {
                "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": public},
            }},
            "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
        });
        metadata("root", version, content, signers)
    };
    let pins = |name: &str, content: &str| {
        let hashes = json!({"sha256": hex::encode(sha256(content))});
        json!({"meta": {name: {"version": 1, "length": content.len(), "hashes": hashes}}})
    };
    let target = forge.trusted_root().to_string();
    let hashes = json!({"sha256": hex::encode(sha256(&target))});
    let listed = json!({"targets": {"trusted_root.json": {
        "length": target.len(), "hashes": hashes,
    }}});
    for (name, next, signer) in [("plain", None, 60), ("rotated", Some(61), 61)] {
        let first = root(1, 60, &[60]);
        let next = next.map(|it| root(2, it, &[60, it])).unwrap_or_default();
        let targets = metadata("targets", 1, listed.clone(), &[signer]);
        let snapshot = metadata("snapshot", 1, pins("targets.json", &targets), &[signer]);
        let timestamp = metadata("timestamp", 1, pins("snapshot.json", &snapshot), &[signer]);
        let before = json!({
            "mediaType": "application/vnd.buildgate.trust-root.v2+json",
            "source": "https://tuf.example.com/",
            "fetched": "2025-06-01T00:00:00Z", "expires": "2099-01-01T00:00:00Z",
            "vouched": {
                "versions": {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1},
                "root": serde_json::from_str::<Value>(&first).unwrap(),
            },
            "trustedRoot": forge.trusted_root(),
        })
        .to_string();
        let parts = [&first, &next, &timestamp, &snapshot, &targets, &target, &before];
        seed("trust_update", name, parts.map(String::as_str).join(SEPARATOR));
    }
}

fn registry() {
    let index = "application/vnd.oci.image.index.v1+json";
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let (config, empty) = ("application/vnd.oci.image.config.v1+json", digest(b"{}"));
    let described = json!({
        "mediaType": manifest, "digest": empty, "size": 2, "artifactType": config,
        "platform": {"os": "linux", "architecture": "arm64", "variant": "v8", "os.features": []},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    });
    let of_index = json!({"schemaVersion": 2, "mediaType": index, "manifests": [described]});
    let of_list = json!({"schemaVersion": 2, "mediaType": list, "manifests": [described]});
    let blob = json!({"mediaType": config, "digest": empty, "size": 2});
    let of_image =
        json!({"schemaVersion": 2, "mediaType": manifest, "config": blob, "layers": [blob]});
    let token = json!({"token": "t", "access_token": "u", "expires_in": 300});
    for (name, head, body) in [
        ("index", index, of_index.clone()),
        ("list", list, of_list),
        ("manifest", manifest, of_image.clone()),
        ("untyped", "application/json; charset=utf-8", of_image),
        ("page", "</v2/app/referrers/sha256:0?n=2>; rel=\"next\"", of_index),
        (
            "bearer",
            "Bearer realm=\"https://a.example.com/token\",service=\"s\",scope=\"x\"",
            token.clone(),
        ),
        ("basic", "Negotiate, Basic realm=\"a \\\"b\\\"\"", token),
    ] {
        seed("registry", name, [head, &body.to_string()].join(SEPARATOR));
    }
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
            let commit = home.path().join("commit");
            std::fs::write(&commit, format!("{COMMIT}{MESSAGE}")).unwrap();
            let commit = commit.to_str().unwrap();
            let packet = gpg(&["-u", algorithm, "-o", "-", "--detach-sign", commit]);
            let parts = [&keys[..], &packet, MESSAGE.as_bytes()].join(SEPARATOR.as_bytes());
            seed("blob", &format!("{algorithm}-{name}"), &parts);
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
        let commit = home.path().join("commit");
        std::fs::write(&commit, format!("{COMMIT}{MESSAGE}")).unwrap();
        let mut sign = Command::new("ssh-keygen");
        output(sign.args(["-q", "-Y", "sign", "-n", "git", "-f"]).args([&key, &commit]));
        let blob = unarmoured(&std::fs::read(commit.with_extension("sig")).unwrap_or_default());
        let _ = std::fs::remove_file(commit.with_extension("sig"));
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap_or_default();
        let signature = std::fs::read_to_string(content.with_extension("sig")).unwrap_or_default();
        let _ = std::fs::remove_file(content.with_extension("sig"));
        let allowed = format!("a@b.c namespaces=\"git\",valid-after=\"20200101\" {public}");
        seed("allowed_signers", &format!("{kind}.pub"), &public);
        let other =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";
        let more =
            format!("# keys\n*@b.c,!x@b.c valid-before=\"20300101Z\" {other} x\n\n{allowed}\n");
        seed("allowed_signers", kind, more);
        seed("git_signature", kind, [&allowed, &signature, "\nmessage\n"].join(SEPARATOR));
        let parts = [allowed.as_bytes(), &blob, MESSAGE.as_bytes()].join(SEPARATOR.as_bytes());
        seed("blob", kind, parts);
    }
}
