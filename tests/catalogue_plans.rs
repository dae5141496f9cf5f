//! Plans of the hot statements, as the functions themselves run them, on tables of a realistic shape.

use crate::support::{self, TestClient};

/// 20,000 runs of 1,000 jobs in each state that waits, three hosts, a history of 50,000 rows.
const REALISTIC: &str = "
    set role sisyphus_owner;
    select sisyphus._ensure_partitions(clock_timestamp());
    insert into sisyphus.host (name, slots, lanes, registered_at)
    select 'web' || n, 8, array[p.pool_id], now() from generate_series(1, 3) n, sisyphus.pool p;
    update sisyphus.host set lanes = lanes || host_id;
    insert into sisyphus.guardian (host_id, role_name, registered_at, seen_at, lease_until)
    select host_id, session_user, now(), now(), now() + '1 h' from sisyphus.host;
    insert into sisyphus.job (name, owner, timezone, anchor_at, command, pool_id, overlap)
    select 'job' || n, session_user, 'UTC', now(), 'true', p.pool_id, 'allow'
      from generate_series(1, 1000) n, sisyphus.pool p;
    insert into sisyphus.job_state (job_id, version, watermark, next_due_at)
    select job_id, 1, now(), now() + '1 h' from sisyphus.job;
    insert into sisyphus.run (job_id, lane_id, ready_no, due_at, nominal_at, job_version, exclusive, state, origin)
    select j.job_id, j.pool_id, nextval('sisyphus.ready_no_seq'), now() - '1 min'::interval, now(), 1, false, 'pending', 'run_many'
      from sisyphus.job j, generate_series(1, 20);
    insert into sisyphus.run (job_id, lane_id, wake_at, due_at, nominal_at, job_version, exclusive, state, origin)
    select j.job_id, j.pool_id, now() + '1 h', now() + '1 h', now(), 1, false, 'waiting', 'run_many'
      from sisyphus.job j, generate_series(1, 20);
    insert into sisyphus.lane_floor (lane_id, priority)
    select pool_id, 0 from sisyphus.pool on conflict do nothing;
    insert into sisyphus.attempt (run_id, job_id, due_at, nominal_at, started_at, finished_at, recorded_at, attempt,
                                  job_version, retention_days, is_final, state, origin, job, owner, pool, host, reason)
    select nextval('sisyphus.run_id_seq'), j.job_id, now(), now(), now(), now(), now(), 1,
           1, 30, true, case n when 7 then 'failed' else 'succeeded' end, 'schedule', j.name, j.owner, 'default', 'web1', 'exit code 0'
      from sisyphus.job j, generate_series(1, 50) n;
    reset role;
    analyze sisyphus.run, sisyphus.job, sisyphus.job_state, sisyphus.attempt, sisyphus.guardian, sisyphus.host;";

/// The plan of every statement that a query runs, inside functions too; none when the server lacks auto_explain.
async fn plans_of(client: &mut TestClient, query: &str) -> Option<String> {
    if let Err(err) = client.batch_execute("load 'auto_explain'").await {
        eprintln!("SKIPPED: auto_explain is not installed: {err}");
        return None;
    }
    client.notices();
    let armed = "set enable_seqscan = off; set auto_explain.log_min_duration = 0;
                 set auto_explain.log_nested_statements = on; set auto_explain.log_level = notice;";
    client.batch_execute(armed).await.unwrap();
    client.batch_execute(query).await.unwrap_or_else(|err| panic!("{query}: {err:?}"));
    client.batch_execute("reset auto_explain.log_min_duration").await.unwrap();
    Some(client.notices().join("\n"))
}

#[track_caller]
fn assert_no_seq_scan(plans: &str, tables: &[&str]) {
    for table in tables {
        let scan = format!("Seq Scan on {table} ");
        let found = plans.split("Query Text:").find(|plan| plan.contains(&scan));
        assert!(found.is_none(), "a sequential scan of {table}:\n{}", found.unwrap_or_default());
    }
}

