#![no_main]
//! Octets of signatures of git objects, behind the armour that a fuzzer does not get through: key file, packet
//! or SSH blob, and the rest of a commit, parted by lines of `--8<--`. What was found out once is found again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildgate::input::gitobject::{GitObject, Kind};
use buildgate::verify::{KeyFile, ObjectFormat, SignerCache, verify_git};
use libfuzzer_sys::fuzz_target;

mod parts;

/// 2030-01-01.
const NOW: i64 = 1_893_456_000;

/// A commit of a SHA-256 repository with a signature.
fn commit(blob: &[u8], rest: &[u8]) -> Option<GitObject> {
    let (label, blank) = if blob.starts_with(b"SSHSIG") { ("SSH", "") } else { ("PGP", " \n") };
    let tree = "0".repeat(64);
    let mut head = format!(
        "tree {tree}\nauthor A <a@b.c> 1861920000 +0000\ncommitter A <a@b.c> 1861920000 +0000\n\
         gpgsig-sha256 -----BEGIN {label} SIGNATURE-----\n{blank}"
    );
    for line in STANDARD.encode(blob).as_bytes().chunks(70) {
        head.push_str(&format!(" {}\n", String::from_utf8_lossy(line)));
    }
    head.push_str(&format!(" -----END {label} SIGNATURE-----\n"));
    GitObject::parse(Kind::Commit, [head.as_bytes(), rest].concat().into()).ok()
}

fuzz_target!(|data: &[u8]| {
    let [keys, blob, rest] = parts::of(data);
    let (Ok(read), Some(object)) = (KeyFile::parse(keys), commit(blob, rest)) else { return };
    let format = ObjectFormat::Sha256;
    let answer = verify_git(&object, format, &read, NOW);
    if answer.is_ok() {
        if let Some(other) = commit(blob, &[rest, b"x"].concat()) {
            assert!(verify_git(&other, format, &read, NOW).is_err());
        }
    }
    let cache = SignerCache::new(2);
    for now in [NOW, NOW, NOW + 86_400 * 3650, NOW] {
        let fresh = verify_git(&object, format, &read, now);
        assert_eq!(cache.git(&object, format, keys, now), fresh);
    }
    assert_eq!(cache.git(&object, format, keys, NOW), answer);
});
