//! How late the machine is: what waits for a processor cannot begin on time.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::records::now;

const NAP: Duration = Duration::from_millis(20);
const WORTH_NOTING: Duration = Duration::from_millis(40);

/// A thread that naps, and notes when it slept for too long.
pub(super) struct Stalls {
    end: Sender<()>,
    thread: JoinHandle<Vec<(i64, i64)>>,
}

impl Stalls {
    pub(super) fn watch() -> Self {
        let (end, ends) = channel();
        let thread = std::thread::spawn(move || {
            let mut stalls = Vec::new();
            loop {
                let begun = Instant::now();
                if ends.recv_timeout(NAP) != Err(RecvTimeoutError::Timeout) {
                    return stalls;
                }
                let late = begun.elapsed() - NAP;
                if late > WORTH_NOTING {
                    stalls.push((now(), i64::try_from(late.as_micros()).expect("less than a life")));
                }
            }
        });
        Self { end, thread }
    }

    /// When it was late, and by how many microseconds.
    pub(super) fn end(self) -> Vec<(i64, i64)> {
        drop(self.end);
        self.thread.join().expect("it does not panic")
    }
}