#[tokio::test]
async fn a_claim_reads_its_lane_by_the_claim_index() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    let claim =
        "select count(*) from sisyphus.claim_job(1, max_runs => 20, slots_free => 8, holding => '{}')";
    let Some(plans) = plans_of(&mut client, claim).await else { return };
    assert!(plans.contains("Index Scan using run_claim_idx on run"), "{plans}");
    assert!(plans.contains("ready_no > "), "the floor is no part of the index condition:\n{plans}");
    assert_no_seq_scan(&plans, &["run", "job", "request", "attempt"]);
}

/// Without the wish for index scans: what is measured is what the planner does by itself.
#[tokio::test]
async fn a_claim_reads_few_runs_however_many_are_pending() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    // Another host is idle, so the claim looks for work to pass on.
    client.batch_execute("update sisyphus.guardian set slots_free = 5 where guardian_id > 1").await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let claim = "select from sisyphus.claim_job(1, max_runs => 8, slots_free => 8, holding => '{}')";
    assert_eq!(transaction.query(claim, &[]).await.unwrap().len(), 9);
    let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'sisyphus.run'::regclass";
    let read: i64 = transaction.query_one(read, &[]).await.unwrap().get(0);
    assert!(read < 300, "{read} rows of run were read for a claim of 8");
}

#[tokio::test]
async fn of_thousands_of_new_jobs_a_tick_reads_each_once_and_a_claim_none() {
    let play = support::Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 8).await;
    let claim = format!("select from sisyphus.claim_job({guardian}, max_runs => 8, slots_free => 8)");
    let define = "select sisyphus.schedule('job' || n, '* * * * *', 'true') from generate_series(1, $n) n";
    // Six times with little to do: then the plans of both are kept.
    for _ in 0..6 {
        play.exec(&define.replace("$n", "2")).await;
        play.exec(&claim).await;
        play.tick().await;
    }
    play.exec(&define.replace("$n", "2500")).await;
    let read = async |call: &str| -> i64 {
        // Else what was read before is counted as well.
        play.exec("select pg_stat_force_next_flush()").await;
        play.exec(&format!("begin; {call}")).await;
        let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables
                     where relid = 'sisyphus.request'::regclass";
        let read = play.value(read, &[]).await;
        play.exec("rollback").await;
        read
    };
    let by_claim = read(&claim).await;
    assert!(by_claim < 100, "a claim has read {by_claim} requests");
    // A thousand of them at a time.
    let by_tick =
        read("update sisyphus.planner set next_tick_at = '-infinity'; select sisyphus.tick()").await;
    assert!(by_tick < 20_000, "a tick has read {by_tick} requests");
}

#[tokio::test]
async fn runs_are_made_claimable_without_reading_all_that_wait() {
    let play = support::Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('free', null, 'true', overlap => 'allow')").await;
    let guardian = play.guardian("web1", 8).await;
    play.tick().await;
    play.exec("select sisyphus.run_many('free', array_fill(null::jsonb, array[20000]))").await;
    let claim = format!(
        "begin; select from sisyphus.claim_job({guardian}, max_runs => 8, slots_free => 8, holding => '{{}}')"
    );
    play.exec(&claim).await;
    let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'sisyphus.run'::regclass";
    let read: i64 = play.value(read, &[]).await;
    play.exec("rollback").await;
    assert!(read < 15_000, "{read} rows of run were read to make a thousand claimable");
}

