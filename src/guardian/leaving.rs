//! Leaving: nothing new is claimed, what was not started is given back, results are delivered, and the
//! jobs stay with the keeper unless they are to be stopped.

use std::time::Duration;

use super::{
    actor::{Guardian, Membership},
    link::Command as LinkCommand,
    moment::Boot,
    reporter::Command as ReporterCommand,
};
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::protocol::Action,
    observe::event,
};

/// How long the database may take to hear of everything.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Leaving {
    stage: Stage,
    /// When to leave without the database's consent; later while jobs are being stopped.
    give_up_at: Boot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Claims are being given back, jobs stopped, results delivered.
    Settling,
    /// The reporter sends its last.
    Flushing,
    Flushed,
    SigningOff,
    SignedOff,
}

impl Guardian {
    /// Begins to leave.
    pub(super) fn leave(&mut self) {
        tracing::info!(event = event::GUARDIAN_STOPPING, "stopping");
        self.supervisor.stopping();
        self.leaving = Some(Leaving { stage: Stage::Settling, give_up_at: Boot::now() + PATIENCE });
        self.release_waiting("the guardian of the host is stopping");
        if self.options.stop_jobs {
            let live: Vec<(i64, i64)> =
                self.runs.iter().filter(|run| run.is_live()).map(|run| (run.run_id, run.claim_no)).collect();
            for (run_id, claim_no) in live {
                self.intervene(run_id, claim_no, Action::Terminate, "sisyphus was stopped".to_owned());
            }
        }
    }

    fn reach(&mut self, stage: Stage) {
        if let Some(leaving) = &mut self.leaving {
            leaving.stage = stage;
        }
    }

    pub(super) fn flushed(&mut self) {
        self.reach(Stage::Flushed);
    }

    /// The session ended before the answer came.
    pub(super) fn sign_off_was_lost(&mut self) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.stage == Stage::SigningOff) {
            self.reach(Stage::Flushed);
        }
    }

    pub(super) fn signed_off(&mut self) {
        self.reach(Stage::SignedOff);
    }

    pub(super) fn give_up_at(&self) -> Option<Boot> {
        self.leaving.as_ref().map(|leaving| leaving.give_up_at)
    }

    /// Whether the pass of `--once` is over: the last claim brought nothing and its own runs have ended.
    fn pass_is_over(&self) -> bool {
        self.options.once
            && self.ticked
            && self.member().is_some_and(|member| member.drained && !member.pace.is_in_flight())
            && !self.runs.iter().any(|run| run.own || run.is_unsettled())
    }

    /// Goes one stage on when this one is done. Returns the outcome when there is nothing left to do.
    pub(super) fn leave_if_done(&mut self, now: Boot) -> Option<Result<()>> {
        if self.leaving.is_none() && self.pass_is_over() {
            self.leave();
        }
        let jobs_are_left = self.options.stop_jobs && self.runs.busy() > 0;
        let leaving = self.leaving.as_mut()?;
        if jobs_are_left {
            // The keeper ends them after their grace; only then does the time for the database begin.
            leaving.give_up_at = now + PATIENCE;
        }
        let (stage, give_up_at) = (leaving.stage, leaving.give_up_at);
        if now >= give_up_at {
            return Some(Err(Error::new(
                ErrorKind::Drained,
                "the database did not hear of everything in time",
            )
            .source(self.what_is_left(stage))
            .hint("the keeper has what is left; the next guardian of this host delivers it")));
        }
        let Membership::Member(member) = &self.membership else {
            // Nobody to tell: the keeper has the results.
            return (!jobs_are_left).then_some(Ok(()));
        };
        let settled = !member.pace.is_in_flight()
            && !jobs_are_left
            && !self.runs.iter().any(super::runs::Run::is_unsettled);
        let guardian_id = member.registered.guardian_id;
        match stage {
            Stage::Settling if settled => {
                self.handles.reporter.send(ReporterCommand::Flush);
                self.reach(Stage::Flushing);
            }
            Stage::Flushed if settled && self.session.is_none() => {}
            Stage::Flushed if settled => {
                self.tell_link(LinkCommand::SignOff(guardian_id));
                self.reach(Stage::SigningOff);
            }
            // Something came in between.
            Stage::Flushed => self.reach(Stage::Settling),
            Stage::SignedOff => return Some(Ok(())),
            Stage::Settling | Stage::Flushing | Stage::SigningOff => {}
        }
        None
    }

    /// What keeps it from leaving.
    fn what_is_left(&self, stage: Stage) -> String {
        let runs = self.runs.stages();
        let counts = [
            (runs.starting, "starts without an answer of the keeper"),
            (runs.ending, "results that the keeper has not offered"),
            (runs.ended, "results without an answer of the database"),
            (runs.waiting + runs.releasing, "claims to give back"),
        ];
        let calls = [
            (self.member().is_some_and(|it| it.pace.is_in_flight()), "a claim without an answer"),
            (stage == Stage::Flushing, "a report without an answer"),
            (stage == Stage::SigningOff, "the sign-off without an answer"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, what)| format!("{what}: {count}"));
        let calls = calls.iter().filter(|(awaited, _)| *awaited).map(|(_, what)| (*what).to_owned());
        let left: Vec<String> = counts.chain(calls).collect();
        if left.is_empty() { "the database is away".to_owned() } else { left.join(", ") }
    }
}
