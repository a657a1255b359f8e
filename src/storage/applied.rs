//! The applied log: every command that a stopped node applied, in order, with what came of it.
//!
//! What was asked is in the write-ahead log, what came of it in the journal of the state; [`export`] puts the two side by side.
//! A result is never decided again: what the journal does not show did not happen. The journal must lead to the digest that
//! the node stored, and hold what was asked and no more, or the export fails: so it cannot say what should have happened
//! instead of what did. It begins where the write-ahead log does, at the purge point.

mod line;
pub(super) mod pair;
mod transfers;

use std::io;

pub use line::Line;

use self::pair::Pairing;
use super::Kind;
use super::identity::{DataDir, OpenError};
use super::log::Entries;
use super::state::State;
use crate::machine::digest;

/// How far an export goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Log index of the last entry that it covers.
    pub index: u64,
    /// Digest of everything up to there: on all nodes the same for the same index.
    pub digest: [u8; 32],
}

/// Gives each command that the node of `dir` applied to `each`, in order, up to log index `until` if one is given. Blocking.
///
/// # Errors
/// If log or state cannot be read, do not fit together, or do not lead to the digest stored; if less is applied than `until`;
/// and if `each` fails. What it was given until then is worth nothing.
pub fn export(
    dir: &DataDir,
    until: Option<u64>,
    mut each: impl FnMut(&Line) -> io::Result<()>,
) -> Result<Exported, OpenError> {
    let entries = Entries::open(&dir.log_dir())?;
    let mut pairing = Pairing::default();
    let mut next = entries.first();
    let mut digest = digest::GENESIS;
    let read = |index: u64| {
        let entry = entries.get(index).map_err(|error| error.to_string())?;
        entry.ok_or_else(|| format!("entry {index} is in the journal and not in the log"))
    };
    let applied = State::follow(&dir.state_dir(), |journaled| {
        let index = journaled.index;
        let in_entry = |what: String| format!("entry {index}: {what}");
        let records = journaled.records().map_err(in_entry)?;
        if index < entries.first() {
            pairing.remember(&records);
            digest = journaled.digest;
            return Ok(());
        }
        for silent in next..index {
            if read(silent)?.kind == Kind::Commands {
                return Err(format!("entry {silent} has commands and journaled nothing"));
            }
        }
        next = index + 1;
        let lines = pairing.entry(&read(index)?, &records).map_err(in_entry)?;
        if until.is_some_and(|until| index > until) {
            return Ok(());
        }
        digest = journaled.digest;
        for line in lines {
            each(&line).map_err(|error| format!("writing: {error}"))?;
        }
        Ok(())
    })?;
    let last = applied.log_id.map_or(0, |id| id.index);
    for silent in next..=last {
        let entry = entries
            .get(silent)
            .map_err(|error| OpenError(error.to_string()))?;
        if entry.is_some_and(|entry| entry.kind == Kind::Commands) {
            return Err(OpenError(format!(
                "entry {silent} has commands and is said to be applied, but journaled nothing"
            )));
        }
    }
    match until {
        Some(until) if until > last => Err(OpenError(format!(
            "only {last} is applied, which is less than {until}"
        ))),
        _ => Ok(Exported {
            index: until.unwrap_or(last),
            digest,
        }),
    }
}
