//! What happens when a run is due while its predecessor is still live.

use crate::support::{Claim, Play};

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

/// What a job that is due each second must come to, by the rules alone: in steps of a tenth of a second, `takes` of
/// them a run. A run that is told to end takes one more.
fn seconds(overlap: &str, ttl: i64, takes: i64, until: i64) -> Vec<String> {
    let mut told = Vec::new();
    let mut running: Vec<(i64, i64, &str)> = Vec::new();
    let mut waiter: Option<i64> = None;
    for now in 10..=until {
        running.retain(|(due, ends, as_what)| {
            if *ends <= now {
                told.push((*due, *as_what));
            }
            *ends > now
        });
        if let Some(stale) = waiter.take_if(|due| *due + ttl <= now) {
            told.push((stale, "expired"));
        }
        if now % 10 == 0 {
            let live = !running.is_empty() || waiter.is_some();
            match overlap {
                "skip" if live => told.push((now, "skipped")),
                "queue" if waiter.is_some() => told.push((now, "skipped")),
                "allow" => running.push((now, now + takes, "succeeded")),
                _ => {
                    if overlap == "replace" {
                        running
                            .iter_mut()
                            .for_each(|run| (run.1, run.2) = (run.1.min(now + 1), "terminated"));
                        told.extend(waiter.map(|older| (older, "skipped")));
                    }
                    waiter = Some(now);
                }
            }
        }
        if running.is_empty()
            && let Some(due) = waiter.take()
        {
            running.push((due, now + takes, "succeeded"));
        }
    }
    told.sort_unstable();
    told.iter().map(|(due, state)| format!("{} {state}", due / 10)).collect()
}

/// A run that is held: when it starts, and when it ends once it has started, by order or by itself.
type Held = (Claim, i64, Option<(i64, bool)>);

/// The same, played: a guardian that claims ahead, starts on time and obeys.
async fn played_seconds(overlap: &str, ttl: &str, takes: i64, until: i64) -> Vec<String> {
    let play = Play::at("07:00:00").await;
    play.exec(&format!(
        "select sisyphus.schedule('job', '* * * * * *', 'true', timezone => 'UTC', overlap => '{overlap}', ttl => {ttl})"
    ))
    .await;
    let guardian = play.guardian("web1", 10).await;
    play.tick().await;
    let mut held: Vec<Held> = Vec::new();
    for now in 1..=until {
        let ends = |(.., ends): &Held| ends.is_some_and(|(at, _)| at == now);
        if !matches!(now % 10, 0 | 1 | 5) && !held.iter().any(ends) {
            continue;
        }
        play.set_time(&format!("07:00:{:02}.{}", now / 10, now % 10)).await;
        play.exec("select sisyphus.tick()").await;
        let mut left = Vec::new();
        for (claim, starts, ends) in held {
            match ends {
                Some((at, by_order)) if at <= now => {
                    let answer = match by_order {
                        true => play.finish_by(guardian, &claim, "terminate", "ended").await,
                        false => play.finish(guardian, &claim, 0).await,
                    };
                    assert_eq!(answer, "accepted");
                }
                _ => left.push((claim, starts, ends)),
            }
        }
        held = left;
        let numbers: Vec<i64> = held.iter().map(|(claim, ..)| claim.claim_no).collect();
        let running = held.iter().filter(|(.., ends)| ends.is_some()).count() as i32;
        let (claims, requests) = play.claim_holding(guardian, 10 - running, Some(&numbers)).await;
        held.extend(claims.into_iter().map(|claim| {
            let starts = now + (claim.starts_in * 10.0).ceil() as i64;
            (claim, starts, None)
        }));
        for request in requests {
            let at =
                held.iter().position(|(claim, ..)| claim.claim_no == request.claim_no).expect("it is held");
            match (request.action.as_str(), &mut held[at]) {
                ("recall", (claim, ..)) => {
                    play.release(guardian, claim).await;
                    held.remove(at);
                }
                (_, (.., Some((ends, by_order)))) if !*by_order => {
                    (*ends, *by_order) = ((now + 1).min(*ends), true)
                }
                _ => {}
            }
        }
        for (claim, starts, ends) in &mut held {
            if *starts <= now && ends.is_none() {
                play.start(guardian, claim).await;
                *ends = Some((now + takes, false));
            }
        }
    }
    play.lines(
        "select format('%s %s', extract(second from due_at)::integer, state) from sisyphus.attempt order by due_at",
    )
    .await
}

async fn each_second_taking_three(overlap: &str) {
    const UNTIL: i64 = 149;
    for (ttl, tenths, takes) in [("null", 10, 29), ("'10 s'", 100, 29), ("'10 s'", 100, 31)] {
        let played = played_seconds(overlap, ttl, takes, UNTIL).await;
        let expected = seconds(overlap, tenths, takes, UNTIL);
        assert!(expected.len() >= 10, "{expected:?}");
        assert_eq!(played, expected, "{overlap}, ttl {ttl}, {takes} tenths");
    }
}

