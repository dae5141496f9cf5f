//! What a job finds when it starts, and what is kept when it ends.

use serde_json::json;
use sisyphus::keeper::protocol::{EndedBy, Request};

use super::{Host, SOON, order};
use crate::support::{command, finish, policy, run, wait_until};

#[tokio::test]
async fn exit_code_and_output_are_kept() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let result = guardian.run(1, json!({"command": "echo out; echo err >&2; exit 3"})).await;
    assert_eq!((result.exit_code, result.signal, result.ended_by), (Some(3), None, None));
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    let started = result.started.unwrap();
    assert!(started.boottime_us <= result.finished.boottime_us);
    assert!(result.pid.is_some() && result.peak_memory > 0);
}

#[tokio::test]
async fn death_by_signal_is_no_exit_code() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let result = guardian.run(1, json!({"command": "kill -SEGV $$"})).await;
    assert_eq!((result.exit_code, result.signal, result.ended_by), (None, Some(11), None));
    // Real-time signals have no name in most libraries.
    let result = guardian.run(2, json!({"command": "kill -40 $$"})).await;
    assert_eq!((result.exit_code, result.signal), (None, Some(40)));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let (host, mut guardian) = Host::with_guardian().await;
    let plain = host.root().join("plain");
    std::fs::write(&plain, "").unwrap();
    let plain = plain.to_str().unwrap();
    let cases = [
        (json!({"argv": ["/no/such"]}), "cannot start \"/no/such\": No such file or directory".to_owned()),
        (json!({"argv": ["nosuch"]}), "cannot start \"nosuch\": No such file or directory".to_owned()),
        (json!({"argv": [plain]}), format!("cannot start {plain:?}: Permission denied")),
        (
            json!({"argv": ["true"], "cwd": "/no/dir"}),
            "cannot enter \"/no/dir\": No such file or directory".into(),
        ),
        (json!({"argv": ["true"], "cwd": plain}), format!("cannot enter {plain:?}: Not a directory")),
        (
            json!({"argv": ["true"], "env": {"A=B": "c"}}),
            "cannot set the environment variable \"A=B\"".into(),
        ),
        (json!({"argv": []}), "exactly one of command and argv must be given".into()),
    ];
    for (run_id, (fields, reason)) in (1..).zip(cases) {
        let result = guardian.run(run_id, fields).await;
        assert_eq!(result.reason.as_deref(), Some(reason.as_str()));
        assert_eq!((result.ended_by, result.exit_code), (Some(EndedBy::Spawn), None));
        assert!(result.started.is_none());
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let (_host, mut guardian) = Host::with_guardian().await;
    for (run_id, (fields, name)) in (1..).zip([
        (json!({"argv": ["true"], "limits": {"memory": "512MB"}}), "limit \"memory\" cannot be \"512MB\""),
        (json!({"argv": ["true"], "limits": {"tokens": 5}}), "limit \"tokens\" is not known"),
        (json!({"argv": ["true"], "limits": {"nice": 99}}), "limit \"nice\" cannot be 99"),
        (json!({"argv": ["true"], "run_as": "somebody"}), "user \"somebody\""),
    ]) {
        let result = guardian.run(run_id, fields).await;
        assert_eq!(result.ended_by, Some(EndedBy::Policy));
        assert!(result.reason.as_deref().unwrap().contains(name), "{:?}", result.reason);
    }
}

#[tokio::test]
async fn limits_that_are_supported_hold() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let limits = json!({"nice": 7, "open_files": 64, "output": "1kB", "memory": null});
    let result = guardian.run(1, json!({"command": "nice; ulimit -n; ulimit -Hn", "limits": limits})).await;
    assert_eq!(result.stdout, "7\n64\n64\n");
}

#[tokio::test]
async fn the_environment_is_built_from_nothing() {
    let mut host = Host::new();
    host.crash();
    let mut keeper = command(&["keeper", "--state-dir", host.state()]);
    keeper.env("SISYPHUS_DATABASE_URL", "postgres://secret").env("PGPASSWORD", "secret");
    host.keeper = Some(crate::support::spawn(keeper));
    let mut guardian = host.guardian(1).await;
    let fields = json!({"argv": ["env"], "payload": {"a": 1}, "env": {"MINE": "x y", "N": 5, "LANG": null}});
    let result = guardian.run(1, fields).await;
    let mut names: Vec<&str> = result.stdout.lines().map(|line| line.split_once('=').unwrap().0).collect();
    names.sort_unstable();
    let expected = [
        "HOME",
        "LOGNAME",
        "MINE",
        "N",
        "PATH",
        "SHELL",
        "SISYPHUS_ATTEMPT",
        "SISYPHUS_CLAIM",
        "SISYPHUS_DUE_AT",
        "SISYPHUS_HOST",
        "SISYPHUS_JOB",
        "SISYPHUS_KEEPER",
        "SISYPHUS_PAYLOAD",
        "SISYPHUS_RESULT_FILE",
        "SISYPHUS_RUN_ID",
    ];
    assert_eq!(names, expected);
    for line in [
        "MINE=x y",
        "N=5",
        "SISYPHUS_DUE_AT=2026-01-05T07:00:00Z",
        "SISYPHUS_HOST=web1",
        "SISYPHUS_CLAIM=1001",
    ] {
        assert!(result.stdout.lines().any(|it| it == line), "{line} is not in\n{}", result.stdout);
    }
}

