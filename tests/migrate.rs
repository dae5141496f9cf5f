//! Installing and upgrading the schema.

use std::{fs, path::Path};

use sisyphus::{error::ErrorKind, migrate};

use crate::support::{self, TestDb, command, finish};

#[test]
fn every_file_of_migrations_is_one() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations");
    let mut files: Vec<String> =
        fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let known: Vec<String> =
        migrate::steps().iter().map(|step| format!("V{:03}__{}.sql", step.version, step.name)).collect();
    // Refinery skips a name that it cannot read, with a word in the log.
    assert_eq!(files, known, "names are V<three digits>__<letters, digits, underscores>.sql, numbers unique");
    assert!(known.len() as i64 == migrate::version(), "numbers have no gaps");
}

#[test]
fn every_file_of_code_has_a_place_in_the_order() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/code");
    let mut files: Vec<String> =
        fs::read_dir(dir).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let known: Vec<&str> = migrate::CODE.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, known);
    for name in known {
        assert!(
            name.len() > 7 && name[..2].bytes().all(|b| b.is_ascii_digit()) && &name[2..3] == "_",
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_second_install_changes_nothing() {
    let db = support::empty_db().await;
    let mut client = db.client().await;
    let first = migrate::migrate(&mut client).await.unwrap();
    assert_eq!(first.migrations.len(), migrate::steps().len());
    assert!(first.code);
    let second = migrate::migrate(&mut client).await.unwrap();
    assert_eq!(second, migrate::Report { version: migrate::version(), migrations: vec![], code: false });
    assert_eq!(client.notices(), Vec::<String>::new(), "a person who migrates sees no noise");
}

#[tokio::test]
async fn the_bundle_is_applied_again_only_when_it_is_another() {
    let db = support::db().await;
    let mut client = db.client().await;
    assert!(!migrate::migrate(&mut client).await.unwrap().code);
    let broken = "update sisyphus.installation set bundle_checksum = 'of another release';
                  comment on function sisyphus._clock() is 'of another release'";
    client.batch_execute(broken).await.unwrap();
    assert!(migrate::migrate(&mut client).await.unwrap().code);
    let comment: String = client
        .query_one("select obj_description('sisyphus._clock()'::regprocedure)", &[])
        .await
        .unwrap()
        .get(0);
    assert_ne!(comment, "of another release");
}

#[tokio::test]
async fn migrators_of_one_empty_database_all_succeed() {
    let db = support::empty_db().await;
    let mut migrators = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let mut client = db.client().await;
        migrators.spawn(async move { migrate::migrate(&mut client).await });
    }
    let mut installed = 0;
    while let Some(done) = migrators.join_next().await {
        let report = done.unwrap().unwrap_or_else(|e| panic!("{}", support::told(&e)));
        installed += report.migrations.len();
    }
    assert_eq!(installed, migrate::steps().len(), "each migration ran once");
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_5() {
    let db = support::db().await;
    let newer = migrate::version() + 1;
    note_migration(&db, newer, "of_tomorrow").await;
    migrate_by_command(&db).failure(
        5,
        &[
            &format!("the schema of this database is version {newer}, newer than version {}", newer - 1),
            "hint: use the sisyphus binary of the release that installed it",
        ],
    );
}

#[tokio::test]
async fn a_migration_that_was_edited_after_its_release_is_refused_with_5() {
    let db = support::db().await;
    let client = db.client().await;
    client.execute("update sisyphus.schema_history set checksum = '1' where version = 1", &[]).await.unwrap();
    migrate_by_command(&db).failure(5, &["was applied to this database from another text", "hint: "]);
}

#[tokio::test]
async fn a_role_that_may_not_create_is_told_who_may() {
    let db = support::empty_db().await;
    drop(db.login("test_nobody", &[]).await);
    let mut command = command(&["migrate"]);
    command.env("DATABASE_URL", db.url_as("test_nobody"));
    finish(command).failure(
        1,
        &["permission denied for database", "hint: migrate as a superuser, or as a role with CREATEROLE"],
    );
}

#[tokio::test]
async fn a_failed_migration_leaves_the_lock_free_and_the_session_as_it_was() {
    let db = support::db().await;
    note_migration(&db, 99, "of_tomorrow").await;
    let mut client = db.client().await;
    let error = migrate::migrate(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    let free: bool = db
        .client()
        .await
        .query_one("select pg_try_advisory_lock($1)", &[&migrate::LOCK])
        .await
        .unwrap()
        .get(0);
    assert!(free);
    let timeout: String = client.query_one("show lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(timeout, "0");
}

#[tokio::test]
async fn the_command_says_what_it_did() {
    let db = support::empty_db().await;
    let first = migrate_by_command(&db);
    assert!(first.stderr.starts_with("applied V1__"), "{}", first.stderr);
    assert_eq!(first.success(), "", "stdout is for data");
    let second = migrate_by_command(&db);
    assert_eq!(second.stderr, format!("nothing to do\nthe schema is at version {}\n", migrate::version()));
    second.success();
}

fn migrate_by_command(db: &TestDb) -> support::Finished {
    let mut command = command(&["migrate"]);
    command.env("SISYPHUS_DATABASE_URL", db.url());
    finish(command)
}

async fn note_migration(db: &TestDb, version: i64, name: &str) {
    let insert = "insert into sisyphus.schema_history values ($1, $2, '2026-01-01T00:00:00Z', '1')";
    db.client().await.execute(insert, &[&version, &name]).await.unwrap();
}

#[tokio::test]
async fn the_default_zone_is_the_databases_where_a_job_may_name_it() {
    for (zone, taken) in [
        ("Europe/Amsterdam", "Europe/Amsterdam"),
        ("Etc/GMT+2", "Etc/GMT+2"),
        ("UTC", "UTC"),
        // Taken for fixed offsets, or of this machine alone: no job may name these.
        ("CET", "UTC"),
        ("EST", "UTC"),
        ("<+05>-05", "UTC"),
        ("localtime", "UTC"),
    ] {
        let db = support::empty_db().await;
        db.client()
            .await
            .batch_execute(&format!("alter database \"{}\" set timezone = '{zone}'", db.name()))
            .await
            .unwrap();
        let mut client = db.client().await;
        migrate::migrate(&mut client).await.unwrap_or_else(|err| panic!("{zone}: {}", support::told(&err)));
        let query = "select default_timezone from sisyphus.setting";
        assert_eq!(client.query_one(query, &[]).await.unwrap().get::<_, String>(0), taken, "{zone}");
        client.batch_execute("select sisyphus.schedule('job', '@daily', 'true')").await.unwrap();
    }
}
