//! The runs that this guardian holds, and the stage each is in. No I/O.

use std::collections::{BTreeSet, HashMap};

use super::moment::DbTime;
use crate::{
    db::messages::HeldClaim,
    keeper::protocol::{Held, RunSpec},
};

/// A claim and what has become of it so far.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) run_id: i64,
    pub(super) claim_no: i64,
    /// Whether the keeper needs a deadline for it. Not known of a run that was taken over.
    pub(super) fenced: Option<bool>,
    /// Whether this guardian claimed it, and not one before it.
    pub(super) own: bool,
    /// Whether it was claimed before it was due.
    ahead: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Not started; to be at this time.
    Waiting(DbTime, Box<RunSpec>),
    /// The keeper was told to start it at this time.
    Starting(DbTime),
    /// The keeper has it.
    Running,
    /// It has ended, says the keeper's list; the result is yet to be offered.
    Ending,
    /// It has ended; the database does not know yet.
    Ended,
    /// It is being given back.
    Releasing,
}

impl Run {
    fn takes_a_slot(&self) -> bool {
        matches!(self.stage, Stage::Starting(_) | Stage::Running)
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(..))
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    pub(super) fn is_live(&self) -> bool {
        self.takes_a_slot()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ending | Stage::Ended)
    }

    /// Whether it is on its way to the database.
    pub(super) fn result_is_here(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Whether the database has yet to hear of it before this guardian may leave.
    pub(super) fn is_unsettled(&self) -> bool {
        !matches!(self.stage, Stage::Running)
    }
}

/// How many runs are in each stage.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub(super) waiting: usize,
    pub(super) starting: usize,
    pub(super) running: usize,
    pub(super) ending: usize,
    pub(super) ended: usize,
    pub(super) releasing: usize,
}

/// All of them, by claim.
#[derive(Debug, Default)]
pub(super) struct Runs {
    by_claim: HashMap<i64, Run>,
    /// Waiting ones by the time they start.
    queue: BTreeSet<(DbTime, i64)>,
    busy: usize,
    /// The highest claim received.
    latest: Option<i64>,
}

impl Runs {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_claim.is_empty()
    }

    /// Slots in use.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// How many wait for their time.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn get(&self, claim_no: i64) -> Option<&Run> {
        self.by_claim.get(&claim_no)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.by_claim.values()
    }

    /// The claims that the database need not repeat: those here, and the latest ever received.
    pub(super) fn holding(&self) -> Vec<i64> {
        let latest = self.latest.filter(|latest| !self.by_claim.contains_key(latest));
        self.by_claim.keys().copied().chain(latest).collect()
    }

    /// What a registration hands over.
    pub(super) fn held(&self) -> Vec<HeldClaim> {
        self.iter()
            .filter(|run| run.is_live() || run.has_ended())
            .map(|run| HeldClaim { run_id: run.run_id, claim_no: run.claim_no, ended: run.has_ended() })
            .collect()
    }

    /// Takes a claimed run in; false when it is here already.
    pub(super) fn add(&mut self, start: DbTime, ahead: bool, spec: Box<RunSpec>) -> bool {
        let (run_id, claim_no) = (spec.run_id, spec.claim_no);
        if self.by_claim.contains_key(&claim_no) {
            return false;
        }
        self.latest = self.latest.max(Some(claim_no));
        let fenced = Some(spec.fenced);
        let stage = Stage::Waiting(start, spec);
        self.by_claim.insert(claim_no, Run { run_id, claim_no, fenced, own: true, ahead, stage });
        self.queue.insert((start, claim_no));
        true
    }

    /// The waiting run that starts first.
    pub(super) fn first(&self) -> Option<(DbTime, &RunSpec)> {
        let (start, claim_no) = self.queue.first()?;
        match &self.by_claim.get(claim_no)?.stage {
            Stage::Waiting(_, spec) => Some((*start, spec)),
            _ => None,
        }
    }

    /// Hands out the spec of a waiting run, which takes a slot from now on.
    pub(super) fn start(&mut self, claim_no: i64) -> Option<Box<RunSpec>> {
        let Stage::Waiting(at, _) = self.by_claim.get(&claim_no)?.stage else { return None };
        match self.leave_queue(claim_no, Stage::Starting(at))? {
            Stage::Waiting(_, spec) => Some(spec),
            _ => None,
        }
    }

    /// The keeper has it. When it was to start, if it was claimed before that; none when it is told again.
    pub(super) fn started(&mut self, claim_no: i64) -> Option<DbTime> {
        let run = self.by_claim.get(&claim_no)?;
        let Stage::Starting(at) = run.stage else { return None };
        let due = run.ahead.then_some(at);
        self.change(claim_no, Stage::Running);
        due
    }

    /// How many are in each stage.
    pub(super) fn stages(&self) -> Stages {
        let mut stages = Stages::default();
        for run in self.by_claim.values() {
            let count = match run.stage {
                Stage::Waiting(..) => &mut stages.waiting,
                Stage::Starting(_) => &mut stages.starting,
                Stage::Running => &mut stages.running,
                Stage::Ending => &mut stages.ending,
                Stage::Ended => &mut stages.ended,
                Stage::Releasing => &mut stages.releasing,
            };
            *count += 1;
        }
        stages
    }

    /// The keeper offers its result. False when that is here already.
    pub(super) fn ended(&mut self, run_id: i64, claim_no: i64) -> bool {
        match self.by_claim.get(&claim_no) {
            Some(run) if matches!(run.stage, Stage::Ended) => return false,
            Some(_) => drop(self.leave_queue(claim_no, Stage::Ended)),
            // One that a guardian before this one was told to forget.
            None => drop(self.by_claim.insert(claim_no, Run::taken_over(run_id, claim_no, Stage::Ended))),
        }
        true
    }

    /// Begins to give one back that the keeper does not have; returns its run.
    pub(super) fn release(&mut self, claim_no: i64) -> Option<i64> {
        let run = self.by_claim.get(&claim_no)?;
        if !run.is_waiting() && !run.is_starting() {
            return None;
        }
        let run_id = run.run_id;
        self.leave_queue(claim_no, Stage::Releasing);
        Some(run_id)
    }

    /// The database has the last word on it.
    pub(super) fn forget(&mut self, claim_no: i64) -> Option<Run> {
        self.leave_queue(claim_no, Stage::Releasing);
        self.by_claim.remove(&claim_no)
    }

    /// Drops what was not started: it is another guardian's now, or will be claimed again.
    pub(super) fn drop_unstarted(&mut self) {
        self.queue.clear();
        self.by_claim.retain(|_, run| !matches!(run.stage, Stage::Waiting(..) | Stage::Releasing));
    }

    /// Takes the keeper's word for what is live and what has ended; results come before the list or after it.
    pub(super) fn take_over(&mut self, listed: &[Held]) {
        self.drop_unstarted();
        let known: BTreeSet<i64> = listed.iter().map(|held| held.key.claim_no).collect();
        self.by_claim.retain(|claim_no, run| known.contains(claim_no) || matches!(run.stage, Stage::Ended));
        for held in listed {
            let (run_id, claim_no) = (held.key.run_id, held.key.claim_no);
            let stage = if held.ended { Stage::Ending } else { Stage::Running };
            match self.by_claim.get_mut(&claim_no) {
                Some(run) if !run.has_ended() => run.stage = stage,
                Some(_) => {}
                None => drop(self.by_claim.insert(claim_no, Run::taken_over(run_id, claim_no, stage))),
            }
        }
        self.busy = self.by_claim.values().filter(|run| run.takes_a_slot()).count();
    }

    fn leave_queue(&mut self, claim_no: i64, stage: Stage) -> Option<Stage> {
        let before = self.change(claim_no, stage)?;
        if let Stage::Waiting(start, _) = &before {
            self.queue.remove(&(*start, claim_no));
        }
        Some(before)
    }

    fn change(&mut self, claim_no: i64, stage: Stage) -> Option<Stage> {
        let run = self.by_claim.get_mut(&claim_no)?;
        let before = run.takes_a_slot();
        let old = std::mem::replace(&mut run.stage, stage);
        match (before, run.takes_a_slot()) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => {}
        }
        Some(old)
    }
}

