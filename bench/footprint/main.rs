//! What a host without work costs: memory and processor time of a guardian, its keeper and the keeper's writer, on
//! a server that has nothing to do either.
//!
//! `make bench-footprint`; by hand `cargo test --bench footprint -- [SECONDS]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use sisyphus::{dev::cluster::Cluster, migrate};
use support::{cpu, host, host::Host};

/// MiB of all three together.
const MOST_MIB: f64 = 12.0;
/// Of one core.
const MOST_PERCENT: f64 = 0.1;

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(120);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench-footprint");
    let is_small = runtime.block_on(measure(&cluster, seconds));
    cluster.stop().unwrap();
    assert!(is_small, "wanted at most {MOST_MIB} MiB and {MOST_PERCENT} % of a core");
}

async fn measure(cluster: &Cluster, seconds: u64) -> bool {
    let url = cluster.url("postgres");
    let mut client = support::connect(&url).await;
    support::describe(&client).await;
    migrate::migrate(&mut client).await.unwrap();
    let mut host = Host::new();
    host.join(&url, &client, "bench", 8).await;
    // The start is no rest: it is over with the first heartbeats.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = host.used();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = cpu::between(&before, &host.used());
    let keeper = host.keeper.id();
    let processes = [
        ("guardian", host.guardian.as_ref().unwrap().id()),
        ("keeper", keeper),
        ("writer", cpu::child_named(keeper, "sisyphus-writer").unwrap()),
    ];
    println!("{:<10}{:>10}{:>10}{:>12}   over {seconds} s", "", "RSS KiB", "PSS KiB", "% of a core");
    let (mut resident, mut percent) = (0.0, 0.0);
    for (name, pid) in processes {
        let (rss, share) = (host::memory(pid, "Rss"), used[name] / seconds as f64 * 100.0);
        println!("{name:<10}{rss:>10}{:>10}{share:>12.3}", host::memory(pid, "Pss"));
        resident += rss as f64 / 1024.0;
        percent += share;
    }
    println!("together {resident:.1} MiB resident, {percent:.3} % of a core");
    resident <= MOST_MIB && percent < MOST_PERCENT
}
