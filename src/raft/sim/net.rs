//! The network of a simulation: connections whose bytes arrive late, and ways that can be cut.
//!
//! It behaves as TCP does. What is sent over one connection arrives in its order; each connection is as late as it is, so
//! that messages on different ones overtake each other. While a way is cut, what is sent on it is held and arrives once the
//! cut is healed, for TCP sends it again; nobody at the other end learns meanwhile that a connection was closed. A process
//! that is killed closes its connections; a machine without power says nothing until it is back.

mod io;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

pub use self::io::{Io, Listener};

use super::Dice;
use super::trace::Trace;
use crate::raft::network::{Connect, Lane};

/// Bytes that one direction of a connection takes before the sender has to wait.
const CAPACITY: usize = 256 << 10;
/// When what is held arrives.
const HELD: u64 = u64::MAX;
const US: u64 = 1_000;

/// The network; clones are the same.
#[derive(Clone)]
pub(super) struct Net {
    inner: Arc<Mutex<Inner>>,
}

/// The way from one node to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) is_cut: bool,
    /// Shortest and longest latency, in microseconds.
    pub(super) latency_us: (u64, u64),
}

impl Default for Way {
    fn default() -> Way {
        Way {
            is_cut: false,
            latency_us: (50, 900),
        }
    }
}

/// What is at a node's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Door {
    /// A machine without power: no answer.
    Dark,
    /// No process: refused.
    #[default]
    Shut,
    /// A listener.
    Open,
}

struct Inner {
    now_ns: u64,
    dice: Dice,
    trace: Trace,
    ways: BTreeMap<(u64, u64), Way>,
    doors: BTreeMap<u64, (Door, VecDeque<Io>, Option<Waker>)>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    /// Who connects, to look again.
    dialing: Vec<Waker>,
}

/// One direction of a connection.
struct Pipe {
    from: u64,
    to: u64,
    /// When each piece arrives; in order.
    pieces: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// How much later everything on this connection is.
    lag_us: u64,
    /// When the last piece that is not held arrives.
    last_ns: u64,
    /// When the reader learns that nothing more comes.
    closed: Option<u64>,
    /// When the writer learns that nobody reads.
    reset: Option<u64>,
    /// The reader is gone: nothing needs to arrive.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Net {
    pub(super) fn new(dice: Dice, trace: Trace) -> Net {
        let inner = Inner {
            now_ns: 0,
            dice,
            trace,
            ways: BTreeMap::new(),
            doors: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            dialing: Vec::new(),
        };
        Net {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics holding it")
    }

    /// It is `now_ns`: whoever has something to read, or to learn, is woken.
    pub(super) fn advance(&self, now_ns: u64) {
        let mut inner = self.lock();
        inner.now_ns = now_ns;
        let mut wake = std::mem::take(&mut inner.dialing);
        for pipe in inner.pipes.values_mut() {
            let first = pipe.pieces.front().map(|(at, _)| *at).or(pipe.closed);
            if first.is_some_and(|at| at <= now_ns) {
                wake.extend(pipe.reader.take());
            }
            if pipe.reset.is_some_and(|at| at <= now_ns) {
                wake.extend(pipe.writer.take());
            }
        }
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
    }

    /// Changes the way from `from` to `to`.
    pub(super) fn change(&self, from: u64, to: u64, change: impl FnOnce(&mut Way)) {
        let mut inner = self.lock();
        let way = inner.ways.entry((from, to)).or_default();
        let before = way.is_cut;
        change(way);
        let is_cut = way.is_cut;
        inner.trace.note("way", &[from, to, u64::from(is_cut)]);
        if before != is_cut {
            inner.hold_or_release(from, to, is_cut);
        }
    }

    /// Breaks every connection between two nodes: both learn it at once.
    pub(super) fn reset(&self, a: u64, b: u64) {
        let mut inner = self.lock();
        let now_ns = inner.now_ns;
        let between = |pipe: &&mut Pipe| [(a, b), (b, a)].contains(&(pipe.from, pipe.to));
        for pipe in inner.pipes.values_mut().filter(between) {
            pipe.pieces.clear();
            pipe.bytes = 0;
            (pipe.closed, pipe.reset) = (Some(now_ns), Some(now_ns));
        }
    }

    /// From now on this is at the address of `node`. Opened anew, it ends what was left of the connections to the one
    /// before.
    pub(super) fn set_door(&self, node: u64, door: Door) {
        let mut inner = self.lock();
        inner.trace.note("door", &[node, door as u64]);
        // Not dropped while the lock is held: what waited there closes its connection.
        let waited = inner.doors.insert(node, (door, VecDeque::new(), None));
        if door == Door::Dark {
            let of_node = |pipe: &&mut Pipe| pipe.from == node || pipe.to == node;
            for pipe in inner.pipes.values_mut().filter(of_node) {
                // What had left it still arrives; what was held is not sent again.
                let is_lost = pipe.to == node;
                pipe.pieces.retain(|(at, _)| !is_lost && *at != HELD);
                pipe.bytes = pipe.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
            }
        }
        match door {
            Door::Dark => {}
            Door::Shut => inner.end_all(node),
            Door::Open => inner.end_orphans(node),
        }
        drop(inner);
        drop(waited);
    }

    /// One look at a connection that is being made; `due` is when the answer arrives.
    fn dial(
        &self,
        from: u64,
        to: u64,
        due: &mut Option<u64>,
        cx: &Context<'_>,
    ) -> Poll<std::io::Result<Io>> {
        let mut inner = self.lock();
        let there = inner.way(from, to);
        let back = inner.way(to, from);
        if there.is_cut || back.is_cut {
            *due = None;
            inner.dialing.push(cx.waker().clone());
            return Poll::Pending;
        }
        let at = match *due {
            Some(at) => at,
            None => inner.now_ns + inner.latency(from, to) + inner.latency(to, from),
        };
        *due = Some(at);
        let door = inner.doors.get(&to).map_or(Door::Shut, |(door, ..)| *door);
        if at > inner.now_ns || door == Door::Dark {
            inner.dialing.push(cx.waker().clone());
            return Poll::Pending;
        }
        if door == Door::Shut {
            return Poll::Ready(Err(ErrorKind::ConnectionRefused.into()));
        }
        let (out, into) = (inner.pipe(from, to), inner.pipe(to, from));
        let theirs = Io::new(self.clone(), to, into, out);
        let (_, backlog, acceptor) = inner.doors.get_mut(&to).expect("it is open");
        backlog.push_back(theirs);
        let wake = acceptor.take();
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(Io::new(self.clone(), from, out, into)))
    }
}

