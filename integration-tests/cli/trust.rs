//! `trust`: what is trusted, and a refresh from a TUF repository of our own over HTTP on loopback.

mod interrupted;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Folder;
use crate::forge::{Forge, key, public_pem, sha256, sign};
use crate::peers::{HttpServer, Response};

const LATE: &str = "2099-01-01T00:00:00Z";
const OVER: &str = "2020-01-01T00:00:00Z";

/// What becomes of a file.
type Spoil = fn(&mut Vec<u8>);

/// What a repository says, and who signs it.
struct Repository {
    key: u8,
    root_expires: &'static str,
    targets_expires: &'static str,
    timestamp_expires: &'static str,
    target: Vec<u8>,
    served: Option<Vec<u8>>,
    rotated_to: Option<u8>,
    /// Versions of the timestamp, the snapshot and the targets.
    versions: [u64; 3],
    snapshot_expires: &'static str,
    /// How many of keys 60, 70 and 71 must sign the targets, and which do; else the one key does.
    shared: Option<(u64, &'static [u8])>,
    /// What the keys are said to sign by.
    scheme: &'static str,
    /// What becomes of a file on its way.
    spoiled: Option<(&'static str, Spoil)>,
}

impl Repository {
    fn new() -> Self {
        Self {
            key: 60,
            root_expires: LATE,
            targets_expires: "2098-06-01T00:00:00Z",
            timestamp_expires: LATE,
            target: Forge::new(10).trusted_root().to_string().into_bytes(),
            served: None,
            rotated_to: None,
            versions: [1; 3],
            snapshot_expires: LATE,
            shared: None,
            scheme: "ecdsa-sha2-nistp256",
            spoiled: None,
        }
    }

    /// The first root, and every file by its path.
    fn files(&self) -> (Vec<u8>, BTreeMap<String, Vec<u8>>) {
        let root = self.root(1, self.key, &[self.key]);
        let mut files = BTreeMap::new();
        let mut signer = self.key;
        if let Some(next) = self.rotated_to {
            files.insert("/2.root.json".into(), self.root(2, next, &[self.key, next]));
            signer = next;
        }
        let alone = [signer];
        let signers = self.shared.map_or(&alone[..], |(_, signers)| signers);
        let [of_timestamp, of_snapshot, of_targets] = self.versions;
        let targets = (self.targets_expires, of_targets);
        let targets = signed(
            "targets",
            targets,
            signers,
            json!({"targets": {
                "trusted_root.json": {
                    "length": self.target.len(), "hashes": {"sha256": hex::encode(sha256(&self.target))},
                },
            }}),
        );
        let pins = |name: &str, version: u64, bytes: &[u8]| {
            let hashes = json!({"sha256": hex::encode(sha256(bytes))});
            json!({"meta": {name: {"version": version, "length": bytes.len(), "hashes": hashes}}})
        };
        let pinned = pins("targets.json", of_targets, &targets);
        let snapshot = signed("snapshot", (self.snapshot_expires, of_snapshot), &alone, pinned);
        let pinned = pins("snapshot.json", of_snapshot, &snapshot);
        let timestamp = signed("timestamp", (self.timestamp_expires, of_timestamp), &alone, pinned);
        let served = self.served.clone().unwrap_or_else(|| self.target.clone());
        files.extend([
            ("/timestamp.json".to_owned(), timestamp),
            ("/snapshot.json".to_owned(), snapshot),
            ("/targets.json".to_owned(), targets),
            ("/targets/trusted_root.json".to_owned(), served),
        ]);
        if let Some((name, spoil)) = self.spoiled {
            spoil(files.get_mut(name).unwrap());
        }
        (root, files)
    }

    fn root(&self, version: u64, seed: u8, signers: &[u8]) -> Vec<u8> {
        let id = seed.to_string();
        let role = json!({"keyids": [id], "threshold": 1});
        let key_of = |seed: u8| {
            let public = public_pem(&key(seed));
            let (kind, scheme) = match self.scheme {
                scheme @ "ecdsa-sha2-nistp256" => ("ecdsa", scheme),
                scheme => (scheme, scheme),
            };
            json!({"keytype": kind, "scheme": scheme, "keyval": {"public": public}})
        };
        let mut keys = json!({id.as_str(): key_of(seed)});
        let mut of_targets = role.clone();
        if let Some((threshold, _)) = self.shared {
            of_targets = json!({"keyids": [id, "70", "71"], "threshold": threshold});
            keys["70"] = key_of(70);
            keys["71"] = key_of(71);
        }
        let signed = json!({
            "_type": "root", "spec_version": "1.0.0", "version": version,
            "expires": self.root_expires, "consistent_snapshot": false,
            "keys": keys,
            "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": of_targets},
        });
        envelope(&signed, signers)
    }
}

fn signed(kind: &str, (expires, version): (&str, u64), signers: &[u8], content: Value) -> Vec<u8> {
    let mut signed = json!({
        "_type": kind, "spec_version": "1.0.0", "version": version, "expires": expires,
    });
    let content = content.as_object().unwrap().clone();
    signed.as_object_mut().unwrap().extend(content);
    envelope(&signed, signers)
}

fn envelope(signed: &Value, signers: &[u8]) -> Vec<u8> {
    let mut text = String::new();
    canonical(signed, &mut text);
    let signature = |seed: &u8| json!({"keyid": seed.to_string(), "sig": hex::encode(sign(&key(*seed), text.as_bytes()))});
    let signatures: Vec<Value> = signers.iter().map(signature).collect();
    json!({"signed": signed, "signatures": signatures}).to_string().into_bytes()
}

/// What TUF signs: sorted names, no blanks, and in strings only `"` and `\` escaped.
fn canonical(value: &Value, into: &mut String) {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            into.push('{');
            for (index, (name, field)) in sorted.into_iter().enumerate() {
                into.push_str(if index > 0 { "," } else { "" });
                canonical(&json!(name), into);
                into.push(':');
                canonical(field, into);
            }
            into.push('}');
        }
        Value::Array(items) => {
            into.push('[');
            for (index, item) in items.iter().enumerate() {
                into.push_str(if index > 0 { "," } else { "" });
                canonical(item, into);
            }
            into.push(']');
        }
        Value::String(text) => {
            into.push('"');
            into.push_str(&text.replace('\\', "\\\\").replace('"', "\\\""));
            into.push('"');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => into.push_str(&value.to_string()),
    }
}

