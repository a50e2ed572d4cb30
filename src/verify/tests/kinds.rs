//! Git objects signed by every kind of key, in repositories of both formats: what holds, what does not, and
//! what rules see of the signature (`pgpSignature.keyID`, `sshSignature.pubKey`).

use serde_json::{Value, json};
use sha1_checked::Sha1;

use super::git::{git_says, objects};
use super::ssh_signatures::OTHER;
use super::*;
use crate::input::{Env, build};
use crate::meta::{GitMeta, Known, SourceMeta};
use crate::source::{Platform, Source, SourceOp};

const FORMATS: [(&str, ObjectFormat); 2] =
    [("sha1", ObjectFormat::Sha1), ("sha256", ObjectFormat::Sha256)];
/// The name of an object.
fn id(kind: &str, raw: &[u8], format: ObjectFormat) -> String {
    let framed = [format!("{kind} {}\0", raw.len()).as_bytes(), raw].concat();
    match format {
        ObjectFormat::Sha1 => hex::encode(Sha1::digest(framed)),
        ObjectFormat::Sha256 => hex::encode(Sha256::digest(framed)),
    }
}

/// The commit and the tag as rules see them.
fn seen([commit, tag]: &[Vec<u8>; 2], format: ObjectFormat) -> [Value; 2] {
    let op = SourceOp::new("git://example.com/app.git#v1");
    let git = GitMeta {
        checksum: id("tag", tag, format),
        reference: "refs/tags/v1".to_owned(),
        commit_checksum: id("commit", commit, format),
        commit_object: Some(commit.clone().into()),
        tag_object: Some(tag.clone().into()),
    };
    let root = SourceMeta { git: Some(git), ..SourceMeta::default() };
    let known = Known { root, ..Known::default() };
    let source = Source::parse(&op).unwrap();
    let platform = Platform::default();
    let document = build(&op, &source, &platform, &known, &Env::default()).unwrap();
    let mut input = serde_json::to_value(&document.input).unwrap();
    [input["git"]["commit"].take(), input["git"]["tag"].take()]
}

/// The keys of a table: the right ones, others of their kind, and those of the other kind.
struct Keys<'k> {
    right: &'k str,
    others: &'k str,
    other_kind: &'k str,
}

/// What holds of every good object, whatever signed it.
fn matrix(about: &str, raw: &[Vec<u8>; 2], format: ObjectFormat, keys: &Keys<'_>) {
    let other_format = FORMATS.map(|it| it.1).into_iter().find(|it| *it != format).unwrap();
    for (kind, raw) in [Kind::Commit, Kind::Tag].into_iter().zip(raw) {
        let text = String::from_utf8(raw.clone()).unwrap();
        let says = |text: &str, format: ObjectFormat, keys: &str| match GitObject::parse(
            kind,
            text.to_owned().into(),
        ) {
            Ok(object) => git_says(&object, format, keys),
            Err(error) => error.to_string(),
        };
        let end = text.find("-----END").unwrap();
        let line = text[..end].rfind(|it: char| it.is_ascii_alphanumeric()).unwrap();
        let mut altered = text.clone();
        // Some character in the middle of the base64, where the numbers of the signature are.
        let at = text[..line - 60].rfind(['A', 'B', 'Q', 'g', 'w', 'x', 'y', '2', '7']).unwrap();
        altered.replace_range(at..=at, "3");
        let message =
            if kind == Kind::Commit { ("\n\none\n", "\n\ntwo\n") } else { ("\ntag\n", "\nTag\n") };
        let cut = format!(
            "{}{}",
            &text[..line - 40],
            &text[end - usize::from(kind == Kind::Commit) - 1..]
        );
        for (what, text, format, keys, wanted) in [
            ("good", &text, format, keys.right, "good"),
            ("among others", &text, format, &format!("{}\n{}", keys.others, keys.right), "good"),
            ("wrong key", &text, format, keys.others, "which is not in the key file"),
            ("other kind", &text, format, keys.other_kind, "and the key file holds"),
            ("no keys", &text, format, "", "no public key"),
            (
                "another message",
                &text.replacen(message.0, message.1, 1),
                format,
                keys.right,
                "did not sign",
            ),
            (
                "another object",
                &text.replacen("A <a@b.c>", "B <a@b.c>", 1),
                format,
                keys.right,
                "did not sign",
            ),
            ("altered", &altered, format, keys.right, "not valid"),
            ("truncated", &cut, format, keys.right, "not valid"),
            ("other format", &text, other_format, keys.right, "not "),
        ] {
            let got = says(text, format, keys);
            assert!(got.contains(wanted), "{about} {kind}, {what}: {got}, expected {wanted}");
            assert!(wanted == "good" || got != "good", "{about} {kind}, {what}");
        }
    }
}

