//! The calendar by properties: random schedules in random windows against the model of `calendar_model`.
//!
//! `PROPTEST_CASES` sets how many cases each property gets; proptest prints the smallest one that fails.

use chrono::{DateTime, Days, NaiveDate};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::{Builder, Runtime};

use crate::{
    calendar_model::{Clocks, Cron, any_cron, any_date_cron, every_special_day},
    support::{TestClient, TestDb, db},
};

/// Clock changes of every kind, as RFC 3339: half of all windows lie around one of them.
const CHANGES: [(&str, &str); 22] = [
    ("Europe/Amsterdam", "2025-03-30T01:00:00Z"),
    ("Europe/Amsterdam", "2025-10-26T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
    ("America/St_Johns", "1988-04-03T03:31:00Z"),
    ("America/St_Johns", "1988-10-30T01:31:00Z"),
    ("Antarctica/Troll", "2026-03-29T01:00:00Z"),
    ("Antarctica/Troll", "2026-10-25T01:00:00Z"),
    ("Antarctica/Casey", "2009-10-17T18:00:00Z"),
    ("Antarctica/Casey", "2010-03-04T15:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Kwajalein", "1993-08-21T12:00:00Z"),
    ("Asia/Pyongyang", "2015-08-14T15:00:00Z"),
    ("America/Caracas", "2007-12-09T07:00:00Z"),
    ("Asia/Gaza", "2040-10-20T00:00:00Z"),
    ("Europe/Dublin", "1971-10-31T02:00:00Z"),
];
const HOUR: i64 = 3600;

struct Bench {
    runtime: Runtime,
    client: TestClient,
    _db: TestDb,
}

impl Bench {
    fn new() -> Bench {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (db, client) = runtime.block_on(async {
            let db = db().await;
            let client = db.client().await;
            (db, client)
        });
        Bench { runtime, client, _db: db }
    }

    /// Asserts that a query of zone and change finds nothing around any of [`CHANGES`].
    fn none_at_any_change(&self, query: &str) {
        for (zone, change) in CHANGES {
            let found = self.runtime.block_on(self.client.query(query, &[&zone, &change])).unwrap();
            let wrong: Vec<String> = found.iter().map(|row| row.get(0)).collect();
            assert!(wrong.is_empty(), "{zone} {change}:\n{}", wrong.join("\n"));
        }
    }

    /// Runs a property over random values.
    fn check<S: Strategy>(
        &self,
        values: &S,
        property: impl AsyncFn(&TestClient, S::Value) -> Result<(), TestCaseError>,
    ) {
        let mut config =
            ProptestConfig::with_failure_persistence(prop::test_runner::FileFailurePersistence::Off);
        config.cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
        let result =
            TestRunner::new(config).run(values, |value| self.runtime.block_on(property(&self.client, value)));
        if let Err(err) = result {
            panic!("{err}");
        }
    }
}

/// A zone and an instant of it.
fn any_place() -> impl Strategy<Value = (&'static str, i64)> {
    let near =
        (prop::sample::select(CHANGES.to_vec()), -40 * HOUR..30 * HOUR).prop_map(|((zone, change), by)| {
            (zone, DateTime::parse_from_rfc3339(change).unwrap().timestamp() + by)
        });
    let anywhere = (prop::sample::select(CHANGES.to_vec()), 100_000_000i64..7_200_000_000)
        .prop_map(|((zone, _), at)| (zone, at));
    prop_oneof![near, anywhere]
}

/// All ways to ask for the fires of a window give these.
async fn ask(
    client: &TestClient,
    schedule: &str,
    zone: &str,
    since: i64,
    until: i64,
) -> (Vec<i64>, i64, Vec<i64>) {
    let row = client
        .query_one(
            "select array(select extract(epoch from f)::bigint
                            from sisyphus.fires($1, $2, to_timestamp($3::float8 + 1), to_timestamp($4::float8 + 1), 1000000) f),
                    sisyphus._count_fires(c, $2, to_timestamp($3), to_timestamp($4), 'epoch'),
                    array(select extract(epoch from f)::bigint
                            from sisyphus._last_fires(c, $2, to_timestamp($3), to_timestamp($4), 'epoch', 7) f)
               from sisyphus._compile_schedule($1, $2) c",
            &[&schedule, &zone, &(since as f64), &(until as f64)],
        )
        .await
        .unwrap_or_else(|err| panic!("{schedule:?} in {zone} after {since}: {err:?}"));
    (row.get(0), row.get(1), row.get(2))
}

