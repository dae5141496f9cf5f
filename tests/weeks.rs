//! Whole weeks of virtual time in which clocks change: one row an occurrence, at the times that the wall showed.

use crate::support::Play;

/// A week that begins at `since`, local midnight, with a tick and a claim every six hours; then for each job how many
/// occurrences the history tells, one row each, and the odd local times.
async fn week(zone: &str, since: &str, jobs: &[(&str, i64)], around: (&str, &str), odd: &[&str]) {
    let play = Play::at("07:00:00").await;
    play.exec(&format!("set timezone = '{zone}'")).await;
    let local =
        |hours: i32| format!("(timestamp '{since}' at time zone '{zone}' + interval '{hours} hours')");
    play.set_time(&play.value::<String>(&format!("select {}::text", local(-1)), &[]).await).await;
    // Ticks that are far apart and no downtime.
    play.exec("select sisyphus.set_setting('lease_timeout', '1 day'); select sisyphus.set_setting('plan_ahead', '12 h')").await;
    for (schedule, _) in jobs {
        let define = format!(
            "select sisyphus.schedule($1, $1, 'true', timezone => '{zone}', overlap => 'allow', ttl => '1 day',
                                      starts_at => {}, ends_at => timestamp '{since}' at time zone '{zone}' + interval '7 days')",
            local(0)
        );
        play.client.execute(&define, &[schedule]).await.unwrap();
    }
    let guardian = play.guardian("a", 1000).await;
    for tick in 0..30 {
        let moment = play.value::<String>(&format!("select {}::text", local(tick * 6)), &[]).await;
        play.tick_at(&moment).await;
        for claim in play.claim(guardian, 1000).await {
            assert_eq!(play.finish(guardian, &claim, 0).await, "accepted");
        }
    }
    assert!(play.live().await.is_empty(), "{:?}", play.live().await);

    for (schedule, expected) in jobs {
        let told =
            "select count(*), count(distinct nominal_at), bool_and(state = 'succeeded' and occurrences = 1)
                      from sisyphus.history where job = $1";
        let row = play.client.query_one(told, &[schedule]).await.unwrap();
        let told: (i64, i64, bool) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(told, (*expected, *expected, true), "{schedule} in {zone}");
        // The same instants as the calendar gives, and nothing else.
        let differing = format!(
            "select count(*) from (select nominal_at from sisyphus.history where job = $1) h (at)
               full join sisyphus.fires($1, '{zone}', {}, timestamp '{since}' at time zone '{zone}' + interval '7 days',
                                        1000, {}) f (at) using (at)
              where h.at is null or f.at is null",
            local(0),
            local(0)
        );
        let differing: i64 = play.client.query_one(&differing, &[schedule]).await.unwrap().get(0);
        assert_eq!(differing, 0, "{schedule} in {zone}");
    }
    let times = format!(
        "select job || ' ' || to_char(nominal_at, 'DD HH24:MI TZH:TZM') from sisyphus.history
          where nominal_at at time zone '{zone}' between '{}' and '{}' order by job, nominal_at",
        around.0, around.1
    );
    assert_eq!(play.lines(&times).await, odd);
}

#[tokio::test]
async fn in_the_week_of_amsterdams_summer_time() {
    week(
        "Europe/Amsterdam",
        "2026-03-23",
        &[
            ("@hourly", 167),
            ("*/15 * * * *", 668),
            ("30 2 * * *", 7),
            ("0 3 * * *", 7),
            ("every 7 hours", 24),
        ],
        ("2026-03-29 01:45", "2026-03-29 03:15"),
        &[
            "*/15 * * * * 29 01:45 +01:00",
            "*/15 * * * * 29 03:00 +02:00",
            "*/15 * * * * 29 03:15 +02:00",
            "0 3 * * * 29 03:00 +02:00",
            // Skipped by the clock, it runs at the end of the gap.
            "30 2 * * * 29 03:00 +02:00",
            "@hourly 29 03:00 +02:00",
        ],
    )
    .await;
}

#[tokio::test]
async fn in_the_week_of_amsterdams_winter_time() {
    week(
        "Europe/Amsterdam",
        "2026-10-19",
        &[("@hourly", 169), ("*/15 * * * *", 676), ("30 2 * * *", 7), ("every 7 hours", 25)],
        ("2026-10-25 02:00", "2026-10-25 02:30"),
        &[
            "*/15 * * * * 25 02:00 +02:00",
            "*/15 * * * * 25 02:15 +02:00",
            "*/15 * * * * 25 02:30 +02:00",
            "*/15 * * * * 25 02:00 +01:00",
            "*/15 * * * * 25 02:15 +01:00",
            "*/15 * * * * 25 02:30 +01:00",
            "30 2 * * * 25 02:30 +02:00",
            "@hourly 25 02:00 +02:00",
            "@hourly 25 02:00 +01:00",
            // 147 hours after Monday's midnight.
            "every 7 hours 25 02:00 +01:00",
        ],
    )
    .await;
}

#[tokio::test]
async fn in_the_week_of_lord_howes_summer_time_which_is_half_an_hour() {
    week(
        "Australia/Lord_Howe",
        "2026-09-28",
        &[("@hourly", 167), ("*/15 * * * *", 670), ("15 2 * * *", 7), ("45 2 * * *", 7)],
        ("2026-10-04 01:45", "2026-10-04 02:45"),
        &[
            "*/15 * * * * 04 01:45 +10:30",
            "*/15 * * * * 04 02:30 +11:00",
            "*/15 * * * * 04 02:45 +11:00",
            "15 2 * * * 04 02:30 +11:00",
            "45 2 * * * 04 02:45 +11:00",
        ],
    )
    .await;
}

#[tokio::test]
async fn in_the_week_of_lord_howes_winter_time() {
    week(
        "Australia/Lord_Howe",
        "2026-03-30",
        &[("@hourly", 168), ("*/15 * * * *", 674), ("45 1 * * *", 7)],
        ("2026-04-05 01:30", "2026-04-05 02:00"),
        &[
            "*/15 * * * * 05 01:30 +11:00",
            "*/15 * * * * 05 01:45 +11:00",
            "*/15 * * * * 05 01:30 +10:30",
            "*/15 * * * * 05 01:45 +10:30",
            "*/15 * * * * 05 02:00 +10:30",
            "45 1 * * * 05 01:45 +11:00",
            "@hourly 05 02:00 +10:30",
        ],
    )
    .await;
}
