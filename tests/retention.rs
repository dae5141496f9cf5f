//! Partitions of the history: there before they are needed, dropped when they are old, never in the way.

use std::time::Duration;

use crate::support::{self, Play, TestDb, assert_sqlstate, wait_until};

/// Names of the partitions that hold rows, in order.
const PARTITIONS: &str = "select c.relname::text from pg_class c
     where c.relnamespace = 'sisyphus'::regnamespace and c.relispartition and c.relkind = 'r' order by 1";

async fn ensure(play: &Play, moment: &str) -> i32 {
    play.value("select sisyphus._ensure_partitions($1::text::timestamptz)", &[&moment]).await
}

/// A row of the history, recorded at a moment, in a class.
async fn record(play: &Play, moment: &str, class: i32) {
    let insert =
        "insert into sisyphus.attempt (run_id, job_id, due_at, nominal_at, finished_at, recorded_at, attempt,
                      job_version, retention_days, is_final, state, origin, reason)
                  select 1, 0, at, at, at, at, 1, 1, $2, true, 'succeeded', 'submit', 'exit code 0'
                    from (select $1::text::timestamptz as at) x";
    play.client
        .execute(insert, &[&moment, &class])
        .await
        .unwrap_or_else(|err| panic!("{moment} {class}: {err:?}"));
}

