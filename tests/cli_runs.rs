//! `runs`, `show RUN_ID` and what is asked of single runs, against a real schema.

use crate::support::{Play, play, sisyphus as run};

/// A property of the first block that `show` prints.
fn property(shown: &str, key: &str) -> String {
    let of_key = |line: &str| {
        line.split_once(' ').filter(|(word, _)| *word == key).map(|(_, value)| value.trim().to_owned())
    };
    shown.lines().find_map(of_key).unwrap_or_else(|| panic!("{key} in\n{shown}"))
}

async fn quick_to_retry(play: &Play) -> i64 {
    play.exec("select sisyphus.schedule('job', null, 'false', retries => 1, retry_delay => '1 h')").await;
    play.run_now("job").await
}

#[tokio::test]
async fn a_run_of_next_month_is_seen_and_can_be_cancelled() {
    let play = play().await;
    play.guardian("web1", 4).await;
    let id = run(&play, &["submit", "--at", "2199-01-01 07:00+00", "--", "prog", "x"]).success();
    let id = id.trim();
    let runs = run(&play, &["runs", "--live"]).success();
    for text in ["waiting", "2199-01-01", "not yet due"] {
        assert!(runs.contains(text), "{text} in\n{runs}");
    }
    let next = run(&play, &["next"]).success();
    assert_eq!(next.lines().nth(2).and_then(|line| line.split_whitespace().last()), Some(id), "{next}");
    let shown = run(&play, &["show", id]).success();
    for (key, value) in [
        ("state", "waiting"),
        ("pool", "default"),
        ("owner", "postgres"),
        ("due_at", "2199-01-01 07:00:00+00:00 (2199-01-01)"),
        ("command", r#"["prog", "x"]"#),
    ] {
        assert_eq!(property(&shown, key), value, "{key} in\n{shown}");
    }
    run(&play, &["cancel", id]).success();
    play.tick().await;
    assert!(run(&play, &["runs", "--live"]).success().is_empty());
}

#[tokio::test]
async fn a_retry_that_waits_is_seen_with_what_it_waits_for() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    let run_id = quick_to_retry(&play).await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 1).await;
    let runs = run(&play, &["runs", "job"]).success();
    let waiting = runs.lines().nth(2).unwrap_or_default();
    assert!(waiting.contains("waiting") && waiting.contains("attempt 2 follows in "), "{runs}");
    let shown = run(&play, &["show", &run_id.to_string()]).success();
    for (key, value) in [("job", "job"), ("state", "waiting"), ("command", "false"), ("exit_code", "1")] {
        assert_eq!(property(&shown, key), value, "{key} in\n{shown}");
    }
    let due: f64 = play
        .value(
            "select extract(epoch from due_at - now())::float8 from sisyphus.upcoming where run_id = $1",
            &[&run_id],
        )
        .await;
    assert!((3500.0..=3600.0).contains(&due), "a retry is due when its delay has passed, in {due} s");
}

#[tokio::test]
async fn what_was_submitted_is_told_by_its_command() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    run(&play, &["submit", "pg_dump jobs > /backup/before-the-great-migration.sql"]).success();
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    for state in ["running", "succeeded"] {
        let runs = run(&play, &["runs"]).success();
        assert!(runs.contains("pg_dump jobs > /backup/before-…") && runs.contains(state), "{runs}");
        play.finish(guardian, &claim, 0).await;
    }
    let shown = run(&play, &["show", "1"]).success();
    assert_eq!(property(&shown, "command"), "pg_dump jobs > /backup/before-the-great-migration.sql");
}

#[tokio::test]
async fn a_paused_run_is_told_from_one_that_runs() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    play.run_now("job").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    play.exec("update sisyphus.run set paused_at = '2026-01-02 03:04:05+00'").await;
    let runs = run(&play, &["runs", "--live"]).success();
    assert!(
        runs.lines().nth(2).is_some_and(|line| line.ends_with("paused since 2026-01-02T03:04:05Z")),
        "{runs}"
    );
}