/// What the database says of a window is what the model says of it.
async fn check_window(
    client: &TestClient,
    clocks: &Clocks,
    cron: &Cron,
    zone: &str,
    since: i64,
) -> Result<(), TestCaseError> {
    let (step, length) = window(cron);
    let wanted = cron.fires(clocks, since, since + length, step);
    let (fires, count, last) = ask(client, &cron.text, zone, since, since + length).await;
    prop_assert_eq!(&fires, &wanted, "{:?} in {} after {}", cron, zone, since);
    prop_assert_eq!(count, wanted.len() as i64, "{:?} in {} after {}", cron, zone, since);
    let newest = &wanted[wanted.len().saturating_sub(7)..];
    prop_assert_eq!(&last, newest, "{:?} in {} after {}", cron, zone, since);
    Ok(())
}

/// Step and length of the window in which the model looks at each instant.
fn window(cron: &Cron) -> (i64, i64) {
    if cron.has_seconds { (1, 3 * HOUR) } else { (60, 60 * HOUR) }
}

#[test]
fn fires_counts_and_last_fires_are_those_that_every_minute_was_asked_for() {
    let bench = Bench::new();
    bench.check(&(any_cron(), any_place()), async |client, (cron, (zone, near))| {
        let since = near - near % 60;
        let clocks = Clocks::ask(client, zone, since - 4 * HOUR, since + window(&cron).1).await;
        check_window(client, &clocks, &cron, zone, since).await
    });
}

// Any expression hardly ever fires in the hour of a change; these do, once or twice a day, in windows that begin
// before, in and after it.
#[test]
fn fires_in_the_hour_of_a_clock_change_are_those_that_every_minute_was_asked_for() {
    let bench = Bench::new();
    let places = (prop::sample::select(CHANGES.to_vec()), -8i64..8);
    bench.check(&(any_cron(), places), async |client, (cron, ((zone, change), quarters))| {
        let change = DateTime::parse_from_rfc3339(change).unwrap().timestamp();
        let since = change - change % 60 + quarters * HOUR / 4;
        let clocks = Clocks::ask(client, zone, since - 4 * HOUR, since + 60 * HOUR).await;
        // The hour after the last one before a change is the skipped one, if there is one.
        let [before, after] = [change - 1, change].map(|at| clocks.wall(at).rem_euclid(24 * HOUR) / HOUR);
        for hours in [[before, before + 1], [before + 1, after], [after, after + 1], [before, after + 2]] {
            let cron = cron.daily_at(hours.map(|hour| (hour % 24) as u32), quarters % 2 == 0);
            check_window(client, &clocks, &cron, zone, since).await?;
        }
        Ok(())
    });
}

#[test]
fn calendars_keep_the_fires_whose_day_and_instant_they_keep() {
    let bench = Bench::new();
    let names = prop::sample::select(vec![
        (Some("days"), None),
        (None, Some("days")),
        (Some("spans"), None),
        (None, Some("spans")),
        (Some("days"), Some("spans")),
        (Some("spans"), Some("days")),
    ]);
    let spots = prop::collection::vec((-3i64..4, -40 * HOUR..40 * HOUR, 0..9 * HOUR), 0..6);
    bench.check(
        &(any_cron(), any_place(), names, spots),
        async |client, (cron, (zone, near), (except, only), spots)| {
            let days: Vec<i64> = spots.iter().map(|(day, _, _)| near + day * 24 * HOUR).collect();
            let (from, to): (Vec<i64>, Vec<i64>) =
                spots.iter().map(|(_, from, length)| (near + from, near + from + length)).unzip();
            let length = if cron.has_seconds { 2 * HOUR } else { 80 * HOUR };
            let (since, until) = (near - length / 2, near + length / 2);
            client.execute(STORE_CALENDARS, &[&zone, &days, &from, &to]).await.unwrap();
            let row = client
                .query_one(
                    ASK_CALENDARS,
                    &[&cron.text, &zone, &since, &until, &except, &only, &days, &from, &to],
                )
                .await
                .unwrap();
            for (column, what) in ["all", "count", "last", "next"].iter().enumerate() {
                prop_assert!(row.get::<_, bool>(column), "{} of {} about {}", what, zone, near);
            }
            Ok(())
        },
    );
}

const STORE_CALENDARS: &str = "
    select sisyphus._store_calendar('days', 'q', 'date', array(
               select (to_timestamp(d) at time zone $1)::date from unnest($2::bigint[]) d), null),
           sisyphus._store_calendar('spans', 'q', 'tstzrange', null, array(
               select tstzrange(to_timestamp(f), to_timestamp(t), '[]') from unnest($3::bigint[], $4::bigint[]) s (f, t)))";

