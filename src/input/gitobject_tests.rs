//! Objects that git made, objects nobody should believe, and arbitrary bytes.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use sha1_checked::Digest as _;

use super::*;

const SSH_COMMIT: &[u8] = include_bytes!("fixtures/ssh-commit");
const PGP_TAG: &[u8] = include_bytes!("fixtures/pgp-tag");

fn parse(kind: Kind, raw: &[u8]) -> Result<GitObject, GitObjectError> {
    GitObject::parse(kind, Bytes::copy_from_slice(raw))
}

fn git(at: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(at)
        .env("HOME", at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ann")
        .env("GIT_AUTHOR_EMAIL", "ann@example.com")
        .env("GIT_AUTHOR_DATE", "1700000000 +0530")
        .env("GIT_COMMITTER_NAME", "Bob")
        .env("GIT_COMMITTER_EMAIL", "bob@example.com")
        .env("GIT_COMMITTER_DATE", "1700000001 -0800")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn line(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap().trim_end().into()
}

#[test]
fn objects_of_git_hash_to_their_names() {
    for format in ["sha1", "sha256"] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        git(at, &["init", "-q", "-b", "main", "--object-format", format]);
        for message in ["one", "two\n\nwith a body\n\n\n"] {
            let encoding = "i18n.commitEncoding=ISO-8859-1";
            git(
                at,
                &[
                    "-c",
                    encoding,
                    "commit",
                    "-q",
                    "--allow-empty",
                    "--cleanup=verbatim",
                    "-m",
                    message,
                ],
            );
        }
        git(at, &["tag", "-a", "v1", "-m", "a tag"]);
        git(at, &["tag", "-a", "nested", "v1", "-m", "a tag of a tag"]);
        for (kind, name) in [
            (Kind::Commit, "HEAD"),
            (Kind::Commit, "HEAD~"),
            (Kind::Tag, "v1"),
            (Kind::Tag, "nested"),
        ] {
            let raw = git(at, &["cat-file", kind.name(), name]);
            let object = parse(kind, &raw).unwrap();
            object.verify_checksum(&line(git(at, &["rev-parse", name]))).unwrap();
            assert_eq!(object.signed_payload(), raw);
            assert_eq!(object.signature(), None);
            let other = kind == Kind::Tag;
            let header = if other { "tagger" } else { "committer" };
            let actor = object.actor(header).unwrap();
            assert_eq!(actor.when.as_deref(), Some("2023-11-14T14:13:21-08:00"));
        }
        let head = parse(Kind::Commit, &git(at, &["cat-file", "commit", "HEAD"])).unwrap();
        assert_eq!(head.header("tree"), Some(line(git(at, &["rev-parse", "HEAD^{tree}"]))));
        assert_eq!(
            head.headers("parent").collect::<Vec<_>>(),
            [line(git(at, &["rev-parse", "HEAD~"]))]
        );
        let nested = parse(Kind::Tag, &git(at, &["cat-file", "tag", "nested"])).unwrap();
        assert_eq!(nested.header("type").as_deref(), Some("tag"));
        assert_eq!(nested.message(), "a tag of a tag");
    }
}

#[test]
fn a_merged_tag_stays_inside_its_header() {
    let tag = String::from_utf8(PGP_TAG.to_vec()).unwrap().trim_end().replace('\n', "\n ");
    let raw = format!(
        "tree 1\nparent 2\nparent 3\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\
         mergetag {tag}\nencoding UTF-8\n\nmerge v1\n"
    );
    let object = parse(Kind::Commit, raw.as_bytes()).unwrap();
    for header in ["tag", "tagger", "object", "type"] {
        assert_eq!(object.header(header), None);
    }
    assert_eq!(object.headers("parent").collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(object.header("encoding").as_deref(), Some("UTF-8"));
    assert_eq!(object.message(), "merge v1");
    assert_eq!(object.signature(), None);
    assert_eq!(object.signed_payload(), raw.as_bytes());
}

#[test]
fn a_signed_commit_signs_all_but_its_signature() {
    let object = parse(Kind::Commit, SSH_COMMIT).unwrap();
    object.verify_checksum("38bd4abd34eeacfbae2db4e88c0ff838b9af6a0b").unwrap();
    let text = String::from_utf8(SSH_COMMIT.to_vec()).unwrap();
    let (before, rest) = text.split_once("gpgsig ").unwrap();
    let (_, after) = rest.split_once("-----END SSH SIGNATURE-----\n").unwrap();
    assert_eq!(String::from_utf8(object.signed_payload()).unwrap(), format!("{before}{after}"));
    let signature = object.signature().unwrap();
    assert!(signature.starts_with("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH"), "{signature}");
    assert!(signature.ends_with("\n-----END SSH SIGNATURE-----\n"), "{signature}");
    assert_eq!(object.message(), "ssh signed\n\nbody");
    assert_eq!(object.actor("author").unwrap().name, "Ann O Müller");
}

#[test]
fn both_signature_headers_are_left_out_of_what_is_signed() {
    let raw = b"tree 1\nauthor a <b> 1 +0000\ngpgsig-sha256 A\n A2\ncommitter c <d> 1 +0000\n\
        gpgsig B\n \n B2\n\nmessage\n";
    let object = parse(Kind::Commit, raw).unwrap();
    let payload = b"tree 1\nauthor a <b> 1 +0000\ncommitter c <d> 1 +0000\n\nmessage\n";
    assert_eq!(object.signed_payload(), payload);
    assert_eq!(object.signature().unwrap(), "A\nA2\n");
}

#[test]
fn a_signed_tag_signs_what_stands_before_its_signature() {
    let object = parse(Kind::Tag, PGP_TAG).unwrap();
    object.verify_checksum("8954fc123aeb5ca7fa29e17eee1a548e2e0d7674").unwrap();
    let text = String::from_utf8(PGP_TAG.to_vec()).unwrap();
    let at = text.find("-----BEGIN").unwrap();
    assert_eq!(object.signed_payload(), &text.as_bytes()[..at]);
    assert_eq!(object.signature().unwrap(), text[at..]);
    assert_eq!(object.message(), "signed tag\n\nbody");
}

#[test]
fn objects_that_readers_disagree_about_are_refused() {
    let end = "author a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nm\n";
    let missing = |kind, header| GitObjectError::MissingHeader { kind, header };
    let repeated =
        |kind, header: &str| GitObjectError::RepeatedHeader { kind, header: header.into() };
    for (kind, raw, error) in [
        (Kind::Commit, String::new(), missing(Kind::Commit, "tree")),
        (Kind::Commit, "\n\n".into(), missing(Kind::Commit, "tree")),
        (Kind::Commit, end.into(), missing(Kind::Commit, "tree")),
        (Kind::Commit, format!("x y\ntree 1\n{end}"), missing(Kind::Commit, "tree")),
        (Kind::Commit, "tree 1\n\nauthor a\n".into(), missing(Kind::Commit, "author")),
        (Kind::Commit, format!("tree 1\ntree 2\n{end}"), repeated(Kind::Commit, "tree")),
        (Kind::Commit, format!("tree 1\nauthor x\n{end}"), repeated(Kind::Commit, "author")),
        (
            Kind::Commit,
            format!("tree 1\ngpgsig A\ngpgsig B\n{end}"),
            repeated(Kind::Commit, "gpgsig"),
        ),
        (Kind::Commit, format!("tree 1\0\n{end}"), GitObjectError::Nul { kind: Kind::Commit }),
        (Kind::Tag, format!("tree 1\n{end}"), missing(Kind::Tag, "object")),
        (Kind::Tag, "object 1\ntype commit\ntag v1\n\nm".into(), missing(Kind::Tag, "tagger")),
        (
            Kind::Tag,
            "object 1\ntype commit\ntag v1\ntag v2\ntagger a\n\nm".into(),
            repeated(Kind::Tag, "tag"),
        ),
    ] {
        assert_eq!(parse(kind, raw.as_bytes()), Err(error), "{raw:?}");
    }
    let size = MAX_OBJECT + 1;
    let large = vec![b'\n'; size];
    assert_eq!(parse(Kind::Tag, &large), Err(GitObjectError::TooLarge { kind: Kind::Tag, size }));
}

#[test]
fn another_object_is_told_from_the_one_that_was_named() {
    let forged = b"tree 1\nauthor a <b> 1 +0000\ncommitter a <b> 1 +0000\n\nforged\n";
    let object = parse(Kind::Commit, forged).unwrap();
    for (name, wanted) in [
        ("0a04365fe0d14c441b134206d15dbb62bdd1fdcb".to_owned(), "served as 0a04365f"),
        ("0".repeat(64), "served as 000"),
        ("0".repeat(39), "no git object id"),
        (String::new(), "no git object id"),
    ] {
        let error = object.verify_checksum(&name).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
    let mut upper = parse(Kind::Commit, SSH_COMMIT).unwrap();
    upper.verify_checksum("38BD4ABD34EEACFBAE2DB4E88C0FF838B9AF6A0B").unwrap_err();
    upper.kind = Kind::Tag;
    upper.verify_checksum("38bd4abd34eeacfbae2db4e88c0ff838b9af6a0b").unwrap_err();
}

#[test]
fn half_of_a_collision_is_refused_even_under_its_own_name() {
    let object = parse(Kind::Commit, SSH_COMMIT).unwrap();
    let hash = sha1_checked::Sha1::digest(b"x");
    let checksum = hex::encode(hash);
    assert_eq!(object.sha1(&checksum, &CollisionResult::Ok(hash)), Ok(checksum.clone()));
    for result in [CollisionResult::Collision(hash), CollisionResult::Mitigated(hash)] {
        let error = GitObjectError::Collision { kind: Kind::Commit, checksum: checksum.clone() };
        assert_eq!(object.sha1(&checksum, &result), Err(error));
    }
}

#[test]
fn actors_are_read_as_buildkit_reads_them() {
    for (text, name, email, when) in [
        ("A B <a@b> 1700000000 -0500", "A B", "a@b", Some("2023-11-14T17:13:20-05:00")),
        ("A B <a@b> 1700000000 +0000", "A B", "a@b", Some("2023-11-14T22:13:20Z")),
        ("  A   <a@b>   1600000000 +0200  ", "A", "a@b", Some("2020-09-13T14:26:40+02:00")),
        ("A <B <a@b> 0 +0000", "A <B", "a@b", Some("1970-01-01T00:00:00Z")),
        ("A <a@b>", "A", "a@b", None),
        ("A <a@b> soon +0000", "A", "a@b", None),
        ("A <a@b> 1 500", "A", "a@b", None),
        ("A <a@b> 1 UTC+0", "A", "a@b", None),
        ("A a@b 1 +0000", "A a@b 1 +0000", "", None),
        (">A<", ">A<", "", None),
        ("<>", "", "", None),
    ] {
        let actor = actor(text).unwrap();
        let got = (actor.name.as_str(), actor.email.as_str(), actor.when.as_deref());
        assert_eq!(got, (name, email, when), "{text}");
    }
    for text in ["A <a@b> 9223372036854775807 +0000", "A <a@b> -99999999999 +0000", "A <b> 1 +9900"]
    {
        assert_eq!(actor(text), None, "{text}");
    }
}

#[test]
fn bytes_that_are_no_text_are_replaced_one_by_one() {
    assert_eq!(go_string(b"a\xff\xe2\x82b"), "a\u{fffd}\u{fffd}\u{fffd}b");
}

proptest! {
    #[test]
    fn never_panics(raw in prop::collection::vec(any::<u8>(), 0..300)) {
        for kind in [Kind::Commit, Kind::Tag] {
            let _ = parse(kind, &raw);
        }
    }

    #[test]
    fn never_panics_on_what_is_nearly_an_object(
        lines in prop::collection::vec(
            prop::sample::select(vec![
                "tree 1", "object 1", "type commit", "tag v1", "tagger a <b> 1 +0000", "author a",
                "committer <>", "gpgsig x", " y", "", "-----BEGIN PGP SIGNATURE-----", "é", "mergetag o",
            ]),
            0..14,
        ),
        end in prop::sample::select(vec!["", "\n", "\n\n"]),
    ) {
        let raw = lines.join("\n") + end;
        for kind in [Kind::Commit, Kind::Tag] {
            if let Ok(object) = parse(kind, raw.as_bytes()) {
                let _ = (object.message(), object.signature(), object.actor("author"));
                prop_assert!(object.signed_payload().len() <= raw.len());
            }
        }
    }
}
