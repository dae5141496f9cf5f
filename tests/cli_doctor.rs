//! `sisyphus doctor`: every finding has a remedy, and the exit code says whether something hinders runs.

use crate::support::{self, Finished, Play, command, finish};

async fn play() -> Play {
    let db = support::db().await;
    let client = db.client().await;
    Play { db, client }
}

fn doctor(play: &Play, words: &[&str]) -> Finished {
    let mut command = command(&[&["doctor"], words].concat());
    command.env("DATABASE_URL", play.db.url());
    finish(command)
}

/// Asserts exit code 1 and texts on stdout.
#[track_caller]
fn finds(play: &Play, texts: &[&str]) {
    let found = doctor(play, &[]);
    assert_eq!(found.code(), Some(1), "{}{}", found.stdout, found.stderr);
    for text in texts {
        assert!(found.stdout.contains(text), "{text:?} in\n{}", found.stdout);
    }
}

#[tokio::test]
async fn a_healthy_installation_has_no_findings() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.exec("select sisyphus.schedule('job', '@daily', 'true')").await;
    play.tick().await;
    let report = doctor(&play, &[]).success();
    assert!(report.lines().all(|line| line.starts_with("ok  ")), "{report}");
    for check in ["database", "schema", "planner", "hosts", "starts", "jobs", "runs"] {
        assert!(report.contains(&format!("ok    {check}")), "{check} in\n{report}");
    }
}

#[tokio::test]
async fn an_empty_installation_is_told_what_it_lacks() {
    let play = play().await;
    play.exec("select sisyphus.schedule('job', '@daily', 'true')").await;
    finds(
        &play,
        &[
            "BAD   planner   there was no tick yet",
            "BAD   hosts     no host has registered\n                → start `sisyphus guardian` on a host",
            "BAD   jobs      pool default has no active host, so job does not run",
        ],
    );
}

#[tokio::test]
async fn a_planner_that_stands_still_is_found() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.tick().await;
    play.exec("update sisyphus.planner set last_tick_at = last_tick_at - interval '10 min'").await;
    finds(&play, &["BAD   planner   the last tick was 60", "→ guardians tick"]);
    let open = play.db.client().await;
    let pid: i32 = open.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    open.batch_execute("begin; select from sisyphus.planner for update").await.unwrap();
    finds(
        &play,
        &[&format!("s ago, session {pid} keeps others out"), &format!("pg_terminate_backend({pid})")],
    );
}

#[tokio::test]
async fn hosts_that_are_lost_or_say_a_problem_are_found() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.guardian("web2", 4).await;
    play.guardian("web3", 4).await;
    play.tick().await;
    play.exec(
        "update sisyphus.guardian g set problem = 'disk full' from sisyphus.host h
          where h.host_id = g.host_id and h.name = 'web1';
         update sisyphus.guardian g set lease_until = now() - interval '1 h', seen_at = now() - interval '2 h'
           from sisyphus.host h where h.host_id = g.host_id and h.name = 'web2';
         select sisyphus.drain_host('web3')",
    )
    .await;
    finds(
        &play,
        &[
            "BAD   hosts     host web1: disk full\n                → mend it",
            "note  hosts     host web2: lost, silent for 72",
            "→ start its guardian, or `sisyphus forget web2` when it is gone",
            "note  hosts     host web3: draining\n                → `sisyphus activate web3`",
        ],
    );
}

#[tokio::test]
async fn jobs_that_are_broken_or_without_a_host_are_found() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.exec(
        "select sisyphus.create_pool('empty');
         select sisyphus.schedule('lonely', '@daily', 'true', pool => 'empty');
         select sisyphus.schedule('bad', '@daily', 'true');
         select sisyphus.schedule('resting', '@daily', 'true');
         select sisyphus.suspend('resting')",
    )
    .await;
    play.tick().await;
    play.exec(
        "update sisyphus.job_state s set broken = 'role gone' from sisyphus.job j
          where j.job_id = s.job_id and j.name = 'bad'",
    )
    .await;
    finds(
        &play,
        &[
            "BAD   jobs      job bad is broken: role gone\n                → mend it with `sisyphus alter bad`",
            "BAD   jobs      pool empty has no active host, so lonely does not run",
            "note  jobs      suspended: resting\n                → `sisyphus resume JOB`",
        ],
    );
}

#[tokio::test]
async fn of_many_jobs_a_few_are_named() {
    let play = play().await;
    play.exec(
        "select sisyphus.create_pool('empty');
         select sisyphus.schedule('job' || n, '@daily', 'true', pool => 'empty') from generate_series(1, 7) n;
         select sisyphus.schedule('here' || n, '@daily', 'true') from generate_series(1, 2) n;
         select sisyphus.schedule('rest' || n, '@daily', 'true') from generate_series(1, 6) n;
         select sisyphus.suspend('rest' || n) from generate_series(1, 6) n",
    )
    .await;
    finds(
        &play,
        &[
            "pool empty has no active host, so job1, job2, job3, job4, job5 and 2 more do not run\n",
            "pool default has no active host, so here1, here2 do not run\n                → start a guardian, or `sisyphus activate HOST`\n",
            "suspended: rest1, rest2, rest3, rest4, rest5 and 1 more\n",
        ],
    );
}

#[tokio::test]
async fn a_host_without_a_slot_is_a_note() {
    let play = play().await;
    play.guardian("web1", 0).await;
    play.tick().await;
    let report = doctor(&play, &[]).success();
    let note =
        "note  hosts     host web1 has no slot\n                → `sisyphus slots web1 N` gives it some";
    assert!(report.contains(note), "{report}");
}

