//! What peers ask of this node: bytes in, bytes out. The listener is in `http`.
//!
//! A request is decoded ([`super::wire`]), held against this node's identity (`fence`), for votes and transfers held
//! against the vote gate, and only then handed to the core. Whatever is refused is refused with its reason, which the
//! asker logs; this node logs it once.

mod fence;
mod fetch;
mod serve;
mod snapshot;
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::storage::RaftStateMachine;
use tokio::io::{AsyncRead, AsyncWrite};

use super::context::PeerContext;
use super::types::{SnapshotData, Types};

use super::wire::ANSWER_LEN_MAX;
pub(crate) use super::wire::FRAME_LEN_MAX;

/// What is asked, named in the path of its request. All but [`Call::Snapshot`] are answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Who are you; asked before a cluster is formed.
    Hello,
    /// Join the cluster being formed.
    Adopt,
    /// Heartbeats and appends outside the stream.
    Append,
    /// Vote.
    Vote,
    /// Would you vote.
    PreVote,
    /// Take over leadership.
    Transfer,
    /// Where were you with which digest.
    Marks,
    /// Give a snapshot, piece by piece, to a node that has no state to start from.
    Fetch,
    /// Take a snapshot: on a connection of its own, so that nothing waits behind it.
    Snapshot,
}

impl Call {
    /// Every call with one answer.
    pub const ALL: [Call; 8] = [
        Call::Hello,
        Call::Adopt,
        Call::Append,
        Call::Vote,
        Call::PreVote,
        Call::Transfer,
        Call::Marks,
        Call::Fetch,
    ];

    /// Where it is answered.
    pub fn path(self) -> &'static str {
        match self {
            Call::Hello => "/raft/hello",
            Call::Adopt => "/raft/adopt",
            Call::Append => "/raft/append",
            Call::Vote => "/raft/vote",
            Call::PreVote => "/raft/pre-vote",
            Call::Transfer => "/raft/transfer",
            Call::Marks => "/raft/marks",
            Call::Fetch => "/raft/fetch",
            Call::Snapshot => SNAPSHOT_PATH,
        }
    }

    /// Largest answer to it, in bytes.
    pub(crate) fn answer_len_max(self) -> usize {
        match self {
            Call::Fetch => FRAME_LEN_MAX,
            _ => ANSWER_LEN_MAX,
        }
    }
}

/// Where an append stream is opened.
pub const STREAM_PATH: &str = "/raft/stream";
/// What the connection of an append stream is upgraded to.
pub const STREAM_PROTOCOL: &str = "quorate-stream";
/// Where a snapshot is sent.
pub const SNAPSHOT_PATH: &str = "/raft/snapshot";
/// What the connection of a snapshot is upgraded to.
pub const SNAPSHOT_PROTOCOL: &str = "quorate-snapshot";
/// Largest body of a unary call, in bytes.
pub const CALL_LEN_MAX: usize = FRAME_LEN_MAX;

/// Why a call failed, as text for the peer's log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PeerError(pub String);

/// Handle that answers peers; clones share it.
#[derive(Clone)]
pub struct Peer {
    server: Arc<dyn Serve>,
}

/// Both directions of an upgraded connection.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// [`Peer`] without the type of the core's state machine.
trait Serve: Send + Sync {
    fn call(&self, call: Call, body: Bytes) -> BoxFuture<'_, Result<Bytes, PeerError>>;

    fn stream(&self, io: Box<dyn Duplex>) -> BoxFuture<'_, Result<(), PeerError>>;

    fn snapshot(&self, io: Box<dyn Duplex>) -> BoxFuture<'_, Result<(), PeerError>>;
}

impl Peer {
    /// Answers for the node of `context`.
    pub(crate) fn new<SM>(context: Arc<PeerContext<SM>>) -> Peer
    where
        SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
    {
        Peer {
            server: Arc::new(serve::Server::new(context)),
        }
    }

    /// Answers one unary call.
    ///
    /// # Errors
    /// If the request is malformed or refused; the text says why.
    pub async fn call(&self, call: Call, body: Bytes) -> Result<Bytes, PeerError> {
        self.server.call(call, body).await
    }

    /// Serves an append stream on an upgraded connection until it ends: length-delimited frames both ways.
    ///
    /// # Errors
    /// If it ended otherwise than by the peer closing it between two requests; the text says why.
    pub async fn stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        io: S,
    ) -> Result<(), PeerError> {
        self.server.stream(Box::new(io)).await
    }

    /// Takes a snapshot on an upgraded connection: verified, installed and answered when it returns.
    ///
    /// # Errors
    /// If it is refused or did not arrive; the text says why. What arrived is kept for the next attempt.
    pub async fn snapshot<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        io: S,
    ) -> Result<(), PeerError> {
        self.server.snapshot(Box::new(io)).await
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
