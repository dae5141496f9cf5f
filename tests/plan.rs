//! Occurrences become runs: once each, fresh or told why not.

use tokio::task::JoinSet;

use crate::support::{Play, wait_until};

#[tokio::test]
async fn eight_ticks_at_once_plan_each_occurrence_once() {
    let play = Play::at("06:59:00").await;
    for job in 0..20 {
        play.exec(&format!("select sisyphus.schedule('job{job}', '* * * * * *', 'true', timezone => 'UTC')"))
            .await;
    }
    play.tick().await;
    play.exec("delete from sisyphus.run; update sisyphus.planner set next_tick_at = '-infinity'").await;
    play.set_time("06:59:20").await;
    let mut ticks = JoinSet::new();
    for _ in 0..8 {
        let client = play.db.client().await;
        ticks.spawn(async move {
            for _ in 0..10 {
                client.execute("update sisyphus.planner set next_tick_at = '-infinity'", &[]).await.unwrap();
                client.execute("select sisyphus.tick()", &[]).await.unwrap();
            }
        });
    }
    ticks.join_all().await;
    play.tick().await;
    let planned = "select count(*), count(distinct (job_id, due_at)) from (
                       select job_id, due_at from sisyphus.run union all select job_id, due_at from sisyphus.attempt) x
                    where due_at > '2026-03-02 06:59:15+00'";
    let row = play.client.query_one(planned, &[]).await.unwrap();
    // 06:59:16 to 06:59:35, of 20 jobs.
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (400, 400));
}

/// Else all guardians of a fleet call again at once, as long as one of them is at work on ten thousand new jobs.
#[tokio::test]
async fn who_meets_a_tick_at_work_comes_again_the_later_the_longer_it_has_been_due() {
    let play = Play::at("07:00:00").await;
    play.tick().await;
    let at_work = play.db.client().await;
    at_work.batch_execute("begin; select from sisyphus.planner for update").await.unwrap();
    for (time, wait) in
        [("07:00:01", 4.0), ("07:00:02", 0.02), ("07:00:05", 0.02), ("07:00:05.3", 0.3), ("07:10:00", 1.0)]
    {
        play.set_time(time).await;
        if time == "07:00:02" {
            // Asked for while the other one is at it already.
            play.exec("select sisyphus.schedule('new', '* * * * *', 'true')").await;
        }
        let again: f64 =
            play.value("select extract(epoch from sisyphus.tick() - sisyphus._clock())::float8", &[]).await;
        assert!((again - wait).abs() < 1e-6, "at {time} to come again in {again} s");
    }
}

#[tokio::test]
async fn an_occurrence_is_planned_ahead_and_claimable_ten_seconds_before() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    let guardian = play.guardian("web1", 2).await;
    play.tick_at("06:59:44").await;
    assert!(play.live().await.is_empty());
    play.tick_at("06:59:46").await;
    assert_eq!(play.live().await, ["report 07:00:00 waiting"]);
    assert!(play.claim(guardian, 2).await.is_empty());
    play.set_time("06:59:51").await;
    let claim = play.claim_one(guardian).await;
    assert!((claim.starts_in - 9.0).abs() < 1e-6, "{claim:?}");
}

#[tokio::test]
async fn without_ttl_a_run_is_fresh_until_the_next_occurrence() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC')").await;
    play.pass_until("07:05:00").await;
    assert_eq!(
        play.told().await,
        ["often 07:00:00 #0 expired: not started within 5 min: no active host in pool \"default\""]
    );
}

#[tokio::test]
async fn the_seven_o_clock_job_runs_at_two_past_when_it_is_still_fresh() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', ttl => '10 min')")
        .await;
    play.pass_until("07:02:00").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    assert_eq!(play.told().await, ["report 07:00:00 #1 succeeded: exit code 0"]);
}

#[tokio::test]
async fn a_stale_run_is_never_claimed_even_before_the_sweep() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', ttl => '1 min')")
        .await;
    let guardian = play.guardian("web1", 1).await;
    play.pass_until("07:00:30").await;
    play.set_time("07:01:00").await;
    assert!(play.claim(guardian, 1).await.is_empty());
}

#[tokio::test]
async fn ttl_expiry_names_the_empty_pool() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.create_pool('nowhere');
         select sisyphus.schedule('lonely', '0 7 * * *', 'true', timezone => 'UTC', ttl => '3 min', pool => 'nowhere')",
    )
    .await;
    play.guardian("web1", 1).await;
    play.pass_until("07:03:00").await;
    assert_eq!(
        play.told().await,
        ["lonely 07:00:00 #0 expired: not started within 3 min: no active host in pool \"nowhere\""]
    );
}

#[tokio::test]
async fn run_on_all_makes_a_run_for_each_member() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.create_pool('web', hosts => '{web1,web2,web3}');
         select sisyphus.schedule('clean', '0 7 * * *', 'true', timezone => 'UTC', pool => 'web', run_on => 'all')",
    )
    .await;
    let (first, second) = (play.guardian("web1", 1).await, play.guardian("web2", 1).await);
    play.guardian("db1", 1).await;
    play.pass_until("07:00:00").await;
    assert_eq!(play.live().await, ["clean 07:00:00 pending on web1", "clean 07:00:00 pending on web2"]);
    let one = play.claim_one(first).await;
    let two = play.claim_one(second).await;
    assert_ne!(one.run_id, two.run_id);
}

