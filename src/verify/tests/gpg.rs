//! A real gpg, with keys and an agent of its own.

use std::process::Command;

use super::{MADE, PAYLOAD, run};

/// A gpg of its own.
pub(super) struct Gpg(pub(super) tempfile::TempDir);

impl Gpg {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn command(&self, time: &str) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.env("LC_ALL", "C").arg("--homedir").arg(self.0.path());
        gpg.args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]);
        gpg.args(["--passphrase", "", "--faked-system-time", time]);
        gpg
    }

    pub(super) fn run(&self, time: &str, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        run(self.command(time).args(args), stdin)
    }

    /// Makes a key that signs, and gives its fingerprint.
    pub(super) fn key(&self, user: &str, algorithm: &str, made: &str, expires: &str) -> String {
        let args = ["--quick-generate-key", user, algorithm, "sign,cert", expires];
        self.run(made, &args, b"");
        self.fingerprints(user).remove(0)
    }

    /// Fingerprints of a key and its subkeys.
    pub(super) fn fingerprints(&self, user: &str) -> Vec<String> {
        let list = self.run(MADE, &["--with-colons", "--list-keys", user], b"");
        String::from_utf8(list)
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix("fpr:::::::::")?.strip_suffix(':'))
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn export(&self, args: &[&str]) -> Vec<u8> {
        let mut all = vec!["--export"];
        all.extend(args);
        self.run(MADE, &all, b"")
    }

    /// Answers what gpg asks.
    pub(super) fn edit(&self, time: &str, args: &[&str], answers: &str) -> Vec<u8> {
        let mut edit = self.command(time);
        run(
            edit.args(["--no-batch", "--no-tty", "--command-fd", "0"]).args(args),
            answers.as_bytes(),
        )
    }

    /// A script that git takes for gpg.
    pub(super) fn program(&self) -> String {
        let program = self.0.path().join("gpg.sh");
        let home = self.0.path().display();
        let script =
            format!("#!/bin/sh\nexec gpg --homedir {home} --faked-system-time {MADE} \"$@\"\n");
        std::fs::write(&program, script).unwrap();
        run(Command::new("chmod").arg("+x").arg(&program), b"");
        format!("gpg.program={}", program.display())
    }

    pub(super) fn sign(&self, user: &str, time: &str, options: &[&str]) -> Vec<u8> {
        let mut args = vec!["--armor", "--local-user", user];
        args.extend(options);
        args.push("--detach-sign");
        self.run(time, &args, PAYLOAD)
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let mut kill = Command::new("gpgconf");
        kill.arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status().unwrap();
    }
}
