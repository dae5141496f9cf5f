//! `sisyphus migrate`.

use crate::{
    config::Connection,
    db::client::{Call, Session},
    error::Result,
    migrate::{Report, migrate},
};

/// Arguments of `sisyphus migrate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus --database-url postgresql:///jobs migrate")]
pub struct MigrateArgs {
    /// Let the jobs of a restored, cloned or pg_upgraded database run here
    #[arg(long)]
    adopt: bool,
}

/// Installs or upgrades the schema and says what changed.
pub async fn run(args: MigrateArgs, connection: &Connection) -> Result<()> {
    let mut session = Session::open_bare(connection).await?;
    let report = migrate(session.client_mut()).await.map_err(|error| {
        error.hint_if_denied(
            "migrate as a role that has sisyphus_owner; the first time as a superuser, or as a role with CREATEROLE that owns the database",
        )
    })?;
    say(&report);
    if args.adopt {
        let adopted = session.call(&Call::new("adopt_installation")).await?;
        match adopted.first() {
            Some(Some(changed)) if changed == "true" => {
                eprintln!("adopted: the jobs of this database run here")
            }
            _ => eprintln!("nothing to adopt"),
        }
    } else if let Some(problem) = session.installation_problem().await? {
        eprintln!("{problem}\nwith --adopt, its jobs run here");
    }
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
