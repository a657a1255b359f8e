//! Recent entries in memory.

use std::collections::VecDeque;

use crate::storage::LogEntry;

/// What an entry takes in memory and in the log beside its body, about, in bytes. Keeps a cache of empty entries bounded.
pub(super) const ENTRY_OVERHEAD: u64 = 64;

/// What an entry counts for, in bytes.
pub(super) fn weight(entry: &LogEntry) -> u64 {
    entry.body.len() as u64 + ENTRY_OVERHEAD
}

/// The last entries of the log, without holes. Those not yet on the disk are always here, whatever they weigh; of the
/// others as many as fit.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// Each with the number of the operation that appended it.
    entries: VecDeque<(LogEntry, u64)>,
    bytes: u64,
}

impl Cache {
    /// Adds an entry right after the last; `op` is the number of the operation that appends it, 0 if it is on the disk.
    pub(super) fn append(&mut self, entry: LogEntry, op: u64) {
        self.bytes += weight(&entry);
        self.entries.push_back((entry, op));
    }

    /// Drops entries from `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        while self
            .entries
            .back()
            .is_some_and(|(entry, _)| entry.id.index >= end)
        {
            let gone = self.entries.pop_back();
            self.forget(gone);
        }
    }

    /// Drops entries below `start`.
    pub(super) fn purge(&mut self, start: u64) {
        while self
            .entries
            .front()
            .is_some_and(|(entry, _)| entry.id.index < start)
        {
            let gone = self.entries.pop_front();
            self.forget(gone);
        }
    }

    /// Drops the oldest entries until they weigh at most `bytes_max`, but none whose operation is not yet done: those up
    /// to number `done` are.
    pub(super) fn evict(&mut self, bytes_max: u64, done: u64) {
        while self.bytes > bytes_max && self.entries.front().is_some_and(|(_, op)| *op <= done) {
            let gone = self.entries.pop_front();
            self.forget(gone);
        }
    }

    fn forget(&mut self, gone: Option<(LogEntry, u64)>) {
        self.bytes -= gone.map_or(0, |(entry, _)| weight(&entry));
    }

    /// Index of the first entry here.
    pub(super) fn start(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.id.index)
    }

    /// Entry `index`.
    pub(super) fn get(&self, index: u64) -> Option<&LogEntry> {
        let at = index.checked_sub(self.start()?)?;
        let (entry, _) = self.entries.get(usize::try_from(at).ok()?)?;
        Some(entry)
    }

    /// What the entries here weigh.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
