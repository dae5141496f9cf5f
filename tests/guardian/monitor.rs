//! What a guardian shows: metrics and states over HTTP, and its log; and how it takes new settings.

use std::fs;

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::host::{Host, SOON, end_of, run, stop, until};
use crate::support::{self, Proxy, free_port, wait_until};

/// Sends a request and returns the whole answer.
async fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn get(port: u16, path: &str) -> String {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_metrics_and_whether_it_is_alive_and_ready() {
    let db = support::db().await;
    let client = db.client().await;
    let port = free_port();
    let proxy = Proxy::start().await;
    proxy.cut();
    let host = Host::new("web1", &proxy.url(db.name()));
    let guardian = host.spawn(&["--slots", "3", "--http-address", &format!("127.0.0.1:{port}")]);
    wait_until("it is alive before the database answers", SOON, async || {
        let answer = get(port, "/live").await;
        if answer.starts_with("HTTP/1.1 200 OK\r\n") { Ok(()) } else { Err(answer) }
    })
    .await;
    let unready = get(port, "/ready").await;
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.contains("not ready: "), "{unready}");
    proxy.mend();
    wait_until("it is ready", SOON, async || {
        let answer = get(port, "/ready").await;
        if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(answer) }
    })
    .await;
    let run_id = run(&client, "a", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    wait_until("the run is counted", SOON, async || {
        let page = get(port, "/metrics").await;
        let lines = [
            "sisyphus_guardian_ready 1\n",
            "sisyphus_guardian_database_connected 1\n",
            "sisyphus_guardian_slots 3\n",
            "sisyphus_guardian_runs{stage=\"running\"} 0\n",
            "sisyphus_guardian_runs_started_total 1\n",
            "sisyphus_guardian_results_total 1\n",
            "# TYPE sisyphus_guardian_start_lateness_seconds histogram\n",
        ];
        if lines.iter().all(|line| page.contains(line)) { Ok(()) } else { Err(page) }
    })
    .await;
    // Every metric that there is stands there with its help.
    let page = get(port, "/metrics").await;
    for metric in sisyphus::observe::metric::ALL {
        assert!(page.contains(&format!("# HELP {} ", metric.name)), "{} in {page}", metric.name);
    }

    for (request, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 404 "),
        ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
        ("GET /ready?verbose HTTP/1.0\n\n", "HTTP/1.1 200 "),
        ("HEAD /live HTTP/1.1\r\n\r\n", "HTTP/1.1 200 "),
    ] {
        let answer = ask(port, request).await.unwrap();
        assert!(answer.starts_with(status), "{request}: {answer}");
        assert!(!request.starts_with("HEAD") || answer.ends_with("\r\n\r\n"), "{answer}");
    }
    // Who asks too much, and who asks nothing, hold up nobody.
    let flood = ask(port, &"x".repeat(64 << 10)).await.unwrap_or_default();
    assert_eq!(flood, "");
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert!(get(port, "/live").await.ends_with("live\n"));

    // Cut off it is alive, and not ready.
    proxy.cut();
    proxy.reset();
    wait_until("it is not ready", SOON, async || {
        let answer = get(port, "/ready").await;
        if answer.ends_with("not ready: the database is out of reach\n") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert!(get(port, "/live").await.starts_with("HTTP/1.1 200 "));
    proxy.mend();
    until(&client, "it is back", "exists (select from sisyphus.fleet where state = 'active')").await;
    stop(guardian);
}

#[test]
fn an_address_that_is_taken_is_a_wrong_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let host = Host::new("web1", "host=/nonexistent dbname=none user=nobody");
    let text = format!("cannot listen on --http-address {address}");
    host.spawn(&["--http-address", &address]).wait().failure(3, &[&text]);
}

#[tokio::test]
async fn its_log_can_be_read_by_programs() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &["--log-format", "json"]).await;
    let run_id = run(&client, "a", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let ended = stop(guardian);
    let mut events = Vec::new();
    for line in ended.stderr.lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line}"));
        for field in ["timestamp", "level", "message", "event"] {
            assert!(entry[field].is_string(), "{field} in {line}");
        }
        events.push(entry["event"].as_str().unwrap().to_owned());
    }
    for event in [
        "guardian.starting",
        "keeper.connected",
        "database.connected",
        "guardian.registered",
        "guardian.ended",
    ] {
        assert!(events.iter().any(|seen| seen == event), "{event} in {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_sighup_it_reads_its_settings_again() {
    let db = support::db().await;
    let client = db.client().await;
    let (old, new) = (Proxy::start().await, Proxy::start().await);
    let host = Host::new("web1", "service=jobs");
    let service = host.file("services");
    let write = |proxy: &Proxy| {
        let text =
            format!("[jobs]\nhost=127.0.0.1\nport={}\nuser=postgres\ndbname={}\n", proxy.port(), db.name());
        fs::write(&service, text).unwrap();
    };
    write(&old);
    let mut command = host.command(&[]);
    command.env("PGSERVICEFILE", &service);
    let guardian = support::spawn(command);
    until(&client, "it is there", "exists (select from sisyphus.fleet where state = 'active')").await;
    // Settings that cannot be read change nothing.
    fs::write(&service, "").unwrap();
    guardian.signal(Signal::SIGHUP);
    write(&new);
    guardian.signal(Signal::SIGHUP);
    old.cut();
    old.reset();
    let run_id = run(&client, "a", "true").await;
    assert_eq!(end_of(&client, run_id).await, "succeeded");
    let ended = stop(guardian);
    assert!(ended.stderr.contains("settings read again"), "{}", ended.stderr);
}

/// What the keeper takes for its pid is nobody's here, or somebody else's.
#[tokio::test]
async fn at_sighup_a_keeper_in_another_pid_namespace_reads_its_policy_again() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes pid namespaces");
        return;
    }
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let policy = host.file("policy.toml");
    fs::write(&policy, "users = [\"root\"]\nshell = true\n").unwrap();
    let (state_dir, far_pid) = (host.state_dir(), 4_194_000);
    let as_that_pid = format!("echo {} > /proc/sys/kernel/ns_last_pid; \"$@\" & wait", far_pid - 1);
    let mut keeper = std::process::Command::new("unshare");
    keeper.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &as_that_pid, "sh"]);
    keeper.args([env!("CARGO_BIN_EXE_sisyphus"), "keeper", "--cgroup", "none", "--state-dir"]);
    keeper.arg(&state_dir).arg("--policy").arg(&policy);
    let keeper = support::spawn(keeper);
    wait_until("the keeper listens", SOON, async || {
        if state_dir.join("keeper.sock").exists() { Ok(()) } else { Err("no socket".to_owned()) }
    })
    .await;
    let guardian = host.start(&client, &[]).await;
    assert_eq!(end_of(&client, run(&client, "first", "true").await).await, "succeeded");
    fs::write(&policy, "users = [\"root\"]\nshell = true\nowners = [\"etl\"]\n").unwrap();
    guardian.signal(Signal::SIGHUP);
    wait_until("the policy holds", SOON, async || {
        let state = end_of(&client, run(&client, "again", "true").await).await;
        if state == "refused" { Ok(()) } else { Err(state) }
    })
    .await;
    let ended = stop(guardian);
    assert!(ended.stderr.contains(&format!("pid={far_pid}")), "{}", ended.stderr);
    keeper.signal(Signal::SIGTERM);
}
