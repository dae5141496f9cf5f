//! Claiming: owned once, in order, fairly shared, and nothing lost with a reply.

use std::collections::HashSet;

use tokio::task::JoinSet;

use crate::support::{Play, assert_error};

#[tokio::test]
async fn eight_claimers_at_once_own_each_run_once() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('free', null, 'true', overlap => 'allow');
               select sisyphus.schedule('single', null, 'true', overlap => 'skip')",
    )
    .await;
    play.exec("select sisyphus.run_many('free', array(select to_jsonb(g) from generate_series(1, 400) g))")
        .await;
    play.exec("select sisyphus.run_now('single') from generate_series(1, 5)").await;
    let mut claimers = JoinSet::new();
    for number in 0..8 {
        let guardian = play.guardian(&format!("web{number}"), 100).await;
        let client = play.db.client().await;
        claimers.spawn(async move {
            let mut owned = Vec::new();
            loop {
                let rows = client
                    .query(
                        "select run_id, claim_no, job from sisyphus.claim_job($1, 7, 7) where kind = 'run'",
                        &[&guardian],
                    )
                    .await
                    .unwrap();
                if rows.is_empty() {
                    return owned;
                }
                owned.extend(
                    rows.iter()
                        .map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, String>(2))),
                );
            }
        });
    }
    let owned: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
    let runs: HashSet<_> = owned.iter().map(|(run_id, ..)| run_id).collect();
    let claims: HashSet<_> = owned.iter().map(|(_, claim_no, _)| claim_no).collect();
    assert_eq!((owned.len(), runs.len(), claims.len()), (401, 401, 401));
    assert_eq!(owned.iter().filter(|(.., job)| job == "single").count(), 1, "never twice at once");
}

#[tokio::test]
async fn higher_priority_first_and_first_come_first_served_inside_one() {
    let play = Play::at("07:00:00").await;
    for (job, priority) in [("low", -1), ("high", 5), ("first", 0), ("second", 0)] {
        play.exec(&format!("select sisyphus.schedule('{job}', null, 'true', priority => {priority})")).await;
    }
    let guardian = play.guardian("web1", 10).await;
    for job in ["low", "first", "second", "high"] {
        play.run_now(job).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let claims = play.claim(guardian, 1).await;
        order.push(claims[0].job.clone());
    }
    assert_eq!(order, ["high", "first", "second", "low"]);
}

#[tokio::test]
async fn no_more_due_runs_than_free_slots() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('free', null, 'true', overlap => 'allow');
               select sisyphus.run_many('free', array(select 'null'::jsonb from generate_series(1, 5)))",
    )
    .await;
    let guardian = play.guardian("web1", 3).await;
    assert_eq!(play.claim(guardian, 3).await.len(), 3);
    assert_eq!(play.claim(guardian, 0).await.len(), 0);
}

#[tokio::test]
async fn ten_runs_ahead_on_ten_idle_hosts_land_one_on_each() {
    let play = Play::at("06:59:00").await;
    for job in 0..10 {
        play.exec(&format!("select sisyphus.schedule('job{job}', '0 7 * * *', 'true', timezone => 'UTC')"))
            .await;
    }
    let mut guardians = Vec::new();
    for number in 0..10 {
        guardians.push(play.guardian(&format!("web{number}"), 10).await);
    }
    play.tick_at("06:59:51").await;
    for guardian in guardians {
        assert_eq!(play.claim(guardian, 10).await.len(), 1);
        assert_eq!(play.claim(guardian, 10).await.len(), 0, "not more by asking again");
    }
}

#[tokio::test]
async fn due_runs_go_before_runs_claimed_ahead() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('soon', '0 7 * * *', 'true', timezone => 'UTC');
               select sisyphus.schedule('now', null, 'true')",
    )
    .await;
    let guardian = play.guardian("web1", 1).await;
    play.tick_at("06:59:55").await;
    play.run_now("now").await;
    let claims = play.claim(guardian, 1).await;
    assert_eq!(claims.iter().map(|c| c.job.as_str()).collect::<Vec<_>>(), ["now", "soon"]);
}