/// Serves a repository, and updates `sigstore.json` from it by the root of `trusted`.
fn update(folder: &Folder, served: &Repository, trusted: &Repository) -> super::Ran {
    let (_, files) = served.files();
    let (root, _) = trusted.files();
    std::fs::write(folder.path().join("root.json"), root).unwrap();
    let server = HttpServer::start(move |request| match files.get(&request.path) {
        Some(body) => Response::ok(body.clone()),
        None => Response::status(404),
    });
    let mirror = server.url("/");
    folder.run(&format!("trust update --mirror {mirror} --root root.json --output sigstore.json"))
}

#[test]
fn a_refreshed_root_is_used_until_it_expires() {
    let folder = Folder::with(&[]);
    let right = Repository::new();
    let ran = update(&folder, &right, &right);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let file: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("sigstore.json")).unwrap())
            .unwrap();
    assert_eq!(file["expires"], "2098-06-01T00:00:00Z", "the earlier of root and targets");
    let target: Value = serde_json::from_slice(&right.target).unwrap();
    assert_eq!(file["trustedRoot"], target);

    let ran = folder.run("trust show --trust-root sigstore.json");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("https://fulcio.example.com"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("https://fulcio.sigstore.dev"), "the file takes its place");
    let ran = folder.run("trust show --trust-root ours=sigstore.json");
    assert!(ran.stdout.contains("https://fulcio.sigstore.dev"), "{}", ran.stdout);

    let mut expired = file.clone();
    expired["expires"] = OVER.into();
    std::fs::write(folder.path().join("expired.json"), expired.to_string()).unwrap();
    let ran = folder.run("trust show --trust-root expired.json");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stdout.contains("EXPIRED") && ran.stderr.contains("trust update"),
        "{}",
        ran.stderr
    );

    let rotated = Repository { rotated_to: Some(61), ..Repository::new() };
    let ran = update(&folder, &rotated, &right);
    assert_eq!(ran.code, Some(0), "keys that their predecessors signed: {}", ran.stderr);
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

