//! How runs are brought to an end, with all that belongs to them.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use sisyphus::keeper::protocol::{Action, Deadline, EndedBy, Request};

use super::{Guardian, Host, SOON, gone, grows, is_alive, lines_of, number_in, order};
use crate::support::{wait_until, wait_until_still};

#[tokio::test]
async fn a_run_over_its_time_limit_is_ended() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let result = guardian.run(1, json!({"argv": ["sleep", "1000"], "max_runtime": 0.05})).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Timeout), Some(15)));
    assert_eq!(result.reason.as_deref(), Some("ran longer than max_runtime (0.05 s)"));
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_the_grace() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("pid");
    let command = format!("trap '' TERM; echo $$ > {}; while :; do sleep 1000; done", file.display());
    let key = guardian.start(1, json!({"command": command, "grace": 0.1})).await;
    number_in(file).await;
    guardian.terminate(key, "by hand").await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Terminate), Some(9)));
    assert_eq!(result.reason.as_deref(), Some("by hand"));
}

#[tokio::test]
async fn who_cleans_up_on_term_keeps_the_exit_code() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("pid");
    let command =
        format!("trap 'echo bye; exit 7' TERM; echo $$ > {}; while :; do sleep 0.01; done", file.display());
    let key = guardian.start(1, json!({"command": command})).await;
    number_in(file).await;
    guardian.terminate(key, "by hand").await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.exit_code), (Some(EndedBy::Terminate), Some(7)));
    assert_eq!(result.stdout, "bye\n");
}

#[tokio::test]
async fn the_program_behind_a_shell_has_its_grace_too() {
    let (host, mut guardian) = Host::with_guardian().await;
    let (file, done) = (host.root().join("pid"), host.root().join("done"));
    // The outer shell dies of TERM at once, the inner one cleans up.
    let inner = format!(
        "trap 'sleep 0.3; touch {}; exit' TERM; echo \\$\\$ > {}; while :; do sleep 0.01; done",
        done.display(),
        file.display()
    );
    let key = guardian.start(1, json!({"command": format!("sh -c \"{inner}\"; true"), "grace": 1000})).await;
    number_in(file).await;
    guardian.terminate(key, "by hand").await;
    assert_eq!(guardian.result(key).await.signal, Some(15));
    assert!(done.exists(), "it was killed in the middle of its cleaning up");
}

#[tokio::test]
async fn a_stopped_process_takes_its_term() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let key = guardian.start(1, json!({"argv": ["sleep", "1000"], "grace": 1000})).await;
    let pid = guardian.started(key).await.pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    guardian.terminate(key, "by hand").await;
    assert_eq!(guardian.result(key).await.signal, Some(15));
}

#[tokio::test]
async fn terminate_reaches_those_who_left_the_session() {
    let (host, mut guardian) = Host::with_guardian().await;
    let (child, orphan) = (host.root().join("child"), host.root().join("orphan"));
    // A child in a session of its own, and one that lost its parent as well.
    let command = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 1000' & (setsid sh -c 'echo $$ > {}; exec sleep 1000' &); wait",
        child.display(),
        orphan.display()
    );
    let key = guardian.start(1, json!({"command": command, "grace": 1000})).await;
    let pids = [number_in(child).await, number_in(orphan).await];
    guardian.terminate(key, "by hand").await;
    let result = guardian.result(key).await;
    assert_eq!(result.signal, Some(15));
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn leftovers_are_killed_however_they_hide() {
    let (host, mut guardian) = Host::with_guardian().await;
    let hides = [
        "sh -c 'echo $$ > FILE; exec sleep 1000' &",
        "(setsid sh -c 'echo $$ > FILE; exec sleep 1000' &)",
        "setsid sh -c 'trap \"\" TERM HUP; (setsid sh -c \"echo \\$\\$ > FILE; exec sleep 1000\" &) ; sleep 1000' &",
        "(env -i /bin/sh -c 'echo $$ > FILE; exec sleep 1000' &)",
    ];
    for (run_id, hide) in (1..).zip(hides) {
        let file = host.root().join(format!("pid{run_id}"));
        let name = file.to_str().unwrap();
        let command =
            format!("{} until [ -s {name} ]; do sleep 0.005; done", hide.replace("FILE", name) + "\n");
        let result = guardian.run(run_id, json!({"command": command})).await;
        assert_eq!((result.exit_code, result.ended_by), (Some(0), None), "{}", result.stderr);
        let pid = number_in(file).await;
        assert!(!is_alive(pid), "left: {hide}");
    }
}

#[tokio::test]
async fn leftovers_that_are_left_live_on_and_do_not_hold_the_result() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("pid");
    // It holds both pipes for as long as it lives.
    let command = format!("sleep 1000 & echo $! > {}", file.display());
    let result = guardian.run(1, json!({"command": command, "leftovers": "leave"})).await;
    assert_eq!(result.exit_code, Some(0));
    let pid = number_in(file).await;
    assert!(is_alive(pid));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    gone(pid).await;
}

#[tokio::test]
async fn another_runs_processes_are_not_touched() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("pid");
    let command = format!("(setsid sh -c 'echo $$ > {}; exec sleep 1000' &); sleep 1000", file.display());
    let other = guardian.start(1, json!({"command": command})).await;
    let pid = number_in(file).await;
    let result = guardian.run(2, json!({"command": "(setsid sleep 1000 &); kill -9 0"})).await;
    assert_eq!(result.signal, Some(9));
    assert!(is_alive(pid));
    guardian.terminate(other, "").await;
    guardian.result(other).await;
    gone(pid).await;
}