#[tokio::test]
async fn a_lost_reply_is_repeated_until_the_guardian_holds_it() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    play.run_now("job").await;
    let guardian = play.guardian("web1", 1).await;
    let lost = play.claim_one(guardian).await;
    let (again, _) = play.claim_holding(guardian, 1, Some(&[])).await;
    assert_eq!((again[0].run_id, again[0].claim_no), (lost.run_id, lost.claim_no));
    let (held, _) = play.claim_holding(guardian, 1, Some(&[lost.claim_no])).await;
    assert!(held.is_empty());
}

#[tokio::test]
async fn a_reply_that_is_repeated_after_a_change_tells_what_was_claimed() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', '1 7 * * *', 'old', timezone => 'UTC', payload => '1')").await;
    let guardian = play.guardian("web1", 1).await;
    play.tick_at("07:00:55").await;
    let lost = play.claim_one(guardian).await;
    play.exec("select sisyphus.alter_job('job', schedule => '2 7 * * *', command => 'new', payload => '2')")
        .await;
    let (again, _) = play.claim_holding(guardian, 1, Some(&[])).await;
    assert_eq!(
        (again[0].claim_no, &again[0].spec, &again[0].payload),
        (lost.claim_no, &lost.spec, &lost.payload)
    );
    assert_eq!((&again[0].spec["command"], &again[0].payload), (&"old".into(), &Some(1.into())));
}

#[tokio::test]
async fn a_released_run_keeps_its_attempts_and_gets_a_new_fence() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    play.run_now("job").await;
    let (first, second) = (play.guardian("web1", 1).await, play.guardian("web2", 1).await);
    let claim = play.claim_one(first).await;
    assert_eq!(play.release(first, &claim).await, "accepted");
    assert_eq!(play.release(first, &claim).await, "refused");
    let again = play.claim_one(second).await;
    assert_eq!((again.run_id, again.attempt), (claim.run_id, 1));
    assert!(again.claim_no > claim.claim_no);
    assert_eq!(play.start(first, &claim).await, "refused");
    assert_eq!(play.finish(first, &claim, 0).await, "refused");
    assert_eq!(play.finish(second, &again, 0).await, "accepted");
}

#[tokio::test]
async fn a_draining_host_is_given_nothing() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.drain_host('web1')").await;
    play.run_now("job").await;
    assert!(play.claim(guardian, 1).await.is_empty());
    play.exec("select sisyphus.activate_host('web1')").await;
    play.claim_one(guardian).await;
}

#[tokio::test]
async fn a_run_for_a_named_host_is_claimed_there_alone() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let (first, second) = (play.guardian("web1", 1).await, play.guardian("web2", 1).await);
    play.exec("select sisyphus.run_now('job', host => 'web2')").await;
    assert!(play.claim(first, 1).await.is_empty());
    play.claim_one(second).await;
}

#[tokio::test]
async fn suspend_recalls_what_is_claimed_and_it_ends_skipped() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    let guardian = play.guardian("web1", 1).await;
    play.tick_at("06:59:51").await;
    let claim = play.claim_one(guardian).await;
    play.exec("select sisyphus.suspend('report')").await;
    play.tick_at("06:59:52").await;
    let (_, asked) = play.claim_holding(guardian, 1, Some(&[claim.claim_no])).await;
    assert_eq!((asked[0].run_id, asked[0].action.as_str()), (claim.run_id, "recall"));
    assert_eq!(play.release(guardian, &claim).await, "accepted");
    play.tick_at("07:00:00").await;
    assert_eq!(play.told().await, ["report 07:00:00 #0 skipped: the job is suspended"]);
    let (_, asked) = play.claim_holding(guardian, 1, Some(&[])).await;
    assert!(asked.is_empty());
}

/// Runs by hand and retries take the current definition when claimed, also before a tick has fitted them to it.
#[tokio::test]
async fn a_run_tells_the_version_that_it_ran_by() {
    let play = Play::at("07:00:00").await;
    let web = play.guardian("web1", 4).await;
    play.exec("select sisyphus.schedule('j', null, 'old', retries => 1, retry_delay => '0 s')").await;
    play.tick().await;
    play.run_now("j").await;
    let mut commands = Vec::new();
    for (change, exit_code) in [("new", 1), ("newer", 0)] {
        play.exec(&format!("select sisyphus.alter_job('j', command => '{change}')")).await;
        let claim = play.claim_one(web).await;
        commands.push(claim.spec["command"].clone());
        play.finish(web, &claim, exit_code).await;
    }
    assert_eq!(commands, ["new", "newer"]);
    let versions = play.lines("select job_version::text from sisyphus.history order by attempt").await;
    assert_eq!(versions, ["2", "3"]);
}

