//! Suspend, resume, a change of the job, a tick and the due time, in every order.
//!
//! The rule: what has not started when a suspension ends, and was due by then, is skipped; what is due later runs.
//! It must not depend on when somebody ticked.

use crate::support::{Claim, Play};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Suspend,
    Resume,
    Alter,
    Tick,
    Due,
}

use Event::{Alter, Due, Resume, Suspend, Tick};

/// How far the occurrence has come when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Unplanned,
    Planned,
    Claimed,
}

/// All orders in which the resume follows the suspension.
fn orders() -> Vec<Vec<Event>> {
    let mut orders: Vec<Vec<Event>> = vec![vec![]];
    for event in [Suspend, Resume, Alter, Tick, Due] {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                (0..=order.len()).map(move |at| {
                    let mut longer = order.clone();
                    longer.insert(at, event);
                    longer
                })
            })
            .collect();
    }
    orders.retain(|order| place(order, Suspend) < place(order, Resume));
    assert_eq!(orders.len(), 60);
    orders
}

fn place(order: &[Event], event: Event) -> usize {
    order.iter().position(|other| *other == event).expect("each is there once")
}

/// Whether it runs: by the rule, and a claim that nobody could recall in time starts.
fn runs(order: &[Event], before: Before) -> bool {
    let tick = place(order, Tick);
    let recalled = tick < place(order, Due)
        && (tick > place(order, Alter) || (tick > place(order, Suspend) && tick < place(order, Resume)));
    before == Before::Claimed && !recalled || place(order, Resume) < place(order, Due)
}