impl Inner {
    fn way(&self, from: u64, to: u64) -> Way {
        self.ways.get(&(from, to)).copied().unwrap_or_default()
    }

    /// How long something takes on that way, in nanoseconds.
    fn latency(&mut self, from: u64, to: u64) -> u64 {
        let (low, high) = self.way(from, to).latency_us;
        self.dice.between(low, high) * US
    }

    /// When something sent now over a connection that is `lag_us` late arrives.
    fn arrival(&mut self, from: u64, to: u64, lag_us: u64) -> u64 {
        if self.way(from, to).is_cut {
            return HELD;
        }
        self.now_ns + self.latency(from, to) + lag_us * US
    }

    fn pipe(&mut self, from: u64, to: u64) -> u64 {
        let id = self.next_pipe;
        self.next_pipe += 1;
        // Now and then a connection takes a longer way than others.
        let lag_us = if self.dice.percent(10) {
            self.dice.below(8_000)
        } else {
            0
        };
        self.trace.note("connect", &[id, from, to, self.now_ns]);
        let pipe = Pipe {
            from,
            to,
            pieces: VecDeque::new(),
            bytes: 0,
            lag_us,
            last_ns: 0,
            closed: None,
            reset: None,
            is_unread: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(id, pipe);
        id
    }

    /// Puts `bytes` on their way.
    fn send(&mut self, id: u64, bytes: &[u8]) {
        let Some(pipe) = self.pipes.get(&id) else {
            return;
        };
        let (from, to, lag_us, last_ns) = (pipe.from, pipe.to, pipe.lag_us, pipe.last_ns);
        let at = self.arrival(from, to, lag_us).max(last_ns);
        let pipe = self.pipes.get_mut(&id).expect("it is there");
        if at != HELD {
            pipe.last_ns = at;
        }
        pipe.bytes += bytes.len();
        pipe.pieces.push_back((at, Bytes::copy_from_slice(bytes)));
        let len = bytes.len() as u64;
        self.trace.note("send", &[id, at, len]);
    }

    /// A cut holds what is on its way; healed, it goes on in its order.
    fn hold_or_release(&mut self, from: u64, to: u64, is_cut: bool) {
        let ids: Vec<u64> = self.pipes.keys().copied().collect();
        for id in ids {
            let pipe = &self.pipes[&id];
            let (is_there, is_back) = (
                (pipe.from, pipe.to) == (from, to),
                (pipe.from, pipe.to) == (to, from),
            );
            if !is_there && !is_back {
                continue;
            }
            let (now_ns, lag_us) = (self.now_ns, pipe.lag_us);
            let next = self.arrival(from, to, lag_us);
            let pipe = self.pipes.get_mut(&id).expect("it is there");
            let moved = |at: u64| match is_cut {
                true if at > now_ns => HELD,
                false if at == HELD => next,
                _ => at,
            };
            if is_there {
                pipe.pieces.iter_mut().for_each(|(at, _)| *at = moved(*at));
                pipe.closed = pipe.closed.map(moved);
                let arriving = pipe.pieces.iter().rev().find(|(at, _)| *at != HELD);
                pipe.last_ns = arriving.map_or(now_ns, |(at, _)| *at);
            } else {
                pipe.reset = pipe.reset.map(moved);
            }
        }
    }

    /// One end of a connection is gone: of `out` nothing more comes, of `into` nothing is read. The other end learns it,
    /// unless this one has no power.
    fn close(&mut self, node: u64, out: u64, into: u64) {
        let is_dark = matches!(self.doors.get(&node), Some((Door::Dark, ..)));
        if let Some(pipe) = self.pipes.get_mut(&into) {
            pipe.is_unread = true;
            pipe.pieces.clear();
            pipe.bytes = 0;
        }
        if !is_dark {
            self.end(out, into);
        }
        self.forget();
    }

    /// Has the other end learn that the connection is over.
    fn end(&mut self, out: u64, into: u64) {
        let Some(pipe) = self.pipes.get(&out).filter(|pipe| pipe.closed.is_none()) else {
            return;
        };
        let (from, to, lag_us, last_ns) = (pipe.from, pipe.to, pipe.lag_us, pipe.last_ns);
        let at = self.arrival(from, to, lag_us).max(last_ns);
        if let Some(pipe) = self.pipes.get_mut(&out) {
            pipe.closed.get_or_insert(at);
        }
        if let Some(pipe) = self.pipes.get_mut(&into) {
            pipe.reset.get_or_insert(at);
        }
    }

    /// A process is gone, and all its connections with it. In their order: that in which a runtime drops its tasks depends on
    /// how many there ever were.
    fn end_all(&mut self, node: u64) {
        let ids: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.from == node)
            .map(|(id, _)| *id)
            .collect();
        for out in ids {
            self.end(out, out ^ 1);
        }
    }

