//! Another build of the binary takes over a host whose jobs run: old and new keeper side by side.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::host::{Host, SOON, end_of, eventually, run, stop, until};
use crate::support::{self, TestClient, wait_until};

/// Starts a job that says which keeper it is of and ends when the file is there.
async fn long(client: &TestClient, name: &str, go: &Path) -> i64 {
    let command =
        format!("echo $SISYPHUS_KEEPER; until [ -e {} ]; do sleep 0.02; done; echo done", go.display());
    let run_id = run(client, name, &command).await;
    let running = format!("exists (select from sisyphus.run where run_id = {run_id} and state = 'running')");
    until(client, "it runs", &running).await;
    run_id
}

async fn keeper_of(client: &TestClient, run_id: i64) -> String {
    let sql = "select stdout from sisyphus.history where run_id = $1 and is_final and attempt = 1";
    let stdout: String = client.query_one(sql, &[&run_id]).await.unwrap().get(0);
    stdout.lines().next().unwrap_or_default().to_owned()
}

/// Waits until nothing but these processes are keepers of the host.
async fn only(host: &Host, keepers: &[Pid]) {
    wait_until("the old keeper has left", SOON, async || {
        let mut left = host.keepers();
        left.retain(|pid| !keepers.contains(pid));
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

fn without(all: Vec<Pid>, known: &[Pid]) -> Vec<Pid> {
    all.into_iter().filter(|pid| !known.contains(pid)).collect()
}

#[tokio::test]
async fn a_newer_guardian_starts_its_own_keeper_and_the_old_one_leaves_with_its_last_job() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let newer = host.other_build();
    let slots = ["--slots", "8"];
    let guardian = host.start(&client, &slots).await;
    let go = host.file("go");
    let first = long(&client, "first", &go).await;
    let doomed = long(&client, "doomed", &host.file("never")).await;
    client
        .query("select sisyphus.schedule('limited', null, 'sleep 600', max_runtime => '5 s')", &[])
        .await
        .unwrap();
    let limited: i64 = client.query_one("select sisyphus.run_now('limited')", &[]).await.unwrap().get(0);
    until(&client, "all run", "3 = (select count(*) from sisyphus.run where state = 'running')").await;
    let old = host.keepers();
    stop(guardian);

    let guardian = host.start_as(&client, host.command_of(&newer, &slots)).await;
    let new = without(host.keepers(), &old);
    assert_eq!((old.len(), new.len()), (2, 2), "a keeper and its writer each");
    let second = long(&client, "second", &go).await;
    let cut = "select sisyphus.terminate($1, reason => 'enough')";
    client.query(cut, &[&doomed]).await.unwrap();
    assert_eq!(end_of(&client, doomed).await, "terminated");

    // Killed in the middle of it: the next one has the jobs of both.
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    let guardian = host.start_as(&client, host.command_of(&newer, &slots)).await;
    let adopted = "2 <= (select count(*) from sisyphus.run r join sisyphus.guardian g using (guardian_id)
                          where g.ended_at is null and r.state = 'running' and g.keepers is not null)";
    until(&client, "both are adopted", adopted).await;
    assert_eq!(without(host.keepers(), &old), new, "no further keeper");
    let keepers = "select cardinality(keepers) from sisyphus.guardian where ended_at is null";
    assert_eq!(client.query_one(keepers, &[]).await.unwrap().get::<_, i32>(0), 2);
    assert_eq!(end_of(&client, limited).await, "timed_out");

    fs::write(&go, "").unwrap();
    assert_eq!(
        (end_of(&client, first).await, end_of(&client, second).await),
        ("succeeded".into(), "succeeded".into())
    );
    assert_ne!(keeper_of(&client, first).await, keeper_of(&client, second).await);
    only(&host, &new).await;
    let third = run(&client, "third", "echo $SISYPHUS_KEEPER").await;
    assert_eq!(end_of(&client, third).await, "succeeded");
    assert_eq!(keeper_of(&client, third).await, keeper_of(&client, second).await);
    let more = "select count(*) from sisyphus.history where attempt > 1 or not is_final";
    assert_eq!(client.query_one(more, &[]).await.unwrap().get::<_, i64>(0), 0);
    let said = stop(guardian).stderr;
    assert!(said.contains("an older keeper has left"), "{said}");
    assert!(!said.contains("the keeper is gone"), "{said}");
}

#[tokio::test]
async fn after_two_upgrades_and_a_rollback_a_keeper_that_dies_loses_its_own_jobs_alone() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let newer = host.other_build();
    let go = host.file("go");
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let first = long(&client, "first", &go).await;
    let oldest = host.keepers();
    stop(guardian);
    let guardian = host.start_as(&client, host.command_of(&newer, &["--slots", "8"])).await;
    let second = long(&client, "second", &go).await;
    let middle = without(host.keepers(), &oldest);
    stop(guardian);
    // The program of the oldest keeper, which has retired.
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let third = long(&client, "third", &go).await;
    let newest = without(without(host.keepers(), &oldest), &middle);
    assert_eq!((oldest.len(), middle.len(), newest.len()), (2, 2, 2));

    let sql = "select pid from sisyphus.run where run_id = $1";
    let pid: i32 = eventually(&client, "it runs", sql, &[&second]).await;
    for keeper in middle {
        kill(keeper, Signal::SIGKILL).ok();
    }
    assert_eq!(end_of(&client, second).await, "lost");
    assert!(!Path::new(&format!("/proc/{pid}/cwd")).exists(), "nothing of it is left running");
    fs::write(&go, "").unwrap();
    for run_id in [first, third] {
        assert_eq!(end_of(&client, run_id).await, "succeeded");
    }
    only(&host, &newest).await;
    stop(guardian);
}

