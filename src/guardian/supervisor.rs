//! What the service manager is told: ready, alive, stopping.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use crate::observe::event;

/// The service manager's socket, when there is one.
#[derive(Debug)]
pub(super) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// From `NOTIFY_SOCKET` and `WATCHDOG_USEC`.
    pub(super) fn from_env() -> Self {
        let watchdog = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        Self { socket: socket(), watchdog: watchdog.map(Duration::from_micros) }
    }

    /// How often [`Self::alive`] should be called: twice within the limit.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2).filter(|half| !half.is_zero())
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, word: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(err) = socket.send_to_addr(word.as_bytes(), address)
        {
            tracing::warn!(event = event::SUPERVISOR_UNREACHABLE, error = %err, word, "the service manager cannot be told");
        }
    }
}

fn socket() -> Option<(UnixDatagram, SocketAddr)> {
    let name = std::env::var("NOTIFY_SOCKET").ok()?;
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A manager that does not read must not stop the loop.
    socket.set_nonblocking(true).ok()?;
    Some((socket, address.ok()?))
}
