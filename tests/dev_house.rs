//! What comes with the program: units, scripts and documents that must agree with it.

use std::{fs, path::Path, process::Command};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_systemd_units_are_valid() {
    let scratch = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for name in ["sisyphus-keeper.service", "sisyphus-guardian.service"] {
        let text = fs::read_to_string(root().join("systemd").join(name)).unwrap();
        // systemd wants the program to be there.
        let text = text.replace("/usr/local/bin/sisyphus", env!("CARGO_BIN_EXE_sisyphus"));
        let unit = scratch.path().join(name);
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    let Ok(output) = Command::new("systemd-analyze").arg("verify").args(&units).output() else {
        eprintln!("skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents =
        vec![root().join("README.md"), root().join("CONTRIBUTING.md"), root().join("CHANGELOG.md")];
    documents.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let target = document.parent().unwrap().join(link);
            assert!(link.contains("://") || target.exists(), "{} links to {link}", document.display());
        }
    }
}

#[test]
fn make_lists_every_target_that_has_a_description() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let output = Command::new("make").arg("-C").arg(root()).arg("help").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    for target in ["demo", "test", "test-matrix", "bench", "bench-calendar", "lint", "fmt"] {
        assert!(listed.contains(&format!("make {target} ")), "{target} is not listed:\n{listed}");
        assert!(makefile.contains(&format!("\n{target}:")), "{target} is no target");
    }
}
