//! A host in trouble: it takes no runs, says why in `fleet`, keeps what runs, and comes back by itself.

use std::{fs, os::unix::process::CommandExt, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use sisyphus::dev::account::Account;

use super::host::{Host, at as after, end_of, eventually, run, stop, until};
use crate::support::{self, HungDisk, SmallDisk, TestClient, limit};

/// Heartbeats are short, so that the tests are.
async fn hurry(client: &TestClient) {
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
}

/// Waits until `fleet` shows a problem with this text.
async fn says(client: &TestClient, text: &str) {
    let sql = "select problem from sisyphus.fleet where problem ilike '%' || $1 || '%'";
    let _: String = eventually(client, text, sql, &[&text]).await;
}

/// A job that ends when its file is there; the run, once it is running.
async fn long_job(client: &TestClient, go: &Path) -> i64 {
    let run_id = run(client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    run_id
}

/// The keeper itself, not its writer.
fn keeper(host: &Host) -> Pid {
    host.keepers().into_iter().min().expect("it has one")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guardian_that_starts_on_a_full_disk_takes_over_what_runs() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let mut host = Host::new("web1", &db.url());
    host.keep_state_in(disk.path());
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let go = host.file("go");
    let long = long_job(&client, &go).await;
    let filler = disk.fill();
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    let guardian = host.start(&client, &["--slots", "4"]).await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    drop(filler);
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_state_directory() {
    let Some(disk) = SmallDisk::mount(64) else { return };
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let mut host = Host::new("web1", &db.url());
    host.keep_state_in(disk.path());
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let go = host.file("go");
    let long = long_job(&client, &go).await;
    let filler = disk.fill();
    says(&client, "0 MiB of disk are left").await;
    let next = run(&client, "next", "echo out").await;
    // What runs goes on, and its outcome has its place.
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    let waiting = "exists (select from sisyphus.run where job_id = (select job_id from sisyphus.job where name = 'next')
                                                      and state = 'pending')";
    until(&client, "the next one waits", waiting).await;
    drop(filler);
    assert_eq!(end_of(&client, next).await, "succeeded");
    until(&client, "all is well", "exists (select from sisyphus.fleet where problem is null)").await;
    let ended = stop(guardian);
    assert!(ended.stderr.contains("this host takes runs again"), "{}", ended.stderr);
    drop(host);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_open_files() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let go = host.file("go");
    let long = long_job(&client, &go).await;
    let keeper = keeper(&host);
    let before = limit(keeper, "nofile", "8");
    let next = run(&client, "next", "echo out").await;
    says(&client, "too many open files").await;
    limit(keeper, "nofile", &before);
    assert_eq!(end_of(&client, next).await, "succeeded");
    let tries: i32 = client
        .query_one("select attempt from sisyphus.history where run_id = $1", &[&next])
        .await
        .unwrap()
        .get(0);
    assert_eq!(tries, 1, "given back unstarted, it was no attempt");
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    // The guardian itself: it cannot connect again as long as it has no file left for that.
    let open = fs::read_dir(format!("/proc/{}/fd", guardian.pid())).unwrap().count();
    let before = limit(guardian.pid(), "nofile", &open.saturating_sub(3).to_string());
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and application_name like 'sisyphus:%'";
    client.query(cut, &[]).await.unwrap();
    let gone = "not exists (select from pg_stat_activity
                             where datname = current_database() and application_name like 'sisyphus:control:%')";
    until(&client, "it is cut off", gone).await;
    let last = run(&client, "last", "echo out").await;
    limit(guardian.pid(), "nofile", &before);
    assert_eq!(end_of(&client, last).await, "succeeded");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_processes() {
    // Root may have any number of them: guardian and keeper are the user of the server, who has many.
    let account = Account::choose().unwrap();
    let user = User::from_name(account.name()).unwrap().expect("it has a name");
    if !account.drops_root() || account.barrier(Path::new(env!("CARGO_BIN_EXE_sisyphus"))).is_some() {
        eprintln!("SKIPPED: only root can start the guardian as another user, who must reach the program");
        return;
    }
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let mut host = Host::new("web1", &db.url());
    let home = host.file("home");
    fs::create_dir(&home).unwrap();
    account.own(&home).unwrap();
    host.keep_state_in(&home);
    let mut command = host.command(&["--slots", "4"]);
    // The policy of the tests is that of a keeper of root.
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env_remove("SISYPHUS_POLICY");
    let guardian = support::spawn(command);
    until(&client, "it is registered", "exists (select from sisyphus.guardian)").await;
    let go = home.join("go");
    let long = long_job(&client, &go).await;
    let keeper = keeper(&host);
    let before = limit(keeper, "nproc", "1");
    let next = run(&client, "next", "echo out").await;
    says(&client, "cannot make a process").await;
    limit(keeper, "nproc", &before);
    assert_eq!(end_of(&client, next).await, "succeeded");
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_hangs() {
    hangs_with_a_payload_of(1).await;
}

/// The guardian waits for room in the socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_hangs_with_more_unread_than_its_socket_holds() {
    hangs_with_a_payload_of(1_000_000).await;
}

async fn hangs_with_a_payload_of(length: i32) {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "2"]).await;
    let keeper = keeper(&host);
    kill(keeper, Signal::SIGSTOP).unwrap();
    let first = "select sisyphus.submit('echo out', payload => to_jsonb(repeat('x', $1)))";
    let first: i64 = client.query_one(first, &[&length]).await.unwrap().get(0);
    says(&client, "the keeper has not started a run").await;
    let second = run(&client, "second", "echo out").await;
    let waiting = "1 = (select count(*) from sisyphus.run where state = 'pending')";
    until(&client, "the second waits", waiting).await;
    kill(keeper, Signal::SIGCONT).unwrap();
    assert_eq!(end_of(&client, first).await, "succeeded");
    assert_eq!(end_of(&client, second).await, "succeeded");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_expires_on_its_way_to_the_keeper_does_not_make_the_host_unfit() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "2"]).await;
    let keeper = keeper(&host);
    kill(keeper, Signal::SIGSTOP).unwrap();
    client.query("select sisyphus.schedule('short', null, 'true', ttl => '1 s')", &[]).await.unwrap();
    let run_id: i64 = client.query_one("select sisyphus.run_now('short')", &[]).await.unwrap().get(0);
    until(&client, "it is claimed", "exists (select from sisyphus.run where state = 'claimed')").await;
    until(
        &client,
        "it has expired",
        "exists (select from sisyphus.run where expires_at < clock_timestamp())",
    )
    .await;
    kill(keeper, Signal::SIGCONT).unwrap();
    assert_eq!(end_of(&client, run_id).await, "expired");
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    let ended = stop(guardian);
    assert!(!ended.stderr.contains("this host takes no runs"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_hangs_before_its_program_keeps_no_other_from_the_host() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let at = host.file("mount");
    let Some(_hung) = HungDisk::mount(&at) else { return };
    let guardian = host.start(&client, &["--slots", "2"]).await;
    let sql = "select sisyphus.schedule('hangs', null, 'true', cwd => $1)";
    client.query(sql, &[&at.to_str().unwrap()]).await.unwrap();
    client.query("select sisyphus.run_now('hangs')", &[]).await.unwrap();
    until(&client, "it is claimed", "exists (select from sisyphus.run where state = 'claimed')").await;
    // Due when a keeper that has hung as long would be given up.
    client.query(&format!("select sisyphus.schedule('later', {}, 'true')", after(12)), &[]).await.unwrap();
    until(&client, "another one has run", "exists (select from sisyphus.history where job = 'later')").await;
    let sound = "exists (select from sisyphus.fleet where problem is null)";
    until(&client, "the host is sound", sound).await;
    until(&client, "the first one hangs", "exists (select from sisyphus.run where state = 'claimed')").await;
    // It has a start without an answer, for which it would wait.
    drop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_is_gone_and_cannot_be_started() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "2"]).await;
    let results = host.state_dir().join("results");
    assert!(results.exists(), "{:?}", fs::read_dir(host.state_dir()).unwrap().collect::<Vec<_>>());
    let aside = host.file("aside");
    for keeper in host.keepers() {
        kill(keeper, Signal::SIGKILL).ok();
    }
    // In the place of its results stands a file: a keeper that starts ends at once.
    fs::rename(&results, &aside).unwrap();
    fs::write(&results, "").unwrap();
    says(&client, "the keeper is gone").await;
    let next = run(&client, "next", "echo out").await;
    fs::remove_file(&results).unwrap();
    fs::rename(&aside, &results).unwrap();
    assert_eq!(end_of(&client, next).await, "succeeded");
    until(&client, "all is well", "exists (select from sisyphus.fleet where problem is null)").await;
    stop(guardian);
}

/// The most memory that a process has had, in kB.
fn peak(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test]
async fn ten_gigabytes_of_output() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let output = |bytes: u64| format!("echo first; head -c {bytes} /dev/zero; echo last");
    // What a run of that kind needs anyhow.
    let usual = run(&client, "usual", &output(1_000_000)).await;
    assert_eq!(end_of(&client, usual).await, "succeeded");
    let everybody: Vec<Pid> = host.keepers().into_iter().chain([guardian.pid()]).collect();
    let before: Vec<u64> = everybody.iter().map(|pid| peak(*pid)).collect();
    let much = run(&client, "much", &output(10_000_000_000)).await;
    assert_eq!(end_of(&client, much).await, "succeeded");
    let sql = "select stdout like E'first\\n%bytes cut%last\\n', octet_length(stdout) from sisyphus.history where run_id = $1";
    let row = client.query_one(sql, &[&much]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert!(row.get::<_, i32>(1) <= 3 * 65536, "a character for each of the bytes that are kept");
    for (pid, before) in everybody.iter().zip(before) {
        let grown = peak(*pid).saturating_sub(before);
        assert!(grown < 2048, "process {pid} has needed {grown} kB more");
    }
    stop(guardian);
}