#[tokio::test]
async fn a_host_that_was_away_gets_its_run_when_it_is_back_in_time_and_else_the_row_names_it() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('clean', '0 7 * * *', 'true', timezone => 'UTC', run_on => 'all', ttl => '10 min')",
    )
    .await;
    let first = play.guardian("web1", 1).await;
    for host in ["web2", "web3"] {
        let away = play.guardian(host, 1).await;
        play.exec(&format!("select sisyphus.sign_off({away})")).await;
    }
    play.pass_until("07:00:00").await;
    let here = play.claim_one(first).await;
    play.finish(first, &here, 0).await;
    play.pass_until("07:09:59").await;
    let why = "select sisyphus.explain_run(r.run_id) from sisyphus.run r join sisyphus.host h on h.host_id = r.target order by h.name";
    assert_eq!(
        play.lines(why).await,
        ["pending: host \"web2\" is stopped", "pending: host \"web3\" is stopped"]
    );
    let back = play.guardian("web2", 1).await;
    let late = play.claim_one(back).await;
    play.finish(back, &late, 0).await;
    play.pass_until("07:10:00").await;
    let told = play
        .lines("select format('%s %s: %s', host, state, reason) from sisyphus.history order by host")
        .await;
    assert_eq!(
        told,
        [
            "web1 succeeded: exit code 0",
            "web2 succeeded: exit code 0",
            "web3 expired: not started within 10 min: host \"web3\" was away",
        ]
    );
}

#[tokio::test]
async fn run_on_all_of_an_empty_pool_is_told() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.create_pool('empty');
         select sisyphus.schedule('clean', '0 7 * * *', 'true', timezone => 'UTC', pool => 'empty', run_on => 'all')",
    )
    .await;
    play.pass_until("07:00:00").await;
    assert_eq!(play.told().await, ["clean 07:00:00 #0 skipped: the pool has no host"]);
}

#[tokio::test]
async fn a_short_gap_is_merely_late_every_occurrence_becomes_a_run() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('tick', '*/10 * * * * *', 'true', timezone => 'UTC', overlap => 'allow', ttl => '1 min')").await;
    play.tick().await;
    play.tick_at("06:59:29").await;
    let due =
        play.lines("select to_char(due_at at time zone 'UTC', 'SS') from sisyphus.run order by 1").await;
    assert_eq!(due, ["10", "20", "30", "40"]);
}

#[tokio::test]
async fn after_a_downtime_missed_latest_runs_the_newest_fresh_one() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '12 min')")
        .await;
    play.tick().await;
    play.tick_at("08:03:00").await;
    assert_eq!(play.live().await, ["often 08:00:00 pending"]);
    assert_eq!(
        play.told().await,
        [
            "often 07:00:00 #0 expired ×11: nothing ran here during a downtime, and it is no longer fresh",
            "often 07:55:00 #0 skipped: passed over after a downtime (missed => 'latest')",
        ]
    );
}

#[tokio::test]
async fn after_a_downtime_missed_all_runs_each_fresh_one_in_turn() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '12 min', missed => 'all')").await;
    play.tick().await;
    play.tick_at("08:03:00").await;
    assert_eq!(play.live().await, ["often 07:55:00 pending", "often 08:00:00 waiting"]);
    let guardian = play.guardian("web1", 5).await;
    let first = play.claim_one(guardian).await;
    play.finish(guardian, &first, 0).await;
    let second = play.claim_one(guardian).await;
    play.finish(guardian, &second, 0).await;
    assert_eq!(
        play.told().await[1..],
        ["often 07:55:00 #1 succeeded: exit code 0", "often 08:00:00 #1 succeeded: exit code 0"]
    );
}

#[tokio::test]
async fn after_a_downtime_missed_none_runs_nothing() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '12 min', missed => 'none')").await;
    play.tick().await;
    play.tick_at("08:03:00").await;
    assert!(play.live().await.is_empty());
    assert_eq!(
        play.told().await[1..],
        ["often 07:55:00 #0 skipped ×2: passed over after a downtime (missed => 'none')"]
    );
}

