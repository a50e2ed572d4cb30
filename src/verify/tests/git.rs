//! Signatures of git objects, made by real git.

use super::*;

/// The signed commit and the signed tag of a repository.
pub(super) fn repository(dir: &Path, format: &str, config: &[String]) -> (GitObject, GitObject) {
    let [commit, tag] = objects(dir, format, config);
    let commit = GitObject::parse(Kind::Commit, commit.into()).unwrap();
    (commit, GitObject::parse(Kind::Tag, tag.into()).unwrap())
}

/// The octets of the same.
pub(super) fn objects(dir: &Path, format: &str, config: &[String]) -> [Vec<u8>; 2] {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(dir).env("HOME", dir).env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{name}_NAME"), "A").env(format!("GIT_{name}_EMAIL"), "a@b.c");
            git.env(format!("GIT_{name}_DATE"), "1861920000 +0000");
        }
        for setting in config {
            git.args(["-c", setting]);
        }
        run(git.args(args), b"")
    };
    git(&["init", "-q", &format!("--object-format={format}")]);
    git(&["commit", "-q", "-S", "--allow-empty", "-m", "one"]);
    git(&["tag", "-s", "-m", "tag", "v1"]);
    [git(&["cat-file", "commit", "HEAD"]), git(&["cat-file", "tag", "v1"])]
}

pub(super) fn git_says(object: &GitObject, format: ObjectFormat, keys: &str) -> String {
    let keys = match KeyFile::parse(keys.as_bytes()) {
        Ok(keys) => keys,
        Err(error) => return error.to_string(),
    };
    match verify_git(object, format, &keys, NOW) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn git_objects_signed_with_ssh() {
    for (kind, bits, format) in [
        ("ed25519", "256", ("sha1", ObjectFormat::Sha1)),
        ("ecdsa", "256", ("sha256", ObjectFormat::Sha256)),
        ("rsa", "2048", ("sha1", ObjectFormat::Sha1)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key");
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f"])
                .arg(&key),
            b"",
        );
        let signing = format!("user.signingkey={}", key.display());
        let config = ["gpg.format=ssh".to_owned(), signing];
        let (commit, tag) = repository(dir.path(), format.0, &config);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let public = public.trim();
        let other =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";
        for (keys, expected) in [
            (public.to_owned(), "good"),
            (format!("# keys\n{other} x\n\n{public} comment"), "good"),
            (format!("a@b.c,c@d.e {public}"), "good"),
            (format!("\"a b\" namespaces=\"file,git\" {public}"), "good"),
            (format!("a namespaces=\"file\" {public}"), "does not allow"),
            (format!("a namespaces=\"*,!git\" {public}"), "does not allow"),
            (format!("a valid-before=\"20290601\" {public}"), "expired at 2029-06-01"),
            (format!("a valid-after=\"20300601Z\" {public}"), "valid only from 2030-06-01"),
            (format!("a valid-after=\"2020\" {public}"), "is no time"),
            (format!("a cert-authority {public}"), "not in the key file"),
            (format!("a unknown-option {public}"), "unknown option"),
            (format!("cert-authority {public}"), "options stand after"),
            (other.to_owned(), "not in the key file"),
            (format!("{other} x\nssh-ed25519 AAAA"), "line 2"),
            ("nothing".to_owned(), "no public key"),
        ] {
            for object in [&commit, &tag] {
                let got = git_says(object, format.1, &keys);
                assert!(got.contains(expected), "{kind} {keys}: {got}");
            }
        }
        // The signature of a commit is the one of its own format.
        let wrong = match format.1 {
            ObjectFormat::Sha1 => ObjectFormat::Sha256,
            ObjectFormat::Sha256 => ObjectFormat::Sha1,
        };
        assert_eq!(git_says(&commit, wrong, public), "it is not signed");
    }
}

#[test]
fn git_objects_signed_with_openpgp() {
    let gpg = Gpg::new();
    let made = "20200101T000000!";
    gpg.key("A <a@b.c>", "ed25519", made, "never");
    gpg.key("ended <e@b.c>", "ed25519", made, "20290601T000000");
    let revoked = gpg.key("revoked <r@b.c>", "ed25519", made, "never");
    let certificate = gpg.0.path().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let certificate = std::fs::read_to_string(certificate).unwrap().replace(":-----", "-----");
    // All is signed before the key is taken back, as gpg signs with no other.
    let mut signed = Vec::new();
    for (user, wanted) in
        [("a@b.c", "good"), ("e@b.c", "expired at 2029-06-01"), ("r@b.c", "was revoked")]
    {
        for (name, format) in [("sha1", ObjectFormat::Sha1), ("sha256", ObjectFormat::Sha256)] {
            let dir = tempfile::tempdir().unwrap();
            let config = [gpg.program(), format!("user.signingkey={user}")];
            signed.push((user, wanted, format, repository(dir.path(), name, &config)));
        }
    }
    gpg.run(MADE, &["--import"], certificate.as_bytes());
    for (user, wanted, format, (commit, tag)) in signed {
        let keys = String::from_utf8(gpg.export(&["--armor", user])).unwrap();
        for object in [&commit, &tag] {
            let got = git_says(object, format, &keys);
            assert!(got.contains(wanted), "{user} {format:?}: {got}");
        }
    }
}

/// The octets of an object, with `change` made of them; the other kinds of change are git's to refuse.
fn altered(object: &GitObject, raw: &[u8], change: (&str, &str)) -> GitObject {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    assert!(text.contains(change.0), "{text} has no {:?}", change.0);
    let text = text.replacen(change.0, change.1, 1);
    GitObject::parse(object.kind(), text.into_bytes().into()).unwrap()
}

/// A signature is about the object that it was made for: under another name, about another commit, by
/// somebody else, or in a repository of the other format, it is none.
#[test]
fn signatures_of_other_objects() {
    let (gpg, home) = (Gpg::new(), tempfile::tempdir().unwrap());
    gpg.key("A <a@b.c>", "ed25519", "20200101T000000!", "never");
    let by_gpg = String::from_utf8(gpg.export(&["--armor", "A"])).unwrap();
    let key = home.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key), b"");
    let by_ssh = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let ssh = ["gpg.format=ssh".to_owned(), format!("user.signingkey={}", key.display())];
    for (kind, config, keys) in [("gpg", &[gpg.program()][..], &by_gpg), ("ssh", &ssh, &by_ssh)] {
        for (name, format, digits) in
            [("sha1", ObjectFormat::Sha1, 40), ("sha256", ObjectFormat::Sha256, 64)]
        {
            let about = format!("{kind} {name}");
            let dir = tempfile::tempdir().unwrap();
            let [raw_commit, raw] = objects(dir.path(), name, config);
            let commit = GitObject::parse(Kind::Commit, raw_commit.clone().into()).unwrap();
            let tag = GitObject::parse(Kind::Tag, raw.clone().into()).unwrap();
            let id = tag.header("object").unwrap();
            assert_eq!(id.len(), digits, "{about}");
            let tree = commit.header("tree").unwrap();
            for change in [
                (&id[..], &"7".repeat(digits)[..]),
                ("tag v1", "tag v2"),
                ("type commit", "type tree"),
                ("tagger A", "tagger B"),
                ("1861920000", "1861920001"),
                ("\n\ntag\n", "\n\ntag \n"),
                ("\n\ntag\n", "\n\n\ntag\n"),
                ("tagger", "extra y\ntagger"),
            ] {
                let got = git_says(&altered(&tag, &raw, change), format, keys);
                assert!(got.contains("did not sign"), "{about} {change:?}: {got}");
            }
            for change in [
                (&tree[..], &"7".repeat(digits)[..]),
                ("author A", "author B"),
                ("committer A", "committer B"),
                ("\n\none\n", "\n\ntwo\n"),
                ("\nauthor", &format!("\nparent {tree}\nauthor")[..]),
            ] {
                let got = git_says(&altered(&commit, &raw_commit, change), format, keys);
                assert!(got.contains("did not sign"), "{about} {change:?}: {got}");
            }
            // The signature of one object behind the other.
            let signature = tag.signature().unwrap();
            let mut text = String::from_utf8(raw_commit.clone()).unwrap();
            let of_commit = commit.signature().unwrap().replace('\n', "\n ");
            text = text.replace(
                of_commit.trim_end(),
                signature.trim_end().replace('\n', "\n ").trim_end(),
            );
            let got = git_says(&GitObject::parse(Kind::Commit, text.into()).unwrap(), format, keys);
            assert!(got.contains("did not sign"), "{about}: {got}");
            // The same octets in a repository of the other format: there its names name nothing.
            let (other, headers) = match format {
                ObjectFormat::Sha1 => (ObjectFormat::Sha256, ("gpgsig ", "gpgsig-sha256 ")),
                ObjectFormat::Sha256 => (ObjectFormat::Sha1, ("gpgsig-sha256 ", "gpgsig ")),
            };
            for object in [&tag, &altered(&commit, &raw_commit, headers)] {
                let got = git_says(object, other, keys);
                assert!(got.contains("of the other format"), "{about}: {got}");
            }
        }
    }
}