async fn every_order(before: Before, alter: &str) {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 10).await;
    let mut wrong = Vec::new();
    for (number, order) in orders().into_iter().enumerate() {
        let told = play_order(&play, guardian, number, &order, before, alter).await;
        let expected: &[&str] = match runs(&order, before) {
            true => &["succeeded: exit code 0"],
            false => &["skipped: the job was suspended: cleaning", "skipped: the job is suspended: cleaning"],
        };
        if told.len() != 1 || !expected.contains(&told[0].as_str()) {
            wrong.push(format!("{order:?}: {told:?} is not one of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} orders:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is told of the one occurrence of a new job.
async fn play_order(
    play: &Play,
    guardian: i64,
    number: usize,
    order: &[Event],
    before: Before,
    alter: &str,
) -> Vec<String> {
    let (hour, minute, job) = (8 + number / 60, number % 60, format!("job{number}"));
    // Offsets from the due time, in seconds.
    let moment = |offset: i32| {
        let at = hour as i32 * 3600 + minute as i32 * 60 + offset;
        format!("{:02}:{:02}:{:02}", at / 3600, at / 60 % 60, at % 60)
    };
    play.tick_at(&moment(-25)).await;
    play.exec(&format!("select sisyphus.schedule('{job}', '{minute} {hour} * * *', 'true', timezone => 'UTC', ttl => '5 min')"))
        .await;
    play.tick_at(&moment(-20)).await;
    if before != Before::Unplanned {
        play.tick_at(&moment(-10)).await;
    }
    let mut held: Option<Claim> = None;
    if before == Before::Claimed {
        held = Some(play.claim_one(guardian).await);
    }
    let due = place(order, Due) as i32;
    for (at, event) in order.iter().enumerate() {
        play.set_time(&moment(at as i32 - due)).await;
        match event {
            Suspend => play.exec(&format!("select sisyphus.suspend('{job}', reason => 'cleaning')")).await,
            Resume => play.exec(&format!("select sisyphus.resume('{job}')")).await,
            Alter => {
                let alter = alter.replace("{cron}", &format!("{minute} {hour} * * 0-7"));
                play.exec(&format!("select sisyphus.alter_job('{job}', {alter})")).await;
            }
            Tick => {
                play.tick().await;
                // Its guardian is connected: it is told, and gives back what it has not started.
                if at < due as usize
                    && let Some(claim) = held.take()
                {
                    let (_, requests) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
                    match requests.is_empty() {
                        true => held = Some(claim),
                        false => assert_eq!(play.release(guardian, &claim).await, "accepted"),
                    }
                }
            }
            Due => {
                if let Some(claim) = &held {
                    assert_eq!(play.start(guardian, claim).await, "accepted");
                }
            }
        }
    }
    play.tick_at(&moment(10)).await;
    let claims = play
        .claim_holding(guardian, 10, held.as_ref().map(|claim| [claim.claim_no]).as_ref().map(|n| &n[..]))
        .await
        .0;
    for claim in claims.iter().chain(&held) {
        play.finish(guardian, claim, 0).await;
    }
    play.exec(&format!("select sisyphus.unschedule('{job}')")).await;
    play.tick_at(&moment(11)).await;
    assert!(play.live().await.is_empty(), "{order:?}: {:?}", play.live().await);
    play.lines(&format!(
        "select format('%s%s: %s', state, case when occurrences > 1 then ' ×' || occurrences end, reason)
           from sisyphus.attempt where job = '{job}' order by run_id, attempt"
    ))
    .await
}

#[tokio::test]
async fn around_an_occurrence_that_nobody_planned_yet() {
    every_order(Before::Unplanned, "retries => 1").await;
}

#[tokio::test]
async fn around_an_occurrence_that_is_planned() {
    every_order(Before::Planned, "retries => 1").await;
}

#[tokio::test]
async fn around_an_occurrence_that_is_claimed() {
    every_order(Before::Claimed, "retries => 1").await;
}

#[tokio::test]
async fn around_an_occurrence_of_a_schedule_that_changes() {
    every_order(Before::Planned, "schedule => '{cron}'").await;
}

/// A claim may come between the resume and the tick that applies it: what that tick will skip is not there for it.
#[tokio::test]
async fn a_claim_takes_nothing_that_was_due_in_a_suspension_though_nobody_has_ticked_since_the_resume() {
    for overlap in ["skip", "allow"] {
        let play = Play::at("07:00:00").await;
        let guardian = play.guardian("web1", 10).await;
        play.exec(&format!(
            "select sisyphus.schedule('job', '1 7 * * *', 'true', timezone => 'UTC', ttl => '5 min', overlap => '{overlap}')"
        ))
        .await;
        play.tick_at("07:00:50").await;
        play.exec("select sisyphus.suspend('job', reason => 'cleaning')").await;
        play.set_time("07:01:05").await;
        play.exec("select sisyphus.resume('job')").await;
        for _ in 0..3 {
            assert!(play.claim(guardian, 10).await.is_empty(), "{overlap}");
        }
        play.tick_at("07:01:06").await;
        assert_eq!(
            play.told().await,
            ["job 07:01:00 #0 skipped: the job was suspended: cleaning"],
            "{overlap}"
        );
    }
}

/// A job of each five minutes that catches up on an hour, at 07:01; nobody ticks from then on.
async fn a_job_that_nobody_plans() -> Play {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '1 h', missed => 'all')")
        .await;
    play.tick_at("07:01:00").await;
    play
}

#[tokio::test]
async fn a_suspension_that_began_and_ended_in_a_downtime_is_not_caught_up() {
    let often = "often 07:05:00 #0 skipped ×6: the job was suspended: cleaning";
    for end in ["select sisyphus.resume('often')", "select sisyphus.resume_all()", "until"] {
        let play = a_job_that_nobody_plans().await;
        play.set_time("07:02:00").await;
        if end == "until" {
            play.exec(
                "select sisyphus.suspend('often', until => '2026-03-02 07:31+00', reason => 'cleaning')",
            )
            .await;
        } else {
            play.exec("select sisyphus.suspend('often', reason => 'cleaning')").await;
            play.set_time("07:31:00").await;
            play.exec(end).await;
        }
        play.tick_at("07:42:00").await;
        assert_eq!(play.told().await, [often], "{end}");
        // What was missed after it is.
        assert_eq!(play.live().await, ["often 07:35:00 pending", "often 07:40:00 waiting"], "{end}");
    }
}

/// Without a hint what is due within a heartbeat of the end of a suspension starts late, or expires.
#[tokio::test]
async fn a_host_is_told_when_a_suspension_ends_by_itself() {
    for run_on in ["any", "all"] {
        let mut play = Play::at("07:00:00").await;
        let guardian = play.guardian("web1", 1).await;
        play.exec(&format!(
            "select sisyphus.schedule('j', '* * * * *', 'true', timezone => 'UTC', run_on => '{run_on}')"
        ))
        .await;
        play.exec("select sisyphus.suspend('j', until => '2026-03-02 07:00:59.5+00')").await;
        play.pass_until("07:00:59").await;
        assert!(play.claim(guardian, 1).await.is_empty());
        let host_id: i64 = play.value("select host_id from sisyphus.host", &[]).await;
        play.exec(&format!("listen sisyphus_host_{host_id}")).await;
        play.tick_at("07:00:59.6").await;
        assert_eq!(play.client.hints(), 1, "{run_on}");
        assert_eq!(play.claim(guardian, 1).await.len(), 1, "{run_on}");
    }
}

#[tokio::test]
async fn a_suspension_that_was_prolonged_in_a_downtime_goes_on() {
    let play = a_job_that_nobody_plans().await;
    play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:11+00')").await;
    play.set_time("07:10:00").await;
    play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:31+00')").await;
    play.tick_at("07:20:00").await;
    assert!(play.live().await.is_empty() && play.told().await.is_empty());
    play.tick_at("07:42:00").await;
    assert_eq!(play.told().await, ["often 07:05:00 #0 skipped ×6: the job was suspended"]);
}

/// It has ended when somebody ticks, and had not when the job was changed.
#[tokio::test]
async fn a_change_before_a_suspension_ends_by_itself_brings_back_nothing_of_it() {
    let first = "often 07:05:00 #0 skipped ×2: the job was suspended";
    for ticked in [true, false] {
        let play = a_job_that_nobody_plans().await;
        play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:20+00')").await;
        if ticked {
            play.tick_at("07:02:00").await;
        }
        play.set_time("07:11:00").await;
        play.exec("select sisyphus.alter_job('often', schedule => '*/4 * * * *')").await;
        play.tick_at("07:25:00").await;
        assert_eq!(
            play.told().await,
            [first, "often 07:12:00 #0 skipped ×3: the job was suspended"],
            "{ticked}"
        );
        assert_eq!(play.live().await, ["often 07:24:00 pending"], "{ticked}");
    }
    // Not even in a fleet that is up: it changes two seconds before the end.
    let play = a_job_that_nobody_plans().await;
    play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:10+00')").await;
    play.pass_until("07:09:58").await;
    play.exec("select sisyphus.alter_job('often', schedule => '*/2 * * * *')").await;
    play.tick_at("07:10:01").await;
    assert_eq!(
        play.told().await,
        [
            "often 07:05:00 #0 skipped: the job was suspended",
            "often 07:10:00 #0 skipped: the job was suspended"
        ]
    );
    assert_eq!(play.live().await, [""; 0]);
}

#[tokio::test]
async fn what_was_due_between_the_end_of_a_suspension_and_a_change_was_not_suspended() {
    for (change, why) in [
        ("alter_job('often', schedule => '7 * * * *')", "withdrawn by version 2 of the job"),
        ("unschedule('often')", "the job was unscheduled"),
    ] {
        let play = a_job_that_nobody_plans().await;
        play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:11+00')").await;
        play.tick_at("07:02:00").await;
        play.set_time("07:22:00").await;
        play.exec(&format!("select sisyphus.{change}")).await;
        play.tick_at("07:23:00").await;
        assert_eq!(
            play.told().await,
            [
                "often 07:05:00 #0 skipped ×2: the job was suspended".to_owned(),
                format!("often 07:15:00 #0 cancelled ×2: {why} before it was planned"),
            ],
            "{change}"
        );
    }
}

#[tokio::test]
async fn a_suspension_that_ended_unseen_is_told_to_its_end_though_the_job_has_gone() {
    let play = a_job_that_nobody_plans().await;
    play.exec("select sisyphus.suspend('often')").await;
    play.tick_at("07:02:00").await;
    play.exec("select sisyphus.suspend('often', until => '2026-03-02 07:11+00')").await;
    play.set_time("07:16:00").await;
    play.exec("select sisyphus.suspend('often')").await;
    play.set_time("07:21:00").await;
    play.exec("select sisyphus.unschedule('often')").await;
    play.tick_at("07:22:00").await;
    assert_eq!(
        play.told().await,
        [
            "often 07:05:00 #0 skipped ×2: the job was suspended",
            "often 07:15:00 #0 skipped ×2: the job was suspended"
        ]
    );
}

/// The versions between have times of their own.
#[tokio::test]
async fn what_is_told_of_an_interval_counts_from_where_it_counted() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', 'every 10 min', 'true')").await;
    play.set_time("07:01:30").await;
    play.exec("select sisyphus.alter_job('job', ttl => '5 min')").await;
    play.tick().await;
    play.set_time("07:12:00").await;
    play.exec("select sisyphus.alter_job('job', schedule => 'every 7 min')").await;
    play.tick().await;
    assert_eq!(
        play.told().await,
        ["job 07:10:00 #0 cancelled: withdrawn by version 3 of the job before it was planned"]
    );
}

#[tokio::test]
async fn what_nobody_planned_before_a_change_is_told_by_the_schedule_of_that_time() {
    let play = a_job_that_nobody_plans().await;
    play.set_time("07:31:00").await;
    play.exec("select sisyphus.alter_job('often', schedule => '*/20 * * * *')").await;
    play.tick_at("07:42:00").await;
    assert_eq!(
        play.told().await,
        ["often 07:05:00 #0 cancelled ×6: withdrawn by version 2 of the job before it was planned"]
    );
    assert_eq!(play.live().await, ["often 07:40:00 pending"]);
    play.set_time("08:25:00").await;
    play.exec("select sisyphus.unschedule('often')").await;
    play.tick_at("08:42:00").await;
    assert_eq!(
        play.told().await[1..],
        [
            "often 07:40:00 #0 cancelled: the job was unscheduled",
            "often 08:00:00 #0 cancelled ×2: the job was unscheduled before it was planned"
        ]
    );
    assert!(play.live().await.is_empty());
}

/// Several changes and no tick between them: what was due before each is told by the schedule of that time.
#[tokio::test]
async fn what_nobody_planned_between_two_changes_is_told_too() {
    let unplanned = "before it was planned";
    for (second, told) in [
        (
            "alter_job('often', schedule => '7 * * * *')",
            format!("often 07:40:00 #0 cancelled ×2: withdrawn by version 3 of the job {unplanned}"),
        ),
        (
            "unschedule('often')",
            format!("often 07:40:00 #0 cancelled ×2: the job was unscheduled {unplanned}"),
        ),
    ] {
        let play = a_job_that_nobody_plans().await;
        play.set_time("07:31:00").await;
        play.exec("select sisyphus.alter_job('often', schedule => '*/10 * * * *')").await;
        play.set_time("07:55:00").await;
        play.exec(&format!("select sisyphus.{second}")).await;
        play.tick_at("08:02:00").await;
        let first = format!("often 07:05:00 #0 cancelled ×6: withdrawn by version 2 of the job {unplanned}");
        assert_eq!(play.told().await, [first, told], "{second}");
    }
}

#[tokio::test]
async fn a_job_that_was_away_between_two_ticks_has_what_was_due_before_and_after() {
    let play = a_job_that_nobody_plans().await;
    play.set_time("07:31:00").await;
    play.exec("select sisyphus.unschedule('often')").await;
    play.set_time("07:55:00").await;
    play.exec("select sisyphus.schedule('often', '*/20 * * * *', 'true', timezone => 'UTC', ttl => '1 h')")
        .await;
    play.tick_at("08:02:00").await;
    let often = "often 07:05:00 #0 cancelled ×6: the job was unscheduled before it was planned";
    assert_eq!(play.told().await, [often]);
    assert_eq!(play.live().await, ["often 08:00:00 pending"]);
}

/// Twice changed, by nobody's tick in between: each stretch is told by the schedule of its time.
#[tokio::test]
async fn two_changes_between_two_ticks_leave_no_occurrence_of_the_middle_version_untold() {
    for suspended in [true, false] {
        let play = a_job_that_nobody_plans().await;
        if suspended {
            play.exec("select sisyphus.suspend('often')").await;
            play.tick_at("07:02:00").await;
        }
        for (time, schedule) in [("07:21:00", "*/2 * * * *"), ("07:31:00", "0 */4 * * *")] {
            play.set_time(time).await;
            play.exec(&format!("select sisyphus.alter_job('often', schedule => '{schedule}')")).await;
        }
        play.set_time("08:02:00").await;
        if suspended {
            play.exec("select sisyphus.resume('often')").await;
        }
        play.tick_at("08:03:00").await;
        let expected = match suspended {
            true => [
                "often 07:05:00 #0 skipped ×4: the job was suspended",
                "often 07:22:00 #0 skipped ×5: the job was suspended",
                "often 08:00:00 #0 skipped: the job was suspended",
            ]
            .as_slice(),
            false => &[
                "often 07:05:00 #0 cancelled ×4: withdrawn by version 2 of the job before it was planned",
                "often 07:22:00 #0 cancelled ×5: withdrawn by version 3 of the job before it was planned",
            ],
        };
        assert_eq!(play.told().await, expected, "suspended: {suspended}");
        let live: &[&str] = if suspended { &[] } else { &["often 08:00:00 pending"] };
        assert_eq!(play.live().await, live, "suspended: {suspended}");
    }
}

/// A refreshed calendar takes the watermark back to what is not decided yet, and no further.
#[tokio::test]
async fn a_calendar_that_is_refreshed_after_a_change_brings_back_nothing_of_the_time_before() {
    let play = Play::at("07:00:00").await;
    let calendar = |day| format!("select sisyphus.create_calendar('holidays', 'select date ''{day}''')");
    play.exec(&calendar("2026-05-01")).await;
    play.exec(
        "select sisyphus.schedule('job', '0 * * * *', 'true', timezone => 'UTC', except_on => 'holidays')",
    )
    .await;
    play.tick_at("07:00:05").await;
    play.set_time("09:20:00").await;
    play.exec("select sisyphus.alter_job('job', schedule => '30 * * * *')").await;
    play.set_time("09:25:00").await;
    play.exec(&calendar("2026-05-02")).await;
    play.tick_at("09:40:00").await;
    assert_eq!(
        play.told().await,
        ["job 08:00:00 #0 cancelled ×2: withdrawn by version 2 of the job before it was planned"]
    );
    assert_eq!(play.live().await, ["job 09:30:00 pending"]);
}

#[tokio::test]
async fn what_was_left_out_before_a_change_is_explained_by_the_schedule_of_that_time() {
    let play = Play::at("07:50:00").await;
    play.exec("select sisyphus.schedule('job', '0 * * * *', 'true', timezone => 'UTC')").await;
    play.exec("select sisyphus.suspend('job')").await;
    play.tick().await;
    play.set_time("10:10:00").await;
    play.exec("select sisyphus.alter_job('job', schedule => '30 * * * *')").await;
    play.tick().await;
    let nine = "select sisyphus.explain('job', '2026-03-02 09:00+00') like '% one of 3 occurrences: the job was suspended'";
    assert!(play.value::<bool>(nine, &[]).await, "{:?}", play.told().await);
}

#[tokio::test]
async fn a_new_job_that_is_changed_before_the_first_tick_is_told_of_as_it_was() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC')").await;
    play.set_time("07:11:00").await;
    play.exec("select sisyphus.alter_job('often', schedule => '0 12 * * *')").await;
    play.tick_at("07:12:00").await;
    assert_eq!(
        play.told().await,
        ["often 07:05:00 #0 cancelled ×2: withdrawn by version 2 of the job before it was planned"]
    );
}

#[tokio::test]
async fn an_occurrence_that_one_change_withdraws_and_the_next_brings_back_is_left_out_by_a_suspension() {
    let play = a_job_that_nobody_plans().await;
    play.tick_at("07:04:50").await;
    play.exec("select sisyphus.alter_job('often', schedule => '7 * * * *')").await;
    play.tick_at("07:04:52").await;
    play.exec("select sisyphus.alter_job('often', schedule => '*/5 * * * *')").await;
    play.exec("select sisyphus.suspend('often')").await;
    play.tick_at("07:05:30").await;
    play.exec("select sisyphus.resume('often')").await;
    play.tick_at("07:05:31").await;
    assert_eq!(
        play.told().await,
        [
            "often 07:05:00 #0 cancelled: withdrawn by version 2 of the job",
            "often 07:05:00 #0 skipped: the job was suspended"
        ]
    );
}

/// A slow guardian gives back what a suspension withdrew after it was due; the job had been resumed before that.
#[tokio::test]
async fn what_a_guardian_gives_back_late_is_left_out_only_if_it_was_due_in_the_suspension() {
    for (resumed_at, ticked, runs) in [
        ("07:04:58", true, true),
        ("07:04:58", false, true),
        ("07:05:01", true, false),
        ("07:05:01", false, false),
    ] {
        let play = a_job_that_nobody_plans().await;
        let guardian = play.guardian("web1", 1).await;
        play.tick_at("07:04:55").await;
        let claim = play.claim_one(guardian).await;
        play.exec("select sisyphus.suspend('often')").await;
        play.tick_at("07:04:56").await;
        play.set_time(resumed_at).await;
        play.exec("select sisyphus.resume('often')").await;
        if ticked {
            play.tick().await;
        }
        play.set_time("07:05:02").await;
        assert_eq!(play.release(guardian, &claim).await, "accepted");
        play.tick_at("07:05:03").await;
        let live: &[&str] = if runs { &["often 07:05:00 pending"] } else { &[] };
        assert_eq!(play.live().await, live, "resumed at {resumed_at}, ticked: {ticked}");
        let told = play.told().await;
        assert_eq!(told.len(), usize::from(!runs), "resumed at {resumed_at}, ticked: {ticked}: {told:?}");
    }
}

/// Whoever meets a suspended job recalls what is claimed of it; that may commit after the tick that ends the suspension.
#[tokio::test]
async fn a_recall_that_commits_after_the_end_of_its_suspension_leaves_nothing_out() {
    let play = a_job_that_nobody_plans().await;
    let guardian = play.guardian("web1", 1).await;
    play.tick_at("07:04:55").await;
    let claim = play.claim_one(guardian).await;
    play.exec("select sisyphus.suspend('often')").await;
    let other = play.db.client().await;
    let fit = "begin; select sisyphus._fit_runs(array_agg(job_id), sisyphus._clock()) from sisyphus.job";
    other.batch_execute(fit).await.unwrap();
    play.set_time("07:04:58").await;
    play.exec("select sisyphus.resume('often')").await;
    play.tick().await;
    other.batch_execute("commit").await.unwrap();
    play.set_time("07:05:02").await;
    assert_eq!(play.release(guardian, &claim).await, "accepted");
    assert_eq!((play.live().await, play.told().await), (vec!["often 07:05:00 pending".to_owned()], vec![]));
}

#[tokio::test]
async fn what_was_due_in_a_suspension_is_no_overlap_for_a_claim_before_the_next_tick() {
    let play = a_job_that_nobody_plans().await;
    let (busy, idle) = (play.guardian("web1", 1).await, play.guardian("web2", 1).await);
    play.tick_at("07:05:00").await;
    let claim = play.claim_one(busy).await;
    play.start(busy, &claim).await;
    play.tick_at("07:09:50").await;
    play.exec("select sisyphus.suspend('often', reason => 'stocktaking')").await;
    play.set_time("07:10:30").await;
    play.exec("select sisyphus.resume('often')").await;
    assert!(play.claim(idle, 1).await.is_empty());
    play.tick().await;
    assert_eq!(play.told().await, ["often 07:10:00 #0 skipped: the job was suspended: stocktaking"]);
}

/// Its predecessor was still live when it was due: that does not matter, for it would not have run.
#[tokio::test]
async fn what_was_due_in_a_suspension_is_no_overlap_whoever_looks_first() {
    for (ticked, resumed, finished) in [
        (false, false, true),
        (false, true, true),
        (true, false, true),
        (true, true, true),
        (false, false, false),
        (false, true, false),
    ] {
        let play = a_job_that_nobody_plans().await;
        let guardian = play.guardian("web1", 2).await;
        play.tick_at("07:05:00").await;
        let claim = play.claim_one(guardian).await;
        play.start(guardian, &claim).await;
        play.tick_at("07:09:50").await;
        play.exec("select sisyphus.suspend('often')").await;
        if ticked {
            play.tick().await;
        }
        if resumed {
            play.set_time("07:10:01").await;
            play.exec("select sisyphus.resume('often')").await;
        }
        play.set_time("07:10:02").await;
        if finished {
            assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
        }
        assert!(play.claim_holding(guardian, 1, Some(&[claim.claim_no])).await.0.is_empty());
        play.tick().await;
        let told = play.told().await;
        let skipped = if resumed { "was" } else { "is" };
        let last = told.last().map(String::as_str);
        let case = format!("ticked: {ticked}, resumed: {resumed}, finished: {finished}: {told:?}");
        assert_eq!(last, Some(&*format!("often 07:10:00 #0 skipped: the job {skipped} suspended")), "{case}");
    }
}
