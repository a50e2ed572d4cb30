//! Where programs are: those of `make tools`, and those of the operating system.

use std::path::{Path, PathBuf};

use super::NoPeer;

/// A program that `make tools` builds.
pub fn pinned(name: &str) -> Result<PathBuf, NoPeer> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/tools/bin").join(name);
    if file.is_file() { Ok(file) } else { Err(NoPeer::Unbuilt(file)) }
}

/// A program of the operating system, looked for on `PATH` and where daemons live.
pub fn installed(program: &'static str, package: &'static str) -> Result<PathBuf, NoPeer> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into(), "/bin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .ok_or(NoPeer::Uninstalled { program, package })
}

/// Whether this process is root.
pub fn root() -> Result<(), NoPeer> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .and_then(|ids| ids.split_whitespace().nth(1));
    if effective == Some("0") { Ok(()) } else { Err(NoPeer::Unprivileged) }
}
