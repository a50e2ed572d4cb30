//! Each kind of signature, and what becomes of it in each way that it can be wrong, as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::forge::{Rekor, about, b64, digest, key, public_pem, statement};
use super::*;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Who signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Certificate(Rekor),
    Key { logged: bool },
    Hardened { logged: bool },
}

/// A kind of signature.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub name: &'static str,
    pub by: By,
    pub simple: bool,
}

/// What somebody signs.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub forge: &'a Forge,
    /// Of the key, where a key signs.
    pub seed: u8,
    /// Who has a certificate.
    pub who: &'a Who,
    /// What a statement states.
    pub predicate: &'a str,
    pub about: &'a str,
}

const KINDS: [Kind; 11] = [
    Kind { name: "bundle, keyless, Rekor v1", by: By::Certificate(Rekor::V1), simple: false },
    Kind { name: "bundle, keyless, Rekor v2", by: By::Certificate(Rekor::V2), simple: false },
    Kind { name: "bundle, by key", by: By::Key { logged: false }, simple: false },
    Kind { name: "bundle, by key, logged", by: By::Key { logged: true }, simple: false },
    Kind { name: "simple, keyless", by: By::Certificate(Rekor::V1), simple: true },
    Kind { name: "simple, by key", by: By::Key { logged: false }, simple: true },
    Kind { name: "simple, by key, logged", by: By::Key { logged: true }, simple: true },
    Kind { name: "hardened, bundle", by: By::Hardened { logged: false }, simple: false },
    Kind { name: "hardened, bundle, logged", by: By::Hardened { logged: true }, simple: false },
    Kind { name: "hardened, simple", by: By::Hardened { logged: false }, simple: true },
    Kind { name: "hardened, simple, logged", by: By::Hardened { logged: true }, simple: true },
];

/// A signature as it is handed to us.
pub(crate) struct Made {
    pub data: Vec<u8>,
    pub annotations: BTreeMap<String, String>,
}

impl Kind {
    /// A signature of something by its digest.
    pub(crate) fn make(self, signed: Signed<'_>) -> Made {
        let Signed { forge, seed, who, predicate, about: about_digest } = signed;
        let statement = about(predicate, about_digest);
        let leaf = forge.leaf(who, 100);
        let logged = match self.by {
            By::Certificate(_) => true,
            By::Key { logged } | By::Hardened { logged } => logged,
        };
        let (data, annotations) = match (self.simple, self.by) {
            (true, By::Certificate(_)) => forge.simple(&leaf, about_digest),
            (true, _) => forge.simple_by_key(&key(seed), about_digest, logged),
            (false, By::Certificate(rekor)) => bundle(forge.attest(&leaf, &statement, rekor)),
            (false, _) => {
                let rekor = logged.then_some(Rekor::V1);
                bundle(forge.attest_by_key(&key(seed), &statement, rekor))
            }
        };
        Made { data, annotations }
    }

    fn verify(self, made: &Made, root: &TrustRoot) -> Result<VerifiedSignature, NotVerified> {
        let own = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
        let hardened = HardenedKey::new(own.clone(), AT);
        let by = match self.by {
            By::Certificate(_) => Signer::Keyless(root),
            By::Key { logged: true } => Signer::Key(&own, Log::Required(root)),
            By::Key { logged: false } => Signer::Key(&own, Log::WherePresent(root)),
            By::Hardened { .. } => Signer::DockerHardenedImages(root, &hardened),
        };
        let about = digest(ARTIFACT);
        if self.simple {
            let signed = SimpleSigning { payload: &made.data, annotations: &made.annotations };
            return verify_simple_signing(&signed, &about, by, NOW);
        }
        verify_bundle(&made.data, Artifact::Digest(&about), by, NOW)
    }
}

fn bundle(bundle: Value) -> (Vec<u8>, BTreeMap<String, String>) {
    (bundle.to_string().into_bytes(), BTreeMap::new())
}

