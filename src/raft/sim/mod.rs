//! A cluster in a simulation: one thread, one seed, and a time of its own. In builds with the feature `simulation` only.
//!
//! What runs is what runs in production: the batcher, the read barriers, the gates, the log, the peer protocol, openraft. Put
//! in their places are the disk ([`disk`], on the model disk), the state ([`state`], in memory), the bytes between nodes
//! ([`net`]) and time: each node has a tokio runtime of its own whose clock stands still unless [`World::tick`] moves it, at the
//! node's own rate. Nodes take turns within a tick. To kill a node is to drop its runtime.
//!
//! All chance comes from the seed ([`dice`]), and so a seed is a run: [`World::trace`] gives the same for the same seed. For
//! that nothing here may ask the operating system for the time or for random numbers, use a thread, or iterate a hash map. Tokio
//! itself draws numbers, whose seed cannot be set in stable builds: so a `select!` that may find two branches ready must be
//! `biased`, and a value that several tasks watch is one of [`crate::storage::watch`].
//!
//! What happens in a run, what is asked of the cluster and who judges it is the business of the fault tests.

mod ask;
mod dice;
mod disk;
mod invariants;
mod net;
mod node;
mod runtime;
mod state;
mod trace;
mod watched;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::ask::{Ask, Said, Slot, Value};
pub(crate) use self::dice::is_simulated;
pub use self::net::{Io, Listener};
pub use self::runtime::Runtime;

use self::dice::Dice;
use self::invariants::Invariants;
use self::net::{Door, Net};
use self::node::{Node, Surroundings, member};
use self::state::MemoryState;
use self::trace::Trace;
use super::{Client, Options, Peer, Replica, Role};

/// A tick, in nanoseconds.
pub const TICK_NS: u64 = 1_000_000;
/// How long a cluster may take to be formed.
const FORMED_WITHIN_MS: u64 = 60_000;

/// Answers the peers of a node: the listener of `http`, which this layer does not know.
pub type Serve = Arc<dyn Fn(Peer, Listener) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a simulation begins with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All chance comes from it.
    pub seed: u64,
    /// Of each node, from node 1: how fast its monotonic clock runs, in thousandths of the true one, and how many milliseconds
    /// its wall clock is ahead.
    pub clocks: Vec<(u64, i64)>,
    /// Settings of the nodes.
    pub options: Options,
    /// A file to write every event to.
    pub trace: Option<PathBuf>,
}

/// See the module.
pub struct World {
    around: Surroundings,
    nodes: BTreeMap<u64, Node>,
    dice: Dice,
    invariants: Invariants,
    trace: Trace,
    dir: PathBuf,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now_ms", &self.now_ms())
            .finish_non_exhaustive()
    }
}

