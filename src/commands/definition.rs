//! `schedule`, `alter`, `unschedule`, `suspend`, `resume`: what jobs there are.

use clap::ArgGroup;

use super::{
    amount,
    asking::{nothing_to_come, preview, suspended_until, suspension},
    control::said_no,
    job_options::JobOptions,
    output,
};
use crate::{
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

/// Arguments of `sisyphus schedule`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus schedule nightly '30 2 * * *' 'pg_dump jobs > /backup/jobs.sql' --ttl 2h --pool db\n  \
    sisyphus schedule rotate @daily --run-on all -- /usr/sbin/logrotate /etc/logrotate.conf")]
pub struct ScheduleArgs {
    /// Name of the job; an existing one is replaced, keeping its suspension
    name: String,
    /// Cron expression, @daily, 'every 90 seconds', 'at 2030-01-01 07:00', or - for only on demand
    schedule: String,
    /// Command line for the shell
    #[arg(required_unless_present = "argv", conflicts_with = "argv")]
    command: Option<String>,
    /// Program and arguments, executed without a shell
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
    #[command(flatten)]
    options: JobOptions,
}

/// Arguments of `sisyphus alter`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus alter nightly --schedule '0 3 * * *' --retries 2\n  \
    sisyphus alter nightly --reset max_runtime")]
pub struct AlterArgs {
    /// Name of the job
    name: String,
    /// New schedule, or - for only on demand
    #[arg(long, value_name = "SCHEDULE", help_heading = "When")]
    schedule: Option<String>,
    /// New command line for the shell
    #[arg(long, value_name = "COMMAND", conflicts_with = "argv", help_heading = "How it runs")]
    command: Option<String>,
    /// Put a property back to its default, such as max_runtime; may be repeated
    #[arg(long, value_name = "PROPERTY", value_delimiter = ',')]
    reset: Vec<String>,
    /// New program and arguments, executed without a shell
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
    #[command(flatten)]
    options: JobOptions,
}

/// Arguments of `sisyphus unschedule`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus unschedule nightly")]
pub struct UnscheduleArgs {
    /// Name of the job
    name: String,
}

/// Arguments of `sisyphus suspend`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sisyphus suspend nightly --until '2030-01-02 08:00' --reason 'storage is being moved'\n  \
    sisyphus suspend --all --pool db")]
#[command(group(ArgGroup::new("whom").required(true)))]
pub struct SuspendArgs {
    /// Name of the job
    #[arg(group = "whom")]
    name: Option<String>,
    /// All jobs
    #[arg(long, group = "whom")]
    all: bool,
    /// With --all: only the jobs of this pool
    #[arg(long, conflicts_with = "name")]
    pool: Option<String>,
    /// Resume by itself at this time; without an offset in the database's time zone
    #[arg(long, value_name = "TIMESTAMP", conflicts_with = "all")]
    until: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Arguments of `sisyphus resume`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus resume nightly")]
#[command(group(ArgGroup::new("whom").required(true)))]
pub struct ResumeArgs {
    /// Name of the job
    #[arg(group = "whom")]
    name: Option<String>,
    /// All jobs
    #[arg(long, group = "whom")]
    all: bool,
    /// With --all: only the jobs of this pool
    #[arg(long, conflicts_with = "name")]
    pool: Option<String>,
}

/// Creates or replaces a job and says when it will run.
pub(super) async fn schedule(args: ScheduleArgs, session: &Session) -> Result<()> {
    let call = Call::new("schedule")
        .arg("name", "text", &args.name)
        .nullable("schedule", "text", on_demand(&args.schedule))
        .given("command", "text", args.command.as_ref())
        .list("argv", "text[]", &args.argv);
    session.call(&args.options.add_to(call)?).await?;
    say_next("scheduled", &args.name, session).await
}

/// Changes what was given.
pub(super) async fn alter(args: AlterArgs, session: &Session) -> Result<()> {
    let mut call = Call::new("alter_job").arg("name", "text", &args.name);
    let mut reset = args.reset;
    match args.schedule.as_deref() {
        Some("-") => reset.push("schedule".to_owned()),
        schedule => call = call.given("schedule", "text", schedule),
    }
    call = call.given("command", "text", args.command.as_ref()).list("argv", "text[]", &args.argv);
    let call = args.options.add_to(call)?.list("reset", "text[]", &reset);
    if !call.has_options() {
        return Err(Error::new(ErrorKind::Usage, format!("nothing to change on job {:?}", args.name))
            .hint("give the properties to change; sisyphus alter --help lists them"));
    }
    session.call(&call).await?;
    say_next("altered", &args.name, session).await
}

/// Ends a job.
pub(super) async fn unschedule(args: UnscheduleArgs, session: &Session) -> Result<()> {
    let call = Call::new("unschedule").arg("name", "text", &args.name);
    match session.call(&call).await?.first() {
        Some(Some(answer)) if answer == "false" => eprintln!("{} was unscheduled before", args.name),
        _ => eprintln!("unscheduled {}", args.name),
    }
    Ok(())
}

/// Stops planning a job, or all.
pub(super) async fn suspend(args: SuspendArgs, session: &Session) -> Result<()> {
    let call = match &args.name {
        Some(name) => Call::new("suspend").arg("name", "text", name),
        None => Call::new("suspend_all").given("pool", "text", args.pool.as_ref()),
    };
    let call = call.of_flags().given("until", "timestamptz", args.until.as_ref()).given(
        "reason",
        "text",
        args.reason.as_ref(),
    );
    let answer = session.call(&call).await?;
    if let (Some(name), Some(_)) = (&args.name, &args.until) {
        // As the database understood it.
        let until = suspended_until(&session.job(name).await?)?.unwrap_or_default();
        match said_no(&answer) {
            true => eprintln!("{name} was suspended before, now until {until}"),
            false => eprintln!("suspended {name} until {until}"),
        }
        return Ok(());
    }
    say_done("suspended", args.name.as_deref(), &answer);
    Ok(())
}

/// Plans a job again, or all.
pub(super) async fn resume(args: ResumeArgs, session: &Session) -> Result<()> {
    let call = match &args.name {
        Some(name) => Call::new("resume").arg("name", "text", name),
        None => Call::new("resume_all").given("pool", "text", args.pool.as_ref()),
    };
    say_done("resumed", args.name.as_deref(), &session.call(&call).await?);
    Ok(())
}

fn on_demand(schedule: &str) -> Option<&str> {
    (schedule != "-").then_some(schedule)
}

/// For one job the function says whether that changed anything, for all how many it was.
fn say_done(done: &str, name: Option<&str>, answer: &[Option<String>]) {
    match (name, answer.first().and_then(Option::as_deref)) {
        (Some(name), Some("false")) if done == "resumed" => eprintln!("{name} was not suspended"),
        (Some(name), Some("false")) => eprintln!("{name} was {done} before"),
        (Some(name), _) => eprintln!("{done} {name}"),
        (None, Some("1")) => eprintln!("{done} 1 job"),
        (None, count) => eprintln!("{done} {} jobs", count.unwrap_or("all")),
    }
}

/// The proof of the pudding: what the database understood.
async fn say_next(done: &str, name: &str, session: &Session) -> Result<()> {
    let rows = session.call_rows(&preview(name, "1")).await?;
    let job = session.job(name).await?;
    let next = match (suspension(&job, false)?, rows.objects.first()) {
        (Some(suspended), _) => format!("it is {suspended}"),
        (None, None) => nothing_to_come(name, &job)?,
        (None, Some(text)) => {
            let due = output::object(text)?.get("due_at").map(output::plain).unwrap_or_default();
            format!("next run {} ({})", amount::when(&due, rows.now), amount::instant(&due))
        }
    };
    eprintln!("{done} {name}; {next}");
    Ok(())
}
