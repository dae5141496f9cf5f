//! A database that goes back in time under a living guardian.

use std::process::Command;

use super::host::{Host, SOON, end_of, run, stop, until};
use crate::support::{self, OwnServer, Spawned, TestClient, wait_until, wait_until_still};

#[tokio::test]
async fn a_restored_database_gets_no_work_done_before_it_is_adopted() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let first = run(&client, "job", "true").await;
    assert_eq!(end_of(&client, first).await, "succeeded");
    until(
        &client,
        "its claims have told it of a tick",
        "exists (select from sisyphus.guardian where seen_at >
              (select newest_tick_at from sisyphus.planner))",
    )
    .await;

    // As a backup of an hour ago, put in the place of the database.
    let restore = "update sisyphus.planner set last_tick_at = last_tick_at - interval '1 h',
                          newest_tick_at = newest_tick_at - interval '1 h', next_tick_at = '-infinity'";
    client.batch_execute(restore).await.unwrap();
    let second = run(&client, "job", "true").await;
    until(&client, "the database knows", "sisyphus._installation_problem() like '%it was restored%'").await;
    let why: String = client.query_one("select sisyphus.explain_run($1)", &[&second]).await.unwrap().get(0);
    assert!(why.contains("installation not adopted: it was restored"), "{why}");

    client.batch_execute("select sisyphus.adopt_installation()").await.unwrap();
    assert_eq!(end_of(&client, second).await, "succeeded");
    stop(guardian);
}

/// A server whose time is an hour behind until it is told otherwise, with a host on it that runs a job each second,
/// which leaves a line in a file.
struct Installation {
    server: OwnServer,
    host: Host,
    guardian: Spawned,
}

const AN_HOUR_AGO: &str = "test.clock_offset = '-1 h'";
const NOW: &str = "test.clock_offset = '0'";

impl Installation {
    async fn an_hour_ago() -> Self {
        let server = OwnServer::start(AN_HOUR_AGO, None);
        let admin = support::connect(&server.url("postgres")).await;
        admin.batch_execute("create database jobs").await.unwrap();
        admin.close().await;
        support::run(&["--database-url", &server.url("jobs"), "migrate"]).success();
        let client = support::connect(&server.url("jobs")).await;
        let clock = "create or replace function sisyphus._clock() returns timestamptz
                     language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
                     as $$ select clock_timestamp() + coalesce(current_setting('test.clock_offset', true), '0')::interval $$;
                     select sisyphus.set_setting('heartbeat', '500 ms')";
        client.batch_execute(clock).await.unwrap();
        let host = Host::new("web1", &server.url("jobs"));
        let guardian = host.start(&client, &[]).await;
        let command = format!("echo $SISYPHUS_RUN_ID >> {}", host.file("witness").display());
        client.query("select sisyphus.schedule('job', 'every 1 second', $1)", &[&command]).await.unwrap();
        let made = Self { server, host, guardian };
        made.goes_on(&client).await;
        client.close().await;
        made
    }

    /// Its time is the real one from now on; back when its host knows that from a tick.
    async fn comes_to_the_present(&self) {
        self.server.configure(NOW);
        let client = support::connect(&self.server.url("jobs")).await;
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        self.goes_on(&client).await;
        let lately = "select (extract(epoch from now() - interval '10 min') * 1000000)::bigint";
        let lately: i64 = client.query_one(lately, &[]).await.unwrap().get(0);
        client.close().await;
        wait_until("the tick is remembered", SOON, async || {
            let kept = std::fs::read_to_string(self.host.state_dir().join("seen_tick")).unwrap_or_default();
            let newest: i64 = kept.trim().parse().unwrap_or(0);
            if newest > lately { Ok(()) } else { Err(kept) }
        })
        .await;
    }

    /// Runs that the file knows.
    fn started(&self) -> usize {
        std::fs::read_to_string(self.host.file("witness")).unwrap_or_default().lines().count()
    }

