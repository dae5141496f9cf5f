//! `apply`: jobs as a file says.

use super::{
    jobs_file::{self, JobsFile},
    output::{self, Format},
    settle,
};
use crate::{
    db::client::{Call, Rows, Session},
    error::{Error, ErrorKind, Result},
};

/// Make jobs as a file says
///
/// The file is TOML: a table [jobs.NAME] a job, in it the arguments of schedule, such as ttl = "10 min". What
/// is not given has its default; without schedule a job runs on demand. New jobs are made, those that differ are
/// changed, the others are not touched: all in one transaction, or nothing.
///
/// With set = "web" at its beginning the file owns its jobs: they have the tag set:web, no other file may change
/// them, and --prune ends jobs of the set that the file does not have any more. Only jobs that the login may change
/// are ended; what runs of them goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Example:\n  sisyphus apply -f jobs.toml --prune --dry-run\n\nwhere jobs.toml is:\n  \
    set = \"web\"\n\n  [jobs.nightly]\n  schedule = \"30 2 * * *\"\n  timezone = \"Europe/Amsterdam\"\n  \
    command = \"pg_dump jobs > /backup/jobs.sql\"\n  ttl = \"2 h\"\n  env = { LANG = \"C\" }"
)]
pub struct ApplyArgs {
    /// The file, or - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: String,
    /// End jobs of the file's set that it does not have
    #[arg(long)]
    prune: bool,
    /// Try it, show what it would change, and undo it
    #[arg(long)]
    dry_run: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Makes the jobs, and shows what became of each.
pub(super) async fn apply(args: ApplyArgs, session: &Session) -> Result<()> {
    let (name, text) = output::read_file(&args.file)?;
    let file = jobs_file::read(&name, &text, &session.properties().await?)?;
    if args.prune && file.set.is_none() {
        return Err(Error::new(
            ErrorKind::Failed,
            format!("{name} names no set, so it owns no jobs to prune"),
        )
        .hint("begin it with set = \"NAME\", and apply it once without --prune"));
    }
    session.begin().await?;
    let mut told = settle::define(
        file.jobs.iter().map(|(wanted, _)| wanted),
        &|job, tags| may_replace(&file, job, tags),
        session,
    )
    .await?;
    if let Some(set) = &file.set {
        let surplus = surplus(set, &file, session).await?;
        if args.prune {
            prune(&surplus, session).await?;
            told.objects.extend(surplus.objects);
        } else {
            say_surplus(&surplus, set)?;
        }
    }
    if args.dry_run {
        session.roll_back().await?;
    } else {
        session.commit().await?;
    }
    settle::print_outcomes(
        &told,
        args.format,
        if args.dry_run { "; a dry run, nothing was done" } else { "" },
    )
}

/// A job of a set is changed by the files of that set alone, or by one that repeats the tag, as a whole export does.
fn may_replace(file: &JobsFile, job: &str, tags: &[String]) -> Result<(), (String, String)> {
    let given = file.jobs.iter().find(|(wanted, _)| wanted.job == job).map_or(&[][..], |(_, tags)| tags);
    let Some(set) = tags.iter().filter(|tag| !given.contains(tag)).find_map(|tag| jobs_file::set_of(tag))
    else {
        return Ok(());
    };
    Err((
        format!("it belongs to set {set:?}"),
        format!(
            "change the file with set = {set:?}, or take the job out of that one and apply it with --prune"
        ),
    ))
}

async fn surplus(set: &str, file: &JobsFile, session: &Session) -> Result<Rows> {
    let names: Vec<_> = file.jobs.iter().map(|(wanted, _)| wanted.job.as_str()).collect();
    session.surplus(&jobs_file::tag_of(set), &names).await
}

async fn prune(surplus: &Rows, session: &Session) -> Result<()> {
    for job in settle::jobs_of(surplus)? {
        session.call(&Call::new("unschedule").arg("name", "text", job)).await?;
    }
    Ok(())
}

fn say_surplus(surplus: &Rows, set: &str) -> Result<()> {
    let jobs = settle::jobs_of(surplus)?;
    if !jobs.is_empty() {
        eprintln!("of set {set}, but not in the file: {}; --prune ends such jobs", jobs.join(", "));
    }
    Ok(())
}
