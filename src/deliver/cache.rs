//! A map with room for so many entries: the one used longest ago makes room.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
pub(super) struct Cache<K, V> {
    entries: HashMap<K, (u64, V)>,
    entries_max: usize,
    uses: u64,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty one.
    pub(super) fn new(entries_max: usize) -> Cache<K, V> {
        Cache { entries: HashMap::new(), entries_max, uses: 0 }
    }

    /// The entry of `key`, which counts as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    /// Puts an entry in, in place of one with the same key. Looks through all of
    /// them when there is no room, which the dialling it saves outweighs by far.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.entries_max && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.uses += 1;
        self.entries.insert(key, (self.uses, value));
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_used_longest_ago_makes_room() {
        let mut cache = Cache::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.insert("c", 3);
        assert_eq!(cache.get(&"b"), None);
        cache.insert("c", 4);
        assert_eq!(cache.get(&"a"), Some(&1), "one that is replaced needs no room");
        assert_eq!(cache.get(&"c"), Some(&4));
        cache.remove(&"a");
        assert_eq!(cache.get(&"a"), None);
    }
}
