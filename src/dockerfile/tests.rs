//! Dockerfiles and what they would load; what is wrong with the others.

use std::fmt::Write as _;

use super::error::ExpandError;
use super::expand::{Budget, Mode};
use super::variables::{Base, Variables, Word};
use super::*;

/// Options from lines: `arg NAME=V`, `arg NAME`, `target T`, `platform P`, `context N=V`,
/// `remote URL`, `in-context`.
fn options(text: &str) -> Options {
    let mut options = Options::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let pair = |rest: &str| match rest.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (rest.to_owned(), None),
        };
        match what {
            "arg" => drop(options.build_args.insert(pair(rest).0, pair(rest).1)),
            "target" => options.target = Some(rest.into()),
            "platform" => options.platforms.push(Platform::parse(rest).unwrap()),
            "context" => {
                drop(options.contexts.insert(pair(rest).0, pair(rest).1.unwrap()));
            }
            "remote" => options.context = ContextKind::Remote(rest.into()),
            "in-context" => options.dockerfile = DockerfileKind::Context,
            _ => panic!("{line}"),
        }
    }
    options
}

/// The plan as text: one source a line, without the two that every local build has.
fn render(plan: &Plan) -> String {
    let mut out = String::new();
    let place = |lines: Option<Lines>| match lines {
        Some(Lines { start, end }) if start == end => format!("{start}"),
        Some(Lines { start, end }) => format!("{start}-{end}"),
        None => "-".into(),
    };
    for used in &plan.sources {
        if matches!(used.via, Via::Dockerfile | Via::Context)
            && used.op.identifier.starts_with("local://")
        {
            continue;
        }
        write!(out, "{} {}", place(used.lines), used.op.identifier).unwrap();
        for (name, value) in &used.op.attrs {
            write!(out, " {name}={value}").unwrap();
        }
        if let Some(platform) = &used.platform {
            write!(out, " [{platform}]").unwrap();
        }
        writeln!(out, " {:?} `{}`", used.via, used.text).unwrap();
    }
    for warning in &plan.warnings {
        writeln!(out, "warning {}: {}", place(warning.lines), warning.kind).unwrap();
    }
    out
}

/// The identifiers of the plan, beyond the two that every local build has.
fn identifiers(text: &str, asked: &str) -> Vec<String> {
    let plan = plan(text, &options(asked)).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let sources = plan.sources.iter().map(|used| used.op.identifier.clone());
    sources.filter(|id| id != "local://dockerfile" && id != "local://context").collect()
}

fn check(text: &str, asked: &str, wanted: &[&str]) {
    let wanted: Vec<String> = wanted
        .iter()
        .map(|id| match id.contains("://") {
            true => (*id).to_owned(),
            false => format!("docker-image://docker.io/{id}"),
        })
        .collect();
    assert_eq!(identifiers(text, asked), wanted, "\n{text}\n{asked}");
}

const ALPINE: &str = "library/alpine:latest";
const BUSYBOX: &str = "library/busybox:latest";

#[test]
fn stages_that_the_target_needs() {
    let file = "FROM alpine AS a\nFROM busybox AS b\nCOPY --from=A / /\nFROM debian AS c\n";
    check(file, "", &["library/debian:latest"]);
    check(file, "target B", &[ALPINE, BUSYBOX]);
    check(file, "target a", &[ALPINE]);
    check("FROM alpine AS a\nFROM a\nRUN x\n", "", &[ALPINE]);
    check("FROM alpine\nFROM busybox\nCOPY --from=0 / /\n", "", &[ALPINE, BUSYBOX]);
    check("FROM scratch\nCOPY --from=alpine:3 / /\n", "", &["library/alpine:3"]);
    check(
        "FROM scratch\nRUN --mount=type=cache,target=/c,from=ghcr.io/a/b x\n",
        "",
        &["docker-image://ghcr.io/a/b:latest"],
    );
    check(
        "FROM scratch\nRUN --mount=from=alpine,target=/a --mount=type=bind,from=busybox,dst=/b x",
        "",
        &[ALPINE, BUSYBOX],
    );
    // An index counts images that commands name as well, after the stages.
    check("FROM scratch\nCOPY --from=alpine / /\nCOPY --from=1 / /\n", "", &[ALPINE]);
    // The name of a stage is looked for in lower case, and nowhere is `scratch` an image.
    check("FROM alpine AS Builder\nFROM builder\n", "", &[ALPINE]);
    check("FROM scratch\n", "", &[]);
    // An image that a temporary mount names is still resolved; a stage's URLs are not fetched.
    check(
        "FROM scratch AS s\nADD https://a.b/c /\nFROM scratch\nRUN --mount=type=tmpfs,from=s,dst=/x x\n",
        "",
        &[],
    );
    check(
        "FROM alpine AS s\nADD https://a.b/c /\nFROM scratch\nCOPY <<EOF --from=s /\nEOF\n",
        "",
        &[],
    );
}

