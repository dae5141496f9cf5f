//! The epoll set. Every entry has a token that is never used again, so an event of an entry that is gone
//! finds nothing, even while a forked child keeps the file open.

use std::{collections::HashMap, os::fd::AsFd};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use super::{protocol::RunKey, state::Connection};

/// Events taken at once.
const BATCH: usize = 256;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    Listener,
    Timer,
    Signals,
    Writer,
    Peer(Connection),
    /// The pidfd of a run's first process.
    Exit(RunKey),
    /// Whether the program could be executed.
    Status(RunKey),
    Output(RunKey, Channel),
    /// The answer about a user.
    LookUp(u64),
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
}

/// Names an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token(u64);

/// The set.
#[derive(Debug)]
pub(super) struct Poll {
    epoll: Epoll,
    entries: HashMap<Token, Watched>,
    last: u64,
}

impl Poll {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, entries: HashMap::new(), last: 0 })
    }

    /// Watches a file for input.
    pub(super) fn add(&mut self, file: impl AsFd, watched: Watched) -> Result<Token, Errno> {
        self.last += 1;
        self.epoll.add(file, EpollEvent::new(EpollFlags::EPOLLIN, self.last))?;
        self.entries.insert(Token(self.last), watched);
        Ok(Token(self.last))
    }

    /// Watches for room to write as well, or no more.
    pub(super) fn want_room(&self, file: impl AsFd, token: Token, wanted: bool) -> Result<(), Errno> {
        let room = if wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.epoll.modify(file, &mut EpollEvent::new(EpollFlags::EPOLLIN | room, token.0))
    }

    /// Ends an entry; to be called before its file is closed.
    pub(super) fn remove(&mut self, file: impl AsFd, token: Token) {
        let _ = self.epoll.delete(file);
        self.entries.remove(&token);
    }

    /// Ends an entry whose file was closed.
    pub(super) fn forget(&mut self, token: Token) {
        self.entries.remove(&token);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Waits for events; without `patient` takes only what is there.
    pub(super) fn wait(&self, patient: bool) -> Result<Vec<Token>, Errno> {
        let mut events = [EpollEvent::empty(); BATCH];
        let timeout = if patient { EpollTimeout::NONE } else { EpollTimeout::ZERO };
        let count = loop {
            match self.epoll.wait(&mut events, timeout) {
                // This process was stopped and goes on.
                Err(Errno::EINTR) => {}
                waited => break waited?,
            }
        };
        Ok(events[..count].iter().map(|event| Token(event.data())).collect())
    }

    /// What a token is about, while its entry is there.
    pub(super) fn watched(&self, token: Token) -> Option<Watched> {
        self.entries.get(&token).copied()
    }
}
