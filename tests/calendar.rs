//! The calendar by cases: fixtures of independent implementations, and of our own for what they do not know.

use serde_json::from_str;

use crate::support::{TestClient, assert_error, assert_sqlstate, db};

const NEXT: &str = "select to_char(sisyphus.next_fire($1, $2, $3::text::timestamptz) at time zone 'UTC',
                           'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

/// Lines of a fixture, split at tabs; the last column may be missing.
fn cases<const N: usize>(text: &str) -> impl Iterator<Item = [&str; N]> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split('\t');
        std::array::from_fn(|_| fields.next().unwrap_or_default())
    })
}

async fn next(client: &TestClient, schedule: &str, timezone: &str, after: &str) -> Option<String> {
    let row = client.query_one(NEXT, &[&schedule, &timezone, &after]).await;
    row.unwrap_or_else(|err| panic!("{schedule} in {timezone} after {after}: {err:?}")).get(0)
}

async fn fires_in_turn(client: &TestClient, fixture: &str) {
    let mut wrong = Vec::new();
    for [_, schedule, timezone, after, fires] in cases(fixture) {
        let mut at = after.to_owned();
        for wanted in fires.split(' ') {
            let found = next(client, schedule, timezone, &at).await.unwrap_or("never".to_owned());
            if found != wanted {
                wrong.push(format!("{schedule} in {timezone} after {at}: {found}, not {wanted}"));
            }
            wanted.clone_into(&mut at);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn schedules_fire_as_independent_implementations_say() {
    let db = db().await;
    fires_in_turn(&db.client().await, include_str!("fixtures/calendar/sample.tsv")).await;
}

#[tokio::test]
async fn rare_dates_far_years_and_odd_clock_changes_are_exact() {
    let db = db().await;
    fires_in_turn(&db.client().await, include_str!("fixtures/calendar/further.tsv")).await;
}

#[tokio::test]
async fn what_independent_implementations_refuse_is_refused_or_never_fires() {
    let db = db().await;
    let client = db.client().await;
    for [schedule, why] in cases(include_str!("fixtures/calendar/invalid.tsv")) {
        let schedule: String = from_str(schedule).unwrap();
        let result = client.query_one("select sisyphus.next_fire($1) is null", &[&schedule]).await;
        if why == "no such day in the months named" {
            assert!(result.unwrap().get::<_, bool>(0), "{schedule} fires");
            let refused = client.query_one("select sisyphus._check_schedule($1, 'UTC')", &[&schedule]).await;
            assert_error(refused, "SY112", "can never fire", "February has at most 29 days");
        } else {
            let err = crate::support::error_of(result);
            assert!(err.code().code().starts_with("SY1"), "{schedule} ({why}): {err}");
        }
    }
}

#[tokio::test]
async fn every_refusal_says_where_what_is_allowed_and_what_to_write() {
    let db = db().await;
    let client = db.client().await;
    for [schedule, code, message, detail, hint] in cases(include_str!("fixtures/calendar/errors.tsv")) {
        let schedule: String = from_str(schedule).unwrap();
        let result = client.query_one("select sisyphus.next_fire($1)", &[&schedule]).await;
        let err = assert_sqlstate(result, code);
        for (part, said, wanted) in [
            ("message", err.message(), message),
            ("detail", err.detail().unwrap_or_default(), detail),
            (
                "hint",
                err.hint().unwrap_or_default(),
                from_str::<String>(&format!("\"{}\"", hint.replace('"', "\\\""))).unwrap().as_str(),
            ),
        ] {
            assert!(said.contains(wanted), "{part} of {schedule:?}: {said:?} should contain {wanted:?}");
        }
    }
}

/// Patterns are read when a session first comes to them.
#[tokio::test]
async fn a_session_that_takes_backslashes_for_escapes_has_the_same_answers() {
    let db = db().await;
    let plain = db.client().await;
    let other = db.client().await;
    let settings =
        "set standard_conforming_strings = off; set escape_string_warning = off; set backslash_quote = off;
                    set transform_null_equals = on; set array_nulls = off; set plpgsql.extra_errors = 'all'";
    other.batch_execute(settings).await.unwrap();
    let mut schedules =
        vec!["every 90 minutes", "every P1DT2H", "every 1:30", "at 2040-03-04 05:06", "@daily"];
    let sentences = cases::<2>(include_str!("fixtures/calendar/sentences.tsv"));
    schedules.extend(sentences.map(|[schedule, _]| schedule));
    let mut schedules: Vec<String> = schedules.into_iter().map(str::to_owned).collect();
    let errors = cases::<1>(include_str!("fixtures/calendar/errors.tsv"));
    schedules.extend(errors.map(|[schedule]| from_str::<String>(schedule).unwrap()));
    let answer = async |client: &TestClient, schedule: &str, zone: &str| {
        let sql = "select sisyphus.next_fire($1, $2, '2026-11-03 12:00+00')::text || ' ' || sisyphus.describe_schedule($1)";
        match client.query_one(sql, &[&schedule, &zone]).await {
            Ok(row) => row.get::<_, Option<String>>(0).unwrap_or_default(),
            Err(err) => {
                format!("{:?}", err.as_db_error().map(|err| (err.message(), err.detail(), err.hint())))
            }
        }
    };
    for schedule in &schedules {
        let wanted = answer(&plain, schedule, "Europe/Berlin").await;
        assert_eq!(answer(&other, schedule, "Europe/Berlin").await, wanted, "{schedule}");
    }
    for [zone, _] in cases(include_str!("fixtures/calendar/zones.tsv")) {
        assert_eq!(answer(&other, "@daily", zone).await, answer(&plain, "@daily", zone).await, "{zone}");
    }
}

#[tokio::test]
async fn a_correction_in_a_hint_is_itself_accepted() {
    let db = db().await;
    let client = db.client().await;
    let mut corrections = 0;
    for [schedule, ..] in cases::<5>(include_str!("fixtures/calendar/errors.tsv")) {
        let schedule: String = from_str(schedule).unwrap();
        let result = client.query_one("select sisyphus.next_fire($1)", &[&schedule]).await;
        let hint = crate::support::error_of(result).hint().unwrap_or_default().to_owned();
        if let Some((_, rest)) = hint.split_once("Did you mean \"") {
            let corrected = rest.split_once("\"?").unwrap().0;
            client
                .query_one("select sisyphus.next_fire($1)", &[&corrected])
                .await
                .unwrap_or_else(|err| panic!("{schedule:?} is corrected to {corrected:?}: {err:?}"));
            corrections += 1;
        }
    }
    assert!(corrections > 30, "{corrections} corrections");
}

#[tokio::test]
async fn unknown_time_zones_are_refused_with_the_nearest_name() {
    let db = db().await;
    let client = db.client().await;
    for [timezone, hint] in cases(include_str!("fixtures/calendar/zones.tsv")) {
        let result = client.query_one(NEXT, &[&"@daily", &timezone, &"2026-01-01T00:00:00Z"]).await;
        assert_error(result, "22023", "is not the name of a time zone", hint);
    }
    // Whoever may ask must not keep the server busy for minutes.
    client.batch_execute("set statement_timeout = '5 s'").await.unwrap();
    let long = "Europe/".to_owned() + &"\u{1f600}".repeat(20_000);
    let result = client.query_one(NEXT, &[&"@daily", &long, &"2026-01-01T00:00:00Z"]).await;
    assert_error(result, "22023", "is not the name of a time zone", "");
}

#[tokio::test]
async fn all_zones_of_the_database_are_accepted_save_its_seven_abbreviations() {
    let db = db().await;
    let rows = db
        .client()
        .await
        .query(
            "select z.name from pg_timezone_names z
              where z.name !~ '^(posix/|localtime|posixrules)' and z.name !~ '^[A-Za-z_-]+/[A-Za-z/_-]+$'
                and not sisyphus._is_plain_timezone(z.name) order by z.name",
            &[],
        )
        .await
        .unwrap();
    let refused: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let abbreviations = ["CET", "EET", "EST", "HST", "MET", "MST", "WET"];
    assert!(refused.iter().all(|name| abbreviations.contains(&name.as_str())), "{refused:?}");
}

#[tokio::test]
async fn a_schedule_too_long_to_be_meant_is_refused() {
    let db = db().await;
    let schedule = format!("{} * * * *", "1,".repeat(500));
    let result = db.client().await.query_one("select sisyphus.next_fire($1)", &[&schedule]).await;
    let err = assert_sqlstate(result, "SY100");
    assert!(err.message().len() < 200, "{}", err.message());
}

#[tokio::test]
async fn schedules_read_as_sentences() {
    let db = db().await;
    let client = db.client().await;
    for [schedule, sentence] in cases(include_str!("fixtures/calendar/sentences.tsv")) {
        let row = client.query_one("select sisyphus.describe_schedule($1)", &[&schedule]).await.unwrap();
        assert_eq!(row.get::<_, String>(0), sentence, "{schedule}");
    }
}

#[tokio::test]
async fn every_counts_from_its_start_and_never_drifts() {
    let db = db().await;
    let client = db.client().await;
    let at =
        "select array_agg(to_char(f at time zone 'UTC', 'MM-DD HH24:MI:SS')) from sisyphus.fires($1, 'UTC',
              $2::text::timestamptz, null, 3, $3::text::timestamptz) f";
    for (schedule, since, starts_at, wanted) in [
        (
            "every 90 seconds",
            "2026-01-01 00:00:00Z",
            "2026-01-01 00:00:00Z",
            ["01-01 00:00:00", "01-01 00:01:30", "01-01 00:03:00"],
        ),
        (
            "every 90 seconds",
            "2026-01-01 00:00:01Z",
            "2026-01-01 00:00:00Z",
            ["01-01 00:01:30", "01-01 00:03:00", "01-01 00:04:30"],
        ),
        (
            "every 1 hour 30 minutes",
            "2020-01-01 00:00:00Z",
            "2026-01-01 10:00:07Z",
            ["01-01 10:00:07", "01-01 11:30:07", "01-01 13:00:07"],
        ),
        (
            "every 2 weeks",
            "2026-01-02 00:00:00Z",
            "2026-01-01 00:00:00Z",
            ["01-15 00:00:00", "01-29 00:00:00", "02-12 00:00:00"],
        ),
        (
            "every PT1H",
            "2026-01-01 00:30:00Z",
            "1960-01-01 00:15:00Z",
            ["01-01 01:15:00", "01-01 02:15:00", "01-01 03:15:00"],
        ),
        (
            "every 1:30:00",
            "2026-01-01 00:00:00.5Z",
            "2026-01-01 00:00:00Z",
            ["01-01 01:30:00", "01-01 03:00:00", "01-01 04:30:00"],
        ),
        (
            "EVERY  minute",
            "2026-01-01 00:00:00Z",
            "2026-01-01 00:00:00Z",
            ["01-01 00:00:00", "01-01 00:01:00", "01-01 00:02:00"],
        ),
    ] {
        let row = client.query_one(at, &[&schedule, &since, &starts_at]).await.unwrap();
        assert_eq!(row.get::<_, Vec<String>>(0), wanted, "{schedule} from {starts_at} since {since}");
    }
}

#[tokio::test]
async fn at_fires_once_in_the_zone_of_the_job_or_at_its_own_offset() {
    let db = db().await;
    let client = db.client().await;
    for (schedule, timezone, wanted) in [
        ("at 2026-12-24 18:00", "Europe/Amsterdam", Some("2026-12-24T17:00:00Z")),
        ("at 2026-12-24T18:00:05Z", "Europe/Amsterdam", Some("2026-12-24T18:00:05Z")),
        ("AT 2026-12-24 18:00+05:30", "Europe/Amsterdam", Some("2026-12-24T12:30:00Z")),
        ("at 2026-12-24 18:00:00.000-0330", "Europe/Amsterdam", Some("2026-12-24T21:30:00Z")),
        ("at 2026-12-24", "America/New_York", Some("2026-12-24T05:00:00Z")),
        // skipped, so at the end of the gap; repeated, so the first; in the past, so never
        ("at 2026-03-29 02:30", "Europe/Amsterdam", Some("2026-03-29T01:00:00Z")),
        ("at 2026-10-25 02:30", "Europe/Amsterdam", Some("2026-10-25T00:30:00Z")),
        ("at 2025-12-31 23:59", "UTC", None),
    ] {
        assert_eq!(
            next(&client, schedule, timezone, "2026-01-01T00:00:00Z").await.as_deref(),
            wanted,
            "{schedule}"
        );
    }
    assert_eq!(next(&client, "at 2026-12-24", "UTC", "2026-12-24T00:00:00Z").await, None, "strictly later");
    let lost =
        client.query_one(NEXT, &[&"at 2011-12-30 12:00", &"Pacific/Apia", &"2011-01-01T00:00:00Z"]).await;
    assert_error(lost, "SY111", "the clocks of Pacific/Apia skip that time", "Give the offset from UTC");
}

#[tokio::test]
async fn missing_arguments_mean_utc_now_and_no_start() {
    let db = db().await;
    let client = db.client().await;
    for (call, wanted) in [
        ("sisyphus.next_fire('* * * * *') between now() and now() + interval '70 s'", true),
        ("sisyphus.next_fire('0 0 * * *', null, '2026-01-01 00:00Z', null) = '2026-01-02 00:00Z'", true),
        ("sisyphus.next_fire(null) is null", true),
        ("sisyphus.next_fire('* * * * *', after => 'infinity') is null", true),
        ("sisyphus.next_fire('* * * * *', after => '-infinity') < '0002-01-01Z'", true),
        (
            "sisyphus.next_fire('0 0 * * *', after => '2020-01-01Z', starts_at => '2026-01-01 00:00Z') = '2026-01-01 00:00Z'",
            true,
        ),
        ("sisyphus.next_fire('0 0 * * *', after => '1960-01-01 12:00Z') = '1960-01-02 00:00Z'", true),
        (
            "(select count(*) = 1000 from sisyphus.fires('* * * * *', 'UTC', '2026-01-01Z', '2027-01-01Z'))",
            true,
        ),
        (
            "(select array_agg(f) = '{2026-01-01 00:00Z,2026-01-02 00:00Z}' from sisyphus.fires('@daily', 'UTC', '2026-01-01Z', '2026-01-03Z') f)",
            true,
        ),
        ("exists (select from sisyphus.fires('@daily', 'UTC', '2026-01-01Z', '2026-01-03Z', 0))", false),
        ("sisyphus.describe_schedule(null) is null", true),
    ] {
        let row = client
            .query_one(&format!("select {call}"), &[])
            .await
            .unwrap_or_else(|err| panic!("{call}: {err:?}"));
        assert_eq!(row.get::<_, bool>(0), wanted, "{call}");
    }
}

#[tokio::test]
async fn everybody_in_a_group_role_may_ask_and_nobody_may_call_the_private_parts() {
    let db = db().await;
    for group in
        ["sisyphus_admin", "sisyphus_author", "sisyphus_operator", "sisyphus_viewer", "sisyphus_guardian"]
    {
        let client = db.client_as(group).await;
        client
            .query("select sisyphus.next_fire('@daily'), sisyphus.describe_schedule('@daily') from sisyphus.fires('@daily', 'UTC', now(), null, 1)", &[])
            .await
            .unwrap_or_else(|err| panic!("{group}: {err:?}"));
        assert_sqlstate(
            client.query_one("select sisyphus._compile_schedule('@daily', 'UTC')", &[]).await,
            "42501",
        );
    }
}

#[tokio::test]
async fn zones_are_never_further_from_themselves_than_the_engine_assumes() {
    let db = db().await;
    // Hourly over the years in which zones changed most. 21_calendar_next.sql relies on the two numbers.
    let row = db
        .client()
        .await
        .query_one(
            "select max(widest) <= interval '26 hours' from (
                select max(o) - min(o) as widest from (select name from pg_timezone_names where name ~ '^(Pacific|Asia|Antarctica|America)/') z,
                       generate_series(timestamptz '1965-01-01Z', '2030-01-01Z', '30 days') t,
                       lateral (select (t at time zone z.name) - (t at time zone 'UTC')) v(o)
                 group by z.name) w",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn what_a_hint_proposes_is_accepted() {
    let db = db().await;
    let client = db.client().await;
    for schedule in [
        "0 0 * * 7-1",
        "0 0 * * 6-0",
        "0 0 * * sat-sun",
        "0 0 * * *;",
        "0 0 1;15 * *",
        "0 0 * mar-jan *",
        "0 24 * * *",
    ] {
        let err = client.query_one("select sisyphus.next_fire($1)", &[&schedule]).await.unwrap_err();
        let hint = err.as_db_error().and_then(|err| err.hint()).unwrap_or_default();
        let proposed = hint.split('"').nth(1).unwrap_or_else(|| panic!("{schedule}: {hint}"));
        client
            .query_one("select sisyphus.next_fire($1)", &[&proposed])
            .await
            .unwrap_or_else(|err| panic!("{proposed}: {err:?}"));
    }
}

#[tokio::test]
async fn a_fire_is_not_before_starts_at_wherever_that_lies() {
    let db = db().await;
    let client = db.client().await;
    for (call, expected) in [
        (
            "next_fire('@daily', 'UTC', '1960-01-01 00:00+00', starts_at => '1965-01-01 00:00+00')",
            "1965-01-01 00:00",
        ),
        (
            "next_fire('every 1 day', 'UTC', '1960-01-01 00:00+00', starts_at => '-infinity')",
            "1960-01-02 00:00",
        ),
        (
            "next_fire('every 1 day', 'UTC', '1960-01-01 00:00+00', starts_at => '4714-11-24 00:00+00 BC')",
            "1960-01-02 00:00",
        ),
        ("fires('@daily', 'UTC', '1960-01-01 00:00+00', null, 1, '1965-01-01 00:00+00')", "1965-01-01 00:00"),
        ("fires('@daily', 'UTC', '-infinity', null, 1)", "0001-01-02 00:00"),
        ("fires('@daily', 'UTC', '4714-11-24 00:00+00 BC', null, 1)", "0001-01-02 00:00"),
        ("fires('every 1 day', 'UTC', '1960-01-01 00:00+00', null, 1, '-infinity')", "1960-01-01 00:00"),
    ] {
        let query =
            format!("select to_char(f at time zone 'UTC', 'YYYY-MM-DD HH24:MI') from sisyphus.{call} f");
        let told: String =
            client.query_one(&query, &[]).await.unwrap_or_else(|err| panic!("{call}: {err:?}")).get(0);
        assert_eq!(told, expected, "{call}");
    }
}
