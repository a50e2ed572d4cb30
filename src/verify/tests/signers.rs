//! Answers that are given again: the same, and no longer than they stand.

use super::git::repository;
use super::ssh_signatures::OTHER;
use super::*;
use crate::meta::ChecksumRequest;

const DAY: i64 = 86_400;

/// 2029-01-01, when everything here is signed.
const SIGNED: i64 = 1_861_920_000;

fn says(result: Result<VerifiedSigner, NotVerified>) -> String {
    match result {
        Ok(signer) => format!("{:?}", signer.key()),
        Err(error) => error.to_string(),
    }
}

fn response(request: ChecksumRequest, content: &[u8]) -> ChecksumResponse {
    assert_eq!(request.algorithm, ChecksumAlgorithm::Sha512);
    let digest = Sha512::new().chain_update(content).chain_update(&request.suffix).finalize();
    ChecksumResponse { digest: format!("sha512:{}", hex::encode(digest)), suffix: request.suffix }
}

/// Asks at each of the times, in this order: as without a cache, and at most as often as is said.
fn check_at(
    about: &str,
    times: &[i64],
    worked: u64,
    ask: &dyn Fn(&SignerCache, i64) -> Result<VerifiedSigner, NotVerified>,
) -> Vec<String> {
    let cache = SignerCache::default();
    let answers: Vec<String> = times
        .iter()
        .map(|now| {
            let answer = says(ask(&cache, *now));
            assert_eq!(answer, says(ask(&SignerCache::default(), *now)), "{about} at {now}");
            answer
        })
        .collect();
    assert_eq!(cache.worked(), worked, "{about}");
    answers
}

#[test]
fn answers_end_with_what_they_rest_on() {
    let gpg = Gpg::new();
    gpg.key("A <a@b.c>", "ed25519", BEGUN, "never");
    gpg.key("ending", "ed25519", BEGUN, "20290601T000000");
    let export = |user: &str| gpg.export(&[user]);
    let asked = |signature: &[u8]| {
        let request = DetachedSignature::parse(signature).unwrap().checksum_request().unwrap();
        response(request, PAYLOAD)
    };
    let sha512 = ["--digest-algo", "SHA512"];
    let plain = gpg.sign("A", MADE, &sha512);
    let short = [&sha512[..], &["--default-sig-expire", "20290301T000000"]].concat();
    let short = gpg.sign("A", MADE, &short);
    let ending = gpg.sign("ending", MADE, &sha512);
    let days = |days: &[i64]| days.iter().map(|it| SIGNED + it * DAY).collect::<Vec<i64>>();
    for (about, keys, signature, times, worked, wanted) in [
        ("for ever", export("A"), &plain, days(&[1, 2, 3, 4_000, 1]), 1, &["OpenPgp"; 5][..]),
        (
            "an expiring signature",
            export("A"),
            &short,
            days(&[1, 58, 59, 60, 1]),
            2,
            &["OpenPgp", "OpenPgp", "it expired at 2029-03-01", "it expired", "OpenPgp"],
        ),
        (
            "an expiring key",
            export("ending"),
            &ending,
            days(&[150, 151, 152, 150]),
            2,
            &["OpenPgp", "expired at 2029-06-01", "expired at 2029-06-01", "OpenPgp"],
        ),
        (
            "to come",
            export("A"),
            &plain,
            vec![SIGNED - DAY, SIGNED - 301, SIGNED - 300, SIGNED],
            2,
            &["dated in the future", "dated in the future", "OpenPgp", "OpenPgp"],
        ),
        ("another's", export("ending"), &plain, days(&[1, 2]), 1, &["not in the key file"; 2]),
        ("SSH's keys", OTHER.into(), &plain, days(&[1, 2]), 1, &["the key file holds SSH keys"; 2]),
        ("no keys", b"x".to_vec(), &plain, days(&[1, 2]), 1, &["no public key"; 2]),
    ] {
        let response = asked(signature);
        let got = check_at(about, &times, worked, &|cache, now| {
            cache.http(signature, &response, &keys, now)
        });
        for (got, wanted) in got.iter().zip(wanted) {
            assert!(got.contains(wanted), "{about}: {got}, expected {wanted}");
        }
    }
}

