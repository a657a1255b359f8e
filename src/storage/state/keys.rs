//! A bounded cache of what the tables hold of keys, their values aside: every write to a key first asks when it was made and
//! how often it was written, and a look into a memory table costs a cache miss at every step.
//!
//! It belongs to the thread that applies and changes with each batch that is written, so an entry is never older than the
//! tables. Two generations bound it: when the young one is full it becomes the old one, and the old one is dropped.

use std::collections::HashMap;

use crate::machine::KvMeta;

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    young: HashMap<String, KvMeta>,
    /// Where a key is in both, the young one is right.
    old: HashMap<String, KvMeta>,
    /// Most keys of one generation.
    generation_max: usize,
}

impl Keys {
    /// An empty one for at most `keys_max` keys.
    pub(super) fn new(keys_max: usize) -> Keys {
        Keys {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (keys_max / 2).max(1),
        }
    }

    /// What the tables hold of `key`, if it is cached.
    pub(super) fn get(&mut self, key: &str) -> Option<KvMeta> {
        if let Some(meta) = self.young.get(key) {
            return Some(*meta);
        }
        let (key, meta) = self.old.remove_entry(key)?;
        self.put(key, meta);
        Some(meta)
    }

    /// Notes what the tables hold of `key` now; `None`: nothing.
    pub(super) fn set(&mut self, key: &str, meta: Option<KvMeta>) {
        match (meta, self.young.get_mut(key)) {
            (Some(meta), Some(held)) => *held = meta,
            (Some(meta), None) => self.put(key.to_owned(), meta),
            (None, _) => {
                self.young.remove(key);
                self.old.remove(key);
            }
        }
    }

    fn put(&mut self, key: String, meta: KvMeta) {
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, meta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::command::ModIndex;

    fn meta(version: u64) -> KvMeta {
        let at = ModIndex {
            index: version,
            command: 0,
        };
        KvMeta {
            created: at,
            modified: at,
            version,
        }
    }

    #[test]
    fn a_key_is_as_it_was_last_set_in_whichever_generation_it_stands() {
        let mut keys = Keys::new(4);
        keys.set("a", Some(meta(1)));
        for filler in ["b", "c", "d"] {
            keys.set(filler, Some(meta(1)));
            keys.set("a", Some(meta(2)));
            assert_eq!(keys.get("a"), Some(meta(2)));
        }
        keys.set("a", None);
        assert_eq!(keys.get("a"), None);
        // Set again, then aged by others: the old generation's word is not the newer one's.
        keys.set("a", Some(meta(3)));
        keys.set("e", Some(meta(1)));
        keys.set("a", Some(meta(4)));
        keys.set("f", Some(meta(1)));
        assert_eq!(keys.get("a"), Some(meta(4)));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut keys = Keys::new(200);
        for number in 0..1000 {
            keys.set(&format!("key-{number}"), Some(meta(number)));
            assert_eq!(keys.get("key-0"), Some(meta(0)), "asked for all the time");
        }
        assert_eq!(keys.get("key-1"), None, "not asked for again");
        assert!(keys.young.len() <= 100 && keys.old.len() <= 100);
    }
}