    /// A machine is back and knows nothing of the connections it had.
    fn end_orphans(&mut self, node: u64) {
        let orphans: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.is_unread && pipe.to == node)
            .map(|(id, _)| *id)
            .collect();
        for into in orphans {
            // Both directions were made together, the one after the other.
            self.end(into ^ 1, into);
        }
    }

    /// Drops what nobody reads and nobody writes any more.
    fn forget(&mut self) {
        let gone: Vec<u64> = self
            .pipes
            .iter()
            .filter(|(id, pipe)| {
                pipe.is_unread
                    && self
                        .pipes
                        .get(&(*id ^ 1))
                        .is_none_or(|other| other.is_unread)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.pipes.remove(&id);
        }
    }
}

/// Makes connections of one node.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) net: Net,
    pub(super) from: u64,
}

impl Connect for Dialer {
    type Io = Io;

    async fn connect(&self, addr: &str, _lane: Lane) -> std::io::Result<Io> {
        let to = node_at(addr).ok_or(ErrorKind::AddrNotAvailable)?;
        let mut due = None;
        std::future::poll_fn(|cx| self.net.dial(self.from, to, &mut due, cx)).await
    }
}

/// The address of a node's peer listener.
pub(super) fn addr_of(node: u64) -> String {
    format!("n{node}:1")
}

fn node_at(addr: &str) -> Option<u64> {
    addr.strip_prefix('n')?.strip_suffix(":1")?.parse().ok()
}
