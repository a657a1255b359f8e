//! The transfers since the last seal: their ids, and per account the chain of its postings. Two of these exist while a seal
//! runs: the frozen one it writes down and the one that apply goes on with.
//!
//! A transfer is a *slot*; slots are numbered without gaps over all recents, from 1. The posting to the debit account of slot
//! `s` is number `2s`, to the credit account `2s + 1`. Each account holds the number of its newest posting, each posting how
//! far before it the previous one of the same account stands: so following an account costs nothing but memory accesses, and
//! freezing costs nothing at all, because a number below [`Recents::floor`] belongs to somebody older.

use hashbrown::HashTable;

use crate::machine::Position;

/// A posting's number; 0 is none.
pub(super) type Posting = u64;

/// One transfer.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Its position, not as a [`Position`], which would take 8 bytes more.
    index: u64,
    record: u32,
    /// Where its id begins in the texts; it ends where the next one begins.
    text: u32,
    /// Account numbers, debit first; 0 if it was refused and so posted nothing.
    accounts: [u32; 2],
    /// How far before its own number the account's previous posting stands; 0 if there was none.
    back: [u32; 2],
}

impl Slot {
    #[inline]
    fn at(&self) -> Position {
        Position {
            index: self.index,
            record: self.record,
        }
    }
}

/// An entry of the table of ids: enough of the hash to grow the table without reading ids.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u32,
}

/// Transfers in order of their positions.
#[derive(Debug)]
pub(super) struct Recents {
    /// Number of the first slot.
    base: u64,
    slots: Vec<Slot>,
    texts: Vec<u8>,
    by_id: HashTable<Entry>,
}

impl Recents {
    /// None yet; slots are numbered from `base`. Room for `expected` at once, so that growing does not stall apply.
    pub(super) fn new(base: u64, expected: usize) -> Recents {
        assert!(base > 0, "posting 0 means none");
        Recents {
            base,
            slots: Vec::with_capacity(expected),
            texts: Vec::new(),
            by_id: HashTable::with_capacity(expected),
        }
    }

    /// None, numbered from `base`, in the memory that others had: what they held is forgotten. Memory from the system comes page
    /// by page, each a fault and zeroed; memory that was in use does not.
    pub(super) fn reused(mut self, base: u64) -> Recents {
        assert!(base > 0, "posting 0 means none");
        self.base = base;
        self.slots.clear();
        self.texts.clear();
        self.by_id.clear();
        self
    }

    /// Number of transfers there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Number of transfers.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.texts.len() + self.by_id.allocation_size()
    }

    /// The number the next slot gets.
    pub(super) fn next_slot(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// Postings below this number are older.
    pub(super) fn floor(&self) -> Posting {
        2 * self.base
    }

    /// Where the transfer with this id stands.
    #[inline]
    pub(super) fn find(&self, hash: u64, id: &str) -> Option<Position> {
        let hash = short(hash);
        let found = self.by_id.find(spread(hash), |entry| {
            entry.hash == hash && self.id(entry.slot) == id.as_bytes()
        });
        found.map(|entry| self.slot(entry.slot).at())
    }

    /// Whether an id with this hash may be here, from the table alone.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let hash = short(hash);
        self.by_id
            .find(spread(hash), |entry| entry.hash == hash)
            .is_some()
    }

    /// Adds a transfer. `sides` are its accounts and how far back their previous postings stand, if it posted.
    #[inline]
    pub(super) fn push(
        &mut self,
        hash: u64,
        id: &str,
        at: Position,
        sides: Option<[(u32, u32); 2]>,
    ) {
        let slot =
            u32::try_from(self.slots.len()).expect("recents are sealed long before 4 billion");
        let text =
            u32::try_from(self.texts.len()).expect("recents are sealed long before 4 GiB of ids");
        let [debit, credit] = sides.unwrap_or_default();
        self.slots.push(Slot {
            index: at.index,
            record: at.record,
            text,
            accounts: [debit.0, credit.0],
            back: [debit.1, credit.1],
        });
        self.texts.extend_from_slice(id.as_bytes());
        let hash = short(hash);
        self.by_id
            .insert_unique(spread(hash), Entry { hash, slot }, |entry| {
                spread(entry.hash)
            });
    }

    /// Takes the newest transfer back; returns how far back its accounts' previous postings stand.
    pub(super) fn pop(&mut self, hash: u64) -> [u32; 2] {
        let newest = u32::try_from(self.slots.len() - 1).expect("push() checked it");
        let entry = self
            .by_id
            .find_entry(spread(short(hash)), |entry| entry.slot == newest);
        entry.expect("push() added it").remove();
        let slot = self.slots.pop().expect("there is a newest one");
        self.texts
            .truncate(usize::try_from(slot.text).expect("an offset into memory"));
        slot.back
    }

    /// The ids in the order of their slots.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&[u8], Position)> {
        (0..)
            .zip(&self.slots)
            .map(|(number, slot)| (self.id(number), slot.at()))
    }

    /// The id of slot `number`, counted from the first here.
    #[inline]
    pub(super) fn id(&self, number: u32) -> &[u8] {
        let start = self.slot(number).text;
        let next = self
            .slots
            .get(usize::try_from(number).expect("an offset into memory") + 1);
        let texts = &self.texts[usize::try_from(start).expect("an offset into memory")..];
        match next {
            Some(next) => {
                &texts[..usize::try_from(next.text - start).expect("an offset into memory")]
            }
            None => texts,
        }
    }

    /// The slots that posted, by number counted from the first here, with their accounts.
    pub(super) fn posted(&self) -> impl Iterator<Item = (u32, [u32; 2])> {
        let numbered = (0..).zip(&self.slots);
        numbered
            .filter(|(_, slot)| slot.accounts[0] != 0)
            .map(|(number, slot)| (number, slot.accounts))
    }

    /// The position of slot `number`, counted from the first here.
    pub(super) fn position(&self, number: u32) -> Position {
        self.slot(number).at()
    }

    /// The position of `posting` and the account's previous posting (0: none that is recent); `None` if it is older.
    #[inline]
    pub(super) fn posting(&self, posting: Posting) -> Option<(Position, Posting)> {
        let number = (posting / 2).checked_sub(self.base)?;
        let slot = self.slots.get(usize::try_from(number).ok()?)?;
        let back = slot.back[usize::from(posting % 2 == 1)];
        Some((
            slot.at(),
            if back == 0 {
                0
            } else {
                posting - u64::from(back)
            },
        ))
    }

    /// The posting of the transfer at `at` to `account`, if it is here.
    pub(super) fn posting_at(&self, account: u32, at: Position) -> Option<Posting> {
        let number = self
            .slots
            .binary_search_by_key(&at, |slot| slot.at())
            .ok()?;
        let side = self.slots[number]
            .accounts
            .iter()
            .position(|&posted| posted == account)?;
        Some(2 * (self.base + number as u64) + side as u64)
    }

    /// Positions of `account`'s postings beyond `after`, oldest first, by looking at every slot: for an account that has so
    /// many that following its chain back to the oldest would take longer.
    pub(super) fn scan(
        &self,
        account: u32,
        after: Option<Position>,
    ) -> impl Iterator<Item = Position> {
        let first = after.map_or(0, |after| {
            self.slots.partition_point(|slot| slot.at() <= after)
        });
        self.slots[first..]
            .iter()
            .filter(move |slot| slot.accounts.contains(&account))
            .map(|slot| slot.at())
    }

    #[inline]
    fn slot(&self, number: u32) -> &Slot {
        &self.slots[usize::try_from(number).expect("an offset into memory")]
    }
}

