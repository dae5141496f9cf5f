//! How late runs start: fifty jobs every second, spread over it, first with the database, then with all its
//! processes stopped for ten seconds. Beside the start as it is recorded stands
//! what the clock said that each job reads itself, once its program is loaded. Neither may ever be before the due
//! instant.
//!
//! `make bench-lateness`; by hand `cargo test --bench lateness -- [SECONDS]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

use std::{fs, time::Duration};

use chrono::{DateTime, Utc};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sisyphus::{dev::cluster::Cluster, migrate};
use support::host::Host;
use tokio_postgres::Client;

/// Jobs, each due once a second.
const JOBS: i32 = 50;
/// What is wanted of an idle machine, in milliseconds.
const WANTED: [(f64, f64); 2] = [(0.50, 1.0), (0.99, 5.0)];

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(30);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench-lateness");
    runtime.block_on(measure(&cluster, Duration::from_secs(seconds)));
    cluster.stop().unwrap();
}

async fn measure(cluster: &Cluster, duration: Duration) {
    let mut client = support::connect(&cluster.url("postgres")).await;
    support::describe(&client).await;
    migrate::migrate(&mut client).await.unwrap();
    let mut host = Host::new();
    host.join(&cluster.url("postgres"), &client, "bench", 50).await;
    // What each job writes is what its own clock says, in microseconds.
    let sql = "select sisyphus.schedule('date' || n, 'every 1 second', argv => array['date', '+%s%6N'],
                      jitter => '1 s', overlap => 'allow')
                 from generate_series(1, $1::int) n";
    client.query(sql, &[&JOBS]).await.unwrap();
    // Planned, claimed ahead, and every page warm.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let connected = window(&client, duration).await;
    let stopped = stopped_window(&client, cluster).await;
    // What was held back while the database was away has its end, too.
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("{:<42}{:>6}{:>9}{:>9}{:>9}{:>9}   milliseconds", "", "runs", "min", "p50", "p99", "max");
    let sound = [
        tell(&client, "with the database", connected).await,
        tell(&client, "the database stopped", stopped).await,
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
    let postmaster = support::postmaster(cluster);
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap();
    let children = children.split_ascii_whitespace().map(|pid| pid.parse().unwrap());
    [postmaster].into_iter().chain(children).map(|pid: u32| Pid::from_raw(pid as i32)).collect()
}

/// Prints what became of the runs due in a window; false when one was early, or there is none.
async fn tell(client: &Client, what: &str, (begin, end): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    let sql = "select due_at, started_at, stdout from sisyphus.history where due_at >= $1 and due_at < $2";
    let rows = client.query(sql, &[&begin, &end]).await.unwrap();
    let (mut at_job, mut recorded, mut others) = (Vec::new(), Vec::new(), 0);
    for row in &rows {
        let due: DateTime<Utc> = row.get(0);
        let (started, said): (Option<DateTime<Utc>>, Option<String>) = (row.get(1), row.get(2));
        match (started, said.and_then(|said| said.trim().parse::<i64>().ok())) {
            (Some(started), Some(at)) => {
                recorded.push((started - due).num_microseconds().unwrap() as f64 / 1e3);
                at_job.push((at - due.timestamp_micros()) as f64 / 1e3);
            }
            _ => others += 1,
        }
    }
    let mut sound = !at_job.is_empty();
    for (by, mut late) in [("as recorded", recorded), ("by the job's clock", at_job)] {
        late.sort_by(f64::total_cmp);
        let at = |part: f64| {
            late.get(((late.len() as f64 * part) as usize).min(late.len().saturating_sub(1))).copied()
        };
        let [min, p50, p99, max] = [0.0, 0.5, 0.99, 1.0].map(|part| at(part).unwrap_or(f64::NAN));
        let name = format!("{what}, {by}");
        println!("{name:<42}{:>6}{min:>9.3}{p50:>9.3}{p99:>9.3}{max:>9.3}", late.len());
        for (part, wanted) in WANTED.into_iter().filter(|_| by == "as recorded") {
            if at(part).is_none_or(|value| value >= wanted) {
                println!("    p{:.0} is not below {wanted} ms", part * 100.0);
            }
        }
        sound &= min >= 0.0;
    }
    if others > 0 {
        println!("    {others} of {} did not start", rows.len());
    }
    sound
}

async fn now(client: &Client) -> DateTime<Utc> {
    client.query_one("select clock_timestamp()", &[]).await.unwrap().get(0)
}
