//! The applied log: every command that a node applied, in order, with what came of it.
//!
//! What was asked is in the write-ahead log, what came of it in the journal of the state; an export puts the two side by side.
//! A result is never decided again: what the journal does not show did not happen. The journal must lead to the digest that
//! the node stored, and hold what was asked and no more, or the export fails: so it cannot say what should have happened
//! instead of what did. It begins where the write-ahead log does, at the purge point.
//!
//! Of a stopped node [`export`] reads the directory. A running one hands out log and journal as they are, in [`page`]s, and
//! [`Pages`] makes the export of them where it is wanted: what that takes of memory the node need not have.

mod line;
pub(super) mod pages;
pub(super) mod pair;
mod transfers;

use std::io;
use std::path::Path;

pub use line::Line;
pub use pages::{Pages, page};

use self::pair::Pairing;
use super::identity::{DataDir, OpenError};
use super::log::Entries;
use super::state::{Journal, Journaled};
use super::{Kind, LogEntry, LogId};
use crate::machine::digest;

/// How far an export goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Log index of the last entry that it covers.
    pub index: u64,
    /// Digest of everything up to there: on all nodes the same for the same index.
    pub digest: [u8; 32],
}

/// Gives each command that the stopped node of `dir` applied to `each`, in order, up to log index `until` if one is given.
/// Blocking.
///
/// # Errors
/// If log or state cannot be read, do not fit together, or do not lead to the digest stored; if less is applied than `until`;
/// and if `each` fails. What it was given until then is worth nothing.
pub fn export(
    dir: &DataDir,
    until: Option<u64>,
    each: impl FnMut(&Line) -> io::Result<()>,
) -> Result<Exported, OpenError> {
    export_of(&dir.log_dir(), &dir.state_dir(), until, each)
}

/// [`export`] of a log and a state.
pub(in crate::storage) fn export_of(
    log: &Path,
    state: &Path,
    until: Option<u64>,
    mut each: impl FnMut(&Line) -> io::Result<()>,
) -> Result<Exported, OpenError> {
    let entries = Entries::open(log)?;
    let read = |index: u64| entries.get(index).map_err(|error| error.to_string());
    let journal = Journal::open(state)?;
    let last = journal.applied().log_id.map_or(0, |id| id.index);
    let first = begin(entries.first(), entries.end(), journal.applied().log_id);
    let mut export = Export::new(first, until);
    journal.follow(|journaled| export.journaled(journaled, &read, &mut each))?;
    export.silent(last, &read).map_err(OpenError)?;
    export.end(last)
}

/// Index from which on a log with the entries `first..end` holds what was applied up to `applied`.
///
/// A log that ends before `applied` holds nothing of it: a snapshot was installed, and what the log has, its purge is about to
/// delete. Entries may be among it that a leader cut off from the others wrote, and that were never committed.
fn begin(first: u64, end: u64, applied: Option<LogId>) -> u64 {
    match applied {
        Some(applied) if end <= applied.index => applied.index + 1,
        _ => first,
    }
}

/// An export under way.
#[derive(Debug)]
struct Export {
    pairing: Pairing,
    /// Index of the first entry in the log.
    first: u64,
    /// Index of the next entry to look at.
    next: u64,
    until: Option<u64>,
    digest: [u8; 32],
}

impl Export {
    fn new(first: u64, until: Option<u64>) -> Export {
        Export {
            pairing: Pairing::default(),
            first,
            next: first,
            until,
            digest: digest::GENESIS,
        }
    }

    /// Leaves out what is before `first` and was not looked at yet: the log does not hold it any more.
    fn leave_out(&mut self, first: u64) {
        if first > self.next {
            (self.first, self.next) = (first, first);
        }
    }

    /// The next entry that journaled something, and those before it that did not.
    fn journaled(
        &mut self,
        journaled: &Journaled,
        read: &impl Fn(u64) -> Result<Option<LogEntry>, String>,
        each: &mut impl FnMut(&Line) -> io::Result<()>,
    ) -> Result<(), String> {
        let index = journaled.index;
        let in_entry = |what: String| format!("entry {index}: {what}");
        let there = |index: u64| {
            let missing = || format!("entry {index} is in the journal and not in the log");
            read(index)?.ok_or_else(missing)
        };
        let records = journaled.records().map_err(in_entry)?;
        if self.until.is_none_or(|until| index <= until) {
            self.digest = journaled.digest;
        }
        if index < self.first {
            self.pairing.remember(&records);
            return Ok(());
        }
        for silent in self.next..index {
            if there(silent)?.kind == Kind::Commands {
                return Err(format!("entry {silent} has commands and journaled nothing"));
            }
        }
        self.next = index + 1;
        let lines = self.pairing.entry(&there(index)?, &records);
        let lines = lines.map_err(in_entry)?;
        if self.until.is_some_and(|until| index > until) {
            return Ok(());
        }
        for line in lines {
            each(&line).map_err(|error| format!("writing: {error}"))?;
        }
        Ok(())
    }

    /// The entries up to `last`, which is applied, that journaled nothing.
    fn silent(
        &mut self,
        last: u64,
        read: &impl Fn(u64) -> Result<Option<LogEntry>, String>,
    ) -> Result<(), String> {
        for silent in self.next..=last {
            if read(silent)?.is_some_and(|entry| entry.kind == Kind::Commands) {
                return Err(format!(
                    "entry {silent} has commands and is said to be applied, but journaled nothing"
                ));
            }
        }
        self.next = self.next.max(last + 1);
        Ok(())
    }

    /// How far it goes, with everything up to `last` looked at.
    fn end(&self, last: u64) -> Result<Exported, OpenError> {
        match self.until {
            Some(until) if until > last => Err(OpenError(format!(
                "only {last} is applied, which is less than {until}"
            ))),
            _ => Ok(Exported {
                index: self.until.unwrap_or(last),
                digest: self.digest,
            }),
        }
    }
}

/// The same of a node whose state is in memory: the lines, from every entry it applied and from its journal.
///
/// # Errors
/// If they do not fit together.
#[cfg(feature = "simulation")]
pub(crate) fn of_memory(
    entries: &[LogEntry],
    memory: &crate::machine::Memory,
) -> Result<String, String> {
    let mut journal: std::collections::BTreeMap<u64, Vec<&[u8]>> = Default::default();
    for (position, bytes) in memory.journal() {
        journal.entry(position.index).or_default().push(bytes);
    }
    let mut pairing = Pairing::default();
    let mut text = String::new();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Commands) {
        let records = journal.remove(&entry.id.index).unwrap_or_default();
        let records = records.into_iter().map(|bytes| {
            crate::machine::Record::decode(bytes).map_err(|error| format!("{error:?}"))
        });
        let records: Vec<_> = records.collect::<Result<_, _>>()?;
        for line in pairing.entry(entry, &records)? {
            text += &serde_json::to_string(&line).map_err(|error| error.to_string())?;
            text.push('\n');
        }
    }
    Ok(text)
}
