//! What this node asks of its peers: openraft's network, over our own protocol.
//!
//! Per peer and purpose openraft gets a [`Link`]: replication has one append stream (`stream`), a snapshot a connection for
//! itself (`snapshot`), everything else (heartbeats, votes, transfers) a keep-alive connection of its own per link (`unary`), so
//! that a heartbeat never waits behind four megabytes of entries. A link connects when it is used and again when the connection is lost.
//!
//! Errors: whatever says that the peer is not to be had right now (no connection, no answer while a stream is expected to
//! move, a refusal) is `Unreachable`, on which openraft backs off; an established connection that breaks is `Network`,
//! tried again at once; a unary request without an answer in time is `Timeout`.

mod connect;
mod link;
mod snapshot;
mod stream;
mod unary;
mod window;

#[cfg(test)]
pub(crate) mod scenarios;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::RaftNetworkFactory;
use openraft::async_runtime::watch::WatchReceiver;

pub(crate) use connect::{Connect, Lane, Tcp};
pub(crate) use link::Link;
#[cfg(test)]
pub(crate) use snapshot::send as send_snapshot;
pub(crate) use unary::CallError;

use super::context::PeerContext;
use super::noise::Noise;
use super::peer::Call;
use super::types::Types;
use super::vitals::Vitals;
use super::wire::{self, Header};
use super::{Member, Options, SnapshotOptions};
use crate::storage::Vote;
use crate::storage::identity::DataDir;

/// How long a call outside a cluster (hello, adopt) may take, connecting included.
const UNARY_CALL_WITHIN: Duration = Duration::from_secs(5);

/// Openraft's network: makes a link per peer and purpose.
#[derive(Clone)]
pub(crate) struct Network<C = Tcp> {
    shared: Arc<Shared<C>>,
}

/// What all links of a node share.
struct Shared<C> {
    dir: Arc<DataDir>,
    heartbeat: Duration,
    snapshots: SnapshotOptions,
    connect: C,
    noise: Noise,
    /// Told what those who answer say of themselves.
    vitals: Vitals,
    /// Looks a member up, once there is a core to know it.
    book: OnceLock<Book>,
}

/// How members are looked up.
type Book = Box<dyn Fn(u64) -> Option<Member> + Send + Sync>;

impl Network<Tcp> {
    /// The network over TCP of the node whose directory is `dir`.
    pub(crate) fn new(dir: Arc<DataDir>, options: &Options, vitals: Vitals) -> Network<Tcp> {
        Network::with_connect(dir, options, vitals, Tcp)
    }
}

impl<C: Connect> Network<C> {
    /// A network over whatever `connect` connects.
    pub(crate) fn with_connect(
        dir: Arc<DataDir>,
        options: &Options,
        vitals: Vitals,
        connect: C,
    ) -> Network<C> {
        Network {
            shared: Arc::new(Shared {
                dir,
                heartbeat: options.heartbeat,
                snapshots: options.snapshots,
                connect,
                noise: Noise::default(),
                vitals,
                book: OnceLock::new(),
            }),
        }
    }

    /// The same, looking members up in what the core of `context` knows: openraft keeps a link for as long as a member stays one,
    /// also when it is reached elsewhere.
    pub(crate) fn knowing(self, context: &Arc<PeerContext>) -> Network<C> {
        // Weak, since the core holds the network.
        let context = Arc::downgrade(context);
        let look_up = move |id| {
            let context = context.upgrade()?;
            let server = context.raft().ok()?.server_metrics();
            server
                .borrow_watched()
                .membership_config
                .get_node(&id)
                .cloned()
        };
        let set = self.shared.book.set(Box::new(look_up));
        assert!(set.is_ok(), "a network has one core");
        self
    }

    fn link(&self, target: u64, member: &Member, lane: Lane) -> Link<C> {
        Link::new(Arc::clone(&self.shared), target, member, lane)
    }
}

impl<C: Connect> RaftNetworkFactory<Types> for Network<C> {
    type Network = Link<C>;

    async fn new_client(&mut self, target: u64, member: &Member) -> Link<C> {
        self.link(target, member, Lane::Stream)
    }

    async fn new_heartbeat_client(&mut self, target: u64, member: &Member) -> Link<C> {
        self.link(target, member, Lane::Unary)
    }

    async fn new_snapshot_client(&mut self, target: u64, member: &Member) -> Link<C> {
        self.link(target, member, Lane::Snapshot)
    }
}

impl<C> Shared<C> {
    /// Member `id` as the core knows it now.
    fn member(&self, id: u64) -> Option<Member> {
        self.book.get()?(id)
    }

    /// The header of a request to `to` under `vote`. Read from the identity each time a connection is opened: the cluster id is
    /// not there before the cluster is formed.
    fn header(&self, call: Call, to: u64, vote: Vote) -> Result<Header, String> {
        let me = self.dir.identity();
        let cluster = me.cluster_id.as_deref();
        let cluster = cluster.ok_or("this node belongs to no cluster yet")?;
        if let Some(why) = self.vitals.heard.refuses(to) {
            return Err(why);
        }
        Ok(Header {
            call,
            cluster: wire::id_bytes(cluster)?,
            from: me.node_id,
            from_uuid: wire::id_bytes(&me.node_uuid)?,
            boot: self.dir.boot(),
            to,
            to_uuid: wire::known_id(&self.member(to).unwrap_or_default().uuid)?,
            vote,
            seq: 0,
        })
    }
}

/// Sends one call to the node at `addr` (`host:port`) on a connection of its own: what a node says to others before they
/// share a cluster.
///
/// # Errors
/// If the node cannot be reached within five seconds, or refuses; the text says which.
pub(crate) async fn unary_call(addr: &str, call: Call, body: Bytes) -> Result<Bytes, CallError> {
    unary_call_over(&Tcp, addr, call, body, UNARY_CALL_WITHIN).await
}

/// [`unary_call`] over any kind of connection, answered within `limit`.
pub(crate) async fn unary_call_over<C: Connect>(
    connect: &C,
    addr: &str,
    call: Call,
    body: Bytes,
    limit: Duration,
) -> Result<Bytes, CallError> {
    let mut unary = unary::Unary::default();
    unary.call(connect, addr, call, body, limit).await
}
