//! What the life of a run costs the database: claimed, finished with 100 bytes of output, stored in the
//! history; by the calls of busy guardians, which finish a batch and claim the next one in one transaction,
//! without processes, two clients, full durability.
//! Beside it, in the same run and on the same server, bare SQL: claim by UPDATE … SKIP LOCKED, commit, UPDATE
//! to done, commit, batches of 100, through pgbench.
//!
//! `make bench`, or `cargo bench --bench life_of_a_run -- [--smoke] [BATCH…]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

mod bare;
mod guardian;

use std::panic::{self, AssertUnwindSafe};

use sisyphus::{dev::cluster::Cluster, migrate};
use support::{connect, describe};
use tokio_postgres::Client;

/// Clients of both contestants.
const CLIENTS: usize = 2;

/// Batches of the measured calls, and how many runs each scenario takes through its life.
const SCENARIOS: [(usize, usize); 4] = [(1, 3_000), (20, 30_000), (100, 60_000), (500, 60_000)];

/// The median of so many pairs is what counts.
const ROUNDS: usize = 5;

/// The ratio to bare SQL below which the design is wrong, by batch.
const WANTED: [(usize, f64); 2] = [(20, 0.25), (100, 0.45)];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let smoke = args.iter().any(|arg| arg == "--smoke");
    let batches: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench");
    let measured = AssertUnwindSafe(|| runtime.block_on(measure(&cluster, smoke, &batches)));
    let outcome = panic::catch_unwind(measured);
    cluster.stop().unwrap();
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(what)) => {
            eprintln!("{what}");
            std::process::exit(1);
        }
        Err(panicked) => panic::resume_unwind(panicked),
    }
}

async fn measure(cluster: &Cluster, smoke: bool, batches: &[usize]) -> Result<(), String> {
    let mut client = connect(&cluster.url("postgres")).await;
    describe(&client).await;
    println!("{CLIENTS} clients");
    migrate::migrate(&mut client).await.unwrap();
    println!(
        "{:>6} {:>16} {:>16} {:>8}   of {ROUNDS} rounds",
        "batch", "Sisyphus, runs/s", "bare SQL, runs/s", "ratio"
    );
    let (mut missed, mut largest) = (Vec::new(), None);
    for (batch, runs) in SCENARIOS {
        if !batches.is_empty() && !batches.contains(&batch) {
            continue;
        }
        let mut rounds = Vec::new();
        for _ in 0..if smoke { 1 } else { ROUNDS } {
            // Anew beside each: what else the machine does changes from one minute to the next.
            let bare = bare::throughput(cluster, &client, if smoke { 200 } else { 60_000 }).await;
            let rate =
                guardian::throughput(cluster, &client, batch, if smoke { batch * 4 } else { runs }).await;
            rounds.push((rate / bare, rate, bare));
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (ratio, rate, bare) = rounds[rounds.len() / 2];
        println!(
            "{batch:>6} {rate:>16.0} {bare:>16.0} {ratio:>8.2}   {:.2} to {:.2}",
            rounds[0].0,
            rounds[rounds.len() - 1].0
        );
        // What is larger is to be no slower.
        let wanted = WANTED.iter().find(|(of, _)| *of == batch).map_or(largest, |(_, wanted)| Some(*wanted));
        if let Some(wanted) = wanted.filter(|wanted| ratio < *wanted) {
            missed.push(format!("batch {batch} reaches {ratio:.2} of bare SQL, wanted {wanted:.2}"));
        }
        largest = Some(ratio).filter(|_| batch >= 100);
    }
    // A smoke test says that it runs; its few runs measure nothing.
    if smoke || missed.is_empty() { Ok(()) } else { Err(missed.join("\n")) }
}

/// Both begin with a vacuumed table and the next checkpoint far away.
async fn settle(client: &Client, table: &str) {
    client.batch_execute(&format!("vacuum analyze {table}")).await.unwrap();
    client.batch_execute("checkpoint").await.unwrap();
}
