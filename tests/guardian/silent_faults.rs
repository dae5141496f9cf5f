//! A keeper that is alive and does not answer: the host goes on without it, and what it has is not given up.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::host::{Host, end_of, eventually, run, stop, until};
use crate::support::{self, Spawned, TestClient, TestDb};

const SLOTS: [&str; 2] = ["--slots", "4"];

/// Leases are short: what is not heard of is given up while the test waits.
async fn hurry(client: &TestClient) {
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s"), ("lease_timeout", "10 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
}

fn signal(keepers: &[Pid], signal: Signal) {
    for keeper in keepers {
        // A writer ends by itself with its keeper.
        kill(*keeper, signal).ok();
    }
}

/// A job that ends when its file is there, once it runs.
async fn long(client: &TestClient, name: &str, go: &Path) -> i64 {
    let run_id = run(client, name, &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    let running = format!("exists (select from sisyphus.run where run_id = {run_id} and state = 'running')");
    until(client, "it runs", &running).await;
    run_id
}

async fn says(client: &TestClient, text: &str) {
    let sql = "select problem from sisyphus.fleet where problem like '%' || $1 || '%'";
    let _: String = eventually(client, text, sql, &[&text]).await;
}

/// An older keeper with two jobs, which is stopped, and a newer guardian.
struct Upgraded {
    host: Host,
    old: Vec<Pid>,
    guardian: Spawned,
    runs: [i64; 2],
}

impl Upgraded {
    async fn with_a_stopped_keeper(db: &TestDb, client: &TestClient) -> Self {
        hurry(client).await;
        let host = Host::new("web1", &db.url());
        let guardian = host.start(client, &SLOTS).await;
        let runs = [long(client, "one", &host.file("go")).await, long(client, "two", &host.file("go")).await];
        let old = host.keepers();
        signal(&old, Signal::SIGSTOP);
        guardian.signal(Signal::SIGKILL);
        guardian.wait();
        let guardian = host.start_as(client, host.command_of(&host.other_build(), &SLOTS)).await;
        Self { host, old, guardian, runs }
    }
}

#[tokio::test]
async fn an_older_keeper_that_hangs_keeps_its_runs_and_delays_no_other() {
    let db = support::db().await;
    let client = db.client().await;
    let Upgraded { host, old, guardian, runs: [one, two] } =
        Upgraded::with_a_stopped_keeper(&db, &client).await;
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    says(&client, "does not answer: nobody ends or reports its runs (2)").await;
    // Longer than the lease within which it would have been given up.
    let longer = format!(
        "exists (select from sisyphus.history
                  where run_id = {next} and finished_at < clock_timestamp() - interval '11 s')"
    );
    until(&client, "the lease is over", &longer).await;
    let cut = "select sisyphus.terminate($1, reason => 'enough')";
    client.query(cut, &[&two]).await.unwrap();
    until(&client, "the guardian has heard of it", "not exists (select from sisyphus.request)").await;
    fs::write(host.file("go"), "").unwrap();
    let third = run(&client, "third", "true").await;
    assert_eq!(end_of(&client, third).await, "succeeded");
    let live = "2 = (select count(*) from sisyphus.run where state = 'running')";
    until(&client, "it has them", live).await;

    signal(&old, Signal::SIGCONT);
    assert_eq!(end_of(&client, one).await, "succeeded");
    end_of(&client, two).await;
    until(&client, "all is well", "exists (select from sisyphus.fleet where problem is null)").await;
    let lost = "select count(*) from sisyphus.history where state = 'lost' or attempt > 1";
    assert_eq!(client.query_one(lost, &[]).await.unwrap().get::<_, i64>(0), 0);
    let said = stop(guardian).stderr;
    assert!(said.contains("a keeper is alive and does not answer"), "{said}");
}

#[tokio::test]
async fn a_termination_reaches_a_keeper_that_hung_when_it_was_asked_for() {
    let db = support::db().await;
    let client = db.client().await;
    let Upgraded { old, guardian, runs: [one, two], host } =
        Upgraded::with_a_stopped_keeper(&db, &client).await;
    let cut = "select sisyphus.terminate($1, reason => 'enough')";
    client.query(cut, &[&one]).await.unwrap();
    until(&client, "the guardian has heard of it", "not exists (select from sisyphus.request)").await;
    signal(&old, Signal::SIGCONT);
    assert_eq!(end_of(&client, one).await, "terminated");
    fs::write(host.file("go"), "").unwrap();
    assert_eq!(end_of(&client, two).await, "succeeded");
    stop(guardian);
}

