//! `verify_http_pgp_signature` in a rule: the whole way from the files of a policy, by a digest that whoever
//! has the download makes of it. The clock is this machine's.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::check::{self, Outcome, Question};
use crate::input::Env;
use crate::meta::{MetaRequest, ResolveSourceMeta, Resolving};
use crate::policy::{Policy, PolicyFiles};
use crate::resolve::{FileFixture, Fixtures};
use crate::source::{Platform, SourceOp};
use crate::verify::sigstore::TrustRoots;

const SIGNED: &str = "20250201T000000!";
const RULE: &str = "package docker
default allow := false
allow if verify_http_pgp_signature(input.http, \"app.asc\", \"keys.asc\")
decision := {\"allow\": allow}
";

/// What becomes of a download: allowed, denied with the notes, or an error.
async fn judged(keys: &[u8], signature: &[u8], content: &[u8]) -> String {
    judged_by(&policy(keys, signature), content).await
}

fn policy(keys: &[u8], signature: &[u8]) -> [Policy; 1] {
    let file = |name: &str, content: &[u8]| (name.to_owned(), Bytes::copy_from_slice(content));
    let files =
        [file("p.rego", RULE.as_bytes()), file("app.asc", signature), file("keys.asc", keys)];
    let files = PolicyFiles::memory(BTreeMap::from(files));
    [Policy::load("test", files, &["p.rego".to_owned()]).unwrap()]
}

async fn judged_by(policies: &[Policy; 1], content: &[u8]) -> String {
    let mut fixtures = Fixtures::default();
    fixtures.http =
        Some(FileFixture { content: Bytes::copy_from_slice(content), filename: "app".to_owned() });
    let op = SourceOp::new("https://example.com/app");
    let question = Question { op, platform: Platform::default(), env: Env::default() };
    match check::check(policies, &question, &fixtures).await {
        Ok(checked) if matches!(checked.outcome, Outcome::Allowed(_)) => "allowed".to_owned(),
        Ok(checked) => format!("denied: {}", checked.notes.join("; ")),
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text.push_str(&format!(": {error}"));
                source = error.source();
            }
            text
        }
    }
}

/// What is made of an answer.
type Lie = fn(ChecksumResponse) -> Option<ChecksumResponse>;

/// A daemon that has the file, and answers something else than it was asked for.
struct Lying<'f>(&'f Fixtures, Lie);

impl ResolveSourceMeta for Lying<'_> {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(async move {
            let mut answer = self.0.resolve(request).await?;
            if let Some(http) = &mut answer.http {
                http.checksum_response = http.checksum_response.take().and_then(self.1);
            }
            Ok(answer)
        })
    }
}

/// An answer to another question is none: neither a rule nor its negation passes by it.
#[tokio::test]
async fn digests_of_something_else_are_no_answer() {
    let gpg = Gpg::new();
    gpg.key("A", "ed25519", BEGUN, "never");
    let file = |name: &str, content: Vec<u8>| (name.to_owned(), Bytes::from(content));
    let call = "verify_http_pgp_signature(input.http, \"app.asc\", \"keys.asc\")";
    let mut fixtures = Fixtures::default();
    fixtures.http =
        Some(FileFixture { content: Bytes::from_static(PAYLOAD), filename: "app".to_owned() });
    let lies: [(&str, Lie); 11] = [
        ("nothing", |_| None),
        ("no digest", |it| Some(ChecksumResponse { digest: String::new(), ..it })),
        ("no suffix", |it| Some(ChecksumResponse { suffix: Bytes::new(), ..it })),
        ("another suffix", |mut it| {
            it.suffix = [&it.suffix[..], b"x"].concat().into();
            Some(it)
        }),
        ("another algorithm", |it| {
            let digest = format!("sha256:{}", hex::encode(Sha256::digest(PAYLOAD)));
            Some(ChecksumResponse { digest, ..it })
        }),
        ("another name", |mut it| {
            it.digest = it.digest.replace("sha512", "sha384");
            Some(it)
        }),
        ("no name", |mut it| {
            it.digest = it.digest.replace("sha512:", "");
            Some(it)
        }),
        ("in capitals", |mut it| {
            it.digest = it.digest.to_uppercase().replace("SHA512", "sha512");
            Some(it)
        }),
        ("cut off", |mut it| {
            it.digest.pop();
            Some(it)
        }),
        ("longer", |mut it| {
            it.digest.push_str("00");
            Some(it)
        }),
        ("no hexadecimal", |mut it| {
            it.digest.pop();
            it.digest.push('z');
            Some(it)
        }),
    ];
    for rule in [call.to_owned(), format!("not {call}")] {
        let text = format!(
            "package docker\ndefault allow := false\nallow if {rule}\n\
             decision := {{\"allow\": allow}}\n"
        );
        let signature = gpg.sign("A", SIGNED, &["--digest-algo", "SHA512"]);
        let files = [
            file("p.rego", text.into_bytes()),
            file("app.asc", signature),
            file("keys.asc", gpg.export(&["A"])),
        ];
        let files = PolicyFiles::memory(BTreeMap::from(files));
        let policies = [Policy::load("test", files, &["p.rego".to_owned()]).unwrap()];
        let op = SourceOp::new("https://example.com/app");
        let question = Question { op, platform: Platform::default(), env: Env::default() };
        let honest = Lying(&fixtures, Some);
        let checked = check::check(&policies, &question, &honest).await.unwrap();
        let is_allowed = matches!(checked.outcome, Outcome::Allowed(_));
        assert_eq!(is_allowed, rule == call, "{rule}: {:?}", checked.notes);
        for (about, lie) in lies {
            let got = check::check(&policies, &question, &Lying(&fixtures, lie)).await;
            assert!(got.is_err(), "{about}, {rule}: {:?}", got.unwrap().outcome);
        }
    }
}

