//! The state of a simulated node: [`Memory`], in the place of the database.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Value, dice};
use crate::machine::memory::Memory;
use crate::machine::{Fault, Reply, Store};
use crate::raft::Replica;
use crate::storage::snapshot::Manifest;
use crate::storage::state::{Applied, CheckpointMeta, Pace};
use crate::storage::{Kind, LogEntry, LogId, applied, watch};

/// A state in memory, which loses in a crash what it did not flush; clones share it.
#[derive(Clone, Default)]
pub(crate) struct MemoryState {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    now: Held,
    /// What the next process finds.
    flushed: Held,
    /// Index and digest after each entry applied since somebody looked.
    digests: Vec<(u64, [u8; 32])>,
}

/// What is applied, and all of it.
#[derive(Clone)]
struct Held {
    memory: Memory,
    applied: Applied,
    entries: Vec<LogEntry>,
}

impl Default for Held {
    fn default() -> Held {
        Held {
            memory: Memory::new(),
            applied: Applied::default(),
            entries: Vec::new(),
        }
    }
}

impl MemoryState {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics holding it")
    }

    /// As the next process finds it.
    pub(super) fn after_crash(&self) -> MemoryState {
        let flushed = self.lock().flushed.clone();
        let inner = Inner {
            now: flushed.clone(),
            flushed,
            digests: Vec::new(),
        };
        MemoryState {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// A key's value and where it was written, and the applied index at which that is so.
    pub(super) fn look(&self, key: &str) -> (u64, Option<Value>) {
        let inner = self.lock();
        let value = inner.now.memory.value(key).map(|(meta, bytes)| Value {
            text: String::from_utf8_lossy(bytes).into_owned(),
            tag: meta.modified,
        });
        (inner.now.applied.log_id.map_or(0, |id| id.index), value)
    }

    /// The digests after the entries that were applied since the last call.
    pub(super) fn take_digests(&self) -> Vec<(u64, [u8; 32])> {
        std::mem::take(&mut self.lock().digests)
    }

    /// Every command that was applied, as `quorate log export` tells it.
    pub(super) fn export(&self) -> Result<String, String> {
        let inner = self.lock();
        applied::of_memory(&inner.now.entries, &inner.now.memory)
    }
}

impl Inner {
    fn apply(&mut self, entry: &LogEntry) -> Result<Vec<Reply>, Fault> {
        let now = &mut self.now;
        let index = entry.id.index;
        if now
            .applied
            .log_id
            .is_some_and(|last| index != last.index + 1)
        {
            let last = now.applied.log_id;
            return Err(Fault::new(format!(
                "log entry {index} is to be applied after {last:?}"
            )));
        }
        let mut replies = Vec::new();
        match entry.kind {
            Kind::Blank => {}
            Kind::Membership => now.applied.membership = Some(entry.body.clone()),
            Kind::Commands => replies = now.memory.apply(index, &entry.body)?.replies,
        }
        now.applied.log_id = Some(entry.id);
        now.applied.time_ns = now.memory.time_ns();
        now.applied.digest = now.memory.digest();
        now.entries.push(entry.clone());
        self.digests.push((index, now.applied.digest));
        Ok(replies)
    }
}

impl Replica for MemoryState {
    fn applied(&self) -> Applied {
        self.lock().now.applied.clone()
    }

    fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Vec<Reply>>, Fault> {
        let mut inner = self.lock();
        let replies = entries.iter().map(|entry| inner.apply(entry)).collect();
        // As the database does in the background, now and then.
        if dice::roll(|dice| dice.below(200)) == Some(0) {
            inner.flushed = inner.now.clone();
        }
        replies
    }

    fn resolve(&self, ids: &mut dyn Iterator<Item = &str>) -> Result<Vec<Option<u64>>, Fault> {
        let mut inner = self.lock();
        ids.map(|id| inner.now.memory.find_account(id)).collect()
    }

    fn oldest_answer_ns(&self) -> Result<Option<u64>, Fault> {
        self.lock().now.memory.oldest_answer_ns()
    }

    fn durable(&self) -> Option<LogId> {
        self.lock().flushed.applied.log_id
    }

    fn flush(&self) -> Result<Option<LogId>, Fault> {
        let mut inner = self.lock();
        inner.flushed = inner.now.clone();
        Ok(inner.flushed.applied.log_id)
    }

    fn checkpoint(&self, _dir: &Path) -> Result<CheckpointMeta, Fault> {
        Err(Fault::new("no snapshots are simulated"))
    }

    fn install(&self, _dir: &Path) -> Result<CheckpointMeta, Fault> {
        Err(Fault::new("no snapshots are simulated"))
    }

    fn scrub(
        &self,
        _snapshot: Option<(&Path, &Manifest)>,
        _pace: &mut Pace<'_>,
    ) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }

    fn fault(&self) -> watch::Receiver<Option<Fault>> {
        // Nobody ever says anything.
        watch::channel(None).1
    }

    fn condemn(&self, why: &str) {
        // The invariants look at every digest themselves.
        panic!("{why}");
    }

    fn close(&self) -> Result<Option<LogId>, Fault> {
        self.flush()
    }
}
