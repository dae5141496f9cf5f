//! Things that break while jobs run: the guardian, its keeper, its connections, the server.

use std::fs;

use nix::sys::signal::{Signal, kill};
use sisyphus::dev::cluster::{Cluster, Durability};

use super::host::{Host, SOON, at, end_of, eventually, run, stop, until};
use crate::support::{self, Proxy, TestClient, wait_until};

#[tokio::test]
async fn kill_9_of_the_guardian_leaves_its_jobs_alone() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let go = host.file("go");
    let run_id =
        run(&client, "long", &format!("echo begun; until [ -e {} ]; do sleep 0.02; done", go.display()))
            .await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    let _guardian = host.start(&client, &[]).await;
    until(
        &client,
        "it has a living guardian",
        "exists (select from sisyphus.run r join sisyphus.guardian g using (guardian_id) where g.ended_at is null)",
    )
    .await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let row = client.query_one("select stdout, attempt from sisyphus.history", &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0).as_str(), row.get::<_, i32>(1)), ("begun\n", 1));
}

#[tokio::test]
async fn kill_9_of_the_keeper_loses_its_jobs_at_once_and_nothing_else() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let lost = run(&client, "long", "sleep 600").await;
    let sql = "select pid from sisyphus.run where run_id = $1 and state = 'running'";
    let pid: i32 = eventually(&client, "it runs", sql, &[&lost]).await;
    for keeper in host.keepers() {
        kill(keeper, Signal::SIGKILL).ok();
    }
    assert_eq!(end_of(&client, lost).await, "lost");
    assert!(!is_running(pid), "nothing of it is left running");
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
}

#[tokio::test]
async fn its_connections_may_be_cut_at_any_moment() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let sql = "select sisyphus.schedule('busy', null, 'echo x', overlap => 'allow')";
    client.query(sql, &[]).await.unwrap();
    for _ in 0..10 {
        client
            .query("select sisyphus.run_many('busy', array_fill('1'::jsonb, array[20]))", &[])
            .await
            .unwrap();
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                    where datname = current_database() and application_name like 'sisyphus:%'";
        client.query(cut, &[]).await.unwrap();
        let ended: i64 = client.query_one("select count(*) from sisyphus.history", &[]).await.unwrap().get(0);
        let more = format!("{ended} < (select count(*) from sisyphus.history)");
        until(&client, "it goes on", &more).await;
    }
    until(&client, "all have ended", "200 = (select count(*) from sisyphus.history where is_final)").await;
    let sql = "select count(*) filter (where state = 'succeeded' and attempt = 1), count(distinct run_id)
                 from sisyphus.history";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (200, 200), "once each");
    stop(guardian);
}

#[tokio::test]
async fn a_guardian_that_was_superseded_registers_anew_and_keeps_its_job() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &[]).await;
    let go = host.file("go");
    let run_id = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    let first = host.guardian_id(&client).await;
    let sql =
        "update sisyphus.guardian set ended_at = clock_timestamp(), ended_as = 'lost' where ended_at is null";
    client.execute(sql, &[]).await.unwrap();
    wait_until("it is registered anew", SOON, async || {
        let id = host.guardian_id(&client).await;
        if id > first { Ok(()) } else { Err(format!("{id:?}")) }
    })
    .await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, run_id).await, "succeeded");
}

