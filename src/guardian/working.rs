//! The work of a member: claim, take in what comes of it, and hear what the database has taken.

use std::time::Duration;

use super::{
    actor::{Guardian, Keeper},
    link::Command as LinkCommand,
    moment::{Boot, DbTime},
    reporter::ReporterEvent,
    silent,
    ticker::Command as TickerCommand,
};
use crate::{
    db::messages::{Answer, Claim, Claimed, ClaimedRun, Report, RequestedAction, RunRequest},
    keeper::{
        self, footprint,
        protocol::{Action, Deadline, EndedBy, MAX_LINE, Request, RunResult, RunSpec, Signal},
    },
    observe::event,
};

/// Runs held ahead of their time; more are claimed when these have started.
const MOST_WAITING: usize = 2000;
/// What to run, with room for the rest of the order in a line to the keeper: a longer line breaks the connection.
const LONGEST_SPEC: usize = MAX_LINE - (64 << 10);
/// Memory goes back no more often than this.
const REST_EVERY: Duration = Duration::from_secs(60);

impl Guardian {
    pub(super) fn free(&self) -> usize {
        self.slots.saturating_sub(self.runs.busy())
    }

    /// Whether this host takes runs at all now.
    pub(super) fn is_fit(&self) -> bool {
        matches!(self.keeper, Keeper::Listed(_)) && self.leaving.is_none() && !self.draining
    }

    pub(super) fn next_claim(&self, now: Boot) -> Option<Boot> {
        self.session?;
        let member = self.member()?;
        if self.options.once && !self.ticked {
            return None;
        }
        member.pace.claim_at(self.free(), self.slots, now)
    }

    pub(super) fn claim_if_due(&mut self, now: Boot) {
        if self.next_claim(now).is_none_or(|at| at > now) {
            return;
        }
        let problem = self.health.look(now).map(str::to_owned);
        let fit = self.is_fit() && problem.is_none();
        let free = if fit { self.free() } else { 0 };
        let ahead_room = if fit { MOST_WAITING.saturating_sub(self.runs.waiting()) } else { 0 };
        let once = self.options.once;
        let max_runs = if once { free } else { free + ahead_room };
        let holding = self.runs.holding();
        let report = Report {
            slots: count(self.slots),
            running: count(self.runs.busy()),
            clock_offset_ms: self.clock.offset_ms(),
            problem: problem.or_else(|| silent::problem(&self.silent)).or_else(|| self.unlimited.clone()),
            seen_tick_us: self.identity.seen_tick().map(|seen| seen.at_us),
        };
        let Some(member) = self.member_mut() else { return };
        member.pace.sent(now);
        member.offered = free;
        let claim = Claim {
            guardian_id: member.registered.guardian_id,
            max_runs: count(max_runs),
            slots_free: count(free),
            ahead: if once { Duration::ZERO } else { member.pace.claim_ahead() },
            holding,
            acknowledged: std::mem::take(&mut member.unacknowledged),
            report,
        };
        self.tell_link(LinkCommand::Claim(Box::new(claim)));
    }

    pub(super) fn claimed(&mut self, claimed: Claimed, sent: Boot, received: Boot) {
        self.clock.sample(sent, received, claimed.next.now_us);
        let now = DbTime(claimed.next.now_us);
        if let Some(at_us) = claimed.next.tick_us {
            self.identity.saw_tick(at_us);
            self.handles.ticker.send(TickerCommand::Saw(at_us));
        }
        self.draining = claimed.next.state == "draining";
        if let Some(slots) = claimed.next.slots {
            self.slots = usize::try_from(slots).unwrap_or(0);
        }
        let tick_in = Duration::try_from_secs_f64(claimed.next.tick_in).unwrap_or(Duration::ZERO);
        self.handles.ticker.send(TickerCommand::Told(tick_in, sent));
        self.refusals.reset();
        self.counters.claims += 1;
        self.counters.claim_time += received.since(sent);
        self.counters.claimed += claimed.runs.len() as u64;
        let due = claimed.runs.iter().filter(|run| run.starts_in <= 0.0).count();
        let ticked = self.ticked;
        let Some(member) = self.member_mut() else { return };
        member.pace.answered(sent, received, claimed.next_in, member.offered.saturating_sub(due));
        member.drained = ticked && claimed.runs.is_empty();
        for run in claimed.runs {
            self.take_in(run, now);
        }
        for request in claimed.requests {
            self.requested(request);
        }
        if self.leaving.is_some() {
            self.release_waiting("the guardian of the host is stopping");
        } else if self.draining {
            self.release_waiting("the host is draining");
        }
        self.extend_deadlines();
        if self.runs.is_empty() && self.rest_at.take_if(|at| *at <= received).is_some() {
            footprint::give_back();
        }
    }

    fn take_in(&mut self, run: ClaimedRun, now: DbTime) {
        self.rest_at.get_or_insert_with(|| Boot::now() + REST_EVERY);
        // Given back it would come again, here or elsewhere.
        let length = run.spec.get().len();
        if length > LONGEST_SPEC {
            let why = format!("it is too large ({length} bytes, at most {LONGEST_SPEC})");
            return self.not_startable(&run, &why);
        }
        match serde_json::from_str::<RunSpec>(run.spec.get()) {
            Ok(spec) => {
                self.runs.add(start_of(&run, &spec, now), run.starts_in > 0.0, Box::new(spec));
            }
            Err(err) => self.not_startable(&run, &err.to_string()),
        }
    }

