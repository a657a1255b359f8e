//! A network inside one process, that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::raft::context::PeerContext;
use crate::raft::form::UnaryCall;
use crate::raft::handshake;
use crate::raft::types::{Raft, RaftSnapshot, RaftVote, SnapshotData, SnapshotDir, Types};
use crate::raft::{Call, Member};

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Arc<PeerContext>>,
    cuts: BTreeSet<(u64, u64)>,
}

/// The network; clones are the same.
#[derive(Clone, Default)]
pub(super) struct TestNet {
    wires: Arc<Mutex<Wires>>,
    staging: PathBuf,
}

/// How `id` is reached.
pub(super) fn member(id: u64) -> Member {
    Member {
        peer_addr: format!("node{id}:1"),
        client_url: format!("http://node{id}:2"),
    }
}

impl TestNet {
    pub(super) fn new(staging: PathBuf) -> TestNet {
        TestNet {
            wires: Arc::default(),
            staging,
        }
    }

    /// Connects a node that started.
    pub(super) fn join(&self, id: u64, context: Arc<PeerContext>) {
        self.wires.lock().unwrap().nodes.insert(id, context);
    }

    /// Takes a node that stopped away.
    pub(super) fn leave(&self, id: u64) {
        self.wires.lock().unwrap().nodes.remove(&id);
    }

    /// Nothing passes between `a` and `b` any more, in either direction.
    pub(super) fn cut(&self, a: u64, b: u64) {
        self.wires.lock().unwrap().cuts.extend([(a, b), (b, a)]);
    }

    /// Everything passes again.
    pub(super) fn heal(&self) {
        self.wires.lock().unwrap().cuts.clear();
    }

    /// What a node started with this network uses.
    pub(super) fn of(&self, from: u64) -> Factory {
        Factory {
            net: self.clone(),
            from,
        }
    }

    /// Calls before there is a cluster.
    pub(super) fn unary(&self, from: u64) -> UnaryCall {
        let net = self.clone();
        Arc::new(move |addr, call, body| {
            let net = net.clone();
            Box::pin(async move { net.answer(from, &addr, call, &body) })
        })
    }

    fn answer(&self, from: u64, addr: &str, call: Call, body: &Bytes) -> Result<Bytes, String> {
        let to = addr.trim_start_matches("node").trim_end_matches(":1");
        let context = self.reach(from, to.parse().map_err(|_| "no such host")?)?;
        let decoded = "the caller encodes what is decoded here";
        let bytes = match call {
            Call::Hello => postcard::to_stdvec(&handshake::answer_hello(
                &context,
                &postcard::from_bytes(body).expect(decoded),
            )?),
            Call::Adopt => postcard::to_stdvec(&handshake::answer_adopt(
                &context,
                &postcard::from_bytes(body).expect(decoded),
            )),
            other => panic!("{other:?} is not sent before there is a cluster"),
        };
        Ok(bytes.unwrap().into())
    }

    fn reach(&self, from: u64, to: u64) -> Result<Arc<PeerContext>, String> {
        let wires = self.wires.lock().unwrap();
        if wires.cuts.contains(&(from, to)) {
            return Err("the wire is cut".to_owned());
        }
        let node = wires.nodes.get(&to);
        node.cloned().ok_or_else(|| "the node is down".to_owned())
    }
}

/// Makes connections of one node.
pub(super) struct Factory {
    net: TestNet,
    from: u64,
}

/// A connection to one peer.
pub(super) struct Connection {
    net: TestNet,
    from: u64,
    to: u64,
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _: &Member) -> Connection {
        Connection {
            net: self.net.clone(),
            from: self.from,
            to: target,
        }
    }
}

fn lost(why: impl Display) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(why.to_string()))
}

impl Connection {
    /// The peer, if the request gets there.
    fn there(&self) -> Result<(Raft, Arc<PeerContext>), RPCError<Types>> {
        let context = self.net.reach(self.from, self.to).map_err(lost)?;
        let raft = context.raft().map_err(lost)?.clone();
        Ok((raft, context))
    }

    /// What the peer says to requests that could make a leader.
    fn gated(&self) -> Result<Raft, RPCError<Types>> {
        let (raft, context) = self.there()?;
        context.gate.check().map_err(lost)?;
        Ok(raft)
    }

    /// The answer to what was sent at `sent`, if it gets back, and with it what the peer's clock shows.
    fn back<T, E: Display>(
        &self,
        sent: Instant,
        answer: Result<T, E>,
    ) -> Result<T, RPCError<Types>> {
        let (_, there) = self.there()?;
        let me = self.net.reach(self.to, self.from).map_err(lost)?;
        me.clocks.hear(self.to, sent, there.clocks.wall_ns());
        answer.map_err(lost)
    }
}

impl RaftNetworkV2<Types> for Connection {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (raft, _) = self.there()?;
        let sent = Instant::now();
        let answer = raft.append_entries(request).await;
        self.back(sent, answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = Instant::now();
        let answer = self.gated()?.vote(request).await;
        self.back(sent, answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = Instant::now();
        let answer = self.gated()?.pre_vote(request).await;
        self.back(sent, answer)
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let fail = |why: String| StreamingError::Unreachable(Unreachable::from_string(why));
        let (raft, _) = self.there().map_err(|error| fail(error.to_string()))?;
        let path = self
            .net
            .staging
            .join(format!("{}-{}", self.to, snapshot.meta));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        for file in std::fs::read_dir(&snapshot.snapshot.path).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), path.join(file.file_name())).unwrap();
        }
        let copy = RaftSnapshot {
            meta: snapshot.meta,
            snapshot: Arc::new(SnapshotDir { path }),
        };
        let answer = raft.install_full_snapshot(vote, copy).await;
        answer.map_err(|fatal| fail(fatal.to_string()))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let sent = Instant::now();
        let answer = self.gated()?.handle_transfer_leader(request).await;
        self.back(sent, answer)
    }
}