#[tokio::test]
async fn what_a_hung_keeper_has_is_settled_once_it_is_dead() {
    let db = support::db().await;
    let client = db.client().await;
    let Upgraded { old, guardian, runs, host: _host } = Upgraded::with_a_stopped_keeper(&db, &client).await;
    let pid: i32 =
        eventually(&client, "it runs", "select pid from sisyphus.run where run_id = $1", &[&runs[0]]).await;
    says(&client, "does not answer").await;
    signal(&old, Signal::SIGKILL);
    for run_id in runs {
        assert_eq!(end_of(&client, run_id).await, "lost");
    }
    assert!(!Path::new(&format!("/proc/{pid}/cwd")).exists(), "nothing of it is left running");
    until(&client, "all is well", "exists (select from sisyphus.fleet where problem is null)").await;
    stop(guardian);
}

/// The guardian is connected to both when the older one falls silent, and then has to register anew.
#[tokio::test]
async fn a_list_that_a_keeper_does_not_send_is_not_awaited_for_ever() {
    let db = support::db().await;
    let client = db.client().await;
    let Upgraded { old, guardian, runs, host } = Upgraded::with_a_stopped_keeper(&db, &client).await;
    signal(&old, Signal::SIGCONT);
    until(&client, "both answer", "exists (select from sisyphus.guardian where cardinality(keepers) = 2)")
        .await;
    let before = host.guardian_id(&client).await.unwrap();
    signal(&old, Signal::SIGSTOP);
    client
        .query("update sisyphus.guardian set ended_at = clock_timestamp(), ended_as = 'superseded'", &[])
        .await
        .unwrap();
    let again =
        format!("exists (select from sisyphus.guardian where ended_at is null and guardian_id > {before})");
    until(&client, "it registers without the one", &again).await;
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    says(&client, "does not answer").await;
    signal(&old, Signal::SIGCONT);
    fs::write(host.file("go"), "").unwrap();
    for run_id in runs {
        assert_eq!(end_of(&client, run_id).await, "succeeded");
    }
    stop(guardian);
}

/// As after a failover: what was acknowledged is to be offered again, and one of the keepers cannot.
#[tokio::test]
async fn a_keeper_that_hangs_does_not_keep_the_host_from_offering_again() {
    let db = support::db().await;
    let client = db.client().await;
    let Upgraded { host, old, guardian, runs } = Upgraded::with_a_stopped_keeper(&db, &client).await;
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    fs::remove_file(host.state_dir().join("settled")).unwrap();
    let guardian = host.start_as(&client, host.command_of(&host.file("sisyphus"), &SLOTS)).await;
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    signal(&old, Signal::SIGCONT);
    fs::write(host.file("go"), "").unwrap();
    for run_id in runs {
        assert_eq!(end_of(&client, run_id).await, "succeeded");
    }
    stop(guardian);
}

/// One whose files cannot be used, and one in which no keeper can be looked for.
#[tokio::test]
async fn places_of_older_keepers_that_are_broken_are_told_and_stop_nobody() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let place = |number| host.state_dir().join(format!("keeper.{number}"));
    fs::create_dir_all(place(1).join("runs/1-1")).unwrap();
    fs::write(place(1).join("results"), "no directory").unwrap();
    fs::create_dir_all(place(2).join("keeper.lock")).unwrap();
    let guardian = host.start(&client, &SLOTS).await;
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    says(&client, "and 1 more cannot be had").await;
    let said = stop(guardian).stderr;
    assert!(said.contains("keeper.place_broken") && said.contains("cannot open the result log"), "{said}");
}

/// A guardian goes on though the file that it executes is replaced, or not there.
#[tokio::test]
async fn a_keeper_is_started_though_the_file_of_the_program_is_gone() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let host = Host::new("web1", &db.url());
    let program = host.other_build();
    let guardian = host.start_as(&client, host.command_of(&program, &SLOTS)).await;
    fs::remove_file(&program).unwrap();
    signal(&host.keepers(), Signal::SIGKILL);
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    fs::write(&program, "neither").unwrap();
    signal(&host.keepers(), Signal::SIGKILL);
    let last = run(&client, "last", "true").await;
    assert_eq!(end_of(&client, last).await, "succeeded");
    stop(guardian);
}
