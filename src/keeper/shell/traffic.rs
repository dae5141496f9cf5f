//! The keeper's traffic: requests of guardians in, events and results out, results to the writer.

use super::{
    super::{
        clock,
        peers::Offer,
        poll::Watched,
        protocol::{Event, RunResult},
        state::{Connection, Input},
        store,
    },
    Shell,
};
use crate::observe::event;

/// Bytes of the disk read for one connection before everything else gets its turn.
const READ_A_TURN: usize = 4 << 20;
/// Requests of one connection before everything else gets its turn.
const REQUESTS_A_TURN: usize = 32;

impl Shell {
    pub(super) fn send(&mut self, connection: Connection, event: &Event) {
        let line = serde_json::to_vec(event).expect("events are plain data");
        if let Some(peer) = self.peers.get(connection) {
            peer.send(&line);
        }
    }

    pub(super) fn record(&mut self, result: RunResult) {
        let key = result.key;
        let short = self.store.is_pressed().then(|| store::line(result.clone().shortened(store::DISK_FULL)));
        let line = store::line(result);
        if let Some(peer) = self.state.guardian().and_then(|guardian| self.peers.get(guardian)) {
            peer.offer(key, Some(&line));
        }
        self.store.append(key, short.unwrap_or(line));
    }

    pub(super) fn hang_up(&mut self, connection: Connection) {
        self.peers.close(&mut self.poll, connection);
        self.feed(Input::Disconnected(connection));
    }

    /// Executes requests that were read.
    pub(super) fn serve(&mut self) {
        for connection in self.peers.connections() {
            for _ in 0..REQUESTS_A_TURN {
                // Looked up anew each time: a request may end its own connection.
                match self.peers.get(connection).and_then(|peer| peer.next_request()) {
                    None => break,
                    Some(Ok(request)) => self.feed(Input::Request(connection, request)),
                    Some(Err(err)) => {
                        tracing::warn!(event = event::KEEPER_REQUEST_UNREADABLE, error = %err, "a request cannot be read");
                        self.hang_up(connection);
                    }
                }
            }
        }
    }

    /// Fills the connections with the results that wait for room.
    pub(super) fn offer(&mut self) {
        for connection in self.peers.connections() {
            let Some(peer) = self.peers.get(connection) else { continue };
            let mut read = 0;
            while read < READ_A_TURN
                && let Some(offer) = peer.next_offer()
            {
                match offer {
                    Offer::First(key) if self.state.is_unacknowledged(key) => {
                        self.store.read(key).inspect(|line| peer.send(line));
                    }
                    Offer::First(_) => {}
                    Offer::Again(again) => {
                        read += again.read;
                        // What is not acknowledged is offered anyhow.
                        let offer = again.offer.filter(|(key, _)| !self.state.is_unacknowledged(*key));
                        offer.inspect(|(_, line)| peer.send(line));
                    }
                }
            }
        }
    }

    pub(super) fn exchange(&mut self) {
        if self.store.exchange(clock::now()) {
            // The old socket left the set when it was closed.
            self.storing.take().into_iter().for_each(|token| self.poll.forget(token));
            self.storing_blocked = false;
            let added = self.store.socket().map(|socket| self.poll.add(socket, Watched::Writer));
            match added.transpose() {
                Ok(token) => self.storing = token,
                Err(_) => self.store.part(clock::now()),
            }
        }
        let blocked = self.store.wants_to_write();
        if let (Some(socket), Some(token)) = (self.store.socket(), self.storing)
            && blocked != self.storing_blocked
            && self.poll.want_room(socket, token, blocked).is_ok()
        {
            self.storing_blocked = blocked;
        }
    }

    pub(super) fn flush(&mut self) {
        for connection in self.peers.connections() {
            if self.peers.get(connection).is_some_and(|peer| !peer.flush(&self.poll)) {
                self.hang_up(connection);
            }
        }
    }
}
