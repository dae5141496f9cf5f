//! Results: each reaches the history once, and says what happened.

use std::time::Duration;

use sisyphus::db::{
    Api,
    messages::{Answer, Claim, Claimed, Finish, Report},
};

use crate::support::{Play, assert_error};

async fn job(more: &str) -> (Play, i64) {
    let play = Play::at("07:00:00").await;
    play.exec(&format!("select sisyphus.schedule('job', null, 'true' {more})")).await;
    let guardian = play.guardian("web1", 5).await;
    play.run_now("job").await;
    (play, guardian)
}

#[tokio::test]
async fn a_repeated_result_is_already_there() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    assert_eq!(play.finish(guardian, &claim, 0).await, "already");
    assert_eq!(play.told().await, ["job 07:00:00 #1 succeeded: exit code 0"]);
}

#[tokio::test]
async fn an_unknown_run_and_a_lost_claim_are_refused() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    let mut other = claim.clone();
    other.claim_no += 100;
    assert_eq!(play.finish(guardian, &other, 0).await, "refused");
    other.run_id += 100;
    assert_eq!(play.finish(guardian, &other, 0).await, "refused");
    assert_eq!(play.live().await, ["job 07:00:00 claimed"]);
}

#[tokio::test]
async fn a_locked_run_is_busy_and_delays_no_other() {
    let (play, guardian) = job(", overlap => 'allow'").await;
    play.run_now("job").await;
    let claims = play.claim(guardian, 5).await;
    let mut holder = play.db.client().await;
    let open = holder.transaction().await.unwrap();
    open.execute("select from sisyphus.run where run_id = $1 for key share", &[&claims[0].run_id])
        .await
        .unwrap();
    play.exec("set lock_timeout = '2 s'").await;
    let runs: Vec<i64> = claims.iter().map(|claim| claim.run_id).collect();
    let numbers: Vec<i64> = claims.iter().map(|claim| claim.claim_no).collect();
    let rows = play
        .client
        .query(
            "select answer from sisyphus.finish_job($1, $2, $3, exit_codes => '{0,0}')",
            &[&guardian, &runs, &numbers],
        )
        .await
        .unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["busy", "accepted"]);
    open.rollback().await.unwrap();
    assert_eq!(play.finish(guardian, &claims[0], 0).await, "accepted");
}

#[tokio::test]
async fn a_failure_is_retried_with_growing_delays_and_the_last_attempt_is_final() {
    let (play, guardian) =
        job(", retries => 3, retry_delay => '10 s', retry_backoff => 3, retry_max_delay => '40 s'").await;
    for (time, next) in [
        ("07:00:00", "07:00:09"),
        ("07:00:10", "07:00:39"),
        ("07:00:40", "07:01:19"),
        ("07:01:20", "07:10:00"),
    ] {
        play.pass_until(time).await;
        let claim = play.claim_one(guardian).await;
        play.finish(guardian, &claim, 7).await;
        play.pass_until(next).await;
        assert!(play.claim(guardian, 1).await.is_empty(), "not before its time");
    }
    assert_eq!(
        play.told().await,
        [
            "job 07:00:00 #1+ failed: exit code 7; attempt 2 of 4 follows in 10 s",
            "job 07:00:00 #2+ failed: exit code 7; attempt 3 of 4 follows in 30 s",
            "job 07:00:00 #3+ failed: exit code 7; attempt 4 of 4 follows in 40 s",
            "job 07:00:00 #4 failed: exit code 7; attempt 4 of 4",
        ]
    );
}

