//! The form of the result log on disk: numbered segments, one checked line a record.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::super::{
    clock,
    protocol::{EndedBy, RunKey, RunResult},
};
use crate::observe::event;

/// Digits of the check sum and the blank before each record.
pub(super) const PREFIX: usize = 17;

/// One line: a result as it is offered, or its acknowledgement.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Result(Box<RunResult>),
    Ack(RunKey),
}

/// A record and where its JSON stands in the segment.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) json: String,
    pub(super) offset: u64,
}

/// The file of a segment.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("results.{number:08}.log"))
}

/// The numbers of the segments that are there, oldest first.
pub(super) fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("results.")?.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The line of a record.
pub(super) fn line(json: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("{:016x} ", check_sum(json)).as_bytes());
    into.extend_from_slice(json);
    into.push(b'\n');
}

/// The records of a segment. Lines that are torn or damaged are passed over: what a crash cut off was
/// never acknowledged to anybody.
pub(super) fn read(path: &Path) -> io::Result<impl Iterator<Item = Found> + use<>> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut offset = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let length = reader.read_until(b'\n', &mut line).ok().filter(|length| *length > 0)?;
            let begin = offset + PREFIX as u64;
            offset += length as u64;
            let json = line.strip_suffix(b"\n").and_then(checked);
            let found = json.and_then(|json| {
                let json = String::from_utf8(json.to_vec()).ok()?;
                Some(Found { record: serde_json::from_str(&json).ok()?, json, offset: begin })
            });
            if found.is_some() {
                return found;
            }
        }
    }))
}

/// The JSON of the record at a place.
pub(super) fn read_at(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut line = vec![0; PREFIX + length];
    let begin = offset.checked_sub(PREFIX as u64).ok_or(ErrorKind::InvalidInput)?;
    File::open(path)?.read_exact_at(&mut line, begin)?;
    checked(&line)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the record is damaged"))
}

/// The line that is offered of a run whose record cannot be read: when that is so for ever, all that is known is that
/// it has ended.
pub(super) fn lost(key: RunKey, err: &io::Error) -> Option<Vec<u8>> {
    tracing::error!(event = event::KEEPER_RESULT_UNREADABLE, error = %err, ?key, "result cannot be read");
    let is_gone =
        matches!(err.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData);
    let boot_id = clock::boot_id().ok().filter(|_| is_gone)?;
    let reason = format!("its result cannot be read any more: {err}");
    Some(super::line(RunResult::not_started(key, clock::now(), EndedBy::Keeper, reason, &boot_id)))
}

/// The JSON of a line without its end, if its sum is right.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (prefix, json) = line.split_at_checked(PREFIX)?;
    let sum = std::str::from_utf8(prefix).ok()?.strip_suffix(' ')?;
    (u64::from_str_radix(sum, 16).ok()? == check_sum(json)).then_some(json)
}

/// FNV-1a: tells a torn line, not a forged one.
fn check_sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