/// Beside the model: each fire alone, judged by its day on the clock and by the spans that were given.
const ASK_CALENDARS: &str = "
    with job as materialized (
        select jsonb_populate_record(null::sisyphus.job, jsonb_build_object(
                   'timezone', $2::text, 'anchor_at', 'epoch'::timestamptz, 'except_on', $5::text, 'only_on', $6::text,
                   'compiled', sisyphus._compile_schedule($1, $2))) as j,
               to_timestamp($3::bigint) as since, to_timestamp($4::bigint) as until),
    fire as materialized (
        select f, (f at time zone $2)::date = any (array(
                      select (to_timestamp(d) at time zone $2)::date from unnest($7::bigint[]) d)) as days,
               exists (select from unnest($8::bigint[], $9::bigint[]) s (a, b)
                        where f between to_timestamp(a) and to_timestamp(b)) as spans
          from job, sisyphus.fires($1, $2, since + '1 s', until + '1 s', 1000000) f),
    kept as materialized (
        select f, row_number() over (order by f desc) as nth
          from fire
         where not coalesce(case $5 when 'days' then days when 'spans' then spans end, false)
           and coalesce(case $6 when 'days' then days when 'spans' then spans end, true))
    select array(select f from kept order by f) = array(select sisyphus._last_kept(j, since, until, 1000000)),
           (select count(*) from kept) = sisyphus._count_kept(j, since, until),
           array(select f from kept where nth <= 7 order by f) = array(select sisyphus._last_kept(j, since, until, 7)),
           (select min(f) from kept) is not distinct from nullif(
               least(coalesce(sisyphus._next_kept(j, since), 'infinity'), until + '1 s'), until + '1 s')
      from job";

#[test]
fn the_next_date_is_the_first_that_matches_within_41_years_or_there_is_none() {
    let bench = Bench::new();
    bench.check(&(any_date_cron(), 0u64..80_000), async |client, (cron, day)| {
        let after = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + Days::new(day);
        let wanted = after.iter_days().skip(1).take(41 * 366).find(|day| cron.day_matches(*day));
        let row = client
            .query_one(
                "select (sisyphus.next_fire($1, 'UTC', $2::date::timestamp at time zone 'UTC') at time zone 'UTC')::date",
                &[&cron.text, &after],
            )
            .await
            .unwrap();
        prop_assert_eq!(row.get::<_, Option<NaiveDate>>(0), wanted, "after {}", after);
        Ok(())
    });
}

// Drawn at random, 1W in a month that begins on a Saturday is hardly ever met. 28 years hold every kind of month.
#[test]
fn every_special_day_is_right_in_every_kind_of_month() {
    let bench = Bench::new();
    let first = NaiveDate::from_ymd_opt(2001, 1, 1).unwrap();
    let end = NaiveDate::from_ymd_opt(2029, 1, 1).unwrap();
    for cron in every_special_day() {
        let wanted: Vec<NaiveDate> =
            first.iter_days().take_while(|day| *day < end).filter(|day| cron.day_matches(*day)).collect();
        let fires = bench.runtime.block_on(bench.client.query_one(
            "select array(select (f at time zone 'UTC')::date from sisyphus.fires($1, 'UTC', '2001-01-01 00:00+00', '2029-01-01 00:00+00') f)",
            &[&cron.text],
        ));
        assert_eq!(fires.unwrap().get::<_, Vec<NaiveDate>>(0), wanted, "{cron:?}");
    }
}

// The other properties look at two days and a half: from further away the engine takes another path.
#[test]
fn a_fire_near_a_clock_change_is_the_same_from_half_a_year_before() {
    let bench = Bench::new();
    bench.none_at_any_change(
        "select format('%s: %s, not %s', s, far, near)
           from generate_series(-1, 1) d(day), generate_series(0, 23) hour, unnest('{*/10,10}'::text[]) minute,
                lateral (select $2::text::timestamptz as change) c,
                lateral (select to_char((c.change at time zone $1) + make_interval(days => day), 'FMDD FMMM') as date) l,
                lateral (select format('%s %s %s *', minute, hour, l.date) as s) e,
                lateral (select sisyphus.next_fire(s, $1, c.change - interval '60 h') as near,
                                sisyphus.next_fire(s, $1, c.change - interval '180 days') as far) f
          where near < c.change + interval '60 h' and far is distinct from near",
    );
}

// Once a year, so that the next match after the one at the change is far away.
#[test]
fn no_fire_near_a_clock_change_is_passed_over_from_anywhere_near_it() {
    let bench = Bench::new();
    bench.none_at_any_change(
        "with schedule as (
            select distinct format('%s %s *', minute, to_char((c.change + by * interval '30 min') at time zone $1, 'FMHH24 FMDD FMMM')) as s, c.change
              from (select $2::text::timestamptz) c(change), unnest('{*/10,10}'::text[]) minute,
                   generate_series(-8, 8) by),
         answer as (
            select s, t, sisyphus.next_fire(s, $1, t) as fire
              from schedule, generate_series(change - interval '4 h', change + interval '4 h', interval '10 min') t)
         select distinct on (a.s) format('%s after %s: %s, not %s', a.s, a.t, a.fire, b.fire)
           from answer a
           join answer b on b.s = a.s and b.fire > a.t and b.fire < a.fire
          order by a.s, a.t, b.fire",
    );
}