#[tokio::test]
async fn while_the_database_is_down_jobs_end_and_claimed_ones_start_on_time() {
    let dir = tempfile::Builder::new().prefix("sis").tempdir_in("/tmp").unwrap();
    let cluster = Cluster::start(&dir.path().join("pg"), Durability::None).expect("a private server");
    let url = cluster.url("postgres");
    support::run(&["--database-url", &url, "migrate"]).success();
    let client = support::connect(&url).await;
    let host = Host::new("web1", &url);
    let guardian = host.start(&client, &["--slots", "4"]).await;

    let (go, ended, started) = (host.file("go"), host.file("ended"), host.file("started"));
    let command =
        format!("until [ -e {} ]; do sleep 0.02; done; echo done; touch {}", go.display(), ended.display());
    let long = run(&client, "long", &command).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    let sql = &format!("select sisyphus.schedule('soon', {}, $1)", at(7));
    client.query(sql, &[&format!("touch {}", started.display())]).await.unwrap();
    let sql = "select run_id from sisyphus.run where state = 'claimed'";
    let soon: i64 = eventually(&client, "it is claimed ahead", sql, &[]).await;
    client.close().await;
    let path = cluster.dir().to_owned();
    cluster.stop().expect("stopped");

    fs::write(&go, "").unwrap();
    for (what, file) in [("the running job has ended", &ended), ("the claimed one has started", &started)] {
        wait_until(what, SOON, async || if file.exists() { Ok(()) } else { Err("no".into()) }).await;
    }
    let cluster = Cluster::start(&path, Durability::None).expect("started again");
    let client = support::connect(&url).await;
    assert_eq!(end_of(&client, long).await, "succeeded");
    assert_eq!(end_of(&client, soon).await, "succeeded");
    let sql = "select max(lateness_seconds)::float8, count(*) from sisyphus.history where job = 'soon'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, f64>(0) < 2.0, "on time, while the database was down");
    assert_eq!(row.get::<_, i64>(1), 1);
    stop(guardian);
    client.close().await;
    drop(host);
    cluster.stop().expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_was_lost_is_repeated_and_runs_once() {
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let _guardian = host.start(&client, &[]).await;
    let witness = host.file("witness");
    proxy.lose_reply_to("claim_job");
    let run_id = run(&client, "a", &format!("echo ran >> {}", witness.display())).await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    assert!(proxy.has_lost());
    assert_eq!(fs::read_to_string(&witness).unwrap(), "ran\n");
    let row = client.query_one("select attempt, count(*) over () from sisyphus.history", &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i64>(1)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_whose_reply_was_lost_is_sent_again_and_stands_once() {
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &[]).await;
    proxy.lose_reply_to("finish_job");
    let run_id = run(&client, "a", "echo out").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    assert!(proxy.has_lost());
    // It leaves only when everything it knows has been answered.
    stop(guardian);
    let count: i64 = client.query_one("select count(*) from sisyphus.history", &[]).await.unwrap().get(0);
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_reply_to_results_and_claim_is_lost_each_result_stands_once_and_each_run_runs_once() {
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &["--slots", "2"]).await;
    let witness = host.file("witness");
    let sql = "select sisyphus.schedule('busy', null, $1, overlap => 'allow')";
    client.query(sql, &[&format!("echo $SISYPHUS_RUN_ID >> {}", witness.display())]).await.unwrap();
    for _ in 0..5 {
        // Both are sent in one statement, whatever else is.
        proxy.lose_reply_to("union all");
        client
            .query("select sisyphus.run_many('busy', array_fill('1'::jsonb, array[10]))", &[])
            .await
            .unwrap();
        wait_until("a reply is lost", SOON, async || {
            proxy.has_lost().then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        until(&client, "all have ended", "not exists (select from sisyphus.run)").await;
    }
    stop(guardian);
    let sql = "select count(*), count(distinct run_id), min(state) || max(state) || max(attempt) from sisyphus.history";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (50, 50));
    assert_eq!(row.get::<_, String>(2), "succeededsucceeded1");
    let ran = fs::read_to_string(&witness).unwrap();
    let ran: std::collections::HashSet<&str> = ran.lines().collect();
    assert_eq!(ran.len(), 50);
}

/// Ends all calls of this function until it is put back.
async fn take_away(client: &TestClient, function: &str) {
    client
        .execute(&format!("alter function sisyphus.{function} rename to {function}_away"), &[])
        .await
        .unwrap();
}

async fn put_back(client: &TestClient, function: &str) {
    client
        .execute(&format!("alter function sisyphus.{function}_away rename to {function}"), &[])
        .await
        .unwrap();
}

#[tokio::test]
async fn results_arrive_while_no_claim_succeeds() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "1"]).await;
    let go = host.file("go");
    let long = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    take_away(&client, "claim_job").await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    put_back(&client, "claim_job").await;
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    stop(guardian);
}

