//! Going through the journal of a stopped node, from its first entry to its last.

use std::path::Path;

use super::db::{Access, Db, Range, Table};
use super::journal::{Chunk, Trail};
use super::load::Stamps;
use super::{Applied, State, dirs};
use crate::machine::{Record, digest};
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

impl State {
    /// Gives every entry of the journal in `dir`, which no process may be using, to `each`; then says how far the state is.
    /// Blocking.
    ///
    /// # Errors
    /// If there is no state or it cannot be read, if the journal does not lead to the digest that the node stored, or what
    /// `each` finds wrong.
    pub(in crate::storage) fn follow(
        dir: &Path,
        mut each: impl FnMut(&Journaled) -> Result<(), String>,
    ) -> Result<Applied, OpenError> {
        let path = dirs::inspect(dir)?;
        let path = path.ok_or_else(|| {
            OpenError(format!("state directory {} holds no state", dir.display()))
        })?;
        let db = Db::open(&path, Access::ReadOnly, CACHE_BYTES).map_err(OpenError)?;
        let applied = Stamps::read(&db)
            .map_err(|fault| OpenError(fault.what))?
            .applied();
        let trail =
            walk(&db, &mut each).map_err(|what| OpenError(format!("the journal: {what}")))?;
        if (trail.digest, trail.time_ns) != (applied.digest, applied.time_ns) {
            return Err(OpenError(format!(
                "the journal leads to digest {} and log time {}, stored are {} and {}",
                blake3::Hash::from_bytes(trail.digest),
                trail.time_ns,
                blake3::Hash::from_bytes(applied.digest),
                applied.time_ns
            )));
        }
        Ok(applied)
    }
}

fn walk(db: &Db, each: &mut impl FnMut(&Journaled) -> Result<(), String>) -> Result<Trail, String> {
    let mut trail = Trail::after(0, digest::GENESIS);
    let mut entry = Journaled::default();
    let mut rows = db.rows(Table::Journal, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next().map_err(|fault| fault.what)? {
        let chunk = Chunk::parse(key, value)?;
        trail.follow(&chunk)?;
        let records = chunk.records().map(|(_, bytes)| bytes.to_vec());
        entry.rows.extend(records);
        if chunk.last {
            (entry.index, entry.time_ns) = (chunk.index, chunk.time_ns);
            entry.digest = trail.digest;
            each(&entry)?;
            entry.rows.clear();
        }
    }
    trail.end()?;
    Ok(trail)
}
