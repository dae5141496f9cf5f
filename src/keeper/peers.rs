//! The connections of guardians.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, fs,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
};

use nix::{
    sys::{
        socket::{getsockopt, sockopt::PeerCredentials},
        stat::{Mode, umask},
    },
    unistd::{Uid, geteuid},
};

use super::{
    clock::Moment,
    directory::StateDirectory,
    poll::{Poll, Token, Watched},
    protocol::{Event, MAX_LINE, Request, RunKey},
    state::Connection,
    store::Again,
};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
};

/// Bytes that may wait in a connection before more results are taken from the store.
const WINDOW: usize = 256 << 10;
/// Read at once of a connection.
const CHUNK: usize = 64 << 10;
/// How long no connection is taken when descriptors have run out.
const DEAF_US: i64 = 100_000;

/// The keeper's socket and all its connections.
#[derive(Debug)]
pub(super) struct Peers {
    listener: UnixListener,
    /// None while descriptors have run out, until then.
    listening: Option<Token>,
    deaf_until_us: Option<i64>,
    /// The user of the guardian, when it is another one.
    guardian: Option<Uid>,
    table: BTreeMap<Connection, Peer>,
    last: Connection,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    token: Token,
    incoming: Vec<u8>,
    /// Where the first unread line begins, and up to where no line end was found.
    begin: usize,
    searched: usize,
    outgoing: Vec<u8>,
    blocked: bool,
    /// Results to be offered when there is room.
    offers: VecDeque<RunKey>,
    retained: Option<Retained>,
}

/// Acknowledged results on their way to be offered again.
struct Retained(Box<dyn Iterator<Item = Again>>);

/// What is to be offered next.
#[derive(Debug)]
pub(super) enum Offer {
    /// An unacknowledged result, to be read from the store.
    First(RunKey),
    Again(Again),
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retained")
    }
}

impl Peers {
    /// Listens on the keeper's socket, which its own user alone may use, or that of the guardian.
    pub(super) fn listen(poll: &mut Poll, directory: &StateDirectory, guardian: Option<Uid>) -> Result<Self> {
        let path = directory.socket();
        let fault =
            |err: io::Error| Error::new(ErrorKind::Config, format!("cannot listen on {path:?}")).source(err);
        let bind = || {
            match fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            let before = umask(Mode::from_bits_truncate(0o177));
            let listener = UnixListener::bind(&path);
            umask(before);
            let listener = listener?;
            if let Some(uid) = guardian {
                std::os::unix::fs::chown(&path, Some(uid.as_raw()), None)?;
            }
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = bind().map_err(fault)?;
        let listening = Some(poll.add(&listener, Watched::Listener).map_err(|errno| fault(errno.into()))?);
        Ok(Self { listener, listening, deaf_until_us: None, guardian, table: BTreeMap::new(), last: 0 })
    }

    /// Takes the new connections of the guardian's user or of root, and what they have written already.
    pub(super) fn accept(&mut self, poll: &mut Poll, now: Moment) {
        if let Err(err) = self.accept_all(poll) {
            tracing::warn!(event = event::KEEPER_DEAF, error = %err, "a connection cannot be taken");
            // It stays in the queue and would wake the loop without end.
            if let Some(token) = self.listening.take() {
                poll.remove(&self.listener, token);
            }
            self.deaf_until_us = Some(now.boottime_us + DEAF_US);
        }
    }

    /// When [`Self::tend`] has something to do, on the boot clock.
    pub(super) fn next_us(&self) -> Option<i64> {
        self.deaf_until_us
    }

    /// Listens again after descriptors had run out.
    pub(super) fn tend(&mut self, poll: &mut Poll, now: Moment) {
        if self.deaf_until_us.take_if(|at| *at <= now.boottime_us).is_some() {
            self.listening = poll.add(&self.listener, Watched::Listener).ok();
        }
    }

    /// Ends a connection; what stands unread or unsent in it is dropped.
    pub(super) fn close(&mut self, poll: &mut Poll, connection: Connection) {
        if let Some(peer) = self.table.remove(&connection) {
            poll.remove(&peer.stream, peer.token);
        }
    }

    /// A connection, while it is there.
    pub(super) fn get(&mut self, connection: Connection) -> Option<&mut Peer> {
        self.table.get_mut(&connection)
    }

    /// The connections that there are, newest first: a greeting must silence an older guardian before what
    /// that one wrote is obeyed.
    pub(super) fn connections(&self) -> Vec<Connection> {
        self.table.keys().rev().copied().collect()
    }

    /// Whether there is something to do that no event will tell of: a request that was read and not taken yet, or
    /// results to offer to a connection that has just taken all that it was sent.
    pub(super) fn have_work(&mut self) -> bool {
        self.table.values_mut().any(|peer| peer.line_end().is_some() || !peer.blocked && peer.has_offers())
    }

    /// Whether a connection has something to take yet.
    pub(super) fn have_unsent(&self) -> bool {
        self.table.values().any(|peer| !peer.outgoing.is_empty() || peer.has_offers())
    }

    fn accept_all(&mut self, poll: &mut Poll) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(poll, stream)?,
                Err(err) => match err.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => return Err(err),
                },
            }
        }
    }

    fn admit(&mut self, poll: &mut Poll, stream: UnixStream) -> io::Result<()> {
        let uid = Uid::from_raw(getsockopt(&stream, PeerCredentials)?.uid());
        if uid != geteuid() && !uid.is_root() && self.guardian != Some(uid) {
            tracing::warn!(event = event::KEEPER_STRANGER, %uid, "connection of another user turned away");
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        self.last += 1;
        let token = poll.add(&stream, Watched::Peer(self.last))?;
        let mut peer = Peer {
            stream,
            token,
            incoming: Vec::new(),
            begin: 0,
            searched: 0,
            outgoing: Vec::new(),
            blocked: false,
            offers: VecDeque::new(),
            retained: None,
        };
        // If it has ended already, the next turn finds that out.
        peer.read();
        self.table.insert(self.last, peer);
        Ok(())
    }
}

