//! Many client commands become one log entry.
//!
//! While nothing is in flight, whatever waits is sent at once. Another entry goes beside those in flight, up to
//! [`Options::batch_in_flight`], once as many commands wait as are under way: an entry costs every node a sync, a few
//! wakings and two messages whatever it holds, so small entries beside a large one are dear and gain little. So an idle
//! cluster answers one command in one round, and a busy one puts hundreds into a round. Each command is encoded once, by
//! its caller; here the bytes are only put one after another.
//!
//! What a caller is told follows from where its command was: not yet taken from the queue means *not applied*; taken means
//! *unknown* unless consensus says more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;

use super::clocks::LogClock;
use super::queue::{Backlog, Limits, Queue, Ticket, Waiting, full_bytes};
use super::types::{Commands, Raft, Types};
use super::{Member, Options, WriteError, Written, convert};
use crate::machine::{Reply, entry};
use crate::mutants::{self, Mutant};
use crate::storage::LogId;
use crate::storage::clock::now;
use crate::storage::log::Log;
use crate::storage::watch;

/// Handle to the batcher; clones share it.
#[derive(Clone)]
pub(super) struct Batcher {
    queue: Arc<Queue>,
}

/// Handed over and not answered yet.
#[derive(Default)]
struct InFlight {
    entries: AtomicUsize,
    commands: AtomicUsize,
}

impl InFlight {
    /// Whether an entry of what waits is worth its cost beside those under way, of which there may be `entries_max`.
    fn leaves_room(&self, backlog: &Backlog, entries_max: usize) -> bool {
        let entries = self.entries.load(Ordering::Acquire);
        let commands = self.commands.load(Ordering::Acquire);
        entries == 0 || (entries < entries_max && backlog.commands >= commands)
    }

    fn add(&self, commands: usize) {
        self.entries.fetch_add(1, Ordering::AcqRel);
        self.commands.fetch_add(commands, Ordering::AcqRel);
    }

