//! What waits to be reported. No I/O.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A row that somebody holds is tried again after this.
const BUSY: Duration = Duration::from_millis(100);

/// Items in order, and beside them those whose rows were busy, each until its time.
#[derive(Debug)]
pub(super) struct Queue<T> {
    ready: VecDeque<T>,
    busy: Vec<(Instant, T)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), busy: Vec::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&mut self, item: T) {
        self.ready.push_back(item);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.busy.is_empty()
    }

    /// How many may be sent.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.ready.front()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.ready.retain(&keep);
        self.busy.retain(|(_, item)| keep(item));
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.busy.clear();
    }

    /// Takes items from the front while the predicate holds.
    pub(super) fn take_while(&mut self, mut more: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        while self.ready.front().is_some_and(&mut more) {
            taken.extend(self.ready.pop_front());
        }
        taken
    }

    /// Puts items back that could not be sent, in front.
    pub(super) fn put_back(&mut self, items: Vec<T>) {
        for item in items.into_iter().rev() {
            self.ready.push_front(item);
        }
    }

    /// Sets items aside for a moment.
    pub(super) fn set_aside(&mut self, items: impl IntoIterator<Item = T>, now: Instant) {
        self.set_aside_until(items, now + BUSY);
    }

    /// Sets items aside for longer.
    pub(super) fn set_aside_until(&mut self, items: impl IntoIterator<Item = T>, until: Instant) {
        self.busy.extend(items.into_iter().map(|item| (until, item)));
    }

    /// When the first of those set aside is due again.
    pub(super) fn busy_until(&self) -> Option<Instant> {
        self.busy.iter().map(|(until, _)| *until).min()
    }

    /// Lines up again what was set aside for long enough.
    pub(super) fn wake(&mut self, now: Instant) {
        let due = self.busy.extract_if(.., |(until, _)| *until <= now);
        self.ready.extend(due.map(|(_, item)| item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_item_does_not_hold_up_the_others() {
        let now = Instant::now();
        let mut queue = Queue::default();
        (1..=3).for_each(|n| queue.push(n));
        let batch = queue.take_while(|n| *n < 3);
        assert_eq!(batch, [1, 2]);
        queue.set_aside([1], now);
        queue.put_back(vec![2]);
        assert_eq!(queue.take_while(|_| true), [2, 3]);
        assert!(!queue.is_empty());
        queue.wake(now);
        assert_eq!(queue.ready(), 0);
        queue.wake(queue.busy_until().unwrap());
        assert_eq!(queue.take_while(|_| true), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_set_aside_for_longer_does_not_hold_up_what_is_busy() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set_aside_until([1], now + 20 * BUSY);
        queue.set_aside([2], now);
        assert_eq!(queue.busy_until(), Some(now + BUSY));
        queue.wake(now + BUSY);
        assert_eq!(queue.take_while(|_| true), [2]);
        queue.wake(now + 20 * BUSY);
        assert_eq!(queue.take_while(|_| true), [1]);
    }
}
