//! Ending what a dead keeper left running.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use uuid::Uuid;

use super::{
    cgroup,
    directory::StateDirectory,
    processes::{self, Mark, Stat},
    result_file::RunDirectory,
};
use crate::error::{Error, ErrorKind, Result};

/// How long processes may take to die of KILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at those that are dying.
const GLANCE: Duration = Duration::from_millis(5);

/// Kills every process of a live run of a keeper that is dead, and says how many there were.
///
/// Leftovers of ended runs that were to be left (`leftovers => 'leave'`) are spared: the directory of an
/// ended run is gone. The caller holds the keeper's lock, or knows otherwise that this keeper is dead.
pub fn sweep(directory: &StateDirectory, dead: Uuid) -> Result<usize> {
    let runs = directory.runs();
    let begun = Instant::now();
    let mut killed = std::collections::HashSet::new();
    let has_ended = |(run_id, claim_no)| !RunDirectory::path_of(&runs, run_id, claim_no).exists();
    let in_groups = directory.groups().map_or(0, |root| cgroup::sweep(&root, has_ended));
    loop {
        // Again until none is found: they may be forking.
        let mut left = Vec::new();
        for pid in processes::all() {
            let Some(stat) = Stat::of(pid).filter(|stat| !stat.is_zombie()) else { continue };
            let Some(mark) = Mark::of(pid).filter(|mark| mark.keeper == dead) else { continue };
            if !has_ended((mark.run_id, mark.claim_no)) {
                let _ = processes::signal(pid, stat, Signal::SIGKILL);
                killed.insert((pid, stat.start_ticks));
                left.push(pid);
            }
        }
        if left.is_empty() {
            return Ok(in_groups + killed.len());
        }
        if begun.elapsed() > PATIENCE {
            let message = format!("processes {left:?} of a dead keeper cannot be killed");
            return Err(Error::new(ErrorKind::Failed, message));
        }
        thread::sleep(GLANCE);
    }
}

/// Makes the place of the run directories empty.
pub(super) fn clear_runs(directory: &StateDirectory) -> io::Result<()> {
    let runs = directory.runs();
    match fs::remove_dir_all(&runs) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&runs)
}