#[tokio::test]
async fn claims_go_on_while_no_result_is_taken() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "1"]).await;
    take_away(&client, "finish_job").await;
    let runs = [run(&client, "first", "true").await, run(&client, "second", "true").await];
    let witness = host.file("witness");
    let last = run(&client, "last", &format!("touch {}", witness.display())).await;
    wait_until("the last one runs", SOON, async || {
        witness.exists().then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    put_back(&client, "finish_job").await;
    for run_id in runs.into_iter().chain([last]) {
        assert_eq!(end_of(&client, run_id).await, "succeeded");
    }
    stop(guardian);
}

#[tokio::test]
async fn a_result_that_the_database_cannot_hold_does_not_hold_up_the_others() {
    deliver_a_bad_one_among_others("20").await;
}

#[tokio::test]
async fn nor_does_it_when_it_travels_with_a_claim() {
    deliver_a_bad_one_among_others("2").await;
}

async fn deliver_a_bad_one_among_others(slots: &str) {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let _guardian = host.start(&client, &["--slots", slots]).await;
    let sql = r#"select sisyphus.schedule('bad', null, 'echo out; echo "{\"a\":\"\\u0000\"}" > $SISYPHUS_RESULT_FILE'),
                        sisyphus.schedule('good', null, 'echo "{\"n\":1}" > $SISYPHUS_RESULT_FILE', overlap => 'allow')"#;
    client.query(sql, &[]).await.unwrap();
    client.query("select sisyphus.run_now('bad')", &[]).await.unwrap();
    client.query("select sisyphus.run_many('good', array_fill('1'::jsonb, array[15]))", &[]).await.unwrap();
    until(
        &client,
        "all have ended",
        "16 = (select count(*) from sisyphus.history where state = 'succeeded')",
    )
    .await;
    let sql = "select stdout, result is null, reason from sisyphus.history where job = 'bad'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "out\n");
    assert!(row.get::<_, bool>(1));
    assert!(row.get::<_, String>(2).contains("result"), "{}", row.get::<_, String>(2));
    let sql = "select count(*) from sisyphus.history where job = 'good' and result = '{\"n\":1}'";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 15);
}

