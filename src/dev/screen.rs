//! Shows how the demo goes on: a table that is redrawn on a terminal, lines from time to time elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    commands::{
        output::{Column, print, render},
        terminal::Drawing,
    },
    db::client::Rows,
    error::Result,
};

const COLUMNS: [Column; 7] = [
    Column::text("job"),
    Column::text("schedule"),
    Column::text("running_on"),
    Column::number("attempts").titled("ended"),
    Column::number("succeeded"),
    Column::text("otherwise"),
    Column::when("next_due_at").titled("next"),
];

const LINE_EVERY: Duration = Duration::from_secs(5);

/// What has been shown so far.
#[derive(Debug)]
pub(super) struct Screen {
    begun: Instant,
    terminal: bool,
    drawing: Drawing,
    last_line: Option<Duration>,
}

#[derive(Deserialize)]
struct Job {
    job: String,
    running_on: Option<String>,
    attempts: Option<i64>,
    succeeded: Option<i64>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            terminal: io::stdout().is_terminal(),
            drawing: Drawing::default(),
            last_line: None,
        }
    }

    /// Says something that stays, below what was shown.
    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        self.drawing.leave();
        print(text)?;
        io::stdout().flush().ok();
        Ok(())
    }

    /// Shows these rows of `sql/demo/live.sql`.
    pub(super) fn show(&mut self, rows: &Rows) -> Result<()> {
        let passed = self.begun.elapsed();
        if self.terminal {
            let text = format!("after {} s\n{}\n", passed.as_secs(), render(rows, &COLUMNS)?);
            return self.drawing.draw(&text);
        }
        if self.last_line.is_none_or(|last| passed - last >= LINE_EVERY) {
            self.last_line = Some(passed);
            print(&line(passed, &rows.read()?))?;
            io::stdout().flush().ok();
        }
        Ok(())
    }
}

fn line(passed: Duration, jobs: &[Job]) -> String {
    let attempts: i64 = jobs.iter().filter_map(|job| job.attempts).sum();
    let succeeded: i64 = jobs.iter().filter_map(|job| job.succeeded).sum();
    let running: Vec<_> =
        jobs.iter().filter_map(|job| Some(format!("{} on {}", job.job, job.running_on.as_ref()?))).collect();
    let running = if running.is_empty() { "nothing".to_owned() } else { running.join("; ") };
    format!(
        "after {:>2} s: {succeeded} succeeded, {} ended otherwise; running: {running}",
        passed.as_secs(),
        attempts - succeeded
    )
}
