//! `sql/install.sql`: the same schema with psql alone.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use sisyphus::{dev::binaries::Search, migrate};

use crate::support::{self, TestDb};

#[test]
fn install_sql_lists_every_file_and_the_checksums_of_the_migrations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/install.sql");
    let is = fs::read_to_string(&path).unwrap();
    let should_be = install_sql();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &should_be).unwrap();
        return;
    }
    assert!(
        is == should_be,
        "sql/install.sql is not what the files in sql/ ask for; this writes it:\n\
         UPDATE=1 cargo nextest run install_sql_lists\n\n{should_be}"
    );
}

#[tokio::test]
async fn psql_alone_makes_the_schema_that_migrate_makes() {
    let by_migrate = support::empty_db().await;
    let mut client = by_migrate.client().await;
    migrate::migrate(&mut client).await.unwrap_or_else(|e| panic!("{}", support::told(&e)));

    let by_psql = support::empty_db().await;
    install(&by_psql);
    let (one, other) = (dump(&by_migrate), dump(&by_psql));
    if one != other {
        let differing = one.lines().zip(other.lines()).find(|(a, b)| a != b);
        panic!("the schemas differ, first here (migrate, psql): {differing:#?}");
    }
}

#[tokio::test]
async fn migrate_goes_on_from_what_psql_installed() {
    let db = support::empty_db().await;
    install(&db);
    let mut client = db.client().await;
    let report = migrate::migrate(&mut client).await.unwrap_or_else(|e| panic!("{}", support::told(&e)));
    assert!(report.migrations.is_empty(), "{:?}", report.migrations);
    // psql cannot compute the bundle's checksum, so the bundle is applied once more.
    assert!(report.code);
}

#[tokio::test]
async fn every_word_of_the_psqlrc_is_a_question_that_is_answered() {
    let db = support::db().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/psqlrc");
    let text = fs::read_to_string(&file).unwrap();
    let words: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("\\set ")?.split(' ').next()).collect();
    let told = text.lines().last().unwrap();
    for word in words.into_iter().filter(|word| word.starts_with(char::is_lowercase)) {
        assert!(told.contains(&format!(" :{word}")), "{word} is not in the last line");
        let mut psql = tool("psql");
        psql.env("PSQLRC", &file).args(["-d", &db.url(), "-v", "ON_ERROR_STOP=1"]);
        let mut psql =
            psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(psql.stdin.take().unwrap(), ":{word}").unwrap();
        let out = psql.wait_with_output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

/// What the file should be.
fn install_sql() -> String {
    let mut text = String::from(
        "-- The schema with psql alone, in one transaction:\n\
         --     psql -d jobs -f sql/install.sql\n\
         -- It notes the migrations as `sisyphus migrate` does, which goes on from here.\n\
         \\set ON_ERROR_STOP on\n\
         \\set QUIET on\n\
         begin;\n\
         set local client_min_messages = warning;\n\
         -- A migrator that runs now holds the same lock.\n",
    );
    writeln!(text, "do 'begin perform pg_advisory_xact_lock({}); end';", migrate::LOCK).unwrap();
    text.push_str(
        "create schema sisyphus;\n\
         create table sisyphus.schema_history (\n    \
             version int8 primary key,\n    \
             name varchar(255),\n    \
             applied_on varchar(255),\n    \
             checksum varchar(255)\n\
         );\n",
    );
    for step in migrate::steps() {
        let migrate::Step { version, name, checksum } = step;
        write!(
            text,
            "\\ir migrations/V{version:03}__{name}.sql\n\
             insert into sisyphus.schema_history values ({version}, '{name}',\n    \
             to_char(now() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{checksum}');\n"
        )
        .unwrap();
    }
    text.push_str("set local role sisyphus_owner;\n");
    for (name, _) in migrate::CODE {
        writeln!(text, "\\ir code/{name}").unwrap();
    }
    text.push_str("commit;\n");
    text
}

fn install(db: &TestDb) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/install.sql");
    let out = tool("psql").args(["-X", "-d", &db.url(), "-f"]).arg(file).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// The schema as text, without what differs from dump to dump.
fn dump(db: &TestDb) -> String {
    let out = tool("pg_dump").args(["--schema-only", "-n", "sisyphus", "-d", &db.url()]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with("\\") && !line.starts_with("-- Dumped")).fold(
        String::new(),
        |mut kept, line| {
            writeln!(kept, "{line}").unwrap();
            kept
        },
    )
}

/// A client program of the server under test: an older pg_dump refuses a newer server.
fn tool(name: &str) -> Command {
    let binaries = Search::here().find(None).unwrap_or_else(|e| panic!("{}", support::told(&e)));
    Command::new(binaries.program(name))
}