impl Peer {
    /// Reads what is there; false when the connection is at its end.
    pub(super) fn read(&mut self) -> bool {
        // What was read is worked off first, so that a flood of requests waits outside.
        if self.line_end().is_some() {
            return true;
        }
        self.incoming.drain(..self.begin);
        (self.begin, self.searched) = (0, self.incoming.len());
        let room = CHUNK.max(self.incoming.len());
        self.incoming.resize(self.searched + room, 0);
        let read = self.stream.read(&mut self.incoming[self.searched..]);
        self.incoming.truncate(self.searched + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => false,
            Ok(_) => self.incoming.len() <= MAX_LINE + CHUNK,
            Err(err) => matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// The next request that was read.
    pub(super) fn next_request(&mut self) -> Option<serde_json::Result<Request>> {
        let end = self.line_end()?;
        let line = self.begin..end;
        (self.begin, self.searched) = (end + 1, end + 1);
        let request = serde_json::from_slice(&self.incoming[line]);
        if self.begin == self.incoming.len() {
            // A large payload must not stay for ever.
            (self.begin, self.searched) = (0, 0);
            self.incoming.clear();
            self.incoming.shrink_to(CHUNK);
        }
        Some(request)
    }

    /// Sends a line, after those that wait.
    pub(super) fn send(&mut self, line: &[u8]) {
        self.outgoing.extend_from_slice(line);
        self.outgoing.push(b'\n');
    }

    /// Offers a result: at once when `line` is given and nothing else waits, else when there is room.
    pub(super) fn offer(&mut self, key: RunKey, line: Option<&[u8]>) {
        match line {
            Some(line) if self.offers.is_empty() && self.outgoing.len() < WINDOW => self.send(line),
            _ => self.offers.push_back(key),
        }
    }

    fn has_offers(&self) -> bool {
        !self.offers.is_empty() || self.retained.is_some()
    }

    /// Offers these again, when there is room.
    pub(super) fn offer_retained(&mut self, retained: impl Iterator<Item = Again> + 'static) {
        self.retained = Some(Retained(Box::new(retained)));
    }

    /// The next result to be offered, while there is room.
    pub(super) fn next_offer(&mut self) -> Option<Offer> {
        if self.outgoing.len() >= WINDOW {
            return None;
        }
        if let Some(key) = self.offers.pop_front() {
            return Some(Offer::First(key));
        }
        let next = self.retained.as_mut()?.0.next();
        if next.is_none() {
            self.retained = None;
            self.send(&serde_json::to_vec(&Event::Offered {}).expect("events are plain data"));
        }
        next.map(Offer::Again)
    }

    /// Writes what the connection takes; false when it is broken.
    pub(super) fn flush(&mut self, poll: &Poll) -> bool {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match self.stream.write(&self.outgoing[sent..]) {
                Ok(length) => sent += length,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.outgoing.drain(..sent);
        self.outgoing.shrink_to(WINDOW);
        let blocked = !self.outgoing.is_empty();
        if blocked == std::mem::replace(&mut self.blocked, blocked) {
            return true;
        }
        poll.want_room(&self.stream, self.token, blocked).is_ok()
    }

    fn line_end(&mut self) -> Option<usize> {
        let unread = &self.incoming[self.searched..];
        match unread.iter().position(|&byte| byte == b'\n') {
            Some(length) => Some(self.searched + length),
            None => {
                self.searched = self.incoming.len();
                None
            }
        }
    }
}
