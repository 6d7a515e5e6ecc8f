//! The heads that a lane holds: in the order of their rows, because that is how
//! the store is read, and in the order in which they may run. The two differ where
//! a clock that was set back made due times, where an attempt was put off, or where
//! a row stayed though it is tried again later.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Head, Key};
use crate::time::Timestamp;

/// See the file's beginning.
#[derive(Default)]
pub(super) struct Heads {
    by_key: BTreeMap<Key, (Head, Timestamp)>,
    by_time: BTreeSet<(Timestamp, Key)>,
}

impl Heads {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The last row's key.
    pub(super) fn last_key(&self) -> Option<Key> {
        self.by_key.last_key_value().map(|(key, _)| *key)
    }

    /// When the one may run whose turn it is: the first row, or what may run first.
    pub(super) fn ready_at(&self, is_fifo: bool) -> Option<Timestamp> {
        match is_fifo {
            true => self.by_key.first_key_value().map(|(_, (_, at))| *at),
            false => self.by_time.first().map(|(at, _)| *at),
        }
    }

    pub(super) fn insert(&mut self, head: Head, ready_at: Timestamp) {
        self.remove(head.key());
        self.by_key.insert(head.key(), (head, ready_at));
        self.by_time.insert((ready_at, head.key()));
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Head> {
        let (head, ready_at) = self.by_key.remove(&key)?;
        self.by_time.remove(&(ready_at, key));
        Some(head)
    }

    /// Takes the one whose turn it is.
    pub(super) fn pop_ready(&mut self, is_fifo: bool) -> Option<Head> {
        let key = match is_fifo {
            true => *self.by_key.first_key_value()?.0,
            false => self.by_time.first()?.1,
        };
        self.remove(key)
    }

    /// Leaves the last row to the store.
    pub(super) fn pop_last(&mut self) {
        if let Some(key) = self.last_key() {
            self.remove(key);
        }
    }

    pub(super) fn clear(&mut self) {
        self.by_key.clear();
        self.by_time.clear();
    }

    /// Says anew when each may run, from what was said before.
    pub(super) fn reschedule(&mut self, ready_at: impl Fn(&Head, Timestamp) -> Timestamp) {
        for (key, (head, at)) in &mut self.by_key {
            self.by_time.remove(&(*at, *key));
            *at = ready_at(head, *at);
            self.by_time.insert((*at, *key));
        }
    }
}
