//! What is kept of an output stream: its head and its tail.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Room for `\n[… 18446744073709551615 bytes cut …]\n`.
const MARKER: usize = 48;
/// More than the database lets a job keep. Who else gives orders is not to fill the keeper's memory.
const MOST: u64 = 16 << 20;
/// Reads of one stream before the others get their turn.
const READS_A_TURN: usize = 16;

/// The keeper's end of a job's output pipe, always drained, with bounded memory.
#[derive(Debug)]
pub(super) struct Stream {
    pipe: Option<File>,
    kept: Kept,
}

/// The first and the last bytes of what was written.
#[derive(Debug)]
struct Kept {
    limit: usize,
    head: Vec<u8>,
    /// Up to twice what is kept.
    tail: Vec<u8>,
    cut: u64,
}

impl Stream {
    /// A stream that keeps at most `limit` bytes of text.
    pub(super) fn new(pipe: OwnedFd, limit: u64) -> Self {
        Self { pipe: Some(File::from(pipe)), kept: Kept::new(limit) }
    }

    /// The pipe, until its end was read.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(File::as_fd)
    }

    /// Reads what is there, up to a turn's worth; true when the pipe is at its end. Do not close it yet:
    /// see [`Self::close`].
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> bool {
        let Some(pipe) = &mut self.pipe else { return true };
        for _ in 0..READS_A_TURN {
            match pipe.read(scratch) {
                Ok(0) => return true,
                Ok(length) => self.kept.add(&scratch[..length]),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return err.kind() != ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// Closes the pipe. The caller has taken it out of its epoll set: a forked child that has not executed
    /// yet may hold a copy, which would keep the entry alive.
    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// The text of what was kept.
    pub(super) fn into_text(self) -> String {
        self.kept.into_text()
    }
}

impl Kept {
    fn new(limit: u64) -> Self {
        let limit = limit.min(MOST) as usize;
        Self { limit, head: Vec::new(), tail: Vec::new(), cut: 0 }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        let half = self.limit / 2;
        if self.head.len() < half {
            let taken = bytes.len().min(half - self.head.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        let room = self.limit - half;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(room)..]);
        self.cut += bytes.len().saturating_sub(room) as u64;
        // Moved once in a while, not with each line.
        if self.tail.len() > 2 * room {
            self.trim(room);
        }
    }

    fn trim(&mut self, room: usize) {
        let surplus = self.tail.len().saturating_sub(room);
        self.tail.drain(..surplus);
        self.cut += surplus as u64;
    }

    fn into_text(mut self) -> String {
        self.trim(self.limit - self.limit / 2);
        if self.cut == 0 {
            self.head.extend(&self.tail);
            self.tail.clear();
            let text = printable(&self.head);
            if text.len() <= self.limit {
                return text;
            }
            // Replacements are longer than what they replace.
            let middle = self.head.len() / 2;
            self.tail.extend(self.head.drain(middle..));
        }
        let room = self.limit.saturating_sub(MARKER) / 2;
        // Whole characters at the cut: half a one would turn into a replacement.
        let torn =
            self.head.utf8_chunks().last().map_or(0, |chunk| match std::str::from_utf8(chunk.invalid()) {
                Err(err) if err.error_len().is_none() => chunk.invalid().len(),
                _ => 0,
            });
        let head = printable(&self.head[..self.head.len() - torn]);
        let orphaned = self.tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        let tail = printable(&self.tail[orphaned..]);
        let head = &head[..head.floor_char_boundary(room)];
        let dropped = tail.ceil_char_boundary(tail.len().saturating_sub(room));
        let shown = head.len() + tail.len() - dropped;
        let written = self.head.len() as u64 + self.tail.len() as u64 + self.cut;
        let cut = written.saturating_sub(shown as u64);
        format!("{head}\n[… {cut} bytes cut …]\n{}", &tail[dropped..])
    }
}

/// Head and tail of a text that is to be kept shorter.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    let mut kept = Kept::new(limit as u64);
    kept.add(text.as_bytes());
    kept.into_text()
}

/// Text without NUL, what is not UTF-8 replaced.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(limit: usize, writes: &[&[u8]]) -> String {
        let mut kept = Kept::new(limit as u64);
        writes.iter().for_each(|bytes| kept.add(bytes));
        assert!(kept.head.len() + kept.tail.len() <= 2 * limit);
        kept.into_text()
    }

    #[test]
    fn no_order_makes_it_keep_more_than_there_is_room_for() {
        let mut kept = Kept::new(u64::MAX);
        let chunk = vec![b'x'; 1 << 20];
        (0..100).for_each(|_| kept.add(&chunk));
        assert!(kept.head.len() + kept.tail.len() <= 2 * MOST as usize);
    }

    #[test]
    fn short_output_is_kept_whole() {
        assert_eq!(kept(10, &[b"hello", b" you"]), "hello you");
        assert_eq!(kept(10, &[b"0123456789"]), "0123456789");
    }

    #[test]
    fn long_output_keeps_head_and_tail_and_counts_what_was_cut() {
        let line = b"0123456789".repeat(1000);
        let text = kept(200, &[&line]);
        assert!(text.len() <= 200, "{}", text.len());
        assert!(text.starts_with("0123456789") && text.ends_with("0123456789"), "{text}");
        let shown = text.split('[').next().unwrap().len() - 1 + text.split("]\n").last().unwrap().len();
        assert!(text.contains(&format!("[… {} bytes cut …]", 10_000 - shown)), "{text}");
        let piecewise: Vec<&[u8]> = line.chunks(7).collect();
        assert_eq!(kept(200, &piecewise), text);
    }

    #[test]
    fn bytes_that_are_no_text_become_replacements() {
        assert_eq!(kept(100, &[b"a\0b\xFFc"]), "a\u{FFFD}b\u{FFFD}c");
    }

    #[test]
    fn replacements_do_not_break_the_limit() {
        let text = kept(1000, &[&[0xFF; 900]]);
        assert!(text.len() <= 1000 && text.contains("bytes cut"), "{}", text.len());
    }

    #[test]
    fn a_character_at_the_cut_is_not_torn() {
        let text = kept(201, &["ä€".repeat(1000).as_bytes()]);
        assert!(!text.contains('\u{FFFD}'), "{text}");
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        assert!(kept(0, &[b"abc"]).contains("3 bytes cut"));
    }
}