    fn remove(&self, commands: usize) {
        self.commands.fetch_sub(commands, Ordering::AcqRel);
        self.entries.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The batcher's task.
pub(super) struct Task {
    queue: Arc<Queue>,
    raft: Raft,
    log: Log,
    flushed: watch::Receiver<Option<LogId>>,
    in_flight: Arc<InFlight>,
    clock: Arc<LogClock>,
    options: Options,
}

impl Batcher {
    /// A batcher that proposes to `raft` entries stamped by `clock`, and its task, to be run.
    pub(super) fn new(
        raft: Raft,
        log: Log,
        clock: Arc<LogClock>,
        options: &Options,
    ) -> (Batcher, Task) {
        let queue = Queue::new(Limits::from(options));
        let task = Task {
            queue: queue.clone(),
            raft,
            flushed: log.flushed(),
            log,
            in_flight: Arc::default(),
            clock,
            options: options.clone(),
        };
        (Batcher { queue }, task)
    }

    /// Queues a command. `bytes` begins with [`entry::HEADER_LEN`] bytes of room.
    ///
    /// # Errors
    /// If the command is too large, the queue is full or closed, or the deadline would pass in it: it is certainly not applied.
    pub(super) fn enter(&self, bytes: Vec<u8>, deadline: Instant) -> Result<Ticket, WriteError> {
        if bytes.len() > entry::ENTRY_LEN_MAX {
            return Err(WriteError::TooLarge {
                len: bytes.len(),
                max: entry::ENTRY_LEN_MAX,
            });
        }
        let weight = bytes.len() - entry::HEADER_LEN;
        self.queue.enter(bytes, weight, deadline)
    }

    /// Whether a command of about `bytes` would be let in now.
    ///
    /// # Errors
    /// As of [`Batcher::enter`].
    pub(super) fn check_room(&self, bytes: usize, deadline: Instant) -> Result<(), WriteError> {
        self.queue.check(bytes, deadline)
    }

    /// Refuses everything that waits, and everything to come, with [`WriteError::NotReady`]. What was handed over goes on.
    pub(super) fn close(&self, why: &str) {
        let error = WriteError::NotReady(why.to_owned());
        self.queue.close(error.clone());
        self.queue.refuse_waiting(&error);
    }

    /// Refuses new commands for good; what waits is still proposed.
    pub(super) fn close_for_good(&self, why: &str) {
        self.queue
            .close_for_good(WriteError::NotReady(why.to_owned()));
    }

    /// Takes commands again, unless closed for good.
    pub(super) fn open(&self) {
        self.queue.open();
    }

    /// How much waits to be proposed.
    pub(super) fn backlog(&self) -> Backlog {
        self.queue.backlog()
    }

    /// Commands without an answer: waiting or proposed.
    pub(super) fn pending(&self) -> usize {
        self.queue.pending()
    }

    /// Whether somebody waits for an answer that has not come.
    pub(super) fn is_awaited(&self) -> bool {
        self.queue.is_awaited()
    }
}

/// Waits for the answer to a queued command.
pub(super) async fn answer(mut ticket: Ticket, deadline: Instant) -> Result<Written, WriteError> {
    tokio::select! {
        biased;
        answer = &mut ticket.answer => answer.unwrap_or_else(|_| Err(lost())),
        () = tokio::time::sleep_until(deadline.into()) => {
            if ticket.withdraw() {
                return Err(WriteError::Expired);
            }
            // Taken just now, or long ago: if the answer is there already, it is the better one.
            match ticket.answer.try_recv() {
                Ok(answer) => answer,
                Err(_) if mutants::on(Mutant::TimeoutNotApplied) => Err(WriteError::Expired),
                Err(_) => Err(WriteError::Unknown(
                    "the deadline passed after the command was proposed".to_owned(),
                )),
            }
        }
    }
}

fn lost() -> WriteError {
    WriteError::Unknown("this node stopped after the command was proposed".to_owned())
}

impl Task {
    /// Proposes batches for as long as the core lives.
    pub(super) async fn run(mut self) {
        loop {
            if self.queue.backlog().commands == 0 {
                self.queue.changed().await;
                continue;
            }
            if !self.may_send() {
                self.wait_for_room().await;
                continue;
            }
            let batch = self
                .queue
                .take(self.options.batch_commands_max, full_bytes(&self.options));
            if !batch.is_empty() {
                self.propose(batch).await;
            }
        }
    }

    /// Whether a batch may go now: nothing is gained by waiting, or it is full, and the disk keeps up. Behind what has had no
    /// answer for a lease nothing is gained, either: then there is no quorum, and consensus says so at once.
    fn may_send(&self) -> bool {
        let backlog = self.queue.backlog();
        let gains_nothing = self
            .in_flight
            .leaves_room(&backlog, self.options.batch_in_flight)
            || backlog.commands >= self.options.batch_commands_max
            || backlog.bytes >= full_bytes(&self.options)
            || self.stuck_at().is_some_and(|at| at <= now());
        gains_nothing && self.log.unflushed_bytes() <= self.options.unflushed_bytes_max
    }

    /// When what is under way will have waited for its answer as long as a lease lasts.
    fn stuck_at(&self) -> Option<Instant> {
        let since = self.queue.unanswered_since()?;
        Some(since + self.options.election_max)
    }

    /// Waits until a command comes, an entry is done or late, or the disk got on.
    async fn wait_for_room(&mut self) {
        // One that is late already does not become it again.
        let stuck_at = self.stuck_at().filter(|at| *at > now());
        let stuck = async {
            match stuck_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stuck => {}
            () = self.queue.changed() => {}
            changed = self.flushed.changed() => {
                if changed.is_err() {
                    // The log is gone, and with it this node's part in consensus.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn propose(&self, batch: Vec<Waiting>) {
        let (batch, bytes) = assemble(batch, self.clock.stamp_ns());
        let (responder, result) =
            ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let commands = batch.len();
        self.in_flight.add(commands);
        let sent = self
            .raft
            .client_write_ff(Commands(bytes), Some(responder))
            .await;
        let (queue, in_flight) = (self.queue.clone(), self.in_flight.clone());
        tokio::spawn(async move {
            let answers = match sent {
                Ok(()) => result.await.map_or_else(|_| Err(lost()), outcome),
                Err(fatal) => Err(WriteError::Unknown(format!("this node failed: {fatal}"))),
            };
            in_flight.remove(commands);
            hand_out(&queue, batch, answers);
            queue.wake();
        });
    }
}

/// The bytes of one entry, and who waits for it.
fn assemble(mut batch: Vec<Waiting>, stamp_ns: u64) -> (Vec<Waiting>, Bytes) {
    let count = u32::try_from(batch.len()).expect("a batch is bounded by batch_commands_max");
    let mut bytes = std::mem::take(&mut batch[0].bytes);
    let rest: usize = batch.iter().map(|waiting| waiting.bytes.len()).sum();
    bytes.reserve_exact(rest);
    for waiting in &mut batch[1..] {
        bytes.extend_from_slice(&std::mem::take(&mut waiting.bytes)[entry::HEADER_LEN..]);
    }
    entry::write_header(&mut bytes, count, stamp_ns);
    (batch, bytes.into())
}

/// An entry's place and replies, or what its callers may assume.
fn outcome(result: ClientWriteResult<Types>) -> Result<(LogId, Vec<Reply>), WriteError> {
    match result {
        Ok(response) => Ok((convert::log_id(&response.log_id), response.data)),
        Err(error) => Err(write_error(error)),
    }
}

/// What a caller may assume after `error`. Every variant by itself: openraft's helper that gives the leader to go to merges
/// "was never appended" with "was appended and replaced", and a retry after the second could apply a command twice.
fn write_error(error: ClientWriteError<Types>) -> WriteError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => WriteError::NotLeader(leader(forward)),
        ClientWriteError::LogEntryDiscarded(_) => WriteError::Unknown(
            "another leader replaced the entry here; it may be committed through that one"
                .to_owned(),
        ),
        // Said of changes of the membership only; should that change, nothing wrong is promised.
        other @ (ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_)) => WriteError::Unknown(other.to_string()),
    }
}

/// The leader that openraft points to.
pub(super) fn leader(forward: ForwardToLeader<Types>) -> Option<(u64, Member)> {
    Some((forward.leader_id?, forward.leader_node?))
}

/// Gives each command of an entry its answer.
fn hand_out(queue: &Queue, batch: Vec<Waiting>, answers: Result<(LogId, Vec<Reply>), WriteError>) {
    match answers {
        Ok((log_id, mut replies)) => {
            assert_eq!(replies.len(), batch.len(), "one reply per command");
            if mutants::on(Mutant::AnswersSwapped) {
                replies.reverse();
            }
            for (command, (waiting, reply)) in (0..).zip(batch.into_iter().zip(replies)) {
                queue.finish(waiting, Ok(written(log_id, command, reply)));
            }
        }
        Err(error) => {
            for waiting in batch {
                queue.finish(waiting, Err(error.clone()));
            }
        }
    }
}

fn written(log_id: LogId, command: u32, reply: Reply) -> Written {
    let (index, replayed, reply) = match reply {
        Reply::Replayed(before) => (before.index, true, *before.reply),
        reply => (log_id.index, false, reply),
    };
    Written {
        log_id,
        index,
        replayed,
        command,
        reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Command, Expect};
    use openraft::errors::ForwardReason;

    #[test]
    fn an_entry_that_was_replaced_is_unknown_and_one_never_appended_is_not_applied() {
        let forward = ForwardToLeader::<Types>::empty();
        let replaced = write_error(ClientWriteError::LogEntryDiscarded(forward.clone()));
        assert!(matches!(replaced, WriteError::Unknown(_)), "{replaced:?}");
        let refused = write_error(ClientWriteError::ForwardToLeader(
            forward.with_reason(ForwardReason::LeaseExpired),
        ));
        assert!(
            matches!(refused, WriteError::NotLeader(None)),
            "{refused:?}"
        );
    }

    #[test]
    fn an_entry_goes_beside_others_once_it_is_as_large_as_they_are() {
        let in_flight = InFlight::default();
        let waiting = |commands| Backlog { commands, bytes: 0 };
        assert!(
            in_flight.leaves_room(&waiting(1), 3),
            "nothing is under way"
        );
        in_flight.add(5);
        assert!(!in_flight.leaves_room(&waiting(4), 3));
        assert!(in_flight.leaves_room(&waiting(5), 3));
        in_flight.add(5);
        assert!(!in_flight.leaves_room(&waiting(9), 3));
        assert!(in_flight.leaves_room(&waiting(10), 3));
        assert!(!in_flight.leaves_room(&waiting(10), 2), "enough entries");
        in_flight.remove(5);
        in_flight.remove(5);
        assert!(in_flight.leaves_room(&waiting(1), 3));
    }

    #[test]
    fn an_entry_holds_the_commands_of_its_batch_in_order() {
        let queue = Queue::new(Limits {
            commands: 10,
            bytes: 1000,
            wait: std::time::Duration::MAX,
            wait_bytes: 1000,
        });
        let commands = ["a", "b", "c"].map(|key| Command::KvDelete {
            key,
            expect: Expect::Any,
        });
        let _tickets: Vec<_> = commands
            .iter()
            .map(|command| {
                let mut bytes = vec![0; entry::HEADER_LEN];
                entry::encode_command(command, &mut bytes);
                let weight = bytes.len();
                queue
                    .enter(
                        bytes,
                        weight,
                        Instant::now() + std::time::Duration::from_secs(60),
                    )
                    .unwrap()
            })
            .collect();
        let (batch, bytes) = assemble(queue.take(10, 1000), 7);
        assert_eq!(batch.len(), 3);
        let entry = entry::Entry::parse(&bytes).unwrap();
        assert_eq!((entry.count, entry.stamp_ns), (3, 7));
        let read: Vec<_> = entry.commands().map(Result::unwrap).collect();
        assert_eq!(read, commands);
    }
}
