//! `sisyphus export` and `sisyphus apply`: jobs as a file.

use std::{fs::File, io::Write};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{Finished, Play, command, finish, play, sisyphus};

const FILE: &str = r#"
set = "web"

[jobs.nightly]
schedule = "30 2 * * *"
timezone = "Europe/Amsterdam"
command = "pg_dump jobs > /backup/jobs.sql"
ttl = "2 h"
retries = 2
starts_at = 2031-01-01T00:00:00Z
env = { LANG = "C" }

[jobs."on demand"]
argv = ["/usr/bin/printf", "%s\n", "it's"]
payload = '{"n": null}'
success_exit_codes = [0, 3]
tags = ["a"]
retry_backoff = 1.5

[jobs.script]
schedule = "every 5 minutes"
command = '''
set -e
echo "one\n" # 'two'
'''
payload = { n = [1, 2.5, "x"], deep = { t = true } }
"#;

/// Applies a file given on standard input, as this login.
fn apply_at(url: &str, text: &str, more: &[&str]) -> Finished {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut command = command(&[&["apply", "-f", "-"], more].concat());
    command.env("DATABASE_URL", url).stdin(File::open(file.path()).unwrap());
    finish(command)
}

fn apply(play: &Play, text: &str, more: &[&str]) -> Finished {
    apply_at(&play.db.url(), text, more)
}

