//! What the reporter is told and tells, and what a claim may take along.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    super::{
        clock::Clock,
        delivery,
        ends::{End, Ends},
    },
    settled,
};
use crate::{
    db::messages::{Answer, Finish},
    error::Error,
    keeper::protocol::Started,
};

#[derive(Debug)]
pub(in crate::guardian) enum Command {
    /// Who reports; none while this host is not registered.
    Guardian(Option<i64>),
    Started(Started),
    /// Of this claim.
    Ended(i64),
    Release(Release),
    /// The database is back.
    Retry,
    /// Ends that a claim took along have arrived, or come back.
    Look,
    /// Report all there is without waiting, and say when nothing is left.
    Flush,
}

/// A claim to give back.
#[derive(Debug)]
pub(in crate::guardian) struct Release {
    pub(in crate::guardian) run_id: i64,
    pub(in crate::guardian) claim_no: i64,
    pub(in crate::guardian) reason: String,
}

#[derive(Debug)]
pub(in crate::guardian) enum ReporterEvent {
    /// The database has committed, or has its reason not to.
    Finished(Vec<(i64, Answer)>),
    Released(Vec<(i64, Answer)>),
    /// This guardian is not known any more.
    Superseded(i64),
    /// The database is away.
    Away(Error),
    Flushed,
}

#[derive(Debug, Clone)]
pub(in crate::guardian) struct ReporterHandle {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) ends: Ends,
    pub(super) clock: Clock,
    pub(super) boot_id: String,
}

impl ReporterHandle {
    pub(in crate::guardian) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Reports an end. A claim that is to follow may take it along.
    pub(in crate::guardian) fn ended(&self, result: End, claim_within: Option<Duration>) {
        let claim_no = result.key.claim_no;
        self.ends.lock().push(result, claim_within);
        self.send(Command::Ended(claim_no));
    }

    /// What may go along with a claim.
    pub(in crate::guardian) fn lend(&self) -> Option<Lent> {
        let batch = self.ends.lock().lend();
        let ends = finishes(&batch, &self.clock, &self.boot_id);
        let lent = Lent { ends, batch };
        if lent.ends.len() < lent.batch.len() {
            self.came_back(lent);
            return None;
        }
        (!lent.batch.is_empty()).then_some(lent)
    }

    /// The claim that took them along was answered. Returns the answers that settle.
    pub(in crate::guardian) fn arrived(&self, lent: Lent, answers: Vec<(i64, Answer)>) -> Vec<(i64, Answer)> {
        let settled = settled(answers);
        self.ends.lock().arrived(lent.batch, &settled);
        self.send(Command::Look);
        settled
    }

    /// The claim that took them along failed.
    pub(in crate::guardian) fn came_back(&self, lent: Lent) {
        self.ends.lock().came_back(lent.batch);
        self.send(Command::Look);
    }
}

/// Ends that go along with a claim.
#[derive(Debug)]
pub(in crate::guardian) struct Lent {
    pub(in crate::guardian) ends: Vec<Finish>,
    batch: Vec<End>,
}

/// At database time; fewer while the database's clock is not known.
pub(super) fn finishes(ends: &[End], clock: &Clock, boot_id: &str) -> Vec<Finish> {
    ends.iter().filter_map(|end| delivery::finish(end, clock, boot_id)).collect()
}
