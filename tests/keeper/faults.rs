//! What is left when a guardian, a keeper or a disk fails.

use std::{
    fs::Permissions,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{PermissionsExt, chown},
            net::UnixStream,
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    },
    unistd::{Pid, geteuid},
};
use serde_json::json;
use sisyphus::keeper::{
    Found, KeeperClient,
    protocol::{EndedBy, GuardianHello, PROTOCOL, Request},
};

use super::{Host, SOON, gone, is_alive, number_in, order};
use crate::support::{limit, wait_until};

#[tokio::test]
async fn a_run_outlives_its_guardian_and_is_taken_over() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("go");
    let command = format!("echo before; until [ -e {} ]; do sleep 0.005; done; echo after", file.display());
    let running = guardian.start(1, json!({"command": command})).await;
    let ended = guardian.start(2, json!({"argv": ["true"]})).await;
    let pid = guardian.started(running).await.pid;
    while guardian.results.is_empty() {
        guardian.event().await;
    }
    // Gone without a word, its result not acknowledged.
    drop(guardian);

    let mut guardian = host.guardian(2).await;
    let mut held: Vec<_> =
        guardian.list().await.into_iter().map(|run| (run.key, run.pid, run.ended)).collect();
    held.sort_unstable();
    assert_eq!(held, [(running, Some(pid), false), (ended, None, true)]);
    std::fs::write(file, "").unwrap();
    assert_eq!(guardian.result(running).await.stdout, "before\nafter\n");
    assert_eq!(guardian.result(ended).await.exit_code, Some(0));
    assert!(guardian.list().await.is_empty());
}

#[tokio::test]
async fn a_start_in_a_dead_guardians_socket_is_never_executed() {
    let (host, guardian) = Host::with_guardian().await;
    drop(guardian);
    let witness = host.root().join("witness");
    let start = order(17, json!({"command": format!("touch {}", witness.display())}));
    let hello = |epoch| Request::Hello(GuardianHello { protocol: PROTOCOL, epoch });
    let speak = |requests: &[Request]| {
        let mut socket = UnixStream::connect(host.directory.socket()).unwrap();
        for request in requests {
            writeln!(socket, "{}", serde_json::to_string(request).unwrap()).unwrap();
        }
        socket
    };
    // The keeper is busy elsewhere while one guardian writes and dies and the next one comes.
    host.signal(Signal::SIGSTOP);
    drop(speak(&[hello(2), Request::Start(Box::new(start.clone()))]));
    let _next = speak(&[hello(3)]);
    host.signal(Signal::SIGCONT);

    let mut guardian = host.guardian(4).await;
    assert!(guardian.list().await.is_empty());
    // A later one of the same age comes through, so the earlier one would have.
    guardian.run(18, json!({"argv": ["true"]})).await;
    assert!(!witness.exists());
}

#[tokio::test]
async fn a_start_that_was_unread_until_it_expired_is_given_back() {
    let (host, mut guardian) = Host::with_guardian().await;
    host.signal(Signal::SIGSTOP);
    let now_us = sisyphus::keeper::clock::now().boottime_us;
    let (late, fresh) = (host.root().join("late"), host.root().join("fresh"));
    let mut keys = Vec::new();
    for (run_id, file, expires_us) in [(1, &late, now_us + 1), (2, &fresh, now_us + 1_000_000_000)] {
        let mut start = order(run_id, json!({"argv": ["touch", file]}));
        start.expires_boottime_us = Some(expires_us);
        keys.push(start.key());
        guardian.send(Request::Start(Box::new(start))).await;
    }
    host.signal(Signal::SIGCONT);
    let refused = guardian.refused(keys[0]).await;
    assert_eq!(refused.reason, "it expired before it could be started");
    assert!(refused.fit);
    assert_eq!(guardian.result(keys[1]).await.exit_code, Some(0));
    assert_eq!((late.exists(), fresh.exists()), (false, true));
}

