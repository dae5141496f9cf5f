//! What keeps a host from taking more runs, beside a keeper that is gone.

use std::path::Path;

use nix::sys::statvfs::{Statvfs, statvfs};

/// Outcomes that wait for the database need room, also when it stays away for long.
const LEAST_BYTES: u64 = 16 << 20;
const LEAST_FILES: u64 = 256;

/// Why this state directory is not fit for new runs.
pub(super) fn problem(state_dir: &Path) -> Option<String> {
    match statvfs(state_dir) {
        Ok(stat) => shortage(&stat).map(|what| format!("{what} left for {state_dir:?}")),
        Err(errno) => Some(format!("the file system of {state_dir:?} does not answer: {errno}")),
    }
}

#[allow(clippy::useless_conversion, reason = "these numbers are narrower on other systems")]
fn shortage(stat: &Statvfs) -> Option<String> {
    let bytes = u64::from(stat.blocks_available()).saturating_mul(stat.fragment_size());
    if bytes < LEAST_BYTES {
        return Some(format!("only {} MiB of disk are", bytes >> 20));
    }
    // A file system without a fixed number of files has zero of zero.
    let files = u64::from(stat.files_available());
    (stat.files() > 0 && files < LEAST_FILES).then(|| format!("only {files} files are"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_gone_is_a_problem_and_one_with_room_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(problem(root.path()), None);
        let said = problem(&root.path().join("gone")).unwrap();
        assert!(said.contains("does not answer"), "{said}");
    }
}
