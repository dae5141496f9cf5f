//! What a fleet costs the database that it shares with others: processor time of the server, transactions and
//! write-ahead log, first while nothing is due, then with runs every second; and the bytes that a run leaves.
//!
//! `make bench-database`; by hand `cargo test --bench database -- [HOSTS [JOBS [SECONDS]]]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use sisyphus::{dev::cluster::Cluster, migrate};
use support::{cpu, host::Host};
use tokio_postgres::Client;

/// What is due every second while there is work.
const RUNS_A_SECOND: i32 = 20;
/// Of one core, by a fleet that has nothing to do.
const MOST_PERCENT: f64 = 5.0;

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let (hosts, jobs, seconds) =
        (numbers.next().unwrap_or(25), numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(60));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench-database");
    let idle = runtime.block_on(measure(&cluster, hosts, jobs, Duration::from_secs(seconds.into())));
    cluster.stop().unwrap();
    assert!(idle <= MOST_PERCENT, "a fleet without work is to use at most {MOST_PERCENT} % of a core");
}

async fn measure(cluster: &Cluster, hosts: u32, jobs: u32, duration: Duration) -> f64 {
    let url = cluster.url("postgres");
    let mut client = support::connect(&url).await;
    support::describe(&client).await;
    migrate::migrate(&mut client).await.unwrap();
    let far =
        "select sisyphus.schedule('far' || n, 'every 365 days', 'true') from generate_series(1, $1::int) n";
    client.query(far, &[&i32::try_from(jobs).unwrap()]).await.unwrap();
    let mut fleet = Vec::new();
    for number in 1..=hosts {
        let mut host = Host::new();
        host.join(&url, &client, &format!("bench{number}"), 8).await;
        fleet.push(host);
    }
    // The first ticks take in a thousand jobs each.
    let waiting = "select exists (select from sisyphus.request)";
    while client.query_one(waiting, &[]).await.unwrap().get(0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    client.batch_execute("vacuum analyze").await.unwrap();
    client.batch_execute("checkpoint").await.unwrap();

    println!("{hosts} hosts, {jobs} jobs that are not due, {} s each", duration.as_secs());
    println!(
        "{:<22}{:>12}{:>16}{:>16}{:>12}",
        "", "% of a core", "connections", "transactions/s", "WAL, KB/s"
    );
    let idle = window(&client, cluster, "nothing is due", duration).await;

    let due = "select sisyphus.schedule('due' || n, 'every 1 second', argv => array['true'], jitter => '1 s',
                      overlap => 'allow') from generate_series(1, $1::int) n";
    client.query(due, &[&RUNS_A_SECOND]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = Stored::look(&client).await;
    let busy = window(&client, cluster, &format!("{RUNS_A_SECOND} runs a second"), duration).await;
    let left = Stored::look(&client).await.since(&before);
    println!(
        "of it each of {} runs: {:.0} us of the server, {:.0} bytes of WAL, {:.0} bytes in the history",
        left.runs,
        (busy.seconds - idle.seconds) / left.runs * 1e6,
        (busy.wal - idle.wal) / left.runs,
        left.bytes / left.runs
    );
    idle.seconds / duration.as_secs_f64() * 100.0
}

/// What the server did in some time.
struct Work {
    seconds: f64,
    transactions: f64,
    wal: f64,
}

impl Work {
    async fn look(client: &Client, cluster: &Cluster) -> Self {
        let sql = "select xact_commit::float8, (pg_current_wal_insert_lsn() - '0/0')::float8
                     from pg_stat_database where datname = current_database()";
        let row = client.query_one(sql, &[]).await.unwrap();
        Self {
            seconds: cpu::of_tree(support::postmaster(cluster)),
            transactions: row.get(0),
            wal: row.get(1),
        }
    }
}

/// A time in which nobody but the fleet asks for anything.
async fn window(client: &Client, cluster: &Cluster, name: &str, duration: Duration) -> Work {
    let before = Work::look(client, cluster).await;
    tokio::time::sleep(duration).await;
    let after = Work::look(client, cluster).await;
    let work = Work {
        seconds: after.seconds - before.seconds,
        transactions: after.transactions - before.transactions,
        wal: after.wal - before.wal,
    };
    let length = duration.as_secs_f64();
    println!(
        "{name:<22}{:>12.2}{:>16}{:>16.1}{:>12.1}",
        work.seconds / length * 100.0,
        connections(client).await,
        work.transactions / length,
        work.wal / length / 1000.0
    );
    work
}

/// Of the fleet alone.
async fn connections(client: &Client) -> i64 {
    let sql = "select count(*) from pg_stat_activity where application_name like 'sisyphus:%'";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Ended attempts, and what their tables and indexes take.
struct Stored {
    runs: f64,
    bytes: f64,
}

impl Stored {
    async fn look(client: &Client) -> Self {
        let sql = "select (select count(*) from sisyphus.history)::float8,
                          (select sum(pg_total_relation_size(c.oid)) from pg_class c
                            where c.relnamespace = 'sisyphus'::regnamespace and c.relkind = 'r')::float8";
        let row = client.query_one(sql, &[]).await.unwrap();
        Self { runs: row.get(0), bytes: row.get(1) }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self { runs: self.runs - earlier.runs, bytes: self.bytes - earlier.bytes }
    }
}