#[test]
fn answers_about_git_objects_end_too() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key), b"");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let public = public.trim();
    let signing = format!("user.signingkey={}", key.display());
    let (commit, tag) = repository(dir.path(), "sha1", &["gpg.format=ssh".to_owned(), signing]);
    let times: Vec<i64> = [1, 150, 151, 150].map(|it| SIGNED + it * DAY).into();
    let until = |line: &str| format!("{line} {public}");
    for (line, worked, wanted) in [
        ("a valid-before=\"20290601\"", 2, ["Ssh", "Ssh", "expired at 2029-06-01", "Ssh"]),
        (
            "a valid-before=\"20290601\",namespaces=\"file\"",
            3,
            ["does not allow", "does not allow", "expired at 2029-06-01", "does not allow"],
        ),
        ("a valid-after=\"20280101\"", 1, ["Ssh"; 4]),
        ("a valid-after=\"20290201\"", 2, ["is valid only from"; 4]),
        ("a", 1, ["Ssh"; 4]),
        ("a unknown", 1, ["unknown option"; 4]),
    ] {
        for object in [&commit, &tag] {
            let keys = until(line).into_bytes();
            let got = check_at(line, &times, worked, &|cache, now| {
                cache.git(object, ObjectFormat::Sha1, &keys, now)
            });
            for (got, wanted) in got.iter().zip(wanted) {
                assert!(got.contains(wanted), "{line}: {got}, expected {wanted}");
            }
        }
    }

    // What an answer rests on is in its name: object, kind, format and key file.
    let cache = SignerCache::default();
    let other = format!("{public} x").into_bytes();
    let unsigned = {
        let text = String::from_utf8(commit.raw().to_vec()).unwrap().replace("one", "two");
        GitObject::parse(Kind::Commit, text.into()).unwrap()
    };
    for (object, format, keys, wanted) in [
        (&commit, ObjectFormat::Sha1, public.as_bytes(), "Ssh"),
        (&commit, ObjectFormat::Sha256, public.as_bytes(), "it is not signed"),
        (&commit, ObjectFormat::Sha1, OTHER.as_bytes(), "not in the key file"),
        (&commit, ObjectFormat::Sha1, &other, "Ssh"),
        (&tag, ObjectFormat::Sha1, public.as_bytes(), "Ssh"),
        (&unsigned, ObjectFormat::Sha1, public.as_bytes(), "did not sign"),
    ] {
        let before = cache.worked();
        for _ in 0..3 {
            let got = says(cache.git(object, format, keys, NOW));
            assert!(got.contains(wanted), "{got}, expected {wanted}");
        }
        assert_eq!(cache.worked(), before + 1);
    }
    assert_eq!(cache.len(), 6);
}

#[test]
fn answers_are_bounded_and_refusals_push_nobody_out() {
    let head = |at: usize| {
        let id = format!("{at:040}");
        let text =
            format!("tree {id}\nauthor A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n\nx\n");
        text
    };
    let text = head(0);
    let (signature, public) = super::ssh_signatures::sk_ed25519(text.as_bytes());
    let header = signature.trim_end().replace('\n', "\n ");
    let text = text.replacen("\n\n", &format!("\ngpgsig {header}\n\n"), 1);
    let good = GitObject::parse(Kind::Commit, text.into()).unwrap();
    let cache = SignerCache::new(8);
    let ask = |object: &GitObject, keys: &str| {
        cache.git(object, ObjectFormat::Sha1, keys.as_bytes(), NOW).is_ok()
    };
    assert!(ask(&good, &public));
    for at in 1..50 {
        let object = GitObject::parse(Kind::Commit, head(at).into()).unwrap();
        assert!(!ask(&object, &public));
        assert!(cache.len() <= 1 + 8, "{}", cache.len());
    }
    let before = cache.worked();
    assert!(ask(&good, &public));
    assert_eq!(cache.worked(), before, "it is known still");
    for at in 0..50 {
        assert!(ask(&good, &format!("{public} {at}")));
        assert!(cache.len() <= 8 + 8, "{}", cache.len());
    }
    assert!(ask(&good, &public));
    assert!(cache.worked() > before + 50, "it was pushed out");
}

#[test]
fn key_files_are_read_once() {
    let cache = SignerCache::default();
    let first = cache.keys(OTHER.as_bytes()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &cache.keys(OTHER.as_bytes()).unwrap()));
    let other = cache.keys(format!("{OTHER} x").as_bytes()).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&first, &other));
    // Large ones are not kept, nor what is none.
    let large = format!("{OTHER}\n{}", "#".repeat(64 << 10));
    let read = || cache.keys(large.as_bytes()).unwrap();
    assert!(!std::sync::Arc::ptr_eq(&read(), &read()));
    for _ in 0..2 {
        assert!(matches!(cache.keys(b"x"), Err(KeyFileError::NoKeys)));
    }
    for at in 0..40 {
        cache.keys(format!("{OTHER} {at}").as_bytes()).unwrap();
    }
    assert!(!std::sync::Arc::ptr_eq(&first, &cache.keys(OTHER.as_bytes()).unwrap()), "bounded");
}
