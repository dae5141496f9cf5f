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
        let made = play.job(name);
        for (key, value) in wanted.as_object().unwrap() {
            assert_eq!(&made[key], value, "{name}: {key}");
        }
    }
}

#[tokio::test]
async fn a_second_import_changes_what_is_otherwise_and_nothing_else() {
    let play = play().await;
    import(&play, CRONTAB, &[]).success();
    let before = play.traces().await;
    let again = import(&play, CRONTAB, &[]);
    assert!(again.stderr.starts_with("4 unchanged\n"), "{}", again.stderr);
    assert_eq!(play.traces().await, before, "neither a row nor the audit log was touched");

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
    let before = play.traces().await;
    let tried = import(&play, CRONTAB, &["--dry-run"]);
    assert!(tried.stderr.contains("4 created; a dry run, nothing was done\n"), "{}", tried.stderr);
    assert_eq!(play.traces().await, before);
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
    let argv = play.job("cat-cat")["argv"].clone();
    assert_eq!(argv[0], "/bin/bash");
    for shell in ["bash", "dash"] {
        let done = Command::new(shell).args(["-c", argv[2].as_str().unwrap()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "it's\n\nEND\n%\n", "{shell}: {argv}");
    }
}

#[tokio::test]
async fn one_bad_line_changes_nothing_and_is_named() {
    let play = play().await;
    let before = play.traces().await;
    for (line, more, texts) in [
        (
            "\t61 1 * * * true",
            &[][..],
            &["error: FILE:2:2: job \"true\" is refused", "cause: schedule \"61 1 * * *\"", "hint: "][..],
        ),
        (
            "@reboot true",
            &[],
            &[
                "error: FILE:2:1: @reboot is no time",
                "hint: ",
                "systemd",
                "grep -v @reboot FILE | sisyphus import crontab -",
            ],
        ),
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
        assert_eq!(play.traces().await, before, "{line}");
    }
    sisyphus(&play, &["import", "crontab", "/nonexistent/x"]).failure(3, &["/nonexistent/x cannot be read"]);
    let latin = NamedTempFile::new().unwrap();
    fs::write(latin.path(), b"# \xe9\n").unwrap();
    sisyphus(&play, &["import", "crontab", latin.path().to_str().unwrap()])
        .failure(3, &["cannot be read", "utf-8"]);
    sisyphus(&play, &["import", "crontab", "/etc/cron.d/e2scrub_all", "--run-as", "www"])
        .failure(2, &["--run-as is not for /etc/cron.d/e2scrub_all", "hint: "]);
    sisyphus(&play, &["import"]).failure(2, &["crontab", "pg_cron"]);
}

#[tokio::test]
async fn a_job_that_no_import_made_is_never_replaced() {
    let play = play().await;
    sisyphus(&play, &["schedule", "true", "@daily", "precious"]).success();
    let text = "* * * * * false\n* * * * * true\n";
    import(&play, text, &[])
        .failure(1, &["error: FILE:2:1: job \"true\" is refused", "no import made it", "hint: ", "--prefix"]);
    assert_eq!(play.job("true")["command"], "precious");
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
    let made = play.job("cd-run-parts-etc-cron.hourly");
    assert_eq!(made["run_as"], "root");
    assert_eq!(made["run_on"], "all");
    assert_eq!(play.job("true")["run_as"], "www");
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
        let made = play.job(name);
        assert_eq!((&made["schedule"], &made["argv"]), (&Value::from(schedule), &argv), "{name}");
        assert_eq!(
            (&made["overlap"], &made["missed"], &made["timezone"]),
            (&"queue".into(), &"none".into(), &"GMT".into())
        );
    }
    let before = play.traces().await;
    let again = sisyphus(&play, &["import", "pg_cron"]);
    assert!(again.stderr.starts_with("4 unchanged\n"), "{}", again.stderr);
    assert_eq!(play.traces().await, before);
}

