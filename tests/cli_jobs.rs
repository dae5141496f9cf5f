//! The commands of people against a real schema; a guardian is played by calls.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Play, command, finish, on_terminal, play, sisyphus as run, spawn, wait_until};

fn json(play: &Play, words: &[&str]) -> Value {
    let words = [words, &["--format", "json"]].concat();
    serde_json::from_str(&run(play, &words).success()).unwrap()
}

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// Runs what is due, as a guardian would, and reports it.
async fn work(play: &Play, guardian: i64, exit_code: i32) {
    play.tick().await;
    for claim in play.claim(guardian, 10).await {
        let finish = "select answer from sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint],
             exit_codes => array[$4::int], started_at => array[now() - interval '2 s'],
             finished_at => array[now()], stdouts => array['one\ntwo\n'], stderrs => array['oh\n'])";
        let answer: String =
            play.value(finish, &[&guardian, &claim.run_id, &claim.claim_no, &exit_code]).await;
        assert_eq!(answer, "accepted");
    }
}

#[tokio::test]
async fn a_job_is_scheduled_seen_run_and_removed() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    let made = run(&play, &["schedule", "nightly", "30 2 * * *", "pg_dump jobs", "--ttl", "2h"]);
    assert!(made.stderr.starts_with("scheduled nightly; next run in "), "{}", made.stderr);
    assert_eq!(made.success(), "", "stdout is for data");

    let listed = run(&play, &["jobs"]).success();
    let line = listed.lines().nth(2).unwrap();
    assert_eq!(cells(line)[..4], ["nightly", "active", "30 2 * * *", "default"], "{listed}");
    assert!(cells(line)[4].starts_with("in "), "{listed}");

    let run_id = run(&play, &["run", "nightly"]).success();
    assert_eq!(run_id, "1\n");
    let why = run(&play, &["explain", "1"]).success();
    assert!(why.starts_with("waiting: "), "{why}");
    let why = run(&play, &["explain", "nightly", "2030-01-01 02:31+00"]).success();
    assert!(why.starts_with("not an occurrence of \"30 2 * * *\""), "{why}");
    let waiting = run(&play, &["runs"]).success();
    assert_eq!(cells(waiting.lines().nth(2).unwrap())[..3], ["1", "0", "nightly"], "{waiting}");
    work(&play, guardian, 0).await;

    let runs = run(&play, &["runs", "nightly"]).success();
    let ended = cells(runs.lines().nth(2).unwrap());
    assert_eq!(ended[..5], ["1", "1", "nightly", "web1", "succeeded"], "{runs}");
    assert!(ended[6].ends_with(" s"), "{runs}");
    assert_eq!(ended[7..], ["0", "exit code 0"], "{runs}");
    let logs = run(&play, &["logs", "nightly"]);
    let told = "run 1 succeeded on web1: exit code 0\noh\n";
    assert_eq!((logs.stderr.as_str(), logs.stdout.as_str()), (told, "one\ntwo\n"));
    assert_eq!(run(&play, &["logs", "1", "--only", "stderr"]).success(), "oh\n");

    let shown = run(&play, &["show", "nightly"]).success();
    for text in ["command                pg_dump jobs", "ttl                    02:00:00", "succeeded"] {
        assert!(shown.contains(text), "{text} in\n{shown}");
    }
    let shown = run(&play, &["show", "1"]).success();
    assert!(shown.starts_with("run 1 succeeded on web1 at "), "{shown}");
    assert!(shown.contains("exit_code           0\n"), "{shown}");

    assert_eq!(run(&play, &["unschedule", "nightly"]).stderr, "unscheduled nightly\n");
    assert_eq!(run(&play, &["unschedule", "nightly"]).stderr, "nightly was unscheduled before\n");
    assert_eq!(run(&play, &["runs", "nightly"]).success().lines().count(), 3, "the history outlives the job");
    let none = run(&play, &["jobs"]);
    assert!(none.stderr.starts_with("no jobs; "), "{}", none.stderr);
    assert_eq!(none.success(), "");
}