/// By the due times, which a jitter puts up to that much behind the occurrences: what is not due yet was not missed.
#[tokio::test]
async fn after_a_downtime_what_is_fresh_is_judged_with_its_jitter() {
    for jitter in ["40 s", "3 min", "10 min"] {
        for (missed, ttl) in [
            ("latest", None),
            ("none", None),
            ("latest", Some("5 min")),
            ("none", Some("5 min")),
            ("all", Some("5 min")),
        ] {
            let play = Play::at("07:00:00").await;
            let ttl = ttl.map_or("null".to_owned(), |ttl| format!("'{ttl}'"));
            let job = format!(
                "sisyphus.schedule('often', '* * * * *', 'true', timezone => 'UTC', jitter => '{jitter}', ttl => {ttl}, missed => '{missed}')"
            );
            play.exec(&format!("select {job}")).await;
            play.tick().await;
            play.tick_at("08:00:20").await;
            let expected = "
                with due as (
                    select f.at, sisyphus._jittered(j.job_id, f.at, j.jitter) as due_at, j.missed,
                           sisyphus._jittered(j.job_id, f.at, j.jitter) + j.ttl as stale_at,
                           sisyphus._jittered(j.job_id, f.at + interval '1 min', j.jitter) as next_due_at,
                           f.at + interval '1 min' + j.jitter as next_due_by
                      from sisyphus.job j, sisyphus._clock() now,
                           generate_series(date_trunc('hour', now) - interval '59 min', now, interval '1 min') f (at)
                     where j.name = 'often'),
                judged as (
                    select d.*, d.due_at <= now as is_due,
                           d.due_at <= now and now < coalesce(
                               d.stale_at, case when d.next_due_at > d.due_at then d.next_due_at else d.next_due_by end) as is_missed
                      from due d, sisyphus._clock() now)
                select to_char(at at time zone 'UTC', 'HH24:MI ') || case
                           when not is_due then 'live'
                           when not is_missed then 'expired'
                           when missed = 'all' or missed = 'latest' and at = max(at) filter (where is_missed) over ()
                           then 'live' else 'skipped' end
                  from judged order by at";
            let told = "
                select to_char(o.at at time zone 'UTC', 'HH24:MI ') || o.state
                  from (select nominal_at, 'live' from sisyphus.run where nominal_at <= sisyphus._clock()
                        union all
                        select at, state
                          from sisyphus.attempt a, generate_series(a.nominal_at, coalesce(a.last_due_at, a.nominal_at), interval '1 min') at)
                       o (at, state)
                 order by o.at, o.state";
            let expected = play.lines(expected).await;
            assert_eq!(expected.len(), 60);
            assert_eq!(play.lines(told).await, expected, "{job}");
            let early = "select run_id::text from sisyphus.run where expires_at <= due_at";
            assert!(play.lines(early).await.is_empty(), "each can start: {job}");
            let counted = "select sum(occurrences)::text from sisyphus.attempt";
            let ended = expected.iter().filter(|line| !line.ends_with("live")).count();
            assert_eq!(play.lines(counted).await, [ended.to_string()], "{job}");
        }
    }
}

#[tokio::test]
async fn what_was_planned_before_a_change_is_not_counted_again_after_a_downtime() {
    let play = Play::at("06:59:40").await;
    play.exec(
        "select sisyphus.schedule('often', '*/10 * * * * *', 'true', timezone => 'UTC', ttl => '20 s')",
    )
    .await;
    play.tick_at("06:59:48").await;
    play.exec("select sisyphus.alter_job('often', schedule => '*/30 * * * * *')").await;
    play.tick_at("07:00:48").await;
    let due = "select to_char(due_at at time zone 'UTC', 'HH24:MI:SS') || ' ' || state from (
                   select due_at, state from sisyphus.run where due_at <= sisyphus._clock()
                   union all select due_at, state from sisyphus.attempt where state <> 'cancelled') x order by 1";
    assert_eq!(play.lines(due).await, ["07:00:00 expired", "07:00:30 pending"]);
}

#[tokio::test]
async fn a_year_without_ticks_of_a_job_each_second_is_one_row_with_a_count() {
    let play = Play::at("2025-03-02 07:00:00+00").await;
    play.exec("select sisyphus.schedule('tick', '* * * * * *', 'true', timezone => 'UTC', ttl => '10 s', missed => 'all')").await;
    play.tick().await;
    play.exec("delete from sisyphus.run").await;
    play.tick_at("2026-03-02 07:00:00+00").await;
    let rows = play
        .lines("select format('%s %s', state, occurrences) from sisyphus.attempt order by occurrences")
        .await;
    // Planned before the gap: up to 07:00:15 of the first day. Fresh after it: 07:59:51 to 08:00:00.
    assert_eq!(rows, [format!("expired {}", 365 * 86_400 - 15 - 10)]);
    let fresh: i64 =
        play.value("select count(*) from sisyphus.run where due_at <= sisyphus._clock()", &[]).await;
    assert_eq!(fresh, 10);
}

#[tokio::test]
async fn a_suspension_leaves_one_row_and_nothing_is_caught_up() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '1 h')")
        .await;
    play.tick().await;
    play.exec("select sisyphus.suspend('often', reason => 'tidying up')").await;
    play.pass_until("08:01:00").await;
    assert!(play.live().await.is_empty());
    play.exec("select sisyphus.resume('often')").await;
    play.pass_until("08:04:50").await;
    assert_eq!(play.live().await, ["often 08:05:00 pending"]);
    assert_eq!(play.told().await, ["often 07:00:00 #0 skipped ×13: the job was suspended: tidying up"]);
}

#[tokio::test]
async fn a_suspension_until_a_moment_ends_by_itself() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', ttl => '4 min');
         select sisyphus.suspend('often', until => '2026-03-02 07:07+00')",
    )
    .await;
    play.guardian("web1", 1).await;
    play.pass_until("07:09:55").await;
    assert_eq!(play.live().await, ["often 07:10:00 pending"]);
    assert_eq!(play.told().await.len(), 1);
    assert!(play.told().await[0].starts_with("often 07:00:00 #0 skipped ×2: the job was suspended"));
}

#[tokio::test]
async fn suspend_withdraws_what_is_planned() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("06:59:55").await;
    assert_eq!(play.live().await, ["report 07:00:00 pending"]);
    play.exec("select sisyphus.suspend('report', reason => 'audit')").await;
    play.tick_at("06:59:56").await;
    let guardian = play.guardian("web1", 1).await;
    assert!(play.claim(guardian, 1).await.is_empty());
    assert_eq!(play.live().await, ["report 07:00:00 waiting"]);
    play.tick_at("07:00:00").await;
    assert!(play.live().await.is_empty());
    assert_eq!(play.told().await, ["report 07:00:00 #0 skipped: the job is suspended: audit"]);
}

