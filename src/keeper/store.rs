//! Results that are not delivered yet, on disk: appended by a process of its own, read again when offered.
//!
//! A record counts as stored once the writer says that it is durable; until then its text is kept in
//! memory. A start of a keeper, and of a writer, begins a new segment, so a torn tail is never appended to.

mod exchange;
mod segment;
#[cfg(test)]
mod tests;
mod work;
mod writer;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs::DirBuilder,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
};

use nix::unistd::Pid;

pub(super) use self::work::DISK_FULL;
use self::{
    exchange::Told,
    segment::{Found, Record},
    work::Work,
    writer::Writer,
};
use super::{
    clock::Moment,
    protocol::{Event, Request, RunKey, RunResult},
};

/// How long acknowledged results stay, to be offered again after a failover.
pub(super) const RETENTION_US: i64 = 600_000_000;
/// Of what is offered again, so much is whole. A guardian holds all that it was offered until the database has it, and
/// the outputs of ten minutes may be gigabytes.
pub(super) const WHOLE_BYTES: u64 = 64 << 20;
/// More than one turn of the loop brings.
const QUEUE_LIMIT: usize = 256;

/// The result log.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    lock: OwnedFd,
    /// None while it is dead and another one cannot be had, or only soon again.
    writer: Option<Writer>,
    /// When it was started.
    forked_us: i64,
    /// Where each stored, unacknowledged result stands.
    stored: HashMap<RunKey, Place>,
    /// What the writer was not told yet, or refused, in order.
    queue: BTreeMap<u64, Work>,
    /// What the writer has not answered for, in the order it was told.
    told: VecDeque<Told>,
    /// The number of each unacknowledged result in `queue` or `told`.
    unstored: HashMap<RunKey, u64>,
    last: u64,
    retry_us: Option<i64>,
    current: u64,
    segments: BTreeMap<u64, Segment>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    bytes: u64,
    unacknowledged: usize,
    /// When the last of its results was acknowledged.
    touched_us: i64,
}

/// A record read in order to be offered again.
#[derive(Debug)]
pub(super) struct Again {
    /// Its length on disk.
    pub(super) read: usize,
    /// None: it is no result.
    pub(super) offer: Option<(RunKey, Vec<u8>)>,
}

impl Again {
    fn new(found: Found, whole: bool) -> Self {
        let read = found.json.len();
        let offer = match found.record {
            Record::Result(result) if whole => Some((result.key, found.json.into_bytes())),
            Record::Result(result) => {
                Some((result.key, line(result.shortened("too much was to be offered to another server"))))
            }
            Record::Ack(_) => None,
        };
        Self { read, offer }
    }
}

