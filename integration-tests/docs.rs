//! The documents are true: every example of the README runs, every file and name that the documents
//! point at exists, and the map of modules holds, dependencies pointing downwards only.
//!
//! An example is a fenced block. ` ```dockerfile Dockerfile ` is a file of that name; ` ```rego `
//! with a name is a file too, and each must load as a policy; ` ```console ` holds commands, each
//! with exactly what it prints, where `…` stands for anything and a line of it for any lines. All
//! of them run in order in one directory, beside a copy of `policies/`; ` ```sh ` is what a person
//! runs in the repository, and must name targets that there are.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use buildgate::policy::{Policy, PolicyFiles};

const BUILDGATE: &str = env!("CARGO_BIN_EXE_buildgate");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A fenced block.
pub struct Block {
    line: usize,
    pub language: String,
    /// What stands behind the language: a file's name.
    pub name: String,
    pub text: String,
}

/// All fenced blocks of a document, or of a part of it.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in document.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                let (language, name) = info.split_once(' ').unwrap_or((info, ""));
                let (language, name) = (language.to_owned(), name.trim().to_owned());
                open = Some(Block { line: at + 1, language, name, text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn every_example_of_the_readme_runs() {
    let directory = tempfile::tempdir().unwrap();
    copy(&root().join("policies"), &directory.path().join("policies"));
    let blocks = blocks(&read("README.md"));
    let mut wrong = String::new();
    let mut commands = 0;
    for block in &blocks {
        match block.language.as_str() {
            "console" => commands += console(block, directory.path(), &mut wrong),
            // A file of tests is no policy; `buildgate test` runs it.
            "rego" if !block.name.ends_with("_test.rego") => policy(block),
            "sh" => make_targets(block),
            _ => {}
        }
        if !block.name.is_empty() {
            let file = directory.path().join(&block.name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, &block.text).unwrap();
        }
    }
    assert!(commands > 0, "the README shows no command");
    assert!(wrong.is_empty(), "README.md:\n{wrong}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Runs the commands of a block; tells how many there were.
fn console(block: &Block, directory: &Path, wrong: &mut String) -> usize {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command, Vec::new())),
            (None, Some((_, output))) => output.push(line.trim_end()),
            (None, None) => panic!("README.md:{}: output before any command", block.line),
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let bin = Path::new(BUILDGATE).parent().unwrap().to_owned();
    let path =
        std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).unwrap();
    let mut status = 0;
    for (command, expected) in &commands {
        let ran = Command::new("sh")
            // So that `echo $?` says what a person would see.
            .args(["-c", &format!("exec 2>&1; (exit {status}); {command}")])
            .current_dir(directory)
            .env("PATH", &path)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        status = ran.status.code().unwrap_or(-1);
        let got = String::from_utf8(ran.stdout).unwrap();
        let lines: Vec<&str> = got.lines().map(str::trim_end).collect();
        if !matches(&lines, expected) {
            let (line, expected) = (block.line, expected.join("\n"));
            writeln!(wrong, "{line}: $ {command}\n--- expected\n{expected}\n--- got\n{got}")
                .unwrap();
        }
    }
    commands.len()
}

/// Whether the lines are as expected; a line `…` stands for any lines.
fn matches(lines: &[&str], expected: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((&"…", rest)) => (0..=lines.len()).any(|skip| matches(&lines[skip..], rest)),
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| matches_line(line, first) && matches(lines, rest)),
    }
}

/// Whether a line is as expected; `…` in it stands for anything.
fn matches_line(line: &str, expected: &str) -> bool {
    match expected.split_once('…') {
        None => line == expected,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|line| {
            line.char_indices()
                .map(|(at, _)| at)
                .chain([line.len()])
                .any(|at| matches_line(&line[at..], rest))
        }),
    }
}

/// A policy of the README is loaded as it stands.
fn policy(block: &Block) {
    let name = "README.rego".to_owned();
    let files = [(name.clone(), block.text.clone().into())].into();
    if let Err(error) = Policy::load("README", PolicyFiles::memory(files), &[name]) {
        panic!("README.md:{}: {error}", block.line);
    }
}

/// `make TARGET` of the README is a target that there is.
fn make_targets(block: &Block) {
    let makefile = read("Makefile");
    for line in block.text.lines() {
        if let Some(target) = line.strip_prefix("make ").and_then(|rest| rest.split(' ').next()) {
            let rule = format!("\n{target}:");
            assert!(makefile.contains(&rule), "README.md:{}: make {target}", block.line);
        }
    }
}

