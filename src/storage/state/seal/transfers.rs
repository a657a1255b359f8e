//! Sealing transfers: their ids and the history of their accounts as sorted rows.

use super::super::core::Core;
use super::super::db::{Batch, Sst, Table};
use super::super::layout::{IdKey, history_key, position, push_history};
use super::super::recent::Recents;
use crate::machine::Fault;

/// Rows read together before they are written: sorted they lie all over memory, and only reads that nothing stands between
/// wait for it at the same time.
const GATHERED: usize = 64;

/// Takes rows in order of their keys: into a file to ingest, or through the memory tables in batches.
enum Sink<'a> {
    File(Sst<'a>),
    Batches(Batch<'a>),
}

impl<'a> Sink<'a> {
    fn new(core: &'a Core, table: Table, large: bool) -> Result<Sink<'a>, Fault> {
        Ok(if large {
            Sink::File(core.db.sst(table)?)
        } else {
            Sink::Batches(core.db.batch())
        })
    }

    fn put(&mut self, core: &'a Core, table: Table, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        match self {
            Sink::File(file) => file.put(key, value),
            Sink::Batches(batch) => {
                batch.put(table, key, value);
                if batch.bytes() < core.tuning.batch_bytes_max {
                    return Ok(());
                }
                core.point("seal:rows")?;
                core.db.write(std::mem::replace(batch, core.db.batch()))
            }
        }
    }

    fn end(self, core: &Core) -> Result<(), Fault> {
        match self {
            Sink::File(file) => file.ingest(),
            Sink::Batches(batch) => core.db.write(batch),
        }
    }
}

/// Writes id -> position, in order of keys.
pub(super) fn write_ids(core: &Core, recents: &Recents, large: bool) -> Result<(), Fault> {
    if recents.len() == 0 {
        return Ok(());
    }
    let mut sink = Sink::new(core, Table::Ids, large)?;
    let mut rows = Vec::with_capacity(GATHERED);
    for numbers in slots_by_key(recents).chunks(GATHERED) {
        rows.clear();
        rows.extend(
            numbers
                .iter()
                .map(|&number| (key_of(recents, number), recents.position(number))),
        );
        for (key, at) in &rows {
            sink.put(core, Table::Ids, key.as_bytes(), &position(*at))?;
        }
    }
    sink.end(core)
}

fn key_of(recents: &Recents, number: u32) -> IdKey {
    IdKey::new(recents.id(number))
}

/// Slots in the order of their ids' keys. Sorted by the 12 bytes after what all ids begin with, packed into one integer
/// with the slot; the few that agree in those are put in order by their whole keys.
fn slots_by_key(recents: &Recents) -> Vec<u32> {
    let skip = common_prefix(recents);
    let mut packed: Vec<u128> = (0u32..)
        .zip(recents.ids())
        .map(|(number, (id, _))| {
            let mut bytes = [0; 16];
            // The 8 bytes that every key takes from its id are all that may be compared without making the key.
            let part = if id.len() > 40 {
                &id[skip.min(8)..8]
            } else {
                &id[skip..]
            };
            let len = part.len().min(12);
            bytes[..len].copy_from_slice(&part[..len]);
            u128::from_be_bytes(bytes) | u128::from(number)
        })
        .collect();
    packed.sort_unstable();
    let mut slots: Vec<u32> = packed
        .iter()
        .map(|packed| u32::from_be_bytes(last4(*packed)))
        .collect();
    let mut start = 0;
    for run in packed.chunk_by(|a, b| a >> 32 == b >> 32) {
        let end = start + run.len();
        if run.len() > 1 {
            slots[start..end].sort_by_cached_key(|&slot| key_of(recents, slot).as_bytes().to_vec());
        }
        start = end;
    }
    slots
}

fn last4(packed: u128) -> [u8; 4] {
    *packed
        .to_be_bytes()
        .last_chunk()
        .expect("16 bytes have a last 4")
}

/// How many bytes all ids begin with; not beyond the 8 that long ids keep.
fn common_prefix(recents: &Recents) -> usize {
    let mut ids = recents.ids().map(|(id, _)| id);
    let first = ids.next().unwrap_or_default();
    let mut common = first.len();
    let mut has_long = first.len() > 40;
    for id in ids {
        has_long |= id.len() > 40;
        common = id
            .iter()
            .zip(&first[..common])
            .take_while(|(a, b)| a == b)
            .count();
    }
    if has_long { common.min(8) } else { common }
}

/// Writes account and first position -> positions, in order of accounts.
pub(super) fn write_history(core: &Core, recents: &Recents, large: bool) -> Result<(), Fault> {
    // Account and number of the slot in one integer; sorting it keeps an account's positions in order.
    let mut postings: Vec<u64> = recents
        .posted()
        .flat_map(|(number, accounts)| {
            accounts.map(|account| u64::from(account) << 32 | u64::from(number))
        })
        .collect();
    if postings.is_empty() {
        return Ok(());
    }
    postings.sort_unstable();
    let mut sink = Sink::new(core, Table::History, large)?;
    let (mut row, mut positions) = (Vec::new(), Vec::new());
    for account in postings.chunk_by(|a, b| a >> 32 == b >> 32) {
        for part in account.chunks(core.tuning.history_row_max) {
            positions.clear();
            positions.extend(part.iter().map(|posting| {
                recents.position(u32::try_from(posting & 0xffff_ffff).expect("32 bits"))
            }));
            row.clear();
            for two in positions.windows(2) {
                push_history(two[0], two[1], &mut row);
            }
            sink.put(
                core,
                Table::History,
                &history_key(account[0] >> 32, positions[0]),
                &row,
            )?;
        }
    }
    sink.end(core)
}
