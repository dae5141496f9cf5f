//! What the keepers say: who is there, what they hold, who is gone.

use uuid::Uuid;

use super::{
    actor::{Guardian, Keeper, Membership},
    hands::HandsEvent,
    reporter::Command as ReporterCommand,
    silent::Silent,
    told,
};
use crate::{
    db::messages::HeldClaim,
    error::{Error, Result},
    keeper::protocol::{Event, Held, KeeperHello, Request, RunKey, Started},
    observe::event,
};

impl Guardian {
    /// What is handed over at a registration must be what the keeper has then.
    pub(super) fn list_anew(&mut self) {
        if let Keeper::Listed(id) = self.keeper {
            self.keeper = Keeper::Greeted(id);
            self.handles.hands.send(Request::List {});
        }
    }

    pub(super) fn on_hands(&mut self, event: HandsEvent) -> Result<()> {
        match event {
            HandsEvent::Connected(hellos, process, silent) => {
                self.keeper_process = Some(process);
                self.greeted(&hellos, silent);
            }
            HandsEvent::Left(keeper) => self.keeper_left(keeper),
            HandsEvent::Replaced => self.keeper_replaced(),
            HandsEvent::Lost(err) => return self.keeper_lost(err),
            HandsEvent::Said(Event::Listed { runs }) => self.listed(&runs),
            HandsEvent::Said(Event::Started(started)) => self.started(started),
            HandsEvent::Said(Event::Refused(refused)) => self.start_refused(&refused),
            HandsEvent::Said(Event::Result(result)) => self.ended(result),
            HandsEvent::Silent(is_silent) => self.health.keeper_is_silent(is_silent),
            HandsEvent::Offered(requests) => self.offered_again(requests),
            HandsEvent::Said(Event::Hello(_) | Event::Retired {} | Event::Offered {}) => {}
        }
        Ok(())
    }

    fn greeted(&mut self, hellos: &[KeeperHello], silent: Vec<Silent>) {
        let [hello, older @ ..] = hellos else { return };
        tracing::info!(event = event::KEEPER_CONNECTED, keeper = %hello.keeper_id, pid = hello.pid, "connected to the keeper");
        for older in older {
            tracing::info!(event = event::KEEPER_OLDER, keeper = %older.keeper_id, pid = older.pid, program = older.program, "an older keeper stays until its last run has ended");
        }
        for silent in &silent {
            let (place, claims) = (silent.place.path(), silent.claims.len());
            match &silent.fault {
                None => {
                    tracing::error!(
                        event = event::KEEPER_SILENT,
                        ?place,
                        claims,
                        "a keeper is alive and does not answer"
                    );
                }
                Some(fault) => {
                    tracing::error!(
                        event = event::KEEPER_PLACE_BROKEN,
                        ?place,
                        claims,
                        error = fault,
                        "the place of an older keeper cannot be used"
                    );
                }
            }
        }
        self.silent = silent;
        self.keeper = Keeper::Greeted(hello.keeper_id);
        self.older_keepers = older.iter().map(|older| older.keeper_id).collect();
        self.unenforced.clone_from(&hello.unenforced);
        self.unlimited = None;
    }

    fn keeper_left(&mut self, keeper: Uuid) {
        tracing::info!(event = event::KEEPER_LEFT, %keeper, "an older keeper has left");
        self.older_keepers.retain(|older| *older != keeper);
    }

    fn keeper_replaced(&mut self) {
        tracing::info!(event = event::KEEPER_REPLACED, "the keeper has left for a newer one");
        self.without_keeper("the keeper of the host makes room for a newer one");
    }

    fn keeper_lost(&mut self, err: Error) -> Result<()> {
        // Without a keeper nothing was adopted, and a person or the service manager has to know.
        if self.options.once && self.leaving.is_none() {
            return Err(err);
        }
        if self.health.keeper_is_gone(format!("the keeper is gone: {}", err.in_a_line())) {
            tracing::error!(event = event::KEEPER_LOST, error = %told(&err), hint = err.hint_text(), "the keeper is gone");
        }
        self.without_keeper("the keeper of the host is gone");
        Ok(())
    }

    fn without_keeper(&mut self, why: &str) {
        self.keeper = Keeper::Away;
        self.keeper_process = None;
        self.release_waiting(why);
    }

    /// The keeper's list is complete: its runs are adopted, and the service manager may know.
    fn listed(&mut self, runs: &[Held]) {
        let Keeper::Greeted(id) = self.keeper else { return };
        let mut ours: Vec<Held> =
            runs.iter().filter(|h| Some(h.key.installation) == self.identity.installation).cloned().collect();
        self.foreign = runs.len() - ours.len();
        self.unknown = if self.identity.installation.is_none() { self.all_held(runs) } else { Vec::new() };
        let let_go = std::mem::take(&mut self.let_go);
        ours.retain(|held| !let_go.contains(&held.key.claim_no));
        // What a silent keeper has may run: it is handed over, and takes its slots.
        let silent = self.silent.iter().flat_map(|it| &it.claims);
        let held = silent.filter_map(|(run_id, claim_no)| self.key(*run_id, *claim_no));
        ours.extend(held.map(|key| Held { key, pid: None, started: None, ended: false }));
        self.runs.take_over(&ours);
        self.keeper = Keeper::Listed(id);
        self.lists += 1;
        self.health.keeper_is_back();
        self.supervisor.ready();
        // Other keepers, other claims: the database settles what is not in the list.
        if matches!(self.membership, Membership::Member(_)) {
            self.membership = Membership::None;
        }
        // What lists before this one told is told again.
        self.handles.reporter.send(ReporterCommand::Guardian(None));
        for Held { key, pid, started, .. } in ours {
            if let (Some(pid), Some(started)) = (pid, started) {
                self.handles.reporter.send(ReporterCommand::Started(Started { key, pid, started }));
            }
        }
    }

    /// Without an installation it is not known which of these are the database's. It takes back what it finds among its
    /// own of this host; of the rest it knows nothing. Once the installation is known, the list is read with that in mind.
    fn all_held(&self, runs: &[Held]) -> Vec<HeldClaim> {
        let listed = runs.iter().map(|held| (held.key.run_id, held.key.claim_no, held.ended));
        let silent = self.silent.iter().flat_map(|it| &it.claims);
        let silent = silent.map(|(run_id, claim_no)| (*run_id, *claim_no, false));
        let all = listed.chain(silent);
        all.map(|(run_id, claim_no, ended)| HeldClaim { run_id, claim_no, ended }).collect()
    }

    /// Lets the keeper forget a result that the database has.
    pub(super) fn acknowledge(&mut self, key: RunKey) {
        self.handles.hands.send(Request::Ack(key));
        if matches!(self.keeper, Keeper::Greeted(_)) {
            self.let_go.push(key.claim_no);
        }
    }
}