#[tokio::test]
async fn a_retry_goes_to_another_host_where_one_is_free() {
    let (play, first) = job(", retries => 3, retry_delay => '10 s', retry_backoff => 1").await;
    let second = play.guardian("web2", 1).await;
    let third = play.guardian("web3", 1).await;
    play.exec("select sisyphus.drain_host('web3')").await;
    play.pass_until("07:00:00").await;
    let claim = play.claim_one(first).await;
    // Both have a free slot, the one that failed has told so last.
    play.claim(second, 0).await;
    play.exec("update sisyphus.guardian set slots_free = 1").await;
    play.finish(first, &claim, 7).await;
    play.pass_until("07:00:10").await;
    assert!(play.claim(first, 1).await.is_empty() && play.claim(third, 1).await.is_empty());
    let again = play.claim_one(second).await;
    assert_eq!((again.run_id, again.attempt), (claim.run_id, 2));
    play.finish(second, &again, 7).await;
    // One that is free and does not come leaves it to any after a heartbeat.
    play.pass_until("07:00:20").await;
    assert!(play.claim(second, 1).await.is_empty());
    play.pass_until("07:00:25").await;
    let again = play.claim_one(second).await;
    play.finish(second, &again, 7).await;
    // Nobody else has a slot.
    play.exec("update sisyphus.guardian set slots_free = 0 where guardian_id = 1").await;
    play.pass_until("07:00:35").await;
    assert_eq!(play.claim_one(second).await.attempt, 4);
}

#[tokio::test]
async fn exit_codes_mean_what_the_job_says() {
    let (play, guardian) =
        job(", success_exit_codes => '{0,3}', no_retry_exit_codes => '{4}', retries => 1").await;
    for (exit_code, expected) in [(3, "succeeded: exit code 3"), (4, "failed: exit code 4")] {
        let claim = play.claim_one(guardian).await;
        play.finish(guardian, &claim, exit_code).await;
        assert!(play.live().await.is_empty());
        let last = play.told().await.pop().unwrap();
        assert!(last.ends_with(expected), "{last}");
        play.run_now("job").await;
    }
}

#[tokio::test]
async fn what_ended_a_process_decides_its_state() {
    let (play, guardian) = job(", max_runtime => '10 min', overlap => 'allow'").await;
    for (ended_by, expected) in [
        ("timeout", "timed_out: ran longer than max_runtime (10 min)"),
        ("terminate", "terminated: because"),
        ("spawn", "failed: because"),
        ("policy", "refused: because"),
        ("fence", "lost: because"),
        ("keeper", "lost: because"),
    ] {
        let claim = play.claim_one(guardian).await;
        assert_eq!(play.finish_by(guardian, &claim, ended_by, "because").await, "accepted");
        let last = play.told().await.pop().unwrap();
        assert!(last.ends_with(expected), "{last}");
        play.run_now("job").await;
    }
    let started: i64 = play
        .value("select count(started_at) from sisyphus.attempt where state in ('refused', 'failed')", &[])
        .await;
    assert_eq!(started, 0, "what could not be started has no start");
}

#[tokio::test]
async fn a_signal_has_its_name() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    play.client
        .execute(
            "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], signals => '{9}')",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
        .unwrap();
    assert_eq!(play.told().await, ["job 07:00:00 #1 failed: killed by signal KILL"]);
}

#[tokio::test]
async fn times_are_kept_in_order_and_out_of_the_future() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    play.set_time("07:00:10").await;
    play.client
        .execute(
            "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => '{0}',
                 started_at => '{1999-01-01 00:00+00}', finished_at => '{2099-01-01 00:00+00}')",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
        .unwrap();
    let told: String = play
        .value(
            "select format('%s %s %s', claimed_at = started_at, finished_at = sisyphus._clock(), finished_at >= started_at)
               from sisyphus.attempt",
            &[],
        )
        .await;
    assert_eq!(told, "t t t");
}

#[tokio::test]
async fn a_silent_host_loses_its_runs_and_a_late_result_corrects_the_row() {
    let (play, guardian) = job("").await;
    // What is written in place must have an identity where somebody replicates or captures all tables.
    play.exec("create publication everything for all tables").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
    }
    assert_eq!(play.told().await, ["job 07:00:00 #1 lost: host \"web1\" was not heard of for 30 s"]);
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 0).await, "accepted");
    assert_eq!(play.finish(back, &claim, 0).await, "already");
    assert_eq!(
        play.told().await,
        ["job 07:00:00 #1 succeeded: exit code 0 (reported late: host \"web1\" was not heard of for 30 s)"]
    );
}

