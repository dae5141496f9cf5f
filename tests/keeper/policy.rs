//! As whom jobs run, and what the host's owner allows. Another user is tried where the tests run as root.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::{sys::signal::Signal, unistd::geteuid};
use serde_json::json;
use sisyphus::keeper::protocol::EndedBy;

use super::{Guardian, Host, SOON};
use crate::support::{command, finish, wait_until};

/// A host whose keeper has this policy.
async fn with_policy(text: &str) -> (Host, Guardian) {
    let mut host = Host::unstarted();
    let file = written(&host, text);
    host.start_keeper_with(&["--cgroup", "none", "--policy", file.to_str().unwrap()]);
    let guardian = host.guardian(1).await;
    (host, guardian)
}

fn written(host: &Host, text: &str) -> PathBuf {
    // Jobs of other users have to pass.
    open_to(host.root(), 0o755);
    let file = host.root().join("policy.toml");
    fs::write(&file, text).unwrap();
    open_to(&file, 0o644);
    file
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root becomes another user");
    }
    geteuid().is_root()
}

#[tokio::test]
async fn a_job_runs_as_its_user_with_groups_home_and_mask_and_nothing_of_roots() {
    if !is_root() {
        return;
    }
    let (host, mut guardian) = with_policy("users = [\"daemon\", \"www-data\"]\nshell = true").await;
    let command = "id -un; id -Gn; umask; pwd; echo $HOME $LOGNAME; grep -E 'Cap(Eff|Prm|Inh|Amb)' /proc/self/status; \
                   echo '{\"a\": 1}' > $SISYPHUS_RESULT_FILE; stat -c %U:%a $(dirname $SISYPHUS_RESULT_FILE)";
    let result = guardian.run(1, json!({"command": command, "run_as": "www-data"})).await;
    let lines: Vec<&str> = result.stdout.lines().collect();
    assert_eq!(lines[..3], ["www-data", "www-data", "0022"], "{result:?}");
    assert_eq!(lines[4], "/var/www www-data");
    for capabilities in &lines[5..9] {
        assert!(capabilities.ends_with("\t0000000000000000"), "{capabilities}");
    }
    assert_eq!(lines[9], "www-data:700");
    assert_eq!(result.result.unwrap().get(), "{\"a\": 1}");
    let result = guardian.run(2, json!({"command": "id -un; cat /etc/shadow"})).await;
    assert_eq!(result.stdout, "daemon\n", "the first of the list, for a job that names none");
    assert!(result.stderr.contains("Permission denied"), "{}", result.stderr);
    let results = host.directory.path().join("results");
    let result = guardian.run(3, json!({"argv": ["ls", results.to_str().unwrap()]})).await;
    assert_ne!(result.exit_code, Some(0), "what others have said is none of its business");
    let result = guardian.run(4, json!({"argv": ["true"], "cwd": "/root"})).await;
    assert_eq!(result.reason.as_deref(), Some("cannot enter \"/root\": Permission denied"));
}

#[tokio::test]
async fn who_forges_the_result_of_another_user_is_not_believed() {
    if !is_root() {
        return;
    }
    let (_host, mut guardian) = with_policy("users = [\"daemon\"]\nshell = true").await;
    // A hard link to somebody else's file, or a link.
    let command = "ln /etc/hostname $SISYPHUS_RESULT_FILE || ln -s /etc/shadow $SISYPHUS_RESULT_FILE";
    let result = guardian.run(1, json!({"command": command})).await;
    assert!(result.result.is_none() && result.reason.unwrap().starts_with("result file ignored: "));
}

#[tokio::test]
async fn an_unknown_user_is_a_failure_with_the_reason_and_delays_nobody() {
    if !is_root() {
        return;
    }
    let (_host, mut guardian) = with_policy("users = [\"no-such-user\", \"root\"]\nshell = true").await;
    for run_id in 1..=3 {
        let result = guardian.run(run_id, json!({"argv": ["true"]})).await;
        assert_eq!(result.ended_by, Some(EndedBy::Spawn));
        assert_eq!(result.reason.as_deref(), Some("user \"no-such-user\" does not exist"));
    }
    assert_eq!(guardian.run(4, json!({"argv": ["true"], "run_as": "root"})).await.exit_code, Some(0));
}

