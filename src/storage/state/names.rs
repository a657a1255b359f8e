//! A bounded cache from account id to account number. A number never changes, so an entry is never wrong.
//!
//! Two generations: when the young one is full it becomes the old one, and the old one is dropped; what is asked for again
//! moves to the young. That keeps what is in use without a list to maintain on every hit.

use hashbrown::HashTable;

use super::hash::Seed;

/// One generation: ids packed in one text.
#[derive(Debug, Default)]
struct Generation {
    entries: HashTable<Name>,
    texts: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    hash: u64,
    number: u64,
    start: u32,
    len: u8,
}

impl Generation {
    fn get(&self, hash: u64, id: &[u8]) -> Option<u64> {
        let is = |name: &Name| name.hash == hash && self.text(name) == id;
        self.entries.find(hash, is).map(|name| name.number)
    }

    fn text(&self, name: &Name) -> &[u8] {
        let start = usize::try_from(name.start).expect("an offset into memory");
        &self.texts[start..start + usize::from(name.len)]
    }

    fn insert(&mut self, hash: u64, id: &[u8], number: u64) {
        let start = u32::try_from(self.texts.len()).expect("a generation is far below 4 GiB");
        let len = u8::try_from(id.len()).expect("an id is at most 128 bytes");
        self.texts.extend_from_slice(id);
        self.entries.insert_unique(
            hash,
            Name {
                hash,
                number,
                start,
                len,
            },
            |name| name.hash,
        );
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Names {
    seed: Seed,
    young: Generation,
    old: Generation,
    /// Most ids of one generation.
    generation_max: usize,
}

impl Names {
    /// An empty one for at most `names_max` ids.
    pub(super) fn new(seed: Seed, names_max: usize) -> Names {
        let generation_max = (names_max / 2).max(1);
        Names {
            seed,
            young: Generation::default(),
            old: Generation::default(),
            generation_max,
        }
    }

    /// The number of the account with this id, if it is cached.
    pub(super) fn get(&mut self, id: &str) -> Option<u64> {
        let (hash, id) = (self.seed.hash(id.as_bytes()), id.as_bytes());
        if let Some(number) = self.young.get(hash, id) {
            return Some(number);
        }
        let number = self.old.get(hash, id)?;
        self.put(hash, id, number);
        Some(number)
    }

    /// Remembers a number.
    pub(super) fn insert(&mut self, id: &str, number: u64) {
        let hash = self.seed.hash(id.as_bytes());
        if self.young.get(hash, id.as_bytes()).is_none() {
            self.put(hash, id.as_bytes(), number);
        }
    }

    fn put(&mut self, hash: u64, id: &[u8], number: u64) {
        if self.young.entries.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, id, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut names = Names::new(Seed::random(), 200);
        for number in 0..1000u64 {
            names.insert(&format!("account-{number}"), number);
            assert_eq!(names.get("account-0"), Some(0), "asked for all the time");
        }
        assert_eq!(names.get("account-1"), None, "not asked for again");
        assert_eq!(names.get("account-999"), Some(999));
        assert!(names.young.entries.len() <= 100 && names.old.entries.len() <= 100);
    }
}
