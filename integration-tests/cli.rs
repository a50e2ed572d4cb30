//! The command line as people run it: the real binary over folders of its own, its output and its
//! exit codes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod check;
mod commands;
mod online;
mod policies;
mod trust;

/// A folder with files in it, that commands run in.
pub struct Folder(tempfile::TempDir);

/// What a command did.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    /// A folder with `files`, by path.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn run(&self, args: &str) -> Ran {
        run_in(self.path(), args, "")
    }
}

impl Ran {
    /// Output and code as one text, for a snapshot.
    fn shown(&self) -> String {
        let mut text = format!("exit code: {}\n", self.code.unwrap());
        for (name, part) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !part.is_empty() {
                text.push_str(&format!("--- {name}\n{}", without_times(part)));
            }
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Runs buildgate in `folder` with words of `args` and `input` on standard input.
fn run_in(folder: &Path, args: &str, input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_buildgate"))
        .args(args.split_whitespace())
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Times of tests are another in every run.
fn without_times(text: &str) -> String {
    let time = regex::Regex::new(r"\(line (\d+), [0-9.]+[mµn]?s\)").unwrap();
    time.replace_all(text, "(line $1, TIME)").into_owned()
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
