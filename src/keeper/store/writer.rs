//! The process that writes the result log, so that no disk ever stalls the keeper's loop.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::posix_fallocate,
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::Pid,
};

use super::{
    super::{footprint, sys},
    segment,
};

/// Frame head: segment number and length of the JSON.
const HEAD: usize = 12;
/// A length that means: remove this segment.
const REMOVE: u32 = u32::MAX;
/// Bytes held back: some hundred outcomes without their outputs.
const RESERVE: i64 = 1 << 20;
/// A record without its outputs is at most so long. Longer ones come again, cut, when the disk is full.
const SHORT: usize = 8 << 10;
/// One answer a frame, in order: errno, and the offset of the JSON in its segment.
pub(super) const ANSWER: usize = 12;

/// The keeper's end of its writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) pid: Pid,
    pub(super) socket: UnixStream,
}

/// The writer's side: lines of one segment gathered, then written and synced at once.
struct Log {
    directory: PathBuf,
    current: Option<Segment>,
    batch: Vec<u8>,
    /// The longest record of the batch.
    longest: usize,
    reserve: Reserve,
}

/// Room on the disk held back, so that outcomes still fit when it is full.
struct Reserve {
    path: PathBuf,
    taken: bool,
}

struct Segment {
    number: u64,
    file: File,
    length: u64,
}

/// The frame that appends a record.
pub(super) fn append_frame(segment: u64, json: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&segment.to_le_bytes());
    into.extend_from_slice(&(json.len() as u32).to_le_bytes());
    into.extend_from_slice(json);
}

/// The frame that removes a segment.
pub(super) fn remove_frame(segment: u64, into: &mut Vec<u8>) {
    into.extend_from_slice(&segment.to_le_bytes());
    into.extend_from_slice(&REMOVE.to_le_bytes());
}

impl Writer {
    /// Forks the writer. It keeps the keeper's lock open, so that the lock is free only once every result
    /// of a dead keeper is on disk, and ends when the keeper's end of the socket closes.
    pub(super) fn fork(directory: &Path, lock: &OwnedFd) -> io::Result<Self> {
        let (socket, far) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let (directory, lock) = (directory.to_owned(), lock.try_clone()?);
        let pid = sys::fork_into(move || match serve(&directory, far, lock) {
            Ok(()) => 0,
            Err(_) => 1,
        })?;
        Ok(Self { pid, socket })
    }
}

/// The writer's life: read what there is, write it, make it durable, answer.
fn serve(directory: &Path, mut socket: UnixStream, lock: OwnedFd) -> io::Result<()> {
    isolate(&socket, &lock)?;
    let mut reserve = Reserve { path: directory.join("reserve"), taken: false };
    reserve.take();
    let mut log =
        Log { directory: directory.to_owned(), current: None, batch: Vec::new(), longest: 0, reserve };
    let mut buffer: Vec<u8> = Vec::new();
    let mut chunk = vec![0; 256 << 10];
    footprint::give_back();
    loop {
        let length = match socket.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        buffer.extend_from_slice(&chunk[..length]);
        let (done, answers) = log.perform(&buffer);
        buffer.drain(..done);
        // A keeper that is gone reads no answers; what it wrote before is still to be stored.
        let _ = socket.write_all(&answers);
    }
}

/// Leaves everything of the keeper behind but the socket and the lock: a copy of a pipe's or a client's
/// descriptor here would keep it open after the keeper has closed it.
fn isolate(socket: &UnixStream, lock: &OwnedFd) -> io::Result<()> {
    // What asks the keeper to stop, perhaps a terminal, is not for the writer.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        sys::ignore(signal)?;
    }
    SigSet::empty().thread_set_mask()?;
    prctl::set_name(c"sisyphus-writer")?;
    // The keeper of a detached start still has the standard error of whoever waits for it.
    sys::silence()?;
    sys::close_all_but(&[socket.as_fd(), lock.as_fd()])?;
    Ok(())
}