#[test]
fn the_demo_of_the_readme_is_the_demo() {
    let ran = Command::new("policies/demo/run.sh")
        .current_dir(root())
        .env("BUILDGATE", BUILDGATE)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let got = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{got}{}", String::from_utf8_lossy(&ran.stderr));
    let shown: Vec<Block> =
        blocks(&read("README.md")).into_iter().filter(|block| block.language == "text").collect();
    assert!(!shown.is_empty(), "the README does not show the demo");
    for block in shown {
        assert!(got.contains(&block.text), "README.md:{}: not so:\n{got}", block.line);
    }
}

/// Files and names that the documents point at: `path`, or `path::name` of something in it.
#[test]
fn documents_point_at_what_exists() {
    let tops =
        ["src/", "integration-tests/", "policies/", "proto/", "fuzz/", "benches/", "deploy/"];
    for document in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for quoted in read(document).split('`').skip(1).step_by(2) {
            if !tops.iter().any(|top| quoted.starts_with(top)) {
                continue;
            }
            let (path, name) = quoted.split_once("::").unwrap_or((quoted, ""));
            let path = path.trim_end_matches("/**");
            let full: PathBuf = root().join(path);
            assert!(full.exists(), "{document}: {path} does not exist");
            if !name.is_empty() {
                let last = name.rsplit("::").next().unwrap_or(name);
                assert!(has_word(&read(path), last), "{document}: {path} has no {last}");
            }
        }
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// What each module may name of this crate.
const MAY_NAME: [(&str, &[&str]); 17] = [
    ("source", &[]),
    ("meta", &["source"]),
    // Of `verify` the type alone that only `verify/sigstore` makes, and that names nothing of `input`.
    ("input", &["source", "meta", "verify"]),
    ("policy", &["source", "meta", "input", "verify"]),
    ("verify", &["source", "meta", "input"]),
    ("verify/sigstore", &["verify"]),
    ("check", &["source", "meta", "input", "policy", "verify"]),
    ("dockerfile", &["source"]),
    ("resolve", &["source", "meta"]),
    ("trust", &["resolve", "verify"]),
    ("wire", &["source", "meta"]),
    ("rpc", &[]),
    ("session", &["rpc", "wire"]),
    ("gateway", &["source", "meta", "check", "policy", "rpc", "wire"]),
    (
        "gate",
        &[
            "source",
            "meta",
            "input",
            "policy",
            "check",
            "rpc",
            "wire",
            "gateway",
            "session",
            "dockerfile",
            "resolve",
            "trust",
            "verify",
        ],
    ),
    (
        "frontend",
        &[
            "source",
            "meta",
            "input",
            "policy",
            "check",
            "rpc",
            "wire",
            "gateway",
            "dockerfile",
            "trust",
            "verify",
        ],
    ),
    ("report", &[]),
];

/// What the core names of no crate: wires, clients, runtimes, command lines.
const OUTSIDE: [&str; 11] = [
    "prost",
    "prost_types",
    "tonic",
    "tonic_prost",
    "clap",
    "clap_complete",
    "reqwest",
    "tokio",
    "anstream",
    "indicatif",
    "annotate_snippets",
];

#[test]
fn dependencies_point_downwards() {
    for (module, may) in MAY_NAME {
        let core = ["source", "meta", "input", "policy", "verify", "check"]
            .contains(&module.split('/').next().unwrap_or_default());
        let mut files = Vec::new();
        rust_files(&root().join("src").join(module), &mut files);
        files.extend(Some(root().join(format!("src/{module}.rs"))).filter(|file| file.exists()));
        assert!(!files.is_empty(), "there is no module {module}");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = production(&text);
            if module == "input" {
                let sigstore = code.matches("crate::verify::sigstore::").count();
                assert_eq!(code.matches("crate::verify").count(), sigstore, "{}", file.display());
            }
            for named in paths(&code) {
                let file = file.strip_prefix(root()).unwrap().display();
                if let ["crate" | "buildgate", inner, ..] = named[..] {
                    let allowed = inner == module || may.contains(&inner);
                    assert!(allowed, "{file}: {module} may not name {inner}");
                }
                if core && let [outer, _, ..] = named[..] {
                    assert!(!OUTSIDE.contains(&outer), "{file}: {module} may not name {outer}");
                }
                if module != "policy" {
                    assert!(named[0] != "regorus", "{file}: only policy may name regorus");
                }
            }
        }
    }
}

/// Rust files below a folder, without those that hold tests.
fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let tests =
            ["tests", "tests.rs", "testing.rs"].contains(&name) || name.ends_with("_tests.rs");
        if tests {
            continue;
        }
        if path.is_dir() {
            rust_files(&path, into);
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
}