/// What became of which job, and how many of them it was.
fn outcome(play: &Play, text: &str, more: &[&str]) -> (Vec<String>, String) {
    let done = apply(play, text, &[more, &["--format", "json"]].concat());
    let last = done.stderr.lines().last().unwrap_or_default().to_owned();
    let told: Vec<Value> = serde_json::from_str(&done.success()).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (
        told.iter()
            .map(|row| {
                format!("{} {} {}", text(row, "action"), text(row, "job"), text(row, "properties"))
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        last,
    )
}

#[tokio::test]
async fn jobs_become_what_the_file_says_and_equal_ones_are_left_alone() {
    let play = play().await;
    let (told, counts) = outcome(&play, FILE, &[]);
    assert_eq!(told, ["created nightly", "created on demand", "created script"]);
    assert_eq!(counts, "3 created");
    for (name, wanted) in [
        (
            "nightly",
            json!({"schedule": "30 2 * * *", "timezone": "Europe/Amsterdam", "ttl": "02:00:00", "retries": 2,
                   "command": "pg_dump jobs > /backup/jobs.sql", "env": {"LANG": "C"}, "tags": ["set:web"]}),
        ),
        (
            "on demand",
            json!({"schedule": null, "argv": ["/usr/bin/printf", "%s\n", "it's"], "payload": {"n": null},
                   "success_exit_codes": [0, 3], "tags": ["a", "set:web"], "retry_backoff": 1.5}),
        ),
        (
            "script",
            json!({"command": "set -e\necho \"one\\n\" # 'two'\n",
                   "payload": {"n": [1, 2.5, "x"], "deep": {"t": true}}}),
        ),
    ] {
        let made = play.job(name);
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(&made[key], value, "{name}: {key}");
        }
    }
    let starts: bool = play
        .value(
            "select starts_at = '2031-01-01 00:00+00' from sisyphus.definitions where job = 'nightly'",
            &[],
        )
        .await;
    assert!(starts);

    let before = play.traces().await;
    let (_, counts) = outcome(&play, FILE, &[]);
    assert_eq!(counts, "3 unchanged");
    assert_eq!(play.traces().await, before, "neither a row nor the audit log was touched");

    sisyphus(&play, &["alter", "script", "--retries", "3", "--description", "x"]).success();
    let (told, counts) = outcome(&play, &FILE.replace("2 h", "3 h"), &[]);
    assert_eq!(told, ["changed nightly ttl", "unchanged on demand", "changed script description, retries"]);
    assert_eq!(counts, "2 changed, 1 unchanged");
    let table = apply(&play, FILE, &[]).success();
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[tokio::test]
async fn an_export_that_is_applied_changes_nothing() {
    let play = play().await;
    sisyphus(&play, &["pool", "create", "web", "web1"]).success();
    sisyphus(&play, &["calendar", "create", "holidays", "values (date '2040-12-25')"]).success();
    let flags = "schedule full @daily --timezone Europe/Amsterdam --ttl 10min --missed all --jitter 5s \
         --starts-at 2026-01-01T00:00Z --ends-at 2199-01-01T00:00Z --pool web --run-on all --priority -3 \
         --overlap queue --max-runtime 1h --grace 3s --leftovers leave --cwd /tmp --limit nice=5 --limit cpu=1.5 \
         --retries 2 --retry-delay 1s --retry-backoff 1.5 --retry-max-delay 1min --retry-on-lost \
         --success-exit-codes 0,3 --no-retry-exit-codes 4 --tag a --tag b --fenced --except-on holidays --run-as www";
    let mut words: Vec<&str> = flags.split_whitespace().collect();
    words.extend([
        "--payload",
        r#"[null, {"n": 1e3}]"#,
        "--env",
        "A=b=c",
        "--env",
        "B=",
        "--description",
        "\"'''\\ü",
    ]);
    words.extend(["--retention", "success=7 days", "--", "prog", "an argument", "two\nlines", "\t\"\"\"'"]);
    sisyphus(&play, &words).success();
    sisyphus(&play, &["schedule", "it's \"so\" [x.y] =", "-", "true\n"]).success();
    sisyphus(&play, &["schedule", "plain", "@hourly", "true"]).success();
    let names: Vec<String> = play
        .lines("select a from pg_proc p cross join unnest(p.proargnames) a where p.oid = 'sisyphus.schedule'::regproc")
        .await;
    let written = sisyphus(&play, &["export"]).success();
    for name in names.iter().filter(|name| !["name", "only_on"].contains(&name.as_str())) {
        assert!(written.contains(&format!("\n{name} = ")), "{name} is not written:\n{written}");
    }
    assert!(
        written.contains("\n[jobs.plain]\nschedule = \"@hourly\"\ncommand = \"true\"\ntimezone = \""),
        "{written}"
    );
    assert_eq!(sisyphus(&play, &["export"]).success(), written, "it is the same every time");

    let before = play.traces().await;
    let (_, counts) = outcome(&play, &written, &[]);
    assert_eq!(counts, "3 unchanged");
    assert_eq!(play.traces().await, before);
    for name in ["full", "it's \"so\" [x.y] =", "plain"] {
        sisyphus(&play, &["unschedule", name]).success();
    }
    let none = sisyphus(&play, &["export"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str(), none.code()), ("", "no jobs\n", Some(0)));
    let (_, counts) = outcome(&play, &written, &[]);
    assert_eq!(counts, "3 created");
    assert_eq!(sisyphus(&play, &["export"]).success(), written, "from nothing it makes the same jobs");
}

#[tokio::test]
async fn a_set_is_pruned_of_what_its_file_does_not_have_any_more() {
    let play = play().await;
    sisyphus(&play, &["schedule", "by hand", "@daily", "true"]).success();
    apply(&play, "set = \"db\"\n[jobs.other]\ncommand = \"true\"\n", &[]).success();
    apply(&play, FILE, &[]).success();
    let shorter = FILE.split("[jobs.\"on demand\"]").next().unwrap();
    let kept = apply(&play, shorter, &[]);
    assert!(
        kept.stderr.starts_with("of set web, but not in the file: on demand, script; --prune"),
        "{}",
        kept.stderr
    );
    let before = play.traces().await;
    let wanted = ["unchanged nightly", "removed on demand", "removed script"];
    let (told, counts) = outcome(&play, shorter, &["--prune", "--dry-run"]);
    assert_eq!(
        (told, counts.as_str()),
        (wanted.map(str::to_owned).to_vec(), "1 unchanged, 2 removed; a dry run, nothing was done")
    );
    assert_eq!(play.traces().await, before);
    assert_eq!(outcome(&play, shorter, &["--prune"]).0, wanted);
    let left = play.lines("select job from sisyphus.definitions order by job").await;
    assert_eq!(left, ["by hand", "nightly", "other"]);

    let of_set = sisyphus(&play, &["export", "--set", "web"]).success();
    assert!(of_set.starts_with("set = \"web\"\n\n[jobs.nightly]\n") && !of_set.contains("tags"), "{of_set}");
    assert_eq!(outcome(&play, &of_set, &["--prune"]).1, "1 unchanged");
}

#[tokio::test]
async fn a_job_of_one_set_is_not_changed_by_the_file_of_another() {
    let play = play().await;
    apply(&play, FILE, &[]).success();
    for text in [FILE.replace("\"web\"", "\"db\""), FILE.replace("set = \"web\"", "")] {
        apply(&play, &text, &["--dry-run"]).failure(
            1,
            &["job \"nightly\" is refused", "cause: it belongs to set \"web\"", "hint: change the file"],
        );
    }
    let whole = sisyphus(&play, &["export"]).success();
    assert_eq!(outcome(&play, &whole, &[]).1, "3 unchanged", "a whole export repeats the sets");
}

#[tokio::test]
async fn one_bad_job_changes_nothing_and_is_named() {
    let play = play().await;
    apply(&play, &FILE.replace("2 h", "1 h"), &[]).success();
    let before = play.traces().await;
    for (from, to, texts) in [
        (
            "ttl =",
            "tll =",
            &["error: stdin:8:1: \"tll\" of job \"nightly\" is no property", "hint: give one of schedule, "]
                [..],
        ),
        (
            "[jobs.script]",
            "[job.script]",
            &["error: stdin:20:2: \"job\" is not known", "hint: a file has set"],
        ),
        ("set = \"web\"", "set = 3", &["error: stdin:2:1: \"set\" is not known", "hint: "]),
        ("\"2 h\"", "\"2 h", &["error: stdin:8:11: "]),
        (
            "30 2",
            "30 25",
            &["error: stdin:4:7: job \"nightly\" is refused", "hour field: 25 is out of range", "hint: "],
        ),
        ("every 5 minutes", "every 5 moons", &["error: stdin:20:7: job \"script\" is refused", "hint: "]),
        (
            "retries = 2",
            "retries = \"two\"",
            &[
                "stdin:4:7: job \"nightly\" is refused",
                "type integer: \"two\"",
                "hint: retries takes a whole number\n",
            ],
        ),
        ("\"2 h\"", "{ h = 2 }", &["error: stdin:8:7: ttl of job \"nightly\" takes a single value"]),
        ("[0, 3]", "3", &["error: stdin:16:22: success_exit_codes of job \"on demand\" takes an array"]),
        ("[jobs.script]", "[jobs.\" \"]", &["job \" \" is refused", "job name \" \" is not allowed"]),
        (
            "[jobs.nightly]",
            "jobs.x = 1\n[jobs.nightly]",
            &["error: stdin:4:10: job \"x\" is no table", "hint: begin it with [jobs.x]"],
        ),
        ("retries = 2", "pool = \"wbe\"", &["pool \"wbe\" does not exist", "hint: "]),
    ] {
        assert!(FILE.contains(from), "{from}");
        apply(&play, &FILE.replace(from, to), &["--prune"]).failure(1, texts);
        assert_eq!(play.traces().await, before, "{to}");
    }
    apply(&play, &FILE.replace("set = \"web\"", ""), &["--prune"])
        .failure(1, &["error: stdin names no set", "hint: begin it"]);
    sisyphus(&play, &["apply", "-f", "/nonexistent"]).failure(3, &["/nonexistent cannot be read"]);
    sisyphus(&play, &["apply"]).failure(2, &["--file <FILE>"]);
}

#[tokio::test]
async fn everybody_exports_and_prunes_their_own_jobs_alone() {
    let play = play().await;
    drop(play.db.login("test_one", &["sisyphus_author"]).await);
    drop(play.db.login("test_two", &["sisyphus_author"]).await);
    let (one, two) = (play.db.url_as("test_one"), play.db.url_as("test_two"));
    let file = |job: &str| format!("set = \"web\"\n[jobs.{job}]\ncommand = \"true\"\n");
    apply_at(&one, &file("one"), &[]).success();
    let pruned = apply_at(&two, &file("two"), &["--prune"]);
    assert_eq!(pruned.stderr.lines().last(), Some("1 created"), "{}", pruned.stderr);
    let export = |url: &str| {
        let mut command = command(&["export"]);
        command.env("DATABASE_URL", url);
        finish(command).success()
    };
    assert!(export(&one).contains("[jobs.one]") && !export(&one).contains("[jobs.two]"));
    assert!(export(&play.db.url()).contains("[jobs.one]") && export(&play.db.url()).contains("[jobs.two]"));
    apply_at(&two, &file("one"), &[])
        .failure(1, &["job \"one\" is refused", "belongs to role test_one", "hint: "]);
}

#[tokio::test]
async fn a_payload_is_shown_and_exported_to_the_letter() {
    let play = play().await;
    let payload = r#"{"n": 12345678901234567890123, "big": 1e400, "exact": 1.10}"#;
    sisyphus(&play, &["schedule", "job", "-", "true", "--payload", payload]).success();
    let stored: String = play.value("select payload::text from sisyphus.job", &[]).await;
    let shown = sisyphus(&play, &["show", "job"]).success();
    assert!(shown.contains(r#"payload                {"n": 12345678901234567890123, "#), "{shown}");
    let shown = sisyphus(&play, &["show", "job", "--format", "json"]).success();
    assert!(shown.contains(&stored), "{stored} in\n{shown}");
    let file = sisyphus(&play, &["export"]).success();
    assert!(file.contains(&format!("payload = '{stored}'")), "{file}");
    let (_, counts) = outcome(&play, &file, &[]);
    assert_eq!(counts, "1 unchanged");
}
