//! A node: opens storage, starts consensus, serves both listeners, and stops in an order that fails no request.
//!
//! Stopping (SIGTERM, SIGINT, or removal from the cluster): not ready any more, so that load balancers look elsewhere; leadership handed to another
//! node; no new connections, each answer asking its client to close; idle connections closed, busy ones answered;
//! consensus stopped and the state sealed; the peer listener closed. A second signal ends the process at once, which is safe:
//! whatever was acknowledged is on the disks of a majority.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::Service;

use crate::config::{Config, Layout, Stop};
use crate::http::listener::{self, Phase};
use crate::http::{App, Edge, Front, peer};
use crate::raft;
use crate::storage::identity::DataDir;
use signals::Signals;

mod allocator;
mod remains;
mod restore;
mod signals;

pub use allocator::tune_allocator;
pub use remains::{Remains, remains};
pub use restore::{Restored, restore};

/// How often a running node looks whether its core has failed.
const FAULT_CHECK: Duration = Duration::from_millis(500);

/// How long threads may still be at work once a node has stopped, or was stopped while it started. Whatever had to be finished is, or
/// was given up with an error: what is left waits for a disk, which may be for ever.
const REST: Duration = Duration::from_secs(2);

/// Runs a node until a signal or a fault ends it.
///
/// # Errors
/// If it cannot start, its core fails, or it cannot stop cleanly.
pub fn serve(config: Config) -> anyhow::Result<()> {
    config.check()?;
    raise_open_files(files_needed(&config))?;
    let threads = config.threads;
    let main = runtime("quorate", threads.workers)?;
    let clients = match threads.layout {
        Layout::Shared => None,
        Layout::Separate => Some(runtime("quorate-client", threads.client_workers)?),
    };
    let client_handle = clients
        .as_ref()
        .map_or_else(|| main.handle().clone(), |r| r.handle().clone());
    let ended = main.block_on(run(config, client_handle, Signals::listen()?));
    // Dropped, they would wait for such threads without end.
    for runtime in [Some(main), clients].into_iter().flatten() {
        runtime.shutdown_timeout(REST);
    }
    ended
}

/// Files that a node opens besides connections: the log, the state, itself.
const FILES: u64 = 1024;

fn files_needed(config: &Config) -> u64 {
    // Each of the farewells to those turned away is one more, and so is each connection to the leader.
    let connections = 2 * config.clients.connections_max + config.peers.connections_max;
    FILES.saturating_add(u64::try_from(connections).unwrap_or(u64::MAX))
}

/// Lets this process open `needed` files at once, and as many more as the system grants it: a state has the more files the larger it
/// is. Out of files, a node could not write its state, and would stop.
///
/// # Errors
/// If the system's hard limit is lower.
pub fn raise_open_files(needed: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (
        limit.current.unwrap_or(u64::MAX),
        limit.maximum.unwrap_or(u64::MAX),
    );
    if soft.max(hard) < needed {
        bail!(
            "up to {needed} files may have to be open at once, for twice connections_max, peer_connections_max and {FILES} \
             more, but the limit is {hard}: raise it (ulimit -Hn, LimitNOFILE=) or lower those settings"
        );
    }
    if soft >= hard {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("raising the limit of open files")
}

fn runtime(name: &str, workers: usize) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().thread_name(name);
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.build().context("starting threads")
}

async fn run(config: Config, clients: Handle, mut signals: Signals) -> anyhow::Result<()> {
    // A start may take long, if the state has to come from a peer.
    let node = tokio::select! {
        node = Node::start(config, &clients) => node?,
        name = signals.first() => bail!("stopped by {name} while it was starting"),
    };
    let name = tokio::select! {
        name = signals.first() => name,
        fault = node.failed() => bail!("the core of this node failed: {fault}"),
        // Said in the log already. It ends in good order: nothing is wrong with it.
        () = node.removed() => "removed from the cluster",
    };
    tracing::info!("{name}: stopping; another signal ends this process at once");
    node.stop().await
}

/// A running node.
pub struct Node {
    /// Where clients are served.
    pub client_addr: SocketAddr,
    /// Where peers are served.
    pub peer_addr: SocketAddr,
    raft: raft::Client,
    client_phase: watch::Sender<Phase>,
    peer_phase: watch::Sender<Phase>,
    client_task: JoinHandle<()>,
    peer_task: JoinHandle<()>,
    stop: Stop,
}

