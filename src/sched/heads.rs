//! The heads that a lane holds: in the order of their rows, because that is how
//! the store is read, and in the order in which they may run. The two differ where
//! a clock that was set back made due times, where an attempt was put off, or where
//! a row stayed though it is tried again later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::limits::LANE_HEADS_ROOM_KEPT;
use crate::model::{Head, Key};
use crate::time::Timestamp;

/// See the file's beginning.
#[derive(Default)]
pub(super) struct Heads {
    /// Those that may run at the time that their rows stand at, in that order, which is
    /// both. Nearly all are, and come and go at the ends: a lane that holds one now and
    /// then makes and frees nothing.
    in_step: VecDeque<Head>,
    /// The others, with when they may run.
    others: BTreeMap<Key, (Head, Timestamp)>,
    others_by_time: BTreeSet<(Timestamp, Key)>,
}

impl Heads {
    pub(super) fn len(&self) -> usize {
        self.in_step.len() + self.others.len()
    }

    /// The last row's key.
    pub(super) fn last_key(&self) -> Option<Key> {
        let other = self.others.last_key_value().map(|(key, _)| *key);
        self.in_step.back().map(Head::key).max(other)
    }

    /// When the one may run whose turn it is: the first row, or what may run first.
    pub(super) fn ready_at(&self, is_fifo: bool) -> Option<Timestamp> {
        self.next(is_fifo).map(|(at, _)| at)
    }

    pub(super) fn insert(&mut self, head: Head, ready_at: Timestamp) {
        let key = head.key();
        self.remove(key);
        if ready_at == head.place {
            self.in_step.insert(self.in_step.partition_point(|other| other.key() < key), head);
        } else {
            self.others.insert(key, (head, ready_at));
            self.others_by_time.insert((ready_at, key));
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Head> {
        if let Ok(at) = self.in_step.binary_search_by_key(&key, Head::key) {
            let head = self.in_step.remove(at);
            self.give_back();
            return head;
        }
        let (head, ready_at) = self.others.remove(&key)?;
        self.others_by_time.remove(&(ready_at, key));
        if self.others.is_empty() {
            (self.others, self.others_by_time) = Default::default();
        }
        Some(head)
    }

    /// Takes the one whose turn it is.
    pub(super) fn pop_ready(&mut self, is_fifo: bool) -> Option<Head> {
        let (_, key) = self.next(is_fifo)?;
        self.remove(key)
    }

    /// Leaves the last row to the store.
    pub(super) fn pop_last(&mut self) {
        if let Some(key) = self.last_key() {
            self.remove(key);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Heads::default();
    }

    /// Says anew when each may run, from what was said before.
    pub(super) fn reschedule(&mut self, ready_at: impl Fn(&Head, Timestamp) -> Timestamp) {
        let before = std::mem::take(self);
        let in_step = before.in_step.into_iter().map(|head| (head, head.place));
        for (head, at) in in_step.chain(before.others.into_values()) {
            self.insert(head, ready_at(&head, at));
        }
    }

    /// Whose turn it is, and when it may run.
    fn next(&self, is_fifo: bool) -> Option<(Timestamp, Key)> {
        let first = self.in_step.front().map(|head| (head.place, head.key()));
        if is_fifo {
            let other = self.others.first_key_value().map(|(key, (_, at))| (*at, *key));
            first.into_iter().chain(other).min_by_key(|(_, key)| *key)
        } else {
            first.into_iter().chain(self.others_by_time.first().copied()).min()
        }
    }

    /// Lanes are many, and each may have held a whole window once. Not at every step: what
    /// comes next needs the room again.
    fn give_back(&mut self) {
        let room = self.in_step.capacity();
        if room > LANE_HEADS_ROOM_KEPT && self.in_step.len() < room / 4 {
            self.in_step.shrink_to(LANE_HEADS_ROOM_KEPT.max(room / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use crate::id::Minter;

    use super::*;

    /// The same, said as simply as it can be.
    #[derive(Default)]
    struct Simple(Vec<(Head, Timestamp)>);

    impl Simple {
        fn insert(&mut self, head: Head, at: Timestamp) {
            self.remove(head.key());
            self.0.push((head, at));
        }

        fn remove(&mut self, key: Key) -> Option<Head> {
            let at = self.0.iter().position(|(head, _)| head.key() == key)?;
            Some(self.0.swap_remove(at).0)
        }

        fn next(&self, is_fifo: bool) -> Option<(Timestamp, Key)> {
            let all = self.0.iter().map(|(head, at)| (*at, head.key()));
            if is_fifo { all.min_by_key(|(_, key)| *key) } else { all.min() }
        }
    }

    #[test]
    fn whatever_comes_and_goes_the_turns_are_those_of_a_plain_list() {
        let mut random = StdRng::seed_from_u64(11);
        let mut minter = Minter::after(None);
        let events: Vec<_> = (0..40).map(|n| minter.mint(Timestamp::from_millis(100 + n), n)).collect();
        let (mut heads, mut simple) = (Heads::default(), Simple::default());
        for _ in 0..20_000 {
            let event = events[random.random_range(0..events.len())];
            let mut head = Head { attempts: random.random_range(0..3), ..Head::fresh(event) };
            if random.random_bool(0.2) {
                head.place = Timestamp::from_millis(random.random_range(100..140));
            }
            match random.random_range(0..12) {
                0..5 => {
                    let is_in_step = random.random_bool(0.7);
                    let at = Timestamp::from_millis(random.random_range(90..150));
                    let at = if is_in_step { head.place } else { at };
                    heads.insert(head, at);
                    simple.insert(head, at);
                }
                5..8 => assert_eq!(heads.remove(head.key()), simple.remove(head.key())),
                8..10 => {
                    let is_fifo = random.random_bool(0.5);
                    let expected = simple.next(is_fifo).and_then(|(_, key)| simple.remove(key));
                    assert_eq!(heads.pop_ready(is_fifo), expected);
                }
                10 => {
                    heads.pop_last();
                    if let Some(last) = simple.0.iter().map(|(head, _)| head.key()).max() {
                        simple.remove(last);
                    }
                }
                _ => {
                    let latest = Timestamp::from_millis(random.random_range(100..150));
                    heads.reschedule(|_, at| at.min(latest));
                    simple.0.iter_mut().for_each(|(_, at)| *at = (*at).min(latest));
                }
            }
            assert_eq!(heads.len(), simple.0.len());
            assert_eq!(heads.last_key(), simple.0.iter().map(|(head, _)| head.key()).max());
            for is_fifo in [true, false] {
                assert_eq!(heads.ready_at(is_fifo), simple.next(is_fifo).map(|(at, _)| at));
            }
        }
    }

    /// 100,000 lanes that had a burst each would keep hundreds of megabytes for it, those that
    /// hold one that is due tomorrow until then.
    #[test]
    fn a_lane_that_had_a_burst_keeps_little_room() {
        let mut minter = Minter::after(None);
        let mut heads = Heads::default();
        let fresh: Vec<_> = (0..1000).map(|n| Head::fresh(minter.mint(Timestamp::from_millis(n), 1))).collect();
        for head in &fresh {
            heads.insert(*head, head.place);
        }
        while heads.len() > 1 {
            heads.pop_ready(false);
        }
        assert!(heads.in_step.capacity() <= LANE_HEADS_ROOM_KEPT, "{}", heads.in_step.capacity());
        assert_eq!(heads.pop_ready(false).map(|head| head.event), fresh.last().map(|head| head.event));
    }
}
