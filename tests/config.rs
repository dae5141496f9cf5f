//! Which database a command uses, and what it says when it cannot.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt};

use sisyphus::{
    config::{Connection, Place},
    error::{ErrorKind, Result},
};

use crate::support::{self, command, finish};

fn resolve(flag: Option<&str>, env: &[(&str, &str)]) -> Result<Connection> {
    let env: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    Connection::resolve(flag, &|name| env.get(name).cloned())
}

fn password(connection: &Connection) -> Option<&str> {
    connection.endpoints[0].password.as_ref().map(|password| password.0.as_str())
}

/// Value and origin of a setting.
fn setting(connection: &Connection, name: &str) -> (String, String) {
    let found = connection.settings.iter().find(|s| s.name == name);
    let found = found.unwrap_or_else(|| panic!("{name} is not in {:?}", connection.settings));
    (found.value.clone(), found.origin.clone())
}

fn pair(value: &str, origin: &str) -> (String, String) {
    (value.to_owned(), origin.to_owned())
}

#[test]
fn the_flag_goes_before_our_variable_and_that_before_the_common_one() {
    let env = [("SISYPHUS_DATABASE_URL", "postgresql://ours/a"), ("DATABASE_URL", "postgresql://common/b")];
    let flagged = resolve(Some("postgresql://flag/c"), &env).unwrap();
    assert_eq!(setting(&flagged, "host"), pair("flag", "--database-url"));
    assert_eq!(setting(&resolve(None, &env).unwrap(), "host"), pair("ours", "SISYPHUS_DATABASE_URL"));
    assert_eq!(setting(&resolve(None, &env[1..]).unwrap(), "dbname"), pair("b", "DATABASE_URL"));
}

#[test]
fn libpqs_variables_fill_what_the_url_leaves_open() {
    let env = [("PGHOST", "/tmp/pg"), ("PGPORT", "5433"), ("PGUSER", "ann"), ("PGDATABASE", "other")];
    let connection = resolve(Some("postgresql:///jobs"), &env).unwrap();
    assert_eq!(setting(&connection, "host"), pair("/tmp/pg", "PGHOST"));
    assert_eq!(setting(&connection, "port"), pair("5433", "PGPORT"));
    assert_eq!(setting(&connection, "user"), pair("ann", "PGUSER"));
    assert_eq!(setting(&connection, "dbname"), pair("jobs", "--database-url"));
    assert_eq!(connection.hosts(), "/tmp/pg port 5433");
}

#[test]
fn without_anything_the_user_of_the_system_is_user_and_database() {
    let connection = resolve(None, &[]).unwrap();
    let (user, origin) = setting(&connection, "user");
    assert_eq!(origin, "operating system user");
    assert_eq!(setting(&connection, "dbname"), pair(&user, "default: as the user"));
    assert_eq!(setting(&connection, "port"), pair("5432", "default"));
    assert_eq!(setting(&connection, "password"), pair("none", "default"));
}

#[test]
fn the_password_is_never_shown() {
    let connection = resolve(Some("postgresql://ann:secret@db1/jobs"), &[("PGPASSWORD", "other")]).unwrap();
    assert_eq!(setting(&connection, "password"), pair("(hidden)", "--database-url"));
    assert_eq!(password(&connection), Some("secret"));
    assert!(!format!("{connection:?}").contains("secret"));
}

#[test]
fn the_password_file_is_read_when_it_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pass");
    fs::write(&file, "db1:*:jobs:ann:one\n*:*:*:*:two\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let env = [("PGPASSFILE", file.to_str().unwrap())];
    let one = resolve(Some("postgresql://ann@db1/jobs"), &env).unwrap();
    assert_eq!(password(&one), Some("one"));
    assert_eq!(setting(&one, "password").1, file.to_str().unwrap());
    let two = resolve(Some("postgresql://ann@db2/jobs"), &env).unwrap();
    assert_eq!(password(&two), Some("two"));

    let each = resolve(Some("postgresql://ann@db1,db2/jobs"), &env).unwrap();
    let passwords: Vec<_> = each.endpoints.iter().map(|e| e.password.clone().unwrap().0).collect();
    assert_eq!(passwords, ["one", "two"], "each host has its line");
    let named = resolve(Some(&format!("host=db1 user=ann dbname=jobs passfile={}", file.display())), &[]);
    assert_eq!(password(&named.unwrap()), Some("one"));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let ignored = resolve(Some("postgresql://ann@db1/jobs"), &env).unwrap();
    assert_eq!(password(&ignored), None);
}