#[tokio::test]
async fn root_without_a_policy_runs_jobs_as_the_job_user_alone() {
    if !is_root() {
        return;
    }
    let mut host = Host::unstarted();
    let mut keeper = command(&["keeper", "--cgroup", "none", "--state-dir", host.state()]);
    keeper.env_remove("SISYPHUS_POLICY");
    host.keeper = Some(crate::support::spawn(keeper));
    let mut guardian = host.guardian(1).await;
    let refused = guardian.run(1, json!({"argv": ["true"], "run_as": "root"})).await;
    assert_eq!(refused.ended_by, Some(EndedBy::Policy));
    assert_eq!(refused.reason.as_deref(), Some("the policy of this host does not allow user \"root\""));
    let result = guardian.run(2, json!({"argv": ["id", "-un"]})).await;
    match result.exit_code {
        Some(_) => assert_eq!(result.stdout, "sisyphus-job\n"),
        None => assert_eq!(result.reason.as_deref(), Some("user \"sisyphus-job\" does not exist")),
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_says_why() {
    let own = nix::unistd::User::from_uid(geteuid()).unwrap().unwrap().name;
    let text = format!(
        "users = [{own:?}]\ncommands = [\"/usr/bin/env\"]\nowners = [\"etl\"]\n[limits]\nopen_files = 99\n"
    );
    let (_host, mut guardian) = with_policy(&text).await;
    for (run_id, (fields, what)) in (1..).zip([
        (json!({"command": "true", "owner": "etl"}), "shell commands (give argv)"),
        (json!({"argv": ["/usr/bin/true"], "owner": "etl"}), "program \"/usr/bin/true\""),
        (json!({"argv": ["/usr/bin/env"]}), "jobs of role \"\""),
        (
            json!({"argv": ["/usr/bin/env"], "owner": "etl", "env": {"LD_PRELOAD": "x"}}),
            "variable \"LD_PRELOAD\"",
        ),
        (
            json!({"argv": ["/usr/bin/env"], "owner": "etl", "limits": {"open_files": 100}}),
            "limit \"open_files\"",
        ),
        (json!({"argv": ["/usr/bin/env"], "owner": "etl", "run_as": "bin"}), "user \"bin\""),
    ]) {
        let result = guardian.run(run_id, fields).await;
        assert_eq!((result.ended_by, result.started), (Some(EndedBy::Policy), None));
        let reason = result.reason.unwrap();
        assert!(
            reason.starts_with("the policy of this host does not allow ") && reason.contains(what),
            "{reason}"
        );
    }
    let fields = json!({"argv": ["/usr/bin/env"], "owner": "etl"});
    assert_eq!(guardian.run(100, fields).await.exit_code, Some(0));
}

#[tokio::test]
async fn a_program_that_others_can_write_is_refused_and_the_policy_is_read_again_on_hangup() {
    let own = nix::unistd::User::from_uid(geteuid()).unwrap().unwrap().name;
    let mut host = Host::unstarted();
    let program = host.root().join("program");
    fs::copy("/usr/bin/true", &program).unwrap();
    open_to(&program, 0o775);
    let text = format!("users = [{own:?}]\ncommands = [{program:?}]\n");
    let file = written(&host, &text);
    host.start_keeper_with(&["--cgroup", "none", "--policy", file.to_str().unwrap()]);
    let mut guardian = host.guardian(1).await;
    let fields = json!({"argv": [program]});
    let result = guardian.run(1, fields.clone()).await;
    assert_eq!(result.ended_by, Some(EndedBy::Policy));
    assert!(result.reason.as_ref().unwrap().contains("is writable by others"), "{result:?}");
    open_to(&program, 0o755);
    assert_eq!(guardian.run(2, fields.clone()).await.exit_code, Some(0));

    // One that is not right leaves the old one in force.
    fs::write(&file, "user = []").unwrap();
    host.signal(Signal::SIGHUP);
    assert_eq!(guardian.run(3, fields.clone()).await.exit_code, Some(0));
    fs::write(&file, format!("{text}owners = [\"etl\"]\n")).unwrap();
    host.signal(Signal::SIGHUP);
    let mut run_id = 4;
    loop {
        let result = guardian.run(run_id, fields.clone()).await;
        if result.ended_by == Some(EndedBy::Policy) {
            break;
        }
        run_id += 1;
        assert!(run_id < 1000, "the policy was not read again");
    }
}

#[test]
fn a_policy_that_is_missing_wrong_or_not_roots_own_is_refused() {
    let host = Host::unstarted();
    let run = |file: &Path| {
        finish(command(&["keeper", "--state-dir", host.state(), "--policy", file.to_str().unwrap()]))
    };
    run(&host.root().join("none")).failure(3, &["policy", "none\" cannot be read", "No such file"]);
    let file = written(&host, "user = [\"a\"]\n");
    run(&file).failure(3, &["policy", "is not right", "unknown field `user`", "expected one of"]);
    fs::write(&file, "users = []\n").unwrap();
    run(&file).failure(3, &["allows no user", "leave it out"]);
    fs::write(&file, "commands = [\"ls\"]\n").unwrap();
    run(&file).failure(3, &["names a command by no absolute path"]);
    open_to(&file, 0o666);
    run(&file).failure(3, &["is not to be trusted", "writable by others", "belong to root"]);
}

#[tokio::test]
async fn a_run_that_waits_for_its_user_can_be_ended() {
    if !is_root() {
        return;
    }
    let (host, mut guardian) = with_policy("users = [\"daemon\", \"root\"]\nshell = true").await;
    let pid = host.keeper_pid();
    let key = guardian.start(1, json!({"argv": ["sleep", "1000"], "run_as": "daemon"})).await;
    guardian.terminate(key, "by hand").await;
    let result = guardian.result(key).await;
    assert_eq!(result.ended_by, Some(EndedBy::Terminate));
    wait_until("no child but the writer is left", SOON, async || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        if children.split_ascii_whitespace().count() == 1 { Ok(()) } else { Err(children) }
    })
    .await;
}