#[tokio::test]
async fn a_resume_before_it_is_due_brings_a_run_back() {
    for claimed in [false, true] {
        let play = Play::at("06:59:00").await;
        play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
        let guardian = play.guardian("web1", 1).await;
        play.tick_at("06:59:51").await;
        let run_id: i64 = play.value("select run_id from sisyphus.run", &[]).await;
        let held = if claimed { play.claim(guardian, 1).await } else { Vec::new() };
        play.exec("select sisyphus.suspend('report')").await;
        play.tick_at("06:59:52").await;
        if let Some(claim) = held.first() {
            assert_eq!(play.release(guardian, claim).await, "accepted");
        }
        assert_eq!(play.live().await, ["report 07:00:00 waiting"]);
        let why: String = play.value("select sisyphus.explain_run($1)", &[&run_id]).await;
        assert!(why.contains("was suspended"), "{why}");
        play.exec("select sisyphus.resume('report')").await;
        play.tick_at("06:59:53").await;
        let claim = play.claim_one(guardian).await;
        assert_eq!((claim.run_id, claim.attempt), (run_id, 1));
        play.set_time("07:00:00").await;
        assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
        assert_eq!(play.told().await, ["report 07:00:00 #1 succeeded: exit code 0"]);
    }
}

/// The guardian is slow to give it back: by then the job is resumed.
#[tokio::test]
async fn a_run_given_back_after_the_resume_is_claimed_again() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    let guardian = play.guardian("web1", 1).await;
    play.tick_at("06:59:51").await;
    let claim = play.claim_one(guardian).await;
    play.exec("select sisyphus.suspend('report')").await;
    play.tick_at("06:59:52").await;
    play.exec("select sisyphus.resume('report')").await;
    play.tick_at("06:59:53").await;
    assert_eq!(play.release(guardian, &claim).await, "accepted");
    assert_eq!(play.claim_one(guardian).await.run_id, claim.run_id);
}

#[tokio::test]
async fn a_job_changed_and_resumed_while_suspended_explains_each_occurrence_once() {
    let play = Play::at("06:59:50").await;
    let often = "select sisyphus.schedule('often', '*/10 * * * * *', 'true', timezone => 'UTC', retries => ";
    play.exec(&format!("{often} 0)")).await;
    play.tick_at("06:59:51").await;
    play.exec("select sisyphus.suspend('often')").await;
    play.tick_at("06:59:52").await;
    play.exec(&format!(
        "{often} 1, ttl => '5 s'); select sisyphus.alter_job('often', schedule => '*/5 * * * * *')"
    ))
    .await;
    play.pass_until("07:00:21").await;
    play.exec("select sisyphus.resume('often')").await;
    play.tick_at("07:00:22").await;
    assert_eq!(
        play.told().await,
        [
            "often 06:59:55 #0 skipped: the job was suspended",
            "often 07:00:00 #0 skipped: the job is suspended",
            "often 07:00:05 #0 skipped ×4: the job was suspended",
        ]
    );
    let planned = ["often 07:00:25 pending", "often 07:00:30 waiting", "often 07:00:35 waiting"];
    assert_eq!(play.live().await, planned);
}

#[tokio::test]
async fn an_altered_job_keeps_the_run_id_of_an_occurrence_that_still_exists() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("06:59:50").await;
    let before: i64 = play.value("select run_id from sisyphus.run", &[]).await;
    play.exec("select sisyphus.alter_job('report', schedule => '0 7,8 * * *', command => 'false')").await;
    play.tick_at("06:59:51").await;
    let row = play.client.query_one("select run_id, job_version from sisyphus.run", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (before, 2));
    let guardian = play.guardian("web1", 1).await;
    assert_eq!(play.claim_one(guardian).await.spec["command"], "false");
}

#[tokio::test]
async fn an_occurrence_that_the_new_version_does_not_have_ends_cancelled() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("06:59:50").await;
    play.exec("select sisyphus.alter_job('report', schedule => '30 7 * * *')").await;
    play.tick_at("06:59:51").await;
    assert!(play.live().await.is_empty());
    assert_eq!(play.told().await, ["report 07:00:00 #0 cancelled: withdrawn by version 2 of the job"]);
}

#[tokio::test]
async fn a_run_planned_from_the_old_row_does_not_survive_the_alter() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("06:59:30").await;
    // T1 alters and is slow to commit; T2 plans from the committed old row.
    let mut altering = play.db.client().await;
    let open = altering.transaction().await.unwrap();
    open.execute("select sisyphus.alter_job('report', command => 'false')", &[]).await.unwrap();
    play.tick_at("06:59:50").await;
    open.commit().await.unwrap();
    // The claim itself sees the mismatch, before any tick applies the definition.
    let guardian = play.guardian("web1", 1).await;
    let mut claims = play.claim(guardian, 1).await;
    claims.extend(play.claim(guardian, 1).await);
    assert_eq!(claims.len(), 1, "{:?}", play.live().await);
    assert_eq!(claims[0].spec["command"], "false");
}

#[tokio::test]
async fn unschedule_withdraws_and_a_revived_job_keeps_its_number() {
    let play = Play::at("06:59:00").await;
    let first: i64 =
        play.value("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')", &[]).await;
    play.tick_at("06:59:50").await;
    play.exec("select sisyphus.unschedule('report')").await;
    play.tick_at("06:59:51").await;
    assert_eq!(play.told().await, ["report 07:00:00 #0 cancelled: the job was unscheduled"]);
    let again: i64 =
        play.value("select sisyphus.schedule('report', '0 8 * * *', 'true', timezone => 'UTC')", &[]).await;
    assert_eq!(first, again);
    play.pass_until("07:59:55").await;
    assert_eq!(play.live().await, ["report 08:00:00 pending"]);
    assert_eq!(play.told().await.len(), 1, "nothing of the time between is planned");
}

