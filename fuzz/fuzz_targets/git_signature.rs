#![no_main]
//! Signatures of git objects, as rules see them and as they are verified: key file, signature and the
//! rest of a commit are parted by lines of `--8<--`.

use buildgate::input::gitobject::{GitObject, Kind};
use buildgate::input::{Env, build};
use buildgate::meta::{GitMeta, Known, SourceMeta};
use buildgate::source::{Platform, Source, SourceOp};
use buildgate::verify::{KeyFile, ObjectFormat, verify_git};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

mod parts;

/// 2030-01-01.
const NOW: i64 = 1_893_456_000;

/// A commit with a signature in the header of SHA-256 repositories.
fn commit(signature: &[u8], rest: &[u8]) -> Vec<u8> {
    let tree = "0".repeat(64);
    let mut object =
        format!("tree {tree}\nauthor A <a@b.c> 1 +0000\ncommitter A <a@b.c> 1 +0000\n");
    object.push_str("gpgsig-sha256 ");
    object.push_str(&String::from_utf8_lossy(signature).trim_end().replace('\n', "\n "));
    [object.as_bytes(), b"\n", rest].concat()
}

fuzz_target!(|data: &[u8]| {
    let [keys, signature, rest] = parts::of(data);
    let raw = commit(signature, rest);
    // As rules see it.
    let mut framed = format!("commit {}\0", raw.len()).into_bytes();
    framed.extend(&raw);
    let checksum = hex::encode(Sha256::digest(framed));
    let op = SourceOp::new("git://example.com/app.git#main");
    let git = GitMeta {
        checksum,
        reference: "refs/heads/main".to_owned(),
        commit_object: Some(raw.clone().into()),
        ..GitMeta::default()
    };
    let root = SourceMeta { git: Some(git), ..SourceMeta::default() };
    let known = Known { root, ..Known::default() };
    if let Ok(source) = Source::parse(&op) {
        let _ = build(&op, &source, &Platform::default(), &known, &Env::default());
    }
    // As it is verified: what holds, holds for these bytes alone.
    let Ok(keys) = KeyFile::parse(keys) else { return };
    let Ok(object) = GitObject::parse(Kind::Commit, raw.into()) else { return };
    if verify_git(&object, ObjectFormat::Sha256, &keys, NOW).is_ok() {
        let other = commit(signature, &[rest, b"x"].concat());
        if let Ok(other) = GitObject::parse(Kind::Commit, other.into()) {
            assert!(verify_git(&other, ObjectFormat::Sha256, &keys, NOW).is_err());
        }
    }
});