/// What waits a little now and then, as whatever asks a disk does.
pub(crate) async fn hesitate() {
    let pause = dice::roll(|dice| {
        if dice.percent(85) {
            0
        } else {
            dice.between(1, 5)
        }
    });
    if let Some(pause @ 1..) = pause {
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl World {
    /// A cluster of nodes that run and know nothing of each other. One at a time on a thread.
    ///
    /// # Errors
    /// If a node does not start, or the trace cannot be written.
    ///
    /// # Panics
    /// If this thread simulates already.
    pub fn new(setup: &Setup, serve: Serve) -> Result<World, String> {
        assert!(!is_simulated(), "one simulation at a time on a thread");
        let mut dice = Dice::new(setup.seed);
        dice::set(Some(dice.next()));
        let trace = Trace::new(setup.trace.as_deref()).map_err(|error| error.to_string())?;
        let dir = scratch();
        let nodes = (1..).zip(&setup.clocks).map(|(id, (rate, ahead_ms))| {
            let node = Node::new(id, dir.join(id.to_string()), *rate, ahead_ms * 1_000_000);
            (id, node)
        });
        let mut world = World {
            around: Surroundings {
                net: Net::new(Dice::new(dice.next()), trace.clone()),
                now_ns: Arc::default(),
                options: setup.options.clone(),
                serve,
            },
            nodes: nodes.collect(),
            dice,
            invariants: Invariants::default(),
            trace,
            dir,
        };
        for id in world.ids() {
            world.start(id)?;
        }
        Ok(world)
    }

    /// Has node 1 form a cluster of all nodes.
    ///
    /// # Errors
    /// If that fails, or what must always hold does not.
    pub fn form(&mut self) -> Result<(), String> {
        let members = self.nodes.keys().map(|id| (*id, member(*id))).collect();
        let done: Arc<Mutex<Option<Result<(), String>>>> = Arc::default();
        let (client, tell) = (self.client(1).ok_or("node 1 is down")?, done.clone());
        let forming = async move {
            let formed = client.initialize(members).await;
            let formed = formed.map(drop).map_err(|error| error.to_string());
            *tell.lock().expect("nobody panics holding it") = Some(formed);
        };
        self.running(1).ok_or("node 1 is down")?.spawn(forming);
        let until = self.now_ms() + FORMED_WITHIN_MS;
        while self.now_ms() < until {
            self.tick()?;
            if let Some(formed) = done.lock().expect("nobody panics holding it").take() {
                return formed;
            }
        }
        Err("the cluster was not formed in time".to_owned())
    }

    /// A millisecond passes.
    ///
    /// # Errors
    /// If a node cannot go on, or what must always hold does not.
    pub fn tick(&mut self) -> Result<(), String> {
        let now_ns = self.around.now_ns.fetch_add(TICK_NS, Ordering::Relaxed) + TICK_NS;
        self.trace.note("tick", &[now_ns / TICK_NS]);
        self.around.net.advance(now_ns);
        let mut order = self.ids();
        let first = usize::try_from(self.dice.below(order.len() as u64)).expect("few nodes");
        order.rotate_left(first);
        for id in order {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            node.advance(TICK_NS);
            if let Some(fault) = node.fault() {
                return Err(format!("node {id} stopped: {fault}"));
            }
            if let Some(running) = &node.running {
                self.invariants.look(id, running, &self.trace)?;
            }
        }
        Ok(())
    }

    /// The true time since the simulation began.
    pub fn now_ms(&self) -> u64 {
        self.around.now_ns.load(Ordering::Relaxed) / TICK_NS
    }

    /// Every node.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Whether a node runs.
    pub fn is_up(&self, id: u64) -> bool {
        self.running(id).is_some()
    }

    /// The newest leader that was seen, down or not: its node and its term.
    pub fn leader(&self) -> Option<(u64, u64)> {
        self.invariants.leader.map(|(term, node)| (node, term))
    }

    /// Whether a node says that it leads.
    pub fn leads(&self, id: u64) -> bool {
        self.client(id)
            .is_some_and(|client| client.standing().role == Role::Leader)
    }

    fn running(&self, id: u64) -> Option<&node::Running> {
        self.nodes.get(&id)?.running.as_ref()
    }

    fn client(&self, id: u64) -> Option<Client<MemoryState>> {
        Some(self.running(id)?.client.clone())
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// If it refuses to start.
    pub fn start(&mut self, id: u64) -> Result<(), String> {
        self.trace.note("start", &[id]);
        self.invariants.restarted(id);
        let node = self.nodes.get_mut(&id).ok_or("no such node")?;
        let started = node.start(&self.around);
        started.map_err(|why| format!("node {id} does not start: {why}"))
    }

    /// Kills a node. Whether it ran.
    pub fn kill(&mut self, id: u64) -> bool {
        self.trace.note("kill", &[id]);
        let (net, dice) = (&self.around.net, &mut self.dice);
        self.nodes
            .get_mut(&id)
            .is_some_and(|node| node.kill(net, dice))
    }

    /// Takes the power of a node's machine away. Whether it ran.
    pub fn cut_power(&mut self, id: u64) -> bool {
        self.trace.note("power", &[id]);
        let (net, dice) = (&self.around.net, &mut self.dice);
        self.nodes
            .get_mut(&id)
            .is_some_and(|node| node.cut_power(net, dice))
    }

    /// Makes a node's disk slow, or as it was.
    pub fn set_slow_disk(&self, id: u64, is_slow: bool) {
        if let Some(running) = self.running(id) {
            running.drive.set_slow(is_slow);
        }
    }

    /// Cuts the way from one node to another, or heals it.
    pub fn set_cut(&self, from: u64, to: u64, is_cut: bool) {
        self.around.net.change(from, to, |way| way.is_cut = is_cut);
    }

    /// How long anything takes from one node to another: at least and at most, in microseconds.
    pub fn set_latency(&self, from: u64, to: u64, latency_us: (u64, u64)) {
        self.around
            .net
            .change(from, to, |way| way.latency_us = latency_us);
    }

    /// Breaks the connections between two nodes.
    pub fn reset(&self, a: u64, b: u64) {
        self.around.net.reset(a, b);
    }

    /// Asks a node, which answers within `patience` of its own time if it can; `None` if it is down.
    pub fn ask(&self, id: u64, ask: Ask, patience: Duration) -> Option<Slot> {
        let running = self.running(id)?;
        let slot = Slot::default();
        let (client, told) = (running.client.clone(), slot.clone());
        running.spawn(async move {
            let said = ask::answer(&client, ask, patience).await;
            *told.lock().expect("nobody panics holding it") = Some(said);
        });
        Some(slot)
    }

    /// How far a running node is: applied index and digest.
    pub fn applied(&self, id: u64) -> Option<(u64, [u8; 32])> {
        let applied = self.running(id)?.state.applied();
        Some((applied.log_id?.index, applied.digest))
    }

    /// Every command that a running node applied, as `quorate log export` tells it.
    ///
    /// # Errors
    /// If its log and its journal do not fit together, or it does not run.
    pub fn export(&self, id: u64) -> Result<String, String> {
        self.running(id).ok_or("it is down")?.state.export()
    }

    /// How many events there were, and the hash of all of them: the same for the same seed.
    pub fn trace(&self) -> (u64, String) {
        self.trace.told()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for id in self.ids() {
            self.around.net.set_door(id, Door::Shut);
        }
        self.nodes.clear();
        dice::set(None);
        // Whatever cannot be removed is in the directory for such things.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A path for what even a simulated node puts into a file: an empty directory for snapshots.
fn scratch() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    std::env::temp_dir().join(format!("quorate-simulation-{process}-{number}"))
}