/// A job of pool test with a run on h1, which is not in pool prod.
async fn in_pool_test(more: &str) -> (Play, i64) {
    let play = Play::at("07:00:00").await;
    let h1 = play.guardian("h1", 10).await;
    play.exec(&format!(
        "select sisyphus.create_pool('test'); select sisyphus.create_pool('prod'); select sisyphus.add_host('test', 'h1');
         select sisyphus.schedule('j', null, 'old', pool => 'test', retries => 3, retry_delay => '0 s' {more});
         select sisyphus.run_now('j')"
    ))
    .await;
    play.tick().await;
    (play, h1)
}

const TO_PROD: &str = "select sisyphus.alter_job('j', pool => 'prod', priority => 2, command => 'new')";

/// The run waits for a host of pool prod, in the lane of its new priority.
async fn waits_for_prod(play: &Play, h1: i64) {
    for _ in 0..2 {
        assert!(play.claim(h1, 10).await.is_empty(), "h1 is not in pool prod");
        play.tick().await;
    }
    let prod = play.guardian("h2", 10).await;
    play.exec("select sisyphus.add_host('prod', 'h2')").await;
    play.tick_at("07:01:00").await;
    let claim = play.claim_one(prod).await;
    assert_eq!(claim.spec["command"], "new");
    assert_eq!(play.lines("select priority::text from sisyphus.run").await, ["2"]);
}

#[tokio::test]
async fn a_retry_goes_to_the_pool_of_the_definition_that_it_takes() {
    let (play, h1) = in_pool_test("").await;
    let claim = play.claim_one(h1).await;
    play.exec(TO_PROD).await;
    play.tick().await;
    play.finish(h1, &claim, 1).await;
    waits_for_prod(&play, h1).await;
}

#[tokio::test]
async fn a_recalled_run_goes_to_the_pool_of_the_definition_that_it_takes() {
    let (play, h1) = in_pool_test("").await;
    let claim = play.claim_one(h1).await;
    play.exec(TO_PROD).await;
    play.tick().await;
    assert_eq!(play.release(h1, &claim).await, "accepted");
    waits_for_prod(&play, h1).await;
}

#[tokio::test]
async fn a_run_that_was_claimable_before_a_change_is_not_claimed_from_where_it_was() {
    let (play, h1) = in_pool_test("").await;
    play.exec(TO_PROD).await;
    waits_for_prod(&play, h1).await;
}

#[tokio::test]
async fn retries_of_runs_beside_each_other_go_one_by_one_once_the_job_says_so() {
    let (play, h1) = in_pool_test(", overlap => 'allow'").await;
    play.run_now("j").await;
    let claims = play.claim(h1, 10).await;
    assert_eq!(claims.len(), 2);
    play.exec("select sisyphus.alter_job('j', overlap => 'skip')").await;
    play.tick().await;
    for claim in &claims {
        play.finish(h1, claim, 1).await;
    }
    play.tick_at("07:00:01").await;
    for _ in 0..2 {
        let claim = play.claim_one(h1).await;
        assert!(play.claim(h1, 10).await.is_empty());
        play.finish(h1, &claim, 0).await;
        play.tick_at("07:00:10").await;
    }
}

#[tokio::test]
async fn a_recall_that_comes_after_the_start_changes_nothing() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    play.run_now("job").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    play.exec("select sisyphus.suspend('job')").await;
    play.tick_at("07:00:01").await;
    assert_eq!(play.start(guardian, &claim).await, "accepted");
    assert_eq!(play.start(guardian, &claim).await, "already");
    assert_eq!(play.release(guardian, &claim).await, "refused");
    assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
    assert_eq!(play.told().await, ["job 07:00:00 #1 succeeded: exit code 0"]);
}