/// A file's code without comments and without its inline tests.
fn production(text: &str) -> String {
    let text = text.split("\nmod tests {").next().unwrap_or(text);
    let code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(code).collect::<Vec<_>>().join("\n")
}

/// The paths of a file, in parts: `crate::source::Source` and, of `use crate::{a, b}`, `crate::a`.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    for (at, _) in code.match_indices("::") {
        let start = code[..at].rfind(|c| !word(c)).map_or(0, |at| at + 1);
        let first = &code[start..at];
        // In the middle of a longer path, its start was looked at before.
        if first.is_empty() || code[..start].ends_with("::") {
            continue;
        }
        let rest = &code[at + 2..];
        match rest.strip_prefix('{') {
            Some(group) => {
                paths.extend(members(group).into_iter().map(|path| vec![first, first_word(path)]));
            }
            None => paths.push(vec![first, first_word(rest)]),
        }
    }
    paths
}

fn first_word(path: &str) -> &str {
    path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The members of a group `a, b::{c, d}, e}`, whose opening brace is read already.
fn members(group: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                members.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    members
}

#[test]
fn paths_are_found_in_code() {
    let code = "use crate::source::{A, B};\nuse crate::{meta::{C, D}, wire};\nlet a = tonic::f();";
    let mut found = paths(code);
    found.retain(|path| path[0] != "meta");
    let want =
        [["crate", "source"], ["crate", "meta"], ["crate", "wire"], ["tonic", "f"]].map(Vec::from);
    assert_eq!(found, want);
}

#[test]
fn expected_output_may_leave_out_what_changes() {
    assert!(matches(&["a", "b", "c"], &["a", "…"]));
    assert!(matches(&["took 3 ms (all)"], &["took … ms (all)"]));
    assert!(!matches(&["a", "b"], &["a"]));
    assert!(!matches(&["a", "b"], &["…", "c"]));
}

#[test]
fn commands_of_the_readme_exist() {
    let readme = read("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `buildgate "));
    let commands: Vec<&str> = rows.map(first_word).collect();
    assert!(!commands.is_empty(), "the README lists no command");
    for command in commands {
        let ran = Command::new(BUILDGATE).args([command, "--help"]).output().unwrap();
        assert!(ran.status.success(), "buildgate {command}: {:?}", ran.status);
    }
}

