//! What becomes of the document where signatures of attestations hold, do not, or cannot be judged.

use serde_json::Value;

use super::*;
use crate::input::Image;
use crate::meta::{ImageMeta, SourceMeta};
use crate::verify::chain::tests::{Draft, Format, layer, trust, unchanged};
use crate::verify::sigstore::tests::NOW;
use crate::verify::sigstore::tests::forge::{Forge, Who, digest};

/// The document of an image with this digest and these attestations, after verification.
fn verified(
    chain: AttestationChain,
    checksum: &str,
    trust: &Trust,
    now: Option<i64>,
) -> (Input, Vec<String>) {
    let image = ImageMeta {
        digest: Some(checksum.to_owned()),
        attestations: Some(chain),
        ..ImageMeta::default()
    };
    let root = SourceMeta { image: Some(image), ..SourceMeta::default() };
    let known = Known { root, ..Known::default() };
    let image = Image { checksum: checksum.to_owned(), ..Image::default() };
    let mut input = Input { image: Some(image), ..Input::default() };
    input.unverifiable = FieldSet::of(&[Field::ImageSignatures]);
    let notes = verify_at(&mut input, &known, trust, now);
    (input, notes)
}

#[test]
fn absent_invalid_and_could_not_are_three_things() {
    let forge = Forge::new(10);
    let jane = Who::person("jane@example.com");
    let in_force = forge.trusted_root();
    let mut ended = in_force.clone();
    ended["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T12:00:00Z".into();
    let right = |digest: &str| layer(&forge, &jane, Format::Bundle, digest);
    let of_another = |_: &str| layer(&forge, &jane, Format::Bundle, &digest(b"else"));
    let right = Draft { manifest: &unchanged, layer: &right }.chain();
    let tampered = Draft { manifest: &unchanged, layer: &of_another }.chain();
    let mut altered = right.clone();
    altered.blobs.get_mut(&right.root).unwrap().data = "{}".into();
    let mut unsigned = right.clone();
    unsigned.signature_manifests.clear();
    let mut without = right.clone();
    without.blobs.remove(&right.attestation_manifest);
    // One that is larger than anybody reads may be the right one.
    let huge = |digest: &str| {
        let mut made = layer(&forge, &jane, Format::Bundle, digest);
        made.1.resize((16 << 20) + 1, b' ');
        made
    };
    let huge = Draft { manifest: &unchanged, layer: &huge }.chain();
    let root = right.root.clone();
    type Wanted = (usize, bool, &'static str);
    type Row<'r> = (&'r str, &'r AttestationChain, &'r str, &'r Value, Option<i64>, Wanted);
    let rows: [Row<'_>; 11] = [
        ("right", &right, &root, &in_force, Some(NOW), (1, true, "")),
        ("unsigned", &unsigned, &root, &in_force, Some(NOW), (0, true, "are not signed")),
        (
            "of another",
            &tampered,
            &tampered.root,
            &in_force,
            Some(NOW),
            (0, true, "about something else"),
        ),
        ("altered", &altered, &root, &in_force, Some(NOW), (0, true, "was altered")),
        ("expired root", &right, &root, &ended, Some(NOW), (0, false, "expired at 2025-06-01")),
        ("a missing part", &without, &root, &in_force, Some(NOW), (0, false, "was not returned")),
        (
            "another image's",
            &right,
            &digest(b"else"),
            &in_force,
            Some(NOW),
            (0, false, "the attestations are of"),
        ),
        (
            "whose digest is not known",
            &right,
            "",
            &in_force,
            Some(NOW),
            (0, false, "the digest of the image was not returned"),
        ),
        (
            "unsigned, of another image",
            &unsigned,
            &digest(b"else"),
            &in_force,
            Some(NOW),
            (0, false, "the attestations are of"),
        ),
        ("huge", &huge, &huge.root, &in_force, Some(NOW), (0, false, "more is not looked at")),
        ("no clock", &right, &root, &in_force, None, (0, false, "clock")),
    ];
    for (what, chain, checksum, root, now, (signatures, decided, words)) in rows {
        let (input, notes) = verified(chain.clone(), checksum, &trust(root), now);
        let image = input.image.unwrap();
        assert_eq!(image.signatures.len(), signatures, "{what}: {notes:?}");
        // Where it can be read, a rule decides by it; else the policy comes to no decision.
        assert_eq!(input.unverifiable == FieldSet::default(), decided, "{what}: {notes:?}");
        let said = format!("{}{}", notes.join("; "), input.unverifiable_because);
        assert!(said.contains(words), "{what}: {said}");
    }
}
