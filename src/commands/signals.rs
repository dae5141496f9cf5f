//! The signals that end a command which goes on until somebody ends it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, ErrorKind, Result};

/// Registered before anything is begun that must be put right again, so that no signal ends us half way.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Registers them.
    pub(super) fn register() -> Result<Self> {
        let fault = |err: io::Error| Error::new(ErrorKind::Failed, "signals cannot be handled").source(err);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(fault)?,
            terminate: signal(SignalKind::terminate()).map_err(fault)?,
            hang_up: signal(SignalKind::hangup()).map_err(fault)?,
        })
    }

    /// Waits for any of them. Cancel safe.
    pub(super) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Waits for SIGTERM. Cancel safe.
    pub(super) async fn terminate(&mut self) {
        self.terminate.recv().await;
    }
}
