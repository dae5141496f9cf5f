//! `import`: jobs of another scheduler become jobs here, all or none.

mod cron;
mod crontab;
mod foreign;
mod names;

use super::{
    output::{self, Format},
    settle::{self, Wanted},
};
use crate::{
    db::{
        client::{Call, Session},
        import::{PG_CRON, PG_TIMETABLE, PGAGENT},
    },
    error::Result,
};

/// Arguments of `sisyphus import`.
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once")]
enum From {
    Crontab(cron::CrontabArgs),
    #[command(name = "pg_cron")]
    PgCron(foreign::PgCronArgs),
    #[command(name = "pgagent")]
    PgAgent(foreign::PgAgentArgs),
    #[command(name = "pg_timetable")]
    PgTimetable(foreign::PgTimetableArgs),
}

/// What is said of all jobs of an import.
#[derive(Debug, clap::Args)]
struct Options {
    /// Hosts the jobs may run on
    #[arg(long)]
    pool: Option<String>,
    /// any: one host of the pool; all: every host of it
    #[arg(long, value_name = "any|all")]
    run_on: Option<String>,
    /// Operating system user to run as
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,
    /// When the last run is still going: skip, queue, replace or allow; as that scheduler does when not given
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// Which occurrences of a downtime still run: latest, all or none; as that scheduler does when not given
    #[arg(long, value_name = "POLICY")]
    missed: Option<String>,
    /// What the names of the jobs begin with
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Try it, print the statements that would do it, and undo it
    #[arg(long)]
    dry_run: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t, conflicts_with = "dry_run")]
    format: Format,
}

/// Takes over jobs.
pub(super) async fn import(args: ImportArgs, session: &Session) -> Result<()> {
    match args.from {
        From::Crontab(args) => cron::import(args, session).await,
        From::PgCron(args) => foreign::import(&args.foreign, &PG_CRON, session).await,
        From::PgAgent(args) => foreign::import(&args.foreign, &PGAGENT, session).await,
        From::PgTimetable(args) => foreign::import(&args.foreign, &PG_TIMETABLE, session).await,
    }
}

impl Options {
    /// Adds what the command line says of all jobs.
    fn add_to(&self, call: Call, tag: &str) -> Call {
        call.given("pool", "text", self.pool.as_ref())
            .given("run_on", "text", self.run_on.as_ref())
            .given("run_as", "text", self.run_as.as_ref())
            .given("overlap", "text", self.overlap.as_ref())
            .given("missed", "text", self.missed.as_ref())
            .list("tags", "text[]", &[tag])
    }

    /// Whether the command line says this, whatever the other scheduler does.
    fn gives(&self, property: &str) -> bool {
        match property {
            "overlap" => self.overlap.is_some(),
            "missed" => self.missed.is_some(),
            _ => false,
        }
    }

    /// Makes the jobs, or tries it; jobs that no import of this kind made are not replaced.
    async fn take_over(&self, wanted: &[Wanted], tag: &str, session: &Session) -> Result<()> {
        let may_replace = |_: &str, tags: &[String]| {
            if tags.iter().any(|known| known == tag) {
                return Ok(());
            }
            Err((
                format!("there is such a job, and it has no tag {tag}: no import made it"),
                "give the jobs names of their own with --prefix, or unschedule that one".to_owned(),
            ))
        };
        session.begin().await?;
        let outcomes = settle::define(wanted, &may_replace, session).await?;
        if !self.dry_run {
            session.commit().await?;
            return settle::print_outcomes(&outcomes, self.format, "");
        }
        session.roll_back().await?;
        if !wanted.is_empty() {
            output::print("begin;")?;
            for one in wanted {
                output::print(&format!("-- {}\n{}", one.place, one.call.statement()))?;
            }
            output::print("commit;")?;
        }
        settle::say_counts(&outcomes, "; a dry run, nothing was done")
    }
}
