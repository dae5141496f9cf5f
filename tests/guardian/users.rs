//! Guardian, keeper and jobs as the users that they are installed for. Tried where the tests run as root.

use std::{
    fs,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt, chown},
        process::CommandExt,
    },
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use super::host::{Host, SOON, end_of, eventually, run, stop, until};
use crate::support::{self, Proxy, TestClient, wait_until};

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root becomes another user");
    }
    geteuid().is_root()
}

/// A guardian that nobody runs, in a state directory of its own.
fn guardian_of_nobody(host: &Host, proxy: &Proxy, database: &str, args: &[&str]) -> Command {
    let (program, state_dir) = (host.file("sisyphus"), host.state_dir());
    if !program.exists() {
        // Where the tests were built nobody may have no way.
        fs::copy(env!("CARGO_BIN_EXE_sisyphus"), &program).unwrap();
        fs::DirBuilder::new().mode(0o700).create(&state_dir).unwrap();
        chown(&state_dir, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let all = [&["guardian", "--host", host.name, "--state-dir", state_dir.to_str().unwrap()], args].concat();
    let mut command = support::command_of(&program, &all);
    command.env_remove("SISYPHUS_POLICY").env("SISYPHUS_DATABASE_URL", proxy.url(database));
    command.current_dir("/").uid(NOBODY).gid(NOBODY);
    command
}

async fn stdout_of(client: &TestClient, run_id: i64) -> String {
    let sql = "select stdout from sisyphus.history where run_id = $1 and is_final";
    eventually(client, "it has ended", sql, &[&run_id]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_the_same_user_cannot_look_into_guardian_and_keeper() {
    if !is_root() {
        return;
    }
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", "");
    let guardian = host.start_as(&client, guardian_of_nobody(&host, &proxy, db.name(), &[])).await;
    let of_guardian = guardian.pid();
    // The leftover is found by its environment, which the keeper has to read as nobody.
    let command = format!(
        "for file in environ maps mem fd/0; do for pid in {of_guardian} $PPID; do
             head -c 1 /proc/$pid/$file > /dev/null 2>&1 && echo $pid/$file
         done; done
         grep -zc SISYPHUS_JOB /proc/$$/environ; id -u
         setsid sleep 600 > /dev/null 2>&1 & echo $!"
    );
    let run_id = run(&client, "curious", &command).await;
    let stdout = stdout_of(&client, run_id).await;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["1", "65534"], "{stdout}");
    let leftover = Pid::from_raw(lines[2].parse().unwrap());
    wait_until("what it left is ended", SOON, async || {
        if kill(leftover, None::<Signal>).is_err() { Ok(()) } else { Err("it lives".to_owned()) }
    })
    .await;
    let status = fs::read_to_string(format!("/proc/{of_guardian}/status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_of_root_obeys_the_guardian_of_its_user_and_its_policy_alone() {
    if !is_root() {
        return;
    }
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", "");
    let (keeper_dir, policy) = (host.file("keeper"), host.file("policy.toml"));
    fs::write(&policy, "users = [\"daemon\"]\nshell = true\n").unwrap();
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    let (keeper_path, policy) = (keeper_dir.to_str().unwrap(), policy.to_str().unwrap());
    let words = ["keeper", "--state-dir", keeper_path, "--policy", policy, "--guardian-user", "65534"];
    let keeper = support::spawn(support::command(&words));
    let start = || guardian_of_nobody(&host, &proxy, db.name(), &["--keeper-dir", keeper_path]);
    let guardian = host.start_as(&client, start()).await;

    let go = host.file("go");
    let long =
        run(&client, "long", &format!("id -un; until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    let guardian = host.start_as(&client, start()).await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    assert_eq!(stdout_of(&client, long).await, "daemon\n");

    let of_guardian = guardian.pid();
    let command = format!(
        "echo '{{\"a\": 1}}' > $SISYPHUS_RESULT_FILE
         cat /proc/{of_guardian}/environ; test -w {keeper_path}/keeper.sock && echo speaks to the keeper
         ls {keeper_path} {keeper_path}/results {}; true",
        host.state_dir().display()
    );
    let run_id = run(&client, "curious", &command).await;
    assert_eq!(stdout_of(&client, run_id).await, "");
    let sql = "select 1 where (select result ->> 'a' from sisyphus.history where job = 'curious') = '1'";
    let _: i32 = eventually(&client, "it has a result", sql, &[]).await;
    let sql = "select sisyphus.submit('id', run_as => 'root')";
    let refused: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, refused).await, "refused");
    stop(guardian);
    keeper.signal(Signal::SIGTERM);
    let said = keeper.wait();
    assert_eq!(said.code(), Some(0), "{}", said.stderr);
}

#[test]
fn a_guardian_of_another_user_needs_a_keeper_of_root() {
    if !is_root() {
        return;
    }
    let host = Host::new("web1", "");
    let (program, dir) = (host.file("sisyphus"), host.state_dir());
    fs::copy(env!("CARGO_BIN_EXE_sisyphus"), &program).unwrap();
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
    let words = ["keeper", "--state-dir", dir.to_str().unwrap(), "--guardian-user", "daemon"];
    let mut command = support::command_of(&program, &words);
    command.env_remove("SISYPHUS_POLICY").uid(NOBODY).gid(NOBODY);
    support::finish(command).failure(3, &["\"daemon\" of the guardian is not the keeper's"]);
    let own = host.file("own");
    let words = ["keeper", "--state-dir", own.to_str().unwrap(), "--guardian-user", "no-such-user"];
    support::run(&words).failure(3, &["\"no-such-user\" of the guardian does not exist"]);
}
