//! The queue of commands that wait to be proposed: bounded, and each command in exactly one place.
//!
//! A command is *waiting* (here, and certainly not applied) or *handed over* (taken by the batcher, its fate open) or
//! *done*. One mutex decides between a deadline that passes and a batch that is taken, so a caller is told "not applied"
//! only if the command can no longer be proposed. What was handed over counts against the limits until its fate is known,
//! even if nobody waits for it any more: the limits bound memory and unflushed bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::{Options, WriteError, Written};
use crate::machine::entry;
use crate::storage::clock::now;

/// The answer to one command.
pub(super) type Answer = Result<Written, WriteError>;

/// A command on its way.
pub(super) struct Waiting {
    /// Its bytes, after room for an entry's header.
    pub(super) bytes: Vec<u8>,
    number: u64,
    /// Bytes it counts for.
    weight: usize,
    /// When it came.
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// What bounds the queue; see [`Options`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) commands: usize,
    pub(super) bytes: usize,
    /// How long the oldest command without an answer may have waited for one, once there are more than `wait_bytes` of them.
    pub(super) wait: Duration,
    pub(super) wait_bytes: usize,
}

/// As many full entries without an answer are a disk that takes a breath; more of them, old, are more than the cluster can do.
const WAIT_ENTRIES: usize = 4;

impl From<&Options> for Limits {
    fn from(options: &Options) -> Limits {
        Limits {
            commands: options.queue_commands_max,
            bytes: options.queue_bytes_max,
            wait: options.queue_wait_max,
            wait_bytes: options.batch_bytes_max.saturating_mul(WAIT_ENTRIES),
        }
    }
}

/// Bytes of commands at which an entry is full: never more than an entry may have, since one that does not fit into a frame could be
/// appended here and would reach no other node.
pub(super) fn full_bytes(options: &Options) -> usize {
    options
        .batch_bytes_max
        .min(entry::ENTRY_LEN_MAX - entry::HEADER_LEN)
}

/// See the module; shared by the callers and the batcher.
pub(super) struct Queue {
    limits: Limits,
    inner: Mutex<Inner>,
    /// Told when the queue grows and when an answer is given.
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    /// Of each batch handed over whose first command has no answer yet: the number of that one, and when it came.
    handed_over: BTreeMap<u64, Instant>,
    next: u64,
    /// Waiting and handed over.
    commands: usize,
    bytes: usize,
    /// Tickets held: those who wait for an answer, or have it and did not look yet.
    callers: usize,
    /// Why nothing more is taken in.
    closed: Option<WriteError>,
    for_good: bool,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) commands: usize,
    pub(super) bytes: usize,
}

