//! Start, work, stop, and the next guardian.

use std::fs;

use nix::sys::signal::{Signal, kill};

use super::host::{Host, SOON, at, end_of, eventually, run, stop, until};
use crate::support::{self, Spawned, wait_until};

#[tokio::test]
async fn a_scheduled_job_runs_and_its_result_stands_in_the_history() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "3"]).await;
    let sql = "select sisyphus.schedule('tick', 'every 1 second', 'echo out; echo err >&2; exit 0', ttl => '1 min')";
    client.query(sql, &[]).await.unwrap();
    until(
        &client,
        "three runs have succeeded",
        "3 <= (select count(*) from sisyphus.history where job = 'tick' and state = 'succeeded')",
    )
    .await;
    let sql = "select bool_and(host = 'web1' and exit_code = 0 and stdout = e'out\\n' and stderr = e'err\\n'
                               and attempt = 1 and finished_at >= started_at and cpu_user_seconds >= 0),
                      min(lateness_seconds)::float8, count(*) - count(distinct due_at)
                 from sisyphus.history where state = 'succeeded'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    assert!(row.get::<_, f64>(1) >= 0.0, "never early");
    assert_eq!(row.get::<_, i64>(2), 0, "each occurrence once");
    stop(guardian);
}

#[tokio::test]
async fn a_run_is_claimed_before_it_is_due_and_starts_at_its_instant() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let sql = &format!("select sisyphus.schedule('soon', {}, 'true')", at(4));
    client.query(sql, &[]).await.unwrap();
    until(&client, "it is claimed ahead", "exists (select from sisyphus.run where state = 'claimed')").await;
    let run_id: i64 = client.query_one("select run_id from sisyphus.run", &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let sql = "select claimed_at < due_at, started_at >= due_at from sisyphus.history";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0), "claimed ahead of its time");
    assert!(row.get::<_, bool>(1), "never early");
}

#[tokio::test]
async fn a_running_job_outlives_its_guardian_and_the_next_one_takes_it_over() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let go = host.file("go");
    let run_id =
        run(&client, "long", &format!("echo begun; until [ -e {} ]; do sleep 0.02; done", go.display()))
            .await;
    let sql = "select pid from sisyphus.run where run_id = $1 and state = 'running'";
    let pid: i32 = eventually(&client, "it runs", sql, &[&run_id]).await;
    stop(guardian);
    kill(nix::unistd::Pid::from_raw(pid), None::<Signal>).expect("the job lives on");
    let left = client.query_one("select state from sisyphus.fleet where host = 'web1'", &[]).await.unwrap();
    assert_eq!(left.get::<_, String>(0), "stopped");

    let guardian = host.start(&client, &[]).await;
    let sql = "select g.guardian_id from sisyphus.run r join sisyphus.guardian g using (guardian_id)
                where r.run_id = $1 and g.ended_at is null";
    let _: i64 = eventually(&client, "the new guardian owns it", sql, &[&run_id]).await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let row = client
        .query_one("select stdout, attempt, count(*) over () from sisyphus.history", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "begun\n");
    assert_eq!((row.get::<_, i32>(1), row.get::<_, i64>(2)), (1, 1));
    stop(guardian);
}

#[tokio::test]
async fn a_job_that_ended_while_no_guardian_was_there_is_delivered_by_the_next() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let (go, done) = (host.file("go"), host.file("done"));
    let command =
        format!("until [ -e {} ]; do sleep 0.02; done; touch {}; exit 3", go.display(), done.display());
    let run_id = run(&client, "long", &command).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    stop(guardian);
    fs::write(&go, "").unwrap();
    support::wait_until("it has ended", super::host::SOON, async || {
        if done.exists() { Ok(()) } else { Err("it runs".into()) }
    })
    .await;
    let _guardian = host.start(&client, &[]).await;
    assert_eq!(end_of(&client, run_id).await, "failed");
    let row = client.query_one("select exit_code from sisyphus.history", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 3);
}

/// A million of them after ten minutes of hard work, for nothing: the database has them all.
#[tokio::test]
async fn a_guardian_that_meets_the_server_of_the_one_before_it_has_nothing_offered_again() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let run_id = run(&client, "short", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let first = stop(guardian);
    assert!(!first.stderr.contains("results.offered"), "it has none yet: {}", first.stderr);
    let guardian = host.start(&client, &[]).await;
    let run_id = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let second = stop(guardian);
    assert!(!second.stderr.contains("results.offered"), "{}", second.stderr);
}

