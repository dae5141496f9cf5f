//! `sisyphus migrate`.

use crate::{
    config::Connection,
    db::client::Session,
    error::Result,
    migrate::{Report, migrate},
};

/// Arguments of `sisyphus migrate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus --database-url postgresql:///jobs migrate")]
pub struct MigrateArgs {}

/// Installs or upgrades the schema and says what changed.
pub async fn run(_args: MigrateArgs, connection: &Connection) -> Result<()> {
    let mut session = Session::open_bare(connection).await?;
    let report = migrate(session.client_mut()).await?;
    say(&report);
    Ok(())
}

fn say(report: &Report) {
    for name in &report.migrations {
        eprintln!("applied {name}");
    }
    if report.code {
        eprintln!("applied functions, views and grants");
    }
    if report.migrations.is_empty() && !report.code {
        eprintln!("nothing to do");
    }
    eprintln!("the schema is at version {}", report.version);
}
