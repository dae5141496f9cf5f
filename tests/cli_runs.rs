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
    run(
        &play,
        &["submit", "--at", "2199-01-01 07:00+00", "pg_dump jobs > /backup/before-the-great-migration.sql"],
    )
    .success();
    let next = run(&play, &["next"]).success();
    assert!(
        next.lines().nth(2).is_some_and(|line| line.trim_start().starts_with("pg_dump jobs > /backup/")),
        "{next}"
    );
    run(&play, &["cancel", "1"]).success();
    run(&play, &["submit", "pg_dump jobs > /backup/before-the-great-migration.sql"]).success();
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    for state in ["running", "succeeded"] {
        let runs = run(&play, &["runs"]).success();
        assert!(runs.contains("pg_dump jobs > /backup/before-…") && runs.contains(state), "{runs}");
        play.finish(guardian, &claim, 0).await;
    }
    let shown = run(&play, &["show", "2"]).success();
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

#[tokio::test]
async fn a_suspended_job_does_not_look_as_if_it_ran() {
    let play = play().await;
    run(&play, &["schedule", "job", "0 7 * * *", "true", "--timezone", "UTC"]).success();
    let said = run(&play, &["suspend", "job", "--until", "2198-12-31 12:00+00", "--reason", "moving"]);
    assert_eq!(said.stderr, "suspended job until 2198-12-31 12:00:00+00:00\n");
    let said = run(&play, &["suspend", "job", "--until", "2199-01-01 12:00+00", "--reason", "moving"]);
    assert_eq!(said.stderr, "job was suspended before, now until 2199-01-01 12:00:00+00:00\n");
    let next = run(&play, &["next", "job", "-n", "1"]);
    let told = "job is suspended until 2199-01-01 12:00:00+00:00 (moving); what is due before does not run\n";
    assert_eq!(next.stderr, told);
    assert!(next.stdout.contains("2199-01-02 07:00:00"), "{}", next.stdout);
    let shown = run(&play, &["show", "job"]).success();
    assert!(shown.contains("\nsuspended until 2199-01-01 12:00:00+00:00 (moving); "), "{shown}");
    assert_eq!(property(&shown, "suspended_until"), "2199-01-01 12:00:00+00:00 (2199-01-01)");
    run(&play, &["suspend", "job"]).success();
    let next = run(&play, &["next", "job", "-n", "1"]);
    assert_eq!(next.stderr, "job is suspended; these do not run\n");
    let altered = run(&play, &["alter", "job", "--retries", "1"]);
    assert_eq!(altered.stderr, "altered job; it is suspended\n");
}

#[tokio::test]
async fn a_job_that_runs_on_demand_says_so_when_asked_for_what_is_next() {
    let play = play().await;
    run(&play, &["schedule", "slow", "-", "true"]).success();
    assert_eq!(run(&play, &["next", "slow"]).stderr, "slow: it runs on demand: sisyphus run slow\n");
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_run_is_told_by_its_state_and_fails() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow')").await;
    let (first, second) = (play.run_now("job").await, play.run_now("job").await);
    assert_eq!((first, second), (1, 2));
    run(&play, &["pause", "1"]).failure(1, &["error: run 1 has not started: it is waiting\n"]);
    run(&play, &["cancel", "2"]).success();
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.start(guardian, &claim).await;
    run(&play, &["cancel", "1", "2"]).failure(
        1,
        &["error: run 1 has started; run 2 had ended: cancelled\n", "hint: sisyphus terminate 1 ends it"],
    );
    play.finish(guardian, &claim, 3).await;
    for word in ["terminate", "cancel", "pause", "unpause"] {
        run(&play, &[word, "1"]).failure(1, &["error: run 1 had ended: failed\n"]);
    }
}

#[tokio::test]
async fn a_filter_that_nothing_matches_is_told_from_one_that_names_nothing() {
    let play = play().await;
    play.guardian("web1", 4).await;
    run(&play, &["pool", "create", "empty"]).success();
    run(&play, &["schedule", "job", "-", "true"]).success();
    for (words, said) in [
        (&["jobs", "--pool", "empty"][..], "no job matches\n"),
        (&["jobs", "--state", "broken"], "no job matches\n"),
        (&["runs", "--host", "web1"], "no run matches\n"),
        (&["runs"], "no runs\n"),
        (&["hosts", "--pool", "empty"], "no host of pool empty has registered\n"),
    ] {
        let asked = run(&play, words);
        assert_eq!(asked.stderr, said, "{words:?}");
        asked.success();
    }
    for (words, code, texts) in [
        (
            &["jobs", "--pool", "foo"][..],
            1,
            ["error: pool \"foo\" does not exist\n", "hint: there is default, empty\n"],
        ),
        (
            &["hosts", "--pool", "foo"],
            1,
            ["error: pool \"foo\" does not exist\n", "hint: there is default, empty\n"],
        ),
        (&["runs", "--host", "foo"], 1, ["error: host \"foo\" does not exist\n", "hint: there is web1\n"]),
        (
            &["runs", "--state", "bogus"],
            2,
            ["invalid value 'bogus'", "waiting, pending, claimed, running, succeeded"],
        ),
        (&["jobs", "--state", "bogus"], 2, ["invalid value 'bogus'", "active, suspended, broken"]),
    ] {
        run(&play, words).failure(code, &texts);
    }
}