#[tokio::test]
async fn signals_files_and_mask_are_as_after_a_login() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let command = "umask; ls /proc/self/fd | tr '\\n' ' '; grep -E 'Sig(Blk|Ign)' /proc/self/status; ps -o sid= -p $$; echo $$";
    let result = guardian.run(1, json!({"command": command})).await;
    let words: Vec<&str> = result.stdout.split_ascii_whitespace().collect();
    // The descriptor 3 is ls's own, of the directory that it lists.
    assert_eq!(words[..5], ["0022", "0", "1", "2", "3"], "{}", result.stdout);
    assert_eq!(words[5..8], ["SigBlk:", "0000000000000000", "SigIgn:"], "{}", result.stdout);
    // 32 and 33 are the C library's own; whoever started the tests may have left them ignored.
    let ignored = u64::from_str_radix(words[8], 16).unwrap() & !(3 << 31);
    assert_eq!(ignored, 0, "{}", result.stdout);
    assert_eq!(words[9], words[10], "leader of its session: {}", result.stdout);
}

#[tokio::test]
async fn the_payload_stands_whole_on_standard_input() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let large = json!({"text": "x".repeat(300_000)});
    let command = "wc -c; wc -c < /dev/stdin; echo ${SISYPHUS_PAYLOAD:-none}";
    let result = guardian.run(1, json!({"command": command, "payload": large})).await;
    // The second reader shares the offset of the first: it is a file that can be sought, not a pipe.
    assert_eq!(result.stdout.split_ascii_whitespace().collect::<Vec<_>>(), ["300011", "300011", "none"]);
    let result = guardian.run(2, json!({"command": "cat; echo x >&0", "payload": [1, "a"]})).await;
    assert_eq!(result.stdout, "[1,\"a\"]");
    assert!(result.stderr.contains("I/O error"), "the payload could be written: {}", result.stderr);
    let result = guardian.run(3, json!({"command": "cat; echo end"})).await;
    assert_eq!(result.stdout, "end\n");
}