impl Node {
    /// Starts a node on this runtime, serving clients on `clients`.
    ///
    /// # Errors
    /// If an address is taken, or storage cannot be opened or recovered.
    pub async fn start(config: Config, clients: &Handle) -> anyhow::Result<Node> {
        config.check()?;
        // Bound before storage is opened: a taken address is the commonest mistake, and recovery may take long.
        let client_listener = bind(config.listen, "--listen").await?;
        let peer_listener = bind(config.peer_listen, "--peer-listen").await?;
        let (client_addr, peer_addr) = (client_listener.local_addr()?, peer_listener.local_addr()?);
        let member = config.member(client_addr, peer_addr)?;
        let (stage, staged) = watch::channel("it opens its data directory");
        let memory_budget_bytes = config.memory_budget_bytes();
        let requests = Arc::new(config.requests);
        let front = Arc::new(Front::new(config.node_id, staged, requests.clone()));
        let (client_phase, client_follow) = watch::channel(Phase::Serving);
        // Serves from here on, so that nobody takes a node that starts for dead. Ends with its phase, should the start fail.
        let client_task = clients.spawn(serve_clients(
            client_listener,
            front.clone(),
            config.clients,
            client_follow.clone(),
        ));
        let dir = Arc::new(DataDir::open(&config.data_dir, config.node_id)?);
        let silence_max = config.raft.election_max * 2;
        let options = config.raft.clone();
        let (client, peer) = raft::start(
            dir,
            config.log,
            config.state,
            options,
            member.clone(),
            &stage,
        )
        .await?;

        let (peer_phase, peer_follow) = watch::channel(Phase::Serving);
        let peer_task = tokio::spawn(serve_peers(peer_listener, peer, config.peers, peer_follow));
        let app = App {
            raft: client.clone(),
            phase: client_follow,
            silence_max,
            limits: requests,
            memory_budget_bytes,
        };
        front.open(Edge::new(app));
        tracing::info!(
            node = config.node_id,
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %config.data_dir.display(),
            "serving clients at {} and peers at {}",
            member.client_url,
            member.peer_addr,
        );
        let stop = config.stop;
        Ok(Node {
            client_addr,
            peer_addr,
            raft: client,
            client_phase,
            peer_phase,
            client_task,
            peer_task,
            stop,
        })
    }

    /// Waits until its core has failed, and says why.
    pub async fn failed(&self) -> String {
        loop {
            if let Some(fault) = self.raft.status().fault {
                return fault;
            }
            tokio::time::sleep(FAULT_CHECK).await;
        }
    }

    /// Waits until it is certainly no member of its cluster any more.
    pub async fn removed(&self) {
        while self.raft.status().removed.is_none() {
            tokio::time::sleep(FAULT_CHECK).await;
        }
    }

    /// Stops: see the order at the top.
    ///
    /// # Errors
    /// If the state could not be sealed. Nothing acknowledged is lost: the log has it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.client_phase.send_replace(Phase::Draining);
        let until = Instant::now() + self.stop.hand_over;
        if let Err(why) = self.raft.hand_over(until).await {
            tracing::warn!("leadership stays here until the end: {why}");
        }
        self.client_phase.send_replace(Phase::Closing);
        if timeout(self.stop.polite, &mut self.client_task)
            .await
            .is_err()
        {
            self.client_phase.send_replace(Phase::Closed);
            if timeout(self.stop.drain, &mut self.client_task)
                .await
                .is_err()
            {
                tracing::warn!("clients still wait for answers: they get none from this node");
                self.client_task.abort();
            }
        }
        let sealed = self
            .raft
            .shutdown(Instant::now() + self.stop.shutdown)
            .await;
        self.peer_phase.send_replace(Phase::Closing);
        self.peer_phase.send_replace(Phase::Closed);
        if timeout(self.stop.polite, &mut self.peer_task)
            .await
            .is_err()
        {
            self.peer_task.abort();
        }
        sealed.context("stopping consensus")?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag} {address}"))
}

async fn serve_clients(
    listener: TcpListener,
    front: Arc<Front>,
    limits: listener::Limits,
    phase: watch::Receiver<Phase>,
) {
    let (refusing, measuring) = (front.clone(), front.clone());
    let refuse: listener::Refuse = Arc::new(move |refused| refusing.refuse(refused));
    let service = service_fn(move |request: Request<Incoming>| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(front.answer(request).await) }
    });
    tokio::select! {
        () = listener::serve(listener, service, limits, Some(refuse), phase) => {}
        never = measuring.measure_lag() => match never {},
    }
}

async fn serve_peers(
    listener: TcpListener,
    peer: raft::Peer,
    limits: listener::Limits,
    phase: watch::Receiver<Phase>,
) {
    let router = peer::router(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        router.call(request)
    });
    listener::serve(listener, service, limits, None, phase).await;
}