#[tokio::test]
async fn a_pool_is_read_back_as_it_was_made() {
    let play = play().await;
    run(&play, &["pool", "create", "web", "web1", "web9", "--description", "front ends"]).success();
    run(&play, &["pool", "create", "gpu", "gpu1", "--label", "gpu=yes"]).success();
    play.guardian("web1", 4).await;
    let shown = run(&play, &["pool", "show", "web"]).success();
    for (key, value) in [("description", "front ends"), ("listed", "web1, web9"), ("members", "web1")] {
        assert_eq!(property(&shown, key), value, "{shown}");
    }
    let shown = run(&play, &["pool", "show", "gpu"]).success();
    for (key, value) in [("listed", "gpu1"), ("selector", r#"{"gpu":"yes"}"#)] {
        assert_eq!(property(&shown, key), value, "{shown}");
    }
    run(&play, &["pool", "show", "wbe"])
        .failure(1, &["pool \"wbe\" does not exist", "hint: there is default, gpu, web"]);
}

#[tokio::test]
async fn a_run_that_does_not_exist_is_an_error_for_programs_too_and_may_be_meant_as_a_job() {
    let play = play().await;
    for words in [&["show", "4711"][..], &["show", "4711", "--format", "json"], &["logs", "4711"]] {
        let unknown = run(&play, words);
        assert_eq!(unknown.stdout, "");
        assert!(!unknown.stderr.contains("--job"), "{}", unknown.stderr);
        unknown.failure(1, &["error: run 4711 does not exist"]);
    }
    run(&play, &["schedule", "4711", "-", "true"]).success();
    for verb in ["show", "logs"] {
        let hint = format!("hint: sisyphus {verb} 4711 --job takes it for the name of a job");
        run(&play, &[verb, "4711"]).failure(1, &["error: run 4711 does not exist", &hint]);
    }
}

/// Who starts something by hand at night wants to know at once that nobody will run it.
#[tokio::test]
async fn what_is_asked_of_a_pool_without_an_active_host_is_made_with_a_notice() {
    let play = play().await;
    let notice = "pool \"default\" has no active host now";
    play.exec(
        "select sisyphus.schedule('job', '@hourly', 'true', timezone => 'UTC', starts_at => '2020-01-01')",
    )
    .await;
    for words in [&["run", "job"][..], &["submit", "true"], &["backfill", "job", "2020-01-01", "2020-01-02"]]
    {
        let asked = run(&play, words);
        assert!(asked.stderr.contains(notice), "{words:?}: {}", asked.stderr);
        assert!(!asked.success().is_empty());
    }
    play.guardian("web1", 4).await;
    for words in [&["run", "job"][..], &["submit", "true", "--host", "web1"]] {
        let asked = run(&play, words);
        assert_eq!(asked.stderr, "", "{words:?}");
        asked.success();
    }
    let other = play.guardian("web2", 4).await;
    play.client.execute("select sisyphus.sign_off($1)", &[&other]).await.unwrap();
    for words in [&["run", "job", "--host", "web2"][..], &["submit", "true", "--host", "web2"]] {
        let asked = run(&play, words);
        assert!(
            asked.stderr.starts_with("notice: host \"web2\" is not active now\nhint: "),
            "{}",
            asked.stderr
        );
        asked.success();
    }
}

/// A host of `guardian --once` is signed off most of the time, and takes what is asked for at its next pass.
#[tokio::test]
async fn a_host_that_comes_by_now_and_then_is_none_that_is_missing() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    play.exec("update sisyphus.guardian set periodic = true").await;
    play.client.execute("select sisyphus.sign_off($1)", &[&guardian]).await.unwrap();
    let asked = run(&play, &["submit", "true"]);
    assert_eq!(asked.stderr, "");
    asked.success();
}