#[tokio::test]
async fn that_a_lease_ended_a_run_is_told_once() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    for answer in ["accepted", "already", "already"] {
        assert_eq!(play.finish_by(guardian, &claim, "fence", "the lease was not renewed").await, answer);
    }
    assert_eq!(play.told().await, ["job 07:00:00 #1 lost: the lease was not renewed"]);
    // And where the database had given it up by itself.
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
    }
    let back = play.guardian("web1", 5).await;
    for answer in ["accepted", "already", "already"] {
        assert_eq!(play.finish_by(back, &claim, "fence", "the lease was not renewed").await, answer);
    }
    let late = "(reported late: host \"web1\" was not heard of for 30 s)";
    assert_eq!(play.told().await, [format!("job 07:00:00 #1 lost: the lease was not renewed {late}")]);
}

#[tokio::test]
async fn a_lost_run_is_retried_when_asked_for_and_the_late_result_is_kept_beside() {
    let (play, guardian) = job(", retries => 1, retry_on_lost => true, retry_delay => '0 s'").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    let other = play.guardian("web2", 5).await;
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
        play.claim(other, 0).await;
    }
    let again = play.claim_one(other).await;
    assert_eq!((again.run_id, again.attempt), (claim.run_id, 2));
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 0).await, "superseded");
    assert_eq!(play.finish(other, &again, 0).await, "accepted");
    let kept: String = play
        .value("select format('%s %s %s', state, late_state, late_exit_code) from sisyphus.attempt where attempt = 1", &[])
        .await;
    assert_eq!(kept, "lost succeeded 0");
}

/// A run whose host was silent for a lease, while its second attempt waits for five minutes.
async fn lost_and_waiting() -> (Play, crate::support::Claim) {
    let more = ", retries => 1, retry_on_lost => true, retry_delay => '5 min'";
    let (play, guardian) = job(more).await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
    }
    assert_eq!(play.live().await, ["job 07:00:00 waiting"]);
    (play, claim)
}

#[tokio::test]
async fn a_late_success_ends_a_run_whose_retry_nobody_has_claimed() {
    let (play, claim) = lost_and_waiting().await;
    play.run_now("job").await;
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 0).await, "accepted");
    assert_eq!(play.finish(back, &claim, 0).await, "already");
    assert_eq!(
        play.told().await,
        ["job 07:00:00 #1 succeeded: exit code 0 (reported late: host \"web1\" was not heard of for 30 s)"]
    );
    // What waited behind the retry goes on.
    let next = play.claim_one(back).await;
    assert_eq!(play.finish(back, &next, 0).await, "accepted");
}

#[tokio::test]
async fn a_late_failure_is_the_result_of_its_attempt_and_the_retry_stays() {
    let (play, claim) = lost_and_waiting().await;
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 3).await, "accepted");
    assert_eq!(
        play.told().await,
        [
            "job 07:00:00 #1+ failed: exit code 3 (reported late: host \"web1\" was not heard of for 30 s; attempt 2 of 2 \
          follows in 5 min)"
        ]
    );
    assert_eq!(play.live().await, ["job 07:00:00 waiting"]);
}

#[tokio::test]
async fn how_a_lost_run_ended_is_told_by_its_own_host_alone() {
    let (play, claim) = lost_and_waiting().await;
    let other = play.guardian("web2", 5).await;
    let told = play.told().await;
    assert_eq!(play.finish(other, &claim, 0).await, "refused");
    assert_eq!(play.told().await, told);
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 0).await, "accepted");
}

#[tokio::test]
async fn a_late_result_ends_between_its_start_and_now() {
    for (told, expected) in
        [("-infinity", "07:00:00"), ("infinity", "07:00:56"), ("2026-03-02 07:00:20+00", "07:00:20")]
    {
        let (play, claim) = lost_and_waiting().await;
        let back = play.guardian("web1", 5).await;
        play.client
            .execute(
                "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => '{0}',
                     finished_at => array[$4::text::timestamptz])",
                &[&back, &claim.run_id, &claim.claim_no, &told],
            )
            .await
            .unwrap();
        let ended = "select to_char(finished_at at time zone 'UTC', 'HH24:MI:SS') from sisyphus.history";
        assert_eq!(play.lines(ended).await, [expected]);
    }
}