#[tokio::test]
async fn terminate_reaches_the_guardian_until_it_is_acknowledged() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'sleep 1000', retries => 3)").await;
    play.run_now("job").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.exec(&format!("select sisyphus.terminate({}, 'enough')", claim.run_id)).await;
    let (_, asked) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
    assert_eq!((asked[0].claim_no, asked[0].action.as_str()), (claim.claim_no, "terminate"));
    let (_, again) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
    assert_eq!(again, asked, "a lost reply is repeated");
    play.client
        .query(
            "select * from sisyphus.claim_job($1, 0, 0, acknowledged => array[$2::bigint])",
            &[&guardian, &asked[0].request_id],
        )
        .await
        .unwrap();
    let (_, gone) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
    assert!(gone.is_empty());
    play.finish_by(guardian, &claim, "terminate", "ended").await;
    assert_eq!(play.told().await, ["job 07:00:00 #1 terminated: terminated by postgres: enough"]);
}

#[tokio::test]
async fn terminate_before_the_start_ends_as_cancelled() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let run_id = play.run_now("job").await;
    play.exec(&format!("select sisyphus.terminate({run_id})")).await;
    play.tick_at("07:00:01").await;
    assert_eq!(play.told().await, ["job 07:00:00 #0 cancelled: terminated by postgres"]);
}

#[tokio::test]
async fn cancel_of_a_started_run_changes_nothing_and_is_noted() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let run_id = play.run_now("job").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    let accepted: bool = play.value("select sisyphus.cancel($1)", &[&run_id]).await;
    assert!(!accepted);
    let (_, asked) = play.claim_holding(guardian, 0, Some(&[claim.claim_no])).await;
    assert!(asked.is_empty());
    let noted: i64 = play
        .value(
            "select count(*) from sisyphus.audit_log where action = 'cancel' and object = $1::text",
            &[&run_id.to_string()],
        )
        .await;
    assert_eq!(noted, 1);
}

#[tokio::test]
async fn a_request_whose_run_is_locked_waits_for_the_next_pass() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let run_id = play.run_now("job").await;
    let mut holder = play.db.client().await;
    let open = holder.transaction().await.unwrap();
    open.execute("select from sisyphus.run where run_id = $1 for key share", &[&run_id]).await.unwrap();
    play.exec(&format!("select sisyphus.cancel({run_id})")).await;
    play.exec("set lock_timeout = '2 s'").await;
    play.tick_at("07:00:01").await;
    assert!(play.told().await.is_empty());
    open.rollback().await.unwrap();
    play.tick_at("07:00:02").await;
    assert_eq!(play.told().await, ["job 07:00:00 #0 cancelled: cancelled by postgres"]);
}

#[tokio::test]
async fn a_guardian_that_ended_or_belongs_to_another_role_is_told_so() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec(&format!("select sisyphus.sign_off({guardian})")).await;
    let call = "select * from sisyphus.claim_job($1)";
    assert_error(
        play.client.query(call, &[&guardian]).await,
        "SY401",
        "has ended: stopped",
        "register_guardian()",
    );
    assert_error(
        play.client.query(call, &[&999_i64]).await,
        "SY401",
        "guardian 999 is unknown",
        "register_guardian()",
    );
    let alive = play.guardian("web1", 1).await;
    let other = play.db.client_as("sisyphus_guardian").await;
    assert_error(
        other.query(call, &[&alive]).await,
        "42501",
        "registered by another role",
        "Act for it as role postgres",
    );
    assert_error(
        play.client.query("select * from sisyphus.claim_job($1, -1)", &[&alive]).await,
        "22023",
        "must not be negative",
        "how many",
    );
}