/// The configuration that `serve --help` teaches is a good one.
#[test]
fn the_configuration_in_the_help_is_good() {
    let directory = tempfile::tempdir().unwrap();
    copy(&root().join("policies"), &directory.path().join("policies"));
    let serve = |args: &[&str]| {
        let mut command = Command::new(BUILDGATE);
        command.arg("serve").args(args).current_dir(directory.path()).output().unwrap()
    };
    let help = String::from_utf8(serve(&["--help"]).stdout).unwrap();
    let (_, shown) = help.split_once("\ngate.toml (").unwrap();
    let indented = |line: &&str| line.is_empty() || line.starts_with("  ");
    let config: Vec<&str> = shown.lines().skip(1).take_while(indented).collect();
    assert!(config.len() > 10, "{config:?}");
    fs::write(directory.path().join("gate.toml"), config.join("\n")).unwrap();
    let checked = serve(&["--config", "gate.toml", "--check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
}

/// Every flag that the documents name is one of ours, or of a tool that they speak of.
#[test]
fn flags_of_the_documents_exist() {
    const OTHERS: [&str; 1] = ["--progress"];
    let help = |command: &[&str]| {
        let ran = Command::new(BUILDGATE).args(command).arg("--help").output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    let commands: [&[&str]; 7] = [
        &["check"],
        &["eval"],
        &["test"],
        &["serve"],
        &["frontend"],
        &["trust", "show"],
        &["trust", "update"],
    ];
    let ours: Vec<String> = commands.iter().map(|command| help(command)).collect();
    let flag = |c: char| c.is_ascii_lowercase() || c == '-';
    for document in ["README.md", "ARCHITECTURE.md", "frontend-image/README.md"] {
        let text = read(document);
        let quoted =
            text.split('`').skip(1).step_by(2).filter_map(|it| it.find("--").map(|at| &it[at..]));
        for quoted in quoted.filter(|it| it.len() > 2 && !it.contains('\n')) {
            let name = quoted.split(|c| !flag(c)).next().unwrap_or_default();
            let known =
                |help: &String| help.split(|c: char| c.is_whitespace()).any(|word| word == name);
            assert!(
                ours.iter().any(known) || OTHERS.contains(&name),
                "{document}: there is no {name}"
            );
        }
    }
}

/// The numbers of the README's limits, as the code has them.
#[test]
fn limits_of_the_readme_are_those_of_the_code() {
    let limits = buildgate::policy::Limits::default();
    let fetched = buildgate::resolve::Options::default();
    let (sizes, mib) = (fetched.sizes, |bytes: u64| bytes >> 20);
    let at = |file: &str, name: &str| constant(&read(file), name);
    let rows = [
        format!(
            "| an evaluation | {} s of the processor, {} MiB of values, {} levels of rules |",
            limits.time.as_secs(),
            mib(limits.memory),
            grouped(limits.depth.into())
        ),
        format!(
            "| a policy | {} Rego files of {} MiB each, data files of {} MiB each |",
            at("src/policy/load.rs", "MAX_FILES"),
            mib(buildgate::policy::MAX_REGO),
            mib(buildgate::policy::MAX_DATA)
        ),
        format!(
            "| {} files, {} MiB in all |",
            grouped(at("src/gate/ops/snapshot.rs", "MAX_FILES")),
            mib(at("src/gate/ops/snapshot.rs", "MAX_BYTES"))
        ),
        format!(
            "| {} files, {} MiB in all |",
            grouped(at("src/gateway/tree.rs", "MAX_FILES")),
            mib(at("src/gateway/tree.rs", "MAX_TOTAL"))
        ),
        format!(
            "| a decision | {} rounds, with fetching between them; {} conversions |",
            buildgate::check::MAX_ROUNDS,
            at("src/check.rs", "MAX_CONVERSIONS")
        ),
        format!(
            "| {} s (`--timeout`); manifests of {} MiB, configs of {} MiB, attestations of {} MiB, files of {} GiB, \
             {} MiB of git |",
            fetched.timeouts.total.as_secs(),
            mib(sizes.manifest),
            mib(sizes.config),
            mib(sizes.attestation),
            sizes.file >> 30,
            mib(sizes.git)
        ),
        format!(
            "| {} signatures of {} MiB each, {} MiB in all |",
            at("src/resolve/registry/signatures.rs", "MAX_FOUND"),
            mib(at("src/resolve/registry/signatures.rs", "MAX_SIGNATURE")),
            mib(at("src/resolve/registry/signatures.rs", "MAX_BYTES"))
        ),
        format!(
            "| {} submodules, theirs included |",
            at("src/gateway/submodules.rs", "MAX_SUBMODULES")
        ),
        format!(
            "| a Dockerfile for `check` | {} MiB |",
            mib(at("src/cli/dockerfile.rs", "MAX_BYTES"))
        ),
        format!(
            "| {} sources, {} s for each decision, {} MiB of each message that is looked into |",
            grouped(at("src/gate/enforce/build.rs", "MAX_SOURCES")),
            at("src/gate/enforce/ruling.rs", "PATIENCE"),
            mib(at("src/rpc/frame.rs", "MAX_MESSAGE"))
        ),
        format!(
            "| {} options, inputs, entitlements and caches; the names of its sources {} MiB in all |",
            grouped(at("src/wire/request.rs", "MAX_ELEMENTS")),
            mib(at("src/gate/enforce/build.rs", "MAX_NAMES"))
        ),
    ];
    let readme = read("README.md");
    let table: Vec<&str> = readme
        .lines()
        .skip_while(|line| *line != "## Limits")
        .filter(|it| it.starts_with("| "))
        .collect();
    for row in rows {
        assert!(table.iter().any(|line| line.ends_with(&row)), "the limits have no\n{row}");
    }
    assert_eq!(table.len(), 1 + 10, "a row of the limits is held against nothing");
}

/// The number that a constant is, as it is written: `2_000`, `64 << 20`, `Duration::from_secs(120)`.
fn constant(code: &str, name: &str) -> u64 {
    let (_, rest) =
        code.split_once(&format!("const {name}: ")).unwrap_or_else(|| panic!("no {name}"));
    let (_, value) = rest.split_once(" = ").unwrap();
    let (value, _) = value.split_once(';').unwrap();
    let value =
        value.strip_prefix("Duration::from_secs(").map_or(value, |it| it.trim_end_matches(')'));
    let number = |text: &str| -> u64 { text.trim().replace('_', "").parse().unwrap() };
    match value.split_once("<<") {
        Some((number_of, bits)) => number(number_of) << number(bits),
        None => number(value),
    }
}

/// `10,000` of 10000.
fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    }
}
