//! run_now, run_many, submit, terminate, cancel, rerun, backfill, assert_current: what they insert and answer.

use tokio_postgres::Client;

use crate::{
    job::{one, run},
    support::{self, TestClient, assert_error, set_clock},
};

/// A session at 07:00 with an exclusive job `j` and one that may overlap, `free`.
async fn morning(db: &support::TestDb) -> TestClient {
    let client = db.client().await;
    set_clock(&client, "2026-01-05 07:00+00").await;
    run(
        &client,
        "set timezone = 'UTC';
         select sisyphus.schedule('j', '0 7 * * *', 'true', ttl => '10 min', priority => 3);
         select sisyphus.schedule('free', null, 'true', overlap => 'allow')",
    )
    .await;
    client
}

/// Runs as lines, in order of their numbers.
async fn runs(client: &Client, columns: &str) -> Vec<String> {
    let query = format!("select concat_ws(' ', {columns}) from sisyphus.run order by run_id");
    client.query(&query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn register(client: &Client, host: &str) -> i64 {
    one(client, &format!("select guardian_id from sisyphus.register_guardian('{host}', 4)")).await
}

/// Claims all there is as a guardian; the run_ids and claim numbers.
async fn claim(client: &Client, guardian_id: i64) -> Vec<(i64, i64)> {
    let query = "select run_id, claim_no from sisyphus.claim_job($1, 100, 100) where kind = 'run' order by 1";
    let rows = client.query(query, &[&guardian_id]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn run_now_inserts_a_waiting_run_that_expires_from_the_call() {
    let db = support::db().await;
    let client = morning(&db).await;
    run(&client, "select sisyphus.run_now('j', '{\"n\": 1}'); select sisyphus.run_now('free')").await;
    run(&client, "select sisyphus.run_now('j', at => '2026-01-05 09:00+00')").await;
    // An instant in the past means now.
    run(&client, "select sisyphus.run_now('j', at => '2020-01-01 00:00+00')").await;
    let columns = "state, origin, target, lane_id, exclusive, priority, due_at::time, wake_at::time, expires_at::time, payload";
    assert_eq!(
        runs(&client, columns).await,
        [
            "waiting run_now 0 1 t 3 07:00:00 07:00:00 07:10:00 {\"n\": 1}",
            "waiting run_now 0 1 f 0 07:00:00 07:00:00",
            "waiting run_now 0 1 t 3 09:00:00 08:59:50 09:10:00",
            "waiting run_now 0 1 t 3 07:00:00 07:00:00 07:10:00",
        ]
    );
    for at in ["infinity", "294276-12-31 23:59:59+00"] {
        let result = client.query(&format!("select sisyphus.run_now('j', at => '{at}')"), &[]).await;
        assert_error(result, "22023", &format!("at \"{at}\""), "Give an instant before the year 10000");
    }
}

#[tokio::test]
async fn a_host_named_for_a_run_must_be_in_the_pool_and_chooses_the_lane_alone() {
    let db = support::db().await;
    let client = morning(&db).await;
    register(&client, "web1").await;
    register(&client, "web2").await;
    run(&client, "select sisyphus.create_pool('web', '{web1,web9}')").await;
    run(&client, "select sisyphus.schedule('w', null, 'true', pool => 'web')").await;
    run(&client, "select sisyphus.schedule('all', null, 'true', run_on => 'all')").await;
    run(&client, "select sisyphus.run_now('w', host => 'web1')").await;
    let on_all: i64 = one(&client, "select count(*) from sisyphus.run_now('all')").await;
    assert_eq!(on_all, 2);
    run(&client, "select sisyphus.run_now('all', host => 'web2')").await;
    let lanes = "select string_agg(format('%s %s', (select name from sisyphus.host where host_id = nullif(r.target, 0)),
                     (select name from sisyphus.host where host_id = r.lane_id)), ', ' order by run_id) from sisyphus.run r";
    assert_eq!(one::<String>(&client, lanes).await, " web1, web1 web1, web2 web2, web2 web2");
    let result = client.query("select sisyphus.run_now('w', host => 'web2')", &[]).await;
    assert_error(result, "22023", "host \"web2\" is not in pool \"web\"", "a host of pool \"web\"");
    let result = client.query("select sisyphus.run_now('w', host => 'web3')", &[]).await;
    assert_error(result, "42704", "host \"web3\" does not exist", "Did you mean \"web");
    run(&client, "select sisyphus.create_pool('empty'); select sisyphus.schedule('e', null, 'true', pool => 'empty', run_on => 'all')").await;
    let result = client.query("select sisyphus.run_now('e')", &[]).await;
    assert_error(result, "55000", "pool \"empty\" has no host", "add_host()");
}

#[tokio::test]
async fn a_dedup_key_names_one_unfinished_run_of_a_job() {
    let db = support::db().await;
    let client = morning(&db).await;
    let call = "select sisyphus.run_now('j', dedup_key => 'order 5')";
    let first: i64 = one(&client, call).await;
    assert_eq!(first, one::<i64>(&client, call).await);
    let other: i64 = one(&client, "select sisyphus.run_now('free', dedup_key => 'order 5')").await;
    assert_ne!(first, other, "keys are per job");
    run(&client, &format!("select sisyphus.cancel({first}); select sisyphus.tick()")).await;
    assert_ne!(first, one::<i64>(&client, call).await, "that run has ended");
}

/// On every host the key names one run, so that a repeated call starts nothing twice.
#[tokio::test]
async fn with_run_on_all_a_dedup_key_names_one_unfinished_run_of_each_host() {
    let db = support::db().await;
    let client = morning(&db).await;
    register(&client, "a").await;
    run(&client, "select sisyphus.schedule('all', null, 'true', run_on => 'all')").await;
    let call = "select array_agg(i order by i) from sisyphus.run_now('all', dedup_key => 'k') i";
    let first: Vec<i64> = one(&client, call).await;
    register(&client, "b").await;
    let second: Vec<i64> = one(&client, call).await;
    assert_eq!((first.len(), second.len()), (1, 2));
    assert_eq!(first[0], second[0]);
}

#[tokio::test]
async fn two_sessions_with_one_dedup_key_get_one_run_and_other_keys_do_not_wait() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('j', null, 'true')").await;
    let first = db.client().await;
    run(&first, "begin").await;
    let run_id: i64 = one(&first, "select sisyphus.run_now('j', dedup_key => 'k')").await;
    run(&client, "set lock_timeout = '2 s'; select sisyphus.run_now('j', dedup_key => 'other')").await;
    run(&client, "reset lock_timeout").await;
    let second = async { one::<i64>(&client, "select sisyphus.run_now('j', dedup_key => 'k')").await };
    let commit = async {
        wait_for_a_blocked_session(&first).await;
        run(&first, "commit").await;
    };
    let (second, ()) = tokio::join!(second, commit);
    assert_eq!(run_id, second);
}

async fn wait_for_a_blocked_session(client: &Client) {
    let blocked = "select count(*) from pg_stat_activity
                    where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0";
    support::wait_until("a session waits", std::time::Duration::from_secs(10), async || {
        match one::<i64>(client, blocked).await {
            0 => Err("nobody waits".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_suspended_job_refuses_to_be_run_by_hand() {
    let db = support::db().await;
    let client = morning(&db).await;
    let run_id: i64 = one(&client, "select sisyphus.run_now('j')").await;
    run(&client, &format!("select sisyphus.cancel({run_id}); select sisyphus.tick()")).await;
    run(&client, "select sisyphus.suspend('j', until => '2026-01-05 08:00+00', reason => 'new disk')").await;
    let calls = [
        "run_now('j')".to_owned(),
        "run_many('j', array['1']::jsonb[])".to_owned(),
        "backfill('j', '2026-01-01', '2026-01-05')".to_owned(),
        format!("rerun({run_id})"),
    ];
    for call in &calls {
        let err = support::error_of(client.query(&format!("select sisyphus.{call}"), &[]).await);
        assert_eq!(
            (err.code().code(), err.message(), err.detail(), err.hint()),
            (
                "55000",
                "job \"j\" is suspended",
                Some("Reason: new disk."),
                Some("Resume it first: select sisyphus.resume('j').")
            ),
            "{call}"
        );
    }
    // The suspension ends by itself.
    set_clock(&client, "2026-01-05 08:00+00").await;
    for call in &calls {
        run(&client, &format!("select sisyphus.{call}")).await;
    }
}

#[tokio::test]
async fn run_many_inserts_one_run_a_payload_in_order() {
    let db = support::db().await;
    let client = morning(&db).await;
    let payloads = "select array_agg(to_jsonb(i) order by i) from generate_series(1, 1000) i";
    let count: i64 = one(&client, &format!("select sisyphus.run_many('j', ({payloads}))")).await;
    assert_eq!(count, 1000);
    let ordered: bool = one(
        &client,
        "select bool_and(in_order and exclusive and origin = 'run_many' and n = payload::text::bigint)
           from (select r.*, row_number() over (order by run_id) as n from sisyphus.run r) r",
    )
    .await;
    assert!(ordered);
    assert_eq!(one::<i64>(&client, "select sisyphus.run_many('j', '{}')").await, 0);
    let result = client.query("select sisyphus.run_many('j', null)", &[]).await;
    assert_error(result, "22023", "payloads", "Give an array of jsonb");
}

#[tokio::test]
async fn submit_runs_a_command_without_a_job() {
    let db = support::db().await;
    let client = morning(&db).await;
    let guardian_id = register(&client, "a").await;
    let author = db.client_as("sisyphus_author").await;
    let run_id: i64 = one(
        &author,
        "select sisyphus.submit('echo hi', ttl => '1 min', max_runtime => '1 h', env => '{\"A\": \"b\"}',
             payload => '[1]', host => 'a', priority => 2)",
    )
    .await;
    assert_eq!(
        runs(&client, "job_id, origin, exclusive, priority, expires_at::time, payload").await,
        ["0 submit f 2 07:01:00 [1]"]
    );
    let spec: String =
        one(&client, &format!("select (spec || jsonb_build_object('payload', payload))::text from sisyphus.claim_job({guardian_id}) where kind = 'run'"))
            .await;
    for part in ["\"command\": \"echo hi\"", "\"max_runtime\": 3600", "\"A\": \"b\"", "\"payload\": [1]"] {
        assert!(spec.contains(part), "{part} should be in {spec}");
    }
    // It belongs to who submitted it.
    let other = db.login("test_bob", &["sisyphus_author"]).await;
    let result = other.query(&format!("select sisyphus.terminate({run_id})"), &[]).await;
    assert_error(result, "42501", "belongs to role test_author", "sisyphus_operator");
    assert!(one::<bool>(&author, &format!("select sisyphus.terminate({run_id})")).await);
    for (arguments, code, message) in [
        ("", "SY202", "run: neither command nor argv is given"),
        ("'true', priority => 99999", "22023", "run: priority \"99999\""),
        ("'true', ttl => '0'", "22023", "run: ttl"),
        ("'true', run_as => 'a b'", "22023", "run_as \"a b\""),
        ("'true', pool => 'nowhere'", "42704", "pool \"nowhere\" does not exist"),
        ("'true', host => 'b'", "42704", "host \"b\" does not exist"),
        ("'true', at => '-infinity'", "22023", "at \"-infinity\""),
        ("'true', at => '294276-12-31Z', ttl => '100 years'", "22023", "at \"294276-12-31"),
    ] {
        assert_error(
            author.query(&format!("select sisyphus.submit({arguments})"), &[]).await,
            code,
            message,
            "",
        );
    }
}

#[tokio::test]
async fn cancel_withdraws_what_has_not_started_and_leaves_what_has() {
    let db = support::db().await;
    let client = morning(&db).await;
    let guardian_id = register(&client, "a").await;
    let waiting: i64 = one(&client, "select sisyphus.run_now('free', at => '2026-01-05 09:00+00')").await;
    let started: i64 = one(&client, "select sisyphus.run_now('free')").await;
    let (run_id, claim_no) = claim(&client, guardian_id).await[0];
    assert_eq!(run_id, started);
    run(&client, &format!("select sisyphus.start_job({guardian_id}, '{{{run_id}}}', '{{{claim_no}}}', '{{1}}', array[sisyphus._clock()])")).await;
    assert!(one::<bool>(&client, &format!("select sisyphus.cancel({waiting})")).await);
    assert!(!one::<bool>(&client, &format!("select sisyphus.cancel({started})")).await);
    run(&client, "select sisyphus.tick()").await;
    assert!(!one::<bool>(&client, &format!("select sisyphus.cancel({waiting})")).await, "it has ended");
    assert_eq!(runs(&client, "run_id, state").await, [format!("{started} running")]);
    let ended = "select state || ': ' || reason from sisyphus.attempt";
    assert_eq!(one::<String>(&client, ended).await, "cancelled: cancelled by postgres");
    let noted = "select string_agg(coalesce(after ->> 'why', 'done'), ', ' order by audit_id) from sisyphus.audit where action = 'cancel'";
    assert_eq!(one::<String>(&client, noted).await, "done, the run had started, the run had ended");
}

#[tokio::test]
async fn terminate_reaches_the_holder_with_the_reason_and_who_asked() {
    let db = support::db().await;
    let client = morning(&db).await;
    let guardian_id = register(&client, "a").await;
    run(&client, "select sisyphus.run_now('free')").await;
    let (run_id, claim_no) = claim(&client, guardian_id).await[0];
    run(&client, &format!("select sisyphus.start_job({guardian_id}, '{{{run_id}}}', '{{{claim_no}}}', '{{1}}', array[sisyphus._clock()])")).await;
    assert!(one::<bool>(&client, &format!("select sisyphus.terminate({run_id}, 'wrong input')")).await);
    let request = format!(
        "select format('%s %s %s %s', run_id, claim_no, spec ->> 'action', spec ->> 'reason')
           from sisyphus.claim_job({guardian_id}, holding => '{{{claim_no}}}') where kind = 'request'"
    );
    assert_eq!(
        one::<String>(&client, &request).await,
        format!("{run_id} {claim_no} terminate terminated by postgres: wrong input")
    );
    run(&client, &format!("select sisyphus.finish_job({guardian_id}, '{{{run_id}}}', '{{{claim_no}}}', signals => '{{15}}', ended_by => '{{terminate}}')")).await;
    assert!(!one::<bool>(&client, &format!("select sisyphus.terminate({run_id})")).await, "it has ended");
    let ended = "select state || ': ' || reason from sisyphus.attempt";
    assert_eq!(one::<String>(&client, ended).await, "terminated: terminated by postgres: wrong input");
}

#[tokio::test]
async fn rerun_makes_a_new_run_for_the_same_occurrence_with_the_same_payload() {
    let db = support::db().await;
    let client = morning(&db).await;
    let guardian_id = register(&client, "a").await;
    let old: i64 = one(&client, "select sisyphus.run_now('free', '[5]')").await;
    let result = client.query(&format!("select sisyphus.rerun({old})"), &[]).await;
    assert_error(result, "55000", &format!("run {old} has not ended"), "sisyphus.terminate");
    let (run_id, claim_no) = claim(&client, guardian_id).await[0];
    run(
        &client,
        &format!("select sisyphus.finish_job({guardian_id}, '{{{run_id}}}', '{{{claim_no}}}', '{{1}}')"),
    )
    .await;
    set_clock(&client, "2026-01-05 08:00+00").await;
    run(&client, "select sisyphus.alter_job('free', ttl => '5 min')").await;
    let new: i64 = one(&client, &format!("select sisyphus.rerun({old})")).await;
    assert_eq!(
        runs(
            &client,
            "run_id, origin, due_at::time, requested_at::time, expires_at::time, payload, job_version"
        )
        .await,
        [format!("{new} rerun 07:00:00 08:00:00 08:05:00 [5] 2")]
    );
    run(&client, "select sisyphus.unschedule('free')").await;
    let result = client.query(&format!("select sisyphus.rerun({old})"), &[]).await;
    assert_error(result, "42704", "job \"free\" does not exist", "schedule() brings it back");
    let submitted: i64 = one(&client, "select sisyphus.submit('true')").await;
    run(&client, &format!("select sisyphus.cancel({submitted}); select sisyphus.tick()")).await;
    let result = client.query(&format!("select sisyphus.rerun({submitted})"), &[]).await;
    assert_error(result, "0A000", "was submitted without a job", "submit()");
}

#[tokio::test]
async fn rerun_of_a_run_on_one_of_all_hosts_goes_there_again() {
    let db = support::db().await;
    let client = morning(&db).await;
    register(&client, "a").await;
    register(&client, "b").await;
    run(&client, "select sisyphus.schedule('all', null, 'true', run_on => 'all')").await;
    let on_b: i64 = one(&client, "select sisyphus.run_now('all', host => 'b')").await;
    run(
        &client,
        &format!("select sisyphus.cancel({on_b}); select sisyphus.tick(); select sisyphus.rerun({on_b})"),
    )
    .await;
    let host: String = one(&client, "select h.name from sisyphus.run r join sisyphus.host h on h.host_id = r.target and r.lane_id = r.target").await;
    assert_eq!(host, "b");
    run(&client, "delete from sisyphus.run; update sisyphus.attempt set host = null").await;
    let result = client.query(&format!("select sisyphus.rerun({on_b})"), &[]).await;
    assert_error(result, "55000", "names no host", "run_now('all')");
}

#[tokio::test]
async fn backfill_makes_a_run_of_each_past_occurrence_in_order() {
    let db = support::db().await;
    let client = morning(&db).await;
    let ids: Vec<i64> = one(
        &client,
        "select array_agg(i) from sisyphus.backfill('j', '2026-01-02 07:00+00', '2026-01-05 07:00+00') i",
    )
    .await;
    assert_eq!(ids.len(), 3);
    assert_eq!(
        runs(&client, "due_at::date, due_at::time, in_order, origin, expires_at::date, expires_at::time")
            .await,
        [
            "2026-01-02 07:00:00 t backfill 2026-01-05 07:10:00",
            "2026-01-03 07:00:00 t backfill 2026-01-05 07:10:00",
            "2026-01-04 07:00:00 t backfill 2026-01-05 07:10:00",
        ]
    );
    for (arguments, code, message, hint) in [
        ("'free', '2026-01-01', '2026-01-02'", "55000", "job \"free\" has no schedule", "run_now()"),
        ("'j', '2026-01-04', '2026-01-03'", "22023", "until", "after since"),
        ("'j', '2026-01-04', '2026-01-06'", "22023", "until", "not in the future"),
        ("'j', null, '2026-01-03'", "22023", "since \"null\"", "first instant"),
        ("'j', '-infinity', '2026-01-03'", "22023", "since \"-infinity\"", "first instant"),
        ("'j', '2026-01-03', null", "22023", "until \"null\"", "after since"),
        ("'j', '1900-01-01', '2026-01-03'", "22023", "is too large", "at most 10000"),
    ] {
        let result = client.query(&format!("select sisyphus.backfill({arguments})"), &[]).await;
        assert_error(result, code, message, hint);
    }
}

#[tokio::test]
async fn assert_current_holds_while_the_claim_does() {
    let db = support::db().await;
    let client = morning(&db).await;
    let guardian_id = register(&client, "a").await;
    run(&client, "select sisyphus.run_now('free')").await;
    let (run_id, claim_no) = claim(&client, guardian_id).await[0];
    run(&client, &format!("select sisyphus.assert_current({run_id}, {claim_no})")).await;
    let result =
        client.query(&format!("select sisyphus.assert_current({run_id}, {})", claim_no - 1), &[]).await;
    assert_error(
        result,
        "SY301",
        &format!("run {run_id} is no longer held under claim"),
        "Roll back and stop",
    );
    // While it is asserted, the end of the run is told to come again and loses nothing.
    let job = db.client().await;
    run(&job, &format!("begin; select sisyphus.assert_current({run_id}, {claim_no})")).await;
    let finish = format!(
        "select answer from sisyphus.finish_job({guardian_id}, '{{{run_id}}}', '{{{claim_no}}}', '{{0}}')"
    );
    assert_eq!(one::<String>(&client, &finish).await, "busy");
    run(&job, "commit").await;
    assert_eq!(one::<String>(&client, &finish).await, "accepted");
    let result = client.query(&format!("select sisyphus.assert_current({run_id}, {claim_no})"), &[]).await;
    assert_error(result, "SY301", "is no longer held", "Roll back and stop");
}

#[tokio::test]
async fn an_unknown_run_is_an_error() {
    let db = support::db().await;
    let client = morning(&db).await;
    for call in ["terminate(99)", "cancel(99)", "rerun(99)", "pause(99)", "unpause(99)"] {
        let result = client.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(result, "42704", "run 99 does not exist", "sisyphus.history");
    }
}
