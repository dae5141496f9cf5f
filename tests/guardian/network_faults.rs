//! The network between guardian and database: slow, cut, swallowing, and a server that another one replaces.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};

use super::host::{Host, SOON, end_of, run, stop, until};
use crate::support::{self, OwnServer, Proxy, TestClient, wait_until};

/// A host before a server and its standby, which is asynchronous.
struct Pair {
    primary: OwnServer,
    standby: OwnServer,
    /// Of the primary.
    client: TestClient,
    host: Host,
}

impl Pair {
    async fn start() -> Self {
        let primary = OwnServer::start("", None);
        let client = support::connect(&primary.url("postgres")).await;
        client.batch_execute("create database jobs").await.unwrap();
        client.close().await;
        support::run(&["--database-url", &primary.url("jobs"), "migrate"]).success();
        let standby = primary.standby();
        let client = support::connect(&primary.url("jobs")).await;
        let url =
            format!("postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/jobs", standby.port(), primary.port());
        let host = Host::new("web1", &url);
        Self { primary, standby, client, host }
    }

    /// A run that the primary has the result of; the standby knows it as running, and follows no more.
    async fn run_that_ends_unseen(&self) -> i64 {
        let go = self.host.file("go");
        let waits = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
        let run_id = run(&self.client, "short", &waits).await;
        let there = support::connect(&self.standby.url("jobs")).await;
        until(&there, "the standby knows", "exists (select from sisyphus.run where state = 'running')").await;
        follow_no_more(&there).await;
        there.close().await;
        fs::write(&go, "").unwrap();
        assert_eq!(end_of(&self.client, run_id).await, "succeeded");
        run_id
    }
}

/// From here on the standby does not get what is committed.
async fn follow_no_more(standby: &TestClient) {
    standby.batch_execute("alter system set primary_conninfo = ''").await.unwrap();
    standby.batch_execute("select pg_reload_conf()").await.unwrap();
    until(standby, "it follows no more", "not exists (select from pg_stat_wal_receiver)").await;
}

