//! What keeps a host from taking more runs, and for how long.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::statvfs::{Statvfs, statvfs};
use serde_json::{Map, Value};

use super::moment::Boot;
use crate::observe::event;

/// Outcomes that wait for the database need room, also when it stays away for long.
const LEAST_BYTES: u64 = 16 << 20;
const LEAST_FILES: u64 = 256;
/// A host that could not start a run asks for none for this long.
const UNFIT: Duration = Duration::from_secs(5);

/// The state of the host.
#[derive(Debug)]
pub(super) struct Health {
    state_dir: PathBuf,
    /// Why there is no keeper.
    keeper: Option<String>,
    /// Whether it is there and says nothing.
    is_silent: bool,
    /// Why a run could not be started, and until when none is asked for.
    refusal: Option<(String, Boot)>,
    /// As last looked at.
    problem: Option<String>,
}

impl Health {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), keeper: None, is_silent: false, refusal: None, problem: None }
    }

    /// There is no keeper. Whether that is news.
    pub(super) fn keeper_is_gone(&mut self, why: String) -> bool {
        self.keeper.replace(why).is_none()
    }

    /// The keeper was told to start a run and says nothing, or does again.
    pub(super) fn keeper_is_silent(&mut self, is_silent: bool) {
        self.is_silent = is_silent;
    }

    pub(super) fn keeper_is_back(&mut self) {
        self.keeper = None;
        self.is_silent = false;
        self.refusal = None;
    }

    /// The host could not start a run: too many open files or processes, no memory.
    pub(super) fn could_not_start(&mut self, reason: &str, now: Boot) {
        self.refusal = Some((reason.to_owned(), now + UNFIT));
    }

    /// Looks at everything.
    pub(super) fn look(&mut self, now: Boot) -> Option<&str> {
        self.refusal.take_if(|(_, until)| *until <= now);
        let found = self
            .keeper
            .clone()
            .or_else(|| {
                self.is_silent.then(|| "the keeper has not started a run and does not answer".to_owned())
            })
            .or_else(|| self.refusal.as_ref().map(|(reason, _)| reason.clone()))
            .or_else(|| problem(&self.state_dir));
        match (&self.problem, &found) {
            (_, Some(problem)) if self.problem != found => {
                tracing::warn!(event = event::HOST_UNFIT, problem, "this host takes no runs");
            }
            (Some(_), None) => tracing::info!(event = event::HOST_FIT, "this host takes runs again"),
            _ => {}
        }
        self.problem = found;
        self.problem()
    }

    /// What was found last.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// Why this state directory is not fit for new runs.
fn problem(state_dir: &Path) -> Option<String> {
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
    fn a_host_is_unfit_as_long_as_something_is_wrong() {
        let second = |n: i64| Boot(n * 1_000_000);
        let root = tempfile::tempdir().unwrap();
        let mut health = Health::new(root.path());
        assert_eq!(health.look(second(1)), None);
        health.could_not_start("too many open files", second(1));
        assert_eq!(health.look(second(5)), Some("too many open files"));
        assert_eq!(health.look(second(6)), None, "it tries again");
        health.keeper_is_silent(true);
        assert!(health.look(second(11)).unwrap().contains("keeper"));
        health.keeper_is_silent(false);
        assert_eq!(health.look(second(11)), None);
        assert!(health.keeper_is_gone("gone".into()));
        assert!(!health.keeper_is_gone("still gone".into()));
        assert_eq!(health.look(second(12)), Some("still gone"));
        health.keeper_is_back();
        assert_eq!(health.look(second(12)), None);
    }

    #[test]
    fn a_directory_that_is_gone_is_a_problem_and_one_with_room_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(problem(root.path()), None);
        let said = problem(&root.path().join("gone")).unwrap();
        assert!(said.contains("does not answer"), "{said}");
    }
}