#[tokio::test]
async fn a_stopped_guardian_wakes_up_and_starts_nothing_stale() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let witness = host.file("witness");
    let sql = &format!("select sisyphus.schedule('soon', {}, $1, ttl => '1 s')", at(5));
    client.query(sql, &[&format!("touch {}", witness.display())]).await.unwrap();
    let sql = "select run_id from sisyphus.run where state = 'claimed'";
    let run_id: i64 = eventually(&client, "it is claimed ahead", sql, &[]).await;
    guardian.signal(Signal::SIGSTOP);
    let sql = "select 1 from sisyphus.run where run_id = $1 and expires_at < clock_timestamp()";
    let _: i32 = eventually(&client, "its time has passed", sql, &[&run_id]).await;
    guardian.signal(Signal::SIGCONT);
    assert_eq!(end_of(&client, run_id).await, "expired");
    assert!(!witness.exists());
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_ends_its_fenced_job_and_keeps_the_other() {
    let db = support::db().await;
    let client = db.client().await;
    // A short lease, so that the test is short.
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s"), ("lease_timeout", "5 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let _guardian = host.start(&client, &["--slots", "4"]).await;
    let go = host.file("go");
    let command = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let sql = "select sisyphus.schedule('fenced', null, $1, grace => '1 s', fenced => true)";
    client.query(sql, &[&command]).await.unwrap();
    let fenced: i64 = client.query_one("select sisyphus.run_now('fenced')", &[]).await.unwrap().get(0);
    let free = run(&client, "free", &command).await;
    until(&client, "both run", "2 = (select count(*) from sisyphus.run where state = 'running')").await;
    let mut pids = Vec::new();
    for run_id in [fenced, free] {
        let row =
            client.query_one("select pid from sisyphus.run where run_id = $1", &[&run_id]).await.unwrap();
        pids.push(row.get::<_, i32>(0));
    }
    let since = std::time::Instant::now();
    proxy.cut();
    wait_until("the fenced job is gone", SOON, async || {
        if is_running(pids[0]) { Err("it runs".into()) } else { Ok(()) }
    })
    .await;
    assert!(since.elapsed() < std::time::Duration::from_secs(7), "before the lease ends");
    assert!(is_running(pids[1]));
    fs::write(&go, "").unwrap();
    proxy.mend();
    assert_eq!(end_of(&client, free).await, "succeeded");
    assert_eq!(end_of(&client, fenced).await, "lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_job_ends_with_the_lease_of_a_guardian_that_is_stopped_and_outlives_one_that_is_replaced() {
    let db = support::db().await;
    let client = db.client().await;
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s"), ("lease_timeout", "5 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    client
        .query("select sisyphus.schedule('f', null, 'exec sleep 600', grace => '1 s', fenced => true)", &[])
        .await
        .unwrap();
    let run_id: i64 = client.query_one("select sisyphus.run_now('f')", &[]).await.unwrap().get(0);
    let sql = "select pid from sisyphus.run where run_id = $1 and state = 'running'";
    let pid: i32 = eventually(&client, "it runs", sql, &[&run_id]).await;
    // The next one renews the lease, and with it the deadline of what it took over.
    stop(guardian);
    let guardian = host.start(&client, &[]).await;
    let sql =
        "select 1 from sisyphus.guardian where ended_at is null and lease_until > clock_timestamp() + interval '4 s'
                  and registered_at < clock_timestamp() - interval '6 s'";
    let _: i32 = eventually(&client, "more than a lease later", sql, &[]).await;
    assert!(is_running(pid));
    let since = std::time::Instant::now();
    guardian.signal(Signal::SIGSTOP);
    wait_until(
        "the fenced job is gone",
        SOON,
        async || {
            if is_running(pid) { Err("it runs".into()) } else { Ok(()) }
        },
    )
    .await;
    assert!(since.elapsed() < std::time::Duration::from_secs(7), "before the lease ends");
    guardian.signal(Signal::SIGCONT);
    assert_eq!(end_of(&client, run_id).await, "lost");
}

/// A zombie does not run; the machine's first process may be slow to collect it.
fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_is_tried_ever_more_rarely_until_it_can() {
    let db = support::db().await;
    let client = db.client().await;
    let sql = "create function public.refuse() returns trigger language plpgsql as
               $$ begin raise exception 'not this one' using errcode = 'invalid_parameter_value'; end $$;
               create trigger refuse before insert on sisyphus.attempt
                   for each row when (new.job = 'poison') execute function public.refuse()";
    client.batch_execute(sql).await.unwrap();
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let poison = run(&client, "poison", "true").await;
    // Others get through meanwhile.
    client.query(&format!("select sisyphus.schedule('later', {}, 'true')", at(4)), &[]).await.unwrap();
    until(&client, "another one has run", "exists (select from sisyphus.history where job = 'later')").await;
    client.batch_execute("drop trigger refuse on sisyphus.attempt").await.unwrap();
    assert_eq!(end_of(&client, poison).await, "succeeded");
    let said = stop(guardian).stderr;
    let tries = said.matches("cannot be stored in any form").count();
    assert!((2..15).contains(&tries), "{tries} tries:\n{said}");
}

/// What its keeper offers at first is of an installation that it does not know yet.
#[tokio::test]
async fn a_guardian_whose_directory_was_lost_delivers_what_the_keeper_of_a_unit_has() {
    let db = support::db().await;
    let client = db.client().await;
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s"), ("lease_timeout", "10 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
    let host = Host::new("web1", &db.url());
    let keeper_dir = host.file("keeper");
    let keeper_path = keeper_dir.to_str().unwrap();
    let keeper =
        support::spawn(support::command(&["keeper", "--cgroup", "none", "--state-dir", keeper_path]));
    let args = ["--keeper-dir", keeper_path];
    let guardian = host.start(&client, &args).await;
    let go = host.file("go");
    let run_id = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    guardian.signal(Signal::SIGKILL);
    guardian.wait();
    fs::write(&go, "").unwrap();
    wait_until("the keeper has its result", SOON, async || {
        let mut runs = fs::read_dir(keeper_dir.join("runs")).unwrap().flatten();
        let live = runs.any(|it| it.file_name().to_string_lossy().starts_with(&format!("{run_id}-")));
        if live { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    fs::remove_dir_all(host.state_dir()).unwrap();
    let guardian = host.start(&client, &args).await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    stop(guardian);
    keeper.signal(Signal::SIGTERM);
    keeper.wait();
}