impl Run {
    fn taken_over(run_id: i64, claim_no: i64, stage: Stage) -> Self {
        Self { run_id, claim_no, fenced: None, own: false, ahead: false, stage }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::keeper::protocol::RunKey;

    fn spec(claim_no: i64) -> Box<RunSpec> {
        let json = format!(
            r#"{{"job":"a","run_id":{claim_no},"attempt":1,"claim_no":{claim_no},"command":"true","due_us":0,"grace":1}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn held(claim_no: i64, ended: bool) -> Held {
        let key = RunKey { installation: Uuid::nil(), run_id: claim_no, claim_no };
        Held { key, pid: (!ended).then_some(1), started: None, ended }
    }

    #[test]
    fn a_run_takes_a_slot_from_start_to_end_only() {
        let mut runs = Runs::default();
        assert!(runs.add(DbTime(5), true, spec(1)));
        assert!(!runs.add(DbTime(5), true, spec(1)), "a repeated reply changes nothing");
        assert!(runs.add(DbTime(4), true, spec(2)));
        assert_eq!(runs.first().unwrap().0, DbTime(4));
        assert_eq!(runs.busy(), 0);
        runs.start(2).unwrap();
        runs.started(2);
        assert_eq!((runs.busy(), runs.waiting()), (1, 1));
        assert!(runs.ended(2, 2));
        assert!(!runs.ended(2, 2), "a result that is offered again changes nothing");
        assert_eq!((runs.busy(), runs.holding().len()), (0, 2));
        runs.forget(2);
        assert_eq!(runs.release(1), Some(1));
        assert!(runs.first().is_none());
        assert!(runs.get(1).is_some(), "held until the database has answered the release");
        runs.forget(1);
        assert_eq!(runs.holding(), [2], "what came before the latest need not be repeated");
    }

    #[test]
    fn the_list_of_the_keeper_is_the_truth() {
        let mut runs = Runs::default();
        for claim_no in 1..=4 {
            runs.add(DbTime(claim_no), true, spec(claim_no));
        }
        runs.start(1);
        runs.start(2);
        runs.start(3);
        runs.ended(3, 3);
        runs.take_over(&[held(2, false), held(7, false), held(8, true)]);
        let mut left: Vec<i64> = runs.iter().map(|run| run.claim_no).collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3, 7, 8], "1 never arrived, 4 was not started, 3 is being delivered");
        assert_eq!(runs.busy(), 2);
        assert!(!runs.get(7).unwrap().own);
        assert!(runs.ended(8, 8), "the result comes after the list");
        assert!(!runs.ended(8, 8) && !runs.ended(3, 3), "is being delivered");
    }
}