#[tokio::test]
async fn a_line_that_is_no_request_ends_its_connection_only() {
    let (host, mut guardian) = Host::with_guardian().await;
    let mut socket = UnixStream::connect(host.directory.socket()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\n\n").unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut socket, &mut said).unwrap();
    assert_eq!(said, "");
    assert_eq!(guardian.run(1, json!({"argv": ["true"]})).await.exit_code, Some(0));
}

#[tokio::test]
async fn a_killed_keeper_leaves_nothing_running_and_no_result_lost() {
    let (mut host, mut guardian) = Host::with_guardian().await;
    let files: Vec<PathBuf> =
        ["group", "session", "left"].iter().map(|name| host.root().join(name)).collect();
    let hidden = format!(
        "(setsid sh -c 'echo $$ > {}; exec sleep 1000' &); echo $$ > {}; exec sleep 1000",
        files[1].display(),
        files[0].display()
    );
    let live = guardian.start(1, json!({"command": hidden})).await;
    let live_pids = [number_in(files[0].clone()).await, number_in(files[1].clone()).await];
    let leave = format!("setsid sleep 1000 & echo $! > {}", files[2].display());
    let left = guardian.start(2, json!({"command": leave, "leftovers": "leave"})).await;
    let left_pid = number_in(files[2].clone()).await;
    while guardian.results.is_empty() {
        guardian.event().await;
    }
    host.crash();
    wait_until("the writer has let go of the lock", SOON, async || {
        if host.directory.keeper_is_alive().unwrap() { Err("held".to_owned()) } else { Ok(()) }
    })
    .await;
    assert!(is_alive(live_pids[1]), "nobody has ended it yet");

    host.start_keeper();
    let mut guardian = host.guardian(2).await;
    // The new keeper has swept before it listens.
    assert!(live_pids.iter().all(|pid| !is_alive(*pid)));
    assert!(is_alive(left_pid), "its run had ended, and it was to be left");
    kill(Pid::from_raw(left_pid), Signal::SIGKILL).unwrap();
    assert_eq!(
        guardian.list().await.iter().map(|run| (run.key, run.ended)).collect::<Vec<_>>(),
        [(left, true)]
    );
    assert_eq!(guardian.result(left).await.exit_code, Some(0));
    assert_ne!(live, left);
}

#[tokio::test]
async fn the_first_process_dies_with_its_keeper() {
    let (mut host, mut guardian) = Host::with_guardian().await;
    let key = guardian.start(1, json!({"argv": ["sleep", "1000"]})).await;
    let pid = guardian.started(key).await.pid;
    host.crash();
    gone(pid).await;
}

#[tokio::test]
async fn a_torn_log_loses_nothing_but_the_torn_line() {
    let (mut host, mut guardian) = Host::with_guardian().await;
    let mut keys = Vec::new();
    for run_id in 1..=3 {
        keys.push(guardian.start(run_id, json!({"command": format!("echo {run_id}")})).await);
    }
    while guardian.results.len() < 3 {
        guardian.event().await;
    }
    guardian.send(Request::Ack(keys[1])).await;
    guardian.list().await;
    host.signal(Signal::SIGTERM);
    host.keeper_ended();
    let results = host.directory.path().join("results");
    let segment = std::fs::read_dir(&results).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&segment).unwrap();
    let first = text.lines().next().unwrap();
    let torn =
        format!("{text}garbage\n{}\n{}", first.replace("echo", "ohce").replace('1', "9"), &first[..99]);
    std::fs::write(&segment, torn).unwrap();

    host.start_keeper();
    let mut guardian = host.guardian(2).await;
    assert_eq!(guardian.result(keys[0]).await.stdout, "1\n");
    assert_eq!(guardian.result(keys[2]).await.stdout, "3\n");
    assert!(guardian.list().await.is_empty(), "an acknowledged one, or a damaged one, came back");
    // What was acknowledged a short time ago can be had again, after a failover that has lost it.
    guardian.send(Request::Offer {}).await;
    while guardian.results.len() < 3 {
        guardian.event().await;
    }
    assert_eq!(guardian.results[&keys[1]].stdout, "2\n");
}