#[test]
fn each_fire_is_the_next_one_of_the_instant_before_it_and_of_the_fire_before() {
    let bench = Bench::new();
    bench.check(&(any_cron(), any_place()), async |client, (cron, (zone, near))| {
        let row = client
            .query_one(
                "with recursive turn(n, at) as (
                    select 1, sisyphus.next_fire($1, $2, to_timestamp($3))
                    union all
                    select n + 1, sisyphus.next_fire($1, $2, at) from turn where at is not null and n < 20)
                 select coalesce(bool_and(at > to_timestamp($3) and at = date_trunc('second', at, 'UTC')
                            and at = sisyphus.next_fire($1, $2, at - interval '1 us')
                            and at = sisyphus.next_fire($1, $2, at - interval '1 s')), true)
                        and count(distinct at) = count(at)
                   from turn where at is not null",
                &[&cron.text, &zone, &(near as f64 + 0.25)],
            )
            .await
            .unwrap();
        prop_assert!(row.get::<_, bool>(0), "{} after {}", zone, near);
        Ok(())
    });
}

#[test]
fn session_settings_change_nothing() {
    let bench = Bench::new();
    let settings = (
        prop::sample::select(vec![
            "UTC",
            "Pacific/Apia",
            "America/St_Johns",
            "Asia/Kathmandu",
            "Europe/Dublin",
        ]),
        prop::sample::select(vec!["ISO, DMY", "SQL, MDY", "German", "Postgres, DMY", "ISO, YMD"]),
        prop::sample::select(vec!["postgres", "sql_standard", "iso_8601", "postgres_verbose"]),
        prop::sample::select(vec!["Default", "India", "Australia"]),
    );
    let others = prop::sample::select(vec![
        "every 1 day 02:00:00",
        "every P1DT2H",
        "every 90 minutes",
        "at 2040-03-04 05:06",
        "at 2040-03-04",
    ]);
    bench.check(&(any_cron(), others, any_place(), settings), async |client, (cron, other, (zone, near), settings)| {
        let ask = async || {
            let mut answers = Vec::new();
            for schedule in [cron.text.as_str(), other] {
                let row = client
                    .query_one(
                        "select extract(epoch from sisyphus.next_fire($1, $2, to_timestamp($3)))::bigint, sisyphus.describe_schedule($1)",
                        &[&schedule, &zone, &(near as f64)],
                    )
                    .await;
                answers.push(row.map(|row| (row.get::<_, Option<i64>>(0), row.get::<_, String>(1))).map_err(|err| err.to_string()));
            }
            answers
        };
        let set = |timezone: &str, date: &str, interval: &str, abbreviations: &str| {
            format!(
                "set timezone = '{timezone}'; set datestyle = '{date}'; set intervalstyle = '{interval}';
                 set timezone_abbreviations = '{abbreviations}'"
            )
        };
        client.batch_execute(&set("UTC", "ISO, MDY", "postgres", "Default")).await.unwrap();
        let wanted = ask().await;
        client.batch_execute(&set(settings.0, settings.1, settings.2, settings.3)).await.unwrap();
        prop_assert_eq!(ask().await, wanted);
        Ok(())
    });
}

#[test]
fn any_text_gets_an_answer_or_an_error_of_the_calendar() {
    let bench = Bench::new();
    let texts = prop_oneof![
        "[0-9*/,LW#a-zA-Z -]{0,24}",
        "(every|at|@)[ -~]{0,20}",
        "\\PC{0,20}",
        "([0-9*]{1,3}[/,-]?[0-9LW#]{0,2} ){4}[0-9a-zA-Z*#/-]{1,5}",
    ];
    bench.check(&texts, async |client, text| {
        match client
            .query_one("select sisyphus.next_fire($1), sisyphus.describe_schedule($1)", &[&text])
            .await
        {
            Ok(_) => Ok(()),
            Err(err) => {
                let code = err.code().map(|code| code.code().to_owned()).unwrap_or_default();
                prop_assert!(code.starts_with("SY1"), "{:?}", err);
                let hint = err.as_db_error().and_then(|err| err.hint()).unwrap_or_default();
                prop_assert!(!hint.is_empty(), "no hint: {:?}", err);
                Ok(())
            }
        }
    });
}
