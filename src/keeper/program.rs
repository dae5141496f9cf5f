//! Which program a process executes, and who may look into it.

use std::{fs, os::unix::fs::MetadataExt};

use nix::sys::prctl;

use crate::error::{Error, ErrorKind, Result};

/// Keeps memory and environment of this process from other processes of its user, among which there may be
/// jobs: they cannot trace it, nor read `environ`, `mem` or `fd` of it in `/proc`. It leaves no core dump
/// either. What it executes is not concerned.
pub fn hide() -> Result<()> {
    prctl::set_dumpable(false)
        .map_err(|errno| Error::new(ErrorKind::Failed, "the process cannot be hidden").source(errno))
}

/// What tells the program of this process from another build: version, size and time of its file. Whoever
/// installs one file on many hosts, or in many images, keeps all three.
pub fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
    // By this name it is the file that is executed, also when another one has its path by now.
    match fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{version} {}.{:09} {}", file.mtime(), file.mtime_nsec(), file.len()),
        Err(_) => version.to_owned(),
    }
}