#[tokio::test]
async fn a_retry_within_a_heartbeat_has_somebody_tick_when_its_delay_has_passed() {
    let (mut play, guardian) = job(", retries => 1, retry_delay => '1 s'").await;
    let claim = play.claim_one(guardian).await;
    play.tick().await;
    let host: i64 = play.value("select host_id from sisyphus.host", &[]).await;
    play.exec(&format!("listen sisyphus_host_{host}")).await;
    play.finish(guardian, &claim, 1).await;
    assert_eq!(play.client.hints(), 1);
    let next = "select extract(epoch from sisyphus.tick() - sisyphus._clock())::float8";
    assert!((play.value::<f64>(next, &[]).await - 1.0).abs() < 1e-9);
    play.set_time("07:00:01").await;
    play.exec("select sisyphus.tick()").await;
    assert_eq!(play.live().await, ["job 07:00:00 pending"]);
}

#[tokio::test]
async fn a_late_result_is_stored_with_its_start_and_what_it_used() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    // Its start was never reported.
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
    }
    let back = play.guardian("web1", 5).await;
    play.client
        .execute(
            "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => '{0}',
                 started_at => '{2026-03-02 07:00:01+00}', finished_at => '{2026-03-02 07:00:05+00}',
                 cpu_user => '{1.5}', cpu_system => '{0.5}', peak_memory => '{4096}')",
            &[&back, &claim.run_id, &claim.claim_no],
        )
        .await
        .unwrap();
    let stored =
        "select format('%s %s %s %s %s', state, duration_seconds, cpu_user_seconds, cpu_system_seconds,
                                peak_memory_bytes) from sisyphus.history";
    assert_eq!(play.lines(stored).await, ["succeeded 4 1.5 0.5 4096"]);
}

#[tokio::test]
async fn a_late_end_by_a_signal_is_the_result_of_its_attempt_and_the_retry_stays() {
    let (play, claim) = lost_and_waiting().await;
    play.exec("select sisyphus.alter_job('job', no_retry_exit_codes => '{4}')").await;
    let back = play.guardian("web1", 5).await;
    let finish =
        "select answer from sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], signals => '{9}')";
    let answer: String = play.value(finish, &[&back, &claim.run_id, &claim.claim_no]).await;
    assert_eq!(answer, "accepted");
    assert!(play.told().await[0].starts_with("job 07:00:00 #1+ failed: killed by signal KILL"));
    assert_eq!(play.live().await, ["job 07:00:00 waiting"]);
}

#[tokio::test]
async fn a_late_failure_whose_retry_is_withdrawn_no_longer_says_that_it_follows() {
    let (play, claim) = lost_and_waiting().await;
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 3).await, "accepted");
    play.exec(&format!("select sisyphus.cancel({})", claim.run_id)).await;
    play.tick_at("07:01:00").await;
    assert_eq!(
        play.told().await,
        [
            "job 07:00:00 #1 failed: exit code 3 (reported late: host \"web1\" was not heard of for 30 s); not retried: \
          cancelled by postgres"
        ]
    );
}

#[tokio::test]
async fn a_retry_that_is_given_back_and_withdrawn_leaves_an_end_also_beside_a_late_result() {
    let (play, claim) = lost_and_waiting().await;
    play.tick_at("07:06:00").await;
    let other = play.guardian("web2", 5).await;
    let again = play.claim_one(other).await;
    let back = play.guardian("web1", 5).await;
    assert_eq!(play.finish(back, &claim, 0).await, "superseded");
    play.release(other, &again).await;
    play.exec(&format!("select sisyphus.cancel({})", claim.run_id)).await;
    play.tick_at("07:06:10").await;
    assert_eq!(play.live().await, [""; 0]);
    let ends: i64 = play
        .value("select count(*) from sisyphus.attempt where is_final and run_id = $1", &[&claim.run_id])
        .await;
    assert_eq!(ends, 1, "{:?}", play.told().await);
}

#[tokio::test]
async fn nobody_is_lost_because_the_database_was_away() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.tick_at("07:00:04").await;
    play.tick_at("08:00:00").await;
    assert_eq!(play.live().await, ["job 07:00:00 running"]);
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
}

