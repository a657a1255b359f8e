//! A proxy in front of every node, which knows who is connected. No privileges needed.
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

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::owner::{Finder, Processes};
use super::{Addresses, Backend, Place, Quality, Table};
use crate::harness::world::lock;

/// How late a piece is whose packet was lost.
const SPIKE: Duration = Duration::from_millis(200);

/// What all connections share.
struct Shared {
    table: watch::Sender<Table>,
    processes: Processes,
    finder: Finder,
}

/// The proxies.
pub(super) struct Proxies {
    shared: Arc<Shared>,
    /// Its threads.
    runtime: Runtime,
}

impl Proxies {
    /// None yet.
    ///
    /// # Errors
    /// When there are no threads for them.
    pub(super) fn start() -> io::Result<Proxies> {
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
        Ok(Proxies { shared, runtime })
    }
}

impl Backend for Proxies {
    fn add(&mut self, node: u64, own: Addresses) -> anyhow::Result<Place> {
        let before = |real| self.runtime.block_on(listen(&self.shared, node, real));
        let reached = Addresses {
            peer: before(own.peer)?,
            client: before(own.client)?,
        };
        Ok(Place {
            listens: own,
            reached,
        })
    }

    fn apply(&self, table: &Table) -> anyhow::Result<()> {
        self.shared.table.send_replace(table.clone());
        Ok(())
    }

    fn set_process(&self, node: u64, process: u32) {
        lock(&self.shared.processes).insert(node, process);
    }

    fn can_delay(&self) -> bool {
        true
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