const PGAGENT: &str = r"
    create schema pgagent;
    create table pgagent.pga_job (jobid integer, jobname text, jobdesc text, jobhostagent text, jobenabled boolean);
    create table pgagent.pga_jobstep (jstid integer, jstjobid integer, jstname text, jstenabled boolean, jstkind char,
                                      jstcode text, jstconnstr text, jstdbname text, jstonerror char);
    create table pgagent.pga_schedule (jscid integer primary key, jscjobid integer, jscname text, jscenabled boolean,
        jscstart timestamptz, jscend timestamptz, jscminutes bool[], jschours bool[], jscweekdays bool[],
        jscmonthdays bool[], jscmonths bool[]);
    create table pgagent.pga_exception (jexid integer, jexscid integer, jexdate date, jextime time);
    create function pg_temp.chosen(n integer, ones text) returns bool[] language sql as
        'select array(select i = any (ones::int[]) from generate_series(1, n) i order by i)';
    insert into pgagent.pga_job values
        (1, 'nightly', 'all of it', '', true), (2, 'often', '', '', true), (3, 'first monday', '', '', true),
        (4, 'off', '', '', false), (5, 'no step', '', '', true), (6, 'no schedule', '', '', true);
    insert into pgagent.pga_jobstep values
        (1, 1, 'a', true, 's', 'select ''it''''s''', '', 'shop', 'f'), (2, 1, 'b', true, 'b', 'rm -f /tmp/x', '', '', 'i'),
        (3, 2, 'a', true, 'b', E'true\nfalse', '', '', 'f'), (4, 3, 'a', true, 'b', 'true', '', '', 'f'),
        (5, 5, 'a', false, 'b', 'true', '', '', 'f');
    insert into pgagent.pga_schedule
    select n, job, 's' || n, n <> 8, '2026-01-01 00:00+00', ends::timestamptz, pg_temp.chosen(60, minutes),
           pg_temp.chosen(24, hours), pg_temp.chosen(7, weekdays), pg_temp.chosen(32, days), pg_temp.chosen(12, months)
      from (values (1, 1, '{31}', '{3}', '{0}', '{1, 32}', '{0}', '2199-01-01 00:00+00'), (2, 2, '{}', '{}', '{}', '{}', '{}', null),
                   (3, 2, '{1}', '{13}', '{2, 6}', '{}', '{1, 7}', null), (4, 3, '{1}', '{1}', '{2}', '{1, 2}', '{}', null),
                   (5, 4, '{}', '{}', '{}', '{}', '{}', null), (6, 5, '{}', '{}', '{}', '{}', '{}', null),
                   (7, 2, '{}', '{}', '{}', '{}', '{}', '2026-01-02 00:00+00'), (8, 2, '{}', '{}', '{}', '{}', '{}', null),
                   (9, 2, '{}', '{}', '{}', '{}', '{}', null))
           s (n, job, minutes, hours, weekdays, days, months, ends);
    insert into pgagent.pga_exception values (1, 9, '2026-12-25', null)";

/// What an import left out, and why.
fn left_out(done: &Finished) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.contains(" is left out: ")).collect()
}

#[tokio::test]
async fn the_jobs_of_pgagent_are_taken_over() {
    let play = play().await;
    play.exec(PGAGENT).await;
    let done = sisyphus(&play, &["import", "pgagent"]);
    assert!(done.stderr.contains("\n3 created\n"), "{}", done.stderr);
    let both = "days of the month and of the week had both to match there, either may here";
    assert_eq!(
        left_out(&done),
        [
            "pgagent.pga_schedule 7 (often/s7) is left out: it has ended",
            "pgagent.pga_schedule 8 (often/s8) is left out: it is not enabled",
            "pgagent.pga_schedule 9 (often/s9) is left out: it has exceptions, which become a calendar for except_on",
            &format!("pgagent.pga_schedule 4 (first monday) is left out: {both}"),
            "pgagent.pga_schedule 5 (off) is left out: its job is not enabled",
            "pgagent.pga_schedule 6 (no step) is left out: its job has no enabled step",
            "pgagent.pga_job 6 (no schedule) is left out: it has no schedule",
        ]
    );
    done.success();
    let nightly = play.job("nightly");
    let command = "psql -X -v ON_ERROR_STOP=1 -d 'dbname=shop' -c 'select '\\''it'\\'''\\''s'\\''' || exit\n( rm -f /tmp/x ) || true";
    for (key, value) in [
        ("schedule", json!("30 2 1,L * *")),
        ("command", json!(command)),
        ("description", json!("all of it")),
        ("tags", json!(["pgagent"])),
        ("overlap", json!("skip")),
        ("missed", json!("latest")),
        ("starts_at", json!("2026-01-01T00:00:00+00:00")),
        ("ends_at", json!("2199-01-01T00:00:00+00:00")),
    ] {
        assert_eq!(nightly[key], value, "{key}");
    }
    assert_eq!(play.job("often/s2")["schedule"], "* * * * *");
    assert_eq!(play.job("often/s2")["command"], "( true\nfalse ) || exit");
    assert_eq!(play.job("often/s3")["schedule"], "0 12 * 1,7 1,5");
    let before = play.traces().await;
    let again = sisyphus(&play, &["import", "pgagent"]);
    assert!(again.stderr.starts_with("3 unchanged\n"), "{}", again.stderr);
    assert_eq!(play.traces().await, before);
}