#[test]
fn among_several_hosts_the_primary_is_wanted() {
    let connection = resolve(Some("postgresql://db1:5432,db2:5433/jobs"), &[]).unwrap();
    assert_eq!(connection.hosts(), "db1, db2 port 5433");
    assert_eq!(setting(&connection, "target_session_attrs").0, "read-write");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    for (flag, env, texts) in [
        (Some("postgresql:///jobs?sslroot=x"), vec![], ["--database-url", "unknown option \"sslroot\""]),
        (Some("host=a database=jobs"), vec![], ["unknown option \"database\"", "libpq calls it dbname"]),
        (Some("host=a application-name=x"), vec![], ["unknown option", "libpq calls it application_name"]),
        (
            Some("postgresql:///jobs?sslmode=full"),
            vec![],
            ["sslmode=\"full\" in --database-url", "verify-full"],
        ),
        (Some("host=a require_auth=none"), vec![], ["require_auth in --database-url", "does not have"]),
        (
            Some("host=a sslrootcert=system sslmode=require"),
            vec![],
            ["sslrootcert=system", "verify-full only"],
        ),
        (Some("host=a target_session_attrs=standby"), vec![], ["target_session_attrs", "read-write"]),
        (Some("host=a,b port=1,2,3"), vec![], ["port=\"1,2,3\"", "one for each of the 2 hosts"]),
        (Some("host=a,b hostaddr=127.0.0.1"), vec![], ["2 hosts and 1 addresses", "as many addresses"]),
        (None, vec![("DATABASE_URL", "nonsense")], ["DATABASE_URL", "connection string"]),
        (None, vec![("PGSSLMODE", "always")], ["PGSSLMODE=\"always\"", "verify-ca"]),
        (None, vec![("PGREQUIREPEER", "postgres")], ["PGREQUIREPEER", "does not have"]),
        (
            None,
            vec![("PGSERVICE", "jobs"), ("HOME", "/nonexistent")],
            ["service \"jobs\"", ".pg_service.conf"],
        ),
        (None, vec![("PGSERVICE", "jobs"), ("PGSERVICEFILE", "/no/file")], ["/no/file", "cannot be read"]),
        (None, vec![("PGPORT", "x")], ["PGPORT=\"x\"", "port number"]),
        (None, vec![("PGCONNECT_TIMEOUT", "soon")], ["PGCONNECT_TIMEOUT", "seconds"]),
        (None, vec![("PGHOSTADDR", "db1")], ["PGHOSTADDR", "IP address"]),
    ] {
        let error = resolve(flag, &env).expect_err(texts[0]);
        assert_eq!(error.kind(), ErrorKind::Config);
        let said = support::told(&error);
        for text in texts {
            assert!(said.contains(text), "{text} in {said}");
        }
    }
}

#[test]
fn a_service_goes_before_the_variables_and_after_the_connection_string() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("services");
    fs::write(&file, "[jobs]\nhost=db1\nport=5433\nsslmode=verify-full\nuser=ann\n").unwrap();
    let path = file.to_str().unwrap();
    let env = [("PGSERVICEFILE", path), ("PGHOST", "other"), ("PGSSLMODE", "disable"), ("PGDATABASE", "d")];
    let connection = resolve(Some("postgresql://bob@/?service=jobs"), &env).unwrap();
    let origin = format!("service jobs of {path}");
    assert_eq!(setting(&connection, "host"), pair("db1", &origin));
    assert_eq!(setting(&connection, "sslmode"), pair("verify-full", &origin));
    assert_eq!(setting(&connection, "user"), pair("bob", "--database-url"));
    assert_eq!(setting(&connection, "dbname"), pair("d", "PGDATABASE"));
    assert_eq!(
        resolve(None, &[&env[..], &[("PGSERVICE", "jobs")]].concat()).unwrap().hosts(),
        "db1 port 5433"
    );

    fs::write(&file, "[jobs]\nhost db1\n").unwrap();
    let error = resolve(Some("service=jobs"), &env).unwrap_err();
    assert!(support::told(&error).contains("line 2 of service file"), "{}", support::told(&error));
}

#[test]
fn an_address_of_the_environment_stays_with_the_host_of_the_environment() {
    let env = [("PGHOST", "db1"), ("PGHOSTADDR", "10.0.0.1")];
    let both = resolve(None, &env).unwrap();
    assert_eq!(both.endpoints[0].place, Place::Network("db1".into(), Some("10.0.0.1".parse().unwrap())));
    let given = resolve(Some("postgresql://db2/jobs"), &env).unwrap();
    assert_eq!(given.endpoints[0].place, Place::Network("db2".into(), None));
}

#[test]
fn config_show_tells_where_values_come_from() {
    let mut shown = command(&["config", "show"]);
    shown.envs([("PGHOST", "db1"), ("PGUSER", "ann"), ("PGPASSWORD", "secret")]);
    let text = finish(shown).success();
    assert!(!text.contains("secret"), "{text}");
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in ["host db1 PGHOST", "user ann PGUSER", "password (hidden) PGPASSWORD"] {
        assert!(lines.iter().any(|shown| shown == line), "{line} in\n{text}");
    }

    let mut json = command(&["config", "show", "--format", "json"]);
    json.env("PGHOST", "db1");
    let rows: serde_json::Value = serde_json::from_str(&finish(json).success()).unwrap();
    assert_eq!(rows[0], serde_json::json!({"setting": "host", "value": "db1", "origin": "PGHOST"}));
}

#[test]
fn a_wrong_setting_ends_with_3() {
    let mut command = command(&["jobs"]);
    command.env("DATABASE_URL", "postgresql:///jobs?sslcrt=x");
    finish(command).failure(
        3,
        &["error: DATABASE_URL has the unknown option \"sslcrt\"", "hint: the names are libpq's"],
    );
}

