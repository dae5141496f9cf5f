//! Processes that lost their parent and became children of the keeper, which is a subreaper.

use std::collections::HashMap;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use uuid::Uuid;

use super::{
    processes::{self, Mark, Stat},
    protocol::RunKey,
    sys,
};

/// The orphans of this keeper and whose they are.
///
/// A pid in here is a child that only [`Self::look`] reaps, so the number cannot be used again meanwhile.
/// An orphan that left the session of its run *and* wiped its environment is nobody's: it is reaped when
/// it ends, and never killed, since it may be another run's. Control groups have no such gap.
#[derive(Debug)]
pub(super) struct Orphans {
    keeper: Uuid,
    known: HashMap<i32, Option<Owner>>,
}

/// Run and claim, as a process carries them.
type Owner = (i64, i64);

impl Orphans {
    pub(super) fn new(keeper: Uuid) -> Self {
        Self { keeper, known: HashMap::new() }
    }

    /// Reaps the orphans that have ended and learns whose the others are. `leaders` are the first
    /// processes of the runs; `is_spared` tells other children that are not to be touched.
    pub(super) fn look(&mut self, leaders: &HashMap<i32, RunKey>, is_spared: impl Fn(i32) -> bool) {
        let mut before = std::mem::take(&mut self.known);
        for pid in processes::own_children() {
            if leaders.contains_key(&pid) || is_spared(pid) {
                continue;
            }
            if !matches!(sys::reap(Pid::from_raw(pid)), Ok(None)) {
                continue;
            }
            let owner = before.remove(&pid).unwrap_or_else(|| self.owner(pid, leaders));
            self.known.insert(pid, owner);
        }
    }

    /// The living orphans of a run, as of the last look.
    pub(super) fn of(&self, key: RunKey) -> Vec<i32> {
        let owner = Some((key.run_id, key.claim_no));
        self.known.iter().filter(|(_, of)| **of == owner).map(|(pid, _)| *pid).collect()
    }

    /// Kills the orphans of a run; their own children become orphans then, for the next look.
    pub(super) fn kill(&self, key: RunKey) {
        for pid in self.of(key) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    fn owner(&self, pid: i32, leaders: &HashMap<i32, RunKey>) -> Option<Owner> {
        let stat = Stat::of(pid)?;
        let by_session = leaders.get(&stat.session).or_else(|| leaders.get(&stat.group));
        by_session.map(|key| (key.run_id, key.claim_no)).or_else(|| {
            let mark = Mark::of(pid).filter(|mark| mark.keeper == self.keeper)?;
            Some((mark.run_id, mark.claim_no))
        })
    }
}