    /// A run starts, and its result is stored.
    async fn goes_on(&self, client: &TestClient) {
        let before = self.started();
        wait_until("another run starts", SOON, async || {
            if self.started() > before { Ok(()) } else { Err(format!("{before} before")) }
        })
        .await;
        let newest: String =
            std::fs::read_to_string(self.host.file("witness")).unwrap().lines().last().unwrap().to_owned();
        assert_eq!(end_of(client, newest.parse().unwrap()).await, "succeeded");
    }

    /// Nothing is planned, claimed or started until an admin says so; then it goes on.
    async fn waits_to_be_adopted(self, why: &str) {
        let client = support::connect(&self.server.url("jobs")).await;
        let problem = format!("sisyphus._installation_problem() like '%{why}%'");
        until(&client, "the database knows", &problem).await;
        let all = "select format('%s %s', (select count(*) from sisyphus.attempt),
                                 (select array_agg((run_id, state, claim_no) order by run_id) from sisyphus.run))";
        let before: String = client.query_one(all, &[]).await.unwrap().get(0);
        let started = wait_until_still("what was under way has ended", SOON, async || self.started()).await;
        for _ in 0..3 {
            // More than a period of the job, and every guardian's calls meanwhile.
            let at: String = client.query_one("select now()::text", &[]).await.unwrap().get(0);
            until(&client, "a second has passed", &format!("now() > '{at}'::timestamptz + interval '1 s'"))
                .await;
            let refused = client
                .batch_execute(
                    "update sisyphus.planner set next_tick_at = '-infinity'; select sisyphus.tick()",
                )
                .await;
            support::assert_sqlstate(refused, "SY001");
        }
        let after: String = client.query_one(all, &[]).await.unwrap().get(0);
        assert_eq!((before, started), (after, self.started()));

        let adopted: bool =
            client.query_one("select sisyphus.adopt_installation()", &[]).await.unwrap().get(0);
        assert!(adopted);
        self.goes_on(&client).await;
        let twice = "select count(*) from (select run_id from sisyphus.attempt where attempt = 1 group by 1 having count(*) > 1) x";
        assert_eq!(client.query_one(twice, &[]).await.unwrap().get::<_, i64>(0), 0);
        client.close().await;
        stop(self.guardian);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_files_put_in_place_under_a_living_guardian_waits_to_be_adopted() {
    let mut installation = Installation::an_hour_ago().await;
    let backup = installation.server.backup();
    installation.comes_to_the_present().await;
    installation.server.restore(&backup, NOW);
    installation.waits_to_be_adopted("it was restored: its last tick was at").await;
}

/// The host was started anew as well: its state directory remembers the tick.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_files_under_a_guardian_that_was_stopped_waits_to_be_adopted() {
    let mut installation = Installation::an_hour_ago().await;
    let backup = installation.server.backup();
    installation.comes_to_the_present().await;
    stop(installation.guardian);
    installation.server.restore(&backup, NOW);
    installation.guardian = installation.host.spawn(&[]);
    installation.waits_to_be_adopted("it was restored: its last tick was at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_dump_put_in_place_waits_to_be_adopted() {
    let installation = Installation::an_hour_ago().await;
    let server = &installation.server;
    let (Some(dump), Some(psql)) = (server.client_program("pg_dump"), server.client_program("psql")) else {
        stop(installation.guardian);
        return;
    };
    let dumped = Command::new(dump).args(["-d", &server.url("jobs")]).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let file = installation.host.file("dump.sql");
    std::fs::write(&file, dumped.stdout).unwrap();
    installation.comes_to_the_present().await;

    let admin = support::connect(&server.url("postgres")).await;
    for sql in ["drop database jobs with (force)", "create database restoring"] {
        admin.batch_execute(sql).await.unwrap();
    }
    let restored = Command::new(psql)
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &server.url("restoring"), "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    admin.batch_execute("alter database restoring rename to jobs").await.unwrap();
    admin.close().await;
    installation.waits_to_be_adopted("copy of database \"jobs\" in the same cluster").await;
}
