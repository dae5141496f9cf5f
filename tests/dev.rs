//! `sisyphus dev`: the refusals of the real program, and the whole house from start to Ctrl-C.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use sisyphus::dev::cluster::{Cluster, Durability};
use tempfile::TempDir;

use crate::support::{self, connect, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Short and open to the server's user, wherever the checkout is.
fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("sisyphus-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn a_data_directory_in_use_is_refused_with_its_user() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let cluster = Cluster::start(&dir, Durability::None).unwrap();
    let pid = std::process::id();
    let refused = support::run(&["dev", "--data-dir", dir.to_str().unwrap()]);
    refused
        .failure(3, &[&format!("is in use by process {pid}"), &format!("hint: stop that one (kill {pid})")]);
    cluster.stop().unwrap();
}

#[test]
fn a_socket_path_too_long_is_refused() {
    let deep = format!("/tmp/{}", "d".repeat(100));
    support::run(&["dev", "--data-dir", &deep])
        .failure(3, &["the system allows 107", "hint: choose a shorter"]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    support::run(&["dev", "--data-dir", "/dev/null/data"]).failure(
        3,
        &["data directory /dev/null/data cannot be written", "hint: choose another with --data-dir"],
    );
}

#[test]
fn without_postgresql_it_is_refused_and_the_hint_says_what_to_install() {
    // The binary sees only what is on its PATH and in the usual places: a root where both are empty hides the
    // server. Without the right to make one there is still the test of the search itself in dev_cluster.
    let scratch = scratch();
    let hide = "mount -t tmpfs none /usr/lib/postgresql && exec \"$0\" dev --data-dir \"$1\"";
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", hide, env!("CARGO_BIN_EXE_sisyphus")])
        .arg(scratch.path().join("data"));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let debian = fs::read_to_string("/etc/os-release").unwrap_or_default().contains("ID=debian");
    if !nix::unistd::geteuid().is_root() || !debian {
        eprintln!("skipped: needs root on Debian");
        return;
    }
    let refused = support::finish(command);
    if refused.stderr.contains("mount:") || refused.stderr.contains("unshare:") {
        eprintln!("skipped: {}", refused.stderr);
        return;
    }
    refused.failure(
        3,
        &["no PostgreSQL 15 or newer server found", "hint: install it: apt-get install postgresql"],
    );
}

#[test]
fn demo_and_a_command_exclude_each_other() {
    support::run(&["dev", "--demo", "--", "true"]).failure(2, &["cannot be used with"]);
}

#[test]
fn a_command_has_the_database_and_hands_its_exit_code_on() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let text =
        "test -S \"$PGHOST/.s.PGSQL.$PGPORT\" && echo \"$PGUSER $PGDATABASE $SISYPHUS_DATABASE_URL\"; exit 7";
    let ended = support::run(&["dev", "--data-dir", dir.to_str().unwrap(), "--", "sh", "-c", text]);
    assert_eq!(ended.code(), Some(7), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("postgres sisyphus postgresql://postgres@"), "{}", ended.stdout);
    assert!(!dir.join("postgres/postmaster.pid").exists(), "the server has ended");
}

#[tokio::test]
async fn an_interrupt_terminates_the_jobs_and_keeps_their_results() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let dir = dir.to_str().unwrap();
    let dev = support::spawn(support::command(&["dev", "--data-dir", dir]));
    let url = sisyphus::dev::cluster::url(dir.as_ref(), "postgres", "sisyphus");
    wait_until("host dev is active", SOON, async || ready(&url).await).await;
    begin(&url, "select sisyphus.submit('echo begun; sleep 600')").await;
    let asked = Instant::now();
    dev.signal(Signal::SIGINT);
    let ended = dev.wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains(&format!("psql -h {dir} -U postgres sisyphus")), "{}", ended.stdout);
    assert!(ended.stderr.contains("terminating run 1 on dev"), "{}", ended.stderr);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());

    // The second start finds the same data.
    let look = "select state || ' ' || trim(stdout, e'\\n') || ' ' || reason from sisyphus.history";
    let second = support::run(&["dev", "--data-dir", dir, "--", "psql", "-XAtc", look]).success();
    assert!(second.starts_with("terminated begun "), "{second}");
    assert!(second.contains("sisyphus dev was stopped"), "{second}");
}