/// The part of a hash that is kept.
#[inline]
fn short(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("32 bits are left")
}

/// The table wants its bucket in the low bits and its tag in the high ones.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(record: u32) -> Position {
        Position { index: 5, record }
    }

    #[test]
    fn ids_are_found_and_forgotten_when_taken_back() {
        let mut recents = Recents::new(1, 0);
        // All hashes collide in the kept bits, so that only the texts tell the ids apart.
        for (id, record) in [("a", 0), ("ab", 1), ("", 2), ("b", 3)] {
            recents.push(1 << 32, id, at(record), None);
        }
        assert_eq!(recents.find(1 << 32, "ab"), Some(at(1)));
        assert_eq!(recents.find(1 << 32, ""), Some(at(2)));
        recents.pop(1 << 32);
        assert_eq!(recents.find(1 << 32, "b"), None);
        assert_eq!(
            recents.ids().map(|(id, _)| id).collect::<Vec<_>>(),
            [&b"a"[..], b"ab", b""]
        );
    }

    #[test]
    fn memory_is_reused_and_what_it_held_is_not() {
        let mut recents = Recents::new(1, 0);
        recents.push(1 << 32, "a", at(0), Some([(1, 0), (2, 0)]));
        let mut recents = recents.reused(7);
        assert!(recents.capacity() > 0);
        assert_eq!((recents.len(), recents.next_slot()), (0, 7));
        assert_eq!(recents.find(1 << 32, "a"), None);
        assert_eq!(recents.posting(2), None);
        recents.push(1 << 32, "b", at(1), Some([(1, 0), (2, 0)]));
        assert_eq!(recents.ids().collect::<Vec<_>>(), [(&b"b"[..], at(1))]);
        assert_eq!(recents.posting(14), Some((at(1), 0)));
    }

    #[test]
    fn an_account_is_followed_back_and_scanned_forward() {
        let mut recents = Recents::new(10, 0);
        recents.push(0, "a", at(0), Some([(1, 0), (2, 0)]));
        recents.push(0, "b", at(1), None);
        recents.push(0, "c", at(2), Some([(3, 0), (1, 5)]));
        assert_eq!(recents.posting(25), Some((at(2), 20)));
        assert_eq!(recents.posting(20), Some((at(0), 0)));
        assert_eq!(recents.posting(19), None, "older");
        assert_eq!(recents.posting_at(1, at(2)), Some(25));
        assert_eq!(recents.posting_at(2, at(2)), None);
        assert_eq!(recents.scan(1, None).collect::<Vec<_>>(), [at(0), at(2)]);
        assert_eq!(recents.scan(1, Some(at(0))).collect::<Vec<_>>(), [at(2)]);
        assert_eq!(
            recents.posted().collect::<Vec<_>>(),
            [(0, [1, 2]), (2, [3, 1])]
        );
    }
}