/// Changes the bytes of the signature itself.
pub(crate) fn resigned(made: &Made, change: &dyn Fn(&mut Vec<u8>)) -> Made {
    let changed = |text: &str| {
        let mut signature = STANDARD.decode(text).unwrap();
        change(&mut signature);
        b64(signature)
    };
    let (mut data, mut annotations) = (made.data.clone(), made.annotations.clone());
    if let Some(signature) = annotations.get_mut(SIGNATURE) {
        *signature = changed(signature);
    } else {
        let mut bundle: Value = serde_json::from_slice(&data).unwrap();
        let signature = &mut bundle["dsseEnvelope"]["signatures"][0]["sig"];
        *signature = changed(signature.as_str().unwrap()).into();
        data = bundle.to_string().into_bytes();
    }
    Made { data, annotations }
}

/// Changes what is signed, and leaves its digest and its type as they are.
pub(crate) fn tampered(made: &Made) -> Made {
    let replaced = |data: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(data.to_vec()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        text.replacen(from, to, 1).into_bytes()
    };
    let annotations = made.annotations.clone();
    if !annotations.is_empty() {
        return Made { data: replaced(&made.data, "registry", "registrY"), annotations };
    }
    let mut bundle: Value = serde_json::from_slice(&made.data).unwrap();
    let payload = &mut bundle["dsseEnvelope"]["payload"];
    let statement = STANDARD.decode(payload.as_str().unwrap()).unwrap();
    *payload = b64(replaced(&statement, "ours", "evil")).into();
    Made { data: bundle.to_string().into_bytes(), annotations }
}

#[test]
fn each_kind_in_each_way_that_it_can_be_wrong() {
    let (forge, stranger) = (Forge::new(10), Forge::new(30));
    let jane = Who::person("jane@example.com");
    let late = Who { begins: 120, ..jane.clone() };
    let right = forge.trusted_root();
    let with = |pointer: &str, end: &str| {
        let mut json = right.clone();
        json.pointer_mut(pointer).unwrap()["end"] = end.into();
        root("sigstore", &json)
    };
    let in_force = root("sigstore", &right);
    let expired = with("/certificateAuthorities/0/validFor", "2025-06-01T12:00:00Z");
    let mut withdrawn = right.clone();
    for log in 0..2 {
        withdrawn["tlogs"][log]["publicKey"]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    }
    let withdrawn = root("sigstore", &withdrawn);
    let (artifact, elsewhere) = (digest(ARTIFACT), digest(b"else"));
    let mut table = String::new();
    for kind in KINDS {
        writeln!(table, "{}", kind.name).unwrap();
        let signed =
            Signed { forge: &forge, seed: 50, who: &jane, predicate: SLSA, about: &artifact };
        let made = || kind.make(signed);
        let cut = |at: usize| Made { data: made().data[..at].to_vec(), ..made() };
        let huge = Made { data: vec![b' '; MAX_BUNDLE + 1], ..made() };
        let ed25519 = resigned(&made(), &|it| {
            use ed25519_dalek::Signer as _;
            let other = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
            *it = other.sign(&made().data).to_bytes().to_vec();
        });
        let keyless = matches!(kind.by, By::Certificate(_));
        let mut rows = vec![
            ("good", made(), &in_force),
            ("by another", kind.make(Signed { forge: &stranger, seed: 51, ..signed }), &in_force),
            ("tampered payload", tampered(&made()), &in_force),
            (
                "tampered signature",
                resigned(&made(), &|it| *it.last_mut().unwrap() ^= 1),
                &in_force,
            ),
            ("no bytes of signature", resigned(&made(), &Vec::clear), &in_force),
            ("another digest", kind.make(Signed { about: &elsewhere, ..signed }), &in_force),
            ("expired root", made(), &expired),
            ("truncated", cut(made().data.len() / 2), &in_force),
            ("empty", cut(0), &in_force),
            ("huge", huge, &in_force),
            ("a signature of another algorithm", ed25519, &in_force),
        ];
        if keyless {
            rows.push((
                "expired certificate",
                kind.make(Signed { who: &late, ..signed }),
                &in_force,
            ));
        }
        // Whoever needs no log does not mind that it was withdrawn.
        rows.push(("withdrawn log", made(), &withdrawn));
        for (what, made, root) in rows {
            let result = kind.verify(&made, root);
            let came = outcome(&result);
            writeln!(table, "  {what}: {came}").unwrap();
            let alone =
                matches!(kind.by, By::Key { logged: false } | By::Hardened { logged: false });
            let may_hold = what == "good" || (what == "withdrawn log" && alone);
            assert_eq!(result.is_ok(), may_hold, "{}, {what}: {result:?}", kind.name);
        }
    }
    insta::assert_snapshot!(table);
}