impl Store {
    /// Reads what former keepers stored, and starts the writer.
    pub(super) fn open(directory: PathBuf, lock: OwnedFd, now: Moment) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut stored: HashMap<RunKey, Place> = HashMap::new();
        let mut segments = BTreeMap::new();
        for number in segment::numbers(&directory)? {
            let mut bytes = 0;
            for found in segment::read(&segment::path(&directory, number))? {
                let length = found.json.len();
                bytes = found.offset + length as u64;
                match found.record {
                    Record::Result(result) => {
                        stored.insert(result.key, Place { segment: number, offset: found.offset, length });
                    }
                    Record::Ack(key) => drop(stored.remove(&key)),
                }
            }
            segments.insert(number, Segment { bytes, unacknowledged: 0, touched_us: now.boottime_us });
        }
        for place in stored.values() {
            segments.entry(place.segment).and_modify(|segment| segment.unacknowledged += 1);
        }
        let current = segments.keys().next_back().map_or(1, |last| last + 1);
        let writer = Writer::fork(&directory, &lock)?;
        Ok(Self {
            directory,
            lock,
            writer: Some(writer),
            forked_us: now.boottime_us,
            stored,
            queue: BTreeMap::new(),
            told: VecDeque::new(),
            unstored: HashMap::new(),
            last: 0,
            retry_us: None,
            current,
            segments,
            outgoing: Vec::new(),
            incoming: Vec::new(),
        })
    }

    /// The results that wait to be acknowledged.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = RunKey> {
        self.stored.keys().copied()
    }

    /// The writer's process, a child of this one.
    pub(super) fn writer_pid(&self) -> Pid {
        // No process has the number zero.
        self.writer.as_ref().map_or(Pid::from_raw(0), |writer| writer.pid)
    }

    /// The writer's socket, for the epoll set, while there is one.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.writer.as_ref().map(|writer| writer.socket.as_fd())
    }

    /// Whether something waits for room in the socket.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether everything is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.told.is_empty() && self.queue.is_empty()
    }

    /// When [`Self::tend`] has something to do, on the boot clock.
    pub(super) fn next_us(&self) -> Option<i64> {
        let removal = self.segments.iter().filter(|(number, segment)| self.is_settled(**number, segment));
        let removal = removal.map(|(_, segment)| segment.touched_us + RETENTION_US).min();
        [self.retry_us, removal].into_iter().flatten().min()
    }

    /// Whether the disk does not keep up, so that outputs should be cut to keep memory flat.
    pub(super) fn is_pressed(&self) -> bool {
        self.retry_us.is_some() || self.queue.len() > QUEUE_LIMIT
    }

    /// Stores a result, as the line that is offered.
    pub(super) fn append(&mut self, key: RunKey, json: Vec<u8>) {
        let number = self.enqueue(Work::Result(key, json));
        self.unstored.insert(key, number);
    }

    /// Notes that a result need not be offered any more.
    pub(super) fn acknowledge(&mut self, now: Moment, key: RunKey) {
        if let Some(place) = self.stored.remove(&key)
            && let Some(segment) = self.segments.get_mut(&place.segment)
        {
            segment.unacknowledged -= 1;
            segment.touched_us = now.boottime_us;
        } else if let Some(number) = self.unstored.remove(&key) {
            if self.queue.remove(&number).is_some() {
                // It never came to the disk, and need not.
                return;
            }
            let told = self.told.iter_mut().filter_map(|told| told.record.as_mut());
            for (_, work) in told.filter(|(of, _)| *of == number) {
                if let Work::Result(_, json) = work {
                    *work = Work::Note(std::mem::take(json));
                }
            }
        }
        let json = serde_json::to_vec(&Request::Ack(key)).expect("a key is plain data");
        self.enqueue(Work::Note(json));
    }

    /// The line of an unacknowledged result; none when it is not here or cannot be read now.
    pub(super) fn read(&self, key: RunKey) -> Option<Vec<u8>> {
        if let Some(place) = self.stored.get(&key) {
            let path = segment::path(&self.directory, place.segment);
            let read = segment::read_at(&path, place.offset, place.length);
            return read.map_or_else(|err| segment::lost(key, &err), Some);
        }
        let number = *self.unstored.get(&key)?;
        let mut told = self.told.iter().filter_map(|told| told.record.as_ref());
        let told = || told.find(|(of, _)| *of == number).map(|(_, work)| work);
        match self.queue.get(&number).or_else(told)? {
            Work::Result(_, json) => Some(json.clone()),
            Work::Note(_) => None,
        }
    }

    /// What there is on disk to be offered again, oldest first: the newest of it, so many bytes, whole, of what is older
    /// the outcome and little of the output.
    pub(super) fn retained(&self, whole_bytes: u64) -> impl Iterator<Item = Again> + use<> {
        let directory = self.directory.clone();
        let mut bytes = 0;
        let mut numbers: Vec<(u64, bool)> = Vec::new();
        for (number, segment) in self.segments.iter().rev() {
            bytes += segment.bytes;
            numbers.push((*number, bytes <= whole_bytes));
        }
        let files = numbers.into_iter().rev().filter_map(move |(number, whole)| {
            let found = segment::read(&segment::path(&directory, number)).ok()?;
            Some(found.map(move |found| Again::new(found, whole)))
        });
        files.flatten()
    }

    /// Lets what was refused be tried again, and removes segments that nobody needs.
    pub(super) fn tend(&mut self, now: Moment) {
        self.retry_us.take_if(|at| *at <= now.boottime_us);
        let old = |segment: &Segment| segment.touched_us + RETENTION_US <= now.boottime_us;
        let settled = self.segments.iter().filter(|(number, segment)| self.is_settled(**number, segment));
        for number in settled.filter(|(_, it)| old(it)).map(|(number, _)| *number).collect::<Vec<_>>() {
            self.segments.remove(&number);
            self.remove(number);
        }
    }

    fn remove(&mut self, segment: u64) {
        writer::remove_frame(segment, &mut self.outgoing);
        self.told.push_back(Told { segment, record: None });
    }

    fn is_settled(&self, number: u64, segment: &Segment) -> bool {
        number < self.current
            && segment.unacknowledged == 0
            && !self.told.iter().any(|told| told.segment == number)
    }

    fn enqueue(&mut self, work: Work) -> u64 {
        self.last += 1;
        self.queue.insert(self.last, work);
        self.last
    }
}

/// The results in a log that nobody has acknowledged, whoever writes it.
pub(super) fn undelivered(directory: &Path) -> io::Result<HashSet<RunKey>> {
    let mut undelivered = HashSet::new();
    for number in segment::numbers(directory)? {
        for found in segment::read(&segment::path(directory, number))? {
            match found.record {
                Record::Result(result) => drop(undelivered.insert(result.key)),
                Record::Ack(key) => drop(undelivered.remove(&key)),
            }
        }
    }
    Ok(undelivered)
}

/// The line that offers a result, on a socket as in the log.
pub(super) fn line(result: RunResult) -> Vec<u8> {
    serde_json::to_vec(&Event::Result(Box::new(result))).expect("results are plain data")
}
