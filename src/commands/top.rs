//! `top`: what happens, as it happens.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    output::{Column, render, width},
    signals::Signals,
    terminal::{Drawing, Keys},
};
use crate::{
    db::{
        board::{Board, Totals},
        client::{Rows, Session},
    },
    error::{Error, ErrorKind, Result},
};

/// Watch runs and jobs at work
///
/// Shows hosts and queues in a line, the runs that are claimed or running, and of the jobs those that run or ran
/// last, drawn anew every two seconds until q or Ctrl-C. Costs the database one statement each time, which reads
/// no more of the jobs than fit the screen.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  sisyphus top --every 5")]
pub struct TopArgs {
    /// Seconds between two looks, from 1
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

const RUNS: [Column; 8] = [
    Column::number("run_id").titled("run"),
    Column::number("attempt").titled("try").spare(),
    Column::text("job").or("command"),
    Column::text("host"),
    Column::text("state"),
    Column::duration("running_seconds").titled("for"),
    Column::duration("max_runtime_seconds").titled("at most"),
    Column::when("due_at").titled("due"),
];

const JOBS: [Column; 9] = [
    Column::text("job"),
    Column::text("state"),
    Column::prose("schedule"),
    Column::when("next_due_at").titled("next"),
    Column::number("running").spare(),
    Column::text("last_state").titled("last"),
    Column::when("last_started_at").titled("started").spare(),
    Column::duration("last_duration_seconds").titled("took").spare(),
    Column::percent("success_ratio").titled("ok").spare(),
];

/// The line of totals, two blank lines, two headings of two lines, and where the cursor stands.
const AROUND: usize = 8;

/// Draws until a key or signal ends it.
pub(super) async fn top(args: TopArgs, session: &Session) -> Result<()> {
    if !io::stdout().is_terminal() {
        return Err(Error::new(ErrorKind::Failed, "top draws on a terminal, and stdout is none")
            .hint("sisyphus runs --live and sisyphus jobs print the same once"));
    }
    let mut signals = Signals::register()?;
    let mut keys = Keys::take()?;
    tokio::select! {
        failed = draw_on(Duration::from_secs(args.every), session) => failed,
        () = signals.any() => Ok(()),
        () = ended_by(&mut keys) => Ok(()),
    }
}

/// Draws for ever.
async fn draw_on(every: Duration, session: &Session) -> Result<()> {
    let mut resized = signal(SignalKind::window_change())
        .map_err(|err| Error::new(ErrorKind::Failed, "signals cannot be handled").source(err))?;
    let mut drawing = Drawing::default();
    loop {
        let height = height();
        let board = session.board(i64::try_from(height).unwrap_or(i64::MAX)).await?;
        drawing.draw(&text(&board, height)?)?;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = resized.recv() => {
                // Lines that became too long are more lines now than were drawn.
                drawing.draw("\x1b[H\x1b[J")?;
                drawing.leave();
            }
        }
    }
}

async fn ended_by(keys: &mut Keys) {
    while !matches!(keys.pressed().await, Some(b'q' | b'Q') | None) {}
}

fn height() -> usize {
    const SMALLEST: u16 = 12;
    terminal_size::terminal_size()
        .map_or(24, |(_, terminal_size::Height(height))| height.max(SMALLEST))
        .into()
}

fn text(board: &Board, height: usize) -> Result<String> {
    let rows = height.saturating_sub(AROUND);
    // Each gets half, and what the other leaves.
    let (runs, jobs) = (board.runs.objects.len(), board.jobs.objects.len());
    let runs = runs.min((rows / 2).max(rows.saturating_sub(jobs)));
    let jobs = jobs.min(rows - runs);
    let mut lines = vec![totals(&board.totals), String::new()];
    if runs == 0 {
        lines.push("nothing runs".to_owned());
    } else {
        lines.push(render(&first(&board.runs, runs), &RUNS)?);
    }
    let more = usize::try_from(board.totals.taken).unwrap_or(0).saturating_sub(runs);
    lines.push(if more > 0 { format!("… and {more} more") } else { String::new() });
    if jobs == 0 {
        lines.push("no jobs".to_owned());
    } else {
        lines.push(render(&first(&board.jobs, jobs), &JOBS)?);
    }
    // A line that is too long would become two.
    let text = lines.join("\n");
    let fit = |line: &str| line.chars().take(width().into()).collect::<String>() + "\n";
    Ok(text.lines().take(height - 1).map(fit).collect())
}

fn first(rows: &Rows, count: usize) -> Rows {
    Rows { now: rows.now, objects: rows.objects[..count].to_vec() }
}

fn totals(totals: &Totals) -> String {
    let Totals { clock, hosts, active, slots, busy, pending, overdue, .. } = totals;
    format!(
        "{clock} UTC · {active} of {hosts} hosts active · {busy} of {slots} slots busy · {pending} pending, {overdue} overdue"
    )
}
