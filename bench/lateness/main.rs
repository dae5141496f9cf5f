//! How late runs start: fifty jobs every second, spread over it, first with the database, then with all its
//! processes stopped for ten seconds. What counts is the clock that each job reads itself, once its program is
//! loaded; beside it what the keeper recorded as the start. Neither may ever be before the due instant.
//!
//! `make bench-lateness`; by hand `cargo test --bench lateness -- [SECONDS]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};

use chrono::{DateTime, Utc};
use nix::{
    sys::signal::{Signal, kill},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use sisyphus::{dev::cluster::Cluster, migrate};
use support::host::Host;
use tokio_postgres::Client;

/// Jobs, each due once a second.
const JOBS: u32 = 50;
/// A run of a job and the microsecond at which it looked at its clock.
type Stamps = HashMap<i64, i64>;
/// What is wanted of an idle machine, in milliseconds.
const WANTED: [(f64, f64); 2] = [(0.50, 1.0), (0.99, 5.0)];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, first, file] = args.as_slice()
        && first == "--stamp"
    {
        return stamp(Path::new(file));
    }
    let seconds = args.iter().find_map(|argument| argument.parse().ok()).unwrap_or(30);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench-lateness");
    runtime.block_on(measure(&cluster, Duration::from_secs(seconds)));
    cluster.stop().unwrap();
}

/// What each job does: notes which run it is and what time it is.
fn stamp(file: &Path) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let run = std::env::var("SISYPHUS_RUN_ID").unwrap();
    let line = format!("{run} {}\n", now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
    OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
}

async fn measure(cluster: &Cluster, duration: Duration) {
    let mut client = support::connect(&cluster.url("postgres")).await;
    support::describe(&client).await;
    migrate::migrate(&mut client).await.unwrap();
    let mut host = Host::new();
    host.join(&cluster.url("postgres"), &client, 50).await;
    let stamps = host.file("stamps");
    File::create(&stamps).unwrap();
    let stamper = std::env::current_exe().unwrap();
    let sql = "select sisyphus.schedule('stamp' || n, 'every 1 second', argv => array[$1, '--stamp', $2],
                      jitter => '1 s', overlap => 'allow')
                 from generate_series(1, $3::int) n";
    let (stamper, file) = (stamper.to_str().unwrap(), stamps.to_str().unwrap());
    client.query(sql, &[&stamper, &file, &(JOBS as i32)]).await.unwrap();
    // Planned, claimed ahead, and every page warm.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let connected = window(&client, duration).await;
    let stopped = stopped_window(&client, cluster).await;
    // What was held back while the database was away has its end, too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stamps = read(&stamps);
    println!("{:<36}{:>6}{:>9}{:>9}{:>9}{:>9}   milliseconds", "", "runs", "min", "p50", "p99", "max");
    let sound = [
        tell(&client, "with the database", connected, &stamps).await,
        tell(&client, "the database stopped", stopped, &stamps).await,
    ];
    println!("load afterwards {}", support::load());
    assert!(sound.iter().all(|sound| *sound), "a run started early, or none did");
}

/// A time in which nothing but the jobs happens.
async fn window(client: &Client, duration: Duration) -> (DateTime<Utc>, DateTime<Utc>) {
    let begin = now(client).await;
    tokio::time::sleep(duration).await;
    (begin, begin + duration)
}

/// Ten seconds without a database, from just after a heartbeat: by then a guardian holds what is due in them.
async fn stopped_window(client: &Client, cluster: &Cluster) -> (DateTime<Utc>, DateTime<Utc>) {
    let seen = async || -> DateTime<Utc> {
        let sql = "select max(seen_at) from sisyphus.guardian";
        client.query_one(sql, &[]).await.unwrap().get(0)
    };
    let before = seen().await;
    while seen().await == before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let claimed = seen().await;
    let processes = processes(cluster);
    processes.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
    tokio::time::sleep(Duration::from_secs(10)).await;
    processes.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).unwrap());
    // A claim is good for claim_ahead; what is due later waits for the next one, as it should.
    (claimed + Duration::from_millis(200), claimed + Duration::from_millis(9_800))
}

/// The postmaster and its children; this session's own among them.
fn processes(cluster: &Cluster) -> Vec<Pid> {
    let text = fs::read_to_string(cluster.dir().join("postgres/postmaster.pid")).unwrap();
    let postmaster: i32 = text.lines().next().unwrap().parse().unwrap();
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
    let children = children.split_ascii_whitespace().map(|pid| pid.parse().unwrap());
    [postmaster].into_iter().chain(children).map(Pid::from_raw).collect()
}

fn read(file: &Path) -> Stamps {
    let text = fs::read_to_string(file).unwrap();
    let pair = |line: &str| {
        let (run, at) = line.split_once(' ').unwrap();
        (run.parse().unwrap(), at.parse().unwrap())
    };
    text.lines().map(pair).collect()
}

/// Prints what became of the runs due in a window; false when one was early, or there is none.
async fn tell(
    client: &Client,
    what: &str,
    (begin, end): (DateTime<Utc>, DateTime<Utc>),
    stamps: &Stamps,
) -> bool {
    let sql =
        "select run_id, due_at, started_at, state from sisyphus.history where due_at >= $1 and due_at < $2";
    let rows = client.query(sql, &[&begin, &end]).await.unwrap();
    let (mut at_job, mut recorded, mut others) = (Vec::new(), Vec::new(), 0);
    for row in &rows {
        let due: DateTime<Utc> = row.get(1);
        let Some(started) = row.get::<_, Option<DateTime<Utc>>>(2) else {
            others += 1;
            continue;
        };
        recorded.push((started - due).num_microseconds().unwrap() as f64 / 1e3);
        match stamps.get(&row.get(0)) {
            Some(at) => at_job.push((at - due.timestamp_micros()) as f64 / 1e3),
            None => others += 1,
        }
    }
    let mut sound = !at_job.is_empty();
    for (by, mut late) in [("by the job's clock", at_job), ("as recorded", recorded)] {
        late.sort_by(f64::total_cmp);
        let at = |part: f64| {
            late.get(((late.len() as f64 * part) as usize).min(late.len().saturating_sub(1))).copied()
        };
        let [min, p50, p99, max] = [0.0, 0.5, 0.99, 1.0].map(|part| at(part).unwrap_or(f64::NAN));
        let name = format!("{what}, {by}");
        println!("{name:<36}{:>6}{min:>9.3}{p50:>9.3}{p99:>9.3}{max:>9.3}", late.len());
        for (part, wanted) in WANTED {
            if at(part).is_none_or(|value| value >= wanted) {
                println!("    p{:.0} is not below {wanted} ms", part * 100.0);
            }
        }
        sound &= min >= 0.0;
    }
    if others > 0 {
        println!("    {others} of {} did not start or left no stamp", rows.len());
    }
    sound
}

async fn now(client: &Client) -> DateTime<Utc> {
    client.query_one("select clock_timestamp()", &[]).await.unwrap().get(0)
}
