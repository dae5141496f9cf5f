//! What the views tell.

use crate::support::{Play, TestClient, assert_error};

/// The columns that are promised, in order; more may follow.
const COLUMNS: &[(&str, &str)] = &[
    (
        "overview",
        "job state schedule timezone pool run_on next_due_at running last_state last_started_at last_duration_seconds \
         success_ratio p50_seconds p95_seconds owner",
    ),
    (
        "running",
        "run_id attempt claim_no job host state due_at started_at running_seconds max_runtime paused_at pid",
    ),
    (
        "live",
        "run_id attempt claim_no origin job job_version owner pool host state due_at expires_at requested_at claimed_at \
         started_at running_seconds max_runtime paused_at pid command why",
    ),
    ("upcoming", "job due_at local_time pool host run_id command"),
    ("overdue", "run_id job due_at late_seconds expires_at why"),
    (
        "history",
        "run_id attempt claim_no is_final origin job job_version pool host state reason exit_code signal due_at \
         claimed_at started_at finished_at lateness_seconds duration_seconds cpu_user_seconds cpu_system_seconds \
         peak_memory_bytes stdout stderr result payload nominal_at expires_at last_due_at occurrences late_state \
         late_exit_code late_finished_at owner requested_at recorded_at command",
    ),
    ("fleet", "host state slots running seen_seconds_ago clock_offset_ms version labels pools problem"),
    ("queue_depth", "pool pending overdue claimed running slots_free description selector listed members"),
    ("settings", "name value unit default description"),
    ("audit_log", "at role action object before after"),
    ("metrics", "name labels value"),
];

async fn columns(client: &TestClient, view: &str) -> String {
    client
        .query_one(
            "select string_agg(a.attname, ' ' order by a.attnum) from pg_attribute a
              where a.attrelid = ('sisyphus.' || $1::text)::regclass and a.attnum > 0",
            &[&view],
        )
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn columns_are_promised_and_only_added_at_the_end() {
    let play = Play::at("07:00:00").await;
    for (view, promised) in COLUMNS {
        let found = columns(&play.client, view).await;
        assert!(format!("{found} ").starts_with(&format!("{promised} ")), "{view}: {found}");
    }
    assert_eq!(columns(&play.client, "failures").await, columns(&play.client, "history").await);
}

#[tokio::test]
async fn every_setting_stands_in_the_view() {
    let play = Play::at("07:00:00").await;
    let missing = play
        .lines(
            "select a.attname::text from pg_attribute a
              where a.attrelid = 'sisyphus.setting'::regclass and a.attnum > 0 and a.attname <> 'only_row'
                and a.attname not in (select s.name from sisyphus.settings s where s.value is not null and s.description <> '')",
        )
        .await;
    assert_eq!(missing, Vec::<String>::new());
    // What is shown as the default is the default.
    play.exec("insert into sisyphus.setting (only_row) select true where false").await;
    let differing = play
        .lines(
            "select s.name from sisyphus.settings s
               join pg_attribute a on a.attrelid = 'sisyphus.setting'::regclass and a.attname = s.name
               join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
              where case s.unit when 'interval' then
                        pg_get_expr(d.adbin, d.adrelid) <> format('%L::interval', s.default::interval::text)
                    when 'bytes' then pg_get_expr(d.adbin, d.adrelid) <> s.default
                    else pg_get_expr(d.adbin, d.adrelid) <> format('%L::text', s.default) end",
        )
        .await;
    assert_eq!(differing, Vec::<String>::new());
}

#[tokio::test]
async fn overview_tells_how_a_job_has_been_doing() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', overlap => 'queue')",
    )
    .await;
    let guardian = play.guardian("web1", 1).await;
    for (second, exit_code) in [(10, 0), (20, 0), (30, 0), (40, 3)] {
        play.set_time(&format!("06:59:{second}")).await;
        play.run_now("report").await;
        play.tick().await;
        let claim = play.claim_one(guardian).await;
        assert_eq!(play.start(guardian, &claim).await, "accepted");
        play.set_time(&format!("06:59:{}", second + 2)).await;
        play.finish(guardian, &claim, exit_code).await;
    }
    let told: String = play
        .value(
            "select format('%s %s %s %s %s %s %s %s', state, to_char(next_due_at at time zone 'UTC', 'DD HH24:MI'), running,
                           last_state, last_duration_seconds, success_ratio, p50_seconds, p95_seconds) from sisyphus.overview",
            &[],
        )
        .await;
    assert_eq!(told, "active 02 07:00 0 failed 2 0.75 2 2");

    // What was left out is no news of how the job does.
    play.exec("select sisyphus.suspend('report', reason => 'holidays')").await;
    play.pass_until("07:00:30").await;
    let told: String = play
        .value(
            "select format('%s %s %s %s', state, next_due_at, last_state, problem) from sisyphus.overview",
            &[],
        )
        .await;
    assert_eq!(told, "suspended  failed holidays");
}

