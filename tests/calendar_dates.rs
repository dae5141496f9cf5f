//! Calendars in the planner: what they leave out, what is recorded of it, and what a refresh changes.

use crate::support::Play;

const HOLIDAYS: &str = "
    create table public.holiday (day date primary key);
    insert into public.holiday values ('2026-03-03'), ('2026-03-04'), ('2026-03-07');
    select sisyphus.create_calendar('holidays', 'select day from public.holiday')";

/// A fleet without hosts at a moment of Monday 2 March 2026; 3, 4 and 7 March are holidays.
async fn play(time: &str) -> Play {
    let play = Play::at(time).await;
    play.exec(HOLIDAYS).await;
    play
}

/// Lets days pass with a tick each hour: however late, that is no downtime here.
async fn pass_by_hours(play: &Play, until: &str) {
    play.exec(
        "alter table sisyphus.setting drop constraint if exists setting_lease_timeout_check;
         update sisyphus.setting set lease_timeout = '100 days'",
    )
    .await;
    loop {
        let done: bool = play
            .value(
                "with moved as (update test_clock.moment
                                   set at = least($1::text::timestamptz, date_trunc('hour', at) + interval '1 h') returning at)
                 select at >= $1::text::timestamptz from moved",
                &[&until],
            )
            .await;
        play.tick().await;
        if done {
            return;
        }
    }
}

/// Due times of `preview`, as the job's own clock shows them.
async fn previewed(play: &Play, job: &str, n: i32) -> Vec<String> {
    play.lines(&format!(
        "select to_char(local_time, 'DD HH24:MI') from sisyphus.preview('{job}', {n}) order by due_at"
    ))
    .await
}

#[tokio::test]
async fn dates_are_days_on_the_clock_of_the_job() {
    let play = play("06:59:00").await;
    for (job, zone) in [("tokyo", "Asia/Tokyo"), ("lima", "America/Lima")] {
        play.exec(&format!(
            "select sisyphus.schedule('{job}', '0 0 * * *', 'true', timezone => '{zone}', except_on => 'holidays')"
        ))
        .await;
    }
    assert_eq!(previewed(&play, "tokyo", 3).await, ["05 00:00", "06 00:00", "08 00:00"]);
    assert_eq!(previewed(&play, "lima", 3).await, ["05 00:00", "06 00:00", "08 00:00"]);
}

#[tokio::test]
async fn ranges_are_what_they_are_in_every_zone() {
    let play = play("06:59:00").await;
    play.exec(
        "select sisyphus.create_calendar('sale',
             $$values (tstzrange('2026-03-02 08:00+00', '2026-03-02 09:00+00', '[]')),
                      (tstzrange('2026-03-02 10:00+00', '2026-03-02 11:00+00', '(]'))$$);
         select sisyphus.schedule('quiet', '*/30 * * * *', 'true', timezone => 'Asia/Kolkata', except_on => 'sale');
         select sisyphus.schedule('loud', '*/30 * * * *', 'true', timezone => 'Asia/Kolkata', only_on => 'sale')",
    )
    .await;
    let utc = |job: &str| {
        format!(
            "select to_char(due_at at time zone 'UTC', 'HH24:MI') from sisyphus.preview('{job}', 6) order by due_at"
        )
    };
    assert_eq!(play.lines(&utc("quiet")).await, ["07:00", "07:30", "09:30", "10:00", "11:30", "12:00"]);
    assert_eq!(play.lines(&utc("loud")).await, ["08:00", "08:30", "09:00", "10:30", "11:00"]);
}

#[tokio::test]
async fn an_occurrence_that_is_left_out_is_recorded_when_it_would_be_due() {
    let play = play("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', ttl => '1 h', except_on => 'holidays')",
    )
    .await;
    pass_by_hours(&play, "2026-03-03 06:59:00+00").await;
    assert_eq!(play.told().await.len(), 1, "the run of 2 March has expired, nothing else is told yet");
    pass_by_hours(&play, "2026-03-05 07:00:00+00").await;
    assert_eq!(
        play.lines("select format('%s %s', to_char(due_at, 'DD'), reason) from sisyphus.history where state = 'skipped' order by 1")
            .await,
        ["03 left out by calendar \"holidays\"", "04 left out by calendar \"holidays\""]
    );
    assert_eq!(play.live().await, ["report 07:00:00 pending"]);
}