/// What a bundle's timestamps are, in place of the right one.
fn timed(bundle: &Value, tokens: &[Vec<u8>]) -> Value {
    let mut bundle = bundle.clone();
    let tokens: Vec<Value> =
        tokens.iter().map(|token| json!({"signedTimestamp": b64(token)})).collect();
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": tokens});
    bundle
}

#[test]
fn timestamps_are_of_the_root_s_authority_and_in_its_time() {
    let (forge, stranger) = (Forge::new(10), Forge::new(30));
    let leaf = person(&forge);
    let right = forge.trusted_root();
    let stamps = |start: &str, end: Option<&str>| {
        let mut json = right.clone();
        let window = &mut json["timestampAuthorities"][0]["validFor"];
        *window = json!({"start": start});
        if let Some(end) = end {
            window["end"] = end.into();
        }
        root("sigstore", &json)
    };
    let in_force = root("sigstore", &right);
    let ended = stamps("2024-01-01T00:00:00Z", Some("2025-01-01T00:00:00Z"));
    let later = stamps("2025-06-02T00:00:00Z", None);
    let mut none = right.clone();
    none["timestampAuthorities"] = json!([]);
    let none = root("sigstore", &none);
    // Each by Rekor v2, which has no other time, and beside the time of Rekor v1.
    for rekor in [Rekor::V2, Rekor::V1] {
        let bundle = forge.attest(&leaf, &statement(SLSA, ARTIFACT), rekor);
        let signature = bundle["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
        let imprint = forge::sha256(STANDARD.decode(signature).unwrap());
        let token = |at| forge.token(&imprint, at);
        let good = token(AT + 60);
        let mut altered = good.clone();
        let at = altered.len() - 3;
        altered[at] ^= 1;
        let other = [forge.token(&[7; 32], AT + 60)];
        let garbage = [b"garbage".to_vec()];
        let many = vec![good.clone(); 33];
        let window = if rekor == Rekor::V2 { "time" } else { "verified" };
        for (what, tokens, root, wanted) in [
            ("right", &[good.clone()][..], &in_force, "verified"),
            ("twice", &[good.clone(), good.clone()], &in_force, "verified"),
            ("none", &[], &in_force, window),
            ("an authority whose time is over", std::slice::from_ref(&good), &ended, "time"),
            ("an authority whose time has not come", std::slice::from_ref(&good), &later, "time"),
            ("a root without authorities", std::slice::from_ref(&good), &none, "time"),
            ("another authority", &[stranger.token(&imprint, AT + 60)], &in_force, "time"),
            ("of another signature", &other, &in_force, "time"),
            ("of tomorrow", &[token(NOW + 86_400)], &in_force, "certificate"),
            ("before the certificate", &[token(AT - 60)], &in_force, "certificate"),
            ("after the certificate", &[token(AT + 700)], &in_force, "certificate"),
            ("before its own certificate", &[token(AT - 100_000_000)], &in_force, "time"),
            ("an altered one", &[altered], &in_force, "time"),
            ("a truncated one", &[good[..good.len() / 2].to_vec()], &in_force, "time"),
            ("an empty one", &[Vec::new()], &in_force, "time"),
            ("garbage", &garbage, &in_force, "time"),
            ("a good one and garbage", &[good.clone(), b"garbage".to_vec()], &in_force, "time"),
            ("too many", &many, &in_force, "malformed"),
        ] {
            check(&format!("{what}, {rekor:?}"), &keyless(&timed(&bundle, tokens), root), wanted);
        }
    }
}
