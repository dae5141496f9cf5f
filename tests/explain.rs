//! Why a run has not started and what became of an occurrence, in a sentence.

use crate::support::{Play, assert_error};

async fn explain_run(play: &Play, run_id: i64) -> String {
    play.value("select sisyphus.explain_run($1)", &[&run_id]).await
}

async fn explain(play: &Play, job: &str, due_at: &str) -> String {
    play.value(
        "select sisyphus.explain($1, ('2026-03-02 ' || $2::text || '+00')::timestamptz)",
        &[&job, &due_at],
    )
    .await
}

#[track_caller]
fn assert_told(told: &str, part: &str) {
    assert!(told.contains(part), "{told:?} should contain {part:?}");
}

/// A job on demand in pool `web`, one run of which is pending.
async fn a_pending_run() -> (Play, i64) {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.create_pool('web', array['web1', 'web2'])").await;
    play.exec("select sisyphus.schedule('report', null, 'true', pool => 'web', timezone => 'UTC')").await;
    let run_id = play.run_now("report").await;
    play.tick().await;
    (play, run_id)
}

#[tokio::test]
async fn no_active_host() {
    let (play, run_id) = a_pending_run().await;
    assert_told(&explain_run(&play, run_id).await, "no active host in pool \"web\"");
    play.guardian("web1", 1).await;
    play.guardian("web2", 1).await;
    play.exec("select sisyphus.drain_host('web1'); update sisyphus.guardian set lease_until = seen_at where guardian_id = 2").await;
    assert_told(
        &explain_run(&play, run_id).await,
        "no active host in pool \"web\": web1 is draining, web2 is lost",
    );
    play.exec("select sisyphus.activate_host('web1')").await;
    assert_told(&explain_run(&play, run_id).await, "a host of pool \"web\" takes it at its next claim");
    play.set_time("07:00:01").await;
    let why: String = play.value("select why from sisyphus.overdue where run_id = $1", &[&run_id]).await;
    assert_eq!(format!("pending: {why}"), explain_run(&play, run_id).await);
}

#[tokio::test]
async fn of_many_hosts_that_are_away_five_are_named() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('report', null, 'true', timezone => 'UTC')").await;
    let run_id = play.run_now("report").await;
    for n in 1..=8 {
        play.guardian(&format!("web{n}"), 1).await;
    }
    play.tick_at("07:10:00").await;
    assert_told(
        &explain_run(&play, run_id).await,
        "no active host in pool \"default\": web1 is unreachable, web2 is unreachable, \
         web3 is unreachable, web4 is unreachable, web5 is unreachable and 3 more",
    );
}

#[tokio::test]
async fn a_run_for_one_host_is_told_of_that_host_alone() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.schedule('report', null, 'true', run_on => 'all', timezone => 'UTC')").await;
    let run_id = play.run_now("report").await;
    play.tick().await;
    assert_eq!(explain_run(&play, run_id).await, "pending: host \"web1\" takes it at its next claim");
    play.exec("select sisyphus.set_slots('web1', 0)").await;
    assert_eq!(
        explain_run(&play, run_id).await,
        "pending: host \"web1\" has no slot: set_slots() changes that"
    );
    play.exec(&format!("select sisyphus.sign_off({guardian})")).await;
    assert_eq!(explain_run(&play, run_id).await, "pending: host \"web1\" is stopped");
}

#[tokio::test]
async fn every_slot_is_busy() {
    let (play, first) = a_pending_run().await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.exec("select sisyphus.schedule('other', null, 'true', pool => 'web', timezone => 'UTC')").await;
    let second = play.run_now("other").await;
    play.tick().await;
    assert_told(
        &explain_run(&play, second).await,
        &format!("every slot of pool \"web\" is busy: run {first} of report on web1"),
    );
    assert_told(&explain_run(&play, first).await, "running on web1; started 0 ms ago");
}

#[tokio::test]
async fn blocked_by_another_run() {
    let (play, first) = a_pending_run().await;
    play.exec("select sisyphus.alter_job('report', overlap => 'queue')").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    let second = play.run_now("report").await;
    play.tick().await;
    assert_told(
        &explain_run(&play, second).await,
        &format!("waiting: blocked by run {first} of the same job, which is running on web1"),
    );
}

