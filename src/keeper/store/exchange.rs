//! The store's conversation with its writer: what that one is told, what it answers, and another one when it dies.

use std::io::{self, ErrorKind, Read, Write};

use super::{
    super::clock::Moment,
    Place, Segment, Store,
    work::Work,
    writer::{self, Writer},
};
use crate::observe::event;

/// A segment is closed at this size.
const SEGMENT_LIMIT: u64 = 16 << 20;
/// Between two tries to write to a disk that refuses.
pub(super) const RETRY_US: i64 = 1_000_000;
/// Bytes told to the writer ahead of its answers, at most; what waits behind them can still be dropped.
const OUTGOING_LIMIT: usize = 1 << 20;

/// What the writer was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) segment: u64,
    /// Its number and what it is; none: the segment was to be removed, which never waits in the queue.
    pub(super) record: Option<(u64, Work)>,
}

impl Store {
    /// Writes to the writer and hears its answers, or starts another one; true when the socket is another one than
    /// before, or there is none any more.
    pub(in crate::keeper) fn exchange(&mut self, now: Moment) -> bool {
        let had_one = self.writer.is_some();
        if had_one {
            let (sent, heard) = (self.send(), self.hear(now));
            if sent.and(heard).is_ok() {
                return false;
            }
            tracing::error!(event = event::KEEPER_WRITER_DIED, "the writer of the result log has died");
            self.part(now);
        }
        let has_one = self.retry_us.is_none() && self.start_writer(now);
        if has_one {
            // If it has died already, its socket says so.
            self.send().ok();
        }
        has_one || had_one
    }

    /// Does without the writer until another one is started. What it has not answered for is told to that one.
    pub(in crate::keeper) fn part(&mut self, now: Moment) {
        self.writer = None;
        (self.outgoing, self.incoming) = (Vec::new(), Vec::new());
        self.current += 1;
        for Told { segment, record } in std::mem::take(&mut self.told) {
            match record {
                Some((number, work)) => drop(self.queue.insert(number, work)),
                None => self.remove(segment),
            }
        }
        // One that dies at once, and its successors, must not keep the keeper busy.
        let again_us = self.forked_us + RETRY_US;
        if now.boottime_us < again_us {
            self.retry_us.get_or_insert(again_us);
        }
    }

    fn start_writer(&mut self, now: Moment) -> bool {
        match Writer::fork(&self.directory, &self.lock) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.forked_us = now.boottime_us;
            }
            Err(err) => {
                tracing::error!(event = event::KEEPER_RESULTS_UNSTORED, error = %err, "results cannot be stored: no writer can be started");
                self.retry_us = Some(now.boottime_us + RETRY_US);
            }
        }
        self.writer.is_some()
    }

    /// Tells the writer what it can take.
    fn tell(&mut self) {
        while self.outgoing.len() < OUTGOING_LIMIT
            && self.retry_us.is_none()
            && let Some((number, work)) = self.queue.pop_first()
        {
            if self.segments.get(&self.current).is_some_and(|segment| segment.bytes > SEGMENT_LIMIT) {
                self.current += 1;
            }
            let json = work.json();
            writer::append_frame(self.current, json, &mut self.outgoing);
            let fresh = Segment { bytes: 0, unacknowledged: 0, touched_us: 0 };
            self.segments.entry(self.current).or_insert(fresh).bytes += json.len() as u64;
            self.told.push_back(Told { segment: self.current, record: Some((number, work)) });
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.tell();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut sent = 0;
        while sent < self.outgoing.len() {
            match writer.socket.write(&self.outgoing[sent..]) {
                Ok(length) => sent += length,
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        self.outgoing.drain(..sent);
        Ok(())
    }

    fn hear(&mut self, now: Moment) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut chunk = [0; 4096];
        loop {
            match writer.socket.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.incoming.extend_from_slice(&chunk[..length]),
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        let incoming = std::mem::take(&mut self.incoming);
        let (answers, rest) = incoming.as_chunks::<{ writer::ANSWER }>();
        for answer in answers {
            let (errno, offset) = writer::answer(answer);
            self.answered(now, errno, offset);
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    fn answered(&mut self, now: Moment, errno: i32, offset: u64) {
        let Some(Told { segment, record: Some((number, work)) }) = self.told.pop_front() else { return };
        if errno != 0 {
            if self.retry_us.is_none() {
                tracing::error!(event = event::KEEPER_RESULTS_UNSTORED, error = %io::Error::from_raw_os_error(errno), "results cannot be stored");
            }
            self.retry_us.get_or_insert(now.boottime_us + RETRY_US);
            return drop(self.queue.insert(number, work.shortened()));
        }
        let Some(state) = self.segments.get_mut(&segment) else { return };
        state.touched_us = now.boottime_us;
        if let Work::Result(key, json) = work {
            state.unacknowledged += 1;
            self.unstored.remove(&key);
            self.stored.insert(key, Place { segment, offset, length: json.len() });
        }
    }
}
