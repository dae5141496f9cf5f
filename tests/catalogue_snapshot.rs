//! The schema as a whole, so that no change of it goes unseen: `UPDATE_SNAPSHOTS=1` writes it anew.

use std::{env, fs, path::Path, process::Command};

use sisyphus::dev::binaries::Search;

use crate::support;

#[tokio::test]
async fn the_schema_is_the_one_in_the_snapshot() {
    let db = support::db().await;
    let client = db.client().await;
    let version: String = client.query_one("show server_version_num", &[]).await.unwrap().get(0);
    if !version.starts_with("15") {
        eprintln!("SKIPPED: the snapshot is of PostgreSQL 15, the server is {version}");
        return;
    }
    let Some(dumped) = dump(&db.url()) else {
        eprintln!("SKIPPED: this server came without pg_dump");
        return;
    };
    let found = normalised(&dumped);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/schema.sql");
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &found).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let differing = kept.lines().zip(found.lines()).find(|(kept, found)| kept != found);
    assert!(
        kept == found,
        "the schema is not the one in tests/snapshots/schema.sql, first here (snapshot, schema): {differing:#?}\n\
         this writes it: UPDATE_SNAPSHOTS=1 cargo nextest run the_schema_is"
    );
}

/// None where only a server is installed, as in the matrix of versions.
fn dump(url: &str) -> Option<String> {
    let binaries = Search::here().find(Some(15)).unwrap_or_else(|e| panic!("{}", support::told(&e)));
    let program = binaries.program("pg_dump");
    if !program.exists() {
        return None;
    }
    let out = Command::new(program)
        .args(["--schema-only", "--no-owner", "-n", "sisyphus", "-d", url])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

/// Tables and views whole, public functions as their headers, grants; comments and owners have tests of their own.
fn normalised(dump: &str) -> String {
    let mut text = String::new();
    for section in dump.split("\n--\n-- Name: ").skip(1) {
        let (head, body) = section.split_once("\n--\n").expect("a section has a head");
        let kind = head.split("; Type: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
        let kept: String = match kind {
            "COMMENT" => continue,
            "FUNCTION" if head.starts_with('_') => continue,
            "FUNCTION" => {
                let end = ["    AS $", "    BEGIN ATOMIC"].iter().filter_map(|mark| body.find(mark)).min();
                body[..end.unwrap_or(body.len())].to_owned()
            }
            "ACL" => lines(body, |line| line.starts_with("GRANT")),
            _ => lines(body, |line| {
                !line.starts_with("SET ") && !line.starts_with('\\') && !line.starts_with("--")
            }),
        };
        let kept = kept.trim();
        if !kept.is_empty() {
            text.push_str(kept);
            text.push_str("\n\n");
        }
    }
    text
}

fn lines(body: &str, keep: impl Fn(&str) -> bool) -> String {
    body.lines().filter(|line| keep(line)).fold(String::new(), |text, line| text + line + "\n")
}
