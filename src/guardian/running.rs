//! Runs from their due instant to their end: started, given back, or ended.

use super::{
    actor::{Guardian, Keeper},
    health,
    moment::{Boot, DbTime},
    reporter::{Command as ReporterCommand, Release},
};
use crate::{
    keeper::protocol::{Refused, Request, RunKey, RunResult, RunSpec, Start, Started},
    observe::event,
};

impl Guardian {
    /// When the next run starts; none when it waits for something else than time.
    pub(super) fn next_start(&self, now: Boot) -> Option<Boot> {
        let (start, spec) = self.runs.first()?;
        let at = self.clock.surely(start, now)?;
        (at > now || self.may_start(spec, now)).then_some(at)
    }

    fn may_start(&self, spec: &RunSpec, now: Boot) -> bool {
        let Some(member) = self.member() else { return false };
        matches!(self.keeper, Keeper::Listed(_))
            && member.pace.may_start(spec.fenced, self.session.is_some(), now)
    }

    /// Starts what is due, on a free slot or not at all.
    pub(super) fn start_due(&mut self, now: Boot) {
        while let Some((start, spec)) = self.runs.first() {
            if self.clock.surely(start, now).is_none_or(|at| at > now) || !self.may_start(spec, now) {
                return;
            }
            let claim_no = spec.claim_no;
            if self.has_expired(spec, now) {
                self.release(claim_no, "it expired before it could start".to_owned());
            } else if self.free() == 0 {
                self.release(claim_no, "no free slot when it was due".to_owned());
            } else {
                self.start(claim_no);
            }
        }
    }

    /// Only first attempts expire. Nobody starts one that might have.
    fn has_expired(&self, spec: &RunSpec, now: Boot) -> bool {
        let Some(expires) = spec.expires_us else { return false };
        self.clock.at_most(now).is_none_or(|at_most| at_most >= DbTime(expires))
    }

    fn start(&mut self, claim_no: i64) {
        let now = Boot::now();
        let (Some(installation), Some(spec)) = (self.identity.installation, self.runs.start(claim_no)) else {
            return;
        };
        let expires = spec.expires_us.and_then(|at| self.clock.not_before(DbTime(at), now));
        let unlimited = spec.limits.as_ref().and_then(|it| health::unenforced(it, &self.unenforced));
        self.unlimited = unlimited.or_else(|| self.unlimited.take());
        let deadline = self.member().and_then(|member| member.pace.deadline()).filter(|_| spec.fenced);
        self.handles.hands.send(Request::Start(Box::new(Start {
            installation,
            host: self.options.host.clone(),
            database: self.database.clone(),
            spec: *spec,
            deadline_boottime_us: deadline.map(|at| at.0),
            expires_boottime_us: expires.map(|at| at.0),
        })));
    }

    pub(super) fn release(&mut self, claim_no: i64, reason: String) {
        if let Some(run_id) = self.runs.release(claim_no) {
            self.handles.reporter.send(ReporterCommand::Release(Release { run_id, claim_no, reason }));
        }
    }

    pub(super) fn release_waiting(&mut self, reason: &str) {
        let waiting: Vec<i64> =
            self.runs.iter().filter(|run| run.is_waiting()).map(|run| run.claim_no).collect();
        for claim_no in waiting {
            self.release(claim_no, reason.to_owned());
        }
    }

    pub(super) fn started(&mut self, started: Started) {
        if self.is_ours(&started.key) {
            self.counters.started += 1;
            if let Some(due) = self.runs.started(started.key.claim_no) {
                let at = Boot(started.started.boottime_us);
                if let Some(seconds) = self.clock.seconds_after(due, at) {
                    self.counters.lateness.add(seconds.max(0.0));
                }
            }
            self.handles.reporter.send(ReporterCommand::Started(started));
        }
    }

    /// Somebody else may start it; a host that could not asks for nothing for a while.
    pub(super) fn start_refused(&mut self, refused: &Refused) {
        let (now, Refused { key, reason, fit }) = (Boot::now(), refused);
        if *fit {
            tracing::info!(
                event = event::RUN_NOT_STARTED,
                run_id = key.run_id,
                reason,
                "a run was not started"
            );
        } else {
            tracing::error!(
                event = event::RUN_NOT_STARTED,
                run_id = key.run_id,
                reason,
                "the keeper could not start a run"
            );
            self.health.could_not_start(reason, now);
            self.counters.not_started += 1;
        }
        self.slot_freed(key.claim_no, now);
        self.release(key.claim_no, reason.clone());
    }

    pub(super) fn ended(&mut self, result: Box<RunResult>) {
        let key = result.key;
        if !self.is_ours(&key) {
            return;
        }
        self.slot_freed(key.claim_no, Boot::now());
        if self.runs.ended(key.run_id, key.claim_no) {
            let claim_within = self.session.and(self.member()).and_then(|member| member.pace.offers_within());
            self.handles.reporter.ended(result, claim_within);
        }
    }

    fn slot_freed(&mut self, claim_no: i64, now: Boot) {
        let had_slot = self.runs.get(claim_no).is_some_and(super::runs::Run::is_live);
        if let (true, Some(member)) = (had_slot, self.member_mut()) {
            member.pace.slot_freed(now);
        }
    }

    fn is_ours(&self, key: &RunKey) -> bool {
        Some(key.installation) == self.identity.installation
    }
}
