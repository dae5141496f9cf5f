//! Control groups: the kernel's own where they can be had, a plain directory for the controllers that are
//! not there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use serde_json::json;
use sisyphus::keeper::protocol::EndedBy;

use super::{Host, SOON, gone, is_alive, number_in};
use crate::support::wait_until;

/// A shell line whose process leaves session, parents and environment behind, and writes its pid.
fn escape(file: &Path) -> String {
    format!("env -i /usr/bin/setsid -f /bin/sh -c 'echo $$ > {}; exec sleep 1000'", file.display())
}

/// A host whose keeper makes real groups; none, said loudly, where it may not.
pub(super) async fn grouped() -> Option<(Host, super::Guardian)> {
    let mut host = Host::unstarted();
    host.start_keeper_with(&["--cgroup", "auto"]);
    let guardian = host.guardian(1).await;
    if host.groups().is_none() {
        eprintln!("SKIPPED: no control groups can be made here");
        return None;
    }
    Some((host, guardian))
}

/// A tree that looks to the keeper like a group with these controllers; none of its files does anything.
fn stand_in(host: &Host, controllers: &str) -> PathBuf {
    let base = host.root().join("tree");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("cgroup.controllers"), controllers).unwrap();
    base
}

#[tokio::test]
async fn who_leaves_session_parents_and_environment_is_ended_with_its_run() {
    let Some((host, mut guardian)) = grouped().await else { return };
    let file = host.root().join("pid");
    let result = guardian.run(1, json!({"command": format!("{}; sleep 0.1", escape(&file))})).await;
    assert_eq!(result.exit_code, Some(0));
    let pid = number_in(file).await;
    assert!(!is_alive(pid), "it was to be killed before its run's result was told");

    let file = host.root().join("second");
    let key = guardian.start(2, json!({"command": format!("{}; sleep 1000", escape(&file))})).await;
    let pid = number_in(file).await;
    guardian.terminate(key, "enough").await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Terminate), Some(15)));
    assert!(!is_alive(pid));
    for group in groups_of(&host) {
        assert_eq!(fs::read_to_string(group.join("cgroup.procs")).unwrap(), "", "{group:?}");
    }
}

fn groups_of(host: &Host) -> Vec<PathBuf> {
    let entries = fs::read_dir(host.groups().unwrap()).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

#[tokio::test]
async fn a_group_that_limits_nothing_serves_one_run_after_the_other_and_counts_each_by_itself() {
    let Some((host, mut guardian)) = grouped().await else { return };
    if fs::read_to_string(host.groups().unwrap().join("cgroup.controllers")).unwrap().contains("memory") {
        eprintln!("SKIPPED: the groups of this host have controllers, so none is used again");
        return;
    }
    let mut own_group = async |run_id, command: &str, leftovers: &str| {
        let command = format!("{command}; grep ^0: /proc/self/cgroup");
        let result = guardian.run(run_id, json!({"command": command, "leftovers": leftovers})).await;
        assert_eq!(result.exit_code, Some(0), "{result:?}");
        let mut text = result.stdout.clone();
        (text.split_off(text.rfind("/sisyphus-").unwrap()).trim().to_owned(), result.cpu_user)
    };
    let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
    let (first, used) = own_group(1, busy, "kill").await;
    assert!(used > 0.05, "{used} s");
    let (second, used) = own_group(2, ":", "kill").await;
    assert_eq!(first, second, "what the first run left is as it was made");
    assert!(used < 0.05, "{used} s: those of the first run do not count");
    let (third, _) = own_group(3, ":", "leave").await;
    assert_ne!(second, third, "what is left of the third may be there when others come");
    let below = format!("mkdir {}{second}/below", root_of(&host).display());
    assert_eq!(own_group(4, &below, "kill").await.0, second);
    assert_ne!(own_group(5, ":", "kill").await.0, second, "the fourth has changed it");
    for below in ["below", ""] {
        fs::remove_dir(root_of(&host).join(&second[1..]).join(below)).unwrap();
    }
}

/// Where the kernel's names of the groups begin.
fn root_of(host: &Host) -> PathBuf {
    host.groups().unwrap().parent().unwrap().to_owned()
}

#[tokio::test]
async fn a_successor_ends_who_escaped_from_a_killed_keeper_and_spares_what_was_to_be_left() {
    let Some((mut host, mut guardian)) = grouped().await else { return };
    let (live, left) = (host.root().join("live"), host.root().join("left"));
    guardian.start(1, json!({"command": format!("{}; sleep 1000", escape(&live))})).await;
    let live = number_in(live).await;
    guardian.run(2, json!({"command": escape(&left), "leftovers": "leave"})).await;
    let left = number_in(left).await;
    let groups = host.groups().unwrap();
    host.crash();
    wait_until("the writer has let go of the lock", SOON, async || {
        if host.directory.keeper_is_alive().unwrap() { Err("held".to_owned()) } else { Ok(()) }
    })
    .await;
    assert!(is_alive(live), "nobody has ended it yet");
    host.start_keeper_with(&["--cgroup", "auto"]);
    host.guardian(2).await;
    assert!(!is_alive(live), "the new keeper has swept before it listens");
    assert!(is_alive(left), "its run had ended, and it was to be left");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), Signal::SIGKILL).unwrap();
    gone(left).await;
    // The name of the group that held it is all that is left.
    for entry in fs::read_dir(&groups).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        fs::remove_dir(entry.path()).unwrap();
    }
    fs::remove_dir(groups).unwrap();
}