/// What one build has verified, the next one does not.
#[tokio::test]
async fn downloads_are_verified_once() {
    let gpg = Gpg::new();
    gpg.key("A", "ed25519", BEGUN, "never");
    let (keys, good) = (gpg.export(&["A"]), gpg.sign("A", SIGNED, &[]));
    let trust = std::sync::Arc::new(Trust::new(TrustRoots::embedded().unwrap()));
    let policy = || policy(&keys, &good).map(|it| it.with_trust(trust.clone()));
    for (content, wanted, worked) in [
        (PAYLOAD, "allowed", 1),
        (PAYLOAD, "allowed", 1),
        (b"another", "did not sign this content", 2),
        (b"another", "did not sign this content", 2),
        (PAYLOAD, "allowed", 2),
    ] {
        let got = judged_by(&policy(), content).await;
        assert!(got.contains(wanted), "{got}");
        assert_eq!(trust.signers.worked(), worked, "{got}");
    }
}

#[tokio::test]
async fn downloads_are_judged_by_openpgp() {
    let gpg = Gpg::new();
    gpg.key("A", "rsa2048", BEGUN, "never");
    gpg.key("B", "ed25519", BEGUN, "never");
    gpg.key("ended", "ed25519", BEGUN, "20250601T000000");
    gpg.key("dsa", "dsa1024", BEGUN, "never");
    let revoked = gpg.key("revoked", "ed25519", BEGUN, "never");
    let by_revoked = gpg.sign("revoked", SIGNED, &[]);
    let revocation = gpg.0.path().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let revocation = std::fs::read_to_string(revocation).unwrap().replace(":-----", "-----");
    gpg.run(SIGNED, &["--import"], revocation.as_bytes());

    let (a, good) = (gpg.export(&["--armor", "A"]), gpg.sign("A", SIGNED, &[]));
    let packet = armor::read(std::str::from_utf8(&good).unwrap()).unwrap().blocks.remove(0).data;
    let mut tampered = packet.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let mut of_a_key = packet.clone();
    // The type, behind a header of the old format with two octets of length.
    assert_eq!(packet[..5], [0x89, packet[1], packet[2], 4, 0]);
    of_a_key[4] = 0x13;
    let huge = vec![b'\n'; MAX_SIGNATURE + 1];
    let huge_keys = vec![b'\n'; MAX_KEY_FILE + 1];
    let ssh = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";
    let sign = |user: &str, options: &[&str]| gpg.sign(user, SIGNED, options);
    let export = |user: &str| gpg.export(&[user]);
    for (about, keys, signature, wanted) in [
        ("armored", a.clone(), good.clone(), "allowed"),
        ("binary", export("A"), packet.clone(), "allowed"),
        ("SHA-256", a.clone(), sign("A", &["--digest-algo", "SHA256"]), "allowed"),
        ("SHA-384", a.clone(), sign("A", &["--digest-algo", "SHA384"]), "allowed"),
        ("SHA-512", a.clone(), sign("A", &["--digest-algo", "SHA512"]), "allowed"),
        ("Ed25519", export("B"), sign("B", &[]), "allowed"),
        ("wrong key", export("B"), good.clone(), "denied: input.http is not verified"),
        ("wrong key, in words", export("B"), good.clone(), "which is not in the key file"),
        ("tampered signature", a.clone(), tampered, "denied: input.http is not verified"),
        ("expired key", export("ended"), sign("ended", &[]), "expired at 2025-06-01"),
        (
            "expired signature",
            a.clone(),
            sign("A", &["--default-sig-expire", "20250301T000000"]),
            "it expired at 2025-03-01",
        ),
        ("revoked", export("revoked"), by_revoked, "was revoked"),
        ("to come", a.clone(), gpg.sign("A", "20900101T000000!", &[]), "dated in the future"),
        (
            "weak",
            a.clone(),
            sign("A", &["--digest-algo", "SHA1"]),
            "denied: input.http is not verified",
        ),
        ("another algorithm", export("dsa"), sign("dsa", &["--digest-algo", "SHA256"]), "error: "),
        ("of a key", a.clone(), of_a_key, "its type is 0x13, not a document's"),
        ("of a text", a.clone(), sign("A", &["--textmode"]), "is not supported"),
        ("truncated", a.clone(), good[..good.len() / 2].to_vec(), "error: "),
        ("truncated packet", a.clone(), packet[..packet.len() / 2].to_vec(), "error: "),
        ("empty", a.clone(), Vec::new(), "error: "),
        ("huge", a.clone(), huge, "error: "),
        ("no keys", Vec::new(), good.clone(), "no public key"),
        ("truncated keys", a[..a.len() / 2].to_vec(), good.clone(), "error: "),
        ("huge keys", huge_keys, good.clone(), "error: "),
        ("SSH's keys", ssh.to_vec(), good.clone(), "OpenPGP's are wanted"),
    ] {
        let got = judged(&keys, &signature, PAYLOAD).await;
        assert!(got.contains(wanted), "{about}: {got}, expected {wanted}");
        if wanted != "allowed" {
            assert!(!got.starts_with("allowed"), "{about}");
            continue;
        }
        // Another download is never what was signed, nor an empty or a huge one.
        for other in [&b"release 1.1\n"[..], b"", &[b'x'; 1 << 20]] {
            let got = judged(&keys, &signature, other).await;
            assert!(got.contains("did not sign this content"), "{about}: {got}");
        }
    }
}