/// A guardian's session lives for months, and its first calls meet next to no runs.
#[tokio::test]
async fn plans_made_while_few_runs_were_there_read_few_when_there_are_many() {
    let play = support::Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('free', null, 'true', overlap => 'allow')").await;
    let guardian = play.guardian("web1", 8).await;
    let life = format!(
        "create temp table if not exists claimed (run_id bigint, claim_no bigint);
         insert into claimed select run_id, claim_no from sisyphus.claim_job({guardian}, max_runs => 2, slots_free => 2)
          where kind = 'run';
         select from (select min(run_id) as r, min(claim_no) as c from claimed) x,
                     sisyphus.release_job({guardian}, array[x.r], array[x.c]);
         select from (select max(run_id) as r, max(claim_no) as c from claimed) x,
                     sisyphus.start_job({guardian}, array[x.r], array[x.c]);
         select from (select max(run_id) as r, max(claim_no) as c from claimed) x,
                     sisyphus.finish_job({guardian}, array[x.r], array[x.c]);
         truncate claimed;"
    );
    play.exec("select sisyphus.run_many('free', array_fill(null::jsonb, array[20]))").await;
    play.exec("select sisyphus.tick()").await;
    // Six times: then the plans of all calls are kept.
    for _ in 0..6 {
        play.exec(&life).await;
    }
    play.exec(
        "insert into sisyphus.run (job_id, lane_id, ready_no, due_at, nominal_at, job_version, exclusive, state, origin)
         select j.job_id, j.pool_id, nextval('sisyphus.ready_no_seq'), sisyphus._clock(), sisyphus._clock(), 1, false,
                'pending', 'run_many'
           from sisyphus.job j, generate_series(1, 20000)",
    )
    .await;
    play.exec(&format!("begin; {life}")).await;
    let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'sisyphus.run'::regclass";
    let read: i64 = play.value(read, &[]).await;
    play.exec("rollback").await;
    assert!(read < 1_000, "{read} rows of run were read for two runs");
}

/// A report that holds its snapshot keeps every dead version and index entry in place.
#[tokio::test]
async fn a_claim_reads_nothing_of_what_has_ended_under_an_old_snapshot() {
    let db = support::db().await;
    let client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    let report = db.client().await;
    report
        .batch_execute("begin isolation level repeatable read; select count(*) from sisyphus.job")
        .await
        .unwrap();
    let batch = "with claimed as materialized (
                     select array_agg(run_id) as r, array_agg(claim_no) as c
                       from sisyphus.claim_job(1, max_runs => 200, slots_free => 200) where kind = 'run')
                 select max(f.claim_no) from claimed, lateral sisyphus.finish_job(1, r, c) f";
    let mut seen = 0_i64;
    for _ in 0..10 {
        seen = client.query_one(batch, &[]).await.unwrap().get(0);
    }
    let visited = async |holding: i64| {
        let claim = format!(
            "explain (analyze, buffers, format json)
             select from sisyphus.claim_job(1, max_runs => 0, slots_free => 0, holding => array[{holding}])"
        );
        let plan: serde_json::Value = client.query_one(&claim, &[]).await.unwrap().get(0);
        plan[0]["Plan"]["Shared Hit Blocks"].as_i64().unwrap()
    };
    // Once for the caches of the session.
    visited(seen).await;
    let (latest, all) = (visited(seen).await, visited(0).await);
    assert!(latest + 100 < all, "{latest} blocks by what was seen last, {all} through all that has ended");
    report.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn a_result_finds_its_run_and_looks_at_no_history() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    let claim = "create temp table claimed as
                 select run_id, claim_no from sisyphus.claim_job(1, max_runs => 20, slots_free => 20) where kind = 'run'";
    client.batch_execute(claim).await.unwrap();
    let finish =
        "select count(*) from (select array_agg(run_id) as r, array_agg(claim_no) as c from claimed) x,
                  lateral sisyphus.finish_job(1, x.r, x.c, array_fill(0, array[cardinality(x.r)]))";
    let Some(plans) = plans_of(&mut client, finish).await else { return };
    assert!(plans.contains("run_pkey on run"), "{plans}");
    assert!(!plans.contains("using run_guardian_id_idx"), "all that is held is read:\n{plans}");
    assert_no_seq_scan(&plans, &["run", "job"]);
    assert!(
        !plans.contains("Scan on attempt_"),
        "results that are on time need no look at the history:\n{plans}"
    );
}

