//! What a host without work costs.

use std::fs;

use nix::unistd::Pid;

use super::host::{Host, SOON};
use crate::support::{self, wait_until};

/// Of guardian, keeper and the keeper's writer together. Without optimisation the program is four times as large,
/// and so is what is read of it: that bound only tells when something is kept that was to be given back.
const MOST_KIB: u64 = if cfg!(debug_assertions) { 28 << 10 } else { 12 << 10 };

#[tokio::test]
async fn idle_guardian_and_keeper_are_small() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    wait_until("they are small", SOON, async || {
        // The writer shares the keeper's command line.
        let pids = [guardian.pid()].into_iter().chain(host.keepers());
        let resident: Vec<u64> = pids.map(resident_kib).collect();
        let is_whole = resident.len() == 3 && resident.iter().all(|kib| *kib > 0);
        if is_whole && resident.iter().sum::<u64>() <= MOST_KIB {
            Ok(())
        } else {
            Err(format!("{resident:?} KiB"))
        }
    })
    .await;
}

fn resident_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
