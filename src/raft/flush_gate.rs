//! The flushed gate: nothing is applied before this node's own log has it on the disk.
//!
//! Consensus commits an entry once any majority holds it, so a node may learn that an entry is committed while its own
//! copy is still in memory. Were it applied then, the state could reach the disk before the log does, and a crash could
//! leave a state that the log knows nothing about, or in whose place the log has another entry: the node would not start
//! again. It would also have shown data which it forgets. So apply waits here.

use std::io;

use tokio::sync::oneshot;

use crate::mutants::{self, Mutant};
use crate::storage::LogId;
use crate::storage::log::Log;
use crate::storage::watch;

/// What the local log has flushed, as apply sees it; clones see the same.
#[derive(Clone)]
pub(crate) struct FlushGate {
    flushed: watch::Receiver<Option<LogId>>,
    failure: watch::Receiver<Option<String>>,
    log: Option<Log>,
}

impl FlushGate {
    /// The gate of `log`.
    pub(crate) fn of(log: &Log) -> FlushGate {
        FlushGate {
            flushed: log.flushed(),
            failure: log.failure(),
            log: Some(log.clone()),
        }
    }

    /// A gate that lets everything through: for tests that apply without a log, or that show what it prevents.
    #[cfg(test)]
    pub(crate) fn off() -> FlushGate {
        let all = LogId {
            term: u64::MAX,
            node: u64::MAX,
            index: u64::MAX,
        };
        FlushGate {
            flushed: watch::channel(Some(all)).1,
            failure: watch::channel(None).1,
            log: None,
        }
    }

    /// Whether `id` is on the local disk. Both the whole id and the index count: while a conflicting tail is being
    /// replaced, the last flushed entry may have the higher index and the older term, or the other way round.
    pub(crate) fn covers(&self, id: LogId) -> bool {
        covers(*self.flushed.borrow(), id)
    }

    /// Waits until `id` is on the local disk.
    ///
    /// # Errors
    /// If the log failed or is gone: `id` will never be there.
    pub(crate) async fn wait(&mut self, id: LogId) -> io::Result<()> {
        // The sender of a gate that is off is gone, but its value is enough for every entry.
        if self.covers(id) {
            return Ok(());
        }
        let covers = |flushed: &Option<LogId>| covers(*flushed, id);
        tokio::select! {
            biased;
            flushed = self.flushed.wait_for(covers) => match flushed {
                Ok(_) => Ok(()),
                Err(_) => Err(io::Error::other("the log is gone")),
            },
            failure = self.failure.wait_for(Option::is_some) => {
                let what = failure.map(|what| what.clone().unwrap_or_default());
                Err(io::Error::other(what.unwrap_or_else(|_| "the log is gone".to_owned())))
            }
        }
    }

    /// Waits until everything that was asked of the log before is on the disk, truncations too, for which nobody else waits.
    ///
    /// # Errors
    /// If the log failed or is closed.
    pub(crate) async fn settle(&self) -> io::Result<()> {
        let Some(log) = &self.log else {
            return Ok(());
        };
        let (done, written) = oneshot::channel();
        log.append(Vec::new(), Box::new(move |result| drop(done.send(result))));
        written
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the log is closed")))
    }

    /// The state holds everything up to `upto` durably, from a snapshot.
    pub(crate) fn raise(&self, upto: LogId) {
        if let Some(log) = &self.log {
            log.raise_flushed(upto);
        }
    }
}

fn covers(flushed: Option<LogId>, id: LogId) -> bool {
    flushed.is_some_and(|flushed| id <= flushed && id.index <= flushed.index)
        || mutants::on(Mutant::AckBeforeSync)
}
