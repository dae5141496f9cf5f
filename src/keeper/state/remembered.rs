use std::collections::{HashSet, VecDeque};

use crate::keeper::protocol::RunKey;

/// How many acknowledged runs are remembered, so that a late second `start` is not executed.
const REMEMBERED: usize = 10_000;

/// The last acknowledged runs, oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    order: VecDeque<RunKey>,
    known: HashSet<RunKey>,
}

impl Remembered {
    pub(super) fn insert(&mut self, key: RunKey) {
        if self.known.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > REMEMBERED {
            self.order.pop_front().map(|oldest| self.known.remove(&oldest));
        }
    }

    pub(super) fn contains(&self, key: RunKey) -> bool {
        self.known.contains(&key)
    }
}
