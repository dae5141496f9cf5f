//! `logs`: what runs wrote, once or as they end.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{
    asking::{explain_run, preview},
    control::how_it_ended,
    output,
    show::{or_job, run_id},
};
use crate::{
    db::client::{Session, read_row},
    error::{Error, ErrorKind, Result},
};

/// How often `-f` looks; the database is asked for what one job ended within the last minute each time.
const POLL: Duration = Duration::from_secs(1);

/// Print what a run wrote
///
/// The output of an attempt is stored when it ends, not line by line. -f JOB prints the last ended attempt, then
/// each one as it ends, until Ctrl-C; -f RUN_ID prints the attempts of the run and leaves when the run has ended.
/// How each ended goes to stderr; -f tells that of runs that never started as well.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus logs nightly\n  sisyphus logs 4711 --attempt 1 --only stderr\n  \
                             sisyphus logs -f nightly"
)]
pub struct LogsArgs {
    /// Name of a job, for its last ended attempt, or number of a run
    #[arg(value_name = "JOB|RUN_ID")]
    what: String,
    /// Go on with what ends from now on
    #[arg(short, long, conflicts_with = "attempt")]
    follow: bool,
    /// This attempt of the run, not the last
    #[arg(long, value_name = "N")]
    attempt: Option<i32>,
    /// One of the two streams
    #[arg(long, value_enum)]
    only: Option<Stream>,
    /// Take a name of digits for a job
    #[arg(long)]
    job: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

/// An ended attempt, or a run that ended unstarted.
#[derive(Deserialize)]
struct End {
    run_id: i64,
    attempt: i64,
    is_final: bool,
    recorded_at: f64,
    stdout: Option<String>,
    stderr: Option<String>,
    command: Option<String>,
    owner: Option<String>,
}

/// Prints what the last attempt wrote: its stdout to stdout, its stderr and how it ended to stderr.
pub(super) async fn logs(args: LogsArgs, session: &Session) -> Result<()> {
    let run_id = run_id(&args.what, args.job);
    match (args.follow, run_id) {
        (true, Some(run_id)) => return follow_run(run_id, args.only, session).await,
        (true, None) => return follow_job(&args.what, args.only, session).await,
        _ => {}
    }
    let job = run_id.is_none().then_some(args.what.as_str());
    match session.output(run_id, job, args.attempt).await?.objects.first() {
        Some(text) => hidden(&print_end(text, args.only)?).map_or(Ok(()), Err),
        None => Err(no_output(run_id, &args, session).await?),
    }
}

/// Prints the attempts of a run as they end, until the last.
async fn follow_run(run_id: i64, only: Option<Stream>, session: &Session) -> Result<()> {
    let mut ends = Ends::since(0.0);
    let mut waits = false;
    loop {
        for text in ends.more(Some(run_id), None, session).await? {
            let end = print_end(&text, only)?;
            if end.is_final {
                return hidden(&end).map_or(Ok(()), Err);
            }
        }
        if !waits {
            waits = true;
            // Of a run that does not exist this is the error.
            for sentence in session.call(&explain_run(run_id)).await?.iter().flatten() {
                eprintln!("run {run_id} {sentence}");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Prints the last attempt of a job, then all that end from now on.
async fn follow_job(job: &str, only: Option<Stream>, session: &Session) -> Result<()> {
    let mut ends = Ends::since(session.now().await?);
    while !ends.more(None, Some(job), session).await?.is_empty() {}
    let mut is_told = false;
    match session.output(None, Some(job), None).await?.objects.first() {
        Some(text) => ends.note(&print_and_tell_once(text, only, &mut is_told)?),
        // An unknown job is an error, one that never ran is not.
        None => drop(session.call_rows(&preview(job, "1")).await?),
    }
    loop {
        let new = ends.more(None, Some(job), session).await?;
        for text in &new {
            print_and_tell_once(text, only, &mut is_told)?;
        }
        if new.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What has been seen of the history.
struct Ends {
    since: f64,
    seen: Vec<(i64, i64, f64)>,
}

impl Ends {
    fn since(since: f64) -> Self {
        Self { since, seen: Vec::new() }
    }

    /// What has ended and was not given before, the oldest first.
    async fn more(
        &mut self,
        run_id: Option<i64>,
        job: Option<&str>,
        session: &Session,
    ) -> Result<Vec<String>> {
        let (runs, attempts): (Vec<_>, Vec<_>) =
            self.seen.iter().map(|(run_id, attempt, _)| (*run_id, *attempt)).unzip();
        let rows = session.ends(run_id, job, self.since, (&runs, &attempts)).await?;
        for text in &rows.objects {
            self.note(&read_row(text)?);
        }
        // Older ones are not asked for any more.
        self.seen.retain(|(_, _, recorded_at)| recorded_at + 61.0 > self.since);
        Ok(rows.objects)
    }

    fn note(&mut self, end: &End) {
        self.since = self.since.max(end.recorded_at);
        self.seen.push((end.run_id, end.attempt, end.recorded_at));
    }
}

fn print_end(text: &str, only: Option<Stream>) -> Result<End> {
    let row = output::object(text)?;
    let attempt = row.get("attempt").and_then(Value::as_i64).unwrap_or_default();
    let which = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
    eprintln!("{}{which}", how_it_ended(&row));
    let end = read_row(text)?;
    print_output(&end, only)?;
    Ok(end)
}

/// Who sees nothing of the output is told so, and goes on being told how runs end.
fn print_and_tell_once(text: &str, only: Option<Stream>, is_told: &mut bool) -> Result<End> {
    let end = print_end(text, only)?;
    if let (false, Some(error)) = (*is_told, hidden(&end)) {
        *is_told = true;
        eprintln!("{error}");
    }
    Ok(end)
}

/// What was written, but not for the caller to see: the history shows it neither that nor the command.
fn hidden(end: &End) -> Option<Error> {
    let shows = [&end.stdout, &end.stderr, &end.command].into_iter().any(Option::is_some);
    if shows || end.attempt == 0 {
        return None;
    }
    let owner = end.owner.as_deref().unwrap_or("sisyphus_admin");
    let message = format!("what run {} wrote is for role {owner} to see", end.run_id);
    Some(Error::new(ErrorKind::Failed, message).hint(format!("act as {owner}, or as a member of it")))
}

fn print_output(end: &End, only: Option<Stream>) -> Result<()> {
    let (stdout, stderr) =
        (end.stdout.as_deref().unwrap_or_default(), end.stderr.as_deref().unwrap_or_default());
    if only != Some(Stream::Stderr) {
        output::print_raw(stdout)?;
    }
    match only {
        None => eprint!("{stderr}"),
        Some(Stream::Stderr) => output::print_raw(stderr)?,
        Some(Stream::Stdout) => {}
    }
    Ok(())
}

/// Why there is nothing to print.
async fn no_output(run_id: Option<i64>, args: &LogsArgs, session: &Session) -> Result<Error> {
    let Some(run_id) = run_id else { return no_attempt(&args.what, session).await };
    let sentence = match session.call(&explain_run(run_id)).await {
        Err(error) => return or_job(error, run_id, "logs", session).await,
        Ok(told) => told.into_iter().flatten().collect::<String>(),
    };
    let of = args.attempt.map_or_else(String::new, |attempt| format!(" of attempt {attempt}"));
    let error = Error::new(ErrorKind::Failed, format!("run {run_id} has no output{of}: {sentence}"));
    Ok(match session.ended_run(run_id).await?.objects.is_empty() {
        true => error
            .hint(format!("output is stored when an attempt ends; sisyphus logs -f {run_id} waits for it")),
        false => error,
    })
}

/// Of a job that no host has run yet: what became of its last run, if there was one.
async fn no_attempt(job: &str, session: &Session) -> Result<Error> {
    if let Some(text) = session.last_end(job).await?.objects.first() {
        let last = how_it_ended(&output::object(text)?);
        return Ok(Error::new(ErrorKind::Failed, format!("no run of job \"{job}\" was started: {last}")));
    }
    session.call_rows(&preview(job, "1")).await?;
    let error = Error::new(ErrorKind::Failed, format!("no run of job \"{job}\" has ended yet"));
    let is_active = match session.job(job).await?.objects.first() {
        Some(text) => output::object(text)?.get("state").is_some_and(|state| state == "active"),
        None => false,
    };
    let word = output::shell_word(job);
    Ok(if is_active { error.hint(format!("sisyphus run {word} --wait runs it now")) } else { error })
}