#[tokio::test]
async fn a_planned_run_whose_jitter_is_taken_away_starts_when_it_is_due_then() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('job', '0 7 * * *', 'true', timezone => 'UTC', jitter => '10 h')")
        .await;
    play.pass_until("06:59:50").await;
    play.exec("select sisyphus.alter_job('job', reset => '{jitter}')").await;
    play.pass_until("07:00:00").await;
    assert_eq!(play.live().await, ["job 07:00:00 pending"]);
}

#[tokio::test]
async fn what_a_downtime_missed_is_caught_up_though_jitter_or_end_were_changed_in_it() {
    for change in ["jitter => '1 s'", "ends_at => '2030-01-01 00:00+00'", "reset => '{ends_at}'"] {
        let play = Play::at("06:59:00").await;
        play.exec(
            "select sisyphus.schedule('job', '0 7 * * *', 'true', timezone => 'UTC', ends_at => '2029-01-01 00:00+00')",
        )
        .await;
        play.tick().await;
        play.set_time("07:10:00").await;
        play.exec(&format!("select sisyphus.alter_job('job', {change})")).await;
        play.tick().await;
        play.tick_at("07:10:01").await;
        assert_eq!(
            play.lines("select job from sisyphus.live").await,
            ["job"],
            "{change}: {:?}",
            play.told().await
        );
    }
}

#[tokio::test]
async fn an_end_that_is_put_off_brings_back_what_it_withdrew_and_nothing_of_the_time_without() {
    let play = Play::at("06:59:45").await;
    play.exec("select sisyphus.schedule('job', '*/10 * * * * *', 'true', timezone => 'UTC', ttl => '1 h', overlap => 'allow')")
        .await;
    play.tick().await;
    play.exec("select sisyphus.alter_job('job', ends_at => '2026-03-02 06:59:55+00')").await;
    play.tick_at("06:59:46").await;
    assert_eq!(play.live().await, ["job 06:59:50 pending"]);
    play.exec("select sisyphus.alter_job('job', ends_at => '2026-03-02 07:00:05+00')").await;
    play.pass_until("07:10:05").await;
    assert_eq!(play.live().await, ["job 06:59:50 pending", "job 07:00:00 pending"]);
    play.exec("select sisyphus.alter_job('job', reset => '{ends_at}')").await;
    play.tick().await;
    assert_eq!(play.live().await.len(), 4, "07:10:10 and 07:10:20 are near: {:?}", play.live().await);
}

/// A transaction that was open meanwhile takes the watermark back behind what a downtime had missed.
#[tokio::test]
async fn what_was_caught_up_is_not_planned_again_by_a_change_that_was_called_before() {
    let play = Play::at("06:45:00").await;
    play.exec(
        "select sisyphus.schedule('job', '*/10 * * * *', 'true', timezone => 'UTC', ttl => '1 h', missed => 'all', overlap => 'allow')",
    )
    .await;
    play.tick_at("06:50:01").await;
    play.set_time("07:15:00").await;
    let other = play.db.client().await;
    other.batch_execute("begin; select sisyphus.alter_job('job', jitter => '1 s')").await.unwrap();
    play.tick_at("07:30:30").await;
    other.batch_execute("commit").await.unwrap();
    play.tick_at("07:30:40").await;
    let runs = "select to_char(nominal_at at time zone 'UTC', 'HH24:MI') from sisyphus.run order by 1";
    assert_eq!(play.lines(runs).await, ["06:50", "07:00", "07:10", "07:20", "07:30"]);
}

/// Else a host of the pool before would start the new command, and read the new payload.
#[tokio::test]
async fn a_job_that_changes_its_pool_or_run_on_takes_what_is_planned_with_it() {
    for (run_on, change, live) in [
        ("all", "pool => 'b'", vec!["j 07:00:00 pending on b1", "j 07:00:00 pending on both"]),
        ("any", "pool => 'b'", vec!["j 07:00:00 pending"]),
        ("any", "run_on => 'all'", vec!["j 07:00:00 pending on a1", "j 07:00:00 pending on both"]),
        ("all", "run_on => 'any'", vec!["j 07:00:00 pending"]),
    ] {
        let play = Play::at("06:59:00").await;
        let mut guardians = Vec::new();
        for host in ["a1", "both", "b1"] {
            guardians.push(play.guardian(host, 8).await);
        }
        play.exec("select sisyphus.create_pool('a', '{a1,both}'), sisyphus.create_pool('b', '{both,b1}')")
            .await;
        play.exec(&format!(
            "select sisyphus.schedule('j', '* * * * *', 'true', timezone => 'UTC', pool => 'a', run_on => '{run_on}')"
        ))
        .await;
        play.tick_at("06:59:50").await;
        // Claimed ahead, on a host that has to give it back.
        let claims = play.claim(guardians[0], 8).await;
        play.exec(&format!("select sisyphus.alter_job('j', {change})")).await;
        play.tick_at("06:59:52").await;
        for claim in &claims {
            play.release(guardians[0], claim).await;
        }
        play.tick_at("06:59:53").await;
        assert_eq!(play.live().await, live, "{run_on}, {change}: {:?}", play.told().await);
        play.tick_at("07:00:01").await;
        assert_eq!(
            play.claim(guardians[0], 8).await.len(),
            usize::from(!change.starts_with("pool")),
            "{run_on}, {change}"
        );
    }
}

