//! `check`: what is drawn, and the exit code, for each kind of outcome.

use super::{Folder, run_in};

const PINNED: &str = "\
package docker

default allow := false

allow if input.local

allow if {
	input.image
	input.image.isCanonical
}

deny_msg contains msg if {
	input.image
	not input.image.isCanonical
	msg := sprintf(\"%s is not pinned\", [input.image.ref])
}

decision := {\"allow\": allow, \"deny_msg\": deny_msg}
";

const SILENT: &str = "\
package docker

default allow := false

allow if input.local

allow if {
	input.image
	approved
}

approved if {
	input.image.isCanonical == false
	input.image.host == \"registry.example.com\"
}

approved if {
	startswith(input.image.repo, \"team/\")
}

decision := {\"allow\": allow}
";

const LABELS: &str = "\
package docker

default allow := false

allow if input.local

allow if input.image.labels.team == \"core\"

decision := {\"allow\": allow}
";

const ALL: &str = "package docker\n\ndecision := {\"allow\": true}\n";

const DIGEST: &str = "sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412";

/// Name of the snapshot, files, arguments.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn what_is_drawn() {
    let pinned = format!("FROM alpine:3.20@{DIGEST}\n");
    let table: &[Row<'_>] = &[
        (
            "denied_with_message",
            &[("Dockerfile", "FROM alpine:3.20 AS base\nRUN true\n"), ("Dockerfile.rego", PINNED)],
            "check",
        ),
        (
            "denied_without_message",
            &[("Dockerfile", "FROM alpine:3.20 AS base\n"), ("Dockerfile.rego", SILENT)],
            "check",
        ),
        ("allowed", &[("Dockerfile", &pinned), ("Dockerfile.rego", PINNED)], "check"),
        (
            "undecided_offline",
            &[("Dockerfile", "FROM alpine:3.20\n"), ("Dockerfile.rego", LABELS)],
            "check --offline",
        ),
        (
            "several_policies",
            &[
                ("api.Dockerfile", "FROM alpine\nFROM alpine\nCOPY --from=alpine / /\n"),
                ("api.Dockerfile.rego", ALL),
                ("more/policy.rego", PINNED),
            ],
            "check -f api.Dockerfile --policy more",
        ),
        (
            "explained",
            &[("Dockerfile", "FROM alpine:3.20 AS base\nARG TOKEN\n"), ("Dockerfile.rego", SILENT)],
            "check --explain --build-arg TOKEN=hunter2 --label a=b --target base",
        ),
        (
            "syntax_error",
            &[("Dockerfile", "FROM a\n"), ("Dockerfile.rego", "package docker\n\nallow if {\n")],
            "check",
        ),
        (
            "unknown_function",
            &[
                ("Dockerfile", "FROM a\n"),
                ("Dockerfile.rego", "package docker\n\nallow if frobnicate(input)\n"),
            ],
            "check",
        ),
        (
            "missing_json",
            &[
                ("Dockerfile", "FROM a\n"),
                (
                    "Dockerfile.rego",
                    "package docker\n\nlist := load_json(\"list.json\")\n\ndefault allow := false\n\n\
                     allow if input.image.repo in list\n\ndecision := {\"allow\": allow}\n",
                ),
            ],
            "check",
        ),
        (
            "bad_dockerfile",
            &[("Dockerfile", "FROM a\nFRUM b\n"), ("p.rego", ALL)],
            "check --policy p.rego",
        ),
        ("no_dockerfile", &[("p.rego", ALL)], "check --policy p.rego"),
        ("no_policy", &[("Dockerfile", "FROM a\n")], "check"),
        ("no_such_policy", &[("Dockerfile", "FROM a\n")], "check --policy nowhere"),
        (
            "other_frontend",
            &[("Dockerfile", "# syntax=example.com/mine:1\nFROM a\n"), ("p.rego", ALL)],
            "check --policy p.rego",
        ),
        (
            "exec_proxy",
            &[
                ("Dockerfile", "FROM a\n"),
                (
                    "p.rego",
                    "package docker\n\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\n",
                ),
            ],
            "check --policy p.rego",
        ),
        (
            "secrets",
            &[
                ("Dockerfile", "FROM scratch\nADD http://user:hunter2@example.com/x /\n"),
                (
                    "p.rego",
                    "package docker\n\ndefault allow := false\n\nallow if input.local\n\n\
                     deny_msg contains sprintf(\"no %s\", [input.http.url]) if input.http\n\n\
                     decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n",
                ),
            ],
            "check --policy p.rego --explain",
        ),
        ("remote_context", &[("p.rego", ALL)], "check https://github.com/a/b.git --policy p.rego"),
    ];
    for (name, files, args) in table {
        let args = args.replacen("check", "check --platform linux/amd64", 1);
        let ran = Folder::with(files).run(&args);
        let shown = ran.shown();
        assert!(!shown.contains("hunter2"), "{name}: {shown}");
        insta::assert_snapshot!(*name, shown);
    }
}

#[test]
fn no_format_shows_a_secret() {
    let dockerfile = "FROM scratch\nARG TOKEN\nADD https://bob:s3cr3t1@git.example/a/b.git /a\n\
                      ADD https://s3cr3t2@git.example/a/b.git /b\n\
                      ADD https://h.example/x?token=s3cr3t3&v=1 /c\nADD https://h.example/${TOKEN}/x /d\n";
    let rules = "package docker\n\ndefault allow := false\n\n\
                 deny_msg contains sprintf(\"%v\", [input]) if input.git\n\n\
                 deny_msg contains sprintf(\"%v\", [input]) if { print(input); input.http }\n\n\
                 decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
    let folder = Folder::with(&[("Dockerfile", dockerfile), ("p.rego", rules)]);
    for format in ["text", "json", "sarif", "junit"] {
        let ran = folder.run(&format!(
            "check --policy p.rego --explain --offline --build-arg TOKEN=s3cr3t4 --format {format}"
        ));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        for output in [&ran.stdout, &ran.stderr] {
            assert!(!output.contains("s3cr3t"), "{format}: {output}");
        }
    }
}

#[test]
fn a_source_that_hangs_on_the_base_image_is_not_decided() {
    let pinned = "FROM docker.io/library/alpine@sha256:\
                  4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412\n";
    for add in ["ADD ${PATH:+http://evil.example/a} /b\n", "ADD https://ok.example/${X} /b\n"] {
        let files = [("Dockerfile", &*format!("{pinned}{add}")), ("p.rego", ALL)];
        let ran = Folder::with(&files).run("check --policy p.rego --offline");
        assert_eq!(ran.code, Some(2), "{add}: {}", ran.stdout);
    }
}

#[test]
fn exit_codes() {
    let folder = Folder::with(&[
        ("Dockerfile", "FROM alpine:3.20\n"),
        ("pinned.rego", PINNED),
        ("labels.rego", LABELS),
        ("all.rego", ALL),
    ]);
    for (args, code) in [
        ("check --policy all.rego", 0),
        ("check --policy pinned.rego", 1),
        ("check --policy labels.rego --offline", 2),
        // A denial is certain, whatever else is not known.
        ("check --policy labels.rego --policy pinned.rego --offline", 1),
        ("check", 2),
        ("check --policy all.rego --platform linux/*", 2),
        ("check --policy all.rego --platform linux/amd64, ", 2),
        ("check --policy all.rego --target nowhere", 2),
        ("check --policy all.rego --build-context x", 2),
        ("check --policy all.rego --unknown", 2),
        ("check nowhere --policy all.rego", 2),
        ("check --policy all.rego --build-context x=oci-layout://nowhere", 2),
        ("", 2),
        ("--help", 0),
        ("--version", 0),
    ] {
        let ran = folder.run(args);
        assert_eq!(ran.code, Some(code), "{args}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{args}: {}", ran.stderr);
    }
}

/// What is wrong with an input is said in one line of an error, and nothing is left behind.
#[test]
fn wrong_inputs_end_with_a_reason() {
    let folder = Folder::with(&[
        ("Dockerfile", "FROM scratch\n"),
        ("all.rego", ALL),
        ("empty.rego", ""),
        ("broken.rego", "package docker\nallow if {\n"),
        ("long.rego", &"#".repeat((1 << 20) + 1)),
        ("long.Dockerfile", &"#".repeat((16 << 20) + 1)),
        ("empty.Dockerfile", ""),
        ("broken.json", "{"),
        ("none/file", ""),
    ]);
    let path = |name: &str| folder.path().join(name);
    let before = || std::fs::read_dir(folder.path()).unwrap().count();
    let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
    assert!(fifo.success());
    for name in ["binary.rego", "binary.Dockerfile", "binary.pem"] {
        std::fs::write(path(name), [0xff, 0xfe, 0x00, 0x80]).unwrap();
    }
    std::os::unix::fs::symlink("gone", path("link")).unwrap();
    let files = before();
    for (args, wanted) in [
        ("--policy gone", "policy gone cannot be read: No such file"),
        ("--policy link", "policy link cannot be read: No such file"),
        ("--policy none", "there is no policy file in it"),
        ("--policy empty.rego", "empty.rego:1:1: expecting `package`"),
        ("--policy broken.rego", "broken.rego:3:1: expecting expression"),
        ("--policy binary.rego", "`binary.rego` is not UTF-8 text"),
        ("--policy long.rego", "`long.rego` is larger than 1048576 bytes"),
        ("--policy fifo", "`fifo` is a FIFO, socket or device"),
        ("--policy /dev/zero", "`zero` is a FIFO, socket or device"),
        ("--policy all.rego -f gone", "the Dockerfile gone cannot be read"),
        ("--policy all.rego -f none", "Is a directory"),
        ("--policy all.rego -f binary.Dockerfile", "is not UTF-8 text"),
        ("--policy all.rego -f long.Dockerfile", "is larger than the 16777216 bytes"),
        ("--policy all.rego -f empty.Dockerfile", "the Dockerfile cannot be empty"),
        ("--policy all.rego -f fifo", "the Dockerfile fifo is a FIFO"),
        ("--policy all.rego --ca-file gone", "cannot read the CA file gone"),
        ("--policy all.rego --ca-file binary.pem", "holds no usable PEM certificate"),
        ("--policy all.rego --trust-root gone", "gone cannot be read: No such file"),
        ("--policy all.rego --trust-root broken.json", "trust root sigstore cannot be read"),
        ("--policy all.rego --polices x", "unexpected argument '--polices'"),
        ("all.rego", "context all.rego is no folder, and no git or HTTP URL"),
    ] {
        let ran = folder.run(&format!("check {args}"));
        assert_eq!(ran.code, Some(2), "{args}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.starts_with("error: "), "{args}: {}", ran.stderr);
        assert!(ran.stderr.contains(wanted) && ran.stdout.is_empty(), "{args}: {}", ran.stderr);
        assert_eq!(before(), files, "{args}");
    }
    let script = format!("{} schema > /dev/full", env!("CARGO_BIN_EXE_buildgate"));
    let full = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(full.stderr).unwrap();
    assert_eq!(full.status.code(), Some(2));
    assert!(said.starts_with("error: standard output cannot be written: No space left"), "{said}");
}

#[test]
fn formats_parse_back() {
    let folder = Folder::with(&[("Dockerfile", "FROM alpine:3.20\n"), ("Dockerfile.rego", PINNED)]);
    let json = folder.run("check --format json");
    assert_eq!(json.code, Some(1));
    let report = json.json();
    assert_eq!(report["findings"][2]["outcome"], "denied");
    assert_eq!(report["findings"][2]["location"]["startLine"], 1);
    assert_eq!(report["findings"][2]["messages"][0]["rule"]["file"], "Dockerfile.rego");

    let sarif = folder.run("check --format sarif").json();
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 1);

    let junit = folder.run("check --format junit").stdout;
    let junit = quick_junit::Report::deserialize_from_str(&junit).unwrap();
    assert_eq!(junit.test_suites[0].test_cases.len(), 3);
}

#[test]
fn the_dockerfile_may_come_on_standard_input() {
    let folder = Folder::with(&[("pinned.rego", PINNED)]);
    for args in ["check - --policy pinned.rego", "check -f - --policy pinned.rego"] {
        let ran = run_in(folder.path(), args, "FROM alpine:3.20\n");
        assert_eq!(ran.code, Some(1), "{args}: {}", ran.stderr);
        assert!(ran.stdout.contains("--> -:1:6"), "{}", ran.stdout);
    }
}

#[test]
fn build_arguments_come_from_the_environment_too() {
    let folder =
        Folder::with(&[("Dockerfile", "ARG PATH=x\nARG TAG\nFROM alpine:$TAG\n"), ("p.rego", ALL)]);
    let given = folder.run("check --policy p.rego --build-arg TAG=3.20 --build-arg PATH");
    assert!(given.stdout.contains("docker.io/library/alpine:3.20"), "{}", given.stdout);
    let unset = folder.run("check --policy p.rego --build-arg NO_SUCH_VARIABLE");
    assert_eq!(unset.code, Some(2), "{}", unset.stdout);
}

#[test]
fn an_oci_layout_is_known_by_its_digest() {
    let index = format!(
        "{{\"manifests\":[{{\"digest\":\"{DIGEST}\",\
         \"annotations\":{{\"org.opencontainers.image.ref.name\":\"v1\"}}}}]}}"
    );
    let folder = Folder::with(&[
        ("Dockerfile", "FROM base\n"),
        ("p.rego", ALL),
        ("layout/index.json", &index),
    ]);
    let found = folder.run("check --policy p.rego --build-context base=oci-layout://layout:v1");
    assert_eq!(found.code, Some(0), "{}", found.stderr);
    let source = format!("oci-layout://docker.io/library/base:latest@{DIGEST}");
    assert!(found.stdout.contains(&source), "{}", found.stdout);
    let missing = folder.run("check --policy p.rego --build-context base=oci-layout://layout:v2");
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("has no image with the tag v2"), "{}", missing.stderr);
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = Folder::with(&[]);
    let script = format!("{} schema | head -c 1", env!("CARGO_BIN_EXE_buildgate"));
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"{");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