/// Makes leases and rhythms short, so that the tests are.
async fn hurry(client: &TestClient) {
    for (name, value) in [("heartbeat", "500 ms"), ("claim_ahead", "1 s")] {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
}

/// A job of which many run at once; each run leaves its number in a file.
async fn schedule_busy(client: &TestClient, witness: &Path) {
    let command = format!("echo $SISYPHUS_RUN_ID >> {}; echo out", witness.display());
    let sql = "select sisyphus.schedule('busy', null, $1, overlap => 'allow')";
    client.query(sql, &[&command]).await.unwrap();
}

async fn run_busy(client: &TestClient, count: i32) {
    let sql = "select sisyphus.run_many('busy', array_fill('1'::jsonb, array[$1::int]))";
    client.query(sql, &[&count]).await.unwrap();
}

/// Waits until so many have ended, and asserts that each ran once and is recorded once.
async fn assert_once_each(client: &TestClient, witness: &Path, count: i64) {
    let ended = format!("{count} = (select count(*) from sisyphus.history where job = 'busy' and is_final)");
    until(client, "all have ended", &ended).await;
    let sql = "select count(*) filter (where state = 'succeeded' and attempt = 1 and stdout = e'out\\n'),
                      count(distinct run_id), count(*) from sisyphus.history where job = 'busy'";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (count, count, count));
    let mut starts: HashMap<String, u32> = HashMap::new();
    for run_id in fs::read_to_string(witness).unwrap().lines() {
        *starts.entry(run_id.to_owned()).or_default() += 1;
    }
    assert_eq!(starts.len(), usize::try_from(count).unwrap());
    assert!(starts.values().all(|times| *times == 1), "{starts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_is_given_up_and_what_happened_meanwhile_is_reported() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let (go, done) = (host.file("go"), host.file("done"));
    let command = format!("until [ -e {} ]; do sleep 0.02; done; touch {}", go.display(), done.display());
    let long = run(&client, "long", &command).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;

    proxy.strand();
    let since = Instant::now();
    fs::write(&go, "").unwrap();
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, long).await, "succeeded");
    assert_eq!(end_of(&client, next).await, "succeeded");
    // No statement may take more than ten seconds, so no answer is awaited for much longer.
    assert!(since.elapsed() < Duration::from_secs(25), "{:?}", since.elapsed());
    let ended: i64 = client.query_one("select count(*) from sisyphus.history", &[]).await.unwrap().get(0);
    assert_eq!(ended, 2);
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_before_it_notices_that_its_connections_are_dead_says_what_is_left() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let (go, done) = (host.file("go"), host.file("done"));
    let command = format!("until [ -e {} ]; do sleep 0.02; done; touch {}", go.display(), done.display());
    let long = run(&client, "long", &command).await;
    until(&client, "it runs", "exists (select from sisyphus.run where state = 'running')").await;
    proxy.strand();
    fs::write(&go, "").unwrap();
    wait_until("it has ended", SOON, async || if done.exists() { Ok(()) } else { Err("it runs".to_owned()) })
        .await;
    guardian.signal(Signal::SIGTERM);
    let left = "results without an answer of the database: 1";
    guardian.wait().failure(6, &["the database did not hear of everything in time", left]);
    let guardian = host.start(&client, &["--slots", "4"]).await;
    assert_eq!(end_of(&client, long).await, "succeeded");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_network_may_break_at_any_moment_and_in_any_way() {
    let db = support::db().await;
    let client = db.client().await;
    hurry(&client).await;
    let proxy = Proxy::start().await;
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let witness = host.file("witness");
    schedule_busy(&client, &witness).await;
    for round in 0..12 {
        run_busy(&client, 20).await;
        match round % 6 {
            0 => proxy.reset(),
            1 => proxy.lose_reply_to("claim_job"),
            2 => proxy.lose_reply_to("finish_job"),
            3 => {
                proxy.cut();
                proxy.reset();
            }
            4 => proxy.delay(Duration::from_millis(20)),
            _ => proxy.lose_reply_to("tick"),
        }
        let ended: i64 = client.query_one("select count(*) from sisyphus.history", &[]).await.unwrap().get(0);
        proxy.mend();
        until(&client, "it goes on", &format!("{ended} < (select count(*) from sisyphus.history)")).await;
        proxy.delay(Duration::ZERO);
    }
    assert_once_each(&client, &witness, 240).await;
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_slow_network_nothing_starts_early() {
    let db = support::db().await;
    let client = db.client().await;
    let proxy = Proxy::start().await;
    proxy.delay(Duration::from_millis(80));
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let sql = "select sisyphus.schedule('tick', 'every 1 second', 'true', ttl => '1 min')";
    client.query(sql, &[]).await.unwrap();
    until(&client, "some have run", "4 <= (select count(*) from sisyphus.history where state = 'succeeded')")
        .await;
    let sql = "select min(lateness_seconds)::float8 from sisyphus.history where state = 'succeeded'";
    let earliest: f64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(earliest >= 0.0, "{earliest}");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_is_found_and_nothing_is_lost() {
    // With a synchronous standby the promise is whole.
    let Pair { mut primary, standby, client, host } = Pair::start().await;
    client.batch_execute("alter system set synchronous_standby_names = '*'").await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    until(
        &client,
        "the standby follows",
        "exists (select from pg_stat_replication where sync_state = 'sync')",
    )
    .await;
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let (witness, go) = (host.file("witness"), host.file("go"));
    let long = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    schedule_busy(&client, &witness).await;
    run_busy(&client, 100).await;
    until(&client, "it is at work", "10 < (select count(*) from sisyphus.history)").await;
    drop(client);
    primary.crash();
    fs::write(&go, "").unwrap();
    standby.promote();

    let since = Instant::now();
    let client = support::connect(&standby.url("jobs")).await;
    wait_until("it is connected again", SOON, async || {
        let sql = "select count(*) from pg_stat_activity where application_name = 'sisyphus:control:web1'";
        let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if count > 0 { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    run_busy(&client, 20).await;
    assert_eq!(end_of(&client, long).await, "succeeded");
    assert_once_each(&client, &witness, 120).await;
    stop(guardian);
    client.close().await;
}

/// The results were committed and acknowledged where nobody will see them any more.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_an_asynchronous_standby_never_got_are_offered_again() {
    let Pair { mut primary, standby, client, host } = Pair::start().await;
    let older = host.other_build();
    let guardian = host.start_as(&client, host.command_of(&older, &["--slots", "8"])).await;
    let go = host.file("go");
    let mut runs = Vec::new();
    for (name, output) in
        [("small", "echo $SISYPHUS_RUN_ID"), ("big", "head -c 60000 /dev/zero | tr '\\0' x")]
    {
        let command = format!("until [ -e {} ]; do sleep 0.02; done; {output}", go.display());
        runs.push(run(&client, name, &command).await);
    }
    until(&client, "they run", "2 = (select count(*) from sisyphus.run where state = 'running')").await;
    // These are of a keeper that will have left.
    stop(guardian);
    let guardian = host.start(&client, &["--slots", "8"]).await;
    runs.push(
        run(&client, "new", &format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display())).await,
    );
    until(&client, "all run", "3 = (select count(*) from sisyphus.run where state = 'running')").await;

    let there = support::connect(&standby.url("jobs")).await;
    until(&there, "the standby knows", "3 = (select count(*) from sisyphus.run where state = 'running')")
        .await;
    follow_no_more(&there).await;
    fs::write(&go, "").unwrap();
    until(&client, "all have ended", "3 = (select count(*) from sisyphus.history where is_final)").await;
    wait_until("the older keeper has left", SOON, async || {
        let left = host.keepers().len();
        if left == 2 { Ok(()) } else { Err(format!("{left} processes")) }
    })
    .await;
    drop(client);
    primary.crash();
    let lost = "0 = (select count(*) from sisyphus.history)";
    until(&there, "the standby knows nothing of it", lost).await;
    there.close().await;
    standby.promote();

    let client = support::connect(&standby.url("jobs")).await;
    for (run_id, state) in runs.iter().zip(["succeeded", "succeeded", "failed"]) {
        assert_eq!(end_of(&client, *run_id).await, state);
    }
    let sql = "select string_agg(job || ' ' || attempt || ' ' || exit_code || ' ' || length(stdout), ', ' order by run_id)
                 from sisyphus.history";
    let told: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(told, "small 1 0 2, big 1 0 60000, new 1 3 0");
    stop(guardian);
    client.close().await;
}

/// Nobody was there when it failed over, and the first who came died before the results were stored.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_a_standby_never_got_are_offered_until_it_has_them_whoever_dies_meanwhile() {
    let pair = Pair::start().await;
    let guardian = pair.host.start(&pair.client, &["--slots", "8"]).await;
    let run_id = pair.run_that_ends_unseen().await;
    let Pair { mut primary, standby, client, host } = pair;
    stop(guardian);
    drop(client);
    primary.crash();
    standby.promote();

    let client = support::connect(&standby.url("jobs")).await;
    let locker = support::connect(&standby.url("jobs")).await;
    locker.batch_execute("begin; lock table sisyphus.run in access exclusive mode").await.unwrap();
    let guardian = host.spawn(&["--slots", "8"]);
    let waits = "exists (select from pg_locks where not granted)";
    until(&locker, "all was offered to it, so it registers", waits).await;
    guardian.signal(Signal::SIGKILL);
    let killed = guardian.wait();
    assert!(killed.stderr.contains("results.offered"), "{}", killed.stderr);
    locker.batch_execute("rollback").await.unwrap();
    let guardian = host.start(&client, &["--slots", "8"]).await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    stop(guardian);
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let last = stop(guardian);
    assert!(!last.stderr.contains("results.offered"), "{}", last.stderr);
    locker.close().await;
    client.close().await;
}

/// The host waits for the end of the offer before it registers. One keeper dies before it has begun, and the server goes
/// away once more and comes back as another one while the next is to offer.
#[tokio::test(flavor = "multi_thread")]
async fn neither_a_dead_keeper_nor_one_more_server_leaves_an_offer_without_end() {
    let pair = Pair::start().await;
    let guardian = pair.host.start(&pair.client, &["--slots", "8"]).await;
    let run_id = pair.run_that_ends_unseen().await;
    let Pair { mut primary, mut standby, client, host } = pair;
    drop(client);
    let stopped = host.keepers();
    stopped.iter().for_each(|keeper| kill(*keeper, Signal::SIGSTOP).unwrap());
    primary.crash();
    standby.promote();
    let client = support::connect(&standby.url("jobs")).await;
    let asks = "exists (select from pg_stat_activity where application_name = 'sisyphus:control:web1'
                                                       and backend_start < clock_timestamp() - interval '2 s')";
    until(&client, "it has asked for the results", asks).await;
    drop(client);
    standby.crash();
    standby.boot();
    let client = support::connect(&standby.url("jobs")).await;
    until(&client, "it has asked once more", asks).await;
    assert_eq!(client.query("select from sisyphus.history", &[]).await.unwrap().len(), 0);
    stopped.iter().for_each(|keeper| kill(*keeper, Signal::SIGKILL).unwrap());
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    stop(guardian);
    client.close().await;
}

/// The new server knows its claim, and not the guardian that has come since: that one registers anew. The result lies
/// behind many others that are offered again, and a live keeper that does not list it seems never to have had it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_run_that_ended_among_lost_commits_has_its_result() {
    let Pair { mut primary, standby, client, host } = Pair::start().await;
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let big =
        "select sisyphus.schedule('big', null, 'head -c 60000 /dev/zero | tr \\\\0 x', overlap => 'allow')";
    client.query(big, &[]).await.unwrap();
    client.query("select sisyphus.run_many('big', array_fill('1'::jsonb, array[20]))", &[]).await.unwrap();
    until(
        &client,
        "all have ended",
        "20 = (select count(*) from sisyphus.history where length(stdout) > 50000)",
    )
    .await;

    let witness = host.file("witness");
    let sql = &format!("select sisyphus.schedule('soon', {}, $1)", super::host::at(8));
    client.query(sql, &[&format!("echo ran >> {}", witness.display())]).await.unwrap();
    let there = support::connect(&standby.url("jobs")).await;
    until(&there, "it is claimed ahead", "exists (select from sisyphus.run where state = 'claimed')").await;
    follow_no_more(&there).await;
    until(&client, "it has ended", "exists (select from sisyphus.history where job = 'soon')").await;
    stop(guardian);
    let guardian = host.start(&client, &["--slots", "8"]).await;
    drop(client);
    for keeper in host.keepers() {
        kill(keeper, Signal::SIGSTOP).unwrap();
    }
    primary.crash();
    there.close().await;
    standby.promote();

    let client = support::connect(&standby.url("jobs")).await;
    let asks = "exists (select from pg_stat_activity where application_name = 'sisyphus:control:web1'
                                                       and backend_start < clock_timestamp() - interval '2 s')";
    until(&client, "it has asked for a list", asks).await;
    for keeper in host.keepers() {
        kill(keeper, Signal::SIGCONT).unwrap();
    }
    until(&client, "it has ended", "exists (select from sisyphus.history where job = 'soon' and is_final)")
        .await;
    let sql = "select format('%s %s', attempt, state) from sisyphus.history where job = 'soon'";
    let told: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!((told.as_str(), fs::read_to_string(&witness).unwrap().as_str()), ("1 succeeded", "ran\n"));
    stop(guardian);
    client.close().await;
}