/// Calls `maintain()` and tells what came of it: `attempt_1_20260301 dropped`.
async fn maintain(db: &TestDb) -> Vec<String> {
    let client = db.client().await;
    let rows = client.query("select relation, outcome from sisyphus.maintain()", &[]).await.unwrap();
    rows.iter().map(|row| format!("{} {}", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect()
}

#[tokio::test]
async fn days_weeks_and_months_are_there_seven_days_ahead() {
    let play = Play::at("07:00:00").await;
    // A Tuesday, whose week and month both end within the seven days.
    ensure(&play, "2026-12-29 23:59:59+00").await;
    let names = play.lines(PARTITIONS).await;
    assert_eq!(
        names,
        [
            "attempt_0_202612",
            "attempt_0_202701",
            "attempt_1_20261229",
            "attempt_1_20261230",
            "attempt_1_20261231",
            "attempt_1_20270101",
            "attempt_1_20270102",
            "attempt_1_20270103",
            "attempt_1_20270104",
            "attempt_1_20270105",
            "attempt_30_2026w53",
            "attempt_30_2027w01",
            "attempt_400_202612",
            "attempt_400_202701",
            "attempt_7_20261229",
            "attempt_7_20261230",
            "attempt_7_20261231",
            "attempt_7_20270101",
            "attempt_7_20270102",
            "attempt_7_20270103",
            "attempt_7_20270104",
            "attempt_7_20270105",
            "attempt_90_2026w53",
            "attempt_90_2027w01",
        ]
    );
    for class in [1, 7, 30, 90, 400, 0] {
        record(&play, "2026-12-29 00:00+00", class).await;
        record(&play, "2027-01-05 23:59:59.999+00", class).await;
    }
    assert_eq!(ensure(&play, "2026-12-29 12:00+00").await, 0);
}

#[tokio::test]
async fn bounds_are_utc_whatever_the_session_says() {
    let play = Play::at("07:00:00").await;
    play.exec("set timezone = 'Pacific/Apia'; set datestyle = 'German'; set intervalstyle = 'iso_8601'")
        .await;
    ensure(&play, "2026-03-02 23:30+00").await;
    play.exec("reset timezone; reset datestyle").await;
    let bounds = play
        .lines("select pg_get_expr(relpartbound, oid) from pg_class where relname in ('attempt_1_20260302', 'attempt_30_2026w10')
                 order by relname")
        .await;
    assert_eq!(
        bounds,
        [
            "FOR VALUES FROM ('2026-03-02 00:00:00+00') TO ('2026-03-03 00:00:00+00')",
            "FOR VALUES FROM ('2026-03-02 00:00:00+00') TO ('2026-03-09 00:00:00+00')",
        ]
    );
}

#[tokio::test]
async fn a_database_that_slept_for_a_year_records_at_once() {
    let play = Play::at("07:00:00").await;
    play.tick().await;
    play.set_time("2027-03-02 07:00+00").await;
    play.tick().await;
    record(&play, "2027-03-02 07:00+00", 30).await;
}

#[tokio::test]
async fn a_partition_is_attached_behind_no_reader() {
    let play = Play::at("07:00:00").await;
    ensure(&play, "2026-03-02 07:00+00").await;
    let reader = play.db.client().await;
    reader.batch_execute("begin; select count(*) from sisyphus.history").await.unwrap();
    play.exec("set lock_timeout = '2 s'").await;
    assert!(ensure(&play, "2026-05-04 07:00+00").await > 0);
    record(&play, "2026-05-04 07:00+00", 30).await;
}

#[tokio::test]
async fn two_sessions_that_miss_the_same_partitions_make_them_once() {
    let play = Play::at("07:00:00").await;
    play.exec("begin").await;
    assert!(ensure(&play, "2026-03-02 07:00+00").await > 0);
    let other = play.db.client().await;
    let waiting = other.query_one("select sisyphus._ensure_partitions('2026-03-02 07:00+00')", &[]);
    let committing = async {
        wait_until("the other session waits", Duration::from_secs(10), async || {
            let blocked: i64 = play
                .value(
                    "select count(*) from pg_locks where not granted and relation = 'sisyphus.attempt_7'::regclass",
                    &[],
                )
                .await;
            if blocked > 0 { Ok(()) } else { Err("nobody waits".to_owned()) }
        })
        .await;
        play.exec("commit").await;
    };
    let (made, ()) = tokio::join!(waiting, committing);
    assert_eq!(made.unwrap().get::<_, i32>(0), 0);
}

#[tokio::test]
async fn ahead_of_time_nobody_waits_for_a_partition() {
    let play = Play::at("07:00:00").await;
    ensure(&play, "2026-03-02 07:00+00").await;
    let analyzing = play.db.client().await;
    analyzing
        .batch_execute("begin; lock table sisyphus.attempt_90 in share update exclusive mode")
        .await
        .unwrap();
    play.exec("set lock_timeout = '2 s'").await;
    assert_eq!(ensure(&play, "2026-03-09 07:00+00").await, 0);
    analyzing.batch_execute("commit").await.unwrap();
    assert!(ensure(&play, "2026-03-09 07:00+00").await > 0);
    assert_eq!(ensure(&play, "2026-03-09 07:00+00").await, 0);
}

/// A disk that is full, a tablespace that is another's, a partition that somebody made by hand: there are days to mend it.
#[tokio::test]
async fn a_partition_that_cannot_be_made_ahead_of_time_stops_no_tick() {
    let play = Play::at("07:00:00").await;
    play.tick().await;
    play.exec(
        "create table sisyphus.by_hand partition of sisyphus.attempt_7 for values from ('2026-03-10') to ('2026-03-12')",
    )
    .await;
    play.exec("select sisyphus.schedule('job', '* * * * *', 'true', timezone => 'UTC')").await;
    play.tick_at("2026-03-03 07:00+00").await;
    let planned: i64 = play.value("select count(*) from sisyphus.run", &[]).await;
    assert_eq!(planned, 1);
    // Of today there is no other way.
    play.exec("alter table sisyphus.attempt_1 detach partition sisyphus.attempt_1_20260303").await;
    play.exec(
        "drop table sisyphus.attempt_1_20260303; update sisyphus.planner set next_tick_at = '-infinity'",
    )
    .await;
    assert_sqlstate(play.client.batch_execute("select sisyphus.tick()").await, "42P17");
}

#[tokio::test]
async fn maintain_drops_what_is_wholly_older_than_its_class() {
    let play = Play::at("07:00:00").await;
    for moment in ["2025-01-15 00:00+00", "2025-12-01 00:00+00", "2026-02-01 00:00+00", "2026-03-02 00:00+00"]
    {
        ensure(&play, moment).await;
    }
    maintain(&play.db).await;
    let left = play.lines(PARTITIONS).await;
    let oldest = |class: &str| {
        let prefix = format!("attempt_{class}_");
        left.iter().find(|name| name.starts_with(&prefix)).cloned().unwrap_or_default()
    };
    // It is Monday 2 March 2026: yesterday's rows of class 1 may be kept until tonight.
    assert_eq!(oldest("1"), "attempt_1_20260302");
    assert_eq!(oldest("7"), "attempt_7_20260302");
    assert_eq!(oldest("30"), "attempt_30_2026w05");
    assert_eq!(oldest("90"), "attempt_90_2025w49");
    assert_eq!(oldest("400"), "attempt_400_202501");
    assert_eq!(oldest("0"), "attempt_0_202501");
    play.set_time("2036-03-02 07:00+00").await;
    maintain(&play.db).await;
    let old = play.lines(PARTITIONS).await;
    assert!(old.contains(&"attempt_0_202501".to_owned()), "class 0 is for ever: {old:?}");
    assert!(!old.iter().any(|name| name.starts_with("attempt_400_2026")), "{old:?}");
}

#[tokio::test]
async fn maintain_leaves_a_busy_class_for_the_next_time() {
    let play = Play::at("07:00:00").await;
    ensure(&play, "2026-01-01 00:00+00").await;
    let reader = play.db.client().await;
    reader.batch_execute("begin; select count(*) from sisyphus.attempt_7").await.unwrap();
    let told = maintain(&play.db).await;
    assert!(told.contains(&"attempt_7_20260101 busy".to_owned()), "{told:?}");
    assert!(told.contains(&"attempt_1_20260101 dropped".to_owned()), "{told:?}");
    reader.batch_execute("commit").await.unwrap();
    let told = maintain(&play.db).await;
    assert!(told.contains(&"attempt_7_20260101 dropped".to_owned()), "{told:?}");
}

#[tokio::test]
async fn maintain_forgets_guardians_of_last_week_that_were_followed() {
    let play = Play::at("07:00:00").await;
    for _ in 0..3 {
        play.guardian("web1", 1).await;
    }
    play.guardian("web2", 1).await;
    play.exec("update sisyphus.guardian set ended_at = '2026-02-20', ended_as = 'stopped'").await;
    maintain(&play.db).await;
    let left = play
        .lines("select h.name from sisyphus.guardian g join sisyphus.host h using (host_id) order by 1")
        .await;
    assert_eq!(left, ["web1", "web2"], "the last one of each host stays");
    assert_eq!(
        play.lines("select host from sisyphus.fleet where state = 'stopped' order by 1").await,
        ["web1", "web2"]
    );
}

#[tokio::test]
async fn a_retention_is_rounded_up_to_a_class() {
    let db = support::db().await;
    let client = db.client().await;
    for (retention, class) in [
        ("1 s", 1),
        ("1 day", 1),
        ("25 h", 7),
        ("7 days", 7),
        ("8 days", 30),
        ("1 month", 30),
        ("31 days", 90),
        ("90 days", 90),
        ("91 days", 400),
        ("1 year", 400),
        ("400 days", 400),
        ("401 days", 0),
        ("10 years", 0),
    ] {
        let found: i32 = client
            .query_one("select sisyphus._retention_class($1::text::interval)", &[&retention])
            .await
            .unwrap()
            .get(0);
        assert_eq!(found, class, "{retention}");
    }
}

#[tokio::test]
async fn maintain_forgets_what_the_audit_log_has_kept_long_enough() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.create_pool('old')").await;
    play.set_time("2026-06-02 07:00:00+00").await;
    play.exec("select sisyphus.create_pool('new'), sisyphus.set_setting('retention_audit', '90 days')").await;
    let objects = "select object from sisyphus.audit_log order by at, object";
    maintain(&play.db).await;
    assert_eq!(play.lines(objects).await, ["new", "retention_audit"]);
    play.exec("select sisyphus.set_setting('retention_audit', '178000000 years')").await;
    play.set_time("2026-09-01 07:00:00+00").await;
    maintain(&play.db).await;
    assert_eq!(play.lines(objects).await.len(), 3, "kept for ever");
}

/// Forty days, each with its runs and its `maintain()`, while one report reads the history of the first.
#[tokio::test]
async fn a_report_of_forty_days_stops_no_result_and_old_days_go_when_it_ends() {
    const BOUND: Duration = Duration::from_secs(3);
    let play = Play::at("07:00:00").await;
    play.exec(
        "select sisyphus.schedule('short', '0 12 * * *', 'true', timezone => 'UTC',
                                  retention => '{\"success\": \"1 day\", \"failure\": \"7 days\"}');
         select sisyphus.schedule('usual', '0 12 * * *', 'true', timezone => 'UTC');
         set lock_timeout = '2 s'",
    )
    .await;
    let guardian = play.guardian("a", 10).await;
    let report = play.db.client().await;
    let mut recorded = 0;
    for day in 0..40 {
        let moment = |time: &str| {
            format!(
                "{} {time}+00",
                (chrono::NaiveDate::from_ymd_opt(2026, 3, 2).unwrap() + chrono::Days::new(day))
            )
        };
        play.tick_at(&moment("11:59:46")).await;
        play.tick_at(&moment("12:00:00")).await;
        let claims = play.claim(guardian, 10).await;
        assert_eq!(claims.len(), 2, "day {day}");
        play.set_time(&moment("12:00:01")).await;
        // A result comes while old days are being dropped, or are tried to.
        let begun = std::time::Instant::now();
        let results = async {
            for claim in &claims {
                assert_eq!(play.finish(guardian, claim, i32::from(day % 2 == 1)).await, "accepted");
            }
        };
        let (told, ()) = tokio::join!(maintain(&play.db), results);
        assert!(begun.elapsed() < BOUND, "day {day}: {:?}", begun.elapsed());
        assert!(day == 0 || told.iter().all(|line| line.ends_with("busy")), "day {day}: {told:?}");
        recorded += claims.len() as i64;
        if day == 0 {
            report
                .batch_execute(
                    "begin isolation level repeatable read; declare page cursor for table sisyphus.history;
                                fetch 1 from page",
                )
                .await
                .unwrap();
        }
    }
    // All of it is still there, and the report reads on in what it saw at first.
    let kept: i64 = play.value("select count(*) from sisyphus.attempt", &[]).await;
    assert_eq!(kept, recorded);
    assert_eq!(report.query("fetch all from page", &[]).await.unwrap().len(), 1);
    report.batch_execute("commit").await.unwrap();

    let deleted =
        "select coalesce(sum(n_tup_del), 0)::bigint from pg_stat_user_tables where relname like 'attempt%'";
    play.exec("select pg_stat_force_next_flush()").await;
    assert_eq!(play.value::<i64>(deleted, &[]).await, 0, "rows go with their partition alone");
    let told = maintain(&play.db).await;
    assert!(told.len() >= 70 && told.iter().all(|line| line.ends_with("dropped")), "{told:?}");
    // Whole partitions go: days for the short classes, weeks for the others.
    let ages = play
        .lines(
            "select format('%s %s %s', job, state, max(ceil(extract(epoch from sisyphus._clock() - recorded_at) / 86400)))
               from sisyphus.attempt group by job, state order by 1",
        )
        .await;
    // In days: successes were on even days, failures on odd ones, and today is odd.
    assert_eq!(ages, ["short failed 6", "short succeeded 1", "usual failed 38", "usual succeeded 31"]);
}