/// A place in the queue, held by who waits for the answer.
pub(super) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Arc<Queue> {
        Arc::new(Queue {
            limits,
            inner: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a command in, `weight` bytes of it counting.
    ///
    /// # Errors
    /// [`WriteError::Overloaded`] naming the limit, or why the queue is closed. The command is certainly not applied.
    pub(super) fn enter(
        self: &Arc<Queue>,
        bytes: Vec<u8>,
        weight: usize,
        deadline: Instant,
    ) -> Result<Ticket, WriteError> {
        let (answer, receiver) = oneshot::channel();
        let now = now();
        let mut inner = self.lock();
        inner.check(self.limits, weight, deadline, now)?;
        let number = inner.next;
        inner.next += 1;
        inner.commands += 1;
        inner.callers += 1;
        inner.bytes += weight;
        inner.waiting_bytes += weight;
        let waiting = Waiting {
            bytes,
            number,
            weight,
            since: now,
            answer,
        };
        inner.waiting.insert(number, waiting);
        drop(inner);
        self.changed.notify_one();
        Ok(Ticket {
            queue: self.clone(),
            number,
            answer: receiver,
        })
    }

    /// Whether a command of about this weight would be let in now; an empty queue may try any.
    ///
    /// # Errors
    /// As of [`Queue::enter`].
    pub(super) fn check(&self, weight: usize, deadline: Instant) -> Result<(), WriteError> {
        let inner = self.lock();
        let weight = if inner.commands == 0 { 0 } else { weight };
        inner.check(self.limits, weight, deadline, now())
    }

    /// Takes the oldest commands: at least one if any waits, then as many as fit into both bounds.
    pub(super) fn take(&self, commands_max: usize, bytes_max: usize) -> Vec<Waiting> {
        let mut inner = self.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(first) = inner.waiting.first_entry() {
            let weight = first.get().weight;
            let fits = taken.len() < commands_max && bytes + weight <= bytes_max;
            if !fits && !taken.is_empty() {
                break;
            }
            bytes += weight;
            taken.push(first.remove());
        }
        inner.waiting_bytes -= bytes;
        if let Some(first) = taken.first() {
            inner.handed_over.insert(first.number, first.since);
        }
        taken
    }

    /// How much waits to be taken.
    pub(super) fn backlog(&self) -> Backlog {
        let inner = self.lock();
        Backlog {
            commands: inner.waiting.len(),
            bytes: inner.waiting_bytes,
        }
    }

    /// Since when the oldest of what was taken, and has no answer, waits for one.
    pub(super) fn unanswered_since(&self) -> Option<Instant> {
        let inner = self.lock();
        inner.handed_over.first_key_value().map(|(_, since)| *since)
    }

    /// Commands without an answer: waiting or taken.
    pub(super) fn pending(&self) -> usize {
        self.lock().commands
    }

    /// Waits until something changed since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Wakes who waits in [`Queue::changed`].
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Gives a command that was taken its answer.
    pub(super) fn finish(&self, waiting: Waiting, answer: Answer) {
        let mut inner = self.lock();
        inner.commands -= 1;
        inner.bytes -= waiting.weight;
        inner.handed_over.remove(&waiting.number);
        drop(inner);
        // Who waited may have gone away.
        let _ = waiting.answer.send(answer);
    }

    /// Answers everything that still waits with `error`.
    pub(super) fn refuse_waiting(&self, error: &WriteError) {
        for waiting in self.take(usize::MAX, usize::MAX) {
            self.finish(waiting, Err(error.clone()));
        }
    }

    /// From now on every command is refused with `error`.
    pub(super) fn close(&self, error: WriteError) {
        self.lock().closed = Some(error);
    }

    /// From now on every command is refused with `error`, whatever opens the queue later.
    pub(super) fn close_for_good(&self, error: WriteError) {
        let mut inner = self.lock();
        inner.closed = Some(error);
        inner.for_good = true;
    }

    /// Takes commands again.
    pub(super) fn open(&self) {
        let mut inner = self.lock();
        if !inner.for_good {
            inner.closed = None;
        }
    }

    /// Whether somebody waits for an answer that has not come. Who gave up does not: a command that was handed over may stay without
    /// an answer for as long as there is no quorum.
    pub(super) fn is_awaited(&self) -> bool {
        let inner = self.lock();
        inner.commands > 0 && inner.callers > 0
    }

    /// Takes a command back that still waits. `false` if it was handed over before.
    fn withdraw(&self, number: u64) -> bool {
        let mut inner = self.lock();
        let Some(waiting) = inner.waiting.remove(&number) else {
            return false;
        };
        inner.commands -= 1;
        inner.bytes -= waiting.weight;
        inner.waiting_bytes -= waiting.weight;
        true
    }
}

impl Inner {
    fn check(
        &self,
        limits: Limits,
        weight: usize,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), WriteError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let limit = self
            .limit_reached(limits, weight)
            .or_else(|| self.answered_too_late(limits, now))
            .or_else(|| self.wait_too_long(deadline, now));
        match limit {
            Some(limit) => Err(WriteError::Overloaded { limit }),
            None => Ok(()),
        }
    }

    /// The queue is in order of arrival: who comes now waits about as long as who is first in it has waited. What could not
    /// be proposed before its deadline only takes room from what can.
    fn wait_too_long(&self, deadline: Instant, now: Instant) -> Option<String> {
        let (_, first) = self.waiting.first_key_value()?;
        let wait = now.saturating_duration_since(first.since);
        let left = deadline.saturating_duration_since(now);
        (wait >= left).then(|| {
            let (wait, left) = (wait.as_millis(), left.as_millis());
            format!("writes wait {wait} ms before they are proposed, this one has {left} ms left")
        })
    }

    /// What is under way is answered in order, too: who comes now waits at least as long for its answer as the oldest has.
    fn answered_too_late(&self, limits: Limits, now: Instant) -> Option<String> {
        if self.bytes <= limits.wait_bytes {
            return None;
        }
        let handed_over = self.handed_over.first_key_value().map(|(_, since)| *since);
        let waiting = self.waiting.first_key_value().map(|(_, first)| first.since);
        let oldest = handed_over.or(waiting)?;
        let wait = now.saturating_duration_since(oldest);
        (wait > limits.wait).then(|| {
            let (wait, max) = (wait.as_millis(), limits.wait.as_millis());
            format!(
                "the oldest write has waited {wait} ms for its answer, queue_wait_max is {max} ms"
            )
        })
    }

    fn limit_reached(&self, limits: Limits, weight: usize) -> Option<String> {
        if self.commands >= limits.commands {
            return Some(format!(
                "{} commands are waiting or in flight, queue_commands_max is {}",
                self.commands, limits.commands
            ));
        }
        if self.bytes + weight > limits.bytes {
            return Some(format!(
                "{} bytes of commands are waiting or in flight and this one has {weight}, queue_bytes_max is {}",
                self.bytes, limits.bytes
            ));
        }
        None
    }
}

impl Ticket {
    /// Takes the command back. `true`: it is certainly not applied. `false`: it was handed over, its fate is open.
    pub(super) fn withdraw(&self) -> bool {
        self.queue.withdraw(self.number)
    }
}

impl Drop for Ticket {
    /// Nobody waits any more: what was not proposed need not be.
    fn drop(&mut self) {
        self.queue.withdraw(self.number);
        self.queue.lock().callers -= 1;
    }
}

#[cfg(test)]
mod tests;