/// Neither the database nor the keeper knows how it ended: it must not run for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_result_is_nowhere_any_more_is_lost_after_a_failover() {
    let Pair { mut primary, standby, client, host } = Pair::start().await;
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let (go, last) = (host.file("go"), host.file("last"));
    let short = run(&client, "short", &format!("until [ -e {} ]; do sleep 0.02; done", go.display())).await;
    let long = run(&client, "long", &format!("until [ -e {} ]; do sleep 0.02; done", last.display())).await;
    until(&client, "both run", "2 = (select count(*) from sisyphus.run where state = 'running')").await;
    let there = support::connect(&standby.url("jobs")).await;
    until(&there, "the standby knows", "2 = (select count(*) from sisyphus.run where state = 'running')")
        .await;
    follow_no_more(&there).await;
    fs::write(&go, "").unwrap();
    assert_eq!(end_of(&client, short).await, "succeeded");
    drop(client);
    primary.crash();
    for segment in fs::read_dir(host.state_dir().join("results")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    there.close().await;
    standby.promote();
    let client = support::connect(&standby.url("jobs")).await;
    assert_eq!(end_of(&client, short).await, "lost");
    fs::write(&last, "").unwrap();
    assert_eq!(end_of(&client, long).await, "succeeded");
    stop(guardian);
    client.close().await;
}