#[tokio::test]
async fn a_run_for_a_host_outside_the_new_pool_of_its_job_is_withdrawn() {
    let play = Play::at("06:59:00").await;
    let guardian = play.guardian("a1", 8).await;
    play.exec("select sisyphus.create_pool('a', '{a1}'), sisyphus.create_pool('b')").await;
    play.exec(
        "select sisyphus.schedule('j', null, 'true', pool => 'a', retries => 3, retry_delay => '1 min')",
    )
    .await;
    play.exec("select sisyphus.run_now('j', host => 'a1')").await;
    play.tick().await;
    let retried = play.claim_one(guardian).await;
    play.finish(guardian, &retried, 1).await;
    play.exec("select sisyphus.run_now('j', host => 'a1')").await;
    play.exec("select sisyphus.alter_job('j', pool => 'b')").await;
    assert!(play.claim(guardian, 8).await.is_empty());
    play.tick().await;
    assert_eq!(
        play.told().await,
        [
            "j 06:59:00 #1 failed: exit code 1; not retried: host \"a1\" is not in pool \"b\"",
            "j 06:59:00 #0 cancelled: host \"a1\" is not in pool \"b\""
        ]
    );
}

#[tokio::test]
async fn a_job_whose_time_zone_vanished_is_broken_and_stops_no_other() {
    let play = Play::at("06:59:00").await;
    for name in ["bad", "good"] {
        play.exec(&format!("select sisyphus.schedule('{name}', '0 7 * * *', 'true', timezone => 'UTC')"))
            .await;
    }
    play.tick().await;
    play.exec("update sisyphus.job set timezone = 'Mars/Olympus' where name = 'bad'").await;
    play.tick_at("06:59:50").await;
    assert_eq!(play.live().await, ["good 07:00:00 pending"]);
    let broken: String =
        play.value("select broken from sisyphus.job_state where broken is not null", &[]).await;
    assert!(broken.contains("Mars/Olympus"), "{broken}");
    play.exec("select sisyphus.alter_job('bad', timezone => 'UTC')").await;
    play.tick_at("06:59:51").await;
    assert_eq!(play.live().await, ["bad 07:00:00 pending", "good 07:00:00 pending"]);
}

/// More of them than one tick settles: to those that come after it the downtime would be over.
#[tokio::test]
async fn what_many_jobs_missed_in_a_downtime_is_settled_by_as_many_ticks_as_it_takes() {
    let play = Play::at("05:50:00").await;
    play.exec(
        "select from generate_series(1, 1010) n, sisyphus.schedule('job' || n, '0 6 * * *', 'true', timezone => 'UTC',
             missed => 'none', ttl => '1 day')",
    )
    .await;
    play.tick().await;
    play.tick().await;
    play.set_time("07:00:00").await;
    let mut ticks = 1;
    while play.value::<bool>("select sisyphus.tick() <= sisyphus._clock()", &[]).await {
        ticks += 1;
        assert!(ticks < 10, "the ticks come to an end");
    }
    assert_eq!(play.live().await.len(), 0);
    let told = "select count(*) from sisyphus.history where state = 'skipped' and reason like 'passed over after a downtime%'";
    assert_eq!(play.value::<i64>(told, &[]).await, 1010);
}

/// Its zone may have gone while nobody asked for it: with the next start of a server whose tzdata is a newer one.
#[tokio::test]
async fn a_suspension_that_ends_where_the_time_zone_vanished_stops_no_other() {
    let play = Play::at("06:59:00").await;
    for name in ["bad", "good"] {
        let job =
            format!("select sisyphus.schedule('{name}', '0 7 * * *', 'true', timezone => 'Europe/Berlin')");
        play.exec(&job).await;
    }
    play.exec("select sisyphus.suspend('bad', until => '2026-03-02 07:30+00')").await;
    play.tick().await;
    play.exec("update sisyphus.job set timezone = 'Mars/Olympus' where name = 'bad'").await;
    play.exec(
        "update sisyphus.job_definition set definition = definition || '{\"timezone\": \"Mars/Olympus\"}'
                where job_id = (select job_id from sisyphus.job where name = 'bad')",
    )
    .await;
    play.tick_at("07:30:01").await;
    let broken =
        "select j.name || ': ' || s.broken from sisyphus.job_state s join sisyphus.job j using (job_id)";
    assert_eq!(
        play.lines(&format!("{broken} where s.broken is not null")).await,
        ["bad: time zone \"Mars/Olympus\" not recognized"]
    );
    play.exec("select sisyphus.alter_job('bad', timezone => 'UTC', schedule => '0 8 * * *')").await;
    play.tick_at("07:59:50").await;
    assert_eq!(play.live().await, ["bad 08:00:00 pending"]);
}

