//! `sisyphus import`: jobs of other schedulers become jobs here, all or none, and the same ones the second time.

use std::{fs, io::Write, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::support::{Finished, Play, command, play, sisyphus, spawn};

const CRONTAB: &str = r#"# m h  dom mon dow   command
SHELL=/bin/sh
MAILTO=ops@example.org
0 5 * * 1	tar -zcf /var/backups/home.tgz /home/
CRON_TZ = Europe/Amsterdam
LANG="C"
# The report of the day,
# for the management.
0 7 * * 1-5  /opt/report/daily --date=$(date +\%F) >> /var/log/report 2>&1

SHELL=/bin/bash
HOME=/srv
RANDOM_DELAY=5
@weekly /opt/report/daily
@daily cat && cat >&2 %it's%%END%\%
"#;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Imports this crontab.
fn import(play: &Play, text: &str, more: &[&str]) -> Finished {
    let file = file(text);
    let words = [&["import", "crontab", file.path().to_str().unwrap()], more].concat();
    let mut done = sisyphus(play, &words);
    done.stderr = done.stderr.replace(file.path().to_str().unwrap(), "FILE");
    done.stdout = done.stdout.replace(file.path().to_str().unwrap(), "FILE");
    done
}

fn job(play: &Play, name: &str) -> Value {
    serde_json::from_str(&sisyphus(play, &["show", name, "--format", "json"]).success()).unwrap()
}

/// Everything that a call could leave behind.
async fn traces(play: &Play) -> Vec<String> {
    play.lines(
        "select j.name || ' ' || j.xmin || ' ' || j.version from sisyphus.job j
          union all select 'audit ' || count(*) from sisyphus.audit
          union all select 'request ' || count(*) from sisyphus.request order by 1",
    )
    .await
}

#[tokio::test]
async fn a_line_becomes_a_job_with_all_that_stands_above_it() {
    let play = play().await;
    let done = import(&play, CRONTAB, &["--prefix", "db1-", "--timezone", "Asia/Tokyo", "--run-as", "www"]);
    assert_eq!(done.stderr.lines().filter(|line| line.starts_with("notice: ")).count(), 1, "{}", done.stderr);
    let told = "4 created\nFILE: MAILTO is left out: nothing is mailed, view sisyphus.failures has what ended badly\n";
    assert!(done.stderr.ends_with(told), "{}", done.stderr);
    let table = done.success();
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");

    for (name, wanted) in [
        (
            "db1-tar-zcf-var-backups-home.tgz-home",
            json!({"schedule": "0 5 * * 1", "timezone": "Asia/Tokyo", "env": null, "cwd": null, "run_as": "www",
                   "command": "tar -zcf /var/backups/home.tgz /home/", "description": null,
                   "missed": "none", "overlap": "allow", "tags": ["crontab"]}),
        ),
        (
            "db1-daily-date-date-F",
            json!({"schedule": "0 7 * * 1-5", "timezone": "Europe/Amsterdam", "env": {"LANG": "C"},
                   "command": "/opt/report/daily --date=$(date +%F) >> /var/log/report 2>&1",
                   "description": "The report of the day, for the management."}),
        ),
        (
            "db1-daily",
            json!({"schedule": "@weekly", "argv": ["/bin/bash", "-c", "/opt/report/daily"], "command": null,
                   "env": {"LANG": "C", "SHELL": "/bin/bash", "HOME": "/srv"}, "cwd": "/srv",
                   "jitter": "00:05:00"}),
        ),
    ] {
        let made = job(&play, name);
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(&made[key], value, "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn a_second_import_changes_what_is_otherwise_and_nothing_else() {
    let play = play().await;
    import(&play, CRONTAB, &[]).success();
    let before = traces(&play).await;
    let again = import(&play, CRONTAB, &[]);
    assert!(again.stderr.starts_with("4 unchanged\n"), "{}", again.stderr);
    assert_eq!(traces(&play).await, before, "neither a row nor the audit log was touched");

    let moved = import(&play, &CRONTAB.replace("0 5 * * 1", "0 6 * * 1"), &["--format", "json"]);
    assert!(moved.stderr.starts_with("1 changed, 3 unchanged\n"), "{}", moved.stderr);
    let told: Value = serde_json::from_str(&moved.success()).unwrap();
    let name = "tar-zcf-var-backups-home.tgz-home";
    let wanted = json!({"action": "changed", "job": name, "schedule": "0 6 * * 1", "pool": "default", "properties": "schedule"});
    assert_eq!(told[0], wanted);
    assert_eq!(told[1]["action"], "unchanged");
}

#[tokio::test]
async fn what_a_dry_run_prints_does_what_the_import_would_do() {
    let play = play().await;
    let before = traces(&play).await;
    let tried = import(&play, CRONTAB, &["--dry-run"]);
    assert!(tried.stderr.contains("4 created; a dry run, nothing was done\n"), "{}", tried.stderr);
    assert_eq!(traces(&play).await, before);
    let script = tried.success();
    assert!(script.contains("\n-- FILE:4:1\nselect sisyphus.schedule(name => 'tar-"), "{script}");
    play.exec(&script).await;
    let done = import(&play, CRONTAB, &[]);
    assert!(done.stderr.starts_with("4 unchanged\n"), "{}", done.stderr);
    let refused = import(&play, "* * * * 8 true\n", &["--dry-run"]);
    refused.failure(1, &["error: FILE:1:1: job \"true\" is refused"]);
}

#[tokio::test]
async fn what_stands_behind_a_percent_is_read_by_the_command() {
    let play = play().await;
    import(&play, CRONTAB, &[]).success();
    let argv = job(&play, "cat-cat")["argv"].clone();
    assert_eq!(argv[0], "/bin/bash");
    for shell in ["bash", "dash"] {
        let done = Command::new(shell).args(["-c", argv[2].as_str().unwrap()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "it's\n\nEND\n%\n", "{shell}: {argv}");
    }
}

#[tokio::test]
async fn one_bad_line_changes_nothing_and_is_named() {
    let play = play().await;
    let before = traces(&play).await;
    for (line, more, texts) in [
        (
            "\t61 1 * * * true",
            &[][..],
            &["error: FILE:2:2: job \"true\" is refused", "cause: schedule \"61 1 * * *\"", "hint: "][..],
        ),
        ("@reboot true", &[], &["error: FILE:2:1: @reboot is no time", "hint: ", "systemd"]),
        ("0 1 * * true", &[], &["error: FILE:2:13: the line ends after 5 words", "hint: "]),
        ("0 1 * * * root", &["--user-field"], &["error: FILE:2:15: the line ends after 6 words", "USER"]),
        ("A B=1", &[], &["error: FILE:2:6: the line ends after 2 words"]),
        ("A-B=1\n* * * * * x", &[], &["error: FILE:3:1: job \"x\" is refused", "env \"A-B\" is not allowed"]),
        (
            "SHELL=/usr/bin/fish\n* * * * * x%y",
            &[],
            &["error: FILE:3:1: what stands behind % cannot be put on the standard input of fish", "hint: "],
        ),
        ("HOME=here\n* * * * * x", &[], &["error: FILE:3:1: job \"x\" is refused", "cwd \"here\""]),
        ("* * * * * x", &["--pool", "wbe"], &["pool \"wbe\" does not exist", "hint: "]),
    ] {
        let text = format!("0 1 * * * root good\n{line}\n* * * * * root good as well\n");
        import(&play, &text, more).failure(1, texts);
        assert_eq!(traces(&play).await, before, "{line}");
    }
    sisyphus(&play, &["import", "crontab", "/nonexistent/x"]).failure(3, &["/nonexistent/x cannot be read"]);
    let latin = NamedTempFile::new().unwrap();
    fs::write(latin.path(), b"# \xe9\n").unwrap();
    sisyphus(&play, &["import", "crontab", latin.path().to_str().unwrap()])
        .failure(3, &["cannot be read", "utf-8"]);
    sisyphus(&play, &["import"]).failure(2, &["crontab", "pg_cron"]);
}

#[tokio::test]
async fn a_job_that_no_import_made_is_never_replaced() {
    let play = play().await;
    sisyphus(&play, &["schedule", "true", "@daily", "precious"]).success();
    let text = "* * * * * false\n* * * * * true\n";
    import(&play, text, &[])
        .failure(1, &["error: FILE:2:1: job \"true\" is refused", "no import made it", "hint: ", "--prefix"]);
    assert_eq!(job(&play, "true")["command"], "precious");
    import(&play, text, &["--prefix", "x-"]).success();
}

#[tokio::test]
async fn the_crontab_of_the_machine_has_users_and_its_zone_is_told() {
    let play = play().await;
    let mut command = command(&["import", "crontab", "-", "--user-field", "--run-on", "all"]);
    command.env("DATABASE_URL", play.db.url());
    let stdin = file("17 * * * * root cd / && run-parts /etc/cron.hourly\n@daily www true\n");
    command.stdin(fs::File::open(stdin.path()).unwrap());
    let done = spawn(command).wait_for(Duration::from_secs(20));
    assert!(done.stderr.contains("2 created\ntimes are those of "), "{}", done.stderr);
    assert!(done.stderr.ends_with("the database's default; --timezone gives another\n"), "{}", done.stderr);
    done.success();
    let made = job(&play, "cd-run-parts-etc-cron.hourly");
    assert_eq!(made["run_as"], "root");
    assert_eq!(made["run_on"], "all");
    assert_eq!(job(&play, "true")["run_as"], "www");
    assert_eq!(import(&play, "# nothing\n", &[]).stderr, "no jobs\n");
}

const PG_CRON: &str = r"
    create schema cron;
    create table cron.job (jobid bigint, schedule text, command text, nodename text, nodeport integer, database text,
                           username text, active boolean, jobname text);
    insert into cron.job values
        (1, '30 3 * * 6', 'delete from events', 'localhost', 5432, 'shop', 'shop', true, null),
        (2, '30 seconds', 'call refresh()', 'localhost', 5432, 'shop', 'shop', true, 'refresh'),
        (3, '0 12 $ * *', 'call payroll()', '', 5433, 'it''s \ shop', 'shop', true, 'payroll'),
        (4, '* * * * *', 'select 1', 'localhost', 5432, 'shop', 'shop', false, 'off'),
        (5, '@reboot', 'select 1', 'localhost', 5432, 'shop', 'shop', true, 'boot'),
        (6, '* * * * *', 'select 2', 'localhost', 5432, 'shop', 'other', true, 'refresh')";

#[tokio::test]
async fn the_jobs_of_pg_cron_are_taken_over() {
    let play = play().await;
    play.exec(PG_CRON).await;
    let done = sisyphus(&play, &["import", "pg_cron"]);
    let told = "4 created\ncron.job 4 (off) is left out: it is not active\n\
                cron.job 5 (boot) is left out: @reboot is no time\n";
    assert!(done.stderr.ends_with(told), "{}", done.stderr);
    done.success();
    let argv = |connection: &str, command: &str| {
        json!(["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", connection, "-c", command])
    };
    for (name, schedule, argv) in [
        (
            "cron-1",
            "30 3 * * 6",
            argv("host=localhost port=5432 dbname=shop user=shop", "delete from events"),
        ),
        (
            "refresh",
            "every 30 seconds",
            argv("host=localhost port=5432 dbname=shop user=shop", "call refresh()"),
        ),
        (
            "payroll",
            "0 12 L * *",
            argv(r"host=localhost port=5433 dbname='it\'s \\ shop' user=shop", "call payroll()"),
        ),
        ("refresh-2", "* * * * *", argv("host=localhost port=5432 dbname=shop user=other", "select 2")),
    ] {
        let made = job(&play, name);
        assert_eq!((&made["schedule"], &made["argv"]), (&Value::from(schedule), &argv), "{name}");
        assert_eq!(
            (&made["overlap"], &made["missed"], &made["timezone"]),
            (&"queue".into(), &"none".into(), &"GMT".into())
        );
    }
    let before = traces(&play).await;
    let again = sisyphus(&play, &["import", "pg_cron"]);
    assert!(again.stderr.starts_with("4 unchanged\n"), "{}", again.stderr);
    assert_eq!(traces(&play).await, before);
}

#[tokio::test]
async fn pg_cron_may_live_in_another_database() {
    let (play, other) = (play().await, crate::support::empty_db().await);
    sisyphus(&play, &["import", "pg_cron"]).failure(
        1,
        &["error: there is no table cron.job in that database", "hint: --from names the database"],
    );
    other.client().await.batch_execute(PG_CRON).await.unwrap();
    let words = [
        "import",
        "pg_cron",
        "--from",
        &other.url(),
        "--prefix",
        "db1-",
        "--overlap",
        "skip",
        "--run-as",
        "postgres",
    ];
    sisyphus(&play, &words).success();
    let made = job(&play, "db1-refresh");
    assert_eq!((&made["overlap"], &made["run_as"]), (&"skip".into(), &"postgres".into()));
    other
        .client()
        .await
        .batch_execute("update cron.job set schedule = '* * * * 9' where jobid = 3")
        .await
        .unwrap();
    sisyphus(&play, &words).failure(1, &["error: cron.job 3: job \"db1-payroll\" is refused", "hint: "]);
}

#[tokio::test]
async fn who_may_not_make_jobs_imports_none() {
    let play = play().await;
    drop(play.db.login("test_viewer", &["sisyphus_viewer"]).await);
    let file = file("* * * * * true\n");
    let path: PathBuf = file.path().into();
    let mut viewer = command(&["import", "crontab", path.to_str().unwrap()]);
    viewer.env("DATABASE_URL", play.db.url_as("test_viewer"));
    spawn(viewer).wait().failure(1, &["permission denied for function schedule"]);
}