#[test]
fn git_objects_by_each_kind_of_openpgp_key() {
    let gpg = Gpg::new();
    let others = String::from_utf8({
        gpg.key("other", "ed25519", BEGUN, "never");
        gpg.export(&["--armor", "other"])
    })
    .unwrap();
    for kind in ["ed25519", "rsa2048", "nistp256", "nistp384", "nistp521", "subkey"] {
        let algorithm = if kind == "subkey" { "ed25519" } else { kind };
        let mut key = gpg.key(kind, algorithm, BEGUN, "never");
        let parent = key.clone();
        if kind == "subkey" {
            gpg.run(BEGUN, &["--quick-add-key", &key, "rsa2048", "sign", "never"], b"");
            key = gpg.fingerprints(kind).remove(1);
        }
        let public = String::from_utf8(gpg.export(&["--armor", &parent])).unwrap();
        let keys = Keys { right: &public, others: &others, other_kind: OTHER };
        let config = [gpg.program(), format!("user.signingkey={key}!")];
        for (name, format) in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            let raw = objects(dir.path(), name, &config);
            let key_id = key[24..].to_lowercase();
            for object in seen(&raw, format) {
                let wanted = json!({"version": 4, "keyID": key_id});
                assert_eq!(object["pgpSignature"], wanted, "{kind} {name}");
                assert_eq!(object["sshSignature"], Value::Null, "{kind} {name}");
            }
            matrix(&format!("{kind} {name}"), &raw, format, &keys);
        }
    }
}

/// Checks objects of an SSH key.
fn ssh_matrix(about: &str, raw: &[Vec<u8>; 2], format: ObjectFormat, public: &str, pgp: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), public).unwrap();
    let listed = run(Command::new("ssh-keygen").arg("-lf").arg(file.path()), b"");
    let listed = String::from_utf8(listed).unwrap();
    let fingerprint = listed.split(' ').nth(1).unwrap();
    for object in seen(raw, format) {
        let wanted = json!({"version": 1, "pubKey": fingerprint});
        assert_eq!(object["sshSignature"], wanted, "{about}");
        assert_eq!(object["pgpSignature"], Value::Null, "{about}");
    }
    matrix(about, raw, format, &Keys { right: public, others: OTHER, other_kind: pgp });
    for (kind, raw) in [Kind::Commit, Kind::Tag].into_iter().zip(raw) {
        let object = GitObject::parse(kind, raw.clone().into()).unwrap();
        for (line, wanted) in [
            ("a namespaces=\"git\"", "good"),
            ("a namespaces=\"file\"", "does not allow"),
            ("a valid-before=\"20290601\"", "expired at 2029-06-01"),
            ("a valid-after=\"20290601\"", "valid only from 2029-06-01"),
            ("a cert-authority", "not in the key file"),
            ("@revoked", "is no principal"),
        ] {
            let got = git_says(&object, format, &format!("{line} {public}"));
            assert!(got.contains(wanted), "{about} {kind}, {line}: {got}");
        }
    }
}

#[test]
fn git_objects_by_each_kind_of_ssh_key() {
    let gpg = Gpg::new();
    gpg.key("other", "ed25519", BEGUN, "never");
    let pgp = String::from_utf8(gpg.export(&["--armor", "other"])).unwrap();
    for (kind, bits) in
        [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048")]
    {
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f"]);
        run(keygen.arg(&key), b"");
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let config = ["gpg.format=ssh".to_owned(), format!("user.signingkey={}", key.display())];
        for (name, format) in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            let raw = objects(dir.path(), name, &config);
            let about = format!("{kind} {bits} {name}");
            ssh_matrix(&about, &raw, format, public.trim(), &pgp);
        }
    }
}

/// Signs a content, and gives the public key too.
type Sign = fn(&[u8]) -> (String, String);

/// No security key is at hand: what it signs is made as it makes it, and put where git puts it.
#[test]
fn git_objects_by_security_keys() {
    let gpg = Gpg::new();
    gpg.key("other", "ed25519", BEGUN, "never");
    let pgp = String::from_utf8(gpg.export(&["--armor", "other"])).unwrap();
    let kinds: [(&str, Sign); 2] = [
        ("sk-ed25519", super::ssh_signatures::sk_ed25519),
        ("sk-ecdsa", super::ssh_signatures::sk_ecdsa),
    ];
    for (kind, sign) in kinds {
        for (name, format) in FORMATS {
            let tree = "7".repeat(if format == ObjectFormat::Sha1 { 40 } else { 64 });
            let who = "A <a@b.c> 1861920000 +0000";
            let commit = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\none\n");
            let (signature, public) = sign(commit.as_bytes());
            let header = signature.trim_end().replace('\n', "\n ");
            let header = format!("\n{} {header}\n\n", format.signature_header());
            let commit = commit.replacen("\n\n", &header, 1).into_bytes();
            let target = id("commit", &commit, format);
            let tag = format!("object {target}\ntype commit\ntag v1\ntagger {who}\n\ntag\n");
            let (signature, _) = sign(tag.as_bytes());
            let tag = format!("{tag}{signature}").into_bytes();
            ssh_matrix(&format!("{kind} {name}"), &[commit, tag], format, &public, &pgp);
        }
    }
}
