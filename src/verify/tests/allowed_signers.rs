//! Files of allowed signers, held against real git, which asks real ssh-keygen: what they refuse is refused,
//! and what they accept is accepted but for the rows that say why not.

use super::git::{git_says, repository};
use super::ssh_signatures::OTHER;
use super::*;

/// What git says, and what is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// Both accept it.
    Both,
    /// Neither does; with a part of the reason that is given here.
    Neither(&'static str),
    /// Git alone does; with a part of the reason that is given here.
    GitAlone(&'static str),
    /// A public key without principals, which git does not read.
    PublicKey,
}

/// Files, with `K` in the place of the key that signed at the beginning of 2029.
fn rows() -> Vec<(String, Row)> {
    use Row::{Both, GitAlone, Neither, PublicKey};
    let long = "x".repeat(1_100);
    let rows = [
        ("a@b.c K", Both),
        ("a@b.c K comment and more", Both),
        ("\ta@b.c\tnamespaces=\"git\"\t K", Both),
        ("# keys\n\n \n a K", Both),
        ("a K\r\n", Both),
        ("K", PublicKey),
        ("K comment", PublicKey),
        // Principals are patterns, and git asks about them by their own words.
        ("* K", Both),
        ("*@b.c K", Both),
        ("?@b.c,x K", Both),
        ("a@b.c,c@d.e K", Both),
        ("*,!a K", Both),
        ("!a K", Neither("are nobody's: \"!a\"")),
        ("a,!a K", Neither("are nobody's")),
        ("a,!* K", Neither("are nobody's")),
        (",a K", Neither("are nobody's")),
        ("a,,b K", Both),
        ("\"\" K", Neither("are nobody's: \"\"")),
        ("\"a b\" K", Both),
        ("\"a b\"K", GitAlone("a quote stands within")),
        ("a\"b\" K", GitAlone("a quote stands within")),
        ("a\"b c\"d K", Neither("a quote stands within")),
        ("\"a K", Neither("a quote does not end")),
        // Namespaces.
        ("a namespaces=\"git\" K", Both),
        ("a NameSpaces=\"git\" K", Both),
        ("a namespaces=\"file,git\" K", Both),
        ("a namespaces=\"g?t\" K", Both),
        ("a namespaces=\"g*\" K", Both),
        ("a namespaces=\"file\" K", Neither("does not allow")),
        ("a namespaces=\"Git\" K", Neither("does not allow")),
        ("a namespaces=\"*,!git\" K", Neither("does not allow")),
        ("a namespaces=\"file, git\" K", Neither("does not allow")),
        ("a namespaces=\"git ,file\" K", Neither("does not allow")),
        ("a namespaces=\"git,LONG\" K", Neither("does not allow")),
        ("a namespaces=\"\" K", Neither("unknown option")),
        ("a namespaces=git K", Neither("does not stand in quotes")),
        ("a namespaces='git' K", Neither("does not stand in quotes")),
        ("a namespaces K", Neither("unknown option")),
        ("a namespaces=\"\"git\"\" K", Neither("unknown option")),
        ("a namespaces=\"git\"x K", Neither("unknown option")),
        ("a namespaces=\"git\\\"x\" K", Neither("a quote does not end")),
        ("a namespaces=\"git\\\"\"\" K", Neither("holds a backslash")),
        ("a namespaces=\"git\",namespaces=\"git\" K", Neither("is given twice")),
        // Which line counts: the first that is in force says who it may be.
        ("a namespaces=\"file\" K\nb K", Neither("does not allow")),
        ("a namespaces=\"file\" K\na K", Both),
        ("a namespaces=\"file\" K\n* K", Both),
        ("b K\na namespaces=\"file\" K", Both),
        ("a,b namespaces=\"file\" K\nb K", Both),
        ("a valid-before=\"20280101\" K\nb K", Both),
        ("O\na K", Both),
        ("a O\na K", Both),
        ("a O\nb O", Neither("not in the key file")),
        // Times, which are UTC here.
        ("a valid-after=\"20280101\" K", Both),
        ("a valid-after=\"20280101Z\",valid-before=\"20310101120000Z\" K", Both),
        ("a valid-after=\"202806011230\" K", Both),
        ("a valid-after=\"20290101000000\" K", Both),
        ("a valid-after=\"20290101000001Z\" K", Neither("is valid only from 2029-01-01T00:00:01Z")),
        ("a valid-before=\"20280101\" K", Neither("expired at 2028")),
        // For git it was signed in time, whatever has become of the key since; and its last second counts.
        ("a valid-before=\"20290601\" K", GitAlone("expired at 2029-06-01")),
        ("a valid-before=\"20290101\" K", GitAlone("expired at 2029-01-01")),
        ("a valid-after=\"20290101\",valid-before=\"20280101\" K", Neither("is no later than")),
        ("a valid-before=\"20280101\",valid-after=\"20290101\" K", Neither("is no later than")),
        ("a valid-after=\"20280101\",valid-before=\"20280101\" K", Neither("is no later than")),
        ("a valid-after=\"19700101Z\" K", Neither("is no time")),
        ("a valid-after=\"2028\" K", Neither("is no time")),
        ("a valid-after=\"20281301\" K", Neither("is no time")),
        ("a valid-after=\"20280101 \" K", Neither("is no time")),
        ("a valid-after=20280101 K", Neither("does not stand in quotes")),
        ("a valid-after K", Neither("unknown option")),
        // Authorities sign certificates, not objects.
        ("a cert-authority K", Neither("not in the key file")),
        ("a Cert-Authority,namespaces=\"git\" K", Neither("not in the key file")),
        ("a cert-authority K\nb K", Both),
        ("a cert-authority=\"x\" K", Neither("takes no value")),
        ("a cert-authority=\"\" K", Neither("takes no value")),
        ("a cert-authority= K", Neither("does not stand in quotes")),
        ("a cert-authorityx K", Neither("unknown option")),
        // Other options, and what looks like one.
        ("a revoked K", Neither("unknown option")),
        ("a restrict K", Neither("unknown option")),
        ("a cert-authority, K", Neither("unknown option")),
        ("a namespaces=\"git\", K", Neither("unknown option")),
        ("a ,namespaces=\"git\" K", GitAlone("unknown option")),
        ("a namespaces=\"git\" namespaces=\"git\" K", Neither("is no type of key")),
        ("namespaces=\"git\" K", GitAlone("options stand after")),
        ("cert-authority K", GitAlone("options stand after")),
        ("@revoked K", GitAlone("is no principal")),
        ("@revoked * K", Neither("is no principal")),
        // What git passes over may be what restricts.
        ("a unknown-option O\nb K", GitAlone("unknown option")),
        ("a ssh-ed25519 AAAA\nb K", GitAlone("line 1")),
        ("a\u{1}b K", GitAlone("control characters")),
        ("a\0b K", Neither("control characters")),
        ("a K\0", GitAlone("control characters")),
    ];
    let filled = rows.map(|(text, row)| (text.replace("LONG", &long).replace('O', OTHER), row));
    filled.into()
}

#[test]
fn allowed_signers_as_git_judges_them() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key), b"");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let signing = format!("user.signingkey={}", key.display());
    let (commit, tag) = repository(dir.path(), "sha1", &["gpg.format=ssh".to_owned(), signing]);
    let file = dir.path().join("allowed");
    let setting = format!("gpg.ssh.allowedSignersFile={}", file.display());
    let git = |args: [&str; 2]| {
        let mut git = Command::new("git");
        git.current_dir(dir.path()).env("HOME", dir.path()).env("GIT_CONFIG_NOSYSTEM", "1");
        git.env("TZ", "UTC").args(["-c", &setting]).args(args);
        git.output().unwrap().status.success()
    };
    for (at, (text, row)) in rows().into_iter().enumerate() {
        let text = text.replace('K', public.trim());
        std::fs::write(&file, format!("{text}\n")).unwrap();
        let by_git = git(["verify-commit", "HEAD"]);
        // The same holds of a tag, which costs as many processes again.
        let (by_tag, tag_here) = if at % 4 == 0 {
            (git(["verify-tag", "v1"]), git_says(&tag, ObjectFormat::Sha1, &text))
        } else {
            (by_git, git_says(&commit, ObjectFormat::Sha1, &text))
        };
        let here = git_says(&commit, ObjectFormat::Sha1, &text);
        assert_eq!((by_tag, &tag_here), (by_git, &here), "{text:?}");
        let wanted = match row {
            Row::Both => (true, "good"),
            Row::Neither(why) => (false, why),
            Row::GitAlone(why) => (true, why),
            Row::PublicKey => (false, "good"),
        };
        assert!(here.contains(wanted.1), "{text:?}: {here}, expected {row:?}");
        assert_eq!(by_git, wanted.0, "git says otherwise of {text:?}: {row:?}");
        assert!(by_git || here != "good" || row == Row::PublicKey, "{text:?}");
    }
}

/// Git believes no signature of a commit whose committer is nobody; and a time past all numbers is to come.
#[test]
fn objects_that_do_not_say_when() {
    let id = "7".repeat(40);
    for (committer, wanted) in [
        ("A <a@b.c> 1861920000 +0000", "good"),
        ("A <a@b.c>", "good"),
        ("A <a@b.c> 99999999999999999999 +0000", "dated in the future"),
        ("A 1861920000 +0000", "the committer of the commit is nobody"),
        ("A a@b.c> 1861920000 +0000", "the committer of the commit is nobody"),
    ] {
        let whole = format!("tree {id}\nauthor A <a@b.c> 1 +0000\ncommitter {committer}\n\nx\n");
        let (signature, public) = super::ssh_signatures::sk_ed25519(whole.as_bytes());
        let header = signature.trim_end().replace('\n', "\n ");
        let text = whole.replacen("\n\n", &format!("\ngpgsig {header}\n\n"), 1);
        let object = GitObject::parse(Kind::Commit, text.into()).unwrap();
        let got = git_says(&object, ObjectFormat::Sha1, &public);
        assert!(got.contains(wanted), "{committer}: {got}");
    }
}