#[tokio::test]
async fn a_fenced_run_dies_with_its_deadline() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let mut start = order(1, json!({"argv": ["sleep", "1000"], "fenced": true, "grace": 0.5}));
    let now = sisyphus::keeper::clock::now().boottime_us;
    start.deadline_boottime_us = Some(now + 1_000_000_000);
    let key = start.key();
    guardian.send(Request::Start(Box::new(start))).await;
    guardian.started(key).await;
    guardian.send(Request::Deadline(Deadline { key, boottime_us: now + 500_000 })).await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Fence), Some(15)));
}

/// The processes of a keeper go on while it is stopped itself, and so does the time of their lease.
#[tokio::test]
async fn what_happened_while_a_keeper_was_paused_counts_before_the_deadline_that_has_passed() {
    let (host, mut guardian) = Host::with_guardian().await;
    let boottime_us = || sisyphus::keeper::clock::now().boottime_us;
    let go = host.root().join("go");
    let command = format!("until [ -e {} ]; do sleep 0.01; done; exit 3", go.display());
    let (deadline, mut keys) = (boottime_us() + 2_000_000, Vec::new());
    for (run_id, command) in [(1, command.as_str()), (2, "sleep 1000")] {
        let mut start = order(run_id, json!({"command": command, "fenced": true, "grace": 0.5}));
        start.deadline_boottime_us = Some(deadline);
        keys.push(start.key());
        guardian.send(Request::Start(Box::new(start))).await;
    }
    let pid = guardian.started(keys[0]).await.pid;
    guardian.started(keys[1]).await;
    host.signal(Signal::SIGSTOP);
    std::fs::write(go, "").unwrap();
    wait_until("the job has ended and its deadline passed", SOON, async || match is_alive(pid) {
        false if boottime_us() > deadline => Ok(()),
        alive => Err(format!("alive: {alive}")),
    })
    .await;
    let renewed = Deadline { key: keys[1], boottime_us: boottime_us() + 1_000_000_000 };
    guardian.send(Request::Deadline(renewed)).await;
    host.signal(Signal::SIGCONT);
    let result = guardian.result(keys[0]).await;
    assert_eq!((result.exit_code, result.ended_by), (Some(3), None));
    guardian.terminate(keys[1], "enough").await;
    assert_eq!(guardian.result(keys[1]).await.ended_by, Some(EndedBy::Terminate));
}

#[tokio::test]
async fn a_keeper_that_is_stopped_ends_its_jobs_and_stores_their_results() {
    let (mut host, mut guardian) = Host::with_guardian().await;
    let key = guardian.start(1, json!({"argv": ["sleep", "1000"]})).await;
    let pid = guardian.started(key).await.pid;
    host.signal(Signal::SIGTERM);
    let said = host.keeper_ended();
    assert_eq!(said.code(), Some(0), "{}", said.stderr);
    assert!(!is_alive(pid) && !host.directory.socket().exists());
    host.start_keeper();
    let mut guardian = host.guardian(2).await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Keeper), Some(15)));
    assert_eq!(result.reason.as_deref(), Some("the keeper was stopped"));
}

/// Two that work, one of them in a session of its own.
fn workers(files: [&Path; 2]) -> String {
    let [own, other] = files.map(Path::display);
    let work = |file| format!("while :; do echo x >> {file}; sleep 0.005; done");
    format!("setsid sh -c '{}' & {}", work(other), work(own))
}

async fn a_pause_holds_all_of_a_run(mut guardian: Guardian, host: &Host) {
    let (own, other) = (host.root().join("own"), host.root().join("other"));
    let key = guardian.start(1, json!({"command": workers([&own, &other]), "max_runtime": 300})).await;
    grows(&own).await;
    grows(&other).await;
    guardian.intervene(key, Action::Pause, "for lunch").await;
    // The keeper works one request after the other, and a stop takes effect before the list is read here.
    guardian.list().await;
    let seen =
        wait_until_still("nothing grows any more", SOON, async || [lines_of(&own), lines_of(&other)]).await;
    assert!(guardian.results.is_empty());
    guardian.intervene(key, Action::Unpause, "").await;
    grows(&own).await;
    grows(&other).await;
    assert!(lines_of(&own) > seen[0] && lines_of(&other) > seen[1]);
    // One that is paused takes its TERM all the same.
    guardian.intervene(key, Action::Pause, "").await;
    guardian.terminate(key, "enough").await;
    let result = guardian.result(key).await;
    assert_eq!((result.ended_by, result.signal), (Some(EndedBy::Terminate), Some(15)));
}

#[tokio::test]
async fn a_pause_stops_all_of_a_run_by_signals() {
    let (host, guardian) = Host::with_guardian().await;
    a_pause_holds_all_of_a_run(guardian, &host).await;
}

#[tokio::test]
async fn a_pause_stops_all_of_a_run_by_its_control_group() {
    let Some((host, guardian)) = super::group::grouped().await else { return };
    a_pause_holds_all_of_a_run(guardian, &host).await;
}