/// As in `sisyphus dev 2>&1 | tee log`, where Ctrl-C ends tee first.
#[tokio::test]
async fn it_ends_everything_though_nobody_hears_what_it_says() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let deaf = "exec \"$0\" dev --data-dir \"$1\" 2> /dev/full";
    let words = ["-c", deaf, env!("CARGO_BIN_EXE_sisyphus"), dir.to_str().unwrap()];
    let dev = support::spawn(support::command_of("/bin/sh".as_ref(), &words));
    let url = sisyphus::dev::cluster::url(&dir, "postgres", "sisyphus");
    wait_until("host dev is active", SOON, async || ready(&url).await).await;
    begin(&url, "select sisyphus.submit('sleep 600')").await;
    dev.signal(Signal::SIGINT);
    assert_eq!(dev.wait().code(), Some(0));
    assert!(!dir.join("postgres/postmaster.pid").exists(), "the server has ended");
}

/// Another process takes its place after a kill -9: a mere restart, for the jobs.
mod faults {
    use super::*;

    #[tokio::test]
    async fn a_killed_dev_is_followed_by_one_that_takes_over_server_guardian_and_jobs() {
        let scratch = scratch();
        let dir = scratch.path().join("data");
        let dir = dir.to_str().unwrap();
        let url = sisyphus::dev::cluster::url(dir.as_ref(), "postgres", "sisyphus");
        let dev = support::spawn(support::command(&["dev", "--data-dir", dir]));
        wait_until("host dev is active", SOON, async || ready(&url).await).await;
        begin(
            &url,
            "select sisyphus.schedule('long', null, 'echo begun; sleep 600'); select sisyphus.run_now('long')",
        )
        .await;
        // Killed. It is not waited for as a command is: its guardian lives and still holds the pipes.
        drop(dev);

        let look = "select job || ' ' || state from sisyphus.running";
        let next = support::run(&["dev", "--data-dir", dir, "--", "psql", "-XAtc", look]);
        assert!(next.stderr.contains("terminating run 1 of long on dev"), "{}", next.stderr);
        assert_eq!(next.success(), "long running\n");
    }
}

/// Asks for a run and waits until it runs.
async fn begin(url: &str, script: &str) {
    let client = connect(url).await;
    client.batch_execute(script).await.unwrap();
    wait_until("the job runs", SOON, async || {
        let running = "select count(*) from sisyphus.running where state = 'running'";
        let count: i64 = client.query_one(running, &[]).await.unwrap().get(0);
        if count == 1 { Ok(()) } else { Err("nothing running".to_owned()) }
    })
    .await;
    client.close().await;
}

async fn ready(url: &str) -> Result<(), String> {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(|err| err.to_string())?;
    let driver = tokio::runtime::Handle::current().spawn(connection);
    let state = client.query_opt("select state from sisyphus.fleet where host = 'dev'", &[]).await;
    driver.abort();
    match state.map_err(|err| err.to_string())? {
        Some(row) if row.get::<_, &str>(0) == "active" => Ok(()),
        Some(row) => Err(row.get(0)),
        None => Err("no host".to_owned()),
    }
}

#[test]
fn the_demo_shows_the_history_it_promises_and_leaves_no_process() {
    let scratch = scratch();
    let dir = scratch.path().join("data");
    let shown = support::spawn(support::command(&["dev", "--demo", "--data-dir", dir.to_str().unwrap()]));
    let shown = shown.wait_for(Duration::from_secs(150)).success();
    for text in [
        "after  0 s: ",
        "** kill -9 ",
        "gets a new guardian, which takes them over",
        "sisyphus.overview",
        "sisyphus.history, the last 20 rows",
        "the history is as it should be",
    ] {
        assert!(shown.contains(text), "{text:?} is missing:\n{shown}");
    }
    let left: Vec<String> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|command| command.contains(dir.to_str().unwrap()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