#[tokio::test]
async fn a_login_acts_only_for_the_hosts_pools_and_labels_of_its_binding() {
    let play = Play::at("07:00:00").await;
    let login = play.db.client_as("sisyphus_guardian").await;
    let register = "select guardian_id from sisyphus.register_guardian('web1', 1, labels => $1, pools => $2)";
    let (none, zone) = (serde_json::json!({}), serde_json::json!({"zone": "a"}));
    let no_pools: [&str; 0] = [];
    assert_error(
        login.query(register, &[&none, &&no_pools[..]]).await,
        "42501",
        "is not bound to host \"web1\"",
        "bind_guardian",
    );
    play.exec("select sisyphus.create_pool('web'); select sisyphus.bind_guardian('test_guardian', 'web1')")
        .await;
    assert_error(
        login.query(register, &[&none, &&["web"][..]]).await,
        "42501",
        "may not join pool \"web\"",
        "pools =>",
    );
    assert_error(
        login.query(register, &[&zone, &&no_pools[..]]).await,
        "42501",
        "may not claim these labels",
        "labels =>",
    );
    play.exec(r#"select sisyphus.bind_guardian('test_guardian', 'web1', '{web}', '{"zone": "a"}')"#).await;
    login.query(register, &[&zone, &&["web"][..]]).await.unwrap();
    assert_error(
        play.client.query(register, &[&none, &&["wbe"][..]]).await,
        "42704",
        "pool \"wbe\" does not exist",
        "Did you mean \"web\"?",
    );
}

#[tokio::test]
async fn another_machine_of_the_same_name_is_refused_while_the_first_lives() {
    let play = Play::at("07:00:00").await;
    play.guardian("web1", 1).await;
    let clone =
        "select guardian_id from sisyphus.register_guardian('web1', 1, host_key => md5('clone')::uuid)";
    assert_error(play.client.query(clone, &[]).await, "SY402", "another host_key", "its own --host");
    play.set_time("07:00:31").await;
    play.client.query(clone, &[]).await.unwrap();
}

#[tokio::test]
async fn the_floor_passes_claimed_runs_and_never_a_pending_one() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('free', null, 'true', overlap => 'allow');
               select sisyphus.run_many('free', array(select 'null'::jsonb from generate_series(1, 10)))",
    )
    .await;
    let guardian = play.guardian("web1", 100).await;
    assert_eq!(play.claim(guardian, 4).await.len(), 4);
    let oldest: i64 = play.value("select min(ready_no) from sisyphus.run where state = 'pending'", &[]).await;
    play.tick().await;
    let floor: i64 = play.value("select max(floor) from sisyphus.lane_floor", &[]).await;
    assert_eq!(floor, oldest - 1);
    assert_eq!(play.claim(guardian, 100).await.len(), 6);
}

#[tokio::test]
async fn a_number_that_commits_late_is_above_the_floor() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('free', null, 'true', overlap => 'allow');
               select sisyphus.run_now('free')",
    )
    .await;
    let guardian = play.guardian("web1", 100).await;
    play.claim_one(guardian).await;
    // A promoter that is slow to commit holds a number below all that follow.
    let mut slow = play.db.client().await;
    let open = slow.transaction().await.unwrap();
    open.execute("select sisyphus.run_now('free')", &[]).await.unwrap();
    open.execute("select sisyphus._promote(sisyphus._clock())", &[]).await.unwrap();
    play.run_now("free").await;
    for second in 1..=4 {
        play.tick_at(&format!("07:00:0{second}")).await;
        play.claim(guardian, 100).await;
    }
    open.commit().await.unwrap();
    assert_eq!(play.claim(guardian, 100).await.len(), 1, "the late one is found");
}

/// Neither a transaction of anybody that has written something nor one that reads holds the floor.
#[tokio::test]
async fn the_floor_rises_while_somebody_keeps_a_transaction_open() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('free', null, 'true', overlap => 'allow')").await;
    let guardian = play.guardian("web1", 100).await;
    let (writer, reader) = (play.db.client().await, play.db.client().await);
    writer.batch_execute("begin; select sisyphus.suspend('free')").await.unwrap();
    reader
        .batch_execute("begin isolation level repeatable read; select count(*) from sisyphus.overview")
        .await
        .unwrap();
    for second in 1..=4 {
        play.run_now("free").await;
        play.tick_at(&format!("07:00:0{second}")).await;
        let claim = play.claim_one(guardian).await;
        play.finish(guardian, &claim, 0).await;
    }
    play.tick_at("07:00:05").await;
    let behind = "select q.last_value - f.floor from sisyphus.ready_no_seq q, sisyphus.lane_floor f";
    assert_eq!(play.value::<i64>(behind, &[]).await, 0);
    // A tick that sees the database as it was knows nothing of what was claimed since.
    play.run_now("free").await;
    reader
        .batch_execute("rollback; begin isolation level repeatable read; select 1 from sisyphus.overview")
        .await
        .unwrap();
    play.tick_at("07:00:06").await;
    play.exec("update sisyphus.planner set next_tick_at = '-infinity'; select sisyphus.tick()").await;
    assert_eq!(play.claim(guardian, 100).await.len(), 1);
}

