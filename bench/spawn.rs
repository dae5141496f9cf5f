//! How many `/bin/true` a second the keeper runs, results stored and acknowledged, beside a bare loop of
//! spawn and wait. `cargo bench --bench spawn -- 20000`

use std::{
    collections::VecDeque,
    error::Error,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use sisyphus::keeper::{
    StateDirectory,
    protocol::{Event, GuardianHello, PROTOCOL, Request, RunSpec, Start},
};

/// Runs at once.
const WINDOW: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let bare = rate(count, bare(count)?);
    println!("bare spawn and wait       {bare:>8.0} /s");
    let (took, footprint) = kept(count)?;
    let kept = rate(count, took);
    println!("through the keeper        {kept:>8.0} /s   ratio {:.2}", kept / bare);
    println!("keeper afterwards         {footprint}");
    Ok(())
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn bare(count: usize) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    let mut running: VecDeque<Child> = VecDeque::new();
    for _ in 0..count {
        if running.len() == WINDOW
            && let Some(mut child) = running.pop_front()
        {
            child.wait()?;
        }
        let mut command = Command::new("/bin/true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        running.push_back(command.spawn()?);
    }
    for mut child in running {
        child.wait()?;
    }
    Ok(begun.elapsed())
}

fn kept(count: usize) -> Result<(Duration, String), Box<dyn Error>> {
    let root = tempfile::tempdir()?;
    let directory = StateDirectory::open(root.path())?;
    let mut keeper = Command::new(env!("CARGO_BIN_EXE_sisyphus"))
        .args(["keeper", "--state-dir"])
        .arg(directory.path())
        .arg("--policy")
        .arg(policy(root.path())?)
        .spawn()?;
    let mut socket = loop {
        match UnixStream::connect(directory.socket()) {
            Ok(socket) => break socket,
            Err(_) => std::thread::yield_now(),
        }
    };
    let mut events = BufReader::new(socket.try_clone()?).lines();
    let mut send = |request: &Request| -> Result<(), Box<dyn Error>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        Ok(socket.write_all(&line)?)
    };
    send(&Request::Hello(GuardianHello { protocol: PROTOCOL, epoch: 1 }))?;
    let begun = Instant::now();
    let (mut started, mut ended) = (0, 0);
    while ended < count {
        while started < count && started - ended < WINDOW {
            started += 1;
            send(&Request::Start(Box::new(order(started as i64)?)))?;
        }
        let line = events.next().ok_or("the keeper has hung up")??;
        if let Event::Result(result) = serde_json::from_str(&line)? {
            assert_eq!(result.exit_code, Some(0), "{result:?}");
            ended += 1;
            send(&Request::Ack(result.key))?;
        }
    }
    let took = begun.elapsed();
    let pid = keeper.id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let footprint = memory.map(|line| line.replace('\t', "")).collect::<Vec<_>>().join("   ");
    keeper.kill()?;
    keeper.wait()?;
    Ok((took, format!("{footprint}   {files} files")))
}

/// Jobs run as the user of the bench, also when that is root.
fn policy(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid())?.ok_or("who am I")?.name;
    let path = root.join("policy.toml");
    std::fs::write(&path, format!("users = [{own:?}]\nshell = true\n"))?;
    Ok(path)
}

fn order(run_id: i64) -> serde_json::Result<Start> {
    let spec: RunSpec = serde_json::from_value(json!({
        "job": "bench", "run_id": run_id, "attempt": 1, "claim_no": run_id, "argv": ["/bin/true"],
        "due_us": 0, "grace": 1.0
    }))?;
    Ok(Start {
        installation: uuid::Uuid::nil(),
        host: "bench".to_owned(),
        spec,
        database: None,
        deadline_boottime_us: None,
    })
}
