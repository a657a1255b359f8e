//! Test support: nodes on plain memory whose peers reach them over real sockets, through connections that can be cut, hung and
//! throttled per direction and lane. Used by the tests of the peer listener, which bring the listener.

mod faulty;
mod memory;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::{Config, EntryPayload, OptionalSend, SnapshotPolicy};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Sleep;

pub(crate) use faulty::{Fault, Faulty};
pub(crate) use memory::{MemoryLog, MemoryMachine};

pub(crate) use super::{CallError, Connect, Lane, Link, Network, Tcp, unary_call};
pub(crate) use crate::raft::Gate;
use crate::raft::context::PeerContext;
use crate::raft::snapshots::Snapshots;
pub(crate) use crate::raft::types::{Commands, Types};
use crate::raft::types::{
    RaftEntry, RaftLogId, RaftSnapshot, RaftSnapshotMeta, RaftStoredMembership, RaftVote,
    SnapshotData,
};
use crate::raft::vitals::Vitals;
pub(crate) use crate::raft::wire::{Header, Segments, append::Append, rare};
use crate::raft::{Member, Options, Peer};
use crate::storage::identity::DataDir;

/// The cluster id of every test cluster.
pub(crate) const CLUSTER: &str = "00112233445566778899aabbccddeeff";

/// A node that serves its peers.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) addr: String,
    pub(crate) context: Arc<PeerContext<MemoryMachine>>,
    pub(crate) raft: openraft::Raft<Types, MemoryMachine>,
    pub(crate) log: MemoryLog,
    pub(crate) machine: MemoryMachine,
    /// How it reaches others.
    pub(crate) faults: Faulty,
    _dir: tempfile::TempDir,
}

/// Settings of test nodes: those of a LAN, but for elections, which only happen when a test asks.
pub(crate) fn options() -> Options {
    Options::default()
}

impl Node {
    /// A node with an empty log, in [`CLUSTER`], behind `gate`, that `serve`s its peers on an address of its own.
    pub(crate) async fn start(
        id: u64,
        gate: Gate,
        serve: impl FnOnce(TcpListener, Peer),
    ) -> Arc<Node> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let tmp = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open(&tmp.path().join("data"), id).unwrap());
        dir.set_cluster_id(CLUSTER, true).unwrap();
        let faults = Faulty::default();
        let log = MemoryLog::default();
        let machine = MemoryMachine {
            state: Arc::default(),
            applied: watch::Sender::new(Vec::new()),
        };
        let vitals = Vitals::healthy();
        let network =
            Network::with_connect(dir.clone(), &options(), vitals.clone(), faults.clone());
        let raft = openraft::Raft::new(id, config(), network, log.clone(), machine.clone());
        let raft = raft.await.unwrap();
        let context = Arc::new(PeerContext {
            dir,
            me: member(&addr),
            gate,
            vitals,
            options: options(),
            raft: OnceLock::new(),
            pristine: pristine(log.clone()),
            marks: Default::default(),
            snapshots: Snapshots::open(tmp.path().join("snapshots"), None, None).unwrap(),
        });
        assert!(context.raft.set(raft.clone()).is_ok());
        let peer = Peer::new(context.clone());
        serve(listener, peer);
        Arc::new(Node {
            id,
            addr,
            context,
            raft,
            log,
            machine,
            faults,
            _dir: tmp,
        })
    }

    /// Waits until this node has applied `count` entries with commands.
    pub(crate) async fn wait_applied(&self, count: usize) -> Vec<Bytes> {
        let mut applied = self.machine.applied.subscribe();
        let wait = applied.wait_for(|applied| applied.len() >= count);
        let applied = tokio::time::timeout(Duration::from_secs(60), wait).await;
        applied.expect("not applied in 60 s").unwrap().clone()
    }

    /// Last entry of its log.
    pub(crate) fn last_index(&self) -> Option<u64> {
        let state = self.log.0.lock().unwrap();
        state.entries.keys().next_back().copied()
    }

    /// Its vote, if it has one.
    pub(crate) fn vote(&self) -> Option<RaftVote> {
        self.log.0.lock().unwrap().vote
    }

    /// A link to this node from `from`, over `connect`.
    pub(crate) fn link_from<C: Connect>(&self, from: &Stranger, lane: Lane, connect: C) -> Link<C> {
        let network =
            Network::with_connect(from.dir.clone(), &options(), Vitals::healthy(), connect);
        network.link(self.id, &member(&self.addr), lane)
    }

    /// The same from a sender that waits long before it gives a stream up.
    pub(crate) fn patient_link_from<C: Connect>(
        &self,
        from: &Stranger,
        lane: Lane,
        connect: C,
    ) -> Link<C> {
        let mut options = options();
        options.heartbeat *= 100;
        let network = Network::with_connect(from.dir.clone(), &options, Vitals::healthy(), connect);
        network.link(self.id, &member(&self.addr), lane)
    }

    /// A link from `from` to this node's address that means node `target`.
    pub(crate) fn link_to(&self, target: u64, from: &Stranger, lane: Lane) -> Link<Tcp> {
        let network = Network::new(from.dir.clone(), &options(), Vitals::healthy());
        network.link(target, &member(&self.addr), lane)
    }
}

/// A node that only asks: a directory, no core.
pub(crate) struct Stranger {
    pub(crate) dir: Arc<DataDir>,
    _tmp: tempfile::TempDir,
}

impl Stranger {
    pub(crate) fn new(id: u64, cluster: &str) -> Stranger {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&tmp.path().join("data"), id).unwrap();
        dir.set_cluster_id(cluster, true).unwrap();
        Stranger {
            dir: Arc::new(dir),
            _tmp: tmp,
        }
    }
}

/// How test nodes are reached.
pub(crate) fn member(addr: &str) -> Member {
    Member {
        peer_addr: addr.to_owned(),
        client_url: String::new(),
        ..Member::default()
    }
}

fn pristine(log: MemoryLog) -> Box<dyn Fn() -> bool + Send + Sync> {
    Box::new(move || {
        let state = log.0.lock().unwrap();
        state.vote.is_none() && state.entries.is_empty()
    })
}

fn config() -> Arc<Config> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    let options = options();
    let config = Config {
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        enable_leader_restore: Some(false),
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    Arc::new(config.validate().unwrap())
}