#[tokio::test]
async fn a_run_that_was_set_aside_ends_where_the_time_zone_vanished() {
    let play = Play::at("06:59:50").await;
    for name in ["bad", "good"] {
        play.exec(&format!(
            "select sisyphus.schedule('{name}', '* * * * *', 'true', timezone => 'Europe/Berlin')"
        ))
        .await;
    }
    play.tick().await;
    play.exec("select sisyphus.suspend('bad')").await;
    play.tick_at("06:59:51").await;
    play.exec("update sisyphus.job set timezone = 'Mars/Olympus' where name = 'bad'").await;
    play.exec("select sisyphus.resume('bad')").await;
    let guardian = play.guardian("web1", 8).await;
    play.set_time("07:00:00").await;
    let claimed: Vec<_> = play.claim(guardian, 8).await.into_iter().map(|claim| claim.job).collect();
    assert_eq!(claimed, ["good"]);
    play.tick_at("07:00:01").await;
    assert_eq!(play.told().await, ["bad 07:00:00 #0 cancelled: time zone \"Mars/Olympus\" not recognized"]);
}

/// What was due and not planned when it went is told by its calendars.
#[tokio::test]
async fn a_job_that_goes_with_its_calendar_stops_no_other() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.create_calendar('holidays', 'select date ''2026-05-01''')").await;
    play.exec(
        "select sisyphus.schedule('gone', '0 7 * * *', 'true', timezone => 'UTC', except_on => 'holidays');
         select sisyphus.schedule('good', '10 7 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    play.tick().await;
    play.set_time("07:00:20").await;
    play.exec("select sisyphus.unschedule('gone'); select sisyphus.drop_calendar('holidays')").await;
    play.tick().await;
    play.tick_at("07:09:50").await;
    assert_eq!(play.live().await, ["good 07:10:00 pending"]);
}

/// A disk that was full for a while would otherwise end every job that was due then.
#[tokio::test]
async fn what_the_server_lacks_breaks_no_job() {
    for code in ["53100", "53200", "40001", "55P03", "58030"] {
        let play = Play::at("06:59:00").await;
        play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
        play.tick().await;
        play.exec(&format!(
            "create function no_room() returns trigger language plpgsql as
             $$begin raise 'no room' using errcode = '{code}'; end$$;
             create trigger no_room before insert on sisyphus.run for each row execute function no_room()"
        ))
        .await;
        play.set_time("06:59:50").await;
        let refused = play.client.batch_execute("select sisyphus.tick()").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), code);
        play.exec("drop trigger no_room on sisyphus.run").await;
        play.tick_at("06:59:51").await;
        assert_eq!(play.live().await, ["report 07:00:00 pending"], "{code}");
    }
}

#[tokio::test]
async fn a_job_whose_role_was_dropped_is_broken_until_there_is_one_and_it_is_defined_again() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('bad', '0 7 * * *', 'true', timezone => 'UTC');
         select sisyphus.schedule('good', '0 7 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    play.tick().await;
    // As dropped: roles belong to the whole server.
    play.exec("update sisyphus.job set owner = 'test_gone_owner' where name = 'bad'").await;
    play.tick_at("06:59:50").await;
    assert_eq!(play.live().await, ["good 07:00:00 pending"]);
    let problem = "select problem from sisyphus.overview where job = 'bad' and state = 'broken'";
    assert_eq!(play.value::<String>(problem, &[]).await, "role \"test_gone_owner\" does not exist (42704)");
    play.exec("update sisyphus.job set owner = current_user where name = 'bad'").await;
    play.exec("select sisyphus.schedule('bad', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("06:59:51").await;
    assert_eq!(play.live().await, ["bad 07:00:00 pending", "good 07:00:00 pending"]);
}

#[tokio::test]
async fn an_interval_that_was_to_start_later_counts_from_now_when_that_is_taken_back() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('job', 'every 10 min', 'true', starts_at => '2026-03-03 00:00+00')")
        .await;
    play.exec("select sisyphus.alter_job('job', reset => '{starts_at}')").await;
    play.tick_at("07:08:50").await;
    assert_eq!(play.live().await, ["job 07:09:00 pending"]);
}

#[tokio::test]
async fn a_window_bounds_the_occurrences() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', overlap => 'allow', ttl => '1 h',
                                  starts_at => '2026-03-02 07:05+00', ends_at => '2026-03-02 07:15+00')",
    )
    .await;
    play.pass_until("07:30:00").await;
    assert_eq!(play.live().await, ["often 07:05:00 pending", "often 07:10:00 pending"]);
}

#[tokio::test]
async fn a_window_that_ends_in_a_downtime_bounds_what_was_missed() {
    for policy in [
        "ttl => '3 min'",
        "ttl => '3 min', missed => 'all'",
        "ttl => '3 min', jitter => '30 s'",
        "ttl => null",
    ] {
        for back in ["07:16:00", "07:19:00", "09:00:00"] {
            let play = Play::at("07:00:00").await;
            play.exec(&format!(
                "select sisyphus.schedule('often', '*/5 * * * *', 'true', timezone => 'UTC', {policy},
                                          ends_at => '2026-03-02 07:15+00')"
            ))
            .await;
            play.tick_at("07:01:00").await;
            play.tick_at(back).await;
            play.tick_at("09:30:00").await;
            let told =
                "select format('%s until %s', sum(n), to_char(max(last) at time zone 'UTC', 'HH24:MI'))
                          from (select occurrences, coalesce(last_due_at, nominal_at) from sisyphus.attempt
                                 union all select 1, nominal_at from sisyphus.run) x (n, last)";
            assert_eq!(
                play.lines(told).await,
                ["2 until 07:10"],
                "{policy}, {back}: {:?}",
                play.told().await
            );
        }
    }
}