#[tokio::test]
async fn a_job_of_each_second_leaves_one_row_a_day() {
    let play = play("23:59:40").await;
    play.exec(
        "select sisyphus.schedule('often', '* * * * * *', 'true', timezone => 'UTC', overlap => 'allow',
                                  ttl => '1 s', except_on => 'holidays')",
    )
    .await;
    play.pass_until("2026-03-03 00:00:10+00").await;
    pass_by_hours(&play, "2026-03-04 23:59:50+00").await;
    play.pass_until("2026-03-05 00:00:10+00").await;
    assert_eq!(
        play.lines(
            "select format('%s %s to %s', occurrences, due_at at time zone 'UTC', last_due_at at time zone 'UTC')
               from sisyphus.history where state = 'skipped' order by due_at"
        )
        .await,
        [
            "86400 2026-03-03 00:00:00 to 2026-03-03 23:59:59",
            "86400 2026-03-04 00:00:00 to 2026-03-04 23:59:59"
        ]
    );
    let runs: i64 = play
        .value(
            "select count(*) from (select due_at from sisyphus.run union all
                                   select due_at from sisyphus.history where state <> 'skipped') r
              where due_at <= '2026-03-05 00:00:10+00'",
            &[],
        )
        .await;
    assert_eq!(runs, 19 + 11, "20 s before and 10 s after, both ends once");
}

