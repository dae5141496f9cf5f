//! What people ask of runs that a guardian has.

use super::host::{Host, at, end_of, eventually, run, until};
use crate::support;

#[tokio::test]
async fn a_running_job_is_terminated_from_afar() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let run_id = run(&client, "long", "sleep 600").await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    client.query("select sisyphus.terminate($1, 'enough')", &[&run_id]).await.unwrap();
    assert_eq!(end_of(&client, run_id).await, "terminated");
    let row = client.query_one("select signal, reason from sisyphus.history", &[]).await.unwrap();
    assert_eq!(row.get::<_, Option<i32>>(0), Some(15));
    assert!(row.get::<_, String>(1).contains("enough"));
}

#[tokio::test]
async fn a_run_claimed_ahead_is_recalled_when_its_job_is_suspended() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let witness = host.file("ran");
    let sql = &format!("select sisyphus.schedule('soon', {}, $1)", at(8));
    client.query(sql, &[&format!("touch {}", witness.display())]).await.unwrap();
    let sql = "select run_id from sisyphus.run where state = 'claimed'";
    let run_id: i64 = eventually(&client, "it is claimed ahead", sql, &[]).await;
    client.query("select sisyphus.suspend('soon')", &[]).await.unwrap();
    assert_eq!(end_of(&client, run_id).await, "skipped");
    assert!(!witness.exists());
}

#[tokio::test]
async fn a_draining_host_finishes_what_it_runs_and_claims_nothing_new() {
    drain_a_host_of("4").await;
}

#[tokio::test]
async fn so_does_one_whose_slots_were_all_taken() {
    drain_a_host_of("1").await;
}

async fn drain_a_host_of(slots: &str) {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &["--slots", slots]).await;
    let go = host.file("go");
    let long = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    client.query("select sisyphus.drain_host('web1')", &[]).await.unwrap();
    // A claim that began before may still take what comes now.
    until(&client, "it drains", "exists (select from sisyphus.fleet where state = 'draining')").await;
    let sql = "select clock_timestamp()::text";
    let drained_at: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let sql = format!("exists (select from sisyphus.guardian where seen_at > '{drained_at}')");
    until(&client, "a later claim", &sql).await;
    let short = run(&client, "short", "true").await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    let sql = "select state from sisyphus.run where run_id = $1";
    let state: String = client.query_one(sql, &[&short]).await.unwrap().get(0);
    assert!(["waiting", "pending"].contains(&state.as_str()), "{state}");
    client.query("select sisyphus.activate_host('web1')", &[]).await.unwrap();
    assert_eq!(end_of(&client, short).await, "succeeded");
}

#[tokio::test]
async fn with_one_slot_two_runs_due_at_once_go_one_after_the_other() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &["--slots", "1"]).await;
    let sql = &format!(
        "select sisyphus.schedule(n, {}, 'sleep 0.3', overlap => 'allow', ttl => '1 min')
                 from unnest(array['a', 'b', 'c']) n",
        at(5)
    );
    client.query(sql, &[]).await.unwrap();
    until(&client, "all have ended", "3 = (select count(*) from sisyphus.history where state = 'succeeded')")
        .await;
    let sql = "select bool_and(attempt = 1), bool_and(started_at >= before)
                 from (select attempt, started_at, lag(finished_at) over (order by started_at) as before
                         from sisyphus.history) h";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0), "given back for want of a slot is no attempt");
    assert!(row.get::<_, bool>(1), "one slot");
}

#[tokio::test]
async fn slots_set_by_an_operator_take_effect_at_once() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &["--slots", "1"]).await;
    let go = host.file("go");
    let command = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let first = run(&client, "first", &command).await;
    until(&client, "one runs", "exists (select from sisyphus.run where state = 'running')").await;
    let second = run(&client, "second", &command).await;
    client.query("select sisyphus.set_slots('web1', 2)", &[]).await.unwrap();
    until(&client, "both run", "2 = (select count(*) from sisyphus.run where state = 'running')").await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, first).await, "succeeded");
    assert_eq!(end_of(&client, second).await, "succeeded");
}

#[tokio::test]
async fn a_job_that_cannot_be_started_has_failed_with_the_reason() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    client
        .query("select sisyphus.schedule('gone', null, argv => array['/no/such/program'])", &[])
        .await
        .unwrap();
    let run_id: i64 = client.query_one("select sisyphus.run_now('gone')", &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, run_id).await, "failed");
    let row = client.query_one("select reason, started_at is null from sisyphus.history", &[]).await.unwrap();
    assert!(row.get::<_, String>(0).contains("/no/such/program"), "{}", row.get::<_, String>(0));
    assert!(row.get::<_, bool>(1));
}

