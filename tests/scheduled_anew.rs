//! A job that is unscheduled and scheduled anew is another job, whether or not somebody ticked in between.

use crate::support::Play;

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
    assert_eq!(
        told,
        [
            "job 07:05:00 #1 failed: exit code 1; attempt 2 of 2 follows in 10 s; not retried: the job was unscheduled"
        ]
    );
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
