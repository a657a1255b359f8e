//! Going through the journal, from its first entry to its last: of a stopped node, or by what a running one hands out.

use std::path::Path;

use bytes::Bytes;

use super::core::lock;
use super::db::{Access, Db, Range, Table};
use super::journal::{Chunk, Trail};
use super::layout::{journal_key, parse_journal_key};
use super::load::Stamps;
use super::{Applied, State, dirs};
use crate::machine::{Fault, Record, digest};
use crate::storage::identity::OpenError;

/// Block cache while following: everything is read once, in order.
const CACHE_BYTES: u64 = 8 << 20;

/// What an entry journaled.
#[derive(Clone, Debug, Default)]
pub(in crate::storage) struct Journaled {
    /// Log index of the entry.
    pub(in crate::storage) index: u64,
    /// Its log time, nanoseconds since 1970.
    pub(in crate::storage) time_ns: u64,
    /// The digest of everything up to and including it, computed from the journal.
    pub(in crate::storage) digest: [u8; 32],
    rows: Vec<Vec<u8>>,
}

impl Journaled {
    /// Its records, in order. `Err` names what is wrong.
    pub(in crate::storage) fn records(&self) -> Result<Vec<Record<'_>>, String> {
        self.rows.iter().map(|row| Record::decode(row)).collect()
    }
}

/// Puts the rows of a journal together to entries, and computes the digest that they lead to.
#[derive(Debug)]
pub(in crate::storage) struct Follower {
    trail: Trail,
    entry: Journaled,
}

impl Default for Follower {
    /// One that has seen no row.
    fn default() -> Follower {
        Follower {
            trail: Trail::after(0, digest::GENESIS),
            entry: Journaled::default(),
        }
    }
}

impl Follower {
    /// Takes the next row; gives its entry to `each` if that is whole now. `Err` names what is wrong, or is from `each`.
    pub(in crate::storage) fn row(
        &mut self,
        key: &[u8],
        value: &[u8],
        each: &mut impl FnMut(&Journaled) -> Result<(), String>,
    ) -> Result<(), String> {
        let chunk = Chunk::parse(key, value)?;
        self.trail.follow(&chunk)?;
        let entry = &mut self.entry;
        let records = chunk.records().map(|(_, bytes)| bytes.to_vec());
        entry.rows.extend(records);
        if chunk.last {
            (entry.index, entry.time_ns) = (chunk.index, chunk.time_ns);
            entry.digest = self.trail.digest;
            each(entry)?;
            entry.rows.clear();
        }
        Ok(())
    }

    /// That the rows end with a whole entry, and lead to what a node stored: this digest and this log time.
    pub(in crate::storage) fn check(&self, digest: &[u8; 32], time_ns: u64) -> Result<(), String> {
        self.trail.end()?;
        if (&self.trail.digest, self.trail.time_ns) == (digest, time_ns) {
            return Ok(());
        }
        Err(format!(
            "the journal leads to digest {} and log time {}, stored are {} and {time_ns}",
            blake3::Hash::from_bytes(self.trail.digest),
            self.trail.time_ns,
            blake3::Hash::from_bytes(*digest),
        ))
    }
}

/// A row of the journal: its key and its value.
pub(in crate::storage) type JournalRow = (Bytes, Bytes);

/// The journal of a state that no process has open.
pub(in crate::storage) struct Journal {
    db: Db,
    applied: Applied,
}

impl Journal {
    /// Opens the journal of the state in `dir`. Blocking.
    ///
    /// # Errors
    /// If there is no state or it cannot be read.
    pub(in crate::storage) fn open(dir: &Path) -> Result<Journal, OpenError> {
        let path = dirs::inspect(dir)?;
        let path = path.ok_or_else(|| {
            OpenError(format!("state directory {} holds no state", dir.display()))
        })?;
        let unreadable = |fault: Fault| OpenError(fault.what);
        let db = Db::open(&path, Access::ReadOnly, CACHE_BYTES).map_err(unreadable)?;
        let applied = Stamps::read(&db).map_err(unreadable)?.applied();
        Ok(Journal { db, applied })
    }

    /// How far the state is.
    pub(in crate::storage) fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Gives every entry to `each`. Blocking.
    ///
    /// # Errors
    /// If it cannot be read or does not lead to the digest that the node stored, or what `each` finds wrong.
    pub(in crate::storage) fn follow(
        &self,
        mut each: impl FnMut(&Journaled) -> Result<(), String>,
    ) -> Result<(), OpenError> {
        let mut follower = Follower::default();
        let mut rows = self.db.rows(Table::Journal, Range::whole(&[]), None);
        let damaged = |what: String| OpenError(format!("the journal: {what}"));
        while let Some((key, value)) = rows.next().map_err(|fault| OpenError(fault.what))? {
            follower.row(key, value, &mut each).map_err(damaged)?;
        }
        let check = follower.check(&self.applied.digest, self.applied.time_ns);
        check.map_err(OpenError)
    }
}

impl State {
    /// Rows of the journal of entries `from..=to` as far as they are applied: whole entries, of about `bytes_max` but of one
    /// at least; and the index up to which they are all there is. Blocking.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub(in crate::storage) fn journal(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<JournalRow>, u64), Fault> {
        let core = self.core();
        let applied = lock(&core.applied).log_id.map_or(0, |id| id.index);
        let to = to.min(applied);
        if from > to {
            return Ok((Vec::new(), to));
        }
        core.wait_written(to)?;
        let (begin, end) = (journal_key(from, 0), journal_key(to + 1, 0));
        let mut found = core
            .db
            .rows(Table::Journal, Range::whole(&begin).to(&end), None);
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
        while let Some((key, value)) = found.next()? {
            let index = journal_index(key);
            if last.is_some_and(|last| last < index) && bytes >= bytes_max {
                return Ok((rows, index - 1));
            }
            last = Some(index);
            bytes += key.len() + value.len();
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        }
        Ok((rows, to))
    }
}

/// Log index of the entry of a journal's row. What is no key of one is refused by whoever follows the rows.
pub(in crate::storage) fn journal_index(key: &[u8]) -> u64 {
    parse_journal_key(key).map_or(0, |(index, _)| index)
}
