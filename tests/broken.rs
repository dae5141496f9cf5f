//! Jobs that cannot be planned, because their role, their time zone or their calendar has gone: they stop nobody, and
//! what they miss is told.

use crate::support::Play;

/// As dropped: roles belong to the whole server.
const ROLE_GOES: &str = "update sisyphus.job set owner = 'test_gone_owner' where name = 'bad'";
const ROLE_COMES: &str = "update sisyphus.job set owner = current_user where name = 'bad'";
/// As with the next start of a server whose tzdata is a newer one.
const ZONE_GOES: &str = "
    update sisyphus.job set timezone = 'Mars/Olympus' where name = 'bad';
    update sisyphus.job_definition set definition = definition || '{\"timezone\": \"Mars/Olympus\"}'
     where job_id = (select job_id from sisyphus.job where name = 'bad')";

async fn broken(play: &Play) -> Vec<String> {
    play.lines("select j.name || ': ' || s.broken from sisyphus.job_state s join sisyphus.job j using (job_id) where s.broken is not null")
        .await
}

#[tokio::test]
async fn what_was_due_while_a_job_was_broken_is_told_in_one_row() {
    for (mend, then) in [
        ("select sisyphus.alter_job('bad')", vec!["bad 07:30:00 pending"]),
        ("select sisyphus.schedule('bad', '5 * * * *', 'true', timezone => 'UTC')", vec![]),
        ("select sisyphus.unschedule('bad')", vec![]),
        ("select sisyphus.suspend('bad'); select sisyphus.resume('bad')", vec!["bad 07:30:00 pending"]),
    ] {
        let play = Play::at("06:49:00").await;
        play.exec("select sisyphus.schedule('bad', '*/10 * * * *', 'true', timezone => 'UTC')").await;
        play.pass_until("06:50:01").await;
        play.exec(ROLE_GOES).await;
        play.pass_until("07:25:00").await;
        play.exec(ROLE_COMES).await;
        play.exec(mend).await;
        play.pass_until("07:29:50").await;
        let told = play.told().await;
        assert!(told[0].starts_with("bad 06:50:00 #0 "), "{mend}: {told:?}");
        assert_eq!(
            told[1..],
            [
                "bad 07:00:00 #0 skipped ×3: the job was broken: role \"test_gone_owner\" does not exist (42704)"
            ],
            "{mend}"
        );
        assert_eq!(play.live().await, then, "{mend}");
        let seven = "select sisyphus.explain('bad', '2026-03-02 07:10+00') like '%one of 3 occurrences: the job was broken: %'";
        assert!(play.value::<bool>(seven, &[]).await, "{mend}");
    }
}

/// The first call mends it, and nobody ticks before the next ones.
#[tokio::test]
async fn what_was_due_between_the_mend_and_the_next_call_is_told_too() {
    let job = |minutes: i32| format!("select sisyphus.alter_job('bad', schedule => '*/{minutes} * * * *')");
    let mended =
        "bad 07:00:00 #0 skipped ×2: the job was broken: role \"test_gone_owner\" does not exist (42704)";
    for (calls, told, live) in [
        // A mend of what has been mended changes nothing.
        (
            vec!["select sisyphus.alter_job('bad')".to_owned()],
            vec![mended],
            vec!["bad 07:20:00 pending", "bad 07:30:00 pending"],
        ),
        (
            vec![job(4), job(6)],
            vec![
                mended,
                "bad 07:20:00 #0 cancelled: withdrawn by version 2 of the job before it was planned",
                "bad 07:28:00 #0 cancelled: withdrawn by version 3 of the job before it was planned",
            ],
            vec!["bad 07:30:00 pending"],
        ),
    ] {
        let play = Play::at("06:51:00").await;
        play.exec(
            "select sisyphus.schedule('bad', '*/10 * * * *', 'true', timezone => 'UTC', ttl => '1 day', overlap => 'allow')",
        )
        .await;
        play.tick().await;
        play.exec(ROLE_GOES).await;
        play.tick_at("06:59:50").await;
        play.set_time("07:15:00").await;
        play.exec(ROLE_COMES).await;
        play.exec("select sisyphus.alter_job('bad')").await;
        for (call, time) in calls.iter().zip(["07:27:00", "07:28:30"]) {
            play.set_time(time).await;
            play.exec(call).await;
        }
        play.tick_at("07:29:50").await;
        assert_eq!(play.told().await, told, "{calls:?}");
        assert_eq!(play.live().await, live, "{calls:?}");
    }
}

