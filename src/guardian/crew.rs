//! The keepers of a host: the one that starts the runs, and older ones that stay for the runs they have.
//!
//! To the guardian they are one. A request about a run goes to all of them: whoever does not have it ignores it.

mod peer;
mod site;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use self::peer::Peer;
pub(super) use self::site::Site;
use super::{
    silent::{PATIENCE, Silent},
    told,
};
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{
        KeeperProcess, StateDirectory,
        protocol::{Event, KeeperHello, Request},
    },
    observe::event,
};

/// How long a keeper that has left may need to let go of its place.
const PARTING: Duration = Duration::from_millis(500);

/// All keepers of a host, greeted but for those that do not answer. The first starts the runs.
#[derive(Debug)]
pub(super) struct Crew {
    peers: Vec<Peer>,
    silent: Vec<Silent>,
    /// Whether a list of all is awaited.
    listing: bool,
    /// Whether results are offered again, and the end of that is awaited.
    offering: bool,
    /// What was said after its sayer's list, until the lists of the others are there.
    held_back: Vec<Event>,
}

/// What a crew makes of something that one of its keepers has said.
#[derive(Debug)]
pub(super) enum Heard {
    /// These, in this order.
    Events(Vec<Event>),
    /// An older keeper has left, with nothing undone; its list may have been the last to wait for.
    Left(Uuid, Vec<Event>),
    /// The one that starts the runs has left as it was asked to.
    Replaced,
}

impl Crew {
    /// Who is there; the first starts the runs.
    pub(super) fn hellos(&self) -> Vec<KeeperHello> {
        self.peers.iter().map(|peer| peer.hello.clone()).collect()
    }

    /// The process of the one that starts the runs.
    pub(super) fn process(&self) -> KeeperProcess {
        self.peers[0].process.clone()
    }

    /// Those that are alive and did not answer.
    pub(super) fn silent(&self) -> &[Silent] {
        &self.silent
    }

    /// When to wait no longer for what one of them was asked for; none: nothing is awaited.
    pub(super) fn patient_until(&self) -> Option<Instant> {
        let awaited =
            |peer: &&Peer| self.listing && peer.lists_due > 0 || self.offering && peer.offers_due > 0;
        self.peers.iter().filter(awaited).map(|peer| peer.stirred + PATIENCE).min()
    }

    /// What the keeper that starts the runs executes.
    pub(super) fn program(&self) -> &str {
        &self.peers[0].hello.program
    }

    /// Sends a request to whom it concerns.
    pub(super) fn send(&mut self, request: &Request) -> Result<()> {
        let for_all = !matches!(request, Request::Start(_) | Request::Retire { .. });
        self.listing |= matches!(request, Request::List {});
        let (current, older) = self.peers.split_first_mut().expect("the first stays to the end");
        current.ask(request.clone())?;
        for peer in older.iter_mut().filter(|_| for_all) {
            // One that has just left says so itself.
            peer.ask(request.clone()).ok();
        }
        Ok(())
    }

    /// Asks the keeper that starts the runs for anything at all. Its answer is no list of all.
    pub(super) fn ask(&mut self) -> Result<()> {
        let current = &mut self.peers[0];
        current.lists_due += 1;
        current.send(Request::List {})
    }

    /// After a failover: also what keepers that have left had delivered before is offered again.
    pub(super) async fn offer_again(&mut self, site: &Site) -> Result<()> {
        for place in site.own_places()? {
            let is_silent = self.silent.iter().any(|silent| silent.place == place);
            if !is_silent && self.peers.iter().all(|peer| peer.place != place) {
                self.peers.extend(site.wake(place).await?);
            }
        }
        self.offering = true;
        for peer in &mut self.peers {
            (peer.offers_due, peer.stirred) = (1, Instant::now());
        }
        self.send(&Request::Offer {})?;
        for older in &self.peers[1..] {
            older.send(Request::Retire { if_idle: false }).ok();
        }
        Ok(())
    }

    /// Waits until one of them says something. Cancel safe.
    pub(super) async fn receive(&mut self) -> (usize, Result<Option<Event>>) {
        if let [only] = &mut self.peers[..] {
            return (0, only.receiver.receive().await);
        }
        let mut waiting: Vec<_> =
            self.peers.iter_mut().map(|peer| Box::pin(peer.receiver.receive())).collect();
        poll_fn(|context| {
            for (number, receive) in waiting.iter_mut().enumerate() {
                if let Poll::Ready(event) = pin!(receive).poll(context) {
                    return Poll::Ready((number, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Makes one of all. An error: a keeper is gone that should be there.
    pub(super) async fn hear(&mut self, number: usize, event: Result<Option<Event>>) -> Result<Heard> {
        let peer = &mut self.peers[number];
        peer.stirred = Instant::now();
        match event {
            Ok(Some(Event::Retired {})) => peer.retired = true,
            Ok(Some(Event::Offered {})) => peer.offers_due = peer.offers_due.saturating_sub(1),
            Ok(Some(Event::Listed { runs })) => {
                peer.lists_due = peer.lists_due.saturating_sub(1);
                peer.listed = runs;
            }
            Ok(Some(event)) if self.listing && peer.lists_due == 0 => self.held_back.push(event),
            Ok(Some(event)) => return Ok(Heard::Events(vec![event])),
            Ok(None) | Err(_) if peer.retired && number == 0 => return Ok(Heard::Replaced),
            Ok(None) | Err(_) if peer.retired => {
                let gone = self.peers.remove(number);
                clear(&gone.place).await;
                return Ok(Heard::Left(gone.hello.keeper_id, self.of_all()));
            }
            Ok(None) => return Err(Error::new(ErrorKind::Failed, "the keeper closed the connection")),
            Err(err) => return Err(err),
        }
        Ok(Heard::Events(self.of_all()))
    }

    /// What is to be said once all have said it.
    fn of_all(&mut self) -> Vec<Event> {
        let mut events = self.list();
        if self.offering && self.peers.iter().all(|peer| peer.offers_due == 0) {
            self.offering = false;
            // Not before the results that were held back.
            let place = if self.listing { &mut self.held_back } else { &mut events };
            place.push(Event::Offered {});
        }
        events
    }

    /// The list of all, once each has told its own, and what was held back for it.
    fn list(&mut self) -> Vec<Event> {
        if !self.listing || self.peers.iter().any(|peer| peer.lists_due > 0) {
            return Vec::new();
        }
        self.listing = false;
        let runs = self.peers.iter_mut().flat_map(|peer| std::mem::take(&mut peer.listed)).collect();
        std::iter::once(Event::Listed { runs }).chain(self.held_back.drain(..)).collect()
    }
}

/// Leaves nothing in the place of a keeper that has left, if it is all old. Otherwise a later guardian does.
async fn clear(place: &StateDirectory) {
    let gone = async {
        while place.keeper_is_alive()? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        place.clear_when_spent()
    };
    if let Ok(Err(err)) = tokio::time::timeout(PARTING, gone).await {
        tracing::warn!(event = event::KEEPER_PLACE_KEPT, error = %told(&err), "the place of an older keeper stays");
    }
}