#[test]
fn triggers_of_a_stage_run_in_the_stages_from_it() {
    let file =
        "FROM alpine AS a\nONBUILD ADD https://a.b/c /\nONBUILD COPY --from=busybox / /\nFROM a\n";
    check(file, "", &[ALPINE, "https://a.b/c", BUSYBOX]);
    check(file, "target a", &[ALPINE]);
    // They do not reach the stage after.
    check(
        "FROM alpine AS a\nONBUILD ADD https://a.b/c /\nFROM a AS b\nFROM b\n",
        "",
        &[ALPINE, "https://a.b/c"],
    );
}

#[test]
fn added_sources() {
    for (arguments, wanted) in [
        ("https://a.b/c.tgz /x", "https://a.b/c.tgz http.filename=c.tgz"),
        ("https://a.b /x", "https://a.b http.filename=__unnamed__"),
        ("[\"https://a.b/c d\", \"/x\"]", "https://a.b/c d http.filename=c d"),
        (
            "--checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://a.b/c /x",
            "https://a.b/c http.checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d http.filename=c",
        ),
        (
            "https://github.com/a/b.git#v1:dir /x",
            "git://github.com/a/b.git#v1:dir git.fullurl=https://github.com/a/b.git",
        ),
        (
            "--keep-git-dir git@github.com:a/b.git /x",
            "git://github.com/a/b.git git.fullurl=git@github.com:a/b.git git.keepgitdir=true",
        ),
        (
            "--checksum=abcdef0 https://github.com/a/b.git?tag=v1&submodules=false /x",
            "git://github.com/a/b.git#refs/tags/v1 git.checksum=abcdef0 git.fullurl=https://github.com/a/b.git git.skipsubmodules=true",
        ),
        ("github.com/a/b /x", ""),
        ("./local /x", ""),
        ("<<EOF /x\nhttps://no\nEOF", ""),
        ("a https://a.b/c b /x/", "https://a.b/c http.filename=c"),
    ] {
        let text = format!("FROM scratch\nADD {arguments}\n");
        let rendered = render(&plan(&text, &Options::default()).unwrap());
        let got = rendered.lines().next().unwrap_or_default();
        let got = got.split_once(' ').map_or("", |(_, rest)| rest);
        assert_eq!(got.split(" Add").next().unwrap(), wanted, "{text}");
    }
}