#[tokio::test]
async fn a_new_guardian_takes_over_what_the_keeper_holds() {
    let (play, first) = job(", overlap => 'allow'").await;
    play.run_now("job").await;
    let claims = play.claim(first, 5).await;
    play.start(first, &claims[0]).await;
    let held =
        serde_json::json!([{"run_id": claims[0].run_id, "claim_no": claims[0].claim_no, "ended": false}]);
    let row = play
        .client
        .query_one(
            "select guardian_id, owned from sisyphus.register_guardian('web1', 5, host_key => md5('web1')::uuid,
                 keepers => array[md5('keeperweb1')::uuid], held => $1)",
            &[&held],
        )
        .await
        .unwrap();
    let second: i64 = row.get(0);
    assert_eq!(row.get::<_, serde_json::Value>(1), held);
    // The keeper lives and never had the other one: it goes back and is claimed anew.
    let again = play.claim_one(second).await;
    assert_eq!((again.run_id, again.attempt), (claims[1].run_id, 1));
    assert_eq!(play.finish(second, &claims[0], 0).await, "accepted");
    assert_error(
        play.client.query("select * from sisyphus.finish_job($1, '{1}', '{1}')", &[&first]).await,
        "SY401",
        "has ended: superseded",
        "register_guardian()",
    );
}

#[tokio::test]
async fn only_the_keeper_that_starts_runs_may_have_started_a_claim() {
    let (play, _) = job("").await;
    let register = async |keepers: &str| -> i64 {
        let sql = format!(
            "select guardian_id from sisyphus.register_guardian('web1', 5, host_key => md5('web1')::uuid,
                 keepers => (select array_agg(md5(k)::uuid order by n)
                               from unnest('{{{keepers}}}'::text[]) with ordinality as u (k, n)))"
        );
        play.client.query_one(&sql, &[]).await.unwrap().get(0)
    };
    let guardian = register("new,old").await;
    let first = play.claim_one(guardian).await;
    // The old one has left since.
    let guardian = register("new").await;
    let again = play.claim_one(guardian).await;
    assert_eq!((again.run_id, again.attempt), (first.run_id, 1));
    let _guardian = register("newer,old").await;
    assert_eq!(
        play.told().await,
        ["job 07:00:00 #1 lost: the keeper of host \"web1\" no longer has it (may have started)"]
    );
}

#[tokio::test]
async fn what_a_dead_keeper_had_is_lost_at_once() {
    let (play, first) = job("").await;
    let claim = play.claim_one(first).await;
    play.start(first, &claim).await;
    play.client
        .execute("select sisyphus.register_guardian('web1', 5, host_key => md5('web1')::uuid, keepers => array[md5('new')::uuid])", &[])
        .await
        .unwrap();
    assert_eq!(play.told().await, ["job 07:00:00 #1 lost: the keeper of host \"web1\" no longer has it"]);
}

#[tokio::test]
async fn a_due_claim_of_a_dead_keeper_may_have_started() {
    let (play, first) = job("").await;
    play.claim_one(first).await;
    play.client
        .execute("select sisyphus.register_guardian('web1', 5, host_key => md5('web1')::uuid, keepers => array[md5('new')::uuid])", &[])
        .await
        .unwrap();
    assert_eq!(
        play.told().await,
        ["job 07:00:00 #1 lost: the keeper of host \"web1\" no longer has it (may have started)"]
    );
}

#[tokio::test]
async fn results_without_their_claims_are_refused_whole() {
    let (play, guardian) = job("").await;
    assert_error(
        play.client.query("select * from sisyphus.finish_job($1, '{1,2}', '{1}')", &[&guardian]).await,
        "22023",
        "differ in length",
        "one claim_no for each run_id",
    );
}

/// As guardians send it.
async fn finish_and_claim(
    play: &Play,
    end: Finish,
    holding: i64,
    slots: i32,
) -> Result<(Vec<(i64, Answer)>, Claimed), sisyphus::error::Error> {
    let report = Report { slots, running: 0, clock_offset_ms: None, problem: None, seen_tick_us: None };
    let claim = Claim {
        guardian_id: play.value("select max(guardian_id) from sisyphus.guardian", &[]).await,
        max_runs: slots,
        slots_free: slots,
        ahead: Duration::ZERO,
        holding: vec![holding],
        acknowledged: Vec::new(),
        report,
    };
    Api::new(&play.client).finish_and_claim(&[end], &claim).await
}

fn end_of(run_id: i64, claim_no: i64) -> Finish {
    Finish {
        run_id,
        claim_no,
        exit_code: Some(0),
        signal: None,
        ended_by: None,
        reason: None,
        started_at: None,
        finished_at: "2026-03-02T07:00:01Z".parse().unwrap(),
        stdout: Some("out".to_owned()),
        stderr: Some(String::new()),
        result: None,
        cpu_user: 0.0,
        cpu_system: 0.0,
        peak_memory: 0,
    }
}

