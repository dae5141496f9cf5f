//! `import pg_cron`: a row of `cron.job` becomes a call of schedule().

use serde::Deserialize;

use super::{Options, names::Names};
use crate::{
    commands::settle::Wanted,
    config::{Connection, process_env},
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

/// Take over the jobs of pg_cron
///
/// Each active row of cron.job that the login may see becomes a job with the tag `pg_cron`: psql runs the command
/// on the host, in the database and as the user that the row names. psql needs a way in, such as the ~/.pgpass of
/// the user it runs as. As with pg_cron, a run waits for the one before and none is caught up, unless --overlap
/// and --missed say so.
///
/// All rows are taken, or none. A second import changes what pg_cron says otherwise and leaves the rest alone; a job
/// that no import made is never replaced. pg_cron goes on until its jobs are unscheduled there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus import pg_cron --dry-run\n  \
    sisyphus import pg_cron --from postgresql://db1/postgres --pool db --run-as postgres")]
pub(super) struct PgCronArgs {
    /// Database that pg_cron lives in; the one of the schema when not given
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// What an import recognises its own jobs by.
const TAG: &str = "pg_cron";

#[derive(Deserialize)]
struct CronJob {
    jobid: i64,
    name: String,
    schedule: String,
    timezone: String,
    connection: String,
    command: String,
    left_out: Option<String>,
}

/// Takes over the jobs of pg_cron.
pub(super) async fn import(args: PgCronArgs, session: &Session) -> Result<()> {
    let jobs = match &args.from {
        None => read(session).await?,
        Some(url) => {
            let there = Connection::resolve(Some(url), &process_env)?;
            read(&Session::open(&there).await?).await?
        }
    };
    let mut names = Names::new(&args.options.prefix);
    let wanted: Vec<_> = jobs
        .iter()
        .filter(|job| job.left_out.is_none())
        .map(|job| {
            let name = names.unique(&job.name);
            let call = args.options.add_to(call_of(job, &name), "queue", TAG);
            let call = call.given("run_as", "text", args.options.run_as.as_ref());
            Wanted { job: name, call, place: format!("cron.job {}", job.jobid) }
        })
        .collect();
    args.options.take_over(&wanted, TAG, session).await?;
    for job in &jobs {
        if let Some(why) = &job.left_out {
            eprintln!("cron.job {} ({}) is left out: {why}", job.jobid, job.name);
        }
    }
    Ok(())
}

fn call_of(job: &CronJob, name: &str) -> Call {
    let argv = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", &job.connection, "-c", &job.command];
    Call::new("schedule")
        .arg("name", "text", name)
        .arg("schedule", "text", &job.schedule)
        .list("argv", "text[]", &argv)
        .arg("timezone", "text", &job.timezone)
}

async fn read(there: &Session) -> Result<Vec<CronJob>> {
    if !there.has_pg_cron().await? {
        return Err(Error::new(ErrorKind::Failed, "there is no table cron.job in that database").hint(
            "--from names the database that pg_cron lives in, which its setting cron.database_name says",
        ));
    }
    there.pg_cron_jobs().await?.read()
}
