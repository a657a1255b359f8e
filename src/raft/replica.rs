//! What consensus asks of the state it replicates: the seam between it and the database, so that the same code also runs
//! on plain memory.

use std::path::Path;

use crate::machine::{Fault, Reply};
use crate::storage::snapshot::Manifest;
use crate::storage::state::{Applied, CheckpointMeta, Pace, State};
use crate::storage::{LogEntry, LogId, watch};

/// A state that entries are applied to. What each of its methods promises is said at [`State`], under the same name.
pub trait Replica: Send + Sync + 'static {
    /// How far it is.
    fn applied(&self) -> Applied;

    /// Applies `entries` in order. One `Vec<Reply>` per entry (empty unless it carries commands). Blocking; one caller at a
    /// time.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Vec<Reply>>, Fault>;

    /// Account numbers of `ids`, where they are known.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn resolve(&self, ids: &mut dyn Iterator<Item = &str>) -> Result<Vec<Option<u64>>, Fault>;

    /// Log time of the oldest answer held under an idempotency key.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn oldest_answer_ns(&self) -> Result<Option<u64>, Fault>;

    /// The last entry known to be durable without the log.
    fn durable(&self) -> Option<LogId>;

    /// Makes durable what is applied; returns the last entry that is. Blocking.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn flush(&self) -> Result<Option<LogId>, Fault>;

    /// Leaves a copy in `dir`. Blocking.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn checkpoint(&self, dir: &Path) -> Result<CheckpointMeta, Fault>;

    /// Takes the place of what is there from a copy. Blocking.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn install(&self, dir: &Path) -> Result<CheckpointMeta, Fault>;

    /// Reads everything again, and this node's snapshot with it. Gives what is wrong with that alone. Blocking, for long.
    ///
    /// # Errors
    /// A fault: the node must stop.
    fn scrub(
        &self,
        snapshot: Option<(&Path, &Manifest)>,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<String>, Fault>;

    /// Becomes `Some` when it can be used no more, damaged or not.
    fn fault(&self) -> watch::Receiver<Option<Fault>>;

    /// Has it count as damaged, because of `why`.
    fn condemn(&self, why: &str);

    /// The orderly end. Blocking.
    ///
    /// # Errors
    /// A fault: what was not flushed is applied again from the log.
    fn close(&self) -> Result<Option<LogId>, Fault>;
}

impl Replica for State {
    fn applied(&self) -> Applied {
        State::applied(self)
    }

    fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Vec<Reply>>, Fault> {
        State::apply(self, entries)
    }

    fn resolve(&self, ids: &mut dyn Iterator<Item = &str>) -> Result<Vec<Option<u64>>, Fault> {
        State::resolve(self, ids)
    }

    fn oldest_answer_ns(&self) -> Result<Option<u64>, Fault> {
        State::oldest_answer_ns(self)
    }

    fn durable(&self) -> Option<LogId> {
        State::durable(self)
    }

    fn flush(&self) -> Result<Option<LogId>, Fault> {
        State::flush(self)
    }

    fn checkpoint(&self, dir: &Path) -> Result<CheckpointMeta, Fault> {
        State::checkpoint(self, dir)
    }

    fn install(&self, dir: &Path) -> Result<CheckpointMeta, Fault> {
        State::install(self, dir)
    }

    fn scrub(
        &self,
        snapshot: Option<(&Path, &Manifest)>,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<String>, Fault> {
        State::scrub(self, snapshot, pace)
    }

    fn fault(&self) -> watch::Receiver<Option<Fault>> {
        State::fault(self)
    }

    fn condemn(&self, why: &str) {
        State::condemn(self, why);
    }

    fn close(&self) -> Result<Option<LogId>, Fault> {
        State::close(self)
    }
}
