//! `import crontab`: a line becomes a call of schedule().

use std::path::Path;

use serde_json::{Map, Value};

use super::{
    Options,
    crontab::{self, Entry},
    names::{Names, of_command},
};
use crate::{
    commands::{output, settle::Wanted},
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

/// Take over the jobs of a crontab
///
/// Each line becomes a job, named after its command, with the tag `crontab`. Variables above a line become env,
/// CRON_TZ the time zone, SHELL the program that gets the command, HOME the directory too, RANDOM_DELAY the jitter;
/// MAILTO is left out. What stands behind % is put on standard input by a here-document. A comment right above a
/// line becomes the description. As with cron, runs do not wait for each other and none is caught up, unless
/// --overlap and --missed say so.
///
/// All lines are taken, or none: an error names line and column. A second import changes what the crontab says
/// otherwise and leaves the rest alone; a job that no import made is never replaced. A line that is gone from
/// the crontab leaves its job here.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    crontab -l -u www | sisyphus import crontab - --run-as www --pool web --dry-run\n  \
    sisyphus import crontab /etc/crontab --timezone Europe/Amsterdam --prefix db1-")]
pub(super) struct CrontabArgs {
    /// The crontab, or - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,
    /// The sixth field of a line is the user to run as; known of /etc/crontab and what is in /etc/cron.d
    #[arg(long, conflicts_with = "run_as")]
    user_field: bool,
    /// Time zone of the schedules where CRON_TZ says none; the database's default when not given
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// Takes over the jobs of a crontab.
pub(super) async fn import(args: CrontabArgs, session: &Session) -> Result<()> {
    let (name, text) = output::read_file(&args.file)?;
    let has_user =
        args.user_field || args.file == "/etc/crontab" || Path::new(&args.file).starts_with("/etc/cron.d");
    if has_user && args.options.run_as.is_some() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("--run-as is not for {name}: its lines name their users"),
        )
        .hint("leave it out"));
    }
    let entries = crontab::read(&name, &text, has_user)?;
    let mut names = Names::new(&args.options.prefix);
    let wanted = entries
        .iter()
        .map(|entry| {
            let place = format!("{name}:{}:{}", entry.line, entry.column);
            let job = names.unique(&of_command(&entry.command));
            let call = call_of(entry, &job, &place, &args)?;
            Ok(Wanted { job, call, place })
        })
        .collect::<Result<Vec<_>>>()?;
    args.options.take_over(&wanted, TAG, session).await?;
    say_what_is_left_out(&name, &entries);
    say_which_zone(&entries, args.timezone.as_deref(), session).await
}

/// What an import recognises its own jobs by.
const TAG: &str = "crontab";

/// The call that makes a line a job.
fn call_of(entry: &Entry, job: &str, place: &str, args: &CrontabArgs) -> Result<Call> {
    let mut timezone = args.timezone.clone();
    let mut jitter = None;
    let mut cwd = None;
    let mut shell = None;
    let mut env = Map::new();
    for (name, value) in &entry.variables {
        match name.as_str() {
            "CRON_TZ" => timezone = Some(value.clone()),
            "RANDOM_DELAY" => jitter = Some(format!("{value} min")),
            "SHELL" if value == "/bin/sh" => {}
            _ if NOT_TAKEN.contains(&name.as_str()) => {}
            _ => {
                match name.as_str() {
                    "HOME" => cwd = Some(value.clone()),
                    "SHELL" => shell = Some(value.clone()),
                    _ => {}
                }
                env.insert(name.clone(), Value::from(value.as_str()));
            }
        }
    }
    let command = with_input(entry, place, shell.as_deref())?;
    let call = Call::new("schedule").arg("name", "text", job).arg("schedule", "text", &entry.schedule);
    let call = match shell {
        Some(shell) => call.list("argv", "text[]", &[shell, "-c".to_owned(), command]),
        None => call.arg("command", "text", command),
    };
    let call = call
        .given("timezone", "text", timezone)
        .given("jitter", "interval", jitter)
        .given("env", "jsonb", (!env.is_empty()).then(|| Value::Object(env)))
        .given("cwd", "text", cwd)
        .given("run_as", "text", entry.user.as_ref())
        .given("overlap", "text", (!args.options.gives("overlap")).then_some("allow"))
        .given("missed", "text", (!args.options.gives("missed")).then_some("none"))
        .given("description", "text", entry.comment.as_ref());
    Ok(args.options.add_to(call, TAG))
}

/// Variables that cron itself reads, or sets whatever a crontab says.
const NOT_TAKEN: [&str; 5] = ["MAILTO", "MAILFROM", "LOGNAME", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"];

/// Shells that know here-documents.
const SHELLS: [&str; 7] = ["sh", "ash", "dash", "bash", "ksh", "mksh", "zsh"];

fn with_input(entry: &Entry, place: &str, shell: Option<&str>) -> Result<String> {
    let Some(input) = &entry.input else { return Ok(entry.command.clone()) };
    let name = shell.map_or("sh", |path| path.rsplit('/').next().unwrap_or(path));
    if !SHELLS.contains(&name) {
        return Err(Error::new(
            ErrorKind::Failed,
            format!("{place}: what stands behind % cannot be put on the standard input of {name}"),
        )
        .hint("write the line without %, or with another SHELL; \\% is a %"));
    }
    let mut end = "END".to_owned();
    while input.lines().any(|line| line == end) {
        end.push('_');
    }
    Ok(format!("{{ {}\n}} <<'{end}'\n{input}\n{end}", entry.command.trim_end()))
}

/// cron goes by the clock of its machine, and which that is a crontab does not say.
async fn say_which_zone(entries: &[Entry], given: Option<&str>, session: &Session) -> Result<()> {
    let says = |entry: &Entry| entry.variables.iter().any(|(name, _)| name == "CRON_TZ");
    if given.is_none() && !entries.iter().all(says) {
        let zone = session.setting("default_timezone").await?;
        eprintln!("times are those of {zone}, the database's default; --timezone gives another");
    }
    Ok(())
}

fn say_what_is_left_out(name: &str, entries: &[Entry]) {
    for variable in NOT_TAKEN {
        if entries.iter().any(|entry| entry.variables.iter().any(|(known, _)| known == variable)) {
            let instead = match variable {
                "MAILTO" => "nothing is mailed, view sisyphus.failures has what ended badly",
                _ => "it means nothing here",
            };
            eprintln!("{name}: {variable} is left out: {instead}");
        }
    }
}
