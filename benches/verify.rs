#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on fails")]
//! What one verification costs, by kind of signature; and what it costs again, when it is known.

#[path = "../integration-tests/forge/mod.rs"]
mod forge;

use std::hint::black_box;

use buildgate::verify::sigstore::{
    Artifact, Log, PublicKey, Signer, SimpleSigning, TrustRoot, VerificationCache, verify_bundle,
    verify_simple_signing,
};
use criterion::{Criterion, criterion_group, criterion_main};
use forge::{AT, Forge, Rekor, Who, digest, key, public_pem, statement};

const ARTIFACT: &[u8] = b"a tarball";
const NOW: i64 = AT + 86_400;

fn bundles(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let statement = statement("https://slsa.dev/provenance/v1", ARTIFACT);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let keyless = Signer::Keyless(&root);
    let artifact = digest(ARTIFACT);
    let artifact = Artifact::Digest(&artifact);
    for (name, bundle, by) in [
        ("bundle, Rekor v1", forge.attest(&leaf, &statement, Rekor::V1), keyless),
        ("bundle, Rekor v2", forge.attest(&leaf, &statement, Rekor::V2), keyless),
        (
            "bundle by key, logged",
            forge.attest_by_key(&key(50), &statement, Some(Rekor::V1)),
            Signer::Key(&ours, Log::Required(&root)),
        ),
        (
            "bundle by key alone",
            forge.attest_by_key(&key(50), &statement, None),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let bundle = bundle.to_string();
        c.bench_function(&format!("verify: {name}"), |b| {
            b.iter(|| black_box(verify_bundle(bundle.as_bytes(), artifact, by, NOW).unwrap()));
        });
        let cache = VerificationCache::default();
        c.bench_function(&format!("verify again: {name}"), |b| {
            b.iter(|| black_box(cache.bundle(bundle.as_bytes(), artifact, by, NOW).unwrap()));
        });
    }
    c.bench_function("read a trust root", |b| {
        b.iter(|| black_box(TrustRoot::parse("sigstore", json.as_bytes()).unwrap()));
    });
}

fn simple_signing(c: &mut Criterion) {
    let forge = Forge::new(10);
    let json = forge.trusted_root().to_string();
    let root = TrustRoot::parse("sigstore", json.as_bytes()).unwrap();
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let manifest = digest(b"a manifest");
    for (name, (payload, annotations), by) in [
        ("simple signing", forge.simple(&leaf, &manifest), Signer::Keyless(&root)),
        (
            "simple signing by key alone",
            forge.simple_by_key(&key(50), &manifest, false),
            Signer::Key(&ours, Log::Ignored),
        ),
    ] {
        let signed = SimpleSigning { payload: &payload, annotations: &annotations };
        c.bench_function(&format!("verify: {name}"), |b| {
            b.iter(|| black_box(verify_simple_signing(&signed, &manifest, by, NOW).unwrap()));
        });
        let cache = VerificationCache::default();
        c.bench_function(&format!("verify again: {name}"), |b| {
            b.iter(|| black_box(cache.simple_signing(&signed, &manifest, by, NOW).unwrap()));
        });
    }
}

criterion_group!(benches, bundles, simple_signing);
criterion_main!(benches);