#[tokio::test]
async fn only_on_keeps_to_a_calendar_and_says_so() {
    let play = play("06:59:00").await;
    play.exec(
        "select sisyphus.create_calendar('weekend', $$select d::date from generate_series(date '2026-03-01', '2026-03-31', '1 day') d
                                                       where extract(isodow from d) > 5$$);
         select sisyphus.schedule('batch', '0 8 * * *', 'true', timezone => 'UTC', only_on => 'weekend', except_on => 'holidays')",
    )
    .await;
    // Saturday the 7th is a holiday.
    assert_eq!(previewed(&play, "batch", 3).await, ["08 08:00", "14 08:00", "15 08:00"]);
    pass_by_hours(&play, "2026-03-08 08:00:00+00").await;
    assert_eq!(
        play.lines("select format('%s %s', to_char(due_at, 'DD'), reason) from sisyphus.history order by 1")
            .await,
        [
            "02 not in calendar \"weekend\"",
            "03 left out by calendar \"holidays\"",
            "04 left out by calendar \"holidays\"",
            "05 not in calendar \"weekend\"",
            "06 not in calendar \"weekend\"",
            "07 left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn a_refresh_reaches_what_is_planned_and_what_was_recorded_ahead() {
    let play = play("23:59:50").await;
    play.exec("select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', ttl => '30 min', except_on => 'holidays')")
        .await;
    pass_by_hours(&play, "2026-03-03 09:59:50+00").await;
    assert_eq!(play.live().await, [""; 0]);
    // The day is none any more from here on.
    play.exec(
        "delete from public.holiday where day = '2026-03-03'; select sisyphus.refresh_calendar('holidays')",
    )
    .await;
    play.pass_until("2026-03-03 10:59:50+00").await;
    assert_eq!(play.live().await, ["hourly 11:00:00 pending"]);
    assert_eq!(
        play.told().await,
        [
            "hourly 00:00:00 #0 skipped ×10: left out by calendar \"holidays\"",
            "hourly 10:00:00 #0 expired: not started within 30 min: no active host in pool \"default\""
        ]
    );
    // And again one, before the next run is due.
    play.exec(
        "insert into public.holiday values ('2026-03-03'); select sisyphus.refresh_calendar('holidays')",
    )
    .await;
    play.tick_at("2026-03-03 10:59:51+00").await;
    assert_eq!(play.live().await, [""; 0]);
    pass_by_hours(&play, "2026-03-03 15:00:00+00").await;
    assert_eq!(
        play.told().await[2..],
        [
            "hourly 11:00:00 #0 skipped: left out by calendar \"holidays\"",
            "hourly 12:00:00 #0 skipped ×12: left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn a_refresh_that_changes_nothing_asks_nothing_of_the_planner() {
    let play = play("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', except_on => 'holidays')").await;
    play.tick().await;
    play.exec("select sisyphus.refresh_calendar('holidays')").await;
    assert_eq!(play.value::<i64>("select count(*) from sisyphus.request", &[]).await, 0);
    play.exec(
        "delete from public.holiday where day = '2026-03-07'; select sisyphus.refresh_calendar('holidays')",
    )
    .await;
    assert_eq!(
        play.value::<i64>("select count(*) from sisyphus.request where action = 'replan'", &[]).await,
        1
    );
}

#[tokio::test]
async fn a_refresh_in_a_downtime_loses_nothing_that_was_missed() {
    let play = play("06:59:00").await;
    play.exec("select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', ttl => '90 min', except_on => 'holidays')")
        .await;
    play.tick().await;
    play.set_time("10:30:00").await;
    play.exec(
        "insert into public.holiday values ('2026-03-30'); select sisyphus.refresh_calendar('holidays')",
    )
    .await;
    play.tick().await;
    assert_eq!(play.live().await, ["hourly 10:00:00 pending"]);
    assert_eq!(
        play.told().await,
        ["hourly 07:00:00 #0 expired ×3: nothing ran here during a downtime, and it is no longer fresh"]
    );
}

#[tokio::test]
async fn after_a_downtime_only_what_is_kept_is_caught_up_and_the_rest_counted() {
    let play = play("22:30:00").await;
    play.exec(
        "select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', ttl => '3 h', missed => 'all',
                                  overlap => 'allow', except_on => 'holidays')",
    )
    .await;
    play.tick().await;
    play.tick_at("2026-03-05 01:30:00+00").await;
    assert_eq!(play.live().await, ["hourly 00:00:00 pending", "hourly 01:00:00 pending"]);
    assert_eq!(
        play.told().await,
        [
            "hourly 23:00:00 #0 expired: nothing ran here during a downtime, and it is no longer fresh",
            "hourly 00:00:00 #0 skipped ×48: left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn without_ttl_a_run_is_fresh_until_the_next_occurrence_that_is_kept() {
    let play = play("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', except_on => 'holidays')",
    )
    .await;
    play.pass_until("07:00:00").await;
    let expires: String =
        play.value("select (expires_at at time zone 'UTC')::text from sisyphus.run", &[]).await;
    assert_eq!(expires, "2026-03-05 07:00:00");
}

#[tokio::test]
async fn an_altered_job_takes_back_what_was_recorded_ahead_and_withdraws_what_is_left_out() {
    let play = play("23:59:50").await;
    play.exec("select sisyphus.schedule('minutely', '* * * * *', 'true', timezone => 'UTC', ttl => '30 s', except_on => 'holidays')")
        .await;
    play.pass_until("2026-03-03 00:10:30+00").await;
    play.exec("select sisyphus.alter_job('minutely', schedule => '*/5 * * * *')").await;
    play.pass_until("2026-03-03 00:20:30+00").await;
    play.exec("select sisyphus.alter_job('minutely', reset => '{except_on}')").await;
    play.pass_until("2026-03-03 00:24:50+00").await;
    assert_eq!(play.live().await, ["minutely 00:25:00 pending"]);
    play.exec("select sisyphus.alter_job('minutely', except_on => 'holidays')").await;
    play.pass_until("2026-03-03 00:25:00+00").await;
    assert_eq!(play.live().await, [""; 0]);
    play.exec("select sisyphus.unschedule('minutely')").await;
    play.pass_until("2026-03-03 00:30:00+00").await;
    assert_eq!(
        play.told().await,
        [
            "minutely 00:00:00 #0 skipped ×11: left out by calendar \"holidays\"",
            "minutely 00:15:00 #0 skipped ×2: left out by calendar \"holidays\"",
            "minutely 00:25:00 #0 skipped: left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn a_clock_that_jumped_back_leaves_one_row_for_each_stretch() {
    let play = play("23:59:50").await;
    play.exec(
        "select sisyphus.schedule('hourly', '0 * * * *', 'true', timezone => 'UTC', except_on => 'holidays')",
    )
    .await;
    pass_by_hours(&play, "2026-03-03 04:30:00+00").await;
    play.tick_at("2026-03-03 02:30:00+00").await;
    pass_by_hours(&play, "2026-03-03 05:30:00+00").await;
    assert_eq!(
        play.told().await,
        [
            "hourly 00:00:00 #0 skipped ×3: left out by calendar \"holidays\"",
            "hourly 03:00:00 #0 skipped ×21: left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn jobs_that_share_schedule_and_calendar_are_recorded_each_within_its_window() {
    let play = play("2026-03-02 23:50:00+00").await;
    for (job, window) in [("one", ""), ("two", ", ends_at => '2026-03-03 12:00+00'"), ("free", "")] {
        let except = if job == "free" { "" } else { ", except_on => 'holidays'" };
        play.exec(&format!(
            "select sisyphus.schedule('{job}', '30 * * * *', 'true', timezone => 'UTC', ttl => '1 min'{except}{window})"
        ))
        .await;
    }
    play.pass_until("2026-03-03 01:00:00+00").await;
    assert_eq!(
        play.told().await,
        [
            "free 00:30:00 #0 expired: not started within 60 s: no active host in pool \"default\"",
            "one 00:30:00 #0 skipped ×24: left out by calendar \"holidays\"",
            "two 00:30:00 #0 skipped ×12: left out by calendar \"holidays\""
        ]
    );
}

#[tokio::test]
async fn upcoming_overview_explain_and_backfill_know_what_is_left_out() {
    let play = play("06:59:00").await;
    play.exec("select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', ttl => '1 h', except_on => 'holidays')")
        .await;
    play.exec("create temp table seen as select u.job, u.due_at from sisyphus.upcoming u").await;
    play.pass_until("08:30:00").await;
    assert_eq!(play.value::<i64>("select count(*) from sisyphus.upcoming", &[]).await, 0);
    let next = "select (next_due_at at time zone 'UTC')::text from sisyphus.overview";
    assert_eq!(play.value::<String>(next, &[]).await, "2026-03-05 07:00:00");
    let explain = "select sisyphus.explain('report', '2026-03-03 07:00+00')";
    assert_eq!(play.value::<String>(explain, &[]).await, "left out by calendar \"holidays\"");
    pass_by_hours(&play, "2026-03-03 07:00:00+00").await;
    let told: String = play.value(explain, &[]).await;
    assert!(told.contains("skipped at") && told.ends_with("left out by calendar \"holidays\""), "{told}");
    play.set_time("2026-03-06 12:00:00+00").await;
    play.exec("select sisyphus.backfill('report', '2026-03-02', '2026-03-06')").await;
    assert_eq!(
        play.lines("select to_char(due_at, 'DD') from sisyphus.run where origin = 'backfill' order by 1")
            .await,
        ["02", "05"]
    );
}

#[tokio::test]
async fn a_calendar_that_has_ended_or_is_empty_says_so_where_people_look() {
    let mut play = play("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('report', '0 7 * * *', 'true', timezone => 'UTC', only_on => 'holidays');
         select sisyphus.schedule('other', '0 7 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    let problem = "select problem from sisyphus.overview where job = 'report'";
    assert_eq!(play.value::<Option<String>>(problem, &[]).await, None);
    play.set_time("2026-03-09 08:00:00+00").await;
    play.client.notices();
    play.exec("set datestyle = 'German'; select sisyphus.alter_job('report', jitter => '1 s')").await;
    let ended = "calendar \"holidays\" ends with 2026-03-07 and was last refreshed at 2026-03-02T06:59:00Z";
    assert_eq!(play.client.notices(), [format!("job \"report\": {ended}")]);
    assert_eq!(play.value::<String>(problem, &[]).await, ended);
    assert_eq!(play.value::<String>("select problem from sisyphus.calendars", &[]).await, ended);
    assert_eq!(
        play.value::<String>("select sisyphus.explain('report', '2026-03-10 07:00+00')", &[]).await,
        "not in calendar \"holidays\", which holds nothing later"
    );
    play.exec("truncate public.holiday; select sisyphus.refresh_calendar('holidays')").await;
    assert_eq!(play.client.notices(), ["calendar \"holidays\" is empty"]);
    assert_eq!(play.value::<String>(problem, &[]).await, "calendar \"holidays\" is empty");
    assert_eq!(
        play.value::<Option<String>>("select problem from sisyphus.overview where job = 'other'", &[]).await,
        None
    );
}

#[tokio::test]
async fn a_definition_whose_calendars_leave_out_everything_gets_a_notice() {
    let mut play = play("06:59:00").await;
    play.client.notices();
    play.exec("select sisyphus.schedule('sundays', '0 7 * * SUN', 'true', only_on => 'holidays')").await;
    let told = play.client.notices();
    assert!(
        told.iter()
            .any(|n| n == "job \"sundays\": its calendars leave out every occurrence as far as they go"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_calendar_that_vanished_breaks_its_job_alone() {
    let play = play("06:59:00").await;
    play.exec(
        "select sisyphus.schedule('bad', '0 7 * * *', 'true', timezone => 'UTC', except_on => 'holidays');
         select sisyphus.schedule('good', '0 7 * * *', 'true', timezone => 'UTC')",
    )
    .await;
    play.tick().await;
    play.exec("delete from sisyphus.calendar").await;
    play.tick_at("06:59:50").await;
    assert_eq!(play.live().await, ["good 07:00:00 pending"]);
    assert_eq!(
        play.lines("select broken from sisyphus.job_state where broken is not null").await,
        ["calendar \"holidays\" does not exist (42704)"]
    );
}
