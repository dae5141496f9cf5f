//! The server of the database: strange settings, no room left, a lock that somebody holds, a pooler before it.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
};

use sisyphus::dev::account::Account;
use tempfile::TempDir;

use super::host::{Host, SOON, end_of, run, stop, until};
use crate::support::{self, OwnServer, SmallDisk, command, finish, folder, free_port, program, wait_until};

#[tokio::test]
async fn settings_that_a_database_has_for_others_do_not_hinder_it() {
    let db = support::db().await;
    let client = db.client().await;
    for (setting, value) in [
        ("statement_timeout", "150ms"),
        ("lock_timeout", "1ms"),
        ("idle_in_transaction_session_timeout", "1ms"),
        ("idle_session_timeout", "200ms"),
        ("default_transaction_isolation", "serializable"),
        ("timezone", "Asia/Tokyo"),
        ("datestyle", "sql, dmy"),
        ("intervalstyle", "iso_8601"),
        ("standard_conforming_strings", "off"),
        ("backslash_quote", "off"),
        ("transform_null_equals", "on"),
        ("array_nulls", "off"),
        ("plpgsql.extra_errors", "all"),
        ("extra_float_digits", "-15"),
    ] {
        let sql = format!("alter database \"{}\" set {setting} = '{value}'", db.name());
        client.batch_execute(&sql).await.unwrap();
    }
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "4"]).await;
    let sql = "select sisyphus.schedule('tick', 'every 1 second', 'true', ttl => '1 min')";
    client.query(sql, &[]).await.unwrap();
    until(&client, "it works", "3 <= (select count(*) from sisyphus.history where state = 'succeeded')")
        .await;
    let ended = stop(guardian);
    assert_eq!(ended.stderr.matches("connected to the database").count(), 1, "{}", ended.stderr);
}

#[tokio::test]
async fn a_lock_on_its_tables_delays_it_and_breaks_nothing() {
    let db = support::db().await;
    let (client, locker) = (db.client().await, db.client().await);
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "4"]).await;
    locker.batch_execute("begin; lock table sisyphus.run in access exclusive mode").await.unwrap();
    let sql = "exists (select from pg_stat_activity where application_name like 'sisyphus:%' and wait_event_type = 'Lock')";
    until(&locker, "it waits", sql).await;
    let refused = "not exists (select from pg_stat_activity
                                where application_name like 'sisyphus:%' and wait_event_type = 'Lock'
                                  and query_start < clock_timestamp() - interval '4 s')";
    until(&locker, "it does not wait for ever", refused).await;
    locker.batch_execute("rollback").await.unwrap();
    let run_id = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    stop(guardian);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_gets_all_results_when_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(300) else { return };
    let settings = "max_wal_size = '32MB'\nmin_wal_size = '32MB'\nautovacuum = off";
    let mut server = OwnServer::start_in(disk.folder(), settings, None);
    let client = support::connect(&server.url("postgres")).await;
    client.batch_execute("create database jobs").await.unwrap();
    support::run(&["--database-url", &server.url("jobs"), "migrate"]).success();
    client.close().await;
    let client = support::connect(&server.url("jobs")).await;
    let host = Host::new("web1", &server.url("jobs"));
    let guardian = host.start(&client, &["--slots", "8"]).await;
    let witness = host.file("witness");
    // Noise, so that no compression finds room.
    let command =
        format!("echo $SISYPHUS_RUN_ID >> {}; head -c 30000 /dev/urandom | base64", witness.display());
    client.query("select sisyphus.schedule('big', null, $1, overlap => 'allow')", &[&command]).await.unwrap();
    client.query("select sisyphus.run_many('big', array_fill('1'::jsonb, array[600]))", &[]).await.unwrap();
    until(&client, "it is at work", "5 < (select count(*) from sisyphus.history)").await;
    let filler = disk.fill();
    wait_until("the server has no room", SOON, async || {
        if server.log().contains("No space left on device") { Ok(()) } else { Err(server.log()) }
    })
    .await;
    drop(client);
    drop(filler);
    // Without room for its log a server ends; somebody has to start it again.
    if tokio_postgres::connect(&server.url("jobs"), tokio_postgres::NoTls).await.is_err() {
        server.crash();
        server.boot();
    }
    let client = support::connect(&server.url("jobs")).await;
    until(&client, "all have ended", "600 = (select count(*) from sisyphus.history where is_final)").await;
    let sql = "select count(*) filter (where state = 'succeeded'), count(distinct run_id), count(*)
                 from sisyphus.history";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (600, 600, 600));
    let mut starts: Vec<String> = fs::read_to_string(&witness).unwrap().lines().map(str::to_owned).collect();
    starts.sort();
    starts.dedup();
    assert_eq!((starts.len(), fs::read_to_string(&witness).unwrap().lines().count()), (600, 600));
    stop(guardian);
    client.close().await;
}

/// A pooler that gives each transaction another session.
struct Pooler {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Pooler {
    fn start(server: &Path) -> Option<Self> {
        let program = program("pgbouncer")?;
        let (dir, port) = (folder(), free_port());
        let account = Account::choose().unwrap();
        let (users, file) = (dir.path().join("users.txt"), dir.path().join("pgbouncer.ini"));
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let text = format!(
            "[databases]\n* = host={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 4\nserver_lifetime = 2\n",
            server.display(),
            users.display()
        );
        fs::write(&file, text).unwrap();
        let mut pooling = account.command(&program, dir.path());
        let child = pooling.arg("-q").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { child, port, _dir: dir })
    }

    fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_may_stand_before_the_database() {
    let Some(pooler) = Pooler::start(support::server()) else { return };
    let db = support::db().await;
    let client = db.client().await;
    client.query("select sisyphus.set_setting('heartbeat', '1 s')", &[]).await.unwrap();
    client.query("select sisyphus.set_setting('claim_ahead', '2 s')", &[]).await.unwrap();
    // All of it through the pooler: nothing is heard, so it asks.
    let polling = Host::new("web1", &pooler.url(db.name()));
    let guardian = polling.start(&client, &["--slots", "8"]).await;
    for round in 0..3 {
        let run_id = run(&client, &format!("job{round}"), "echo out").await;
        assert_eq!(end_of(&client, run_id).await, "succeeded");
    }
    let ended = stop(guardian);
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);

    // Listening directly, the rest through the pooler: woken at once.
    client.query("select sisyphus.set_setting('heartbeat', '5 s')", &[]).await.unwrap();
    let direct = Host::new("web2", &pooler.url(db.name()));
    let guardian = direct.start(&client, &["--slots", "8", "--listen-url", &db.url()]).await;
    until(
        &client,
        "it listens directly",
        "exists (select from pg_stat_activity
                  where application_name = 'sisyphus:control:web2' and datname = current_database())",
    )
    .await;
    let run_id = run(&client, "woken", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");

    // People too.
    for words in [&["jobs"][..], &["runs"], &["hosts"], &["doctor"], &["run", "woken", "--wait"], &["jobs"]] {
        let mut asking = command(words);
        asking.env("DATABASE_URL", pooler.url(db.name()));
        finish(asking).success();
    }
    let ended = stop(guardian);
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
}
