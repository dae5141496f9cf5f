//! `sisyphus top` on a terminal of its own.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{Termios, tcgetattr},
    },
    unistd::Pid,
};

use crate::support::{Play, comes_true, command, play, run, sisyphus, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// The command on a terminal of its own, killed when this is dropped.
struct Top {
    child: Child,
    keyboard: File,
    terminal: OwnedFd,
    before: Termios,
    drawn: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(mut command: Command, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || pty.slave.as_fd().try_clone_to_owned().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(pty.master.try_clone().unwrap());
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, seen) = (File::from(pty.master), Arc::clone(&drawn));
        thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                seen.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self { child, keyboard, terminal: pty.slave, before, drawn }
    }

    fn of(play: &Play, rows: u16) -> Self {
        let mut command = command(&["top", "--every", "1"]);
        command.env("DATABASE_URL", play.db.url());
        Self::start(command, rows, 100)
    }

    /// All that was drawn, each time by itself; the last may not be complete.
    fn frames(&self) -> Vec<String> {
        let drawn = String::from_utf8_lossy(&self.drawn.lock().unwrap()).into_owned();
        drawn.split("\x1b[J").map(str::to_owned).collect()
    }

    /// Waits for a complete frame that holds all these texts.
    async fn shows(&self, texts: &[&str]) -> String {
        wait_until("it is drawn", SOON, async || {
            let frames = self.frames();
            let complete = frames.len().saturating_sub(1);
            let found =
                frames[..complete].iter().rev().find(|frame| texts.iter().all(|text| frame.contains(text)));
            found.cloned().ok_or_else(|| format!("{frames:#?}"))
        })
        .await
    }

    /// Waits for its end and asserts that the terminal is as it was.
    fn ended(mut self) {
        let mut status = None;
        assert!(comes_true(SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        }));
        assert_eq!(status.unwrap().code(), Some(0));
        assert!(tcgetattr(&self.terminal).unwrap() == self.before, "keys are shown again");
        assert!(comes_true(SOON, || self.frames().concat().ends_with("\x1b[?25h")), "and the cursor");
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn runs_and_jobs_are_drawn_anew_until_q() {
    let play = play().await;
    let guardian = play.guardian("web1", 4).await;
    sisyphus(&play, &["schedule", "nightly", "30 2 * * *", "true", "--max-runtime", "1h"]).success();
    sisyphus(&play, &["schedule", "now", "-", "true"]).success();
    let mut top = Top::of(&play, 24);
    let quiet = top.shows(&["1 of 1 hosts active · 0 of 4 slots busy", "nothing runs", "nightly"]).await;
    assert!(quiet.contains("30 2 * * *"), "{quiet}");
    assert!(tcgetattr(&top.terminal).unwrap() != top.before, "keys are not shown");

    play.run_now("nightly").await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(play.start(guardian, &claim).await, "accepted");
    let busy = top.shows(&["1 of 4 slots busy", "web1  running", "1 h 0 min"]).await;
    let job = busy.lines().filter(|line| line.starts_with("nightly")).count();
    assert_eq!(job, 1, "{busy}");
    play.exec("update sisyphus.run set paused_at = '2026-01-02 03:04:05+00'").await;
    top.shows(&["paused since 03:04:05"]).await;
    top.keyboard.write_all(b"x").unwrap();
    assert_eq!(play.finish(guardian, &claim, 3).await, "accepted");
    top.shows(&["0 of 4 slots busy", "nothing runs", "failed"]).await;
    top.keyboard.write_all(b"q").unwrap();
    top.ended();
}

#[tokio::test]
async fn a_signal_ends_it_and_the_terminal_is_as_it_was() {
    let play = play().await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let top = Top::of(&play, 24);
        let empty = top.shows(&["0 of 0 hosts active · 0 of 0 slots busy", "nothing runs"]).await;
        assert!(empty.contains("no jobs"), "{empty}");
        kill(Pid::from_raw(top.child.id().cast_signed()), signal).unwrap();
        top.ended();
    }
}

#[tokio::test]
async fn what_does_not_fit_is_counted() {
    let play = play().await;
    let guardian = play.guardian("a-host-with-a-rather-long-name.example.org", 40).await;
    for number in 0..20 {
        let name =
            format!("a job with a name that is longer than any table has room for, of number {number}");
        sisyphus(&play, &["schedule", &name, "0,5,10,15,20,25,30,35,40,45,50,55 0-23 1-31 * *", "true"])
            .success();
        play.run_now(&name).await;
    }
    play.tick().await;
    for claim in play.claim(guardian, 40).await {
        play.start(guardian, &claim).await;
    }
    let top = Top::of(&play, 20);
    // Eight lines are neither run nor job; each table gets half of the other twelve.
    let frame = top.shows(&["20 of 40 slots busy", "… and 14 more"]).await;
    let lines: Vec<_> =
        frame.lines().filter(|line| !line.starts_with("\x1b[") || line.contains("UTC")).collect();
    assert_eq!(lines.len(), 19, "{frame}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{frame}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("a job")).count(), 6, "{frame}");
}

#[tokio::test]
async fn a_viewer_may_look_and_without_a_terminal_it_is_refused() {
    let play = play().await;
    sisyphus(&play, &["schedule", "nightly", "30 2 * * *", "true"]).success();
    sisyphus(&play, &["top"])
        .failure(1, &["error: top draws on a terminal, and stdout is none", "hint: sisyphus runs --live"]);
    run(&["top", "--every", "0"]).failure(2, &["--every"]);
    drop(play.db.login("test_viewer", &["sisyphus_viewer"]).await);
    let mut viewer = command(&["top", "--every", "1"]);
    viewer.env("DATABASE_URL", play.db.url_as("test_viewer"));
    let top = Top::start(viewer, 24, 100);
    top.shows(&["nightly"]).await;
}