#[tokio::test]
async fn what_waited_for_an_end_is_claimed_in_the_same_transaction_and_told_again_when_the_reply_was_lost() {
    let (play, guardian) = job(", overlap => 'queue'").await;
    let first = play.claim_one(guardian).await;
    let second = play.run_now("job").await;
    play.tick_at("07:00:01").await;
    assert_eq!(play.live().await, ["job 07:00:00 claimed", "job 07:00:00 waiting"]);
    let end = end_of(first.run_id, first.claim_no);
    let (answers, claimed) = finish_and_claim(&play, end.clone(), first.claim_no, 1).await.unwrap();
    assert_eq!(answers, [(first.claim_no, Answer::Accepted)]);
    assert_eq!(claimed.runs.iter().map(|run| run.run_id).collect::<Vec<_>>(), [second]);
    let (answers, again) = finish_and_claim(&play, end, first.claim_no, 1).await.unwrap();
    assert_eq!(answers, [(first.claim_no, Answer::Already)]);
    assert_eq!(again.runs[0].claim_no, claimed.runs[0].claim_no);
    assert_eq!((again.runs.len(), again.next_in > 0.0), (1, true));
}

#[tokio::test]
async fn a_claim_that_is_refused_takes_the_results_back_with_it() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    let end = end_of(claim.run_id, claim.claim_no);
    let refused = finish_and_claim(&play, end, claim.claim_no, -1).await.unwrap_err();
    assert_eq!(refused.code(), Some("22023"));
    assert_eq!(play.live().await, ["job 07:00:00 claimed"]);
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
}

#[tokio::test]
async fn a_delay_is_capped_before_it_can_overflow() {
    let (play, guardian) =
        job(", retries => 9, retry_delay => '8000 hours', retry_backoff => 100, retry_max_delay => '0 s'")
            .await;
    for _ in 0..6 {
        let claim = play.claim_one(guardian).await;
        assert_eq!(play.finish(guardian, &claim, 1).await, "accepted");
    }
}

#[tokio::test]
async fn a_run_that_cannot_be_recorded_does_not_keep_those_of_other_hosts_from_being_given_up() {
    let (play, first) = job(", retries => 1, retry_on_lost => true").await;
    play.claim_one(first).await;
    play.exec("select sisyphus.schedule('other', null, 'true'); select sisyphus.run_now('other')").await;
    let second = play.guardian("web2", 5).await;
    play.claim_one(second).await;
    // As no definition can have it: the retry is due after the last instant there is.
    play.exec("update sisyphus.job set retry_delay = '293000 years', retry_max_delay = '293000 years' where name = 'job'")
        .await;
    for second in (4..=56).step_by(4) {
        play.tick_at(&format!("07:00:{second:02}")).await;
    }
    assert_eq!(
        play.told().await,
        ["other 07:00:00 #1 lost: host \"web2\" was not heard of for 30 s (may have started)"]
    );
    assert_eq!(play.live().await, ["job 07:00:00 claimed"]);
}

#[tokio::test]
async fn a_run_that_is_given_twice_in_a_batch_ends_once() {
    let (play, guardian) = job("").await;
    let claim = play.claim_one(guardian).await;
    let finish = "select sisyphus.finish_job($1, array[$2, $2]::bigint[], array[$3, $3]::bigint[], '{0,1}')";
    let twice = play.client.query(finish, &[&guardian, &claim.run_id, &claim.claim_no]).await;
    assert_error(twice, "22023", "a run is given twice", "once");
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    assert_eq!(play.told().await, ["job 07:00:00 #1 succeeded: exit code 0"]);
}

#[tokio::test]
async fn a_timeout_names_no_limit_that_the_run_did_not_have() {
    let (play, guardian) = job(", max_runtime => '5 min'").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.exec("select sisyphus.alter_job('job', max_runtime => '2 h')").await;
    play.finish_by(guardian, &claim, "timeout", "").await;
    assert_eq!(play.told().await, ["job 07:00:00 #1 timed_out: ran longer than max_runtime"]);
}