#[tokio::test]
async fn upcoming_tries_a_change_that_is_rolled_back() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'Europe/Amsterdam')")
        .await;
    play.tick().await;
    const UPCOMING: &str = "select format('%s %s %s', job, to_char(due_at at time zone 'UTC', 'DD HH24:MI'),
                                   to_char(local_time, 'HH24:MI')) from sisyphus.upcoming";
    let before = play.lines(UPCOMING).await;
    assert_eq!(before, ["report 03 06:00 07:00"]);
    play.exec(
        "begin; select sisyphus.alter_job('report', schedule => '0 */12 * * *');
         select sisyphus.schedule('new', '30 8 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    let tried = play.lines(UPCOMING).await;
    assert_eq!(tried, ["new 02 08:30 08:30", "report 02 11:00 12:00", "report 02 23:00 00:00"]);
    play.exec("rollback").await;
    assert_eq!(play.lines(UPCOMING).await, before);
    play.exec("select sisyphus.suspend('report')").await;
    assert!(play.lines(UPCOMING).await.is_empty());
}

/// Two hundred jobs that run each second would be 288,000 rows, and thousands of them minutes.
#[tokio::test]
async fn upcoming_of_many_frequent_jobs_goes_less_far_and_leaves_no_job_out() {
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('often' || n, 'every 1 second', 'true') from generate_series(1, 200) n;
         select sisyphus.schedule('nightly', '0 3 * * *', 'true')",
    )
    .await;
    let told = "select count(*) between 90000 and 110000 and count(distinct job) = 201
                       -- As far as it goes it is complete.
                       and count(distinct count) filter (where job <> 'nightly') = 1
                  from (select job, count(*) over (partition by job) from sisyphus.upcoming) u";
    assert!(play.value::<bool>(told, &[]).await);
}

#[tokio::test]
async fn upcoming_tells_planned_and_computed_occurrences_once() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('often', '0 7,8 * * *', 'true', timezone => 'UTC', run_on => 'all')")
        .await;
    play.guardian("web1", 1).await;
    play.guardian("web2", 1).await;
    play.tick_at("06:59:50").await;
    let told = play
        .lines("select format('%s %s %s', job, to_char(due_at at time zone 'UTC', 'DD HH24:MI'), host) from sisyphus.upcoming")
        .await;
    // 07:00 is planned for each host, 08:00 is computed.
    assert_eq!(
        told,
        ["often 02 07:00 web1", "often 02 07:00 web2", "often 02 08:00 web1", "often 02 08:00 web2"]
    );
}

#[tokio::test]
async fn fleet_tells_how_each_host_is() {
    let play = Play::at("07:00:00").await;
    for host in ["active", "draining", "unreachable", "lost", "stopped"] {
        play.guardian(host, 2).await;
    }
    play.exec("select * from sisyphus.register_guardian('periodic', 1, host_key => gen_random_uuid(), periodic => true)").await;
    play.exec(
        "select sisyphus.drain_host('draining');
         select sisyphus.sign_off(g.guardian_id) from sisyphus.guardian g join sisyphus.host h using (host_id)
          where h.name in ('stopped', 'periodic');
         update sisyphus.guardian g set seen_at = sisyphus._clock() - interval '11 s' from sisyphus.host h
          where h.host_id = g.host_id and h.name = 'unreachable';
         update sisyphus.guardian g set lease_until = sisyphus._clock() from sisyphus.host h
          where h.host_id = g.host_id and h.name = 'lost'",
    )
    .await;
    for (host, state) in play
        .client
        .query("select host, state from sisyphus.fleet", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get::<_, String>(0), row.get::<_, String>(1)))
    {
        assert_eq!(host, state);
    }
    let pools = play.lines("select distinct pools::text from sisyphus.fleet").await;
    assert_eq!(pools, ["{default}"], "every host is in pool default");
}