/// More than socket and window of the keeper hold: some are offered before its list and some after it.
#[tokio::test]
async fn many_large_results_that_waited_for_a_guardian_are_all_delivered() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "30"]).await;
    let (go, done) = (host.file("go"), host.file("done"));
    let command = format!(
        "until [ -e {} ]; do sleep 0.02; done; head -c 60000 /dev/zero | tr '\\0' x; echo x >> {}",
        go.display(),
        done.display()
    );
    client.query("select sisyphus.schedule('big', null, $1, overlap => 'allow')", &[&command]).await.unwrap();
    client.query("select sisyphus.run_many('big', array_fill('1'::jsonb, array[30]))", &[]).await.unwrap();
    until(&client, "they run", "30 = (select count(*) from sisyphus.run where state = 'running')").await;
    stop(guardian);
    fs::write(&go, "").unwrap();
    support::wait_until("all have ended", super::host::SOON, async || {
        let ended = fs::read_to_string(&done).unwrap_or_default().lines().count();
        if ended == 30 { Ok(()) } else { Err(format!("{ended}")) }
    })
    .await;
    let guardian = host.start(&client, &["--slots", "30"]).await;
    until(
        &client,
        "all are delivered",
        "30 = (select count(*) from sisyphus.history where state = 'succeeded' and length(stdout) = 60000)",
    )
    .await;
    stop(guardian);
}

#[tokio::test]
async fn what_was_claimed_but_not_started_is_given_back_at_sigterm() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let sql = &format!("select sisyphus.schedule('soon', {}, 'true')", at(9));
    client.query(sql, &[]).await.unwrap();
    until(&client, "it is claimed ahead", "exists (select from sisyphus.run where state = 'claimed')").await;
    stop(guardian);
    let row = client.query_one("select state, attempt, claim_no from sisyphus.run", &[]).await.unwrap();
    assert_ne!(row.get::<_, String>(0), "claimed");
    assert_eq!((row.get::<_, i32>(1), row.get::<_, Option<i64>>(2)), (0, None));
    assert!(host.processes("guardian").is_empty());

    let _guardian = host.start(&client, &[]).await;
    let run_id: i64 = client.query_one("select run_id from sisyphus.run", &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, run_id).await, "succeeded");
}

#[tokio::test]
async fn stop_jobs_ends_the_jobs_and_waits_for_their_results() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--stop-jobs"]).await;
    let run_id = run(&client, "long", "trap 'echo bye; exit 7' TERM; echo begun; sleep 600 & wait").await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    stop(guardian);
    let row = client
        .query_one("select stdout, state from sisyphus.history where run_id = $1", &[&run_id])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "begun\nbye\n");
    assert_eq!(row.get::<_, String>(1), "terminated");
}

/// Nobody is to be told, and nothing is to be done but to wait for the keeper.
#[tokio::test]
async fn a_guardian_that_stops_jobs_and_is_superseded_meanwhile_waits_for_them_without_turning() {
    let db = support::db().await;
    let client = db.client().await;
    client.query("select sisyphus.set_setting('heartbeat', '500 ms')", &[]).await.unwrap();
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--stop-jobs"]).await;
    let deaf = "select sisyphus.submit('trap \"\" TERM; while :; do sleep 0.1; done', grace => '4 s')";
    client.query(deaf, &[]).await.unwrap();
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    let before = cpu_seconds(&guardian);
    guardian.signal(Signal::SIGTERM);
    let end = "update sisyphus.guardian set ended_at = clock_timestamp(), ended_as = 'superseded'";
    client.execute(end, &[]).await.unwrap();
    let mut after = before;
    wait_until("it has left", SOON, async || {
        after = cpu_seconds(&guardian).max(after);
        if host.processes("guardian").is_empty() { Ok(()) } else { Err(format!("{after} s")) }
    })
    .await;
    let ended = guardian.wait();
    assert!(ended.stderr.contains("registering anew"), "{}", ended.stderr);
    assert!(after - before < 1.0, "{before} s, then {after} s");
}

/// User and system time; zero once it is collected.
fn cpu_seconds(guardian: &Spawned) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", guardian.pid())).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // A tick is a hundredth of a second on every Linux.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[tokio::test]
async fn once_runs_what_is_due_to_its_end_and_leaves() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let first = run(&client, "first", "echo one").await;
    let second = run(&client, "second", "sleep 0.3; echo two").await;
    let ended = host.spawn(&["--once", "--slots", "1"]).wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    let sql = "select array_agg(stdout order by run_id) from sisyphus.history where run_id in ($1, $2)";
    let row = client.query_one(sql, &[&first, &second]).await.unwrap();
    assert_eq!(row.get::<_, Vec<String>>(0), ["one\n", "two\n"]);
    assert!(host.processes("guardian").is_empty());
}

#[tokio::test]
async fn once_beside_a_guardian_at_work_only_ticks() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let id = host.guardian_id(&client).await;
    let ended = host.spawn(&["--once"]).wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("only a tick"), "{}", ended.stderr);
    assert_eq!(host.guardian_id(&client).await, id);
}
