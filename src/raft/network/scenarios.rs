//! What must hold between peers, over real sockets. Run by the tests of the peer listener, which bring it as `serve`.

mod calls;
mod refusals;
mod replication;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::errors::RPCError;
use openraft::metrics::RaftMetrics;
use openraft::network::RPCOption;
use openraft::network::v2::RaftNetworkV2;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, TransferLeaderRequest, VoteRequest};
use openraft::{EntryPayload, RaftNetworkFactory, ServerState};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::testing::*;
use crate::raft::types::{RaftEntry, RaftMembership, RaftVote};
use crate::raft::vitals::Vitals;
use crate::raft::wire::HEADER_LEN;
use crate::raft::{Call, Member, Peer, convert, handshake};
use crate::storage::{LogId, Vote};

pub(crate) use calls::*;
pub(crate) use refusals::*;
pub(crate) use replication::*;
pub(crate) use snapshots::*;

/// Serves peers on a listener, in a task of its own.
pub(crate) type Serve = fn(TcpListener, Peer);

const OTHER_CLUSTER: &str = "ffeeddccbbaa99887766554433221100";
/// For whatever must come soon; long, since the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

fn ttl() -> RPCOption {
    RPCOption::new(Duration::from_secs(20))
}

fn leader_vote(term: u64, node: u64) -> RaftVote {
    convert::raft_vote(Vote {
        term,
        node,
        committed: true,
    })
}

fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId { term, node, index }
}

/// An append of node 1, which leads in term 1, of `count` entries with bodies of `len` bytes from index `from` on.
fn append(from: u64, count: u64, len: usize) -> AppendEntriesRequest<Types> {
    let entry = |index: u64| {
        let mut body = vec![0; len.max(8)];
        body[..8].copy_from_slice(&index.to_le_bytes());
        entry(
            log_id(1, 1, index),
            EntryPayload::Normal(Commands(body.into())),
        )
    };
    AppendEntriesRequest {
        vote: leader_vote(1, 1),
        prev_log_id: from
            .checked_sub(1)
            .map(|i| convert::raft_log_id(log_id(1, 1, i))),
        entries: (from..from + count).map(entry).collect(),
        leader_commit: None,
    }
}

fn entry(id: LogId, payload: EntryPayload<Commands, u64, Member>) -> RaftEntry {
    RaftEntry {
        log_id: convert::raft_log_id(id),
        payload,
    }
}

/// A node that never stands for election.
async fn follower(id: u64, serve: Serve) -> Arc<Node> {
    let node = Node::start(id, Gate::open(), serve).await;
    node.raft.runtime_config().elect(false);
    node
}

async fn cluster(serve: Serve) -> Vec<Arc<Node>> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, Gate::open(), serve).await);
    }
    let members = nodes.iter().map(|node| (node.id, member(&node.addr)));
    let members: BTreeMap<_, _> = members.collect();
    nodes[0].raft.initialize(members).await.unwrap();
    leads(&nodes[0]).await;
    nodes
}

/// Waits until `node` leads and a quorum has said so: before, it takes no writes.
async fn leads(node: &Node) {
    let confirmed = |now: &RaftMetrics<Types>| {
        now.state == ServerState::Leader && now.last_quorum_acked.is_some()
    };
    node.raft
        .wait(Some(SOON))
        .metrics(confirmed, "leads")
        .await
        .unwrap();
}

async fn shutdown(nodes: &[Arc<Node>]) {
    for node in nodes {
        node.raft.shutdown().await.unwrap();
    }
}

async fn write(node: &Node, numbers: std::ops::Range<u64>) {
    let writes = stream::iter(numbers).map(|number| {
        let body = Bytes::copy_from_slice(&number.to_le_bytes());
        node.raft.client_write(Commands(body))
    });
    let done = writes.buffered(512).for_each(|written| async {
        written.unwrap();
    });
    timeout(SOON * 2, done).await.expect("written in time");
}

/// One answered append, after which the stream stays open.
async fn open_stream<'s, C: Connect>(
    link: &'s mut Link<C>,
    request: AppendEntriesRequest<Types>,
) -> impl Stream<Item = String> + Unpin + 's {
    let input = stream::iter([request]).chain(stream::pending());
    let mut answers = link.stream_append(Box::pin(input), ttl()).await.unwrap();
    let answer = timeout(SOON, answers.next()).await.unwrap();
    assert!(matches!(answer, Some(Ok(Ok(_)))), "{answer:?}");
    answers.map(|answer| match answer {
        Err(error) => error.to_string(),
        Ok(answer) => panic!("{answer:?}"),
    })
}

/// A node that is served until the test ends. Its address.
pub(crate) async fn serving(serve: Serve) -> String {
    let node = follower(2, serve).await;
    let addr = node.addr.clone();
    // Its directory goes with it; the listener and the core stay with the runtime.
    drop(node);
    addr
}
