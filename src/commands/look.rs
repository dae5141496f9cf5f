//! `jobs`, `runs`, `next`: lists.

use clap::value_parser;

use super::{
    asking::{nothing_to_come, preview, suspension},
    known::{self, Filter},
    output::{Column, Format, print_rows},
};
use crate::{
    db::{
        RunFilter, STATES,
        client::{Call, Session},
    },
    error::Result,
};

/// Arguments of `sisyphus jobs`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus jobs --pool web\n  sisyphus jobs --format json | jq '.[].job'"
)]
pub struct JobsArgs {
    /// Only jobs of this pool
    #[arg(long)]
    pool: Option<String>,
    /// Only jobs in this state
    #[arg(long, value_parser = ["active", "suspended", "broken"])]
    state: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `sisyphus runs`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus runs nightly\n  sisyphus runs --failed -n 5\n  sisyphus runs --live"
)]
pub struct RunsArgs {
    /// Only runs of this job
    job: Option<String>,
    /// Only runs on this host
    #[arg(long)]
    host: Option<String>,
    /// Only runs in this state
    #[arg(long, value_parser = STATES)]
    state: Option<String>,
    /// Only what failed, timed out, was lost, refused or expired
    #[arg(long, conflicts_with_all = ["state", "live"])]
    failed: bool,
    /// Only what has not ended: waiting, pending, claimed and running runs
    #[arg(long)]
    live: bool,
    /// How many: of ended attempts the newest, of runs to come the next
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..))]
    limit: u32,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `sisyphus next`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  sisyphus next\n  sisyphus next nightly -n 3\n  \
                             sisyphus next --schedule '0 9 * * MON#1' --timezone Asia/Tokyo")]
pub struct NextArgs {
    /// Only this job; all jobs of the next day when not given
    #[arg(conflicts_with = "schedule")]
    job: Option<String>,
    /// Try a schedule that no job has yet
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Time zone of the schedule that is tried
    #[arg(long, value_name = "ZONE", requires = "schedule", default_value = "UTC")]
    timezone: String,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    limit: u32,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a finished or live attempt looks like in a list.
pub(super) const RUN_COLUMNS: [Column; 9] = [
    Column::number("run_id").titled("run"),
    Column::number("attempt").titled("try").spare(),
    Column::text("job").or("command"),
    Column::text("host"),
    Column::text("state"),
    Column::when("due_at").titled("due"),
    Column::duration("duration_seconds").titled("took").spare(),
    Column::number("exit_code").titled("exit").spare(),
    Column::prose("reason"),
];

/// Lists jobs.
pub(super) async fn jobs(args: JobsArgs, session: &Session) -> Result<()> {
    let rows = session.jobs(args.pool.as_deref(), args.state.as_deref()).await?;
    let columns = [
        Column::text("job"),
        Column::text("state"),
        Column::prose("schedule"),
        Column::text("pool").spare(),
        Column::when("next_due_at").titled("next"),
        Column::number("running").spare(),
        Column::text("last_state").titled("last"),
        Column::when("last_started_at").titled("started").spare(),
        Column::duration("last_duration_seconds").titled("took").spare(),
        Column::percent("success_ratio").titled("ok").spare(),
    ];
    known::check(&rows, &[Filter::Pool(args.pool.as_deref())], session).await?;
    let nothing = match (&args.pool, &args.state) {
        (None, None) => "no jobs; `sisyphus schedule --help` shows how to make one",
        _ => "no job matches",
    };
    print_rows(&rows, &columns, args.format, nothing)
}

/// Lists live runs, then ended attempts.
pub(super) async fn runs(args: RunsArgs, session: &Session) -> Result<()> {
    let filter = RunFilter {
        job: args.job.as_deref(),
        host: args.host.as_deref(),
        state: args.state.as_deref(),
        failed: args.failed,
        live: args.live,
        limit: i64::from(args.limit),
    };
    let rows = session.runs(&filter).await?;
    if let (Some(job), true) = (&args.job, rows.objects.is_empty()) {
        // Nothing of an unknown job is a typing error, and the database knows the nearest name.
        session.call_rows(&Call::new("preview").arg("name", "text", job).arg("n", "int", "1")).await?;
    }
    known::check(&rows, &[Filter::Host(filter.host)], session).await?;
    let all = RunFilter { limit: filter.limit, ..RunFilter::default() };
    print_rows(&rows, &RUN_COLUMNS, args.format, if filter == all { "no runs" } else { "no run matches" })
}

/// Lists what is to come.
pub(super) async fn next(args: NextArgs, session: &Session) -> Result<()> {
    let mut columns = vec![Column::when("due_at").titled("due"), Column::local("local_time")];
    let limit = i64::from(args.limit);
    let rows = match (&args.job, &args.schedule) {
        (_, Some(schedule)) => {
            let call = Call::new("describe_schedule").arg("schedule", "text", schedule);
            for sentence in session.call(&call).await?.iter().flatten() {
                eprintln!("{schedule}: {sentence}");
            }
            session.fires(schedule, &args.timezone, limit).await?
        }
        (Some(job), None) => {
            columns.push(Column::text("host_or_pool").titled("where"));
            let rows = session.call_rows(&preview(job, &args.limit.to_string())).await?;
            let known = session.job(job).await?;
            if let Some(suspended) = suspension(&known, !rows.objects.is_empty())? {
                eprintln!("{job} is {suspended}");
            } else if rows.objects.is_empty() && args.format == Format::Table {
                eprintln!("{job}: {}", nothing_to_come(job, &known)?);
                return Ok(());
            }
            rows
        }
        (None, None) => {
            columns.insert(0, Column::text("job").or("command"));
            columns.extend([
                Column::text("pool").spare(),
                Column::text("host"),
                Column::number("run_id").titled("run"),
            ]);
            session.upcoming(limit).await?
        }
    };
    print_rows(&rows, &columns, args.format, "nothing is due")
}