#[tokio::test]
async fn a_host_tells_which_limits_it_cannot_hold_a_run_to() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let mut command = host.command(&[]);
    command.env("SISYPHUS_CGROUP", "none");
    let _guardian = support::spawn(command);
    let limited = "select sisyphus.submit('true', limits => '{\"cpu\": 0.5, \"memory\": \"1GB\"}')";
    until(&client, "it is there", "exists (select from sisyphus.fleet where problem is null)").await;
    let run_id: i64 = client.query_one(limited, &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let sql = "select problem from sisyphus.fleet where problem is not null";
    let problem: String = eventually(&client, "the next heartbeat tells", sql, &[]).await;
    assert!(problem.ends_with("limits of memory (only process by process) and cpu"), "{problem}");
}

#[tokio::test]
async fn the_hosts_policy_refuses_for_good_by_owner_and_by_database() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let system: String = client
        .query_one("select system_identifier::text from pg_control_system()", &[])
        .await
        .unwrap()
        .get(0);
    let policy = host.file("policy.toml");
    let text = format!(
        "users = [{own:?}]\nshell = true\nowners = [\"test_*\"]\n[[databases]]\nsystem_identifier = {system:?}\naddress = \"local\"\n"
    );
    std::fs::write(&policy, text).unwrap();
    let _guardian = host.start(&client, &["--policy", policy.to_str().unwrap()]).await;
    let foreign = run(&client, "foreign", "true").await;
    assert_eq!(end_of(&client, foreign).await, "refused");
    let row = client.query_one("select reason, is_final from sisyphus.history", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "the policy of this host does not allow jobs of role \"postgres\"");
    assert!(row.get::<_, bool>(1));
    let author = db.login("test_alice", &["sisyphus_author"]).await;
    let mine = run(&author, "mine", "true").await;
    assert_eq!(end_of(&client, mine).await, "succeeded");
}

#[tokio::test]
async fn a_running_job_is_paused_from_afar_and_goes_on() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let file = host.file("work");
    let run_id =
        run(&client, "long", &format!("while :; do echo x >> {}; sleep 0.01; done", file.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let ask = async |action: &str| {
        let sql = format!("select sisyphus.{action}($1)");
        assert!(client.query_one(&sql, &[&run_id]).await.unwrap().get::<_, bool>(0));
    };
    ask("pause").await;
    until(
        &client,
        "it is paused",
        "exists (select from sisyphus.running where state = 'running' and paused_at is not null)",
    )
    .await;
    let seen = support::wait_until_still("it rests", super::host::SOON, async || lines()).await;
    let said: String = client.query_one("select sisyphus.explain_run($1)", &[&run_id]).await.unwrap().get(0);
    assert!(said.contains("paused"), "{said}");
    ask("unpause").await;
    support::wait_until("it works", super::host::SOON, async || {
        if lines() > seen { Ok(()) } else { Err(format!("{seen} lines")) }
    })
    .await;
    until(&client, "it is known", "exists (select from sisyphus.running where paused_at is null)").await;
    ask("terminate").await;
    assert_eq!(end_of(&client, run_id).await, "terminated");
    let sql = "select not sisyphus.pause($1) and not sisyphus.unpause($1)";
    assert!(client.query_one(sql, &[&run_id]).await.unwrap().get::<_, bool>(0), "it has ended");
    let left: i64 = client.query_one("select count(*) from sisyphus.request", &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "requests of ended runs");
}

#[tokio::test]
async fn what_is_asked_of_a_run_in_one_transaction_is_done_in_that_order() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let file = host.file("work");
    let run_id =
        run(&client, "long", &format!("while :; do echo x >> {}; sleep 0.01; done", file.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    let both = format!("select sisyphus.pause({run_id}), sisyphus.unpause({run_id})");
    client.query(&both, &[]).await.unwrap();
    until(&client, "the host has heard of both", "not exists (select from sisyphus.request)").await;
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let seen = lines();
    support::wait_until("it works", super::host::SOON, async || {
        if lines() > seen + 10 { Ok(()) } else { Err(format!("{} lines after {seen}", lines())) }
    })
    .await;
}