#[test]
fn a_wrong_log_filter_ends_with_3() {
    let mut command = command(&["config", "show"]);
    command.env("SISYPHUS_LOG", "a=b=c");
    finish(command).failure(3, &["error: SISYPHUS_LOG", "hint: for example SISYPHUS_LOG=debug"]);
}

#[test]
fn an_unreachable_database_ends_with_4_and_names_what_was_tried() {
    for (host, tried) in [("/nonexistent", "at /nonexistent port 1"), ("127.0.0.1", "at 127.0.0.1 port 1")] {
        let mut command = command(&["jobs"]);
        command.envs([("PGHOST", host), ("PGPORT", "1"), ("PGUSER", "ann")]);
        finish(command)
            .failure(4, &["cannot connect to the database", tried, "hint: is PostgreSQL running there?"]);
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let mut command = command(&["jobs"]);
    command.envs([("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", "ann"), ("PGCONNECT_TIMEOUT", "1")]);
    finish(command)
        .failure(4, &["cannot connect to the database at 127.0.0.1", "did not come to an end within 1s"]);
}

#[tokio::test]
async fn a_missing_database_or_role_ends_with_3() {
    let mut no_database = command(&["jobs"]);
    no_database.env("DATABASE_URL", support::server_url("no_such_database"));
    finish(no_database).failure(3, &["database \"no_such_database\" does not exist", "hint: check user"]);
    let db = support::empty_db().await;
    let mut no_role = command(&["jobs"]);
    no_role.env("DATABASE_URL", db.url_as("no_such_role"));
    finish(no_role).failure(3, &["role \"no_such_role\" does not exist"]);
}

#[tokio::test]
async fn a_database_without_the_schema_ends_with_5_and_the_way_out() {
    let db = support::empty_db().await;
    for words in [&["jobs"][..], &["run", "x"], &["doctor"]] {
        let mut command = command(words);
        command.env("DATABASE_URL", db.url());
        finish(command).failure(5, &["hint: run `sisyphus migrate`"]);
    }
}

#[test]
fn what_a_guardian_would_take_is_shown_with_its_origin() {
    let mut command = command(&["config", "show", "--format", "json"]);
    command.envs([("SISYPHUS_SLOTS", "3"), ("SISYPHUS_POOLS", "web,db"), ("SISYPHUS_LABELS", "gpu=yes")]);
    command.envs([("SISYPHUS_LISTEN_URL", "postgresql://ann:secret@direct/jobs"), ("SISYPHUS_LOG", "debug")]);
    let text = finish(command).success();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    for (setting, value, origin) in [
        ("--slots", "3", "SISYPHUS_SLOTS"),
        ("--pool", "web,db", "SISYPHUS_POOLS"),
        ("--label", "gpu=yes", "SISYPHUS_LABELS"),
        ("--listen-url", "direct", "SISYPHUS_LISTEN_URL"),
        ("--keeper-dir", "none", "default"),
        ("log", "debug", "SISYPHUS_LOG"),
    ] {
        let wanted = serde_json::json!({"setting": setting, "value": value, "origin": origin});
        assert!(rows.contains(&wanted), "{wanted} in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
    assert!(
        rows.iter().any(|row| row["setting"] == "--host" && row["origin"] == "host name of the machine"),
        "{text}"
    );
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let variables = [
        "SISYPHUS_HOST",
        "SISYPHUS_SLOTS",
        "SISYPHUS_LABELS",
        "SISYPHUS_POOLS",
        "SISYPHUS_STATE_DIR",
        "SISYPHUS_POLICY",
        "SISYPHUS_KEEPER_DIR",
        "SISYPHUS_LISTEN_URL",
        "SISYPHUS_HTTP_ADDRESS",
        "SISYPHUS_LOG_FORMAT",
        "SISYPHUS_LOG",
        "SISYPHUS_DATABASE_URL",
    ];
    let (mut unset, mut empty) = (command(&["config", "show"]), command(&["config", "show"]));
    unset.env_remove("SISYPHUS_POLICY");
    empty.envs(variables.map(|variable| (variable, "")));
    assert_eq!(finish(empty).success(), finish(unset).success());
    // Not only shown: the first thing that is wrong is the database.
    let mut guardian = command(&["guardian", "--once", "--state-dir", "/nonexistent/dir"]);
    guardian.envs(variables.map(|variable| (variable, ""))).env("DATABASE_URL", "foo=bar");
    finish(guardian).failure(3, &["DATABASE_URL has the unknown option \"foo\""]);
}

#[test]
fn config_show_names_the_variable_that_a_guardian_cannot_take() {
    let mut shown = command(&["config", "show"]);
    shown.env("SISYPHUS_SLOTS", "x");
    let found = finish(shown);
    assert!(!found.stderr.contains("--help"), "{}", found.stderr);
    found.failure(3, &["error: SISYPHUS_SLOTS cannot be used\ncause: invalid value 'x' for '--slots <N>'"]);
}
