//! What happens when a run is due while its predecessor is still live.

use crate::support::Play;

async fn every_minute(overlap: &str, more: &str) -> (Play, i64) {
    let play = Play::at("06:59:00").await;
    play.exec(&format!(
        "select sisyphus.schedule('job', '* * * * *', 'true', timezone => 'UTC', ttl => '10 min', overlap => '{overlap}' {more})"
    ))
    .await;
    let guardian = play.guardian("web1", 10).await;
    (play, guardian)
}

#[tokio::test]
async fn skip_leaves_out_what_falls_due_meanwhile() {
    let (play, guardian) = every_minute("skip", "").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.pass_until("07:02:30").await;
    play.finish(guardian, &claim, 0).await;
    play.pass_until("07:03:00").await;
    let next = play.claim_one(guardian).await;
    play.finish(guardian, &next, 0).await;
    let why = format!("overlap: run {} was still live", claim.run_id);
    assert_eq!(
        play.told().await,
        [
            "job 07:00:00 #1 succeeded: exit code 0".to_owned(),
            format!("job 07:01:00 #0 skipped: {why}"),
            format!("job 07:02:00 #0 skipped: {why}"),
            "job 07:03:00 #1 succeeded: exit code 0".to_owned(),
        ]
    );
}

#[tokio::test]
async fn skip_is_decided_by_what_was_live_at_due_time_however_late_the_tick() {
    let (play, guardian) = every_minute("skip", "").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.pass_until("07:00:55").await;
    // No tick at 07:01:00; the process ends at 07:01:02 and is reported at 07:01:05.
    play.set_time("07:01:05").await;
    play.client
        .execute(
            "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => '{0}',
                 finished_at => '{2026-03-02 07:01:02+00}')",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
        .unwrap();
    play.tick().await;
    assert_eq!(
        play.told().await[1],
        format!("job 07:01:00 #0 skipped: overlap: run {} was still live", claim.run_id)
    );
}

#[tokio::test]
async fn a_process_that_ended_before_the_due_time_is_no_overlap_though_told_late() {
    let (play, guardian) = every_minute("skip", "").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.pass_until("07:00:55").await;
    play.set_time("07:01:05").await;
    play.client
        .execute(
            "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => '{0}',
                 finished_at => '{2026-03-02 07:00:58+00}')",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
        .unwrap();
    assert_eq!(play.claim_one(guardian).await.job, "job");
}

#[tokio::test]
async fn a_job_each_second_that_takes_three_runs_every_third() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', '* * * * * *', 'true', timezone => 'UTC', overlap => 'skip')")
        .await;
    let guardian = play.guardian("web1", 2).await;
    play.tick().await;
    let mut running = None;
    for second in 1..=30 {
        play.pass_until(&format!("07:00:{second:02}")).await;
        if let Some((claim, since)) = running.take() {
            if second - since < 3 {
                running = Some((claim, since));
            } else {
                play.finish(guardian, &claim, 0).await;
            }
        }
        if running.is_none() {
            let claims = play.claim(guardian, 2).await;
            let due = claims.into_iter().next();
            running = due.map(|claim| (claim, second));
        }
    }
    let row = play
        .client
        .query_one(
            "select count(*) filter (where state = 'succeeded'), count(*) filter (where state = 'skipped'),
                    count(*) filter (where state not in ('succeeded', 'skipped')),
                    count(distinct due_at) = count(*)
               from sisyphus.attempt",
            &[],
        )
        .await
        .unwrap();
    let (ran, skipped, other): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!((9..=10).contains(&ran), "{ran} ran, {skipped} skipped, {other} other");
    assert!((18..=20).contains(&skipped) && other == 0, "{ran} ran, {skipped} skipped, {other} other");
    assert!(row.get::<_, bool>(3), "each occurrence once");
}

#[tokio::test]
async fn queue_keeps_one_waiter() {
    let (play, guardian) = every_minute("queue", "").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.pass_until("07:03:30").await;
    assert_eq!(play.live().await, ["job 07:00:00 running", "job 07:01:00 waiting"]);
    play.finish(guardian, &claim, 0).await;
    let queued = play.claim_one(guardian).await;
    play.finish(guardian, &queued, 0).await;
    assert_eq!(play.told().await.len(), 4);
    assert_eq!(play.told().await[1], "job 07:01:00 #1 succeeded: exit code 0");
    assert_eq!(
        play.told().await[2],
        format!("job 07:02:00 #0 skipped: overlap: run {} already waits", queued.run_id)
    );
}

