//! What a person or a service manager sees of a guardian: errors, exit codes, readiness.

use std::{os::unix::net::UnixDatagram, time::Duration};

use sisyphus::migrate::migrate;

use super::host::{Host, SOON, end_of, run, stop};
use crate::support;

#[tokio::test]
async fn a_second_guardian_on_a_state_directory_is_refused() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    host.spawn(&[]).wait().failure(3, &["is in use by another guardian", "hint: one guardian a host"]);
    stop(guardian);
}

#[tokio::test]
async fn a_missing_schema_ends_it_with_its_own_code() {
    let db = support::empty_db().await;
    Host::new("web1", &db.url()).spawn(&[]).wait().failure(5, &["sisyphus migrate"]);
}

#[tokio::test]
async fn a_login_that_is_not_bound_to_the_host_is_told_how_to_be() {
    let db = support::db().await;
    drop(db.login("test_guardian_unbound", &["sisyphus_guardian"]).await);
    let host = Host::new("web1", &db.url_as("test_guardian_unbound"));
    host.spawn(&[]).wait().failure(1, &["is not bound to host \"web1\"", "bind_guardian"]);
}

/// Nothing but another setting of this guardian, or a pool that somebody makes, helps; who starts it is to see that.
#[tokio::test]
async fn what_no_registration_can_have_ends_it_as_a_wrong_setting() {
    let db = support::db().await;
    Host::new("", &db.url())
        .spawn(&[])
        .wait()
        .failure(3, &["host", "hint: Give 1 to 63 printable characters"]);
    let host = Host::new("web1", &db.url());
    host.spawn(&["--pool", "webb"]).wait().failure(3, &["pool \"webb\" does not exist", "create_pool"]);
}

#[tokio::test]
async fn a_bound_login_may_act_for_its_host() {
    let db = support::db().await;
    let client = db.client().await;
    drop(db.login("test_guardian_bound", &["sisyphus_guardian"]).await);
    client.query("select sisyphus.bind_guardian('test_guardian_bound', 'web1')", &[]).await.unwrap();
    let host = Host::new("web1", &db.url_as("test_guardian_bound"));
    let guardian = host.start(&client, &[]).await;
    let run_id = run(&client, "a", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    stop(guardian);
}

/// Its order would be longer than a line to the keeper may be.
#[tokio::test]
async fn a_run_with_too_large_a_payload_fails_and_no_other() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--slots", "2"]).await;
    client.query("select sisyphus.schedule('large', null, 'true')", &[]).await.unwrap();
    // No call would take it.
    client.query("update sisyphus.job set payload = to_jsonb(repeat('x', 70000000))", &[]).await.unwrap();
    let large = client.query_one("select sisyphus.run_now('large')", &[]).await.unwrap().get(0);
    assert_eq!(end_of(&client, large).await, "failed");
    let reason = "select reason from sisyphus.history where run_id = $1";
    let reason: String = client.query_one(reason, &[&large]).await.unwrap().get(0);
    assert!(reason.contains("too large"), "{reason}");
    let next = run(&client, "next", "true").await;
    assert_eq!(end_of(&client, next).await, "succeeded");
    let ended = stop(guardian);
    assert!(!ended.stderr.contains("the keeper is gone"), "{}", ended.stderr);
}

#[tokio::test]
async fn output_that_the_encoding_of_the_database_cannot_hold_is_stored_in_ascii() {
    let db = support::empty_db_of("LATIN1").await;
    let mut client = db.client().await;
    migrate(&mut client).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let print = r#"printf '\303\244 5 \342\202\254 \377\n'; echo "{\"n\":1}" > $SISYPHUS_RESULT_FILE"#;
    for (command, stdout, reason) in [
        (print, "? 5 ? ?\n", "\"?\" stands for what is not ASCII: "),
        (r"printf '\303\244\n'", "\u{e4}\n", "exit code 0"),
    ] {
        let run_id = run(&client, "print", command).await;
        assert_eq!(end_of(&client, run_id).await, "succeeded");
        let sql = "select stdout, reason, result->>'n' from sisyphus.history where run_id = $1";
        let row = client.query_one(sql, &[&run_id]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), stdout);
        assert!(row.get::<_, String>(1).contains(reason), "{}", row.get::<_, String>(1));
        assert_eq!(row.get::<_, Option<String>>(2).is_some(), command == print);
    }
    stop(guardian);
}

#[tokio::test]
async fn two_machines_with_one_name_do_not_declare_each_other_lost() {
    let db = support::db().await;
    let client = db.client().await;
    let (host, clone) = (Host::new("web1", &db.url()), Host::new("web1", &db.url()));
    let guardian = host.start(&client, &[]).await;
    clone.spawn(&["--once"]).wait().failure(1, &["another host_key", "own --host"]);
    stop(guardian);
}

#[test]
fn once_says_that_the_database_cannot_be_reached() {
    let host = Host::new("web1", "host=/nonexistent dbname=none user=nobody");
    host.spawn(&["--once"]).wait().failure(4, &["cannot connect to the database at /nonexistent"]);
}

#[tokio::test]
async fn once_says_that_it_cannot_tick() {
    let db = support::db().await;
    let host = Host::new("web1", "host=/nonexistent dbname=none user=nobody");
    let ended = host.spawn(&["--once", "--listen-url", &db.url()]).wait();
    ended.failure(4, &["cannot connect to the database at /nonexistent"]);
}

#[tokio::test]
async fn a_guardian_whose_database_is_out_of_reach_says_so_and_does_not_repeat_itself() {
    let host = Host::new("web1", "host=/nonexistent dbname=none user=nobody");
    let mut command = host.command(&[]);
    command.env("SISYPHUS_LOG", "info,sisyphus::guardian=debug");
    let guardian = support::spawn(command);
    support::wait_until("it has tried a few times", SOON, async || {
        let said = guardian.stderr_so_far();
        if said.matches("still away").count() > 2 { Ok(()) } else { Err(said) }
    })
    .await;
    let said = stop(guardian).stderr;
    let told: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(told.len(), 1, "{said}");
    for part in ["database.away", "cannot connect to the database at /nonexistent", "hint"] {
        assert!(told[0].contains(part), "{}", told[0]);
    }
}

#[test]
fn the_service_manager_hears_of_readiness_before_the_database_answers() {
    let host = Host::new("web1", "host=/nonexistent dbname=none user=nobody");
    let path = host.file("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut command = host.command(&[]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let guardian = support::spawn(command);
    let mut heard = Vec::new();
    let mut buffer = [0; 64];
    while !(heard.contains(&"READY=1".to_owned()) && heard.contains(&"WATCHDOG=1".to_owned())) {
        let length = manager.recv(&mut buffer).expect("READY=1 and WATCHDOG=1 come");
        heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    stop(guardian);
    manager.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    while let Ok(length) = manager.recv(&mut buffer) {
        heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert!(heard.contains(&"STOPPING=1".to_owned()), "{heard:?}");
}
