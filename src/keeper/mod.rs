//! The keeper: the small process that is the parent of the jobs and outlives the guardian.
//!
//! One thread, epoll, no tokio, no database. The guardian reaches it through [`KeeperClient`] over a Unix
//! socket in the [`StateDirectory`] and speaks [`protocol`].

pub mod client;
pub mod directory;
pub mod protocol;

pub use client::KeeperClient;
pub use directory::StateDirectory;

use crate::error::{Error, ErrorKind, Result};

/// Runs the keeper of this directory until it is told to stop or, detached, has nothing left to do.
pub fn run(_directory: &StateDirectory, _detach: bool) -> Result<()> {
    Err(Error::new(ErrorKind::Failed, "the keeper is not here yet"))
}