#[tokio::test]
async fn late_runs_are_found_with_their_reason() {
    let play = play().await;
    play.guardian("web1", 0).await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    let run_id = play.run_now("job").await;
    play.tick().await;
    play.exec("update sisyphus.run set due_at = due_at - interval '1 min', requested_at = requested_at - interval '1 min'")
        .await;
    finds(
        &play,
        // By the real clock: a minute, and what the test took.
        &[
            &format!("BAD   runs      run {run_id} of job is 6"),
            " s late: no host in pool \"default\" has a slot",
        ],
    );
}

#[tokio::test]
async fn a_late_run_without_a_job_is_told_by_its_number() {
    let play = play().await;
    play.guardian("web1", 0).await;
    play.exec("select sisyphus.submit('true')").await;
    play.tick().await;
    play.exec("update sisyphus.run set due_at = due_at - interval '1 min', requested_at = requested_at - interval '1 min'")
        .await;
    finds(&play, &["BAD   runs      run 1 is 6", "`sisyphus slots HOST N`"]);
}

#[tokio::test]
async fn a_host_that_starts_nothing_is_found() {
    let play = play().await;
    let (bad, good) = (play.guardian("web1", 4).await, play.guardian("web2", 4).await);
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow')").await;
    let attempt = async |guardian: i64, ended_by: &str| {
        play.run_now("job").await;
        play.tick().await;
        let claim = play.claim_one(guardian).await;
        play.finish_by(guardian, &claim, ended_by, "user \"sisyphus-job\" does not exist").await;
    };
    attempt(bad, "spawn").await;
    let report = doctor(&play, &[]).success();
    for text in [
        "note  starts    the last attempt on web1 could not be started: ",
        "user \"sisyphus-job\" does not exist",
    ] {
        assert!(report.contains(text), "{text} in\n{report}");
    }
    attempt(bad, "spawn").await;
    attempt(bad, "policy").await;
    for _ in 0..2 {
        attempt(good, "exit").await;
        attempt(good, "spawn").await;
    }
    let report = doctor(&play, &[]).stdout;
    assert!(
        report.contains("BAD   starts    of the last 3 attempts on web1 none could be started: "),
        "{report}"
    );
    assert!(!report.contains("on web2"), "one bad job does not make a bad host: {report}");
}

#[tokio::test]
async fn programs_get_findings_as_json() {
    let play = play().await;
    let found = doctor(&play, &["--format", "json"]);
    assert_eq!(found.code(), Some(1));
    let findings: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(findings[0]["grade"], "ok");
    let hosts = findings.as_array().unwrap().iter().find(|f| f["check"] == "hosts").unwrap();
    assert_eq!(hosts["grade"], "problem");
    assert_eq!(hosts["remedy"], "start `sisyphus guardian` on a host");
}

#[tokio::test]
async fn an_older_schema_ends_with_5() {
    let play = play().await;
    play.exec("update sisyphus.schema_history set version = 0 where version = 1").await;
    let found = doctor(&play, &[]);
    found.failure(5, &["the schema is version 0, this program needs", "hint: run `sisyphus migrate`"]);
}

#[tokio::test]
async fn whoever_may_use_the_views_may_ask_the_doctor() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.tick().await;
    drop(play.db.login("test_viewer", &["sisyphus_viewer"]).await);
    let mut command = command(&["doctor"]);
    command.env("DATABASE_URL", play.db.url_as("test_viewer"));
    let report = finish(command).success();
    assert!(report.contains("ok    schema    installed"), "{report}");
}

#[tokio::test]
async fn a_calendar_that_has_ended_is_a_note() {
    let play = play().await;
    play.guardian("web1", 4).await;
    play.exec(
        "select sisyphus.create_calendar('holidays', 'values (date ''2020-01-01'')');
         select sisyphus.create_calendar('unused', 'values (date ''2020-01-01'')');
         select sisyphus.schedule('job', '@daily', 'true', except_on => 'holidays')",
    )
    .await;
    play.tick().await;
    let report = doctor(&play, &[]).success();
    assert!(report.contains("note  jobs      calendar \"holidays\" ends with 2020-01-01"), "{report}");
    assert!(report.contains("calls `sisyphus calendar refresh holidays`"), "{report}");
    assert!(!report.contains("unused"), "{report}");
}

#[tokio::test]
async fn of_many_hosts_that_are_lost_and_many_late_runs_a_few_are_told() {
    let play = play().await;
    play.guardian("alive", 0).await;
    for n in 1..=8 {
        play.guardian(&format!("web{n}"), 1).await;
    }
    play.exec("select sisyphus.schedule('j', null, 'true', overlap => 'allow'); select sisyphus.run_many('j', array_fill(null::jsonb, array[30]))").await;
    play.tick().await;
    play.exec(
        "update sisyphus.guardian set seen_at = now() - interval '72 s', lease_until = now() - interval '42 s' where host_id >
             (select host_id from sisyphus.host where name = 'alive');
         update sisyphus.run set due_at = due_at - interval '1 min', requested_at = requested_at - interval '1 min'",
    )
    .await;
    finds(
        &play,
        &[
            "host web5: lost, silent for 72",
            "note  hosts     3 more hosts are lost",
            " s late, and 29 more are late: no host in pool \"default\" has a slot",
        ],
    );
    let told = doctor(&play, &[]).stdout;
    assert!(!told.contains("web6") && told.matches("BAD   runs").count() == 1, "{told}");
}
