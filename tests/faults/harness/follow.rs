//! Collects the applied logs while the nodes run, since a log that is kept short is not there in the end.
//!
//! Each node is asked again and again for what it applied since ([`quorate::storage::applied::Pages`], which also holds its
//! journal, from the first entry on, against the digest that it stores). What one node purged unseen while it was away, another
//! one had: the pieces are joined by log index, and together they must leave nothing out ([`holes`]). Where pieces overlap the
//! checkers hold them against each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quorate::storage::applied::Pages;

use super::http::{Connection, Request};
use super::world::World;

/// Between two looks at a node: much less than a second, after which a snapshot may let it purge what it applied.
const PACE: Duration = Duration::from_millis(150);
/// How long a node may take to answer.
const GLANCE: Duration = Duration::from_secs(2);
/// At the end every node is asked once more, so often at most.
const LAST_LOOKS: u32 = 10;

/// What is wrong with an export that only has to be begun again: a node purged its log meanwhile, or restarted.
const BEGIN_AGAIN: &[&str] = &["purged meanwhile", "has applied less than"];

/// What a node applied from one log index to another, without a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Whose.
    pub(crate) node: u64,
    /// The first index that it covers.
    pub(crate) from: u64,
    /// The last one.
    pub(crate) upto: u64,
    /// The commands, as `quorate log export` writes them.
    pub(crate) lines: String,
}

/// Threads that ask.
pub(crate) struct Followers {
    stop: Arc<AtomicBool>,
    starting: JoinHandle<Vec<JoinHandle<Vec<Piece>>>>,
}

impl Followers {
    /// One a node, whenever it comes, each in a thread of its own: a frozen node keeps whoever asks it waiting.
    pub(crate) fn start(world: &Arc<World>) -> Followers {
        let stop = Arc::new(AtomicBool::new(false));
        let (world, ends) = (Arc::clone(world), Arc::clone(&stop));
        let starting = thread::spawn(move || {
            let mut threads = Vec::new();
            loop {
                let is_last = ends.load(Ordering::Relaxed);
                for (node, addr) in world.roster.ever().split_off(threads.len()) {
                    let follower = Follower::new(node, addr);
                    let (world, ends) = (Arc::clone(&world), Arc::clone(&ends));
                    threads.push(thread::spawn(move || follower.run(&world, &ends)));
                }
                if is_last {
                    return threads;
                }
                thread::sleep(PACE);
            }
        });
        Followers { stop, starting }
    }

    /// Asks every node a last time; gives what was collected.
    pub(crate) fn end(self, world: &World) -> Vec<Piece> {
        self.stop.store(true, Ordering::Relaxed);
        let mut pieces = Vec::new();
        let threads = self.starting.join().unwrap_or_else(|_| {
            world.fail("the thread that has applied logs collected panicked");
            Vec::new()
        });
        for thread in threads {
            match thread.join() {
                Ok(found) => pieces.extend(found),
                Err(_) => world.fail("a thread that collects an applied log panicked"),
            }
        }
        pieces
    }
}

/// Asks one node.
struct Follower {
    addr: SocketAddr,
    connection: Connection,
    pages: Pages,
    /// The piece under way, as far as an export was complete.
    piece: Piece,
    /// Lines of the export under way.
    fresh: String,
    pieces: Vec<Piece>,
}

impl Follower {
    fn new(node: u64, addr: SocketAddr) -> Follower {
        Follower {
            addr,
            connection: Connection::default(),
            pages: Pages::new(None),
            piece: Piece {
                node,
                ..Piece::default()
            },
            fresh: String::new(),
            pieces: Vec::new(),
        }
    }

    fn run(mut self, world: &World, stop: &AtomicBool) -> Vec<Piece> {
        let mut last_looks = 0;
        loop {
            // Who was removed has little time left, and will not come back.
            let is_gone = !world.roster.has(self.piece.node);
            let is_last = is_gone || stop.load(Ordering::Relaxed);
            let seen = match self.look() {
                Ok(is_seen) => is_seen,
                Err(wrong) => {
                    let node = self.piece.node;
                    world.fail(format!("the applied log of node {node}: {wrong}"));
                    break;
                }
            };
            last_looks += u32::from(is_last);
            if is_last && (seen || last_looks >= LAST_LOOKS) {
                break;
            }
            thread::sleep(PACE);
        }
        self.begin_piece();
        self.pieces
    }

    /// Takes what the node applied since the last look; whether it answered to the end. `Err` says what is wrong with it.
    fn look(&mut self) -> Result<bool, String> {
        loop {
            let (from, to) = self.pages.wanted();
            let to_here = to.map_or(String::new(), |to| format!("&to={to}"));
            let request = Request {
                method: "GET",
                path: format!(
                    "/v1/log/applied?consistency=follower&timeout=1s&from={from}{to_here}"
                ),
                ..Request::default()
            };
            let Ok(reply) = self.connection.ask(self.addr, &request, GLANCE) else {
                return Ok(false);
            };
            if reply.status != 200 {
                return Ok(false);
            }
            if to.is_none() && reply.number("quorate-index") < Some(from) {
                return Ok(true);
            }
            let fresh = &mut self.fresh;
            let taken = self.pages.take(&reply.body, |line| {
                fresh.push_str(&serde_json::to_string(line)?);
                fresh.push('\n');
                Ok(())
            });
            match taken {
                Ok(None) => {}
                Ok(Some(exported)) => {
                    self.add(exported.index);
                    self.pages.go_on();
                    return Ok(true);
                }
                Err(error) if BEGIN_AGAIN.iter().any(|why| error.0.contains(why)) => {
                    self.begin_piece();
                    self.fresh.clear();
                    self.pages = Pages::new(None);
                    return Ok(false);
                }
                Err(error) => return Err(error.0),
            }
        }
    }

    /// An export is complete up to `upto`: its lines count.
    fn add(&mut self, upto: u64) {
        let first = self.pages.first().unwrap_or(0);
        if first > self.piece.from {
            self.begin_piece();
            self.piece.from = first;
        }
        self.piece.upto = upto;
        self.piece.lines.push_str(&self.fresh);
        self.fresh.clear();
    }

    /// Puts the piece under way to the others, if there is anything in it.
    fn begin_piece(&mut self) {
        let node = self.piece.node;
        let next = Piece {
            node,
            ..Piece::default()
        };
        let piece = std::mem::replace(&mut self.piece, next);
        if piece.upto > 0 {
            self.pieces.push(piece);
        }
    }
}

/// Log indexes up to `upto` that no piece covers, as ranges.
pub(crate) fn holes(pieces: &[Piece], upto: u64) -> Vec<(u64, u64)> {
    let mut covered: Vec<(u64, u64)> = pieces
        .iter()
        .map(|piece| (piece.from, piece.upto))
        .collect();
    covered.sort_unstable();
    let (mut holes, mut next) = (Vec::new(), 0);
    for (from, to) in covered {
        if from > next {
            holes.push((next, from - 1));
        }
        next = next.max(to + 1);
    }
    if next <= upto {
        holes.push((next, upto));
    }
    holes.retain(|(from, _)| *from <= upto);
    holes
}