/// Two hosts share what is ahead; one that is away has no share, and has it again when it is back.
#[tokio::test]
async fn a_host_that_leaves_and_comes_back_gives_up_its_share_and_has_it_again() {
    let play = Play::at("07:00:00").await;
    for number in 0..8 {
        play.exec(&format!(
            "select sisyphus.schedule('job{number}', '* * * * *', 'true', timezone => 'UTC', overlap => 'allow')"
        ))
        .await;
    }
    let stays = play.guardian("stays", 20).await;
    let mut leaves = play.guardian("leaves", 20).await;
    for (minute, there, share) in [(1, true, 4), (2, false, 8), (3, true, 4)] {
        if !there {
            play.exec(&format!("select sisyphus.sign_off({leaves})")).await;
        } else if minute == 3 {
            leaves = play.guardian("leaves", 20).await;
        }
        play.tick_at(&format!("07:{:02}:50", minute - 1)).await;
        let claims = play.claim(stays, 20).await;
        assert_eq!(claims.len(), share, "07:{minute}: {:?}", play.live().await);
        if there {
            let others = play.claim(leaves, 20).await;
            assert_eq!(others.len(), 8 - share);
            play.set_time(&format!("07:{minute:02}:00")).await;
            for claim in &others {
                assert_eq!(play.finish(leaves, claim, 0).await, "accepted");
            }
        }
        play.set_time(&format!("07:{minute:02}:00")).await;
        for claim in &claims {
            assert_eq!(play.finish(stays, claim, 0).await, "accepted");
        }
    }
}

#[tokio::test]
async fn a_guardian_that_asks_for_too_much_or_reports_nonsense_still_claims() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('j', null, 'true')").await;
    play.run_now("j").await;
    let guardian = play.guardian("web1", 1).await;
    let claim = "select count(*) from sisyphus.claim_job($1, 1000000000, 1000000000,
        report => '{\"clock_offset_ms\": \"x\", \"running\": 1e9, \"seen_tick_us\": null}') where kind = 'run'";
    assert_eq!(play.value::<i64>(claim, &[&guardian]).await, 1);
}

#[tokio::test]
async fn what_is_asked_for_at_an_instant_is_claimed_ahead_of_it() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('free', null, 'true', overlap => 'allow');
         select sisyphus.schedule('one', null, 'true')",
    )
    .await;
    let guardian = play.guardian("web1", 5).await;
    play.tick().await;
    for at in ["2026-03-02 07:00:08+00", "2026-03-02 07:01:00+00"] {
        play.exec(&format!(
            "select sisyphus.run_now('free', at => '{at}'); select sisyphus.run_now('one', at => '{at}'); select sisyphus.submit('true', at => '{at}')"
        ))
        .await;
    }
    let near = play.claim(guardian, 5).await;
    assert_eq!(near.iter().map(|claim| claim.starts_in).collect::<Vec<_>>(), [8.0; 3]);
    play.set_time("07:00:08").await;
    for claim in &near {
        play.start(guardian, claim).await;
        play.finish(guardian, claim, 0).await;
    }
    play.set_time("07:00:51").await;
    assert_eq!(play.claim(guardian, 5).await.len(), 3);
}

#[tokio::test]
async fn what_is_recalled_for_a_changed_job_is_offered_again_at_once() {
    let mut play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('job', '0 7 * * *', 'true', timezone => 'UTC')").await;
    let guardian = play.guardian("web1", 5).await;
    play.pass_until("06:59:55").await;
    let claim = play.claim_one(guardian).await;
    play.exec("select sisyphus.alter_job('job', command => 'false')").await;
    play.tick().await;
    let host: i64 = play.value("select host_id from sisyphus.host", &[]).await;
    play.exec(&format!("listen sisyphus_host_{host}")).await;
    play.release(guardian, &claim).await;
    assert_eq!(play.client.hints(), 1);
    assert_eq!(play.claim_one(guardian).await.starts_in, 5.0);
}
