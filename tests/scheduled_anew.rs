//! A job that is unscheduled and scheduled anew is another job, whether or not somebody ticked in between.

use crate::support::{Play, TestClient, assert_error, assert_sqlstate};

const ANEW: &str =
    "select sisyphus.schedule('job', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '1 h', retries => 1)";

/// How far the run of 07:05 has come: planned, or within the reach of claims.
const BEFORE: [(&str, &str); 2] = [("07:04:46", "waiting"), ("07:04:50", "pending")];

/// A job whose run of 07:05 has come so far.
async fn planned((time, state): (&str, &str)) -> (Play, i64) {
    let play = Play::at("07:00:00").await;
    play.exec(ANEW).await;
    let guardian = play.guardian("web1", 10).await;
    play.tick_at(time).await;
    assert_eq!(play.live().await, [format!("job 07:05:00 {state}")]);
    (play, guardian)
}

async fn unscheduled_and_scheduled_anew(play: &Play, times: [&str; 2]) {
    play.set_time(times[0]).await;
    play.exec("select sisyphus.unschedule('job')").await;
    play.set_time(times[1]).await;
    play.exec(ANEW).await;
}

/// What is told and what is live after a claim that comes before the next tick, the tick, and a claim after it.
async fn settled(play: &Play, guardian: i64, time: &str) -> (Vec<String>, Vec<String>) {
    play.set_time(time).await;
    for _ in 0..2 {
        for claim in play.claim(guardian, 10).await {
            assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
        }
        play.tick().await;
    }
    (play.told().await, play.live().await)
}

/// Suspended or not, unscheduled and scheduled anew, and only then does somebody tick.
async fn is_told(suspended: bool, times: [&str; 2], expected: &str) {
    for before in BEFORE {
        let (play, guardian) = planned(before).await;
        if suspended {
            play.exec("select sisyphus.suspend('job', reason => 'cleaning')").await;
        }
        unscheduled_and_scheduled_anew(&play, times).await;
        let (told, live) = settled(&play, guardian, "07:05:30").await;
        assert_eq!(told, [expected], "{before:?}");
        assert_eq!(live, [""; 0], "{before:?}");
    }
}

#[tokio::test]
async fn what_was_due_while_it_was_away_is_cancelled() {
    is_told(false, ["07:04:55", "07:05:10"], "job 07:05:00 #0 cancelled: the job was unscheduled").await;
    is_told(true, ["07:04:55", "07:05:10"], "job 07:05:00 #0 cancelled: the job was unscheduled").await;
}

#[tokio::test]
async fn what_was_due_before_it_went_and_had_not_started_is_cancelled() {
    is_told(false, ["07:05:05", "07:05:10"], "job 07:05:00 #0 cancelled: the job was unscheduled").await;
}

#[tokio::test]
async fn what_was_due_in_a_suspension_before_it_went_is_skipped() {
    let skipped = "job 07:05:00 #0 skipped: the job was suspended: cleaning";
    is_told(true, ["07:05:05", "07:05:10"], skipped).await;
}

#[tokio::test]
async fn what_is_due_after_it_is_back_runs_once() {
    is_told(false, ["07:04:55", "07:04:58"], "job 07:05:00 #1 succeeded: exit code 0").await;
    is_told(true, ["07:04:55", "07:04:58"], "job 07:05:00 #1 succeeded: exit code 0").await;
}

#[tokio::test]
async fn a_suspension_ends_with_the_job_whether_or_not_a_tick_has_seen_it() {
    for (before, seen, comes_back) in [
        (0, true, true),
        (1, true, true),
        (0, false, true),
        (1, false, true),
        (0, false, false),
        (1, true, false),
    ] {
        let (play, guardian) = planned(BEFORE[before]).await;
        play.exec("select sisyphus.suspend('job', reason => 'cleaning')").await;
        if seen {
            play.tick_at("07:04:52").await;
        }
        play.set_time("07:11:00").await;
        play.exec("select sisyphus.unschedule('job')").await;
        if comes_back {
            play.set_time("07:12:00").await;
            play.exec(ANEW).await;
        }
        let (told, live) = settled(&play, guardian, "07:12:30").await;
        let skipped =
            ["05", "10"].map(|m| format!("job 07:{m}:00 #0 skipped: the job was suspended: cleaning"));
        assert_eq!(told, skipped, "{before:?}, seen: {seen}, comes back: {comes_back}");
        assert_eq!(live, [""; 0]);
    }
}

#[tokio::test]
async fn what_was_asked_for_by_hand_before_is_cancelled() {
    let (play, guardian) = planned(BEFORE[1]).await;
    play.tick_at("07:05:01").await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    play.run_now("job").await;
    unscheduled_and_scheduled_anew(&play, ["07:05:05", "07:05:10"]).await;
    let (told, live) = settled(&play, guardian, "07:05:30").await;
    assert_eq!(
        told,
        ["job 07:05:00 #1 succeeded: exit code 0", "job 07:05:01 #0 cancelled: the job was unscheduled"]
    );
    assert_eq!(live, [""; 0]);
}