#[tokio::test]
async fn a_job_each_second_that_takes_three_runs_every_third_under_skip() {
    each_second_taking_three("skip").await;
    let ran =
        |takes| seconds("skip", 10, takes, 300).iter().filter(|line| line.ends_with("succeeded")).count();
    assert_eq!((ran(29), ran(31)), (9, 7), "every third, or every fourth when it takes a little more");
}

#[tokio::test]
async fn a_job_each_second_that_takes_three_has_one_waiter_under_queue() {
    each_second_taking_three("queue").await;
}

#[tokio::test]
async fn a_job_each_second_that_takes_three_is_ended_each_second_under_replace() {
    each_second_taking_three("replace").await;
}

#[tokio::test]
async fn a_job_each_second_that_takes_three_has_three_at_once_under_allow() {
    each_second_taking_three("allow").await;
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
        format!("job 07:00:00 #1 failed: exit code 1; not retried: superseded by run {}", next.run_id)
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

#[tokio::test]
async fn of_several_runs_that_were_allowed_before_one_speaks_for_all() {
    for (overlap, told) in [("skip", "07:02:00 was still live"), ("queue", "waits"), ("replace", "waits")] {
        let (play, guardian) = every_minute("allow", "").await;
        play.pass_until("07:01:00").await;
        let both = play.claim(guardian, 10).await;
        for claim in &both {
            play.start(guardian, claim).await;
        }
        play.exec(&format!("select sisyphus.alter_job('job', overlap => '{overlap}')")).await;
        play.pass_until("07:02:00").await;
        if told == "waits" {
            assert_eq!(play.live().await[2], "job 07:02:00 waiting", "{overlap}");
        } else {
            assert_eq!(
                play.told().await,
                [format!("job 07:02:00 #0 skipped: overlap: run {} was still live", both[0].run_id)]
            );
        }
        let (_, asked) = play.claim_holding(guardian, 5, Some(&[both[1].claim_no])).await;
        assert_eq!(asked.len(), if overlap == "replace" { 2 } else { 0 }, "{overlap}");
    }
}

#[tokio::test]
async fn a_rerun_is_an_overlap_of_what_was_live_when_it_was_asked_for() {
    let (play, guardian) = every_minute("skip", "").await;
    play.pass_until("07:00:00").await;
    let old = play.claim_one(guardian).await;
    play.finish(guardian, &old, 0).await;
    play.pass_until("07:01:00").await;
    let claim = play.claim_one(guardian).await;
    play.set_time("07:01:01").await;
    play.exec(&format!("select sisyphus.rerun({})", old.run_id)).await;
    play.set_time("07:01:02").await;
    play.finish(guardian, &claim, 0).await;
    assert_eq!(
        play.told().await[1],
        format!("job 07:00:00 #0 skipped: overlap: run {} was still live", claim.run_id)
    );
}

#[tokio::test]
async fn a_retry_of_a_rerun_gives_way_to_what_is_due_after_the_call_alone() {
    let (play, guardian) = every_minute("skip", ", retries => 1, retry_delay => '5 s'").await;
    play.pass_until("07:00:00").await;
    let old = play.claim_one(guardian).await;
    play.finish(guardian, &old, 0).await;
    play.pass_until("07:01:00").await;
    let later = play.claim_one(guardian).await;
    play.finish(guardian, &later, 0).await;
    play.pass_until("07:01:05").await;
    play.exec(&format!("select sisyphus.rerun({})", old.run_id)).await;
    let first = play.claim_one(guardian).await;
    play.finish(guardian, &first, 1).await;
    play.pass_until("07:01:10").await;
    let second = play.claim_one(guardian).await;
    assert_eq!((second.run_id, second.attempt), (first.run_id, 2));
}

/// What became of the occurrences of a job that is due each second or two while nobody is there to start it.
async fn unstarted_seconds(overlap: &str, schedule: &str, ttl: &str, is_late: bool) -> Vec<String> {
    let play = Play::at("06:59:50").await;
    play.exec(&format!(
        "select sisyphus.schedule('job', '{schedule}', 'true', timezone => 'UTC', overlap => '{overlap}', ttl => {ttl})"
    ))
    .await;
    play.pass_until("07:00:01.3").await;
    if is_late {
        play.tick_at("07:00:20.3").await;
    } else {
        play.pass_until("07:00:20.3").await;
    }
    play.lines(
        "select format('%s %s %s', extract(second from due_at)::integer, state, split_part(reason, ':', 1))
           from (select due_at, state, reason from sisyphus.attempt
                  union all select due_at, state, 'live' from sisyphus.run where due_at <= sisyphus._clock()) x
          order by due_at, 1",
    )
    .await
}

#[tokio::test]
async fn a_predecessor_that_expires_before_a_late_tick_was_live_until_then() {
    for overlap in ["skip", "queue", "replace"] {
        for (schedule, ttl) in [("* * * * * *", "'3 s'"), ("*/2 * * * * *", "'5 s'"), ("* * * * * *", "null")]
        {
            let in_time = unstarted_seconds(overlap, schedule, ttl, false).await;
            assert!(in_time.len() >= 15, "{in_time:?}");
            let late = unstarted_seconds(overlap, schedule, ttl, true).await;
            assert_eq!(late, in_time, "{overlap}, {schedule}, ttl {ttl}");
        }
    }
}