/// What git takes for a signature and nobody here verifies is there, and could not be verified.
#[test]
fn signatures_of_other_kinds() {
    let id = "7".repeat(40);
    let commit = format!("tree {id}\nauthor A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n");
    let tag = format!("object {id}\ntype commit\ntag v1\ntagger A <a@b.c> 1 +0000\n\nmessage\n");
    let keys = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";
    for (name, wanted) in [
        ("SIGNED MESSAGE", "could not be verified: an X.509 (S/MIME) signature is not supported"),
        ("PGP MESSAGE", "could not be verified: an OpenPGP message"),
        ("PGP SIGNATURE", "not valid: it is an OpenPGP signature, and the key file holds SSH keys"),
        ("SSH SIGNATURE", "not valid: it cannot be read"),
    ] {
        let block = format!("-----BEGIN {name}-----\n\nAAAA\n-----END {name}-----");
        let tag = format!("{tag}{block}\n");
        let commit = format!("{commit}gpgsig {}\n\nmessage\n", block.replace('\n', "\n "));
        for (kind, text) in [(Kind::Tag, tag), (Kind::Commit, commit.clone())] {
            let object = GitObject::parse(kind, text.into()).unwrap();
            let got = git_says(&object, ObjectFormat::Sha1, keys);
            assert!(got.contains(wanted), "{kind} {name}: {got}");
        }
    }
    let object = GitObject::parse(Kind::Tag, tag.into()).unwrap();
    assert_eq!(git_says(&object, ObjectFormat::Sha1, keys), "it is not signed");
    // Words of a commit's message are no signature of it.
    let commit = format!("{commit}\n-----BEGIN SIGNED MESSAGE-----\n");
    let object = GitObject::parse(Kind::Commit, commit.into()).unwrap();
    assert_eq!(git_says(&object, ObjectFormat::Sha1, keys), "it is not signed");
    // A header without anything in it is a signature that cannot be read, not none.
    for (value, wanted) in [("x", "neither OpenPGP's nor SSH's"), ("", "neither")] {
        let text = format!(
            "tree {id}\nauthor A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\ngpgsig {value}\n\nx\n"
        );
        let object = GitObject::parse(Kind::Commit, text.into()).unwrap();
        let got = git_says(&object, ObjectFormat::Sha1, keys);
        assert!(got.contains(wanted), "{value:?}: {got}");
    }
}
