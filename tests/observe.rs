//! What is logged and measured is documented.

use std::{fs, path::Path};

use sisyphus::observe::{event, metric};

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md")).unwrap()
}

#[test]
fn each_event_and_each_metric_has_its_row() {
    let page = page();
    for name in event::ALL.iter().copied().chain(metric::ALL.iter().map(|metric| metric.name)) {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/monitoring.md");
    }
}

#[test]
fn each_row_has_its_event_or_metric() {
    let known: Vec<&str> =
        event::ALL.iter().copied().chain(metric::ALL.iter().map(|metric| metric.name)).collect();
    for line in page().lines().filter(|line| line.starts_with("| `")) {
        let name = line.split('`').nth(1).unwrap();
        assert!(known.contains(&name) || name.starts_with('/'), "{name} is in docs/monitoring.md alone");
    }
}

#[test]
fn what_guardian_and_keeper_log_has_a_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> =
        ["src/guardian", "src/keeper", "src/db", "src/config"].map(|folder| root.join(folder)).into();
    let mut lines = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for level in ["info", "warn", "error"] {
                for after in text.split(&format!("tracing::{level}!(")).skip(1) {
                    let named = after.trim_start().starts_with("event = event::");
                    assert!(named, "{}: {level}!({}", path.display(), after.lines().next().unwrap());
                    lines += 1;
                }
            }
        }
    }
    assert!(lines > 40, "{lines}");
}
