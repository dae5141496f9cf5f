//! docs/errors.md is complete: what sql/ raises, what the crate knows and what is explained are the same.

use std::{collections::BTreeSet, fs, path::Path};

use sisyphus::{error::ErrorKind, sqlstate};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The SQLSTATEs in the text of sql/: every quoted code of ours, and whatever stands after `errcode =`.
fn raised() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for dir in ["sql/code", "sql/migrations"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let quoted = text.split('\'').filter(|word| word.len() == 5 && word.starts_with("SY"));
            codes.extend(quoted.map(str::to_owned));
            let after = text.split("errcode = '").skip(1).filter_map(|rest| rest.split('\'').next());
            codes.extend(after.map(str::to_owned));
        }
    }
    assert!(codes.len() > 10, "the scan finds {codes:?} alone");
    codes
}

/// The first cell of each row of the tables under a heading of docs/errors.md.
fn explained(heading: &str) -> BTreeSet<String> {
    let text = read("docs/errors.md");
    let section = text.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    rows.filter(|cell| *cell != "code").map(str::to_owned).collect()
}

#[test]
fn every_sqlstate_that_is_raised_is_explained_and_no_other() {
    assert_eq!(explained("SQLSTATEs"), raised());
}

#[test]
fn the_crate_knows_every_code_of_our_class() {
    let known: BTreeSet<String> = sqlstate::OURS.iter().map(|code| (*code).to_owned()).collect();
    let ours: BTreeSet<String> = raised().into_iter().filter(|code| code.starts_with("SY")).collect();
    assert_eq!(known, ours, "src/sqlstate.rs has the left");
}

#[test]
fn every_exit_code_is_explained() {
    let kinds = [
        ErrorKind::Failed,
        ErrorKind::Usage,
        ErrorKind::Config,
        ErrorKind::Unreachable,
        ErrorKind::Schema,
        ErrorKind::Drained,
    ];
    let mut codes: BTreeSet<String> = kinds.iter().map(|kind| kind.exit_code().to_string()).collect();
    codes.extend(["0", "130", "143"].map(str::to_owned));
    assert_eq!(explained("Exit codes"), codes);
}

#[test]
fn every_error_of_a_row_has_all_four_cells() {
    for line in read("docs/errors.md").lines().filter(|line| line.starts_with("| ")) {
        assert_eq!(line.matches(" |").count(), 4, "{line}");
    }
}

#[test]
fn no_code_matches_on_the_text_of_an_error() {
    for dir in
        ["src", "src/commands", "src/commands/import", "src/db", "src/dev", "src/guardian", "src/keeper"]
    {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ext| ext != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for trap in ["message().contains", "message().starts_with", "to_string().contains("] {
                assert!(!text.contains(trap), "{}: {trap}: act on the SQLSTATE or the kind", path.display());
            }
        }
    }
}