const PG_TIMETABLE: &str = r#"
    create schema timetable;
    create type timetable.command_kind as enum ('SQL', 'PROGRAM', 'BUILTIN');
    create table timetable.chain (chain_id bigint, chain_name text, run_at text, max_instances integer, timeout integer,
                                  live boolean, self_destruct boolean, client_name text);
    create table timetable.task (task_id bigint, chain_id bigint, kind timetable.command_kind, command text, database_connection text);
    create table timetable.parameter (task_id bigint, order_id integer, value jsonb);
    insert into timetable.chain values
        (1, 'dump', '0 2 * * *', 1, 60000, true, false, null), (2, 'sync', '@every 5 minutes', null, 0, true, null, null),
        (3, 'sql', null, null, null, true, null, null), (4, 'both', '0 7 1-7 * 1', 1, 0, true, null, null),
        (5, 'off', '* * * * *', 1, 0, false, null, null), (6, 'two', '* * * * *', 1, 0, true, null, null),
        (7, 'boot', '@reboot', 1, 0, true, null, null), (8, 'built in', '* * * * *', 1, 0, true, null, null),
        (9, 'once', '* * * * *', 1, 0, true, true, null), (10, 'rows', '* * * * *', 1, 0, true, null, null),
        (11, 'after', '@after 5 minutes', null, 0, true, null, null);
    insert into timetable.task values
        (1, 1, 'PROGRAM', 'pg_dump', null), (2, 2, 'PROGRAM', '/opt/sync', null), (3, 3, 'SQL', 'select 1', null),
        (4, 4, 'SQL', 'x', null), (5, 5, 'SQL', 'x', null), (6, 6, 'SQL', 'x', null), (7, 6, 'SQL', 'x', null),
        (8, 7, 'SQL', 'x', null), (9, 8, 'BUILTIN', 'NoOp', null), (10, 9, 'SQL', 'x', null), (11, 10, 'PROGRAM', 'x', null),
        (12, 11, 'SQL', 'select 2', 'host=db2');
    insert into timetable.parameter values (1, 1, '["-d", "shop"]'), (11, 1, '["a"]'), (11, 2, '["b"]')"#;

#[tokio::test]
async fn the_chains_of_pg_timetable_are_taken_over() {
    let play = play().await;
    play.exec(PG_TIMETABLE).await;
    let done = sisyphus(&play, &["import", "pg_timetable"]);
    assert!(done.stderr.contains("\n4 created\n"), "{}", done.stderr);
    assert_eq!(
        left_out(&done),
        [
            "timetable.chain 4 (both) is left out: days of the month and of the week had both to match there, either may here",
            "timetable.chain 5 (off) is left out: it is not live",
            "timetable.chain 6 (two) is left out: it has 2 tasks: make one script of them",
            "timetable.chain 7 (boot) is left out: @reboot is no time",
            "timetable.chain 8 (built in) is left out: its task is built in there",
            "timetable.chain 9 (once) is left out: it runs once and goes: submit() does that",
            "timetable.chain 10 (rows) is left out: of its parameters only one row of a program is taken",
        ]
    );
    done.success();
    let dump = play.job("dump");
    assert_eq!(
        (&dump["argv"], &dump["max_runtime"]),
        (&json!(["pg_dump", "-d", "shop"]), &"00:01:00".into())
    );
    assert_eq!((&dump["overlap"], &dump["missed"]), (&"skip".into(), &"none".into()));
    let sync = play.job("sync");
    assert_eq!((&sync["schedule"], &sync["argv"]), (&"every 5 minutes".into(), &json!(["/opt/sync"])));
    assert_eq!((&sync["overlap"], &sync["max_runtime"]), (&"allow".into(), &Value::Null));
    assert_eq!(play.job("sql")["argv"][5], format!("dbname={}", play.db.name()));
    let after = play.job("after");
    assert_eq!((&after["overlap"], &after["argv"][5]), (&"skip".into(), &"host=db2".into()));
    let again = sisyphus(&play, &["import", "pg_timetable", "--dry-run"]);
    assert!(again.stderr.starts_with("4 unchanged; a dry run"), "{}", again.stderr);
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
    let made = play.job("db1-refresh");
    assert_eq!((&made["overlap"], &made["run_as"]), (&"skip".into(), &"postgres".into()));
    assert_eq!(made["description"], "from pg_cron, job 2");
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