#[tokio::test]
async fn queue_depth_and_running_follow_a_run() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 2).await;
    play.exec("select sisyphus.schedule('report', null, 'true', max_runtime => '1 h', timezone => 'UTC')")
        .await;
    play.run_now("report").await;
    play.tick().await;
    play.set_time("07:00:03").await;
    const DEPTH: &str =
        "select format('%s pending %s overdue %s claimed %s running', pending, overdue, claimed, running)
                           from sisyphus.queue_depth where pool = 'default'";
    assert_eq!(play.lines(DEPTH).await, ["1 pending 1 overdue 0 claimed 0 running"]);
    let late: f64 = play.value("select late_seconds from sisyphus.overdue", &[]).await;
    assert!((late - 3.0).abs() < 1e-9, "{late}");
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.lines(DEPTH).await, ["0 pending 0 overdue 1 claimed 0 running"]);
    play.start(guardian, &claim).await;
    assert_eq!(play.lines(DEPTH).await, ["0 pending 0 overdue 0 claimed 1 running"]);
    // It keeps the limit that it was claimed with.
    play.exec("select sisyphus.alter_job('report', max_runtime => '5 min')").await;
    assert_eq!(play.lines("select max_runtime::text from sisyphus.live").await, ["01:00:00"]);
    play.set_time("07:00:10").await;
    let told: String = play
        .value("select format('%s %s %s %s %s %s', job, host, state, running_seconds, max_runtime, pid) from sisyphus.running", &[])
        .await;
    assert_eq!(told, "report web1 running 7 01:00:00 4711");
}

#[tokio::test]
async fn failures_are_final_bad_and_of_the_last_seven_days() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.schedule('report', null, 'true', retries => 1, retry_delay => '1 s', timezone => 'UTC')").await;
    play.run_now("report").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 1).await;
    const FAILURES: &str = "select format('%s %s', attempt, state) from sisyphus.failures";
    assert!(play.lines(FAILURES).await.is_empty(), "a retry follows");
    play.tick_at("07:00:05").await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 1).await;
    assert_eq!(play.lines(FAILURES).await, ["2 failed"]);
    play.set_time("2026-03-09 07:00:06+00").await;
    assert!(play.lines(FAILURES).await.is_empty());
}

#[tokio::test]
async fn lateness_counts_from_the_due_time_or_the_call() {
    let play = Play::at("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC')").await;
    let guardian = play.guardian("web1", 1).await;
    play.pass_until("07:00:04").await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.finish(guardian, &claim, 0).await;
    play.run_now("report").await;
    play.set_time("07:00:06").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.finish(guardian, &claim, 0).await;
    let late = play
        .lines("select format('%s %s', origin, lateness_seconds) from sisyphus.history order by run_id")
        .await;
    assert_eq!(late, ["schedule 4", "run_now 2"]);
}

