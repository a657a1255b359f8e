//! What a stream of operations adds up to.

use crate::storage::{LogEntry, LogId, Vote};

use super::LogState;

/// One thing to write down, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A vote.
    Vote(Vote),
    /// An entry, right after the last.
    Append(LogEntry),
    /// Every entry after this one is gone; `None`: every entry that was not purged.
    Truncate(Option<LogId>),
    /// Every entry up to and including this one is gone.
    Purge(LogId),
    /// How far entries are committed.
    Committed(Option<LogId>),
}

/// What the operations up to some point add up to. Entries `first..=last.index` are there; none if `last` is below
/// `first` or absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// What consensus asks for.
    pub state: LogState,
    /// Index of the first entry that is there, or will be.
    pub first: u64,
}

impl Shape {
    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.state.last.is_none_or(|last| last.index < self.first)
    }

    /// Index after the last entry.
    pub fn end(&self) -> u64 {
        self.state.last.map_or(self.first, |last| last.index + 1)
    }

    /// Whether `id` may stand right after the last entry. Into a log that never held one, any may.
    pub fn takes(&self, id: LogId) -> bool {
        self.state
            .last
            .is_none_or(|last| id.index == last.index + 1 && id.term >= last.term)
    }

    /// Appends the entry `id`, which it [takes](Shape::takes).
    pub fn append(&mut self, id: LogId) {
        if self.state.last.is_none() {
            self.first = id.index;
        }
        self.state.last = Some(id);
    }

    /// Drops every entry after `upto`.
    pub fn truncate_after(&mut self, upto: Option<LogId>) {
        let Some(last) = self.state.last else {
            return;
        };
        let purged = self.state.purged;
        let upto = if upto.map(|id| id.index) < purged.map(|id| id.index) {
            purged
        } else {
            upto
        };
        match upto {
            Some(upto) if upto.index >= last.index => return,
            Some(upto) => self.state.last = Some(upto),
            None => (self.state.last, self.first) = (None, 0),
        }
        self.note_committed(self.state.committed);
    }

    /// Drops every entry up to and including `upto`; the log is empty then if `upto` is beyond the last.
    pub fn purge(&mut self, upto: LogId) {
        if self.state.purged.is_some_and(|p| p.index >= upto.index) {
            return;
        }
        if self.state.last.is_none_or(|last| last.index < upto.index) {
            self.state.last = Some(upto);
        }
        self.state.purged = Some(upto);
        self.first = upto.index + 1;
    }

    /// Notes how far entries are committed: never beyond what there is.
    pub fn note_committed(&mut self, committed: Option<LogId>) {
        let beyond = match (committed, self.state.last) {
            (Some(committed), Some(last)) => committed.index > last.index,
            (committed, None) => committed.is_some(),
            (None, Some(_)) => false,
        };
        self.state.committed = if beyond { self.state.last } else { committed };
    }

    /// Applies any operation.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Vote(vote) => self.state.vote = Some(*vote),
            Op::Append(entry) => self.append(entry.id),
            Op::Truncate(upto) => self.truncate_after(*upto),
            Op::Purge(upto) => self.purge(*upto),
            Op::Committed(committed) => self.note_committed(*committed),
        }
    }
}