#[tokio::test]
async fn the_result_file_becomes_the_result() {
    let (host, mut guardian) = Host::with_guardian().await;
    let command =
        "stat -c %a $(dirname $SISYPHUS_RESULT_FILE); printf '{\"rows\":\\n 12}' > $SISYPHUS_RESULT_FILE";
    let result = guardian.run(1, json!({"command": command})).await;
    assert_eq!((result.stdout.as_str(), result.result.unwrap().get()), ("700\n", "{\"rows\":  12}"));
    let command =
        "ln -s /etc/hostname $SISYPHUS_RESULT_FILE; mkdir -p $(dirname $SISYPHUS_RESULT_FILE)/deep/er";
    let result = guardian.run(2, json!({"command": command})).await;
    assert!(result.result.is_none() && result.reason.unwrap().starts_with("result file ignored: "));
    wait_until("the run directories are gone", SOON, async || {
        let left: Vec<_> = std::fs::read_dir(host.directory.path().join("runs")).unwrap().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_gigabyte_of_output_leaves_memory_flat() {
    let (host, mut guardian) = Host::with_guardian().await;
    let command = "echo first; head -c 1000000000 /dev/zero | tr '\\0' y; echo last";
    let result = guardian.run(1, json!({"command": command, "output_limit": 4096})).await;
    assert!(result.stdout.starts_with("first\ny") && result.stdout.ends_with("ylast\n"), "{}", result.stdout);
    assert!(result.stdout.len() <= 4096 && result.stdout.contains(" bytes cut …]"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.keeper_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(peak < 32_000, "the keeper has used {peak} kB");
}

#[tokio::test]
async fn no_descriptor_and_no_zombie_is_left_by_hundreds_of_runs() {
    let (host, mut guardian) = Host::with_guardian().await;
    let pid = host.keeper_pid();
    let files = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let guard_pages = || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        maps.lines().filter(|line| line.contains("---p")).count()
    };
    guardian.run(1, json!({"argv": ["true"]})).await;
    let before = files();
    let mut keys = Vec::new();
    for run_id in 2..300 {
        let fields = match run_id % 4 {
            0 => json!({"argv": ["true"], "payload": 1}),
            1 => json!({"argv": ["/no/such"]}),
            2 => json!({"command": "(setsid sleep 0.01 &); (sleep 0.02 &)"}),
            _ => json!({"command": "sleep 0.01; echo x", "leftovers": "leave"}),
        };
        keys.push(guardian.start(run_id, fields).await);
    }
    for key in keys {
        guardian.result(key).await;
    }
    wait_until("the keeper is as it was", SOON, async || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        // One child stays: the writer of the results.
        if files() == before && children.split_ascii_whitespace().count() == 1 {
            Ok(())
        } else {
            Err(format!("{} files instead of {before}, children {children}", files()))
        }
    })
    .await;
    assert!(guardian.list().await.is_empty());
    // A few stacks are kept for the next children.
    assert!(guard_pages() < 50, "{}", guard_pages());
}

#[tokio::test]
async fn of_many_at_once_each_starts_with_its_own_words() {
    let (_host, mut guardian) = Host::with_guardian().await;
    let word = |run_id: i64| format!("{run_id} ").repeat(if run_id % 20 == 0 { 10_000 } else { 1 });
    let mut keys = Vec::new();
    for run_id in 1..=200 {
        let program = if run_id % 3 == 0 { "/no/such" } else { "printf" };
        let fields = json!({"argv": [program, "%s in %s", word(run_id), "dir"], "cwd": "/proc/self",
                            "env": {"PATH": "/no/such:/usr/bin:/bin"}});
        keys.push(guardian.start(run_id, fields).await);
    }
    for key in keys {
        let result = guardian.result(key).await;
        if key.run_id % 3 == 0 {
            assert_eq!(
                result.reason.as_deref(),
                Some("cannot start \"/no/such\": No such file or directory")
            );
        } else {
            assert_eq!(result.exit_code, Some(0));
            assert_eq!(result.stdout, format!("{} in dir", word(key.run_id)));
        }
    }
}

#[tokio::test]
async fn a_second_start_of_the_same_claim_is_not_executed() {
    let (host, mut guardian) = Host::with_guardian().await;
    let file = host.root().join("count");
    let fields = json!({"command": format!("echo x >> {}; sleep 0.05", file.display())});
    let key = guardian.start(1, fields.clone()).await;
    guardian.send(Request::Start(Box::new(order(1, fields.clone())))).await;
    guardian.result(key).await;
    guardian.send(Request::Start(Box::new(order(1, fields)))).await;
    let refused = guardian.refused(key).await;
    assert_eq!(refused.reason, "it has ended and its result was acknowledged");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x\n");
}

#[test]
fn a_second_keeper_is_turned_away() {
    let host = Host::new();
    wait_for_socket(&host);
    let said = run(&["keeper", "--state-dir", host.state()]);
    said.failure(3, &["another keeper holds", "stop it first"]);
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let root = tempfile::tempdir().unwrap();
    let long = root.path().join("x".repeat(100));
    run(&["keeper", "--state-dir", long.to_str().unwrap()]).failure(3, &["socket path too long"]);
    let file = root.path().join("file");
    std::fs::write(&file, "").unwrap();
    run(&["keeper", "--state-dir", file.to_str().unwrap()])
        .failure(3, &["state directory", "cannot be made"]);
}

#[tokio::test]
async fn a_detached_keeper_holds_no_terminal_and_is_found_by_the_next_guardian() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().to_str().unwrap();
    // Reading its output to the end would hang if the keeper had kept it.
    finish(command(&["keeper", "--detach", "--state-dir", state])).success();
    let directory = sisyphus::keeper::StateDirectory::open(state).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sisyphus"));
    let client = sisyphus::keeper::KeeperClient::connect_or_start_with(&directory, 1, program, policy())
        .await
        .unwrap();
    let pid = client.keeper().pid;
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(Some(client.keeper().keeper_id), directory.keeper_id());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    super::gone(pid).await;
}

#[tokio::test]
async fn a_guardian_starts_the_keeper_that_is_not_there() {
    let root = tempfile::tempdir().unwrap();
    let directory = sisyphus::keeper::StateDirectory::open(root.path().join("deep/state")).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_sisyphus"));
    let client = sisyphus::keeper::KeeperClient::connect_or_start_with(&directory, 1, program, policy())
        .await
        .unwrap();
    let pid = client.keeper().pid;
    assert!(directory.keeper_is_alive().unwrap());
    let err = sisyphus::keeper::KeeperClient::connect(&directory, 0).await.unwrap_err();
    assert!(err.to_string().contains("turned epoch 0 away"), "{err}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    super::gone(pid).await;
}

fn wait_for_socket(host: &Host) {
    let begun = std::time::Instant::now();
    while !host.directory.socket().exists() {
        assert!(begun.elapsed() < SOON, "no keeper listens");
        std::thread::yield_now();
    }
}