#[tokio::test]
async fn results_that_dead_keepers_have_stored_are_delivered_from_each_place() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let newer = host.other_build();
    let go = host.file("go");
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let first = long(&client, "first", &go).await;
    stop(guardian);
    let guardian = host.start_as(&client, host.command_of(&newer, &["--slots", "8"])).await;
    let second = long(&client, "second", &go).await;
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    fs::write(&go, "").unwrap();
    for (place, run_id) in [(host.state_dir(), first), (host.state_dir().join("keeper.1"), second)] {
        wait_until("its result is stored", SOON, async || {
            let files = fs::read_dir(place.join("results")).unwrap().flatten();
            let text: String = files.map(|it| fs::read_to_string(it.path()).unwrap_or_default()).collect();
            if text.contains(&format!("\"run_id\":{run_id},")) { Ok(()) } else { Err(text) }
        })
        .await;
    }
    for keeper in host.keepers() {
        kill(keeper, Signal::SIGKILL).ok();
    }
    let guardian = host.start_as(&client, host.command_of(&newer, &["--slots", "8"])).await;
    for run_id in [first, second] {
        assert_eq!(end_of(&client, run_id).await, "succeeded");
        keeper_of(&client, run_id).await;
    }
    wait_until("one keeper is left", SOON, async || {
        let left = host.keepers().len();
        if left == 2 { Ok(()) } else { Err(format!("{left} processes")) }
    })
    .await;
    stop(guardian);
}

#[tokio::test]
async fn a_keeper_of_a_unit_is_left_to_it_and_makes_room_for_a_newer_one_when_it_has_no_jobs() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let older = host.other_build();
    let keeper_dir = host.file("keeper");
    let unit = |program: &Path| {
        support::spawn(support::command_of(program, &["keeper", "--state-dir", keeper_dir.to_str().unwrap()]))
    };
    let guardian = host.spawn(&["--keeper-dir", keeper_dir.to_str().unwrap()]);
    let keeper = unit(&older);
    let go = host.file("go");
    let first = long(&client, "first", &go).await;
    // More than it takes to ask.
    let long_enough =
        "exists (select from sisyphus.run where started_at < clock_timestamp() - interval '6 s')";
    until(&client, "it is not asked while it has jobs", long_enough).await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, first).await, "succeeded");
    let left = keeper.wait();
    assert_eq!(left.code(), Some(0), "{}", left.stderr);
    // A unit that starts the same again has no newer one, and is not asked for ever.
    let keeper = unit(&older);
    let same = run(&client, "same", "true").await;
    assert_eq!(end_of(&client, same).await, "succeeded");
    let long_enough = format!(
        "exists (select from sisyphus.history
                  where run_id = {same} and finished_at < clock_timestamp() - interval '6 s')"
    );
    until(&client, "it is not asked again", &long_enough).await;
    assert!(fs::exists(format!("/proc/{}/exe", keeper.pid())).unwrap(), "it has left");
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.wait().code(), Some(0));
    let keeper = unit(Path::new(env!("CARGO_BIN_EXE_sisyphus")));
    let second = run(&client, "second", "true").await;
    assert_eq!(end_of(&client, second).await, "succeeded");
    assert!(host.keepers().is_empty(), "the guardian has started none");
    let said = stop(guardian).stderr;
    assert_eq!(said.matches("left for a newer one").count(), 1, "{said}");
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.wait().code(), Some(0));
}

#[tokio::test]
async fn guardian_and_the_keeper_of_a_unit_may_share_a_directory() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let state_dir = host.state_dir();
    let keeper = support::spawn(support::command(&["keeper", "--state-dir", state_dir.to_str().unwrap()]));
    let other_name = host.file("link");
    std::os::unix::fs::symlink(&state_dir, &other_name).unwrap();
    let guardian = host.start(&client, &["--keeper-dir", other_name.to_str().unwrap()]).await;
    let run_id = run(&client, "a", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let said = stop(guardian).stderr;
    assert_eq!(said.matches("connected to the keeper").count(), 1, "{said}");
    keeper.signal(Signal::SIGTERM);
    assert_eq!(keeper.wait().code(), Some(0));
}

#[tokio::test]
async fn where_no_newer_keeper_can_be_started_the_older_one_goes_on() {
    let db = support::db().await;
    let client = db.client().await;
    let mut host = Host::new("web1", &db.url());
    // There is room for the name of its socket, but not for that of a second one.
    let room = 107 - "/state/keeper.sock".len() - host.file("").as_os_str().len();
    let deep = host.file(&"d".repeat(room));
    fs::create_dir(&deep).unwrap();
    host.keep_state_in(&deep);
    let newer = host.other_build();
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let go = host.file("go");
    let first = long(&client, "first", &go).await;
    stop(guardian);
    let guardian = host.start_as(&client, host.command_of(&newer, &["--slots", "8"])).await;
    let second = run(&client, "second", "echo $SISYPHUS_KEEPER").await;
    assert_eq!(end_of(&client, second).await, "succeeded");
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, first).await, "succeeded");
    assert_eq!(keeper_of(&client, first).await, keeper_of(&client, second).await);
    let said = stop(guardian).stderr;
    assert!(
        said.contains("the keeper stays the older one") && said.contains("socket path too long"),
        "{said}"
    );
}