fn spoiled(name: &'static str, spoil: Spoil) -> Repository {
    Repository { spoiled: Some((name, spoil)), ..Repository::new() }
}

fn altered(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(std::mem::take(bytes)).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

/// A second root that only its own key has signed.
fn unsigned_rotation() -> Repository {
    let strip = |it: &mut Vec<u8>| {
        let mut root: Value = serde_json::from_slice(it).unwrap();
        root["signatures"].as_array_mut().unwrap().remove(0);
        *it = root.to_string().into_bytes();
    };
    Repository { rotated_to: Some(61), ..spoiled("/2.root.json", strip) }
}

#[test]
fn what_was_replaced_does_not_come_back() {
    let right = Repository::new;
    let at = |versions| Repository { versions, ..right() };
    let folder = Folder::with(&[]);
    assert_eq!(update(&folder, &at([3, 3, 3]), &right()).code, Some(0));
    let file = || std::fs::read_to_string(folder.path().join("sigstore.json")).unwrap();
    let first = file();
    for (what, versions, words) in [
        ("timestamp", [2, 3, 3], "timestamp of version 2, and version 3 was there before"),
        ("snapshot", [4, 2, 3], "snapshot of version 2"),
        ("targets", [4, 4, 2], "targets of version 2"),
    ] {
        let ran = update(&folder, &at(versions), &right());
        assert_eq!(ran.code, Some(2), "{what}: {}", ran.stdout);
        assert!(ran.stderr.contains(words), "{what}: {}", ran.stderr);
        assert_eq!(file(), first, "{what}");
    }
    for versions in [[3, 3, 3], [4, 3, 3], [5, 4, 4]] {
        let ran = update(&folder, &at(versions), &right());
        assert_eq!(ran.code, Some(0), "{versions:?}: {}", ran.stderr);
    }
    // Keys that were replaced sign nothing any more, though the first root still names them.
    let rotated = Repository { rotated_to: Some(61), ..at([5, 4, 4]) };
    let ran = update(&folder, &rotated, &right());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let before = file();
    let ran = update(&folder, &at([6, 5, 5]), &right());
    assert_eq!(ran.code, Some(2), "the old key: {}", ran.stdout);
    assert_eq!(file(), before);
    // Without the file there is no memory; and a file of before versions were kept has none.
    std::fs::remove_file(folder.path().join("sigstore.json")).unwrap();
    assert_eq!(update(&folder, &at([2, 2, 2]), &right()).code, Some(0));
    let mut old: Value = serde_json::from_str(&file()).unwrap();
    old.as_object_mut().unwrap().remove("vouched").unwrap();
    old["mediaType"] = "application/vnd.buildgate.trust-root.v1+json".into();
    std::fs::write(folder.path().join("sigstore.json"), old.to_string()).unwrap();
    assert_eq!(folder.run("trust show --trust-root sigstore.json").code, Some(0));
    assert_eq!(update(&folder, &at([1, 1, 1]), &right()).code, Some(0));
}

#[test]
fn what_is_not_signed_as_it_must_be_changes_nothing() {
    let right = Repository::new;
    for (what, served, words) in [
        (
            "expired timestamp",
            Repository { timestamp_expires: OVER, ..right() },
            "timestamp metadata expired at 2020-01-01",
        ),
        (
            "expired targets",
            Repository { targets_expires: OVER, ..right() },
            "targets metadata expired at 2020-01-01",
        ),
        (
            "expired root",
            Repository { root_expires: OVER, ..right() },
            "root metadata expired at 2020-01-01",
        ),
        ("other keys", Repository { key: 62, ..right() }, "role timestamp: 0/1 valid signatures"),
        (
            "another target",
            Repository { served: Some(b"{}".to_vec()), ..right() },
            "trusted_root.json: length 2 != pinned",
        ),
        (
            "a target that is no root",
            Repository { target: b"{}".to_vec(), ..right() },
            "trusted_root.json cannot be read: missing field",
        ),
        (
            "expired snapshot",
            Repository { snapshot_expires: OVER, ..right() },
            "snapshot metadata expired at 2020-01-01",
        ),
        (
            "one signature of two",
            Repository { shared: Some((2, &[70])), ..right() },
            "role targets: 1/2 valid signatures",
        ),
        (
            "one signature twice",
            Repository { shared: Some((2, &[70, 70])), ..right() },
            "duplicate signature key id 70 for role targets",
        ),
        (
            "a stranger among two",
            Repository { shared: Some((2, &[70, 62])), ..right() },
            "role targets: 1/2 valid signatures",
        ),
        (
            "an endless timestamp",
            spoiled("/timestamp.json", |it| it.resize(20 << 20, b' ')),
            "timestamp.json: larger than the limit of 16384 bytes",
        ),
        (
            "endless targets",
            spoiled("/targets.json", |it| it.resize(20 << 20, b' ')),
            "targets.json: larger than the limit of 5000000 bytes",
        ),
        (
            "a target of more bytes",
            spoiled("/targets/trusted_root.json", |it| it.push(b' ')),
            "targets/trusted_root.json: larger than the limit of",
        ),
        (
            "a truncated timestamp",
            spoiled("/timestamp.json", |it| it.truncate(it.len() / 2)),
            "failed to parse JSON: EOF",
        ),
        (
            "an empty snapshot",
            spoiled("/snapshot.json", Vec::clear),
            "snapshot.json: length 0 != pinned",
        ),
        (
            "a tampered timestamp",
            spoiled("/timestamp.json", |it| altered(it, "2099", "2098")),
            "role timestamp: 0/1 valid signatures",
        ),
        (
            "a tampered signature",
            spoiled("/targets.json", |it| altered(it, "\"sig\":\"30", "\"sig\":\"31")),
            "targets.json: sha256 mismatch",
        ),
        (
            "keys without their predecessors' word",
            Repository { key: 60, ..unsigned_rotation() },
            "role root: 0/1 valid signatures",
        ),
        (
            "a signature of another algorithm",
            Repository { scheme: "ed25519", ..right() },
            "role root: 0/1 valid signatures",
        ),
        (
            "of an algorithm that nobody knows",
            Repository { scheme: "rot13", ..right() },
            "gave no trust root: ",
        ),
    ] {
        let folder = Folder::with(&[("sigstore.json", "what was there")]);
        let Repository { root_expires, shared, scheme, .. } = served;
        let trusted = Repository { root_expires, shared, scheme, ..right() };
        let ran = update(&folder, &served, &trusted);
        assert_eq!(ran.code, Some(2), "{what}");
        assert!(ran.stderr.contains(words), "{what}: {words:?} is not in: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{what}: {}", ran.stdout);
        let left = std::fs::read_to_string(folder.path().join("sigstore.json")).unwrap();
        assert_eq!(left, "what was there", "{what}");
    }
    let two = Repository { shared: Some((2, &[70, 71])), ..right() };
    let ran = update(&Folder::with(&[]), &two, &two);
    assert_eq!(ran.code, Some(0), "two signatures of three: {}", ran.stderr);
    let folder = Folder::with(&[]);
    let ran = folder.run("trust update --mirror http://127.0.0.1:1/ --output sigstore.json");
    assert_eq!(ran.code, Some(2), "nobody answers");
    assert!(!folder.path().join("sigstore.json").exists());
    assert_eq!(folder.run("trust show --trust-root nosuch.json").code, Some(2));
    assert_eq!(folder.run("trust show --trust-root =x").code, Some(2));
}
