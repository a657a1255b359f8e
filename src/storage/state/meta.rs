//! The rows of the table `meta`: how far everything is. Durable.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::db::{Batch, Db, Table};
use super::hash::Seed;
use crate::machine::{Fault, Position};
use crate::storage::LogId;

/// Version of the tables' contents. A database of a newer one is refused.
///
/// | version | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | the table of idempotency keys, which an older database is given when it is opened |
pub(super) const FORMAT: u32 = 2;

/// A row, with the key it stands under.
pub(super) trait MetaRow: Serialize + DeserializeOwned {
    /// Its key.
    const KEY: &'static str;
}

/// Written once, when the database is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Version of the tables' contents.
    pub(super) format: u32,
    /// Key of the hashes behind the filters.
    pub(super) seed: Seed,
}

/// Written in the same batch as the journal of the entries it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AppliedRow {
    /// Last entry applied.
    pub(super) log_id: Option<LogId>,
    /// Log time of the last entry with commands.
    pub(super) time_ns: u64,
    /// Digest after it.
    pub(super) digest: [u8; 32],
    /// Accounts created.
    pub(super) accounts: u64,
    /// Ledgers created.
    pub(super) ledgers: u32,
}

/// The answers held under idempotency keys. Written with the journal when it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnswersRow {
    /// How many are held.
    pub(super) count: u64,
    /// The last one forgotten, before which none is held.
    pub(super) forgotten: Option<Position>,
}

/// Last membership applied, as consensus encoded it. Written when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembershipRow(pub(super) Vec<u8>);

/// Between two entries: where derived tables end and roll-forward begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    /// Last entry before it.
    pub(super) index: u64,
    /// Log time there.
    pub(super) time_ns: u64,
    /// Digest there.
    pub(super) digest: [u8; 32],
    /// Accounts created up to there.
    pub(super) accounts: u64,
    /// Ledgers created up to there.
    pub(super) ledgers: u32,
}

/// A seal is being written. If this row is there at open, rows up to `to` may be in the tables or not: the same seal is done
/// again, and since it begins and ends where it did, it writes the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealing {
    /// Last entry it covers.
    pub(super) to: u64,
}

/// What the finished seals cover: the `as_of` of every derived table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    /// Ids and history hold every transfer up to here and nothing beyond counts.
    pub(super) transfers: Cut,
    /// Balances are those of here, or newer.
    pub(super) balances: Cut,
    /// Finished seals.
    pub(super) seals: u64,
    /// Filter segments that are full, and so stored whole.
    pub(super) segments_full: u32,
    /// Ids in the segment after those.
    pub(super) segment_ids: u64,
    /// Sealed ids that are in no segment, because the bound of memory was reached.
    pub(super) unfiltered: u64,
}

impl MetaRow for Origin {
    const KEY: &'static str = "origin";
}

impl MetaRow for AppliedRow {
    const KEY: &'static str = "applied";
}

impl MetaRow for AnswersRow {
    const KEY: &'static str = "answers";
}

impl MetaRow for MembershipRow {
    const KEY: &'static str = "membership";
}

impl MetaRow for Sealing {
    const KEY: &'static str = "sealing";
}

impl MetaRow for Sealed {
    const KEY: &'static str = "sealed";
}

/// Puts a row.
pub(super) fn put<M: MetaRow>(batch: &mut Batch<'_>, row: &M) {
    let value = postcard::to_allocvec(row).expect("meta rows are plain data");
    batch.put(Table::Meta, M::KEY.as_bytes(), &value);
}

/// Removes a row.
pub(super) fn delete<M: MetaRow>(batch: &mut Batch<'_>) {
    batch.delete(Table::Meta, M::KEY.as_bytes());
}

/// Reads a row.
pub(super) fn get<M: MetaRow>(db: &Db) -> Result<Option<M>, Fault> {
    let Some(value) = db.get(Table::Meta, M::KEY.as_bytes())? else {
        return Ok(None);
    };
    match postcard::take_from_bytes(&value) {
        Ok((row, [])) => Ok(Some(row)),
        Ok(_) => Err(db.damaged(
            Table::Meta,
            format_args!("row {} has bytes after its end", M::KEY),
        )),
        Err(error) => Err(db.damaged(Table::Meta, format_args!("row {}: {error}", M::KEY))),
    }
}
