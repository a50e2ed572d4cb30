//! Files of SSH keys: whom they name, what is refused in them, and how large they may be.

use ssh_key::{HashAlg, PublicKey};

use super::ssh_signatures::{Key, OTHER, expect, says, verify};
use super::*;

#[test]
fn allowed_signers_say_who_and_nothing_is_passed_over() {
    let key = Key::new("ed25519", "256");
    let (text, public) = (key.sign(&[], PAYLOAD), &key.public);
    for (line, wanted) in [
        (public.clone(), ""),
        (format!("a@b.c {public} comment"), "a@b.c"),
        (format!("a@b.c,*@d.e,!x@d.e {public}"), "a@b.c,*@d.e,!x@d.e"),
        (format!("\"a b\" namespaces=\"git\" {public}"), "a b"),
        // The first line that is in force counts.
        (format!("a valid-before=\"20280101\" {public}\nb {public}\nc {public}"), "b"),
    ] {
        let signer = verify(&text, PAYLOAD, &line).unwrap();
        let SigningKey::Ssh { fingerprint, principals } = signer.key() else {
            panic!("{signer:?}");
        };
        assert_eq!(principals, wanted, "{line}");
        let same = PublicKey::from_openssh(public).unwrap().fingerprint(HashAlg::Sha256);
        assert_eq!(*fingerprint, same.to_string());
    }
    // There is no notion of a revoked key, and whatever might mean one is refused, as is any other word
    // that might mean less than all.
    for (line, wanted) in [
        (format!("a revoked {public}"), "unknown option `revoked`"),
        (format!("a revoked=\"20200101\" {public}"), "unknown option"),
        (format!("a namespaces=\"git\",revoked {public}"), "unknown option `revoked`"),
        (
            format!("a namespaces=\"file\",Namespaces=\"git\" {public}"),
            "`namespaces` is given twice",
        ),
        (
            format!("a valid-before=\"20200101\",valid-before=\"20990101\" {public}"),
            "`valid-before` is given twice",
        ),
        (format!("revoked {public}"), "is no principal"),
        (format!("@revoked {public}"), "is no principal"),
        (format!("@revoked * {public}"), "is no principal"),
        (format!("@cert-authority * {public}"), "is no principal"),
        (format!("expiry-time=\"20200101\" {public}"), "options stand after"),
        (format!("from=\"10.0.0.1\",no-pty {public}"), "options stand after"),
        (format!("a namespaces=\"\" {public}"), "unknown option"),
        (format!("a namespaces=\"git {public}"), "a quote does not end"),
        (format!("a valid-before=\"2029\" {public}"), "is no time"),
        (format!("a valid-before=\"20291301\" {public}"), "is no time"),
        (format!("a {}", &public[..40]), "the key cannot be read"),
        ("a ssh-ed25519".to_owned(), "no public key"),
    ] {
        for keys in [line.clone(), format!("{OTHER}\n{line}"), format!("{line}\n{public}")] {
            let got = verify(&text, PAYLOAD, &keys);
            expect(&keys, &got, &["could not: "]);
            if keys == line {
                expect(&keys, &got, &[wanted]);
            }
        }
    }
}

#[test]
fn ssh_key_files_of_any_size() {
    let key = Key::new("ed25519", "256");
    let text = key.sign(&[], PAYLOAD);
    // Just as many as are read, the right one last; and one more.
    let others = format!("{OTHER}\n").repeat(9_999);
    let most = format!("{others}{}\n", key.public);
    expect("10,000 keys", &verify(&text, PAYLOAD, &most), &["good"]);
    let more = format!("{most}{OTHER}\n");
    expect("10,001 keys", &verify(&text, PAYLOAD, &more), &["could not: ", "more than 10000 keys"]);
    let huge = format!("{}\n{}", key.public, "#".repeat(MAX_KEY_FILE));
    expect("huge", &verify(&text, PAYLOAD, &huge), &["could not: ", "at most 1048576 are read"]);
    for (about, keys) in [("empty", ""), ("blank", "\n \n"), ("comments", "# no key\n")] {
        expect(about, &verify(&text, PAYLOAD, keys), &["could not: ", "no public key"]);
    }
    // Cut anywhere: no key, or not all of it.
    for length in 0..key.public.len() {
        let cut = verify(&text, PAYLOAD, &key.public[..length]);
        assert!(matches!(cut, Err(NotVerified::CouldNot(_))), "{length}: {}", says(&cut));
    }
    let private = std::fs::read_to_string(key.dir.path().join("key")).unwrap();
    expect("private", &verify(&text, PAYLOAD, &private), &["could not: ", "private key"]);
}
