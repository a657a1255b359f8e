//! Looking ahead: what the next transfers of a batch will ask for is touched shortly before they do.
//!
//! A check of an id reads three or four places in tables of tens of megabytes, each of which is a wait for memory, one after
//! the other. Touched for sixteen transfers at a time the waits overlap, since no touch depends on the one before.
//!
//! Once the filters have reached their bound of memory, nearly every id is looked for in the tables: then those of a batch are
//! looked up together, in the order of their keys, which costs a tenth of one by one.

use super::core::Core;
use super::db::Table;
use super::layout::IdKey;
use super::live::Live;
use crate::machine::{AccountRef, Fault, NewTransfer, Position};

/// Transfers touched at once. Few enough that the processor's caches, of addresses too, still hold them when they are used.
const WINDOW: usize = 16;
/// How far ahead a transfer is searched for that others were skipped before.
const SKIPPED_MAX: usize = 64;

/// One transfer to come.
#[derive(Clone, Copy, Debug)]
struct Coming {
    hash: u64,
    /// Account numbers; 0 if not resolved.
    accounts: [u64; 2],
}

/// The transfers of a batch that are still to come.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    coming: Vec<Coming>,
    /// The next one to be asked for.
    next: usize,
    /// Those before this one have been touched.
    touched: usize,
    /// In the order of keys: where sealed transfers of the batch stand, if the filters cannot tell.
    sealed: Vec<(IdKey, Option<Position>)>,
}

impl Ahead {
    /// Begins a batch.
    pub(super) fn expect(
        &mut self,
        core: &Core,
        live: &Live,
        batch: &[NewTransfer<'_>],
    ) -> Result<(), Fault> {
        self.coming.clear();
        self.coming.extend(batch.iter().map(|transfer| Coming {
            hash: live.seed.hash(transfer.id.as_bytes()),
            accounts: [transfer.debit, transfer.credit].map(|account| match account {
                AccountRef::Number(number) => number,
                AccountRef::Id(_) => 0,
            }),
        }));
        (self.next, self.touched) = (0, 0);
        self.touch(live);
        self.sealed.clear();
        if !live.filter.complete {
            self.look_up(core, live, batch)?;
        }
        Ok(())
    }

    fn look_up(
        &mut self,
        core: &Core,
        live: &Live,
        batch: &[NewTransfer<'_>],
    ) -> Result<(), Fault> {
        let unknown = self
            .coming
            .iter()
            .zip(batch)
            .filter(|(coming, transfer)| live.find_recent(coming.hash, transfer.id).is_none());
        let mut keyed: Vec<(IdKey, &str)> = unknown
            .map(|(_, transfer)| (IdKey::new(transfer.id.as_bytes()), transfer.id))
            .collect();
        keyed.sort_unstable_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        let found = core
            .db
            .get_sorted(Table::Ids, keyed.iter().map(|(key, _)| key.as_bytes()))?;
        for ((key, id), value) in keyed.into_iter().zip(found) {
            let at = value
                .map(|value| core.sealed_position(id, &key, &value))
                .transpose()?;
            self.sealed.push((key, at));
        }
        Ok(())
    }

    /// Where the sealed transfer with this id stands, if it was looked up with its batch. Ids sealed are only added between
    /// entries, so the answer holds for the whole batch.
    pub(super) fn sealed(&self, id: &str) -> Option<Option<Position>> {
        if self.sealed.is_empty() {
            return None;
        }
        let key = IdKey::new(id.as_bytes());
        let place = self
            .sealed
            .binary_search_by(|(other, _)| other.as_bytes().cmp(key.as_bytes()))
            .ok()?;
        Some(self.sealed[place].1)
    }

    /// Notes that the id with this hash is asked for.
    #[inline]
    pub(super) fn asked(&mut self, live: &Live, hash: u64) {
        let rest = self.coming.get(self.next..).unwrap_or_default();
        let Some(skipped) = rest
            .iter()
            .take(SKIPPED_MAX)
            .position(|coming| coming.hash == hash)
        else {
            return;
        };
        self.next += skipped + 1;
        if self.next + WINDOW > self.touched {
            self.touch(live);
        }
    }

    /// Touches the next window.
    #[inline(never)]
    fn touch(&mut self, live: &Live) {
        let to = self.coming.len().min(self.touched + WINDOW);
        let mut seen = 0;
        for coming in self.coming.get(self.touched..to).unwrap_or_default() {
            let frozen = live
                .frozen
                .as_ref()
                .is_some_and(|frozen| frozen.may_contain(coming.hash));
            let known = live.recents.may_contain(coming.hash)
                | frozen
                | live.filter.may_contain(coming.hash);
            seen ^= u64::from(known);
            for account in coming.accounts {
                seen ^= live.account(account).map_or(0, |account| account.head);
            }
        }
        std::hint::black_box(seen);
        self.touched = to;
    }
}