#[test]
fn variables_in_sources() {
    for (file, asked, wanted) in [
        ("ARG V=3\nFROM alpine:$V", "", "library/alpine:3"),
        ("ARG V=3\nFROM alpine:$V", "arg V=4", "library/alpine:4"),
        ("ARG V=3\nFROM alpine:${V}", "arg V", "library/alpine:3"),
        ("ARG V\nFROM alpine:${V:-5}", "", "library/alpine:5"),
        ("ARG A=alp\nARG B=${A}ine\nFROM $B", "", ALPINE),
        ("FROM alpine-$TARGETARCH", "", "library/alpine-amd64:latest"),
        ("FROM alpine-$TARGETARCH", "platform linux/arm64", "library/alpine-arm64:latest"),
        ("FROM x-$TARGETVARIANT-$BUILDARCH", "platform linux/arm/v7", "library/x-v7-amd64:latest"),
        ("FROM x-$TARGETARCH", "arg TARGETARCH=mine", "library/x-mine:latest"),
        ("FROM x-$TARGETSTAGE AS s", "", "library/x-s:latest"),
        ("FROM x-$TARGETSTAGE", "", "library/x-default:latest"),
        ("FROM scratch\nARG U=https://a.b\nADD $U/c /", "", "https://a.b/c"),
        ("ARG U=https://a.b\nFROM scratch\nARG U\nADD $U/c /", "", "https://a.b/c"),
        ("FROM scratch\nENV U=https://a.b\nARG U=https://e.f\nADD $U/c /", "", "https://e.f/c"),
        ("FROM scratch\nENV U https://a.b/x y\nADD [\"$U\",\"/\"]", "", "https://a.b/x y"),
        ("FROM scratch\nENV A=x B=$A/c\nADD https://d.e$B /", "", "https://d.e/c"),
        ("FROM scratch AS a\nENV U=https://a.b\nFROM a\nADD $U/c /", "", "https://a.b/c"),
        ("FROM scratch\nARG U=https://a.b\nADD $U/c /", "arg U=http://e.f", "http://e.f/c"),
        (
            "FROM scratch\nADD https://a.b/${HTTP_PROXY:-none} /",
            "arg HTTP_PROXY=p",
            "https://a.b/none",
        ),
        (
            "FROM scratch\nADD https://a.b$PATH /",
            "",
            "https://a.b/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
    ] {
        check(file, asked, &[wanted]);
    }
}

#[test]
fn what_the_base_image_may_set_is_said() {
    let text =
        "FROM alpine\nENV A=$B\nADD https://a.b/$A /\nADD $C /x\nARG D=1\nADD https://a.b/$D /\n";
    insta::assert_snapshot!("base_variables", render(&plan(text, &Options::default()).unwrap()));
}

#[test]
fn named_contexts() {
    let layout = format!("oci-layout://dir@sha256:{}", "a".repeat(64));
    let file = "FROM alpine AS a\nADD https://a.b/c /\nFROM docker.io/library/golang:latest AS g\nCOPY --from=a / /\n";
    for (context, wanted) in [
        (
            "golang=docker-image://ghcr.io/x/y",
            vec![ALPINE, "https://a.b/c", "docker-image://ghcr.io/x/y:latest"],
        ),
        (
            "docker.io/library/golang=docker-image://y:1",
            vec![ALPINE, "https://a.b/c", "library/y:1"],
        ),
        ("golang::linux/amd64=docker-image://y:1", vec![ALPINE, "https://a.b/c", "library/y:1"]),
        (
            "golang::linux/arm64=docker-image://y:1",
            vec![ALPINE, "https://a.b/c", "library/golang:latest"],
        ),
        ("a=docker-image://y", vec!["library/y:latest", "library/golang:latest"]),
        ("a=docker-image://scratch", vec!["library/golang:latest"]),
        ("a=https://h.i/x.git#main", vec!["git://h.i/x.git#main", "library/golang:latest"]),
        ("a=https://h.i/x.tgz", vec!["https://h.i/x.tgz", "library/golang:latest"]),
        ("a=./dir", vec!["local://a", "library/golang:latest"]),
        ("other=./dir", vec![ALPINE, "https://a.b/c", "library/golang:latest"]),
        ("g=docker-image://z", vec!["library/z:latest"]),
        (
            layout_pair(&layout).leak(),
            vec![
                format!("oci-layout://docker.io/library/a@sha256:{}", "a".repeat(64)).leak(),
                "library/golang:latest",
            ],
        ),
    ] {
        let wanted = match context.starts_with("g=") {
            // The stage is gone; the stage that it copied from is resolved, but not used.
            true => vec![ALPINE, "library/z:latest"],
            false => wanted,
        };
        check(file, &format!("context {context}"), &wanted);
    }
}

fn layout_pair(layout: &str) -> String {
    format!("a={layout}")
}

#[test]
fn frontends() {
    let file = "FROM scratch\n";
    for (head, wanted) in [
        ("# syntax=docker/dockerfile:1\n", "docker/dockerfile:1"),
        ("#syntax = docker/dockerfile:1 # more\n", "docker/dockerfile:1"),
        ("#!/usr/bin/env x\n# syntax=docker/dockerfile:1\n", "docker/dockerfile:1"),
        ("\u{feff}# escape=`\n# SYNTAX=docker/dockerfile:1\r\n", "docker/dockerfile:1"),
    ] {
        check(&format!("{head}{file}"), "", &[wanted]);
    }
    check("// syntax=x/y\n{}", "", &["x/y:latest"]);
    check("{\"syntax\": \"x/y\", \"a\": 1}", "", &["x/y:latest"]);
    check(file, "arg BUILDKIT_SYNTAX=x/y:1 more", &["x/y:1"]);
    check("# syntax=a/b\nFROM scratch", "arg BUILDKIT_SYNTAX=x/y:1", &["x/y:1"]);
    check("# syntax=a/b\nFROM scratch", "context a/b=docker-image://c/d", &["c/d:latest"]);
    check("# a comment\n# syntax=a/b\nFROM scratch", "", &[]);
    check(" # syntax=a/b\nFROM scratch", "", &[]);
}

#[test]
fn contexts_that_are_sources() {
    let file = "FROM scratch\n";
    check(file, "remote https://github.com/a/b.git#v1", &["git://github.com/a/b.git#v1"]);
    check(file, "remote github.com/a/b", &["git://github.com/a/b"]);
    check(file, "remote https://a.b/c.tgz", &["https://a.b/c.tgz"]);
    let all = |asked: &str| plan(file, &options(asked)).unwrap().sources.len();
    assert_eq!(all("remote https://a.b/c.tgz"), 2);
    assert_eq!(all("remote https://a.b/c.tgz\nin-context"), 1);
}

#[test]
fn platforms() {
    let file = "FROM --platform=$BUILDPLATFORM golang AS b\nADD https://a.b/c /\nFROM alpine\nCOPY --from=b / /\nCOPY --from=busybox / /\n";
    let asked = options("platform linux/arm64\nplatform linux/arm/v7");
    insta::assert_snapshot!("platforms", render(&plan(file, &asked).unwrap()));
}

#[test]
fn lines_of_instructions() {
    let file = "# syntax=docker/dockerfile:1\r\n\r\nFROM alpine \\\r\n  # why\r\n\r\n  AS a\r\nRUN <<A cat <<-'B' \\\n  && x\nFROM no\nA\n\tADD https://n.o/\n\tB\nadd --chown=1 \\\n https://a.b/c \\\n /\nRUN --mount=from=busybox,target=/x <<EOF\nEOF\nCOPY --from=busybox --chmod=1 <<X / /\nX\n";
    let made = plan(file, &Options::default()).unwrap();
    insta::assert_snapshot!("lines", render(&made));
    let lines = made.lines_of(&format!(
        "docker-image://docker.io/library/busybox:latest@sha256:{}",
        "0".repeat(64)
    ));
    assert_eq!(lines, [Lines { start: 16, end: 17 }, Lines { start: 18, end: 19 }]);
    assert_eq!(made.lines_of("https://a.b/c"), [Lines { start: 13, end: 15 }]);

    let file = "FROM scratch AS a\nFROM busybox\nRUN --mount=from=named true\n";
    let layout =
        |name: &str, digit: &str| format!("oci-layout://{name}@sha256:{}", digit.repeat(64));
    let contexts = [("named".to_owned(), layout("named", "a"))].into();
    let made = plan(file, &Options { contexts, ..Options::default() }).unwrap();
    for (name, digit, wanted) in [
        ("named", "a", &[Lines { start: 3, end: 3 }][..]),
        ("docker.io/library/named", "a", &[Lines { start: 3, end: 3 }]),
        ("docker.io/library/named", "b", &[]),
    ] {
        assert_eq!(made.lines_of(&layout(name, digit)), wanted, "{name} {digit}");
    }
}

#[test]
fn expansions() {
    let mut variables = Variables::of_base(Base::Known, "windows");
    for (name, value) in
        [("x", "foo bar"), ("e", ""), ("p", "/usr/local/lib/a.tar.gz"), ("s", "a*c*e"), ("é", "u")]
    {
        variables.set(name, Word { text: value.into(), ..Word::default() });
    }
    let budget = Budget::new(1 << 20);
    for line in include_str!("testdata/expansions.txt").lines() {
        let Some((word, wanted)) = line.split_once(" => ") else {
            continue;
        };
        let got = match variables.expand(word, '\\', &budget) {
            Ok(word) => word.text,
            Err(Problem::Expand { error, .. }) => format!("error: {error}"),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(got, wanted, "{word}");
    }
}

#[test]
fn malformed() {
    let mut out = String::new();
    for case in include_str!("testdata/malformed.txt").split("\n---\n") {
        let text = case.replace("\\0", "\0");
        let error = match plan(&text, &Options::default()) {
            Ok(made) => panic!("allowed:\n{text}\n{made:?}"),
            Err(error) => error,
        };
        writeln!(out, "{:?}\n  {error}", case).unwrap();
    }
    insta::assert_snapshot!("malformed", out);
}

#[test]
fn limits() {
    let error = |text: &str| plan(text, &Options::default()).unwrap_err().problem.as_ref().clone();
    assert_eq!(error(""), Problem::Empty);
    assert_eq!(error(&"#".repeat(17 << 20)), Problem::TooLarge { what: "bytes", limit: 16 << 20 });
    assert_eq!(error(&format!("FROM {}", "a".repeat(1 << 16))), Problem::LongLine { limit: 65535 });
    assert_eq!(error(&"FROM a\n".repeat(1001)), Problem::TooLarge { what: "stages", limit: 1000 });
    let doubling = format!("FROM scratch\nENV A=aaaaaaaa\n{}", "ENV A=$A$A\n".repeat(64));
    assert!(matches!(error(&doubling), Problem::Expand { error: ExpandError::TooLarge(_), .. }));
    let nested = format!("FROM {}x{}", "${a:-".repeat(5000), "}".repeat(5000));
    assert!(matches!(error(&nested), Problem::Expand { error: ExpandError::TooDeep(64), .. }));
    let chain: String = (0..900).map(|i| format!("FROM s{i} AS s{}\n", i + 1)).collect();
    check(&format!("FROM alpine AS s0\n{chain}"), "", &[ALPINE]);
}

#[test]
fn heredoc_words() {
    for (word, wanted) in [
        ("<<EOF", Some("EOF")),
        ("3<<-EOF", Some("EOF")),
        ("<<'A B'", Some("A B")),
        ("<<\"E\"", Some("E")),
        ("<<", None),
        ("<<A<", None),
        ("<<A B", None),
        ("a<<EOF", None),
    ] {
        assert_eq!(super::node::heredoc(word).map(|it| it.name).as_deref(), wanted, "{word}");
    }
    assert!(Mode::plain('`').escape == '`');
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = include_str!("testdata/service.Dockerfile");

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn any_text_ends(text in "\\PC{0,300}") {
            let _ = plan(&text, &Options::default());
        }

        #[test]
        fn pieces_end(pieces in prop::collection::vec(prop::sample::select(vec![
            "FROM ", "a", "$", "{", "}", ":-", "\n", "\\", "\r", "<<", "EOF", "COPY --from=", "0 ",
            "RUN --mount=", "from=", ",", "\"", "'", "ADD ", "https://", "ARG A=", "ENV ", "ONBUILD ",
            "#", "%", "*", "/", "[", "]", "é", "\u{a0}", "\0", " AS b", "b", " ",
        ]), 0..60)) {
            let _ = plan(&pieces.concat(), &Options::default());
        }

        #[test]
        fn a_mutated_file_ends(at in 0..REAL.len(), cut in 0usize..40, put in "\\PC{0,5}") {
            let mut bytes = REAL.as_bytes().to_vec();
            bytes.splice(at..(at + cut).min(REAL.len()), put.bytes());
            let _ = plan(&String::from_utf8_lossy(&bytes), &Options::default());
        }

        #[test]
        fn lines_are_in_the_file(pieces in prop::collection::vec(prop::sample::select(vec![
            "FROM alpine\n", "ADD https://a.b/c \\\n /x\n", "RUN <<A\nx\nA\n", "# c\n", "\n",
        ]), 0..20)) {
            let text = format!("FROM x\n{}", pieces.concat());
            for used in plan(&text, &Options::default()).unwrap().sources {
                if let Some(Lines { start, end }) = used.lines {
                    prop_assert!(start <= end && end <= text.lines().count());
                    let written = text.lines().nth(start - 1).unwrap();
                    prop_assert!(written.starts_with("FROM") || written.starts_with("ADD"));
                }
            }
        }
    }

    #[test]
    fn the_file_itself() {
        insta::assert_snapshot!("service", render(&plan(REAL, &options("arg VERSION=2")).unwrap()));
    }
}
