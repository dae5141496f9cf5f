//! Promise 7: a caller who leaves a transaction open delays nobody else.
//!
//! Each of these fails when a definition or control call locks a row of a run, of the planner's state or of a guardian,
//! or inserts a key that others wait for.

use tokio_postgres::Client;

use crate::{
    job::{one, run},
    support,
};

struct Scheduler {
    client: support::TestClient,
    guardian_id: i64,
}

impl Scheduler {
    /// A guardian that waits for no lock longer than a second, and three jobs with a run each in its hands.
    async fn new(db: &support::TestDb) -> Self {
        let client = db.client().await;
        run(
            &client,
            "select sisyphus.create_pool('spare');
             select sisyphus.schedule('x', 'every 1 second', 'true', ttl => '1 h');
             select sisyphus.schedule('free', null, 'true', overlap => 'allow');
             select sisyphus.schedule('other', null, 'true', overlap => 'queue');
             select sisyphus.suspend('x');
             set lock_timeout = '1 s'",
        )
        .await;
        let guardian_id = one(&client, "select guardian_id from sisyphus.register_guardian('a', 100)").await;
        let scheduler = Self { client, guardian_id };
        run(&scheduler.client, "select sisyphus.resume('x')").await;
        scheduler.run_all().await;
        scheduler
    }