#[tokio::test]
async fn not_yet_due_suspended_retried_and_ended() {
    let (play, run_id) = a_pending_run().await;
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.alter_job('report', retries => 1, retry_delay => '10 min')").await;
    let later: i64 = play.value("select sisyphus.run_now('report', at => '2026-03-02 08:00+00')", &[]).await;
    assert_told(&explain_run(&play, later).await, "not yet due: due in 60 min, at 2026-03-02T08:00:00Z");
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 1).await;
    assert_told(&explain_run(&play, run_id).await, "waiting: attempt 2 follows in 10 min");
    play.exec("select sisyphus.suspend('report', reason => 'holidays')").await;
    assert_told(&explain_run(&play, later).await, "job \"report\" was suspended 0 ms ago: holidays");
    play.exec("select sisyphus.resume('report'); select sisyphus.unschedule('report')").await;
    play.tick().await;
    assert_told(&explain_run(&play, later).await, "cancelled at 2026-03-02T07:00:00Z: ");
}

#[tokio::test]
async fn an_unknown_run_is_an_error() {
    let play = Play::at("07:00:00").await;
    let result = play.client.query("select sisyphus.explain_run(4711)", &[]).await;
    assert_error(result, "42704", "run 4711 does not exist", "retention");
    play.exec("select sisyphus.schedule('once', 'at 2026-03-03', 'true')").await;
    let result = play.client.query("select sisyphus.explain('once', null)", &[]).await;
    assert_error(result, "22023", "job \"once\": due_at \"null\"", "Give the instant");
    let told: String = play.value("select sisyphus.explain('once', '2026-03-04')", &[]).await;
    assert_told(&told, "; there is none after it");
}

#[tokio::test]
async fn what_became_of_an_occurrence() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 * * * *', 'true', timezone => 'UTC', starts_at => '2026-03-02 06:30+00',
                                       ends_at => '2026-03-02 10:00+00')").await;
    let guardian = play.guardian("web1", 1).await;
    assert_told(&explain(&play, "report", "07:00:00").await, "not yet due: due in 60 s, planned 15 s before");
    play.pass_until("07:00:00").await;
    assert_told(
        &explain(&play, "report", "07:00:00").await,
        "run 1 pending: a host of pool \"default\" takes it",
    );
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 0).await;
    assert_told(
        &explain(&play, "report", "07:00:00").await,
        "run 1 succeeded on web1 at 2026-03-02T07:00:00Z: exit code 0",
    );
    assert_told(
        &explain(&play, "report", "07:10:00").await,
        "not an occurrence of \"0 * * * *\" in UTC; the next one after it is 2026-03-02T08:00:00Z",
    );
    assert_told(&explain(&play, "report", "06:00:00").await, "before the job starts");
    assert_told(&explain(&play, "report", "10:00:00").await, "not before the job ends");
    play.exec("select sisyphus.suspend('report', reason => 'holidays')").await;
    assert_told(&explain(&play, "report", "08:00:00").await, "left out: job \"report\" was suspended");
    play.pass_until("08:00:10").await;
    play.exec("select sisyphus.resume('report')").await;
    play.pass_until("08:00:20").await;
    let told = explain(&play, "report", "08:00:00").await;
    assert_told(&told, "skipped");
    assert_told(&told, "suspended");
}

#[tokio::test]
async fn an_unknown_or_deleted_job() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('report', '@daily', 'true', timezone => 'UTC')").await;
    let result = play.client.query("select sisyphus.explain('repotr', now())", &[]).await;
    assert_error(result, "42704", "job \"repotr\" does not exist", "Did you mean \"report\"?");
    play.exec("select sisyphus.unschedule('report')").await;
    play.tick().await;
    assert_told(
        &explain(&play, "report", "09:00:00").await,
        "job \"report\" was unscheduled at 2026-03-02T07:00:00Z",
    );
}

