//! The embedded default.

use crate::error::{Error, ErrorKind, Result};

/// Arguments of `sisyphus dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {}

/// Runs until told to stop.
pub async fn run(_args: DevArgs) -> Result<()> {
    std::future::ready(()).await;
    Err(Error::new(ErrorKind::Failed, "dev is not part of this build"))
}
