//! What the benchmarks share: a server of their own with full durability, one host, what the machine is and
//! what each part of it costs.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod cpu;
pub(crate) mod host;

use std::{fs, path::PathBuf, process::Command};

use sisyphus::dev::cluster::{Cluster, Durability};
use tokio_postgres::{Client, NoTls};

/// A server without data, in the scratch directory of this name.
pub(crate) fn fresh_cluster(name: &str) -> Cluster {
    let dir = scratch_dir(name);
    // A server that an interrupted bench left is ended before its data goes.
    if dir.join("postgres/postmaster.pid").exists() {
        Cluster::start(&dir, Durability::Full).unwrap().stop().unwrap();
    }
    fs::remove_dir_all(&dir).ok();
    Cluster::start(&dir, Durability::Full).unwrap()
}

/// The first process of a server, the parent of all others.
pub(crate) fn postmaster(cluster: &Cluster) -> u32 {
    let text = fs::read_to_string(cluster.dir().join("postgres/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

fn scratch_dir(name: &str) -> PathBuf {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts/scratch-dir");
    let output = Command::new(script).arg(name).output().unwrap();
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A number without its machine says nothing.
pub(crate) async fn describe(client: &Client) {
    let version: String = client.query_one("select version()", &[]).await.unwrap().get(0);
    let version = version.split(" on ").next().unwrap();
    println!("{version}, fsync on; {}; commit {}", machine(), commit());
}

/// Processors, and how busy they were before the bench.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {cpu}, Linux {}, load {}", kernel.trim(), load())
}

/// The load of the last minute, with which times are to be read.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn commit() -> String {
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// A session that is not measured.
pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::runtime::Handle::current().spawn(connection);
    client
}
