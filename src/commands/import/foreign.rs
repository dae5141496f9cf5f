//! `import pg_cron`, `import pgagent`, `import pg_timetable`: a row of another scheduler's tables becomes a call of
//! schedule().

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Options, names::Names};
use crate::{
    commands::settle::Wanted,
    config::{Connection, process_env},
    db::{
        Property,
        client::{Call, Session},
        import::Scheduler,
    },
    error::Result,
};

/// Take over the jobs of pg_cron
///
/// Each active row of cron.job that the login may see becomes a job with the tag `pg_cron`: psql runs the command
/// on the host, in the database and as the user that the row names. psql needs a way in, such as the ~/.pgpass of
/// the user it runs as. As with pg_cron, a run waits for the one before and none is caught up, unless --overlap
/// and --missed say so.
///
/// All rows are taken, or none; what cannot be taken is told. A second import changes what pg_cron says otherwise and
/// leaves the rest alone; a job that no import made is never replaced. pg_cron goes on until its jobs are
/// unscheduled there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus import pg_cron --dry-run\n  \
    sisyphus import pg_cron --from postgresql://db1/postgres --pool db --run-as postgres")]
pub(super) struct PgCronArgs {
    #[command(flatten)]
    pub(super) foreign: Foreign,
}

/// Take over the jobs of pgAgent
///
/// Each enabled schedule of an enabled job becomes a job with the tag `pgagent`, named after the job there, and after
/// the schedule where it has several. The steps become one shell command: psql runs those of SQL, in the database
/// that the step names. psql needs a way in, such as the ~/.pgpass of the user it runs as. Times are those of the
/// server's time zone. The host agent of a job is not taken: --pool says where the jobs run.
///
/// All schedules are taken, or none; what cannot be taken is told: days of the month together with days of the week,
/// and exceptions. A second import changes what pgAgent says otherwise and leaves the rest alone; a job that no
/// import made is never replaced. pgAgent goes on until its jobs are disabled there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  \
    sisyphus import pgagent --from postgresql://db1/postgres --pool db --dry-run")]
pub(super) struct PgAgentArgs {
    #[command(flatten)]
    pub(super) foreign: Foreign,
}

/// Take over the chains of pg_timetable
///
/// Each live chain of one task becomes a job with the tag `pg_timetable`: a program with its parameters, or SQL that
/// psql runs in the database of the task. psql needs a way in, such as the ~/.pgpass of the user it runs as. Times are
/// those of the server's time zone. The client of a chain is not taken: --pool says where the jobs run.
///
/// All chains are taken, or none; what cannot be taken is told. A second import changes what pg_timetable says
/// otherwise and leaves the rest alone; a job that no import made is never replaced. pg_timetable goes on until its
/// chains are paused there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  \
    sisyphus import pg_timetable --from postgresql://db1/timetable --pool etl --dry-run")]
pub(super) struct PgTimetableArgs {
    #[command(flatten)]
    pub(super) foreign: Foreign,
}

/// What is said of every import from tables.
#[derive(Debug, clap::Args)]
pub(super) struct Foreign {
    /// Database that the other scheduler lives in; the one of the schema when not given
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    #[command(flatten)]
    options: Options,
}

#[derive(Deserialize)]
struct Row {
    place: String,
    name: String,
    left_out: Option<String>,
    arguments: Map<String, Value>,
}

/// Takes over the jobs of a scheduler.
pub(super) async fn import(args: &Foreign, scheduler: &Scheduler, session: &Session) -> Result<()> {
    let rows = match &args.from {
        None => session.jobs_of(scheduler).await?,
        Some(url) => {
            let there = Connection::resolve(Some(url), &process_env)?;
            Session::open(&there).await?.jobs_of(scheduler).await?
        }
    };
    let rows: Vec<Row> = rows.read()?;
    let properties = session.properties().await?;
    let mut names = Names::new(&args.options.prefix);
    let wanted: Vec<_> = rows
        .iter()
        .filter(|row| row.left_out.is_none())
        .map(|row| {
            let job = names.unique(&row.name);
            let call = args.options.add_to(call_of(row, &job, &args.options, &properties), scheduler.name);
            Wanted { job, call, place: row.place.clone() }
        })
        .collect();
    args.options.take_over(&wanted, scheduler.name, session).await?;
    for Row { place, name, left_out, .. } in &rows {
        if let Some(why) = left_out {
            eprintln!("{place} ({name}) is left out: {why}");
        }
    }
    Ok(())
}

/// The call with the arguments that the row gives and the command line does not.
fn call_of(row: &Row, job: &str, options: &Options, properties: &[Property]) -> Call {
    let mut call = Call::new("schedule").arg("name", "text", job);
    for Property { name, kind } in properties {
        let value = row.arguments.get(name).filter(|value| !value.is_null() && !options.gives(name));
        call = match value {
            None => call,
            Some(Value::Array(elements)) => {
                let elements: Vec<_> = elements.iter().map(text_of).collect();
                call.array(name.clone(), kind.clone(), &elements)
            }
            Some(value) => call.arg(name.clone(), kind.clone(), text_of(value)),
        };
    }
    call
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