    fn not_startable(&mut self, run: &ClaimedRun, why: &str) {
        let Some(key) = self.key(run.run_id, run.claim_no) else { return };
        if self.runs.ended(run.run_id, run.claim_no) {
            tracing::error!(
                event = event::RUN_UNREADABLE,
                run_id = run.run_id,
                error = why,
                "a run cannot be read"
            );
            let reason = format!("this guardian cannot read what to run: {why}");
            let now = keeper::clock::now();
            let end = RunResult::not_started(key, now, EndedBy::Spawn, reason, &self.boot_id);
            self.handles.reporter.ended(Box::new(end), None);
        }
    }

    fn requested(&mut self, request: RunRequest) {
        let RunRequest { request_id, run_id, claim_no, action, reason } = request;
        if let Some(member) = self.member_mut() {
            member.unacknowledged.push(request_id);
        }
        let Some(run) = self.runs.get(claim_no) else { return };
        match action {
            RequestedAction::Terminate if run.is_live() => {
                self.intervene(run_id, claim_no, Action::Terminate, reason);
            }
            RequestedAction::Pause => self.intervene(run_id, claim_no, Action::Pause, reason),
            RequestedAction::Unpause => self.intervene(run_id, claim_no, Action::Unpause, reason),
            RequestedAction::Terminate | RequestedAction::Recall if run.is_waiting() => {
                self.release(claim_no, reason);
            }
            RequestedAction::Terminate | RequestedAction::Recall => {}
            RequestedAction::Unknown => tracing::warn!(
                event = event::REQUEST_UNKNOWN,
                run_id,
                request_id,
                "a request of a newer kind"
            ),
        }
    }

    pub(super) fn intervene(&mut self, run_id: i64, claim_no: i64, action: Action, reason: String) {
        if let Some(key) = self.key(run_id, claim_no) {
            self.handles.hands.send(Request::Signal(Signal { key, action, reason }));
        }
    }

    /// By each claim the lease grows, and with it what fenced runs may take. Of runs that were taken over it
    /// is not known whether they are fenced; the keeper knows.
    fn extend_deadlines(&self) {
        let Some(deadline) = self.member().and_then(|member| member.pace.deadline()) else { return };
        for run in self.runs.iter().filter(|run| run.is_live() && run.fenced != Some(false)) {
            if let Some(key) = self.key(run.run_id, run.claim_no) {
                self.handles.hands.send(Request::Deadline(Deadline { key, boottime_us: deadline.0 }));
            }
        }
    }

    pub(super) fn on_reporter(&mut self, event: ReporterEvent) {
        if matches!(event, ReporterEvent::Finished(_) | ReporterEvent::Released(_)) {
            self.pool_reached_it();
        }
        match event {
            ReporterEvent::Finished(answers) => self.finished(&answers),
            ReporterEvent::Released(answers) => {
                for (claim_no, _) in answers {
                    self.counters.released += 1;
                    self.runs.forget(claim_no);
                }
            }
            ReporterEvent::Superseded(guardian_id) => {
                if self.member().is_some_and(|member| member.registered.guardian_id == guardian_id) {
                    self.superseded();
                }
            }
            ReporterEvent::Away(err) => self.pool_lost(&err),
            ReporterEvent::Flushed => self.flushed(),
        }
    }

    /// Only now, after the commit, may the keeper let go of the results.
    pub(super) fn finished(&mut self, answers: &[(i64, Answer)]) {
        self.delivered(answers);
        if let Some(member) = self.member_mut() {
            member.pace.reported(Boot::now());
        }
        for (claim_no, answer) in answers {
            let Some(run) = self.runs.forget(*claim_no) else { continue };
            self.counters.recorded += 1;
            if matches!(answer, Answer::Refused | Answer::Superseded) {
                tracing::warn!(
                    event = event::RUN_TOO_LATE,
                    run_id = run.run_id,
                    claim_no,
                    ?answer,
                    "a result came too late"
                );
            }
            if let Some(key) = self.key(run.run_id, *claim_no) {
                self.acknowledge(key);
            }
        }
    }
}

/// The seconds that a claim tells count from its begin, and `now` was read at its end.
fn start_of(run: &ClaimedRun, spec: &RunSpec, now: DbTime) -> DbTime {
    if run.starts_in > 0.0 { DbTime(spec.due_us) } else { now.after_seconds(run.starts_in) }
}

/// For SQL's `int`.
fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_claimed_ahead_starts_when_it_is_due_however_long_the_claim_took() {
        let json =
            r#"{"job":"a","run_id":1,"attempt":1,"claim_no":1,"command":"true","due_us":9000000,"grace":1}"#;
        let spec: RunSpec = serde_json::from_str(json).unwrap();
        let raw = serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
        let run = |starts_in| ClaimedRun { run_id: 1, claim_no: 1, starts_in, spec: raw.clone() };
        // Begun at 5.0 s, answered at 5.2 s.
        assert_eq!(start_of(&run(4.0), &spec, DbTime(5_200_000)), DbTime(9_000_000));
        assert_eq!(start_of(&run(0.0), &spec, DbTime(9_200_000)), DbTime(9_200_000));
    }
}