#[tokio::test]
async fn what_was_due_while_a_calendar_was_gone_is_told_and_not_made_up_for() {
    let play = Play::at("06:55:00").await;
    let calendar = "select sisyphus.create_calendar('holidays', 'select date ''2026-05-01''')";
    play.exec(calendar).await;
    play.exec(
        "select sisyphus.schedule('bad', '*/10 * * * *', 'true', timezone => 'UTC', except_on => 'holidays', ttl => '1 day')",
    )
    .await;
    play.tick().await;
    play.exec("delete from sisyphus.calendar").await;
    play.pass_until("07:25:00").await;
    play.exec(calendar).await;
    play.pass_until("07:29:50").await;
    assert_eq!(
        play.told().await,
        ["bad 07:00:00 #0 skipped ×3: the job was broken: calendar \"holidays\" does not exist (42704)"]
    );
    assert_eq!(play.live().await, ["bad 07:30:00 pending"]);
}

#[tokio::test]
async fn where_the_time_zone_has_gone_a_row_without_a_count_tells_from_when_to_when() {
    let play = Play::at("06:45:00").await;
    play.exec("select sisyphus.schedule('bad', '*/10 * * * *', 'true', timezone => 'Europe/Berlin')").await;
    play.exec("select sisyphus.schedule('hourly', 'every 10 min', 'true')").await;
    play.pass_until("06:50:01").await;
    play.exec(ZONE_GOES).await;
    play.pass_until("07:25:00").await;
    assert_eq!(broken(&play).await, ["bad: time zone \"Mars/Olympus\" not recognized (22023)"]);
    play.exec("select sisyphus.alter_job('bad', timezone => 'Europe/Amsterdam')").await;
    play.pass_until("07:29:50").await;
    assert!(broken(&play).await.is_empty());
    assert_eq!(
        play.lines(
            "select format('%s to %s, %s occurrences: %s', due_at at time zone 'UTC', last_due_at at time zone 'UTC', occurrences, reason)
               from sisyphus.history where state = 'skipped'"
        )
        .await,
        ["2026-03-02 06:50:00.000001 to 2026-03-02 07:25:00, 0 occurrences: the job was broken: time zone \"Mars/Olympus\" \
          not recognized (22023); how often it was due nobody can tell"]
    );
    let told = "select sisyphus.explain('bad', '2026-03-02 07:10+00') like '%: the job was broken: %'";
    assert!(play.value::<bool>(told, &[]).await);
    assert!(play.live().await.contains(&"bad 07:30:00 pending".to_owned()), "{:?}", play.live().await);
}

/// The zone of the version before it, that nobody had planned by since it went.
#[tokio::test]
async fn a_definition_is_not_broken_by_the_time_zone_that_it_replaces() {
    for before in [
        // It ends the suspension, which nobody can count.
        "select sisyphus.suspend('bad')",
        // It comes after 07:00 was due and before a tick could plan it.
        "select",
        // The row of today goes on until the evening.
        "select sisyphus.alter_job('bad', except_on => 'holidays')",
    ] {
        let play = Play::at("06:40:00").await;
        play.exec("select sisyphus.create_calendar('holidays', 'select date ''2026-03-02''')").await;
        for name in ["bad", "good"] {
            let job = format!(
                "select sisyphus.schedule('{name}', '0 * * * *', 'true', timezone => 'Europe/Berlin')"
            );
            play.exec(&job).await;
        }
        play.tick().await;
        play.exec(before).await;
        play.tick_at(if before == "select" { "06:59:40" } else { "06:59:50" }).await;
        play.exec(ZONE_GOES).await;
        play.set_time("07:00:05").await;
        play.exec("select sisyphus.alter_job('bad', timezone => 'UTC', schedule => '*/10 * * * *', reset => '{except_on}')")
            .await;
        play.tick().await;
        assert!(broken(&play).await.is_empty(), "{before}: {:?}", broken(&play).await);
        play.exec("select sisyphus.resume('bad')").await;
        play.tick_at("07:09:50").await;
        assert!(
            play.live().await.contains(&"bad 07:10:00 pending".to_owned()),
            "{before}: {:?}",
            play.live().await
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_breaks_those_whose_time_zone_has_gone_and_no_other() {
    let play = Play::at("06:59:50").await;
    for name in ["bad", "good"] {
        let job =
            format!("select sisyphus.schedule('{name}', '0 * * * *', 'true', timezone => 'Europe/Berlin')");
        play.exec(&job).await;
    }
    play.tick().await;
    play.exec(ZONE_GOES).await;
    play.tick_at("03:59:50").await;
    assert_eq!(broken(&play).await, ["bad: time zone \"Mars/Olympus\" not recognized"]);
    assert!(play.live().await.contains(&"good 04:00:00 waiting".to_owned()), "{:?}", play.live().await);
    play.exec("select sisyphus.alter_job('bad', timezone => 'UTC')").await;
    play.tick_at("04:59:50").await;
    assert!(broken(&play).await.is_empty(), "{:?}", broken(&play).await);
    assert!(play.live().await.contains(&"bad 05:00:00 waiting".to_owned()), "{:?}", play.live().await);
}
