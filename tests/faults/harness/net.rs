//! The network between the nodes: a proxy in front of every node, which knows who is connected and treats each direction
//! of each pair by itself. No privileges needed.
//!
//! A node advertises its proxy's addresses, one for peers and one for requests that others forward to it. Whose connection
//! it is the system says: the process that owns the other end of the socket. So nothing of the nodes' protocols is known
//! here, and nothing of them can hide from it.
//!
//! Bytes that were sent while a direction was cut are held and delivered when it is healed, or thrown away with their
//! connection, as the fault wants: an old message may come late, and an answer never.

mod inode;
mod owner;
mod pipe;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::owner::{Finder, Processes};
use super::world::lock;

/// How one direction of a pair is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quality {
    /// Nothing comes through.
    pub(crate) cut: bool,
    /// Cut and whole by turns of this length.
    pub(crate) flaps: Option<Duration>,
    /// Every piece is late by something up to this.
    pub(crate) delay: Duration,
    /// In a hundred pieces, so many are late by [`SPIKE`], as when a packet is lost and sent again.
    pub(crate) spikes: u64,
    /// Connections that were made under another number are closed: what they held is lost.
    generation: u64,
}

/// How late a piece is whose packet was lost.
pub(crate) const SPIKE: Duration = Duration::from_millis(200);

/// By who sends and who is sent to.
type Table = BTreeMap<(u64, u64), Quality>;

/// What all connections share.
struct Shared {
    table: watch::Sender<Table>,
    processes: Processes,
    finder: Finder,
}

/// The network.
pub(crate) struct Net {
    shared: Arc<Shared>,
    addresses: BTreeMap<u64, Proxied>,
    /// Its threads; dropped last.
    runtime: Runtime,
}

/// Where a node is reached by others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxied {
    /// For peers.
    pub(crate) peer: SocketAddr,
    /// For clients.
    pub(crate) client: SocketAddr,
}

impl Net {
    /// A network without nodes.
    ///
    /// # Errors
    /// When there are no threads for it.
    pub(crate) fn start() -> io::Result<Net> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let processes = Processes::default();
        let shared = Arc::new(Shared {
            table: watch::Sender::new(Table::new()),
            finder: Finder::start(Arc::clone(&processes))?,
            processes,
        });
        Ok(Net {
            shared,
            addresses: BTreeMap::new(),
            runtime,
        })
    }

    /// A proxy in front of a node with these true addresses.
    ///
    /// # Errors
    /// When there are no ports for it.
    pub(crate) fn add(&mut self, node: u64, real: Proxied) -> io::Result<()> {
        let before = |real| self.runtime.block_on(listen(&self.shared, node, real));
        let proxied = Proxied {
            peer: before(real.peer)?,
            client: before(real.client)?,
        };
        self.addresses.insert(node, proxied);
        Ok(())
    }

    /// Where others reach a node.
    pub(crate) fn address(&self, node: u64) -> Proxied {
        self.addresses[&node]
    }

    /// A node has another process now.
    pub(crate) fn set_process(&self, node: u64, process: u32) {
        lock(&self.shared.processes).insert(node, process);
    }

    /// Changes directions.
    pub(crate) fn change(&self, directions: &[(u64, u64)], to: impl Fn(&mut Quality)) {
        self.shared.table.send_modify(|table| {
            for direction in directions {
                to(table.entry(*direction).or_default());
            }
        });
    }

    /// Makes directions whole again. What was held comes late, or is lost with its connections.
    pub(crate) fn heal(&self, directions: &[(u64, u64)], is_lost: bool) {
        self.change(directions, |quality| {
            let generation = quality.generation + u64::from(is_lost);
            *quality = Quality {
                generation,
                ..Quality::default()
            };
        });
    }

    /// Makes everything whole.
    pub(crate) fn heal_all(&self) {
        self.shared.table.send_modify(|table| {
            for quality in table.values_mut() {
                *quality = Quality {
                    generation: quality.generation,
                    ..Quality::default()
                };
            }
        });
    }
}

/// Listens in front of `to`, whose true address is `real`.
async fn listen(shared: &Arc<Shared>, to: u64, real: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            // However it ends, both connections end with it.
            tokio::spawn(pass(stream, from, Arc::clone(&shared), to, real));
        }
    });
    Ok(address)
}

async fn pass(
    stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    to: u64,
    real: SocketAddr,
) -> io::Result<()> {
    let own = stream.local_addr()?;
    // Whoever is gone already will not be missed.
    let Some(from) = shared.finder.find(from, own).await else {
        return Ok(());
    };
    stream.set_nodelay(true)?;
    let node = TcpStream::connect(real).await?;
    node.set_nodelay(true)?;
    let ((client_in, client_out), (node_in, node_out)) = (stream.into_split(), node.into_split());
    let table = || shared.table.subscribe();
    tokio::select! {
        ended = pipe::run(client_in, node_out, (from, to), table()) => ended,
        ended = pipe::run(node_in, client_out, (to, from), table()) => ended,
    }
}
