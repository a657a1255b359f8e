//! One key, written and read in loops, and the one question: does a read that began after a write was acknowledged answer an
//! older value?
//!
//! Every value is written once. Where each was applied is what its acknowledgement says, so a read is judged by the order of
//! the log and not by what the node that answers says of itself. A value whose write was not acknowledged is not judged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::glance::leading;
use crate::harness::http::{Connection, Request};
use crate::harness::world::lock;
use crate::history::Level;

/// Between two attempts of a loop.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a node may try to do what a loop asks of it.
const TIMEOUT: Duration = Duration::from_millis(150);
/// How much longer the loop waits for it to say so.
const GRACE: Duration = Duration::from_millis(350);

/// A node, and where it serves clients.
pub(crate) type Target = (u64, SocketAddr);

/// See the module.
pub(crate) struct Probe {
    key: String,
    start: Instant,
    next: AtomicI64,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the loops saw; times since the probe was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Log indexes of acknowledged values.
    written: BTreeMap<i64, u64>,
    /// The acknowledged write that is newest in the log.
    newest: Option<Write>,
    /// By node, when its first write was acknowledged.
    first: BTreeMap<u64, Duration>,
    /// When the last read began that a lease served.
    by_lease: Option<Duration>,
    /// Reads that were answered.
    pub(crate) reads: u64,
    /// What is wrong with the first read that should have seen more.
    pub(crate) stale: Option<String>,
}

impl Seen {
    /// When the first write was acknowledged by another node than `leader`, after the time `since`.
    pub(crate) fn led_by_another(&self, leader: u64, since: Duration) -> Option<Duration> {
        let others = self.first.iter().filter(|(id, _)| **id != leader);
        others.map(|(_, at)| at.saturating_sub(since)).min()
    }

    /// When the last read began that a lease served, after the time `since`.
    pub(crate) fn last_by_lease(&self, since: Duration) -> Option<Duration> {
        self.by_lease.map(|at| at.saturating_sub(since))
    }

    /// The two for people.
    pub(crate) fn told(&self, leader: u64, since: Duration) -> String {
        let time = |at: Option<Duration>| at.map_or("none".to_owned(), ms);
        format!(
            "first write of another after {}, last lease read after {}",
            time(self.led_by_another(leader, since)),
            time(self.last_by_lease(since)),
        )
    }
}

#[derive(Clone, Copy, Debug)]
struct Write {
    value: i64,
    index: u64,
    node: u64,
    at: Duration,
}

/// A time for people.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

impl Probe {
    /// With a key that nobody else uses.
    pub(crate) fn new(key: String) -> Probe {
        Probe {
            key,
            start: Instant::now(),
            next: AtomicI64::new(1),
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// How long it has been there.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Ends the loops.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Writes the next value; the log index if it was acknowledged.
    pub(crate) fn write(&self, (node, addr): Target, connection: &mut Connection) -> Option<u64> {
        let value = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            method: "PUT",
            path: format!("/v1/kv/{}?timeout={}ms", self.key, TIMEOUT.as_millis()),
            body: value.to_string(),
            ..Request::default()
        };
        let reply = connection.ask(addr, &request, TIMEOUT + GRACE).ok()?;
        let index = reply.number("quorate-index")?;
        if !(200..300).contains(&reply.status) {
            return None;
        }
        let at = self.now();
        let mut seen = lock(&self.seen);
        seen.written.insert(value, index);
        seen.first.entry(node).or_insert(at);
        if seen.newest.is_none_or(|newest| newest.index < index) {
            seen.newest = Some(Write {
                value,
                index,
                node,
                at,
            });
        }
        Some(index)
    }

    /// Reads at `level`, and judges the answer by what was acknowledged before.
    pub(crate) fn read(
        &self,
        (node, addr): Target,
        connection: &mut Connection,
        level: Level,
        timeout: Duration,
    ) {
        let path = format!(
            "/v1/kv/{}?consistency={level}&timeout={}ms",
            self.key,
            timeout.as_millis()
        );
        let request = Request {
            method: "GET",
            path,
            ..Request::default()
        };
        let (newest, began) = (lock(&self.seen).newest, self.now());
        let Ok(reply) = connection.ask(addr, &request, timeout + GRACE) else {
            return;
        };
        let value = match reply.status {
            200 => reply.text().parse().ok(),
            404 if reply.field("code") == "key_not_found" => None,
            _ => return,
        };
        let ended = self.now();
        let reached = reply.header("consistency-effective").unwrap_or("?");
        let mut seen = lock(&self.seen);
        seen.reads += 1;
        if reached == Level::Lease.name() {
            seen.by_lease = seen.by_lease.max(Some(began));
        }
        let shown = match value {
            Some(value) => seen.written.get(&value).copied(),
            None => Some(0),
        };
        let (Some(newest), Some(shown)) = (newest, shown) else {
            return;
        };
        if shown < newest.index && seen.stale.is_none() {
            seen.stale = Some(format!(
                "n{node} answered value {value:?} of log index {shown} at level {reached} to a read from {} to {}, but value \
                 {} of log index {} was acknowledged by n{} at {}",
                ms(began),
                ms(ended),
                newest.value,
                newest.index,
                newest.node,
                ms(newest.at)
            ));
        }
    }

    /// Writes in a loop whenever the node says that it leads: so no write of it is anybody else's.
    pub(crate) fn keep_writing(&self, target: Target) {
        let mut connection = Connection::default();
        while !self.is_stopped() {
            if leading(target.1, &mut connection).is_some() {
                self.write(target, &mut connection);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Reads in a loop.
    pub(crate) fn keep_reading(&self, target: Target, level: Level) {
        let mut connection = Connection::default();
        while !self.is_stopped() {
            self.read(target, &mut connection, level, TIMEOUT);
            thread::sleep(PAUSE);
        }
    }
}
