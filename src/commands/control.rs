//! `run`, `submit`, `rerun`, `backfill`, `terminate`, `pause`, `unpause`, `cancel`: what happens to single runs.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{asking::explain_run, job_options::ProcessOptions, output};
use crate::{
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

/// How often a waiting `run` looks; the database is asked for two index probes each time.
const POLL: Duration = Duration::from_millis(250);

/// How often it looks whether the run still waits to start, to say for what: once in each state.
const PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `sisyphus run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus run nightly --wait\n  \
    sisyphus run resize --payload '{\"image\": 7}' --dedup-key image-7")]
pub struct RunArgs {
    /// Name of the job
    name: String,
    /// Input of this run instead of the job's
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Not before this; without an offset in the database's time zone
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<String>,
    /// On this host of the job's pool
    #[arg(long)]
    host: Option<String>,
    /// While a run of the job with this key is unfinished, give its number and make none
    #[arg(long, value_name = "KEY")]
    dedup_key: Option<String>,
    /// Wait for the end and succeed only if the run does
    #[arg(long)]
    wait: bool,
}

/// Arguments of `sisyphus submit`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus submit 'pg_dump jobs > /backup/before.sql' --pool db --wait\n  \
    sisyphus submit --at '2030-01-01 07:00' -- /usr/bin/reindex --all")]
pub struct SubmitArgs {
    /// Command line for the shell
    #[arg(required_unless_present = "argv", conflicts_with = "argv")]
    command: Option<String>,
    /// Program and arguments, executed without a shell
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
    /// Hosts it may run on
    #[arg(long)]
    pool: Option<String>,
    /// On this host of the pool
    #[arg(long)]
    host: Option<String>,
    /// Not before this; without an offset in the database's time zone
    #[arg(long, value_name = "TIMESTAMP")]
    at: Option<String>,
    /// How late it may still start; however late when not given
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true)]
    ttl: Option<String>,
    /// Higher goes first, -9 to 9
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    #[command(flatten)]
    process: ProcessOptions,
    /// Wait for the end and succeed only if the run does
    #[arg(long)]
    wait: bool,
}

/// Arguments of `sisyphus backfill`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus backfill daily-report 2030-01-01 2030-02-01")]
pub struct BackfillArgs {
    /// Name of the job
    name: String,
    /// The first occurrence is at or after this
    since: String,
    /// The last one is before this
    until: String,
    /// Wait for the end and succeed only if all runs do
    #[arg(long)]
    wait: bool,
}

/// Arguments of `sisyphus rerun`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus rerun 4711 --wait")]
pub struct RerunArgs {
    /// Number of the run to repeat with its payload
    run_id: i64,
    /// Wait for the end and succeed only if the run does
    #[arg(long)]
    wait: bool,
}

/// Arguments of `sisyphus terminate`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus terminate 4711 --reason 'wrong input'")]
pub struct TerminateArgs {
    /// Numbers of runs
    #[arg(required = true, value_name = "RUN_ID")]
    run_ids: Vec<i64>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Arguments of `sisyphus pause`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "The run stays running; until sisyphus unpause its max_runtime stands still, its lease does \
    not.\n\nExample:\n  sisyphus pause 4711"
)]
pub struct PauseArgs {
    /// Numbers of runs
    #[arg(required = true, value_name = "RUN_ID")]
    run_ids: Vec<i64>,
}

/// Arguments of `sisyphus unpause`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus unpause 4711")]
pub struct UnpauseArgs {
    /// Numbers of runs
    #[arg(required = true, value_name = "RUN_ID")]
    run_ids: Vec<i64>,
}

/// Arguments of `sisyphus cancel`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus cancel 4711 4712")]
pub struct CancelArgs {
    /// Numbers of runs
    #[arg(required = true, value_name = "RUN_ID")]
    run_ids: Vec<i64>,
}

/// Fires a job; its run numbers go to stdout.
pub(super) async fn run(args: RunArgs, session: &Session) -> Result<()> {
    let call = Call::new("run_now")
        .of_flags()
        .arg("name", "text", &args.name)
        .given("payload", "jsonb", args.payload.as_ref())
        .given("at", "timestamptz", args.at.as_ref())
        .given("host", "text", args.host.as_ref())
        .given("dedup_key", "text", args.dedup_key.as_ref());
    begin(&call, args.wait, session).await
}

/// Runs a command once, without a job.
pub(super) async fn submit(args: SubmitArgs, session: &Session) -> Result<()> {
    let call = Call::new("submit")
        .given("command", "text", args.command.as_ref())
        .list("argv", "text[]", &args.argv)
        .given("pool", "text", args.pool.as_ref())
        .given("host", "text", args.host.as_ref())
        .given("at", "timestamptz", args.at.as_ref())
        .given("ttl", "interval", args.ttl.as_ref())
        .given("priority", "int", args.priority);
    begin(&args.process.add_to(call)?, args.wait, session).await
}

/// Runs a job for occurrences of the past.
pub(super) async fn backfill(args: BackfillArgs, session: &Session) -> Result<()> {
    let call = Call::new("backfill")
        .arg("name", "text", &args.name)
        .arg("since", "timestamptz", &args.since)
        .arg("until", "timestamptz", &args.until);
    begin(&call, args.wait, session).await
}

/// Fires a run again.
pub(super) async fn rerun(args: RerunArgs, session: &Session) -> Result<()> {
    begin(&Call::new("rerun").arg("run_id", "bigint", args.run_id.to_string()), args.wait, session).await
}

/// Asks for the end of runs.
pub(super) async fn terminate(args: TerminateArgs, session: &Session) -> Result<()> {
    let reason = args.reason.as_deref();
    ask_each("terminate", &args.run_ids, reason, session, |id| format!("asked for the end of run {id}")).await
}

/// Stops the processes of runs.
pub(super) async fn pause(args: PauseArgs, session: &Session) -> Result<()> {
    let done = |id| format!("asked to stop the processes of run {id}; sisyphus unpause {id} lets them go on");
    ask_each("pause", &args.run_ids, None, session, done).await
}

/// Lets the processes of runs go on.
pub(super) async fn unpause(args: UnpauseArgs, session: &Session) -> Result<()> {
    ask_each("unpause", &args.run_ids, None, session, |id| format!("asked to let run {id} go on")).await
}

/// Withdraws runs that have not started.
pub(super) async fn cancel(args: CancelArgs, session: &Session) -> Result<()> {
    ask_each("cancel", &args.run_ids, None, session, |id| format!("asked to withdraw run {id}")).await
}

/// Asks one thing of several runs; those of which it cannot be asked are told by their state, and fail the command.
async fn ask_each(
    function: &'static str,
    run_ids: &[i64],
    reason: Option<&str>,
    session: &Session,
    done: impl Fn(i64) -> String,
) -> Result<()> {
    let (mut refused, mut started) = (Vec::new(), None);
    for &run_id in run_ids {
        let call = Call::new(function).arg("run_id", "bigint", run_id.to_string());
        if !said_no(&session.call(&call.given("reason", "text", reason)).await?) {
            eprintln!("{}", done(run_id));
            continue;
        }
        let rows = session.run_state(run_id).await?;
        let state = rows.objects.first().map(|text| output::object(text)).transpose()?.unwrap_or_default();
        let word = state.get("state").map(output::plain).unwrap_or_default();
        refused.push(match state.get("is_live").and_then(Value::as_bool) {
            Some(true) if word == "running" => {
                started = started.or(Some(run_id));
                format!("run {run_id} has started")
            }
            Some(true) => format!("run {run_id} has not started: it is {word}"),
            _ => format!("run {run_id} had ended: {word}"),
        });
    }
    if refused.is_empty() {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Failed, refused.join("; "));
    Err(match started {
        Some(run_id) if function == "cancel" => error.hint(format!("sisyphus terminate {run_id} ends it")),
        _ => error,
    })
}

/// Whether a function answered that nothing has changed.
pub(super) fn said_no(answer: &[Option<String>]) -> bool {
    answer.first().and_then(Option::as_deref) == Some("false")
}

async fn begin(call: &Call, wait: bool, session: &Session) -> Result<()> {
    let ids: Vec<i64> = session.call(call).await?.iter().flatten().filter_map(|id| id.parse().ok()).collect();
    if ids.is_empty() {
        eprintln!("no occurrence was due then: nothing to run");
    }
    for id in &ids {
        output::print(&id.to_string())?;
    }
    if !wait {
        return Ok(());
    }
    let mut failed = None;
    for id in ids {
        let end = wait_for(id, session).await?;
        if end.get("state").is_none_or(|state| state != "succeeded") {
            failed = failed.or(Some((id, end)));
        }
    }
    let Some((id, end)) = failed else { return Ok(()) };
    let error = Error::new(ErrorKind::Failed, format!("run {id} did not succeed"));
    // What never ran has written nothing.
    Err(match end.get("started_at").is_some_and(|at| !at.is_null()) {
        true => error.hint(format!("sisyphus logs {id} shows its output")),
        false => error,
    })
}

/// Waits until a run has ended, says how, and gives its last row of the history.
async fn wait_for(run_id: i64, session: &Session) -> Result<Map<String, Value>> {
    let (mut told, mut look_at) = (None, Instant::now() + PATIENCE);
    loop {
        let rows = session.ended_run(run_id).await?;
        if let Some(text) = rows.objects.first() {
            let row = output::object(text)?;
            eprintln!("{}", how_it_ended(&row));
            return Ok(row);
        }
        if Instant::now() >= look_at {
            look_at += PATIENCE;
            let state = unstarted(run_id, session).await?;
            if state.is_some() && state != told {
                for sentence in session.call(&explain_run(run_id)).await?.iter().flatten() {
                    eprintln!("run {run_id} {sentence}");
                }
                told = state;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The state of a run that no host has taken yet.
async fn unstarted(run_id: i64, session: &Session) -> Result<Option<String>> {
    let Some(text) = session.run_state(run_id).await?.objects.pop() else { return Ok(None) };
    let state = output::object(&text)?.get("state").map(output::plain);
    Ok(state.filter(|state| ["waiting", "pending"].contains(&state.as_str())))
}

/// `run 4711 failed on web1: exit code 3`, of a row of the history.
pub(super) fn how_it_ended(row: &Map<String, Value>) -> String {
    let get = |key: &str| row.get(key).map(output::plain).unwrap_or_default();
    let on = if get("host").is_empty() { String::new() } else { format!(" on {}", get("host")) };
    format!("run {} {}{on}: {}", get("run_id"), get("state"), get("reason"))
}
