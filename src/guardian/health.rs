//! What keeps a host from taking more runs, beside a keeper that is gone.

use std::path::Path;

use nix::sys::statvfs::{Statvfs, statvfs};
use serde_json::{Map, Value};

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

/// What the keeper of this host cannot do about the limits that a run was given.
pub(super) fn unenforced(limits: &Map<String, Value>, unenforced: &[String]) -> Option<String> {
    let mut lacking = unenforced.iter().filter(|name| limits.contains_key(*name)).peekable();
    lacking.peek()?;
    let lacking: Vec<&str> = lacking
        .map(|name| match name.as_str() {
            "memory" => "memory (only process by process)",
            other => other,
        })
        .collect();
    Some(format!("no control group holds runs to their limits of {}", lacking.join(" and ")))
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
    fn only_limits_that_were_asked_for_are_missed() {
        let limits = |json| serde_json::from_str::<Map<String, Value>>(json).unwrap();
        let missing = ["memory".to_owned(), "cpu".to_owned()];
        assert_eq!(unenforced(&limits(r#"{"nice": 1}"#), &missing), None);
        assert_eq!(unenforced(&limits(r#"{"cpu": 1}"#), &[]), None);
        let said = unenforced(&limits(r#"{"cpu": 1, "memory": 2}"#), &missing).unwrap();
        assert!(said.ends_with("limits of memory (only process by process) and cpu"), "{said}");
    }

    #[test]
    fn a_directory_that_is_gone_is_a_problem_and_one_with_room_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(problem(root.path()), None);
        let said = problem(&root.path().join("gone")).unwrap();
        assert!(said.contains("does not answer"), "{said}");
    }
}