/// Kills the writer of a keeper that has no other children.
async fn end_writer(keeper: i32) {
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    let named = |pid: &&str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sisyphus-writer\n")
    };
    let writer: i32 = children.split_whitespace().find(named).unwrap().parse().unwrap();
    kill(Pid::from_raw(writer), Signal::SIGKILL).unwrap();
    gone(writer).await;
}

#[tokio::test]
async fn jobs_outlive_a_writer_that_cannot_be_replaced_yet() {
    let (host, mut guardian) = Host::with_guardian().await;
    let pid = host.keeper_pid();
    let go = host.root().join("go");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", go.display());
    let key = guardian.start(1, json!({"command": wait})).await;
    guardian.started(key).await;
    let before = limit(Pid::from_raw(pid), "nofile", "3");
    end_writer(pid).await;
    std::fs::write(&go, "").unwrap();
    while guardian.results.is_empty() {
        guardian.event().await;
    }
    assert_eq!(guardian.list().await.len(), 1);
    limit(Pid::from_raw(pid), "nofile", &before);
    // Nothing else wakes the keeper up.
    stored(&host, &[1]).await;
    assert_eq!(guardian.result(key).await.exit_code, Some(0));
}

/// Waits until the results of these runs are on disk.
async fn stored(host: &Host, runs: &[i64]) {
    wait_until("the results are on disk", SOON, async || {
        let files = std::fs::read_dir(host.directory.path().join("results")).unwrap();
        let text: String =
            files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
        let stored = |run_id| text.contains(&format!("\"run_id\":{run_id}"));
        if runs.iter().all(stored) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_dies_is_replaced() {
    let (host, mut guardian) = Host::with_guardian().await;
    let pid = host.keeper_pid();
    let first = guardian.start(1, json!({"argv": ["true"]})).await;
    while guardian.results.is_empty() {
        guardian.event().await;
    }
    end_writer(pid).await;
    let second = guardian.start(2, json!({"argv": ["true"]})).await;
    while guardian.results.len() < 2 {
        guardian.event().await;
    }
    stored(&host, &[1, 2]).await;
    for key in [first, second] {
        assert_eq!(guardian.result(key).await.exit_code, Some(0));
    }
}

#[tokio::test]
async fn a_host_without_room_gives_the_run_back() {
    let (host, mut guardian) = Host::with_guardian().await;
    let runs = host.directory.path().join("runs");
    std::fs::remove_dir(&runs).unwrap();
    let key = guardian.start(1, json!({"argv": ["true"]})).await;
    let refused = guardian.refused(key).await;
    assert!(refused.reason.contains("cannot make the run's directory"), "{}", refused.reason);
    assert!(!refused.fit);
    std::fs::create_dir(&runs).unwrap();
    assert_eq!(guardian.run(1, json!({"argv": ["true"]})).await.exit_code, Some(0));
}

#[tokio::test]
async fn a_guardian_that_does_not_read_loses_nothing() {
    let (host, mut guardian) = Host::with_guardian().await;
    let mut keys = Vec::new();
    for run_id in 1..=60 {
        keys.push(guardian.start(run_id, json!({"command": "head -c 60000 /dev/zero | tr '\\0' x"})).await);
    }
    // More than socket and window hold is waiting before the first is read.
    wait_until("all are stored", SOON, async || {
        let files = std::fs::read_dir(host.directory.path().join("results")).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        if bytes > 60 * 60_000 { Ok(()) } else { Err(format!("{bytes} bytes")) }
    })
    .await;
    for key in keys {
        assert_eq!(guardian.result(key).await.stdout.len(), 60_000);
    }
    assert!(guardian.list().await.is_empty());
}

/// Somebody listens there: to start a second keeper would be wrong.
#[tokio::test]
async fn a_keeper_whose_queue_is_full_is_not_taken_for_one_that_is_gone() {
    let host = Host::unstarted();
    assert!(KeeperClient::connect(&host.directory, 1).await.unwrap().is_none(), "there is no socket");
    let full = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(full.as_raw_fd(), &UnixAddr::new(&host.directory.socket()).unwrap()).unwrap();
    assert!(KeeperClient::connect(&host.directory, 1).await.unwrap().is_none(), "nobody listens at it");
    listen(&full, Backlog::new(0).unwrap()).unwrap();
    let _first = UnixStream::connect(host.directory.socket()).unwrap();
    let err = KeeperClient::connect(&host.directory, 1).await.unwrap_err();
    assert!(err.to_string().starts_with("cannot connect to the keeper at"), "{err}");
    let found = KeeperClient::find(&host.directory, 1, Duration::from_secs(60)).await.unwrap();
    assert!(matches!(found, Found::Silent), "{found:?}");
}

/// It would be told the commands of all jobs, and their payloads.
#[tokio::test]
async fn a_keeper_that_is_another_users_is_told_nothing() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root becomes another user");
        return;
    }
    let host = Host::unstarted();
    std::fs::set_permissions(host.root(), Permissions::from_mode(0o755)).unwrap();
    chown(host.directory.path(), Some(65534), Some(65534)).unwrap();
    let listen = "import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
time.sleep(600)";
    let mut listener = Command::new("python3");
    listener.args(["-c", listen]).arg(host.directory.socket()).uid(65534).gid(65534);
    let _listener = crate::support::spawn(listener);
    wait_until("somebody listens", SOON, async || match KeeperClient::connect(&host.directory, 1).await {
        Ok(None) => Err("nobody does".to_owned()),
        Ok(Some(_)) => panic!("it was greeted"),
        Err(err) if err.to_string().ends_with("is user 65534's") => Ok(()),
        Err(err) => panic!("{err}"),
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_keeps_every_outcome_and_cuts_outputs() {
    let Some((mut host, _disk)) = Host::on_a_disk_of("4m") else { return };
    let mut guardian = host.guardian(1).await;
    let go = host.root().join("go");
    let command =
        format!("until [ -e {} ]; do sleep 0.01; done; head -c 60000 /dev/zero | tr '\\0' x", go.display());
    let mut keys = Vec::new();
    for run_id in 1..=40 {
        keys.push(guardian.start(run_id, json!({"command": command})).await);
    }
    for key in &keys {
        guardian.started(*key).await;
    }
    let filler = host.directory.path().join("filler");
    let full = std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    std::fs::write(&go, "").unwrap();
    while guardian.results.len() < keys.len() {
        guardian.event().await;
    }
    let is_whole = guardian.results.values().any(|result| result.stdout.len() == 60_000);
    assert!(is_whole, "a guardian that is there gets the whole output");
    wait_until("the outcomes are on disk", SOON, async || {
        let files = std::fs::read_dir(host.directory.path().join("results")).unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let text: String = files.map(|file| read(file.unwrap().path())).collect();
        let stored = keys.iter().filter(|key| text.contains(&format!("\"run_id\":{},", key.run_id)));
        let stored = stored.count();
        if stored == keys.len() { Ok(()) } else { Err(format!("{stored} are")) }
    })
    .await;
    host.crash();
    std::fs::remove_file(filler).unwrap();

    host.start_keeper();
    let mut guardian = host.guardian(2).await;
    for key in keys {
        let result = guardian.result(key).await;
        assert_eq!(result.exit_code, Some(0));
        assert!(result.stdout.len() == 60_000 || result.stdout.contains("bytes cut"), "{}", result.stdout);
    }
}

#[tokio::test]
async fn a_host_out_of_descriptors_gives_runs_back_and_recovers() {
    let mut host = Host::new();
    host.guardian(1).await;
    host.crash();
    let mut keeper = std::process::Command::new("/bin/sh");
    keeper.args(["-c", "ulimit -n 48; exec \"$0\" keeper --state-dir \"$1\""]);
    keeper.args([env!("CARGO_BIN_EXE_sisyphus"), host.state()]).env("SISYPHUS_CGROUP", "none");
    keeper.envs(crate::support::policy().map(|policy| ("SISYPHUS_POLICY", policy)));
    host.keeper = Some(crate::support::spawn(keeper));
    let mut guardian = host.guardian(2).await;
    let mut last = guardian.start(1, json!({"argv": ["sleep", "1000"]})).await;
    let mut running = vec![last];
    let refused = loop {
        last = guardian.start(running.len() as i64 + 1, json!({"argv": ["sleep", "1000"]})).await;
        match guardian.list().await.iter().any(|held| held.key == last) {
            true => running.push(last),
            false => break guardian.refusals.pop().unwrap(),
        }
    };
    assert_eq!(refused.key, last);
    assert!(refused.reason.contains("Too many open files"), "{}", refused.reason);
    assert!(running.len() > 5, "{}", running.len());
    for key in running {
        guardian.terminate(key, "").await;
        guardian.result(key).await;
    }
    let again = guardian.start(last.run_id, json!({"argv": ["true"]})).await;
    assert_eq!(guardian.result(again).await.exit_code, Some(0));
}

/// It would count as running for ever: that it has ended is all that anybody knows of it.
#[tokio::test]
async fn a_run_whose_result_cannot_be_read_any_more_is_lost() {
    for damage in ["gone", "cut", "damaged"] {
        let (host, mut guardian) = Host::with_guardian().await;
        let key = guardian.start(1, json!({"argv": ["true"]})).await;
        while guardian.results.is_empty() {
            guardian.event().await;
        }
        drop(guardian);
        let log = host.directory.path().join("results/results.00000001.log");
        stored(&host, &[1]).await;
        let written = std::fs::read(&log).unwrap();
        match damage {
            "gone" => std::fs::remove_file(&log).unwrap(),
            "cut" => std::fs::write(&log, &written[..written.len() / 2]).unwrap(),
            _ => std::fs::write(&log, vec![0; written.len()]).unwrap(),
        }
        let mut epoch = 1;
        // Until the keeper knows that it is on disk it has it in memory.
        let result = wait_until("it is lost", SOON, async || {
            epoch += 1;
            let mut guardian = host.guardian(epoch).await;
            let list = guardian.list().await;
            let result = guardian.results.remove(&key).ok_or(format!("{list:?}"))?;
            if result.ended_by.is_some() { Ok(result) } else { Err(format!("{result:?}")) }
        })
        .await;
        assert_eq!((result.ended_by, result.exit_code), (Some(EndedBy::Keeper), None), "{damage}");
        assert!(result.reason.unwrap().contains("cannot be read"), "{damage}");
        assert!(host.guardian(epoch + 1).await.run(2, json!({"argv": ["true"]})).await.exit_code == Some(0));
    }
}

/// A job of the keeper's own user can. Opening a pipe to read waits for who writes.
#[tokio::test]
async fn a_job_that_puts_a_pipe_in_the_place_of_its_directory_stops_nobody() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let command = "dir=${SISYPHUS_RESULT_FILE%/*}; rm -r $dir && mkfifo $dir";
    let result = guardian.run(1, json!({"command": command})).await;
    assert_eq!(result.exit_code, Some(0), "{}", result.stderr);
    assert!(result.reason.as_ref().unwrap().starts_with("result file ignored"), "{result:?}");
    assert_eq!(guardian.run(2, json!({"command": "true"})).await.exit_code, Some(0));
}

/// The keeper is not told of the end of a process that another one traces before that one has let go of it.
#[tokio::test]
async fn a_first_process_that_a_leftover_traces_ends_its_run_all_the_same() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let script = "
import ctypes, os, time
libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()
(r, w) = os.pipe()
if os.fork() == 0:
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    done = libc.ptrace(0x4206, parent, 0, 0)
    os.write(w, b'%d' % done)
    time.sleep(1000)
said = os.read(r, 9)
os._exit(0 if said == b'0' else 3)
";
    let result = guardian.run(1, json!({"argv": ["python3", "-c", script]})).await;
    if result.ended_by == Some(EndedBy::Spawn) || result.exit_code == Some(3) {
        eprintln!("SKIPPED: no Python, or nobody may trace the parent here: {result:?}");
        return;
    }
    assert_eq!((result.exit_code, result.ended_by), (Some(0), None), "{}", result.stderr);
}
