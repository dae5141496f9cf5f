//! The tests' own house: every file is a module of the binary, and the harness does what it says.

use std::{fs, path::Path, time::Duration};

use crate::support;

#[test]
fn every_test_file_is_a_module() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let main = fs::read_to_string(dir.join("main.rs")).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let is_rust = path.extension().is_some_and(|ext| ext == "rs") || path.join("mod.rs").exists();
        if is_rust && stem != "main" {
            assert!(main.contains(&format!("mod {stem};")), "{} is not a module of main.rs", path.display());
        }
    }
}

#[tokio::test]
async fn a_test_has_a_database_to_itself() {
    let first = support::db().await;
    let second = support::db().await;
    assert_ne!(first.name(), second.name());
    assert!(first.name().contains("a_test_has_a_database_to_itself"), "{}", first.name());
    let client = first.client().await;
    let name: String = client.query_one("select current_database()::text", &[]).await.unwrap().get(0);
    assert_eq!(name, first.name());
}

#[tokio::test]
async fn a_database_is_dropped_with_its_test() {
    let db = support::empty_db().await;
    let name = db.name().to_owned();
    drop(db);
    let admin = support::connect(&support::server_url("postgres")).await;
    let left = admin.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
#[should_panic(expected = "last seen: rain")]
async fn waiting_in_vain_says_what_was_seen() {
    support::wait_until("sun", Duration::from_millis(50), async || Err::<(), _>("rain".into())).await;
}
