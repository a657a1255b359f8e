//! Openraft's log on ours.
//!
//! Appending hands the entries over and returns; the log's writer thread completes the callback once they are on the
//! disk. A completion covers every older one, so consensus never waits for each. Votes do wait: a vote that is not on the
//! disk was not given.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::Replica;
use super::blocking;
use super::convert;
use super::types::{RaftEntry, RaftLogId, RaftVote, Types};
use crate::mutants::{self, Mutant};
use crate::storage::crash;
use crate::storage::log::Log;
use crate::storage::{LogEntry, LogId};

/// Bytes of entries read at once for a peer. With one entry more, of at most 4 MiB, the request stays below the largest
/// frame.
pub(super) const READ_BYTES_MAX: u64 = 2 << 20;
/// Bytes of entries read at once to be applied.
const APPLY_BYTES_MAX: u64 = 8 << 20;

/// Says whether the log may be purged up to an entry.
type PurgeCheck = Arc<dyn Fn(LogId) -> io::Result<()> + Send + Sync>;

/// Our log as openraft drives it; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    purge_check: PurgeCheck,
}

impl LogStore {
    /// The log `log`, never purged beyond what `state` has on the disk by itself.
    pub(crate) fn new(log: Log, state: impl Replica) -> LogStore {
        LogStore {
            log,
            purge_check: Arc::new(move |upto| check_durable(&state, upto)),
        }
    }

    /// A log that may be purged anywhere: for tests without a state.
    #[cfg(test)]
    pub(crate) fn without_state(log: Log) -> LogStore {
        LogStore {
            log,
            purge_check: Arc::new(|_| Ok(())),
        }
    }

    /// Entries of `range`, off the async threads if they must come from the disk.
    async fn read(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<RaftEntry>> {
        let entries = if self.log.is_cached(range.clone()) {
            self.log.read(range, bytes_max)?
        } else {
            let log = self.log.clone();
            blocking::io(move || log.read(range, bytes_max)).await?
        };
        entries.into_iter().map(to_raft).collect()
    }

    /// The part of `range` that the log holds.
    fn clip(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let state = self.log.state();
        let end_held = state.last.map_or(0, |last| last.index + 1);
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let first_held = state.purged.map_or(0, |purged| purged.index + 1);
        start.max(first_held)..end.min(end_held)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<RaftEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = self.clip(&range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.read(range, u64::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> io::Result<Vec<RaftEntry>> {
        self.read(start..end, READ_BYTES_MAX).await
    }

    /// What apply reads: piece by piece, so that catching up after a restart does not hold the whole log in memory.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let pieces = Pieces {
            store: self.clone(),
            left: self.clip(&range),
            piece: Vec::new().into_iter(),
        };
        stream::unfold(pieces, |mut pieces| async move {
            let item = pieces.next().await?;
            Some((item, pieces))
        })
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log.state().vote.map(convert::raft_vote))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(convert::raft_log_id),
            last_log_id: state.last.map(convert::raft_log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        if mutants::on(Mutant::VoteNotSaved) {
            return Ok(());
        }
        if mutants::on(Mutant::VoteNotSynced) {
            self.log.save_vote(convert::vote(vote), Box::new(drop));
            return Ok(());
        }
        crash::at("vote:asked");
        let (done, saved) = oneshot::channel();
        self.log.save_vote(
            convert::vote(vote),
            Box::new(move |result| drop(done.send(result))),
        );
        let saved = saved.await;
        crash::at("vote:saved");
        saved.unwrap_or_else(|_| Err(io::Error::other("the log is closed")))
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        self.log
            .save_committed(committed.as_ref().map(convert::log_id));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log.state().committed.map(convert::raft_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().map(convert::entry).collect();
        self.log.append(
            entries,
            Box::new(move |result| callback.io_completed(result)),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.log.truncate_after(last.as_ref().map(convert::log_id));
        Ok(())
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = convert::log_id(&upto);
        if mutants::on(Mutant::PurgeBeyondSnapshot) {
            let committed = self.log.state().committed;
            self.log.purge(committed.max(Some(upto)).unwrap_or(upto));
            return Ok(());
        }
        let check = self.purge_check.clone();
        blocking::io(move || check(upto)).await?;
        crash::at("purge:checked");
        self.log.purge(upto);
        Ok(())
    }
}

/// A range of entries on its way to apply.
struct Pieces {
    store: LogStore,
    left: Range<u64>,
    piece: std::vec::IntoIter<RaftEntry>,
}

impl Pieces {
    async fn next(&mut self) -> Option<io::Result<RaftEntry>> {
        if let Some(entry) = self.piece.next() {
            return Some(Ok(entry));
        }
        if self.left.is_empty() {
            return None;
        }
        let read = self.store.read(self.left.clone(), APPLY_BYTES_MAX).await;
        let first = match read {
            Ok(piece) => {
                self.left.start += piece.len() as u64;
                self.piece = piece.into_iter();
                self.piece.next()
            }
            Err(error) => {
                self.left = 0..0;
                return Some(Err(error));
            }
        };
        // An entry that is committed is never truncated, and not purged before it is applied.
        Some(first.ok_or_else(|| {
            let missing = self.left.start;
            self.left = 0..0;
            io::Error::other(format!("entry {missing} is not in the log"))
        }))
    }
}

fn to_raft(entry: LogEntry) -> io::Result<RaftEntry> {
    convert::raft_entry(entry).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
}

/// `Ok` if `state` does not need the log up to `upto` any more; makes it so if it can.
fn check_durable(state: &dyn Replica, upto: LogId) -> io::Result<()> {
    if state.durable() >= Some(upto) {
        return Ok(());
    }
    let durable = state.flush().map_err(io::Error::other)?;
    if durable >= Some(upto) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the log must not be purged up to {upto:?}: the state is durable up to {durable:?}"
    )))
}