/// One reason after the other of one job that is due each hour, as `explain()` tells them; each fits into a line of a
/// terminal of 100 columns, below the head that psql makes.
#[tokio::test]
async fn each_reason_is_a_sentence_of_one_line() {
    let play = Play::at("06:50:00").await;
    play.exec("select sisyphus.create_pool('web', array['web1', 'web2']);
               select sisyphus.create_calendar('holidays', 'select ''2026-03-02''::date');
               select sisyphus.schedule('report', '0 * * * *', 'true', pool => 'web', timezone => 'UTC', ttl => '3 min', retries => 1,
                                        retry_delay => '10 min');
               select sisyphus.schedule('other', null, 'true', pool => 'web', timezone => 'UTC')").await;
    let mut told: Vec<String> = Vec::new();
    told.push(explain(&play, "report", "07:00:00").await);
    play.pass_until("07:00:00").await;
    told.push(explain(&play, "report", "07:00:00").await); // no host in the pool
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.drain_host('web1')").await;
    play.tick().await;
    told.push(explain(&play, "report", "07:00:00").await); // draining
    play.exec("select sisyphus.activate_host('web1')").await;
    play.tick().await;
    told.push(explain(&play, "report", "07:00:00").await); // about to be claimed
    play.pass_until("07:03:00").await;
    told.push(explain(&play, "report", "07:00:00").await); // expired
    let other = play.run_now("other").await;
    play.tick().await;
    let busy = play.claim_one(guardian).await;
    assert_eq!((busy.run_id, play.start(guardian, &busy).await.as_str()), (other, "accepted"));
    play.pass_until("08:00:01").await;
    told.push(explain(&play, "report", "08:00:00").await); // every slot is busy
    play.exec("begin; select sisyphus.suspend('report', reason => 'stocktaking')").await;
    told.push(explain(&play, "report", "08:00:00").await); // suspended
    play.exec("rollback").await;
    play.finish(guardian, &busy, 0).await;
    let run = play.claim_one(guardian).await;
    play.start(guardian, &run).await;
    told.push(explain(&play, "report", "08:00:00").await); // running
    let by_hand = play.run_now("report").await;
    play.exec("select sisyphus.alter_job('report', overlap => 'queue')").await;
    play.tick().await;
    told.push(explain_run(&play, by_hand).await); // blocked by run N
    play.exec(&format!("select sisyphus.cancel({by_hand})")).await;
    told.push(explain_run(&play, by_hand).await); // cancelled by somebody
    play.tick().await;
    told.push(explain_run(&play, by_hand).await);
    play.finish(guardian, &run, 1).await;
    told.push(explain(&play, "report", "08:00:00").await); // waits for its retry
    play.pass_until("08:10:01").await;
    let again = play.claim_one(guardian).await;
    play.finish(guardian, &again, 0).await;
    told.push(explain(&play, "report", "08:00:00").await); // succeeded
    play.exec("select sisyphus.alter_job('report', except_on => 'holidays')").await;
    play.tick().await;
    told.push(explain(&play, "report", "09:00:00").await); // left out by a calendar

    let expected = [
        r#"not yet due: due in 10 min, planned 15 s before"#,
        r#"run 1 pending: no active host in pool "web""#,
        r#"run 1 pending: no active host in pool "web": web1 is draining"#,
        r#"run 1 pending: a host of pool "web" takes it at its next claim"#,
        r#"run 1 expired at 2026-03-02T07:03:00Z: not started within 3 min: every slot of pool "web" was busy"#,
        r#"run 3 pending: every slot of pool "web" is busy: run 2 of other on web1"#,
        r#"run 3 pending: job "report" was suspended 0 ms ago: stocktaking"#,
        r#"run 3 running on web1; started 0 ms ago"#,
        r#"waiting: blocked by run 3 of the same job, which is running on web1"#,
        r#"waiting: cancel was asked by postgres 0 ms ago"#,
        r#"cancelled at 2026-03-02T08:00:01Z: cancelled by postgres"#,
        r#"run 3 waiting: attempt 2 follows in 10 min"#,
        r#"run 3 succeeded on web1 at 2026-03-02T08:10:01Z, attempt 2: exit code 0"#,
        r#"left out by calendar "holidays""#,
    ];
    assert_eq!(told, expected);
    for sentence in told {
        // A blank on either side.
        assert!(sentence.chars().count() <= 98, "{} columns: {sentence}", sentence.chars().count());
    }
}

/// Counted anew for each, what is before a run made view overdue quadratic.
#[tokio::test]
async fn of_a_long_queue_no_more_than_a_hundred_are_counted() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec(
        "select sisyphus.schedule('j', null, 'true', overlap => 'allow');
         select sisyphus.run_many('j', array_fill('1'::jsonb, array[150])); analyze sisyphus.run",
    )
    .await;
    play.tick().await;
    play.claim(guardian, 0).await;
    play.set_time("07:00:01").await;
    let told = play.lines("select why from sisyphus.overdue order by run_id").await;
    assert_told(&told[1], "1 due run of pool \"default\" before it");
    assert_told(&told[100], "100 due runs of pool \"default\" before it");
    assert_told(&told[149], "more than 100 due runs of pool \"default\" before it");
}

#[tokio::test]
async fn an_instant_between_occurrences_is_none_of_those_that_a_row_stands_for() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('j', '*/10 * * * *', 'true', timezone => 'UTC'); select sisyphus.suspend('j')")
        .await;
    play.tick().await;
    play.set_time("08:05:00").await;
    play.exec("select sisyphus.resume('j')").await;
    play.tick().await;
    assert_told(&explain(&play, "j", "07:30").await, "one of 6 occurrences");
    assert_told(&explain(&play, "j", "07:35").await, "not an occurrence of");
}