#[tokio::test]
async fn a_tick_with_nothing_to_do_reads_no_table_through() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    client.batch_execute("select sisyphus.tick()").await.unwrap();
    client.batch_execute("update sisyphus.planner set next_tick_at = '-infinity'").await.unwrap();
    let Some(plans) = plans_of(&mut client, "select sisyphus.tick()").await else { return };
    assert_no_seq_scan(&plans, &["run", "job", "job_state", "attempt"]);
}

#[tokio::test]
async fn the_views_read_the_history_by_index() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    for (query, index) in [
        (
            "select * from sisyphus.history where job = 'job7' order by recorded_at desc limit 5",
            "job_recorded_at_idx",
        ),
        ("select * from sisyphus.history where run_id = 7", "run_id_idx"),
        ("select * from sisyphus.history order by run_id desc limit 5", "run_id_idx"),
        ("select * from sisyphus.failures", "recorded_at_idx"),
        ("select * from sisyphus.overview where job = 'job7'", "job_recorded_at_idx"),
    ] {
        let Some(plans) = plans_of(&mut client, query).await else { return };
        assert!(plans.contains(index), "{query} does not use {index}:\n{plans}");
    }
}

#[tokio::test]
async fn what_came_after_a_retry_is_looked_up_by_the_name_of_its_job() {
    let db = support::db().await;
    let mut client = db.client().await;
    client.batch_execute(REALISTIC).await.unwrap();
    let retries = "insert into sisyphus.run (job_id, lane_id, wake_at, due_at, nominal_at, job_version, exclusive, state, origin, attempt)
        select j.job_id, j.pool_id, now() + '1 h', now() - '1 h'::interval, now(), 1, true, 'waiting', 'schedule', 1
          from sisyphus.job j limit 1";
    client.batch_execute(retries).await.unwrap();
    let supersede =
        "set jit = off; set role sisyphus_owner; select sisyphus._supersede_retries(now()); reset role";
    let Some(plans) = plans_of(&mut client, supersede).await else { return };
    assert!(plans.contains("job_recorded_at_idx on attempt_30_"));
    assert!(!plans.contains("run_id IS NOT NULL"));
}

/// What stands before a run is counted once for all of them.
#[tokio::test]
async fn why_many_runs_are_overdue_is_told_without_reading_the_others_for_each() {
    let play = support::Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('free', null, 'true', overlap => 'allow')").await;
    play.guardian("web1", 8).await;
    play.exec("select sisyphus.run_many('free', array_fill(null::jsonb, array[1000]))").await;
    play.tick_at("07:00:01").await;
    play.exec("begin").await;
    let whys = "select max(why) || ' ' || count(distinct why) from sisyphus.overdue";
    assert_eq!(
        play.value::<String>(whys, &[]).await,
        "more than 100 due runs of pool \"default\" before it 102"
    );
    let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'sisyphus.run'::regclass";
    let read: i64 = play.value(read, &[]).await;
    play.exec("rollback").await;
    assert!(read < 15_000, "{read} rows of run were read to tell of a thousand");
}

/// What keeps the hosts of a lane is found once for all that waits in it, and only for who asks why.
#[tokio::test]
async fn why_many_runs_wait_is_told_without_reading_the_hosts_for_each() {
    let play = support::Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('free', null, 'true', overlap => 'allow')").await;
    for host in ["web1", "web2", "web3"] {
        play.guardian(host, 8).await;
    }
    play.exec("select sisyphus.run_many('free', array_fill(null::jsonb, array[300]))").await;
    play.tick_at("07:00:01").await;
    play.exec("begin").await;
    let read = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relid = 'sisyphus.guardian'::regclass";
    for (query, told, most) in [
        ("select count(distinct why) from sisyphus.live", 102, 30),
        ("select count(*) from sisyphus.live", 300, 0),
        ("select count(*) from (select why from sisyphus.live order by due_at limit 9) l", 9, 30),
    ] {
        let before: i64 = play.value(read, &[]).await;
        assert_eq!(play.value::<i64>(query, &[]).await, told, "{query}");
        let rows = play.value::<i64>(read, &[]).await - before;
        assert!(rows <= most, "{query}: {rows} rows of guardian were read");
    }
    play.exec("rollback").await;
}
