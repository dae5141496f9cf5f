//! `sisyphus logs -f`: what a job writes, attempt by attempt.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Play, Spawned, command, finish, play, sisyphus, spawn, wait_until};

const SOON: Duration = Duration::from_secs(10);

const FINISH: &str = "select answer from sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint],
     exit_codes => array[$4::int], stdouts => array[$5::text], stderrs => array['oh'])";

/// Ends the next run of the job with this exit code and output.
async fn end(play: &Play, guardian: i64, exit_code: i32, output: &str) {
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    let answer: String =
        play.value(FINISH, &[&guardian, &claim.run_id, &claim.claim_no, &exit_code, &output]).await;
    assert_eq!(answer, "accepted");
}

async fn wait_for_output(follower: &Spawned, wanted: &str) {
    wait_until("it is printed", SOON, async || {
        let seen = follower.stdout_so_far();
        if seen == wanted { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn a_job_is_followed_from_its_last_attempt_on_until_ctrl_c() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    sisyphus(&play, &["schedule", "job", "-", "true"]).success();
    for output in ["long ago\n", "last\n"] {
        play.run_now("job").await;
        end(&play, guardian, 0, output).await;
    }
    let mut follower = play.spawn(&["logs", "-f", "job"]);
    wait_for_output(&follower, "last\n").await;
    let mut printed = "last\n".to_owned();
    for (exit_code, output) in [(0, "one\n"), (3, "two\n")] {
        play.run_now("job").await;
        end(&play, guardian, exit_code, output).await;
        printed.push_str(output);
        wait_for_output(&follower, &printed).await;
    }
    assert!(follower.is_running());
    follower.signal(Signal::SIGINT);
    let ended = follower.wait();
    assert_eq!(ended.code(), None, "SIGINT has ended it, which a shell tells as 130");
    let told = "run 2 succeeded on web1: exit code 0\noh\
                run 3 succeeded on web1: exit code 0\noh\
                run 4 failed on web1: exit code 3\noh";
    assert_eq!(ended.stderr, told);
}

#[tokio::test]
async fn a_job_that_never_ran_is_waited_for_and_an_unknown_one_is_an_error() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    sisyphus(&play, &["schedule", "job", "-", "true"]).success();
    let follower = play.spawn(&["logs", "job", "--follow", "--only", "stderr"]);
    play.run_now("job").await;
    end(&play, guardian, 0, "unwanted").await;
    wait_for_output(&follower, "oh").await;
    for words in [&["logs", "-f", "jbo"][..], &["logs", "-f", "--job", "4711"]] {
        sisyphus(&play, words).failure(1, &["error: job \"", "does not exist", "hint: "]);
    }
    sisyphus(&play, &["logs", "-f", "4711"]).failure(1, &["error: run 4711 does not exist", "hint: "]);
    sisyphus(&play, &["logs", "-f", "1", "--attempt", "1"]).failure(2, &["cannot be used with"]);
}

#[tokio::test]
async fn a_run_is_followed_through_its_retries_to_its_end() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    let words = ["schedule", "job", "-", "true", "--retries", "1", "--retry-delay", "0s"];
    sisyphus(&play, &words).success();
    let run_id = play.run_now("job").await.to_string();
    let follower = play.spawn(&["logs", "-f", &run_id]);
    end(&play, guardian, 1, "first\n").await;
    wait_for_output(&follower, "first\n").await;
    end(&play, guardian, 0, "second\n").await;
    let ended = follower.wait();
    assert!(
        ended.stderr.ends_with("run 1 succeeded on web1: exit code 0 (attempt 2)\noh"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.success(), "first\nsecond\n");
    let again = sisyphus(&play, &["logs", "-f", &run_id]);
    assert_eq!(again.success(), "first\nsecond\n", "of an ended run all attempts, and no waiting");
}

/// The history is not written in the order of its clock: a follower that goes on from the newest row would
/// miss what was recorded earlier and committed later.
#[tokio::test]
async fn an_end_that_commits_late_is_not_missed() {
    let play = play().await;
    let (slow, quick) = (play.guardian("web1", 1).await, play.guardian("web2", 1).await);
    sisyphus(&play, &["schedule", "job", "-", "true", "--overlap", "allow"]).success();
    play.run_now("job").await;
    play.tick().await;
    let claim = play.claim_one(slow).await;
    let follower = play.spawn(&["logs", "-f", "job"]);
    let mut other = play.db.client().await;
    let open = other.transaction().await.unwrap();
    open.query_one(FINISH, &[&slow, &claim.run_id, &claim.claim_no, &0, &"early\n"]).await.unwrap();
    play.run_now("job").await;
    end(&play, quick, 0, "late\n").await;
    wait_for_output(&follower, "late\n").await;
    open.commit().await.unwrap();
    wait_for_output(&follower, "late\nearly\n").await;
}

#[tokio::test]
async fn a_run_without_output_says_why_and_only_what_may_come_is_waited_for() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    sisyphus(&play, &["schedule", "job", "-", "true"]).success();
    play.run_now("job").await;
    let waiting = sisyphus(&play, &["logs", "1"]);
    waiting.failure(
        1,
        &["run 1 has no output: waiting", "hint: output is stored when an attempt ends; sisyphus logs -f 1"],
    );
    sisyphus(&play, &["cancel", "1"]).success();
    play.tick().await;
    for words in [&["logs", "1"][..], &["logs", "job"]] {
        let ended = sisyphus(&play, words);
        assert!(ended.stderr.contains("cancelled") && !ended.stderr.contains("hint:"), "{}", ended.stderr);
        ended.failure(1, &[]);
    }
    play.run_now("job").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    play.finish(guardian, &claim, 0).await;
    let silent = sisyphus(&play, &["logs", "job"]);
    assert_eq!(silent.stderr, "run 2 succeeded on web1: exit code 0\n");
    assert_eq!(silent.success(), "");
}

#[tokio::test]
async fn output_that_is_not_the_callers_to_see_is_not_taken_for_none() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    sisyphus(&play, &["schedule", "job", "-", "true"]).success();
    play.run_now("job").await;
    play.tick().await;
    end(&play, guardian, 0, "secret").await;
    drop(play.db.login("test_viewer", &["sisyphus_viewer"]).await);
    let viewer = |words: &[&str]| {
        let mut viewer = command(words);
        viewer.env("DATABASE_URL", play.db.url_as("test_viewer"));
        viewer
    };
    for words in [&["logs", "job"][..], &["logs", "-f", "1"]] {
        let seen = finish(viewer(words));
        assert_eq!(seen.stdout, "");
        seen.failure(1, &["run 1 succeeded on web1", "error: what run 1 wrote is for role", "hint: act as "]);
    }
    // How runs end is for everybody to see: a job is followed on, and it is said once what is not.
    let follower = spawn(viewer(&["logs", "-f", "job"]));
    let told = async |wanted: &str| {
        wait_until("it is told", SOON, async || {
            let seen = follower.stderr_so_far();
            if seen.ends_with(wanted) { Ok(()) } else { Err(seen) }
        })
        .await;
    };
    told("run 1 succeeded on web1: exit code 0\nwhat run 1 wrote is for role postgres to see\n").await;
    play.run_now("job").await;
    end(&play, guardian, 3, "secret").await;
    told("to see\nrun 2 failed on web1: exit code 3\n").await;
    follower.signal(Signal::SIGINT);
    assert_eq!(follower.wait().stdout, "");
}
