//! A network inside one process, that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::Future;
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

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::codec::FramedRead;

use crate::raft::context::PeerContext;
use crate::raft::form::UnaryCall;
use crate::raft::network::send_snapshot;
use crate::raft::snapshots::SnapshotDir;
use crate::raft::types::{Raft, RaftSnapshot, RaftVote, SnapshotData, Types};
use crate::raft::wire::{self, Header, id_bytes};
use crate::raft::{Call, Member, Peer, convert, handshake};
use crate::storage::Vote;

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Arc<PeerContext>>,
    cuts: BTreeSet<(u64, u64)>,
    /// After so many bytes the connection of a snapshot breaks.
    break_after: Option<usize>,
    /// The byte at this place of the next snapshot's connection is changed.
    flip_at: Option<usize>,
    /// Why snapshots did not arrive.
    failures: Vec<String>,
}

/// The network; clones are the same.
#[derive(Clone, Default)]
pub(super) struct TestNet {
    wires: Arc<Mutex<Wires>>,
}

/// How `id` is reached.
pub(super) fn member(id: u64) -> Member {
    Member {
        peer_addr: format!("node{id}:1"),
        client_url: format!("http://node{id}:2"),
        ..Member::default()
    }
}

impl TestNet {
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

    /// The connection of a snapshot breaks after so many bytes from now on, if any are given.
    pub(super) fn break_after(&self, bytes: Option<usize>) {
        self.wires.lock().unwrap().break_after = bytes;
    }

    /// Changes one byte on the way of the next snapshot.
    pub(super) fn flip_at(&self, place: usize) {
        self.wires.lock().unwrap().flip_at = Some(place);
    }

    /// Why snapshots did not arrive so far.
    pub(super) fn failures(&self) -> Vec<String> {
        self.wires.lock().unwrap().failures.clone()
    }

    /// Whether `bytes`, after `before` others, get through.
    fn carry(&self, (from, to): (u64, u64), before: usize, bytes: &mut [u8]) -> bool {
        let mut wires = self.wires.lock().unwrap();
        let end = before + bytes.len();
        if wires.cuts.contains(&(from, to)) || wires.break_after.is_some_and(|after| end > after) {
            return false;
        }
        if let Some(place) = wires.flip_at.take_if(|place| (before..end).contains(place)) {
            bytes[place - before] ^= 1;
        }
        true
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
            Box::pin(async move { net.answer(from, &addr, call, body).await })
        })
    }

    async fn answer(
        &self,
        from: u64,
        addr: &str,
        call: Call,
        body: Bytes,
    ) -> Result<Bytes, String> {
        let to = addr.trim_start_matches("node").trim_end_matches(":1");
        let context = self.reach(from, to.parse().map_err(|_| "no such host")?)?;
        let decoded = "the caller encodes what is decoded here";
        let bytes = match call {
            Call::Hello => postcard::to_stdvec(&handshake::answer_hello(
                &context,
                &postcard::from_bytes(&body).expect(decoded),
            )?),
            Call::Adopt => postcard::to_stdvec(&handshake::answer_adopt(
                &context,
                &postcard::from_bytes(&body).expect(decoded),
            )),
            Call::Fetch | Call::Marks => {
                let answered = Peer::new(context).call(call, body).await;
                return answered.map_err(|error| error.0);
            }
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
    /// The data directory that the membership says the peer has.
    uuid: String,
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, member: &Member) -> Connection {
        Connection {
            net: self.net.clone(),
            from: self.from,
            to: target,
            uuid: member.uuid.clone(),
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
        if !self.uuid.is_empty() && context.dir.identity().node_uuid != self.uuid {
            return Err(lost("the peer has another data directory"));
        }
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
        me.vitals.hear(self.to, sent, there.vitals.signs());
        answer.map_err(lost)
    }
}

impl Connection {
    async fn send_snapshot(&self, vote: Vote, snapshot: &SnapshotDir) -> Result<Vote, String> {
        let there = self.net.reach(self.from, self.to)?;
        let here = self.net.reach(self.to, self.from)?;
        let me = here.dir.identity();
        let header = Header {
            call: Call::Snapshot,
            cluster: id_bytes(&me.cluster_id.unwrap()).unwrap(),
            from: self.from,
            from_uuid: id_bytes(&me.node_uuid).unwrap(),
            boot: here.dir.boot(),
            to_uuid: [0; 16],
            to: self.to,
            vote,
            seq: 0,
        };
        let (near, left) = tokio::io::duplex(PIPE);
        let (right, far) = tokio::io::duplex(PIPE);
        tokio::spawn(async move { Peer::new(there).snapshot(far).await });
        tokio::spawn(pump(self.net.clone(), (self.from, self.to), left, right));
        let (read, write) = tokio::io::split(near);
        let halves = (FramedRead::new(read, wire::codec()), write);
        let options = &here.options.snapshots;
        let sent = send_snapshot(halves, header, snapshot, options);
        sent.await.map_err(|error| error.to_string())
    }
}

/// Bytes that a wire holds.
const PIPE: usize = 64 << 10;

/// Carries bytes both ways until the wire is cut.
async fn pump(net: TestNet, ends: (u64, u64), left: DuplexStream, right: DuplexStream) {
    let (mut from_left, mut to_left) = tokio::io::split(left);
    let (mut from_right, mut to_right) = tokio::io::split(right);
    let out = async {
        let mut buffer = vec![0; PIPE];
        let mut carried = 0;
        loop {
            let len = from_left.read(&mut buffer).await?;
            let bytes = &mut buffer[..len];
            if len == 0 || !net.carry(ends, carried, bytes) {
                return Ok::<(), std::io::Error>(());
            }
            to_right.write_all(bytes).await?;
            carried += len;
        }
    };
    let back = tokio::io::copy(&mut from_right, &mut to_left);
    tokio::select! {
        _ = out => {}
        _ = back => {}
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

    /// By the real protocol, over a wire that can be cut and changes bytes.
    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sent = tokio::select! {
            sent = self.send_snapshot(convert::vote(&vote), &snapshot.snapshot) => sent,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        sent.map(|vote| SnapshotResponse::new(convert::raft_vote(vote)))
            .map_err(|why| {
                self.net.wires.lock().unwrap().failures.push(why.clone());
                StreamingError::Unreachable(Unreachable::from_string(why))
            })
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
