//! Which program a process executes.

use std::{fs, os::unix::fs::MetadataExt};

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
