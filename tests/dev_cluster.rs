//! The private cluster: where it is found, started and refused.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use sisyphus::{
    dev::{
        account::Account,
        binaries::Search,
        cluster::{Cluster, Durability},
    },
    error::{Error, ErrorKind},
};
use tempfile::TempDir;

use crate::support;

/// Short and open to the server's user, wherever the checkout is.
fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("sisyphus-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[track_caller]
fn assert_config_error(err: &Error, message: &str, hint: &str) {
    assert_eq!(err.kind(), ErrorKind::Config, "{err}");
    assert!(err.to_string().contains(message), "{err}");
    assert!(err.hint_text().unwrap_or_default().contains(hint), "{:?}", err.hint_text());
}

fn start_fails(dir: &Path) -> Error {
    Cluster::start(dir, Durability::None).expect_err("refused")
}

#[tokio::test]
async fn a_second_start_finds_the_same_data() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let cluster = Cluster::start(&dir, Durability::None).unwrap();
    let client = support::connect(&cluster.url("postgres")).await;
    client.batch_execute("create table kept as select 1").await.unwrap();
    client.close().await;
    cluster.stop().unwrap();

    let cluster = Cluster::start(&dir, Durability::None).unwrap();
    let client = support::connect(&cluster.url("postgres")).await;
    client.batch_execute("table kept").await.unwrap();
    client.close().await;
    cluster.stop().unwrap();
}

#[tokio::test]
async fn a_server_left_running_is_taken_over() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    drop(Cluster::start(&dir, Durability::None).unwrap());
    let cluster = Cluster::start(&dir, Durability::None).unwrap();
    support::connect(&cluster.url("postgres")).await.close().await;
    cluster.stop().unwrap();
}

#[test]
fn a_directory_in_use_names_the_process() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let cluster = Cluster::start(&dir, Durability::None).unwrap();
    let pid = std::process::id();
    let err = start_fails(&dir);
    assert_config_error(&err, &format!("is in use by process {pid}"), &format!("kill {pid}"));
    cluster.stop().unwrap();
}

#[test]
fn a_directory_too_deep_for_a_socket_is_refused() {
    let scratch = scratch();
    let err = start_fails(&scratch.path().join("d".repeat(100)));
    assert_config_error(&err, "bytes long, the system allows 107", "shorter directory with --data-dir");
}

#[test]
fn a_directory_that_cannot_be_made_is_refused() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    let err = start_fails(&file.join("data"));
    assert_config_error(&err, "cannot be written", "--data-dir");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let scratch = scratch();
    fs::write(scratch.path().join("thesis.tex"), "").unwrap();
    let before = fs::metadata(scratch.path()).unwrap().permissions();
    let err = start_fails(scratch.path());
    assert_config_error(&err, "is not empty and holds no private PostgreSQL", "empty directory");
    assert_eq!(fs::metadata(scratch.path()).unwrap().permissions(), before);
}

#[test]
fn a_directory_closed_to_the_servers_user_is_refused() {
    if !Account::choose().unwrap().drops_root() {
        return;
    }
    let scratch = scratch();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let err = start_fails(&scratch.path().join("data"));
    assert_config_error(&err, "cannot be reached by user", "PostgreSQL refuses to run as root");
}

#[test]
fn without_postgresql_the_hint_names_the_package() {
    let scratch = scratch();
    let search = Search { path: scratch.path().into(), root: scratch.path().into() };
    fs::create_dir(scratch.path().join("etc")).unwrap();
    for (release, hint) in [
        ("ID=debian\n", "apt-get install postgresql"),
        ("ID=ubuntu\nID_LIKE=debian\n", "apt-get install postgresql"),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install postgresql-server"),
        ("ID=arch\n", "on the PATH"),
    ] {
        fs::write(scratch.path().join("etc/os-release"), release).unwrap();
        assert_config_error(&search.find(None).unwrap_err(), "no PostgreSQL 15 or newer server found", hint);
    }
    let err = search.find(Some(17)).unwrap_err();
    assert_config_error(&err, "no PostgreSQL 17 server found", "");
}

#[test]
fn the_newest_server_of_the_usual_places_is_taken_and_old_ones_are_passed_over() {
    let scratch = scratch();
    let search = Search { path: scratch.path().into(), root: scratch.path().into() };
    fake_server(&scratch.path().join("usr/lib/postgresql/9"), "9.6.24");
    let err = search.find(None).unwrap_err();
    assert_config_error(&err, "only 9 in", "");
    fake_server(&scratch.path().join("usr/pgsql-16"), "16.2");
    assert_eq!(search.find(None).unwrap().major(), 16);
    fake_server(&scratch.path().join("usr/lib/postgresql/18"), "18beta1 (Debian 18~beta1)");
    assert_eq!(search.find(None).unwrap().major(), 18);
    assert_eq!(search.find(Some(16)).unwrap().major(), 16);
}

fn fake_server(dir: &Path, version: &str) {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for program in ["initdb", "pg_ctl", "postgres"] {
        let path = bin.join(program);
        fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
