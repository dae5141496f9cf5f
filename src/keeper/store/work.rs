//! What the writer is to append.

use super::line;
use crate::keeper::protocol::{Event, RunKey};

/// Why results and outputs are cut.
pub(in crate::keeper) const DISK_FULL: &str = "the disk of the host was full";

#[derive(Debug)]
pub(super) enum Work {
    Result(RunKey, Vec<u8>),
    /// An acknowledgement, or a result that was acknowledged while the writer was at it.
    Note(Vec<u8>),
}

impl Work {
    /// The JSON of its record.
    pub(super) fn json(&self) -> &[u8] {
        let (Self::Result(_, json) | Self::Note(json)) = self;
        json
    }

    /// For a disk that is full: the outcome, and what fits of the output.
    pub(super) fn shortened(self) -> Self {
        let cut = |json: Vec<u8>| match serde_json::from_slice(&json) {
            Ok(Event::Result(result)) => line(result.shortened(DISK_FULL)),
            _ => json,
        };
        match self {
            Self::Result(key, json) => Self::Result(key, cut(json)),
            Self::Note(json) => Self::Note(cut(json)),
        }
    }
}
