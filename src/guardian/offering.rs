//! What was acknowledged is offered again to a server that may not have it: one that has failed over may have lost what
//! its predecessor committed last. Until the keepers are through nothing is registered, for what a registration does not
//! hand over counts as never started, and a keeper's list is without what an earlier server acknowledged. Once the
//! server has all of it, this is written down: a guardian that meets it again, as it runs now, need not offer again.

use std::collections::HashSet;

use super::actor::{Guardian, Membership};
use crate::{db::messages::Answer, error::Result, keeper::protocol::Request, observe::event};

#[derive(Debug, Default)]
pub(super) struct Offering {
    /// Counts what was asked of the hands.
    asked: u64,
    /// Whether the keepers are not through with the last of that.
    is_open: bool,
    /// Whether an earlier one is known.
    is_another: bool,
    /// To whom, until it has all.
    server: Option<String>,
    /// Claims whose results were there when the keepers were through, and which it does not have yet.
    undelivered: HashSet<i64>,
}

impl Offering {
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }
}

impl Guardian {
    /// Another server than before answers, or the first one.
    pub(super) fn offer_to(&mut self, server: String) -> Result<()> {
        if self.identity.is_settled_with(&server) {
            return Ok(());
        }
        let is_another = self.identity.was_settled() || self.offering.asked > 0;
        self.identity.unsettle()?;
        let asked = self.offering.asked + 1;
        self.offering =
            Offering { asked, is_open: true, is_another, server: Some(server), undelivered: HashSet::new() };
        self.handles.hands.send(Request::Offer {});
        Ok(())
    }

    /// The keepers are through with so many requests. After a failover that lost commits this host may be said to run
    /// what it does not, and whose result nobody has any more: a registration settles that.
    pub(super) fn offered_again(&mut self, requests: u64) {
        if requests != self.offering.asked || !std::mem::take(&mut self.offering.is_open) {
            return;
        }
        let here = self.runs.iter().filter(|run| run.result_is_here());
        self.offering.undelivered = here.map(|run| run.claim_no).collect();
        let results = self.offering.undelivered.len();
        if self.offering.is_another || results > 0 {
            tracing::info!(
                event = event::RESULTS_OFFERED,
                results,
                "the last results are delivered to another server"
            );
        }
        if matches!(self.membership, Membership::Member(_)) {
            self.list_anew();
        }
        self.delivered(&[]);
    }

    /// The server has these results now.
    pub(super) fn delivered(&mut self, answers: &[(i64, Answer)]) {
        for (claim_no, _) in answers {
            self.offering.undelivered.remove(claim_no);
        }
        let has_all = !self.offering.is_open && self.offering.undelivered.is_empty();
        if let Some(server) = self.offering.server.take_if(|_| has_all) {
            self.identity.settle(server);
        }
    }
}
