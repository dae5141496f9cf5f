//! The daemon of a host.

use crate::{
    config::Connection,
    error::{Error, ErrorKind, Result},
};

/// Run the jobs of this host
#[derive(Debug, clap::Args)]
pub struct GuardianArgs {}

/// Runs until told to stop.
pub async fn run(_args: GuardianArgs, _connection: Connection) -> Result<()> {
    std::future::ready(()).await;
    Err(Error::new(ErrorKind::Failed, "the guardian is not part of this build"))
}