    /// Asks for a run of each job, ticks and claims; the run_ids and claim numbers.
    async fn run_all(&self) -> Vec<(i64, i64)> {
        run(
            &self.client,
            "select sisyphus.run_now('free'); select sisyphus.run_now('other'); select sisyphus.tick()",
        )
        .await;
        let claim = "select run_id, claim_no from sisyphus.claim_job($1, 100, 100, '0') where kind = 'run'";
        let rows = self.client.query(claim, &[&self.guardian_id]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn held(&self) -> Vec<(i64, i64)> {
        let held = "select run_id, claim_no from sisyphus.run where guardian_id = $1";
        let rows = self.client.query(held, &[&self.guardian_id]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn finish(&self, held: &[(i64, i64)]) -> Vec<String> {
        let (run_ids, claim_nos): (Vec<i64>, Vec<i64>) = held.iter().copied().unzip();
        let finish = "select answer from sisyphus.finish_job($1, $2, $3, array_fill(0, array[cardinality($2::bigint[])]))";
        let rows = self.client.query(finish, &[&self.guardian_id, &run_ids, &claim_nos]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Everything that must go on: results, planning, claims, other people's calls, another host.
    async fn goes_on(&self, call: &str) {
        let held = self.held().await;
        assert!(held.len() >= 2, "{call}: {held:?}");
        let answers = self.finish(&held).await;
        assert!(answers.iter().all(|answer| answer == "accepted"), "{call}: {answers:?}");
        let claimed = self.run_all().await;
        assert!(claimed.len() >= 2, "{call}: {claimed:?}");
        run(
            &self.client,
            "select sisyphus.schedule('new', '* * * * *', 'true'); select sisyphus.suspend('new');
             select sisyphus.alter_job('other', retries => 1); select sisyphus.alter_job('other', retries => 0);
             select sisyphus.unschedule('new'); select sisyphus.suspend_all('spare');
             select sisyphus.register_guardian('b', 1); select sisyphus.maintain()",
        )
        .await;
    }
}

async fn leave_open(client: &Client, call: &str) {
    run(client, &format!("begin; select sisyphus.{call}")).await;
}

#[tokio::test]
async fn an_open_transaction_of_any_call_on_a_job_holds_up_nobody() {
    let db = support::db().await;
    let scheduler = Scheduler::new(&db).await;
    // Calls that change one job wait for each other: each of those in a round of its own.
    let rounds: [&[&str]; 6] = [
        &["resume('x')"],
        &["resume_all()"],
        &["alter_job('x', schedule => '@daily')"],
        &["schedule('x', 'every 1 second', 'false')"],
        &["unschedule('x')"],
        &[
            "suspend('x', until => now() + interval '1 h')",
            "schedule('quite new', '* * * * *', 'true')",
            "run_now('x')",
            "run_now('x', dedup_key => 'k')",
            "run_many('x', array['1', '2']::jsonb[])",
            "backfill('x', now() - interval '1 s', now())",
            "submit('true')",
            "suspend_all('spare')",
            "create_pool('spare', '{a}')",
            "add_host('spare', 'b')",
            "set_setting('output_limit', '4096')",
            "drain_host('a')",
            "preview('x')",
        ],
    ];
    for calls in rounds {
        let mut callers = Vec::new();
        for call in calls {
            let caller = db.client().await;
            leave_open(&caller, call).await;
            callers.push(caller);
        }
        scheduler.goes_on(calls[0]).await;
        for caller in callers {
            run(&caller, "rollback").await;
        }
    }
}

#[tokio::test]
async fn an_open_transaction_of_any_call_on_a_run_holds_up_nobody() {
    let db = support::db().await;
    let scheduler = Scheduler::new(&db).await;
    let caller = db.client().await;
    for function in ["terminate", "cancel", "pause", "unpause"] {
        let (run_id, _) = scheduler.held().await[0];
        leave_open(&caller, &format!("{function}({run_id})")).await;
        scheduler.goes_on(function).await;
        run(&caller, "rollback").await;
    }
    let ended: i64 = one(&caller, "select min(run_id) from sisyphus.attempt where job = 'free'").await;
    leave_open(&caller, &format!("rerun({ended})")).await;
    scheduler.goes_on("rerun").await;
    run(&caller, "rollback").await;
}

/// The same for a snapshot: nothing of this may fail with 40001 either.
#[tokio::test]
async fn a_caller_under_repeatable_read_asks_for_runs_without_a_conflict() {
    let db = support::db().await;
    let scheduler = Scheduler::new(&db).await;
    let caller = db.client().await;
    run(&caller, "begin isolation level repeatable read; select count(*) from pg_class").await;
    scheduler.goes_on("repeatable read").await;
    run(&caller, "select sisyphus.run_now('free'); select sisyphus.run_many('other', array['1']::jsonb[]); select sisyphus.suspend('x')").await;
    scheduler.goes_on("repeatable read").await;
    run(&caller, "commit").await;
}

#[tokio::test]
async fn what_an_open_transaction_asked_happens_when_it_commits() {
    let db = support::db().await;
    let scheduler = Scheduler::new(&db).await;
    let caller = db.client().await;
    leave_open(&caller, "suspend('free')").await;
    let asked: i64 = one(&caller, "select sisyphus.run_now('other', '\"mine\"')").await;
    scheduler.goes_on("suspend").await;
    let held = scheduler.held().await;
    scheduler.finish(&held).await;
    run(&caller, "commit").await;
    let result = scheduler.client.query("select sisyphus.run_now('free')", &[]).await;
    support::assert_error(result, "55000", "job \"free\" is suspended", "resume");
    let claim =
        "select run_id from sisyphus.claim_job($1, 100, 100, '0') where kind = 'run' and job = 'other'";
    let rows = scheduler.client.query(claim, &[&scheduler.guardian_id]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [asked]);
}

/// An emergency stop does not wait for the one job that somebody is changing.
#[tokio::test]
async fn suspend_all_leaves_out_a_job_under_change_and_names_it() {
    let db = support::db().await;
    let mut client = db.client().await;
    run(&client, "select sisyphus.schedule('job' || i, null, 'true') from generate_series(1, 3) i").await;
    client.notices();
    let other = db.client().await;
    leave_open(&other, "alter_job('job2', retries => 1)").await;
    assert_eq!(one::<i64>(&client, "select sisyphus.suspend_all(reason => 'fire')").await, 2);
    assert_eq!(client.notices(), ["jobs left out, another transaction is changing them: job2"]);
    run(&other, "commit").await;
    assert_eq!(one::<i64>(&client, "select sisyphus.suspend_all(reason => 'fire')").await, 1);
    assert_eq!(one::<i64>(&client, "select sisyphus.suspend_all()").await, 0);
    assert_eq!(
        one::<i64>(&client, "select count(*) from sisyphus.job where suspend_reason = 'fire'").await,
        3
    );
    assert_eq!(one::<i64>(&client, "select sisyphus.resume_all()").await, 3);
    assert_eq!(one::<i64>(&client, "select sisyphus.resume_all('default')").await, 0);
}

/// Two people who schedule one new name at once: the second waits for the first alone, and replaces the job.
#[tokio::test]
async fn a_new_name_that_two_sessions_schedule_becomes_one_job() {
    let db = support::db().await;
    let (first, second) = (db.client().await, db.client().await);
    run(&first, "begin").await;
    let one_id: i64 = one(&first, "select sisyphus.schedule('n', null, 'first')").await;
    let blocked = "select exists (select from pg_stat_activity
                                   where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)";
    let other = async { one::<i64>(&second, "select sisyphus.schedule('n', null, 'second')").await };
    let commit = async {
        support::wait_until("the second waits", std::time::Duration::from_secs(10), async || {
            one::<bool>(&first, blocked).await.then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        run(&first, "commit").await;
    };
    let (other_id, ()) = tokio::join!(other, commit);
    assert_eq!(one_id, other_id);
    let job: String = one(&first, "select command || version from sisyphus.job").await;
    assert_eq!(job, "second2");
}

#[tokio::test]
async fn an_open_transaction_of_any_call_on_a_host_keeps_it_from_nothing() {
    let db = support::db().await;
    let mut scheduler = Scheduler::new(&db).await;
    for call in ["set_slots('a', 50)", "set_slots('a', null)", "drain_host('a')", "activate_host('a')"] {
        let caller = db.client().await;
        leave_open(&caller, call).await;
        if call != "activate_host('a')" {
            scheduler.goes_on(call).await;
        }
        // Its guardian is restarted, and registers with other labels than before.
        let register = format!(
            "select guardian_id from sisyphus.register_guardian('a', 100, labels => '{{\"n\": \"{}\"}}')",
            call.len()
        );
        scheduler.guardian_id = one(&scheduler.client, &register).await;
        run(&caller, "commit").await;
        // The very next claim knows.
        let claimed = scheduler.run_all().await;
        assert_eq!(claimed.is_empty(), call == "drain_host('a')", "{call}: {claimed:?}");
        let next = "select spec ->> 'slots' from sisyphus.claim_job($1, 0, 0) where kind = 'next'";
        let slots: String = scheduler.client.query_one(next, &[&scheduler.guardian_id]).await.unwrap().get(0);
        assert_eq!(slots, if call.starts_with("set_slots") { "50" } else { "100" }, "{call}");
    }
}

/// What a transaction of a guardian holds that ticks wait for, it holds for no longer than 5 s of idleness.
#[tokio::test]
async fn a_guardian_that_leaves_a_transaction_open_is_ended_by_the_server() {
    let play = support::play().await;
    let guardian = play.guardian("web1", 5).await;
    play.exec(
        "select sisyphus.schedule('job', null, 'true', overlap => 'queue');
         select sisyphus.run_now('job'); select sisyphus.run_now('job')",
    )
    .await;
    let calls = [
        format!("claim_job({guardian}, 5, 5)"),
        format!(
            "finish_job({guardian}, array_agg(run_id), array_agg(claim_no), '{{0}}') from sisyphus.run where claim_no is not null"
        ),
        "maintain()".to_owned(),
        "register_guardian('web1', 5, host_key => md5('web1')::uuid)".to_owned(),
    ];
    for call in calls {
        play.exec(&format!("begin; select sisyphus.{call}")).await;
        let setting = "select current_setting('idle_in_transaction_session_timeout')";
        assert_eq!(play.lines(setting).await, ["5s"], "{call}");
        play.exec("commit").await;
    }
}

#[tokio::test]
async fn a_host_registers_while_somebody_is_adding_it_to_its_pool() {
    let play = support::play().await;
    let other = play.db.client().await;
    play.exec(
        "select sisyphus.create_pool('web'); select sisyphus.create_pool('old'); set lock_timeout = '2 s'",
    )
    .await;
    run(&other, "begin; select sisyphus.add_host('web', 'h1'); select sisyphus.drop_pool('old')").await;
    play.exec("select sisyphus.register_guardian('h1', 1, pools => '{web,old}')").await;
    run(&other, "commit").await;
    play.tick().await;
    assert_eq!(play.lines("select array_to_string(pools, ',') from sisyphus.fleet").await, ["default,web"]);
}