#[tokio::test]
async fn a_retry_of_before_is_not_made() {
    let (play, guardian) = planned(BEFORE[1]).await;
    play.tick_at("07:05:01").await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.finish(guardian, &claim, 1).await, "accepted");
    unscheduled_and_scheduled_anew(&play, ["07:05:05", "07:05:10"]).await;
    let (told, live) = settled(&play, guardian, "07:05:30").await;
    assert_eq!(told, ["job 07:05:00 #1 failed: exit code 1; not retried: the job was unscheduled"]);
    assert_eq!(live, [""; 0]);
}

#[tokio::test]
async fn a_job_that_a_wrong_clock_scheduled_is_not_taken_for_one_that_was_away() {
    let play = Play::at("10:00:00").await;
    play.exec(ANEW).await;
    let guardian = play.guardian("web1", 10).await;
    play.tick_at("06:59:00").await;
    play.pass_until("07:04:50").await;
    let asked = play.run_now("job").await;
    play.exec("select sisyphus.alter_job('job', priority => 3)").await;
    let (told, live) = settled(&play, guardian, "07:05:30").await;
    let by_hand = play.lines(&format!("select state from sisyphus.attempt where run_id = {asked}")).await;
    assert_eq!(by_hand, ["succeeded"], "{told:?}, {live:?}");
    assert!(!told.iter().any(|row| row.contains("unscheduled")), "{told:?}");
}

/// A job of alice with a run that has an input of its own, on its host; and bob, who wants its name.
async fn taken_over() -> (Play, TestClient, TestClient) {
    let play = Play::at("07:00:00").await;
    let alice = play.db.login("test_alice", &["sisyphus_author"]).await;
    let bob = play.db.login("test_bob", &["sisyphus_author"]).await;
    let secret =
        "select sisyphus.schedule('secret', null, 'true', overlap => 'allow', payload => '\"mine\"')";
    alice.batch_execute(secret).await.unwrap();
    (play, alice, bob)
}

const TAKE: &str = "select sisyphus.schedule('secret', null, 'false', payload => '\"his\"')";
const ASK: &str = "select sisyphus.run_now('secret', payload => '\"asked\"')";
const READ: &str =
    "select coalesce(owner, '-') || ' ' || coalesce(payload::text, '-') || ' ' || coalesce(stdout, '-')
                      from sisyphus.history order by run_id";

#[tokio::test]
async fn a_name_is_taken_over_when_nothing_of_its_old_owner_lives_any_more() {
    let (play, alice, bob) = taken_over().await;
    let guardian = play.guardian("web1", 5).await;
    alice.batch_execute(ASK).await.unwrap();
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    alice.batch_execute(ASK).await.unwrap();
    alice.batch_execute("select sisyphus.unschedule('secret')").await.unwrap();
    for _ in 0..2 {
        assert_error(
            bob.batch_execute(TAKE).await,
            "55000",
            &format!(
                "job \"secret\" of role test_alice was unscheduled, and run {} of it is live",
                claim.run_id
            ),
            "have test_alice end it",
        );
        play.tick().await;
    }
    assert_sqlstate(bob.query("select sisyphus.terminate($1)", &[&claim.run_id]).await, "42501");
    let finish =
        "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], '{0}', stdouts => '{word}')";
    play.client.query(finish, &[&guardian, &claim.run_id, &claim.claim_no]).await.unwrap();
    bob.batch_execute(TAKE).await.unwrap();
    let rows = alice.query(READ, &[]).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(),
        ["test_alice \"asked\" word", "test_alice \"asked\" -"]
    );
    let rows = bob.query(READ, &[]).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(),
        ["test_alice - -", "test_alice - -"]
    );
}

#[tokio::test]
async fn what_the_old_owner_asked_for_in_an_open_transaction_stays_hers() {
    let (play, mut alice, bob) = taken_over().await;
    let open = alice.transaction().await.unwrap();
    open.batch_execute(ASK).await.unwrap();
    play.set_time("07:00:01").await;
    play.exec("select sisyphus.unschedule('secret')").await;
    play.tick_at("07:00:02").await;
    bob.batch_execute(TAKE).await.unwrap();
    open.commit().await.unwrap();
    play.tick_at("07:00:03").await;
    let told: String = bob.query_one(READ, &[]).await.unwrap().get(0);
    assert_eq!(told, "test_alice - -");
    let told: String = alice.query_one(READ, &[]).await.unwrap().get(0);
    assert_eq!(told, "test_alice \"asked\" -");
}