impl Log {
    /// Performs the whole frames of `input`: how many bytes they had, and their answers.
    fn perform(&mut self, mut input: &[u8]) -> (usize, Vec<u8>) {
        let (length, mut answers) = (input.len(), Vec::new());
        let mut failure = 0;
        let mut pending = Vec::new();
        while let Some((segment, size)) = head(input) {
            if size == REMOVE {
                input = &input[HEAD..];
                // One that stays is found by the next keeper.
                let _ = fs::remove_file(segment::path(&self.directory, segment));
                pending.push(None);
                continue;
            }
            let Some(json) = input.get(HEAD..HEAD + size as usize) else { break };
            input = &input[HEAD + size as usize..];
            let offset = self.turn_to(segment).map(|begin| {
                let offset = begin + (self.batch.len() + segment::PREFIX) as u64;
                segment::line(json, &mut self.batch);
                self.longest = self.longest.max(json.len());
                offset
            });
            failure = offset.as_ref().map_or_else(errno, |_| failure);
            pending.push(Some(offset.unwrap_or(0)));
        }
        failure = self.flush().map_or_else(|err| errno(&err), |()| failure);
        for offset in pending {
            let failure = offset.map_or(0, |_| failure);
            answers.extend_from_slice(&failure.to_le_bytes());
            answers.extend_from_slice(&offset.unwrap_or(0).to_le_bytes());
        }
        (length - input.len(), answers)
    }

    /// Makes a segment the current one, and tells its length on disk.
    fn turn_to(&mut self, segment: u64) -> io::Result<u64> {
        match &self.current {
            Some(current) if current.number == segment => return Ok(current.length),
            _ => self.flush()?,
        }
        let path = segment::path(&self.directory, segment);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        // The name of the new file must survive a power loss as well as its content.
        File::open(&self.directory)?.sync_all()?;
        let length = file.metadata()?.len();
        self.current = Some(Segment { number: segment, file, length });
        Ok(length)
    }

    /// Writes the batch and makes it durable, or leaves nothing of it.
    fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let Some(current) = self.current.as_mut().filter(|_| !batch.is_empty()) else { return Ok(()) };
        let is_short = std::mem::take(&mut self.longest) <= SHORT;
        let mut written = current.append(&batch);
        if written.as_ref().is_err_and(is_full) && is_short && self.reserve.give() {
            written = current.append(&batch);
        }
        match &written {
            Ok(()) => self.reserve.take(),
            Err(_) => self.current = None,
        }
        written
    }
}

impl Segment {
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(batch).and_then(|()| self.file.sync_data());
        match &written {
            Ok(()) => self.length += batch.len() as u64,
            // A line cut short would swallow the next one.
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

impl Reserve {
    /// Takes room while there is some.
    fn take(&mut self) {
        if self.taken {
            return;
        }
        let make = || {
            let file =
                OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
            posix_fallocate(&file, 0, RESERVE)?;
            io::Result::Ok(())
        };
        self.taken = make().is_ok();
        if !self.taken {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives the room back to the log; false when there was none.
    fn give(&mut self) -> bool {
        std::mem::replace(&mut self.taken, false) && fs::remove_file(&self.path).is_ok()
    }
}

fn head(input: &[u8]) -> Option<(u64, u32)> {
    let (segment, rest) = input.split_first_chunk()?;
    Some((u64::from_le_bytes(*segment), u32::from_le_bytes(*rest.first_chunk()?)))
}

/// Whether the reserve can help: its room is this user's as well, under a quota as on a full disk.
fn is_full(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn errno(err: &io::Error) -> i32 {
    err.raw_os_error().unwrap_or(nix::libc::EIO)
}

/// Errno and offset of an answer.
pub(super) fn answer(bytes: &[u8; ANSWER]) -> (i32, u64) {
    let (errno, offset) = bytes.split_first_chunk().expect("an answer has twelve bytes");
    (i32::from_le_bytes(*errno), u64::from_le_bytes(offset.try_into().expect("and eight are left")))
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn the_reserve_is_given_up_for_a_full_disk_and_for_a_used_up_quota() {
        for (errno, helps) in [(Errno::ENOSPC, true), (Errno::EDQUOT, true), (Errno::EIO, false)] {
            assert_eq!(is_full(&errno.into()), helps, "{errno}");
        }
    }

    #[test]
    fn a_removal_is_never_refused() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let reserve = Reserve { path: root.path().join("reserve"), taken: false };
        let mut log = Log { directory, current: None, batch: Vec::new(), longest: 0, reserve };
        let mut frames = Vec::new();
        append_frame(2, b"{}", &mut frames);
        remove_frame(1, &mut frames);
        let (done, answers) = log.perform(&frames);
        assert_eq!(done, frames.len());
        let (answers, _) = answers.as_chunks::<ANSWER>();
        let errnos: Vec<i32> = answers.iter().map(|it| answer(it).0).collect();
        assert_eq!(errnos, [nix::libc::ENOENT, 0]);
    }
}
