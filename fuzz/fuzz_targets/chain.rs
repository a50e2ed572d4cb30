#![no_main]
//! Chains of attestations: index, attestation manifest, signature manifest, signature and image, parted
//! by lines of `--8<--`. `@name` stands for the digest of a part and `#name` for its size, so that the
//! parts lead to each other whatever they hold; and nobody has signed any of it.

use std::sync::OnceLock;

use buildgate::meta::{AttestationBlob, AttestationChain};
use buildgate::verify::Trust;
use buildgate::verify::chain::verify_chain;
use buildgate::verify::sigstore::TrustRoots;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

mod parts;

fuzz_target!(|data: &[u8]| {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let trust = TRUST.get_or_init(|| Trust::new(TrustRoots::embedded().unwrap()));
    let [index, attestation, signature, content, image] = parts::of(data);
    let mut chain = AttestationChain::default();
    let mut known: Vec<(&str, String, usize)> = Vec::new();
    for (name, part) in [
        ("image", image),
        ("content", content),
        ("attestation", attestation),
        ("signature", signature),
        ("index", index),
    ] {
        let mut text = part.to_vec();
        if let Ok(template) = std::str::from_utf8(part) {
            let mut filled = template.to_owned();
            for (name, digest, size) in &known {
                filled = filled.replace(&format!("@{name}"), digest);
                filled = filled.replace(&format!("\"#{name}\""), &size.to_string());
            }
            text = filled.into_bytes();
        }
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&text)));
        known.push((name, digest.clone(), text.len()));
        chain.blobs.insert(digest, AttestationBlob { data: text.into(), ..Default::default() });
    }
    let digest = |wanted: &str| known.iter().find(|it| it.0 == wanted).unwrap().1.clone();
    chain.root = digest("index");
    chain.image_manifest = digest("image");
    chain.attestation_manifest = digest("attestation");
    chain.signature_manifests = vec![digest("signature")];
    if let Ok(signers) = verify_chain(&chain, trust, 1_800_000_000) {
        assert!(signers.verified.is_empty());
    }
});
