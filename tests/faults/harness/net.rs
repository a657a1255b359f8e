//! The network between the nodes, with two ways to break it behind one trait ([`Backend`]).
//!
//! | network | what it is | takes |
//! |---|---|---|
//! | [`proxies`] | a proxy in front of every node, which knows who is connected: cuts, delays, resets, what comes late or twice | nothing |
//! | [`namespaces`] | a network namespace a node, with packet filters: what TCP itself makes of lost packets | root, or user namespaces |
//!
//! Either treats each direction of each pair by itself.

pub(crate) mod namespaces;

mod proxies;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use self::namespaces::Namespaces;
use self::proxies::Proxies;
use super::world::lock;

/// Which network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A proxy in front of every node; takes no privileges.
    #[default]
    Proxies,
    /// A network namespace for every node; takes root or user namespaces, and the programs ip and nft.
    Namespaces,
}

impl Network {
    /// A word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Network::Proxies => "proxies",
            Network::Namespaces => "namespaces",
        }
    }
}

/// How one direction of a pair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    /// Nothing comes through.
    pub(crate) cut: bool,
    /// Cut and whole by turns of this length.
    pub(crate) flaps: Option<Duration>,
    /// Every piece is late by something up to this.
    pub(crate) delay: Duration,
    /// Of a hundred packets, so many are lost, and sent again by whoever sent them.
    pub(crate) spikes: u64,
    /// Connections that were made under another number are closed: what they held is lost.
    generation: u64,
}

impl Quality {
    /// Whether nothing comes through at this moment.
    fn is_cut(self) -> bool {
        static START: OnceLock<Instant> = OnceLock::new();
        let Some(turn) = self.flaps else {
            return self.cut;
        };
        let turns = START.get_or_init(Instant::now).elapsed().as_millis() / turn.as_millis().max(1);
        turns.is_multiple_of(2)
    }

    /// Whole, as it was before; connections of before may be lost.
    fn healed(self, is_lost: bool) -> Quality {
        Quality {
            generation: self.generation + u64::from(is_lost),
            ..Quality::default()
        }
    }
}

/// By who sends and who is sent to.
pub(crate) type Table = BTreeMap<(u64, u64), Quality>;

/// Two addresses of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// For peers.
    pub(crate) peer: SocketAddr,
    /// For clients.
    pub(crate) client: SocketAddr,
}

/// A node in the network.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where it listens.
    listens: Addresses,
    /// Where other nodes reach it.
    reached: Addresses,
}

/// One way to have a network that can be broken.
trait Backend: Send + Sync {
    /// A place for a node, which has these addresses of its own on this machine.
    fn add(&mut self, node: u64, own: Addresses) -> anyhow::Result<Place>;

    /// Has every direction be as the table says.
    fn apply(&self, table: &Table) -> anyhow::Result<()>;

    /// A node has another process now.
    fn set_process(&self, _node: u64, _process: u32) {}

    /// What a node's program must be started by, its place being given: program and arguments that take another program.
    fn starter(&self, _node: u64) -> Vec<OsString> {
        Vec::new()
    }

    /// Flags that every node needs in it.
    fn flags(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it can keep what it passes on for a while.
    fn can_delay(&self) -> bool;
}

/// The network.
pub(crate) struct Net {
    backend: Box<dyn Backend>,
    table: Mutex<Table>,
    places: BTreeMap<u64, Place>,
}

impl Net {
    /// A network without nodes.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn start(network: Network) -> anyhow::Result<Net> {
        let backend: Box<dyn Backend> = match network {
            Network::Proxies => Box::new(Proxies::start()?),
            Network::Namespaces => Box::new(Namespaces::start()?),
        };
        Ok(Net {
            backend,
            table: Mutex::default(),
            places: BTreeMap::new(),
        })
    }

    /// Makes a place for a node that has these addresses of its own on this machine.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn add(&mut self, node: u64, own: Addresses) -> anyhow::Result<()> {
        let place = self.backend.add(node, own)?;
        self.places.insert(node, place);
        Ok(())
    }

    /// Where a node listens.
    pub(crate) fn listens(&self, node: u64) -> Addresses {
        self.places[&node].listens
    }

    /// Where other nodes reach it.
    pub(crate) fn address(&self, node: u64) -> Addresses {
        self.places[&node].reached
    }

    /// A node has another process now.
    pub(crate) fn set_process(&self, node: u64, process: u32) {
        self.backend.set_process(node, process);
    }

    /// What a node's program must be started by: program and arguments that take another program.
    pub(crate) fn starter(&self, node: u64) -> Vec<OsString> {
        self.backend.starter(node)
    }

    /// Flags that every node needs in it.
    pub(crate) fn flags(&self) -> &'static [&'static str] {
        self.backend.flags()
    }

    /// Whether messages can be made late; otherwise packets can only be lost.
    pub(crate) fn can_delay(&self) -> bool {
        self.backend.can_delay()
    }

    /// Changes directions.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn change(
        &self,
        directions: &[(u64, u64)],
        to: impl Fn(&mut Quality),
    ) -> anyhow::Result<()> {
        let mut table = lock(&self.table);
        for direction in directions {
            to(table.entry(*direction).or_default());
        }
        self.backend.apply(&table)
    }

    /// Makes directions whole again. What was held comes late, or is lost with its connections.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn heal(&self, directions: &[(u64, u64)], is_lost: bool) -> anyhow::Result<()> {
        self.change(directions, |quality| *quality = quality.healed(is_lost))
    }

    /// Makes everything whole.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn heal_all(&self) -> anyhow::Result<()> {
        let mut table = lock(&self.table);
        for quality in table.values_mut() {
            *quality = quality.healed(false);
        }
        self.backend.apply(&table)
    }
}