#[tokio::test]
async fn processor_time_of_daemons_counts_as_well() {
    let Some((host, mut guardian)) = grouped().await else { return };
    let done = host.root().join("done");
    let done = done.display();
    // The shell never waits for the one that works, so the kernel does not add its time to the shell's.
    let busy = format!("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; touch {done}");
    let command = format!("setsid -f sh -c '{busy}'; until [ -e {done} ]; do sleep 0.05; done");
    let result = guardian.run(1, json!({"command": command})).await;
    assert!(result.cpu_user > 0.05, "{} s", result.cpu_user);
}

#[tokio::test]
async fn limits_go_to_the_controllers_of_the_runs_group() {
    let mut host = Host::unstarted();
    let base = stand_in(&host, "cpuset cpu io memory pids\n");
    // A group below the top may hold no process when it has controllers for others.
    fs::write(base.join("cgroup.type"), "domain\n").unwrap();
    host.start_keeper_with(&["--cgroup", base.to_str().unwrap()]);
    let mut guardian = host.guardian(1).await;
    assert_eq!(guardian.client.keeper().unenforced, Vec::<String>::new());
    let own = fs::read_to_string(base.join("keeper/cgroup.procs")).unwrap();
    assert_eq!(own, host.keeper_pid().to_string());
    let root = host.groups().unwrap();
    assert_eq!(root, base.join(format!("sisyphus-{}", guardian.client.keeper().keeper_id)));

    let go = host.root().join("go");
    let command = format!("ulimit -d; until [ -e {} ]; do sleep 0.01; done; exit 3", go.display());
    let limits = json!({"memory": 512 << 20, "cpu": 1.5, "nice": 3});
    let key = guardian.start(1, json!({"command": command, "limits": limits})).await;
    guardian.started(key).await;
    let group = root.join("1-1001");
    let said = |name: &str| fs::read_to_string(group.join(name)).unwrap();
    assert_eq!(said("memory.max"), "536870912");
    assert_eq!((said("memory.swap.max"), said("memory.oom.group")), ("0".into(), "1".into()));
    assert_eq!(said("cpu.max"), "150000 100000");
    assert_eq!(said("cgroup.procs"), "0", "the process has moved itself here");

    // What the kernel would say at the end.
    fs::write(group.join("cpu.stat"), "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\n")
        .unwrap();
    fs::write(group.join("memory.peak"), "123456789\n").unwrap();
    fs::write(group.join("memory.events"), "low 0\noom 1\noom_kill 2\n").unwrap();
    fs::write(go, "").unwrap();
    let result = guardian.result(key).await;
    assert_eq!((result.cpu_user, result.cpu_system, result.peak_memory), (2.5, 1.0, 123_456_789));
    assert_eq!(result.stdout, "unlimited\n", "the group counts the memory, no need to do it by process");
    assert!(result.reason.unwrap().contains("over the memory limit"));
}

#[tokio::test]
async fn without_controllers_memory_is_limited_by_process_and_the_keeper_says_so() {
    let (_host, mut guardian) = Host::with_guardian().await;
    assert_eq!(guardian.client.keeper().unenforced, ["memory", "cpu"]);
    let fields = json!({"command": "ulimit -d", "limits": {"memory": 64 << 20, "cpu": 0.5}});
    assert_eq!(guardian.run(1, fields).await.stdout, "65536\n");
    let greedy =
        json!({"argv": ["/usr/bin/head", "-c", "200M", "/dev/zero"], "limits": {"memory": 64 << 20}});
    assert_eq!(guardian.run(2, greedy).await.exit_code, Some(0), "it reads little at a time");
    let greedy =
        json!({"command": "x=$(head -c 200M /dev/zero | tr '\\0' y)", "limits": {"memory": 64 << 20}});
    assert_ne!(guardian.run(3, greedy).await.exit_code, Some(0));
}

#[test]
fn a_place_that_is_none_is_refused_by_name() {
    let host = Host::unstarted();
    let said = crate::support::run(&["keeper", "--cgroup", "here", "--state-dir", host.state()]);
    said.failure(2, &["neither auto, none, nor an absolute path"]);
}