#[tokio::test]
async fn replace_ends_the_running_one_and_the_newest_follows() {
    let (play, guardian) = every_minute("replace", ", retries => 5").await;
    play.pass_until("07:00:00").await;
    let old = play.claim_one(guardian).await;
    play.start(guardian, &old).await;
    play.pass_until("07:01:00").await;
    let (_, asked) = play.claim_holding(guardian, 5, Some(&[old.claim_no])).await;
    assert_eq!(asked[0].action, "terminate");
    play.pass_until("07:02:00").await;
    play.finish_by(guardian, &old, "terminate", "ended").await;
    let new = play.claim_one(guardian).await;
    play.finish(guardian, &new, 0).await;
    let told = play.told().await;
    assert!(told[0].starts_with("job 07:00:00 #1 terminated: replaced by run "), "{told:?}");
    assert_eq!(told[1], format!("job 07:01:00 #0 skipped: overlap: replaced by run {}", new.run_id));
    assert_eq!(told[2], "job 07:02:00 #1 succeeded: exit code 0");
}

#[tokio::test]
async fn allow_runs_side_by_side() {
    let (play, guardian) = every_minute("allow", "").await;
    play.pass_until("07:01:00").await;
    assert_eq!(play.claim(guardian, 10).await.len(), 2);
}

#[tokio::test]
async fn a_second_run_by_hand_is_skipped_with_an_id() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let guardian = play.guardian("web1", 5).await;
    let first = play.run_now("job").await;
    let claim = play.claim_one(guardian).await;
    let second = play.run_now("job").await;
    assert!(second > first);
    play.tick_at("07:00:01").await;
    assert_eq!(play.told().await, [format!("job 07:00:00 #0 skipped: overlap: run {first} was still live")]);
    play.finish(guardian, &claim, 0).await;
}

#[tokio::test]
async fn a_run_by_hand_recalls_the_successor_that_was_claimed_ahead() {
    let (play, guardian) = every_minute("skip", "").await;
    play.pass_until("06:59:52").await;
    let ahead = play.claim_one(guardian).await;
    let by_hand = play.run_now("job").await;
    play.tick_at("06:59:53").await;
    let (claims, asked) = play.claim_holding(guardian, 5, Some(&[ahead.claim_no])).await;
    assert!(claims.is_empty());
    assert_eq!((asked[0].run_id, asked[0].action.as_str()), (ahead.run_id, "recall"));
    play.release(guardian, &ahead).await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(claim.run_id, by_hand);
    // It ends before the successor is due: that one runs as if nothing had been.
    play.set_time("06:59:55").await;
    play.finish(guardian, &claim, 0).await;
    let successor = play.claim_one(guardian).await;
    assert_eq!((successor.run_id, successor.attempt), (ahead.run_id, 1));
}

#[tokio::test]
async fn a_waiting_retry_gives_way_to_the_next_occurrence() {
    let (play, guardian) =
        every_minute("skip", ", retries => 3, retry_delay => '5 min', retry_max_delay => '5 min'").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 1).await;
    play.pass_until("07:01:00").await;
    let next = play.claim_one(guardian).await;
    play.finish(guardian, &next, 0).await;
    let told = play.told().await;
    assert_eq!(
        told[0],
        format!(
            "job 07:00:00 #1 failed: exit code 1; attempt 2 of 4 follows in 5 min; not retried: superseded by run {}",
            next.run_id
        )
    );
    assert_eq!(told[1], "job 07:01:00 #1 succeeded: exit code 0");
}

#[tokio::test]
async fn run_many_waits_its_turn_in_order_and_a_due_occurrence_goes_first() {
    let (play, guardian) = every_minute("skip", "").await;
    play.tick().await;
    play.exec("select sisyphus.run_many('job', '{1,2,3}')").await;
    let first = play.claim_one(guardian).await;
    assert_eq!(first.payload, Some(1.into()));
    play.start(guardian, &first).await;
    play.pass_until("07:00:10").await;
    // The occurrence of 07:00 is no overlap with what waits its turn: it waits and goes first.
    play.finish(guardian, &first, 0).await;
    let scheduled = play.claim_one(guardian).await;
    assert_eq!(scheduled.payload, None);
    play.finish(guardian, &scheduled, 0).await;
    let second = play.claim_one(guardian).await;
    assert_eq!(second.payload, Some(2.into()));
    play.finish(guardian, &second, 0).await;
    let third = play.claim_one(guardian).await;
    assert_eq!(third.payload, Some(3.into()));
}