#[tokio::test]
async fn metrics_count_what_the_other_views_show() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 3).await;
    play.exec("select sisyphus.schedule('report', null, 'true', timezone => 'UTC'); select sisyphus.schedule('other', null, 'true', timezone => 'UTC')").await;
    play.run_now("report").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 0).await;
    play.run_now("other").await;
    play.tick_at("07:00:05").await;
    let value = async |name: &str, labels: &str| -> f64 {
        play.value(
            "select value from sisyphus.metrics where name = $1 and labels @> $2::text::jsonb",
            &[&name, &labels],
        )
        .await
    };
    assert_eq!(value("sisyphus_jobs", r#"{"state": "active"}"#).await, 2.0);
    assert_eq!(value("sisyphus_runs", r#"{"state": "pending"}"#).await, 1.0);
    assert_eq!(value("sisyphus_hosts", r#"{"state": "active"}"#).await, 1.0);
    assert_eq!(value("sisyphus_attempts_last_hour", r#"{"state": "succeeded"}"#).await, 1.0);
    assert_eq!(value("sisyphus_oldest_overdue_seconds", "{}").await, 5.0);
    let unnamed = play.lines("select name from sisyphus.metrics where name !~ '^sisyphus_[a-z0-9_]+$'").await;
    assert_eq!(unnamed, Vec::<String>::new());
}

#[tokio::test]
async fn history_tells_what_was_run_though_the_job_has_changed() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 2).await;
    play.exec("select sisyphus.schedule('report', null, 'make old', timezone => 'UTC')").await;
    play.exec("select sisyphus.submit(argv => array['prog', 'an argument'])").await;
    play.exec("select sisyphus.submit('make never', at => sisyphus._clock() + '1 h')").await;
    play.run_now("report").await;
    play.exec("select sisyphus.cancel(2)").await;
    play.tick().await;
    for claim in play.claim(guardian, 2).await {
        play.finish(guardian, &claim, 0).await;
    }
    play.exec("select sisyphus.alter_job('report', command => 'make new')").await;
    const COMMANDS: &str =
        "select format('%s %s', coalesce(job, 'none'), command) from sisyphus.history order by run_id";
    let told = ["none [\"prog\", \"an argument\"]", "none make never", "report make old"];
    assert_eq!(play.lines(COMMANDS).await, told);
    let viewer = play.db.login("test_viewer", &["sisyphus_viewer"]).await;
    let seen: i64 =
        viewer.query_one("select count(command) from sisyphus.history", &[]).await.unwrap().get(0);
    assert_eq!(seen, 0, "a command is its owner's to see");
}

#[tokio::test]
async fn quantiles_are_told_to_the_millisecond() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 1).await;
    play.exec("select sisyphus.schedule('report', null, 'true', timezone => 'UTC')").await;
    for (second, took) in [(10, "0.1"), (20, "0.2"), (30, "0.4")] {
        play.set_time(&format!("07:00:{second}")).await;
        play.run_now("report").await;
        play.tick().await;
        let claim = play.claim_one(guardian).await;
        play.exec(&format!(
            "update sisyphus.run set claimed_at = sisyphus._clock() - interval '{took} s', started_at = sisyphus._clock() - interval '{took} s'"
        ))
        .await;
        play.finish(guardian, &claim, 0).await;
    }
    let told = play.lines("select format('%s %s', p50_seconds, p95_seconds) from sisyphus.overview").await;
    assert_eq!(told, ["0.2 0.38"]);
}

/// A look at all the others for each of them made seconds of hundreds, and minutes of thousands.
#[tokio::test]
async fn runs_that_wait_their_turn_are_told_at_once() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('report', null, 'true', timezone => 'UTC')").await;
    play.exec("select sisyphus.run_many('report', array_fill('1'::jsonb, array[20000]))").await;
    play.exec("set statement_timeout = '20 s'").await;
    let told = play.lines("select distinct format('%s %s', state, why) from sisyphus.live").await;
    assert_eq!(told, ["waiting waits its turn"]);
}

#[tokio::test]
async fn a_setting_has_an_upper_bound() {
    let play = Play::at("07:00:00").await;
    for (setting, value, hint) in [
        ("lease_timeout", "293000 years", "lease_timeout <= '1 day'"),
        ("lease_timeout", "25 hours", "lease_timeout <= '1 day'"),
        ("plan_ahead", "2 days", "plan_ahead <= '1 day'"),
        ("claim_ahead", "292000 years", "claim_ahead"),
        ("claim_ahead", "1 day", "claim_ahead"),
        ("output_limit", "99999999999", "number"),
        ("retention_failure", "-1 day", "30 days"),
    ] {
        let set = play.client.query("select sisyphus.set_setting($1, $2)", &[&setting, &value]).await;
        assert_error(set, "22023", &format!("{setting} \"{value}\" is not allowed"), hint);
    }
    play.exec("select sisyphus.set_setting('retention_failure', '178000000 years')").await;
    play.exec("select sisyphus.set_setting('retention_success', '100 years')").await;
    play.tick().await;
}

/// It may have gone with the server's last start, long before a tick needs it.
#[tokio::test]
async fn a_job_whose_time_zone_vanished_takes_no_view_from_the_others() {
    let play = Play::at("06:59:00").await;
    play.exec(
        "select from generate_series(1, 101) n, sisyphus.schedule('good' || n, '0 7 * * *', 'true', timezone => 'UTC');
         select sisyphus.schedule('bad', '0 7 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    play.tick().await;
    play.run_now("bad").await;
    play.set_time("06:58:00").await;
    // No tick has looked at its new version yet.
    play.exec("update sisyphus.job set timezone = 'Mars/Olympus', version = 2 where name = 'bad'").await;
    assert_eq!(
        play.lines("select format('%s %s %s', job, coalesce(local_time::text, 'unknown'), count(*))
                      from sisyphus.upcoming where job in ('bad', 'good7') group by job, local_time order by 1").await,
        ["bad unknown 1", "good7 2026-03-02 07:00:00 1"]
    );
    assert_eq!(
        play.lines("select concat_ws(' ', state, problem, next_due_at is null) from sisyphus.overview where job = 'bad'").await,
        ["broken time zone \"Mars/Olympus\" not recognized (22023) t"]
    );
    assert_eq!(play.value::<i64>("select count(next_due_at) from sisyphus.overview", &[]).await, 101);
}
