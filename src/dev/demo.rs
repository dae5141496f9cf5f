//! The house at work for half a minute: real jobs on two hosts, and a look at what the history says.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    house::{House, Log, Plan, Running},
    screen::Screen,
};
use crate::{
    commands::output::{Column, print, render},
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
};

const SET: &str = include_str!("../../sql/demo/set.sql");
const JOBS: &str = include_str!("../../sql/demo/jobs.sql");
const LIVE: &str = include_str!("../../sql/demo/live.sql");
const INTERRUPT: &str = include_str!("../../sql/demo/interrupt.sql");
const EXPECTED: &str = include_str!("../../sql/demo/expected.sql");
const OVERVIEW: &str = include_str!("../../sql/demo/overview.sql");
const HISTORY: &str = include_str!("../../sql/demo/history.sql");

const OVERVIEW_COLUMNS: [Column; 9] = [
    Column::text("job"),
    Column::text("state"),
    Column::prose("schedule"),
    Column::text("pool"),
    Column::text("last_state").titled("last"),
    Column::duration("last_duration_seconds").titled("took"),
    Column::percent("success_ratio").titled("success"),
    Column::duration("p95_seconds").titled("p95"),
    Column::when("next_due_at").titled("next"),
];
const HISTORY_COLUMNS: [Column; 8] = [
    Column::number("run_id").titled("run"),
    Column::number("attempt").titled("try"),
    Column::text("job"),
    Column::text("host"),
    Column::text("state"),
    Column::duration("lateness_seconds").titled("late"),
    Column::prose("reason"),
    Column::prose("output"),
];

/// How long it is worth watching, how long a slow machine may take, when the guardian of `import` is killed,
/// how long the host has none, and when `import` is ended.
const SHOW: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(90);
const KILL_AFTER: Duration = Duration::from_secs(6);
const WITHOUT_GUARDIAN: Duration = Duration::from_secs(2);
const INTERRUPT_AFTER: Duration = Duration::from_secs(12);
const REDRAW: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
struct Expectation {
    job: String,
    wanted: String,
    ok: bool,
    seen: String,
}

/// What to start for the demo: two hosts, and a database that is made anew, so that its history is this
/// demo's alone.
pub fn plan(data_dir: &Path) -> Plan<'_> {
    Plan { data_dir, database: "demo", fresh: true, hosts: &["web1", "web2"], log: Log::File }
}

/// Installs the jobs, shows them running, prints overview and history; an error when the history is not as
/// it should be.
pub async fn show(house: &mut House) -> Result<()> {
    install(house).await?;
    let unmet = watch(house).await?;
    let session = house.session();
    print("\nsisyphus.overview")?;
    print(&render(&session.rows(OVERVIEW, &[]).await?, &OVERVIEW_COLUMNS)?)?;
    print("\nsisyphus.history, the last 20 rows")?;
    print(&render(&session.rows(HISTORY, &[]).await?, &HISTORY_COLUMNS)?)?;
    if unmet.is_empty() {
        return print("\nthe history is as it should be");
    }
    let told: Vec<_> =
        unmet.iter().map(|e| format!("{}: wanted {}, saw {}", e.job, e.wanted, e.seen)).collect();
    Err(Error::new(ErrorKind::Failed, format!("the history is not as it should be: {}", told.join("; "))))
}

/// Makes the folder that the jobs work in, and the jobs.
async fn install(house: &House) -> Result<()> {
    let scratch = house.cluster().dir().join("demo");
    let fault =
        |err| Error::new(ErrorKind::Config, format!("{} cannot be made", scratch.display())).source(err);
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(fault)?;
    }
    fs::create_dir(&scratch).and_then(|()| house.cluster().account().own(&scratch)).map_err(fault)?;
    let socket = house.cluster().dir().display().to_string();
    let scratch = scratch.display().to_string();
    // pg_dump must be of the server's version or newer: its own first.
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", house.cluster().binaries().dir().display());
    for (name, value) in [("demo.socket", &socket), ("demo.scratch", &scratch), ("demo.path", &path)] {
        house.session().rows(SET, &[&name, value]).await?;
    }
    house.session().run_script(JOBS).await
}

/// Shows the jobs until the history is as expected, and at least for [`SHOW`]; what is still missing then.
async fn watch(house: &mut House) -> Result<Vec<Expectation>> {
    let mut screen = Screen::new();
    let begun = Instant::now();
    let (mut killed, mut interrupted) = (false, false);
    loop {
        screen.show(&house.session().rows(LIVE, &[]).await?)?;
        if !killed && begun.elapsed() > KILL_AFTER {
            killed = replace_guardian(house, &mut screen).await?;
        }
        if killed && !interrupted && begun.elapsed() > INTERRUPT_AFTER {
            interrupted = terminate_import(house.session()).await?;
        }
        let unmet = unmet(house.session()).await?;
        if begun.elapsed() > LONGEST || (begun.elapsed() > SHOW && unmet.is_empty()) {
            return Ok(unmet);
        }
        tokio::time::sleep(REDRAW).await;
    }
}

/// Kills the guardian of the host where `import` runs, and starts another one: the job does not notice.
async fn replace_guardian(house: &mut House, screen: &mut Screen) -> Result<bool> {
    let running: Vec<Running> = house.session().rows(INTERRUPT, &[]).await?.read()?;
    let Some(Running { run_id, host, .. }) = running.into_iter().next() else { return Ok(false) };
    let pid = house.kill_guardian(&host).await?;
    screen.say(&format!(
        "\n** kill -9 {pid}: the guardian of {host} is dead. Run {run_id} (import) and all else that runs there goes on."
    ))?;
    tokio::time::sleep(WITHOUT_GUARDIAN).await;
    house.start_guardian(&host)?;
    screen.say(&format!("** {host} gets a new guardian, which takes them over: see how import ends.\n"))?;
    Ok(true)
}

async fn terminate_import(session: &Session) -> Result<bool> {
    let running: Vec<Running> = session.rows(INTERRUPT, &[]).await?.read()?;
    for run in &running {
        let call = Call::new("terminate").arg("run_id", "bigint", run.run_id.to_string());
        session.call(&call.arg("reason", "text", "the demo shows how to")).await?;
    }
    Ok(!running.is_empty())
}

async fn unmet(session: &Session) -> Result<Vec<Expectation>> {
    let all: Vec<Expectation> = session.rows(EXPECTED, &[]).await?.read()?;
    Ok(all.into_iter().filter(|expectation| !expectation.ok).collect())
}
