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
        let now = Instant::now();
        let mut inner = self.lock();
        inner.check(self.limits, weight, deadline, now)?;
        let number = inner.next;
        inner.next += 1;
        inner.commands += 1;
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
        inner.check(self.limits, weight, deadline, Instant::now())
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

    /// Whether every command that came has its answer.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().commands == 0
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(commands: usize, bytes: usize) -> Arc<Queue> {
        Queue::new(Limits {
            commands,
            bytes,
            wait: Duration::from_secs(1),
            wait_bytes: bytes / 2,
        })
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn overloaded(result: Result<Ticket, WriteError>) -> String {
        match result {
            Err(WriteError::Overloaded { limit }) => limit,
            Err(other) => panic!("expected overloaded, got {other:?}"),
            Ok(_) => panic!("expected overloaded, was taken in"),
        }
    }

    #[test]
    fn commands_are_taken_in_up_to_the_limit_and_refused_beyond_it() {
        let queue = queue(3, 1000);
        let tickets: Vec<_> = (0..3)
            .map(|_| queue.enter(vec![], 1, later()).unwrap())
            .collect();
        let limit = overloaded(queue.enter(vec![], 1, later()));
        assert!(limit.contains("queue_commands_max is 3"), "{limit}");
        drop(tickets);
        assert!(queue.is_idle());
        queue.enter(vec![], 1, later()).unwrap();
    }

    #[test]
    fn bytes_are_taken_in_up_to_the_limit_and_refused_beyond_it() {
        let queue = queue(100, 10);
        let _nine = queue.enter(vec![], 9, later()).unwrap();
        let one = queue.enter(vec![], 1, later()).unwrap();
        let limit = overloaded(queue.enter(vec![], 1, later()));
        assert!(limit.contains("queue_bytes_max is 10"), "{limit}");
        assert!(one.withdraw());
        assert!(queue.enter(vec![], 2, later()).is_err());
        queue.enter(vec![], 1, later()).unwrap();
    }

    #[test]
    fn what_was_handed_over_counts_until_it_has_its_answer() {
        let queue = queue(1, 10);
        let ticket = queue.enter(vec![], 1, later()).unwrap();
        let mut taken = queue.take(10, 10);
        drop(ticket);
        overloaded(queue.enter(vec![], 1, later()));
        queue.finish(taken.remove(0), Err(WriteError::Expired));
        queue.enter(vec![], 1, later()).unwrap();
    }

    #[test]
    fn a_command_is_withdrawn_or_handed_over_but_never_both() {
        let queue = queue(10, 100);
        let (first, second) = (
            queue.enter(vec![1], 1, later()).unwrap(),
            queue.enter(vec![2], 1, later()).unwrap(),
        );
        assert!(first.withdraw());
        assert!(!first.withdraw());
        let taken = queue.take(10, 10);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].bytes, [2]);
        assert!(!second.withdraw());
    }

    #[test]
    fn a_batch_holds_what_fits_and_at_least_one_command() {
        let queue = queue(10, 100);
        let _tickets: Vec<_> = [20, 4, 4, 4]
            .map(|weight| queue.enter(vec![], weight, later()).unwrap())
            .into();
        assert_eq!(
            queue.take(10, 8).len(),
            1,
            "one command may exceed the bound"
        );
        assert_eq!(queue.take(10, 8).len(), 2);
        assert_eq!(
            queue.backlog(),
            Backlog {
                commands: 1,
                bytes: 4
            }
        );
        assert_eq!(queue.take(10, 8).len(), 1);
        assert_eq!(queue.take(10, 8).len(), 0);
        let _tickets: Vec<_> = [4, 4, 4]
            .map(|weight| queue.enter(vec![], weight, later()).unwrap())
            .into();
        assert_eq!(queue.take(2, 100).len(), 2);
    }

    #[test]
    fn what_waits_when_the_queue_closes_is_refused_and_what_comes_later_until_it_opens() {
        let queue = queue(10, 100);
        let why = || WriteError::NotReady("the disk hangs".to_owned());
        let mut ticket = queue.enter(vec![], 1, later()).unwrap();
        queue.close(why());
        queue.refuse_waiting(&why());
        let not_ready = |refused: WriteError| matches!(refused, WriteError::NotReady(_));
        assert!(ticket.answer.try_recv().unwrap().is_err_and(not_ready));
        assert!(queue.is_idle());
        assert!(queue.enter(vec![], 1, later()).is_err_and(not_ready));
        queue.open();
        drop(queue.enter(vec![], 1, later()).unwrap());
        // A node that stops is not opened again by a disk that recovers.
        queue.close_for_good(why());
        queue.open();
        assert!(queue.enter(vec![], 1, later()).is_err());
    }

    #[test]
    fn who_would_wait_beyond_its_deadline_is_refused_at_once() {
        let queue = queue(10, 100);
        // Nothing waits: whatever has any time left may try.
        let first = queue.enter(vec![], 1, Instant::now()).unwrap();
        // A second later, one that has a second left would come too late, one that has more would not.
        let (second, now) = (
            Duration::from_secs(1),
            Instant::now() + Duration::from_secs(1),
        );
        let check = |left| queue.lock().check(queue.limits, 1, now + left, now);
        let refused = check(second).unwrap_err().to_string();
        assert!(refused.contains("before they are proposed"), "{refused}");
        assert!(check(second * 2).is_ok());
        let _second = queue.enter(vec![], 1, later()).unwrap();
        drop(first);
        assert!(queue.check(1000, later()).is_err());
        assert!(self::queue(10, 100).check(1000, Instant::now()).is_ok());
    }
    #[test]
    fn while_much_waits_long_for_its_answer_nothing_more_is_taken_in() {
        let queue = queue(10, 100);
        let (begun, later_by) = (Instant::now(), Duration::from_secs(60));
        let at = |ms| {
            let now = begun + Duration::from_millis(ms);
            let check = queue.lock().check(queue.limits, 1, now + later_by, now);
            check.map_err(|error| error.to_string())
        };
        let _first = queue.enter(vec![], 50, later()).unwrap();
        let mut taken = queue.take(1, 100);
        assert!(at(5000).is_ok(), "it is not much");
        let _second = queue.enter(vec![], 1, later()).unwrap();
        assert!(at(500).is_ok(), "it is not long");
        let refused = at(5000).unwrap_err();
        assert!(refused.contains("queue_wait_max is 1000 ms"), "{refused}");
        queue.finish(taken.remove(0), Err(WriteError::Expired));
        assert!(at(5000).is_ok(), "it has its answer");
        let _third = queue.enter(vec![], 50, later()).unwrap();
        assert!(
            at(5000).is_err(),
            "not yet handed over, it waits all the same"
        );
    }
}