#[tokio::test]
async fn every_flag_of_a_job_reaches_the_definition() {
    let play = play().await;
    run(&play, &["pool", "create", "web", "web1"]).success();
    let flags = "schedule full @daily --timezone Europe/Amsterdam --ttl 10min --missed all --jitter 5s \
         --starts-at 2026-01-01T00:00Z --ends-at 2199-01-01T00:00Z --pool web --run-on all --priority -3 \
         --overlap queue --max-runtime 1h --grace 3s --leftovers leave --cwd /tmp --limit nice=5 --retries 2 \
         --retry-delay 1s --retry-backoff 1.5 --retry-max-delay 1min --retry-on-lost --success-exit-codes 0,3 \
         --no-retry-exit-codes 4 --tag a --tag b";
    let mut words: Vec<&str> = flags.split_whitespace().collect();
    words.extend(["--payload", r#"{"n": 1}"#, "--env", "A=b=c", "--env", "B=", "--description", "all of it"]);
    words.extend(["--retention", "success=7 days", "--", "prog", "an argument"]);
    let made = run(&play, &words);
    assert!(made.stderr.ends_with("scheduled full; no run is to come as things are\n"), "{}", made.stderr);
    made.success();
    let job = json(&play, &["show", "full"]);
    for (key, value) in [
        ("schedule", "@daily".into()),
        ("timezone", "Europe/Amsterdam".into()),
        ("argv", serde_json::json!(["prog", "an argument"])),
        ("command", Value::Null),
        ("pool", "web".into()),
        ("run_on", "all".into()),
        ("ttl", "00:10:00".into()),
        ("missed", "all".into()),
        ("overlap", "queue".into()),
        ("max_runtime", "01:00:00".into()),
        ("grace", "00:00:03".into()),
        ("retries", 2.into()),
        ("retry_delay", "00:00:01".into()),
        ("retry_backoff", 1.5.into()),
        ("retry_max_delay", "00:01:00".into()),
        ("retry_on_lost", true.into()),
        ("success_exit_codes", serde_json::json!([0, 3])),
        ("no_retry_exit_codes", serde_json::json!([4])),
        ("priority", (-3).into()),
        ("jitter", "00:00:05".into()),
        ("payload", serde_json::json!({"n": 1})),
        ("env", serde_json::json!({"A": "b=c", "B": ""})),
        ("cwd", "/tmp".into()),
        ("limits", serde_json::json!({"nice": 5})),
        ("leftovers", "leave".into()),
        ("retention", serde_json::json!({"success": "7 days"})),
        ("description", "all of it".into()),
        ("tags", serde_json::json!(["a", "b"])),
    ] {
        assert_eq!(job[key], value, "{key}");
    }

    run(&play, &["alter", "full", "--ttl", "1h", "--reset", "ttl"])
        .failure(1, &["reset", "hint: Give it a value"]);
    run(
        &play,
        &[
            "alter",
            "full",
            "--retries",
            "5",
            "--retry-on-lost=false",
            "--reset",
            "ttl,missed",
            "--schedule",
            "-",
        ],
    )
    .success();
    let job = json(&play, &["show", "full"]);
    assert_eq!(job["retries"], 5);
    assert_eq!(job["missed"], "latest");
    assert_eq!(job["schedule"], Value::Null);
    assert_eq!(job["retry_on_lost"], false);
    assert_eq!(job["overlap"], "queue", "what is not given stays");
}

#[tokio::test]
async fn run_wait_ends_as_the_run_does() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    run(&play, &["schedule", "job", "-", "true"]).success();
    for (exit_code, code) in [(0, 0), (3, 1)] {
        let mut command = command(&["run", "job", "--wait"]);
        command.env("DATABASE_URL", play.db.url());
        let waiting = spawn(command);
        wait_until("the run is asked for", Duration::from_secs(10), async || {
            let runs: i64 = play.value("select count(*) from sisyphus.run", &[]).await;
            if runs == 1 { Ok(()) } else { Err(format!("{runs} runs")) }
        })
        .await;
        work(&play, guardian, exit_code).await;
        let ended = waiting.wait();
        assert_eq!(ended.code(), Some(code), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.trim().parse::<i64>().is_ok(), "{}", ended.stdout);
        let told =
            if code == 0 { "succeeded on web1: exit code 0" } else { "did not succeed\nhint: sisyphus logs" };
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn run_wait_says_what_the_run_waits_for() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.exec("select sisyphus.create_pool('empty')").await;
    run(&play, &["schedule", "job", "-", "true", "--pool", "empty"]).success();
    let waiting = play.spawn(&["run", "job", "--wait"]);
    wait_until("it says what it waits for", Duration::from_secs(20), async || {
        play.tick().await;
        let told = waiting.stderr_so_far();
        if told.contains("run 1 pending: no active host in pool \"empty\"\n") { Ok(()) } else { Err(told) }
    })
    .await;
    run(&play, &["cancel", "1"]).success();
    play.tick().await;
    let ended = waiting.wait();
    assert_eq!(ended.stderr.matches("run 1 pending: no active host").count(), 1, "{}", ended.stderr);
    ended.failure(1, &["cancelled"]);
}

#[tokio::test]
async fn a_command_that_is_shown_can_be_typed_whatever_the_name() {
    let play = play().await;
    for (name, word) in [("año-2.x", "año-2.x"), ("Bob's job", r"'Bob'\''s job'"), ("a;b", "'a;b'")] {
        let made = run(&play, &["schedule", name, "-", "true"]);
        assert_eq!(
            made.stderr.lines().last(),
            Some(&*format!("scheduled {name}; it runs on demand: sisyphus run {word}"))
        );
        run(&play, &["logs", name]).failure(1, &[&format!("hint: sisyphus run {word} --wait runs it now")]);
        run(&play, &["explain", name]).failure(2, &[&format!("hint: sisyphus runs {word} lists the runs")]);
    }
}

#[tokio::test]
async fn a_command_runs_once_without_a_job() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    let flags = "--host web1 --ttl 1h --priority 2 --max-runtime 1min --env A=b --limit nice=5 -- prog x";
    let words: Vec<&str> = ["submit"].into_iter().chain(flags.split_whitespace()).collect();
    assert_eq!(run(&play, &words).success(), "1\n");
    let spec: String = play.value("select spec::text from sisyphus.run", &[]).await;
    let spec: Value = serde_json::from_str(&spec).unwrap();
    assert_eq!(spec["argv"], serde_json::json!(["prog", "x"]));
    assert_eq!(
        (&spec["env"], &spec["limits"]),
        (&serde_json::json!({"A": "b"}), &serde_json::json!({"nice": 5}))
    );
    work(&play, guardian, 0).await;
    let runs = run(&play, &["runs"]).success();
    assert!(runs.contains("succeeded"), "{runs}");
    run(&play, &["submit", "true", "--host", "web9"]).failure(1, &["host \"web9\" does not exist", "hint: "]);
    run(&play, &["submit"]).failure(2, &["<COMMAND>"]);
}

#[tokio::test]
async fn a_job_runs_for_each_occurrence_of_the_past_that_is_asked_for() {
    let play = play().await;
    run(&play, &["schedule", "report", "0 6 * * *", "true"]).success();
    let ids = run(&play, &["backfill", "report", "2026-01-01T00:00Z", "2026-01-04T00:00Z"]).success();
    assert_eq!(ids, "1\n2\n3\n");
    let due: Vec<String> = play
        .client
        .query("select nominal_at::date::text from sisyphus.run order by run_id", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(due, ["2026-01-01", "2026-01-02", "2026-01-03"]);
    let none = run(&play, &["backfill", "report", "2026-01-01T07:00Z", "2026-01-01T08:00Z"]);
    assert!(none.stderr.ends_with("no occurrence was due then: nothing to run\n"), "{}", none.stderr);
    assert_eq!(none.success(), "");
    run(&play, &["backfill", "reprot", "2026-01-01", "2026-01-04"])
        .failure(1, &["job \"reprot\" does not exist", "Did you mean \"report\"?"]);
}

#[tokio::test]
async fn a_host_that_is_gone_is_forgotten() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    run(&play, &["forget", "web1"]).failure(1, &["host \"web1\" has a living guardian", "hint: "]);
    play.client.execute("select sisyphus.sign_off($1)", &[&guardian]).await.unwrap();
    assert_eq!(run(&play, &["forget", "web1"]).stderr, "forgot web1\n");
    let hosts = run(&play, &["hosts"]);
    assert!(hosts.stderr.starts_with("no host has registered"), "{}", hosts.stderr);
}

#[tokio::test]
async fn what_is_asked_of_jobs_and_runs_is_told_in_a_word() {
    let play = play().await;
    play.guardian("web1", 4).await;
    run(&play, &["schedule", "job", "@daily", "true"]).success();
    for (words, said) in [
        (&["suspend", "job", "--reason", "moving"][..], "suspended job\n"),
        (&["suspend", "job"], "job was suspended before\n"),
        (&["resume", "job"], "resumed job\n"),
        (&["resume", "job"], "job was not suspended\n"),
        (&["suspend", "--all"], "suspended 1 job\n"),
        (&["resume", "--all", "--pool", "default"], "resumed 1 job\n"),
        (&["cancel", "1"], "asked to withdraw run 1\n"),
        (&["drain", "web1"], "web1 finishes what it runs and takes nothing new\n"),
        (&["activate", "web1"], "web1 takes runs\n"),
        (&["slots", "web1", "8"], "web1 takes 8 runs at once\n"),
        (
            &["slots", "web1", "-"],
            "web1 takes as many runs at once as its guardian says when it starts next\n",
        ),
        (&["pool", "create", "web", "web1"], "created pool web\n"),
        (&["pool", "add", "web", "web1"], "web1 was listed in pool web\n"),
        (&["pool", "remove", "web", "web1"], "removed web1 from pool web\n"),
        (&["pool", "remove", "web", "web1"], "web1 was not listed in pool web\n"),
        (&["pool", "drop", "web"], "dropped pool web\n"),
    ] {
        if words[0] == "cancel" {
            play.run_now("job").await;
        }
        let done = run(&play, words);
        assert_eq!(done.stderr, said, "{words:?}");
        assert_eq!(done.success(), "", "{words:?}");
    }
    play.tick().await;
}

#[tokio::test]
async fn what_the_database_refuses_ends_with_1_and_its_hint() {
    let play = play().await;
    run(&play, &["schedule", "nightly", "@daily", "true"]).success();
    for (words, texts) in [
        (
            &["run", "nigthly"][..],
            ["error: job \"nigthly\" does not exist", "hint: Did you mean \"nightly\"?"],
        ),
        (&["show", "nigthly"], ["error: job \"nigthly\" does not exist", "hint: Did you mean \"nightly\"?"]),
        (&["logs", "nigthly"], ["error: job \"nigthly\" does not exist", "hint: Did you mean \"nightly\"?"]),
        (
            &["logs", "nightly"],
            ["error: no run of job \"nightly\" has ended yet", "hint: sisyphus run nightly"],
        ),
        (&["runs", "nigthly"], ["error: job \"nigthly\" does not exist", "hint: Did you mean \"nightly\"?"]),
        (&["explain", "4711"], ["error: run 4711 does not exist", "hint: "]),
        (&["show", "4711"], ["error: run 4711 does not exist", "hint: "]),
        (&["schedule", "x", "0-24 * * *", "true"], ["error: schedule \"0-24 * * *\" has 4 fields", "hint: "]),
        (&["schedule", "x", "* 24 * * *", "true"], ["24 is out of range", "hint: Did you mean"]),
        (
            &["schedule", "x", "@daily", "true", "--timezone", "Europe/Amsterdm"],
            ["time zone", "Europe/Amsterdam"],
        ),
        (
            &["schedule", "x", "@daily", "true", "--pool", "wbe"],
            ["error: pool \"wbe\" does not exist", "hint: "],
        ),
        (
            &["schedule", "x", "@daily", "true", "--ttl", "soon"],
            [
                "invalid input syntax for type interval: \"soon\"",
                "hint: --ttl takes a length of time such as 90s",
            ],
        ),
        (
            &["submit", "true", "--grace", "5x"],
            ["type interval: \"5x\"", "hint: --grace takes a length of time"],
        ),
        (&["schedule", "x", "@daily", "true", "--ttl", "-5min"], ["ttl", "hint: "]),
        (&["schedule", "x", "@daily", "true", "--retries", "-1"], ["retries", "hint: "]),
        (
            &["run", "nightly", "--at", "noonish"],
            ["\"noonish\"", "hint: --at takes a time such as '2030-01-31 07:00'"],
        ),
        (&["suspend", "nightly", "--until", "noonish"], ["\"noonish\"", "hint: --until takes a time"]),
        (
            &["backfill", "nightly", "2030-13-01", "2030-01-02"],
            ["\"2030-13-01\"", "hint: since and until take a time"],
        ),
        (&["run", "wildly"], ["error: job \"wildly\" does not exist", "hint: "]),
        (
            &["schedule", "x", "@daily", "true", "--payload", "{"],
            ["invalid input syntax for type json", "hint: --payload takes JSON such as"],
        ),
        (
            &["schedule", "x", "@daily", "true", "--fenced", "--grace", "1 min"],
            ["fenced needs a shorter grace", "hint: "],
        ),
        (&["drain", "web1"], ["error: host \"web1\" does not exist", "hint: "]),
        (&["pool", "drop", "default"], ["error: pool \"default\" cannot be dropped", "hint: "]),
    ] {
        run(&play, words).failure(1, &texts);
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_so() {
    let play = play().await;
    run(&play, &["schedule", "nightly", "@daily", "true"]).success();
    drop(play.db.login("test_viewer", &["sisyphus_viewer"]).await);
    let mut viewer = command(&["suspend", "nightly"]);
    viewer.env("DATABASE_URL", play.db.url_as("test_viewer"));
    let roles =
        "hint: an admin grants roles: sisyphus_viewer, sisyphus_operator, sisyphus_author, sisyphus_admin";
    finish(viewer).failure(1, &["permission denied for function suspend", roles]);
    for (words, told) in [(&["jobs"][..], "nightly"), (&["show", "nightly"], "  for role postgres to see\n")]
    {
        let mut viewer = command(words);
        viewer.env("DATABASE_URL", play.db.url_as("test_viewer"));
        let shown = finish(viewer).success();
        assert!(shown.contains(told), "{shown}");
    }
}

#[tokio::test]
async fn what_is_shown_can_be_told_apart_and_what_is_hinted_can_be_typed() {
    let play = play().await;
    run(&play, &["schedule", "job", "-", "--", "/bin/echo", "", "a\nb", "say \"x\""]).success();
    let shown = run(&play, &["show", "job"]).success();
    assert!(shown.contains(r#"["/bin/echo","","a\nb","say \"x\""]"#), "{shown}");
    run(&play, &["explain", "job"])
        .failure(2, &["sisyphus runs job lists", "sisyphus explain job TIMESTAMP"]);
    for words in [&["next", "-n", "0"][..], &["runs", "-n", "0"]] {
        run(&play, words).failure(2, &["0 is not in 1.."]);
    }
}

#[tokio::test]
async fn a_program_gets_one_line_a_row_and_all_of_each_cell() {
    let play = play().await;
    let guardian = play.guardian("a-host-with-a-rather-long-name.example.org", 4).await;
    let name = "a job with a name that is much longer than any table has room for, and then some more words";
    let schedule = "0,5,10,15,20,25,30,35,40,45,50,55 0-23 1-31 * *";
    run(&play, &["schedule", name, schedule, "true"]).success();
    run(&play, &["run", name]).success();
    work(&play, guardian, 3).await;
    for (words, rows) in [(&["jobs"][..], 1), (&["runs", "--failed"], 1), (&["next", "-n", "3"], 3)] {
        let table = run(&play, words).success();
        assert_eq!(table.lines().count(), rows + 2, "{table}");
        assert!(table.lines().skip(2).all(|line| line.contains(name)), "{table}");
    }
    assert!(run(&play, &["jobs"]).success().contains(schedule));
}

#[tokio::test]
async fn on_a_terminal_prose_is_cut_and_names_are_not() {
    let play = play().await;
    let name = "warehouse-load-orders-hourly-eu-west";
    run(&play, &["schedule", name, "every 5 seconds", "true"]).success();
    run(&play, &["schedule", "other", "0,5,10,15,20,25,30,35,40,45,50,55 0-23 1-31 * *", "true"]).success();
    let mut command = command(&["jobs"]);
    command.env("DATABASE_URL", play.db.url());
    let table = on_terminal(command, 24, 120);
    assert!(table.contains(name) && table.contains("every 5 s") && table.contains("0,5,10,15,"), "{table}");
    assert!(table.contains('…') && table.lines().all(|line| line.chars().count() <= 120), "{table}");
}

/// Names that `import crontab` makes have up to 48 characters: of wrapped lines nobody can read which is which.
#[tokio::test]
async fn a_narrow_terminal_gets_the_columns_that_matter_most() {
    let play = play().await;
    let name = "pg_dump-Fc-f-backup-shop.dump-shop-this-host-too";
    run(&play, &["schedule", name, "every 5 seconds", "true"]).success();
    run(&play, &["run", name]).success();
    for (words, kept, left_out) in [
        (&["jobs"][..], &["state", "schedule", "next", "last"][..], "ok"),
        (&["runs"], &["run", "host", "state", "due", "reason"], "exit"),
    ] {
        let mut asked = command(words);
        asked.env("DATABASE_URL", play.db.url());
        let table = on_terminal(asked, 24, 100);
        assert!(table.contains(name) && table.lines().all(|line| line.chars().count() <= 100), "{table}");
        let headings = table.lines().next().unwrap();
        assert!(kept.iter().all(|heading| headings.contains(heading)), "{table}");
        assert!(!headings.contains(left_out), "{table}");
        assert!(run(&play, words).success().contains(left_out));
    }
}

#[tokio::test]
async fn programs_get_arrays_of_objects_even_of_nothing() {
    let play = play().await;
    for words in [&["jobs"][..], &["runs"], &["hosts"], &["next"]] {
        assert_eq!(json(&play, words), serde_json::json!([]), "{words:?}");
    }
    play.guardian("web1", 4).await;
    run(&play, &["schedule", "nightly", "@daily", "true"]).success();
    assert_eq!(json(&play, &["jobs"])[0]["next_due_at"].as_str().unwrap().len(), 25);
    assert_eq!(json(&play, &["hosts"])[0]["pools"], serde_json::json!(["default"]));
    assert_eq!(json(&play, &["pool", "list"])[0]["pool"], "default");
    assert_eq!(json(&play, &["next", "nightly", "-n", "2"]).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_schedule_can_be_tried_without_a_job() {
    let play = play().await;
    let tried = run(&play, &["next", "--schedule", "0 9 * * MON#1", "--timezone", "Asia/Tokyo", "-n", "2"]);
    assert!(tried.stderr.contains("first Monday"), "{}", tried.stderr);
    let table = tried.success();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.lines().skip(2).all(|line| line.ends_with(" 09:00:00")), "{table}");
}

#[tokio::test]
async fn a_calendar_is_made_seen_refreshed_and_dropped() {
    let play = play().await;
    let made = run(&play, &["calendar", "create", "holidays", "values (date '2040-12-25'), ('2040-12-26')"]);
    assert_eq!((made.stderr.as_str(), made.code()), ("created calendar holidays: 1 range\n", Some(0)));
    run(&play, &["schedule", "job", "@daily", "true", "--except-on", "holidays"]).success();
    let listed = run(&play, &["calendar", "list"]).success();
    let line = cells(listed.lines().nth(2).unwrap());
    assert_eq!(line[..4], ["holidays", "1", "2040-12-25 00:00:00", "2040-12-27 00:00:00"], "{listed}");
    assert!(line.contains(&"job"), "{listed}");
    let shown = run(&play, &["calendar", "show", "holidays"]).success();
    for text in ["starts_at     2040-12-25 00:00:00\n", "query         values (date"] {
        assert!(shown.contains(text), "{text:?} in\n{shown}");
    }
    assert_eq!(json(&play, &["calendar", "show", "holidays"])["kind"], "dates");
    assert_eq!(json(&play, &["calendar", "list"])[0]["jobs"][0], "job");
    let refreshed = run(&play, &["calendar", "refresh", "holidays"]);
    assert_eq!(
        (refreshed.stderr.as_str(), refreshed.code()),
        ("refreshed calendar holidays: 1 range\n", Some(0))
    );
    run(&play, &["calendar", "create", "bad", "select day from days"]).failure(
        1,
        &["calendar \"bad\": relation \"days\" does not exist", "hint: The query runs as its owner"],
    );
    let refused = run(&play, &["calendar", "drop", "holidays"]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("calendar \"holidays\" is in use"), "{}", refused.stderr);
    run(&play, &["unschedule", "job"]).success();
    assert_eq!(run(&play, &["calendar", "drop", "holidays"]).code(), Some(0));
    assert_eq!(run(&play, &["calendar", "show", "holidays"]).code(), Some(1));
}
