//! `show` and `explain`: one job or run.

use serde_json::{Map, Value};

use super::{
    asking::{explain_run, preview, suspension},
    look::RUN_COLUMNS,
    output::{self, Column, Format, print_properties, print_rows},
    row::merged,
};
use crate::{
    db::{
        RunFilter,
        client::{Call, Session},
    },
    error::{Error, ErrorKind, Result},
    sqlstate,
};

/// Arguments of `sisyphus show`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  sisyphus show nightly\n  sisyphus show 4711")]
pub struct ShowArgs {
    /// Name of a job or number of a run
    #[arg(value_name = "JOB|RUN_ID")]
    what: String,
    /// Take a name of digits for a job
    #[arg(long)]
    job: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `sisyphus explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus explain 4711\n  sisyphus explain nightly '2030-01-31 02:30'"
)]
pub struct ExplainArgs {
    /// Number of a run, or with an instant the name of a job
    #[arg(value_name = "RUN_ID|JOB")]
    what: String,
    /// The occurrence of the job; without an offset in the database's time zone
    #[arg(value_name = "TIMESTAMP")]
    at: Option<String>,
}

/// Shows a job with what is next and what was last, or a run with all its attempts.
pub(super) async fn show(args: ShowArgs, session: &Session) -> Result<()> {
    match run_id(&args.what, args.job) {
        Some(run_id) => show_run(run_id, args.format, session).await,
        None => show_job(&args.what, args.format, session).await,
    }
}

/// Says in a sentence why a run has not started, or what became of an occurrence.
pub(super) async fn explain(args: ExplainArgs, session: &Session) -> Result<()> {
    let call = match (&args.at, args.what.parse().ok()) {
        (Some(at), _) => {
            Call::new("explain").arg("name", "text", &args.what).arg("due_at", "timestamptz", at)
        }
        (None, Some(run_id)) => explain_run(run_id),
        (None, None) => {
            return Err(Error::new(ErrorKind::Usage, format!("{:?} is no number of a run", args.what)).hint(
                format!(
                    "sisyphus runs {0} lists the runs; sisyphus explain {0} TIMESTAMP tells of an occurrence",
                    output::shell_word(&args.what)
                ),
            ));
        }
    };
    for sentence in session.call(&call).await?.iter().flatten() {
        output::print(sentence)?;
    }
    Ok(())
}

async fn show_job(name: &str, format: Format, session: &Session) -> Result<()> {
    let rows = session.job(name).await?;
    if rows.objects.is_empty() {
        return Err(unknown_job(name, session).await?);
    }
    // The definition repeats some of what the overview says.
    if format == Format::Json {
        return output::print(&merged(&rows.objects)?);
    }
    let mut job = Map::new();
    for text in &rows.objects {
        for (key, value) in output::object(text)? {
            job.entry(key).or_insert(value);
        }
    }
    if let Some(owner) = job.get("owner").and_then(Value::as_str).map(str::to_owned)
        && job.get("command").is_some_and(Value::is_null)
        && job.get("argv").is_some_and(Value::is_null)
    {
        job.insert("command".to_owned(), format!("for role {owner} to see").into());
    }
    print_properties(&job, rows.now)?;
    let next = session.call_rows(&preview(name, "3")).await?;
    if !next.objects.is_empty() {
        output::print("")?;
        if let Some(suspended) = suspension(&rows, true)? {
            output::print(&suspended)?;
        }
        let columns = [
            Column::when("due_at").titled("next"),
            Column::local("local_time"),
            Column::text("host_or_pool").titled("where"),
        ];
        print_rows(&next, &columns, format, "")?;
    }
    let filter = RunFilter { job: Some(name), limit: 5, ..RunFilter::default() };
    let last = session.runs(&filter).await?;
    if !last.objects.is_empty() {
        output::print("")?;
        print_rows(&last, &RUN_COLUMNS, format, "")?;
    }
    Ok(())
}

async fn show_run(run_id: i64, format: Format, session: &Session) -> Result<()> {
    let rows = session.run(run_id).await?;
    if format == Format::Json && !rows.objects.is_empty() {
        return output::print(&format!("[{}]", rows.objects.join(",\n ")));
    }
    let told = match session.call(&explain_run(run_id)).await {
        Err(error) => return Err(or_job(error, run_id, "show", session).await?),
        Ok(told) => told,
    };
    for sentence in told.iter().flatten() {
        output::print(&format!("run {run_id} {sentence}"))?;
    }
    for text in &rows.objects {
        output::print("")?;
        let mut row = output::object(text)?;
        // The sentence above says it.
        row.shift_remove("why");
        print_properties(&row, rows.now)?;
    }
    Ok(())
}

pub(super) fn run_id(what: &str, job: bool) -> Option<i64> {
    if job { None } else { what.parse().ok() }
}

/// Of a run that does not exist: that there is a job of this name, when there is one.
pub(super) async fn or_job(error: Error, run_id: i64, verb: &str, session: &Session) -> Result<Error> {
    if error.code() != Some(sqlstate::UNDEFINED_OBJECT)
        || session.job(&run_id.to_string()).await?.objects.is_empty()
    {
        return Ok(error);
    }
    Ok(error.hint(format!("sisyphus {verb} {run_id} --job takes it for the name of a job")))
}

/// The database says it, with the nearest name.
async fn unknown_job(name: &str, session: &Session) -> Result<Error> {
    session.call_rows(&preview(name, "1")).await?;
    Ok(Error::new(ErrorKind::Failed, format!("job \"{name}\" has just been made; ask again")))
}