#[tokio::test]
async fn jitter_is_the_same_each_time_and_within_its_bound() {
    let play = Play::at("06:59:00").await;
    for job in 0..50 {
        play.exec(&format!(
            "select sisyphus.schedule('job{job}', '0 7 * * *', 'true', timezone => 'UTC', jitter => '60 s')"
        ))
        .await;
    }
    play.tick_at("06:59:50").await;
    let row = play
        .client
        .query_one(
            "select count(distinct due_at), min(due_at - nominal_at) >= '0 s', max(due_at - nominal_at) < '60 s',
                    bool_and(due_at = sisyphus._jittered(job_id, nominal_at, '60 s')) from sisyphus.run",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, i64>(0) > 40, "spread");
    assert!(row.get::<_, bool>(1) && row.get::<_, bool>(2) && row.get::<_, bool>(3));
}

#[tokio::test]
async fn a_clock_that_jumped_back_loses_nothing_and_floods_nothing() {
    let play = Play::at("09:59:00").await;
    play.exec("select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', ttl => '30 min')")
        .await;
    play.tick_at("09:59:50").await;
    // Three hours back: the occurrence that the wrong clock planned stands, the others follow in their time.
    play.set_time("06:59:00").await;
    play.pass_until("10:00:05").await;
    let due = "select to_char(due_at at time zone 'UTC', 'HH24:MI') from sisyphus.run
               union all select to_char(due_at at time zone 'UTC', 'HH24:MI') from sisyphus.attempt order by 1";
    assert_eq!(play.lines(due).await, ["07:00", "08:00", "09:00", "10:00"]);
}

/// By five hours, for a minute: what the wrong clock missed is told as missed and runs all the same when it is due.
#[tokio::test]
async fn a_clock_that_jumped_forward_and_back_loses_nothing_and_floods_nothing() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', ttl => '30 min')")
        .await;
    let guardian = play.guardian("web1", 5).await;
    play.tick_at("06:59:50").await;
    play.tick_at("11:59:00").await;
    assert_eq!(
        play.told().await,
        [
            "hourly 07:00:00 #0 expired: not started within 30 min: nothing ran here during a downtime",
            "hourly 08:00:00 #0 expired ×4: nothing ran here during a downtime, and it is no longer fresh"
        ]
    );
    play.set_time("06:59:55").await;
    for hour in 7..=12 {
        play.pass_until(&format!("{hour:02}:00:01")).await;
        let claim = play.claim_one(guardian).await;
        play.finish(guardian, &claim, 0).await;
    }
    let ran = play.lines("select to_char(due_at at time zone 'UTC', 'HH24') from sisyphus.attempt where state = 'succeeded' order by 1").await;
    assert_eq!(ran, ["07", "08", "09", "10", "11", "12"]);
    assert_eq!(play.told().await.len(), 8);
}

#[tokio::test]
async fn a_tick_left_open_in_a_transaction_is_ended_by_the_server() {
    let play = Play::at("06:59:00").await;
    let idle = play.db.client().await;
    idle.batch_execute("begin; select sisyphus.tick()").await.unwrap();
    let setting: String =
        idle.query_one("show idle_in_transaction_session_timeout", &[]).await.unwrap().get(0);
    assert_eq!(setting, "5s");
    // Another tick does not wait meanwhile.
    play.exec("set lock_timeout = '1 s'").await;
    play.exec("select sisyphus.tick()").await;
    wait_until("the idle session is ended", std::time::Duration::from_secs(20), async || {
        if idle.is_closed() { Ok(()) } else { Err("still open".to_owned()) }
    })
    .await;
}

/// A tick has read when the job is due next, then a change commits, then it makes the run: the row of the job is another
/// one by then. A run that carried the version of that row would pass for one of the new schedule.
#[tokio::test]
async fn a_change_that_commits_while_its_job_is_planned_withdraws_what_was_planned() {
    let play = Play::at("06:00:00").await;
    play.exec("select sisyphus.schedule('j', '0 7 * * *', 'true', timezone => 'UTC')").await;
    play.tick().await;
    play.set_time("06:59:50").await;
    play.exec("select sisyphus.alter_job('j', schedule => '30 7 * * *')").await;
    play.exec(
        "select sisyphus._plan_jobs(array[s.job_id], s.next_due_at, false, sisyphus._clock()) from sisyphus.job_state s",
    )
    .await;
    play.tick_at("07:00:01").await;
    assert_eq!(play.live().await, Vec::<String>::new());
    assert_eq!(play.told().await, ["j 07:00:00 #0 cancelled: withdrawn by version 2 of the job"]);
}

/// In the night of 29 March the clocks of Berlin go from 2 to 3.
#[tokio::test]
async fn a_day_of_ttl_and_jitter_has_24_hours_whatever_the_time_zone_of_the_session() {
    let play = Play::at("2026-03-28 12:00+00").await;
    play.exec(
        "set timezone = 'Europe/Berlin';
         select sisyphus.schedule('j', '1 12 * * *', 'true', timezone => 'UTC', ttl => '1 day', jitter => '1 day');
         select sisyphus.schedule('k', null, 'true', ttl => '1 day'); select sisyphus.run_now('k')",
    )
    .await;
    play.tick_at("2026-03-28 12:00:50+00").await;
    let ttl = "select distinct (extract(epoch from expires_at - coalesce(requested_at, due_at)) / 3600)::integer::text from sisyphus.run";
    assert_eq!(play.lines(ttl).await, ["24"]);
}
