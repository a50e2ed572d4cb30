//! Signatures of git objects, made by real git.

use super::*;

/// A repository with a signed commit and a signed tag.
fn repository(dir: &Path, format: &str, config: &[String]) -> (GitObject, GitObject) {
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
    let commit = git(&["cat-file", "commit", "HEAD"]);
    let tag = git(&["cat-file", "tag", "v1"]);
    let commit = GitObject::parse(Kind::Commit, commit.into()).unwrap();
    (commit, GitObject::parse(Kind::Tag, tag.into()).unwrap())
}

fn git_says(object: &GitObject, format: ObjectFormat, keys: &str) -> String {
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
fn ssh_signatures_for_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key), b"");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let keys = AllowedSigners::parse(&public).unwrap();
    let sign = |namespace: &str| {
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(&key);
        String::from_utf8(run(&mut sign, PAYLOAD)).unwrap()
    };
    let check =
        |text: &str, payload: &[u8], dated| match ssh::verify(text, payload, &keys, dated, NOW) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        };
    let good = sign("git");
    assert_eq!(check(&good, PAYLOAD, None), "good");
    assert!(check(&sign("file"), PAYLOAD, None).contains("its namespace is \"file\""));
    assert!(check(&good, b"other", None).contains("did not sign this content"));
    assert!(check(&good, PAYLOAD, Some(NOW + 1_000)).contains("in the future"));
    assert!(check(&good[..good.len() / 2], PAYLOAD, None).contains("cannot be read"));
}

#[test]
fn ssh_security_keys() {
    use rsa::signature::Signer as _;
    use ssh_key::private::Ed25519Keypair;
    use ssh_key::public::{KeyData, SkEd25519};
    use ssh_key::{Algorithm, HashAlg, PublicKey, Signature, SshSig};

    let pair = Ed25519Keypair::from_seed(&[7; 32]);
    let key = KeyData::SkEd25519(SkEd25519::new(pair.public, "ssh:"));
    let signed = SshSig::signed_data("git", HashAlg::Sha512, PAYLOAD).unwrap();
    let tail = [1, 0, 0, 0, 9];
    let mut message = sha2::Sha256::digest("ssh:").to_vec();
    message.extend(tail);
    message.extend(sha2::Sha256::digest(&signed));
    let mut data = pair.try_sign(&message).unwrap().as_bytes().to_vec();
    data.extend(tail);
    let signature = Signature::new(Algorithm::SkEd25519, data).unwrap();
    let signature = SshSig::new(key.clone(), "git", HashAlg::Sha512, signature).unwrap();
    let text = signature.to_pem(Default::default()).unwrap();
    let keys = AllowedSigners::parse(&PublicKey::from(key).to_openssh().unwrap()).unwrap();
    assert!(ssh::verify(&text, PAYLOAD, &keys, None, NOW).is_ok());
    assert!(ssh::verify(&text, b"other", &keys, None, NOW).is_err());
}

#[test]
fn git_objects_signed_with_openpgp() {
    let gpg = Gpg::new();
    gpg.key("A <a@b.c>", "ed25519", "20200101T000000!", "never");
    let program = gpg.0.path().join("gpg.sh");
    let script = format!(
        "#!/bin/sh\nexec gpg --homedir {} --faked-system-time {MADE} \"$@\"\n",
        gpg.0.path().display()
    );
    std::fs::write(&program, script).unwrap();
    run(Command::new("chmod").arg("+x").arg(&program), b"");
    let keys = String::from_utf8(gpg.export(&["--armor", "A"])).unwrap();
    for (name, format) in [("sha1", ObjectFormat::Sha1), ("sha256", ObjectFormat::Sha256)] {
        let dir = tempfile::tempdir().unwrap();
        let config = [format!("gpg.program={}", program.display())];
        let (commit, tag) = repository(dir.path(), name, &config);
        for object in [&commit, &tag] {
            assert_eq!(git_says(object, format, &keys), "good", "{name}");
        }
    }
}
