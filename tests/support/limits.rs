//! Limits of processes that run.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    process::Command,
};

use nix::unistd::Pid;

/// Sets the soft limit of a process that runs, as its own user; the limit before that.
pub(crate) fn limit(pid: Pid, what: &str, value: &str) -> String {
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap();
    let row = if what == "nofile" { "Max open files" } else { "Max processes" };
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let row = limits.lines().find_map(|line| line.strip_prefix(row)).unwrap();
    let before = row.split_whitespace().next().unwrap().to_owned();
    let mut command = Command::new("prlimit");
    command.uid(owner.uid()).gid(owner.gid()).args([
        "--pid",
        &pid.to_string(),
        &format!("--{what}={value}:"),
    ]);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    before
}
