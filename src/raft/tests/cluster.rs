//! Nodes of one cluster in one process, on real stores: the log on a model disk, the state in a directory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::disk::SlowDisk;
use super::net::{self, TestNet};
use crate::machine::{Command, Expect};
use crate::raft::clocks::Clocks;
use crate::raft::context::PeerContext;
use crate::raft::heard::Heard;
use crate::raft::repair::Opening;
use crate::raft::space::Space;
use crate::raft::start::{self, Guards, Parts};
use crate::raft::types::Raft;
use crate::raft::vitals::Vitals;
use crate::raft::{Client, Initialized, Member, Options, WriteError, Written};
use crate::storage::identity::DataDir;
use crate::storage::log::{self, Log};
use crate::storage::space::Free;
use crate::storage::state::{self, State};

/// Bytes of the disk of each node.
const DISK_LEN: u64 = 100 << 30;

/// Nothing in a test may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The fast preset: the same code with shorter times.
pub(super) fn fast() -> Options {
    Options {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1000),
        quorum_loss_probe: Duration::from_millis(2000),
        ..Options::default()
    }
}

/// Smaller than the default, so that tests of many nodes stay small.
pub(super) fn log_options() -> log::Options {
    log::Options {
        segment_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        witness_sync: Duration::from_millis(50),
    }
}

pub(super) fn state_options() -> state::Options {
    state::Options {
        seal_journal_bytes: 64 << 20,
        cache_bytes: 8 << 20,
    }
}

/// A node that runs.
pub(super) struct TestNode {
    pub(super) client: Client,
    pub(super) context: Arc<PeerContext>,
    pub(super) disk: SlowDisk,
    pub(super) faults: Arc<Mutex<Vec<String>>>,
}

impl TestNode {
    pub(super) fn raft(&self) -> &Raft {
        &self.client.node.raft
    }

    pub(super) fn state(&self) -> &State {
        &self.client.node.state
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raft().metrics().borrow_watched().state == ServerState::Leader
    }

    /// The value of a key in this node's state.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        let row = self.client.view().kv(key).unwrap().value?;
        Some(String::from_utf8(row.value.to_vec()).unwrap())
    }
}

/// Some nodes, running or not.
pub(super) struct Cluster {
    pub(super) net: TestNet,
    pub(super) options: Options,
    pub(super) guards: Guards,
    pub(super) nodes: BTreeMap<u64, TestNode>,
    disks: BTreeMap<u64, SlowDisk>,
    /// How far the wall clock of each node is ahead of the real one, in nanoseconds.
    ahead: BTreeMap<u64, Arc<AtomicU64>>,
    /// Free bytes of the disk of each node, as it is told.
    free: BTreeMap<u64, Arc<AtomicU64>>,
    root: tempfile::TempDir,
}

impl Cluster {
    /// Nodes 1 to `count`, started and in no cluster.
    pub(super) async fn started(count: u64, options: Options, guards: Guards) -> Cluster {
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Cluster {
            net: TestNet::default(),
            options,
            guards,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            ahead: BTreeMap::new(),
            free: BTreeMap::new(),
            root,
        };
        for id in 1..=count {
            cluster.start(id).await;
        }
        cluster
    }

    /// A cluster of nodes 1 to `count`, led by node 1.
    pub(super) async fn formed_with(count: u64, options: Options, guards: Guards) -> Cluster {
        let cluster = Cluster::started(count, options, guards).await;
        let formed = cluster.client(1).initialize(cluster.members()).await;
        assert_eq!(formed.unwrap(), Initialized::Formed);
        let leader = cluster.leader().await;
        if leader != 1 {
            let raft = cluster.nodes[&leader].raft();
            raft.trigger().transfer_leader(1).await.unwrap();
        }
        eventually("node 1 leads", || cluster.nodes[&1].is_leader()).await;
        cluster.put(1, "first", "1").await;
        cluster
    }

    /// Three nodes with the fast preset and every guard, led by node 1.
    pub(super) async fn formed() -> Cluster {
        Cluster::formed_with(3, fast(), Guards::ALL).await
    }

    pub(super) fn members(&self) -> BTreeMap<u64, Member> {
        self.nodes
            .keys()
            .map(|id| (*id, net::member(*id)))
            .collect()
    }

    pub(super) fn client(&self, id: u64) -> &Client {
        &self.nodes[&id].client
    }

    pub(super) fn dir(&self, id: u64) -> PathBuf {
        self.root.path().join(id.to_string())
    }

    /// What node `id`, which is down, left of its log.
    pub(super) fn disk(&self, id: u64) -> &SlowDisk {
        &self.disks[&id]
    }

    /// Starts node `id` on what it left behind.
    pub(super) async fn start(&mut self, id: u64) {
        let started = tokio::time::Instant::now();
        let disk = self.disks.remove(&id).unwrap_or_default();
        let path = self.dir(id);
        // Tasks of the process before may still be ending.
        let dir = until("the directory is free", || DataDir::open(&path, id).ok()).await;
        let uuid = dir.identity().node_uuid;
        let log = Log::start(disk.clone(), &uuid, log_options()).unwrap();
        let dir = Arc::new(dir);
        let opening = Opening {
            dir: dir.clone(),
            log: log.clone(),
            state: state_options(),
            options: self.options.clone(),
            call: self.net.unary(id),
            is_alone: false,
        };
        let deadline = soon();
        let state = loop {
            match opening.open().await {
                Ok(state) => break state,
                // Tasks of the process before may still have it.
                Err(why) => assert!(Instant::now() < deadline, "{why:#}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        let faults = Arc::new(Mutex::new(Vec::new()));
        let seen = faults.clone();
        let parts = Parts {
            dir,
            log,
            state,
            options: self.options.clone(),
            vitals: Vitals {
                clocks: self.clocks(id),
                space: self.space(id),
                heard: Heard::default(),
            },
            me: net::member(id),
            call: self.net.unary(id),
            on_fault: Arc::new(move |what| seen.lock().unwrap().push(what.to_owned())),
            started,
            guards: self.guards,
        };
        let factory = self.net.of(id);
        let (client, context) = start::start(parts, |_| factory).await.unwrap();
        self.net.join(id, context.clone());
        let node = TestNode {
            client,
            context,
            disk,
            faults,
        };
        self.nodes.insert(id, node);
    }

    /// The clocks of node `id`, which go wrong as [`Cluster::set_ahead`] says.
    fn clocks(&mut self, id: u64) -> Clocks {
        let ahead = self.ahead.entry(id).or_default().clone();
        let system = Clocks::system();
        Clocks::around(Arc::new(move || {
            system.wall_ns() + ahead.load(Ordering::SeqCst)
        }))
    }

    /// The room that node `id` is told it has, as [`Cluster::set_free`] says.
    fn space(&mut self, id: u64) -> Space {
        let free = || Arc::new(AtomicU64::new(DISK_LEN));
        let free = self.free.entry(id).or_insert_with(free).clone();
        let measure = move || {
            Ok(Free {
                bytes: free.load(Ordering::SeqCst),
                size: DISK_LEN,
                files: u64::MAX,
            })
        };
        Space::new(self.options.space, Arc::new(measure))
    }

    /// The disk of node `id` has so many bytes left from now on.
    pub(super) fn set_free(&self, id: u64, bytes: u64) {
        self.free[&id].store(bytes, Ordering::SeqCst);
    }

    /// The wall clock of node `id` is ahead of the real one from now on.
    pub(super) fn set_ahead(&self, id: u64, ahead: Duration) {
        let ahead = u64::try_from(ahead.as_nanos()).unwrap();
        self.ahead[&id].store(ahead, Ordering::SeqCst);
    }

    /// The power of node `id` fails: what its log had not synced and its state had not flushed is gone.
    pub(super) async fn crash(&mut self, id: u64) {
        self.net.leave(id);
        let node = self.nodes.remove(&id).unwrap();
        self.disks.insert(id, node.disk.after_power_cut());
        node.client.node.faults.stop();
        node.raft().shutdown().await.unwrap();
    }

    /// All that node `id` had, which is down, is gone.
    pub(super) fn wipe(&mut self, id: u64) {
        self.disks.remove(&id);
        std::fs::remove_dir_all(self.dir(id)).unwrap();
    }

    /// Node `id` stops in good order.
    pub(super) async fn stop(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.client.shutdown(soon()).await.unwrap();
        self.net.leave(id);
        self.disks.insert(id, node.disk.reopened());
    }

    /// Waits until a node leads with a quorum behind it.
    pub(super) async fn leader(&self) -> u64 {
        until("a leader", || {
            let leads = |(id, node): (&u64, &TestNode)| {
                let status = node.client.status();
                let acked = status.quorum_ack_age;
                let fresh = acked.is_some_and(|age| age < self.options.election_max);
                (node.is_leader() && fresh).then_some(*id)
            };
            self.nodes.iter().find_map(leads)
        })
        .await
    }

    /// Writes a key through node `id`.
    pub(super) async fn put(&self, id: u64, key: &str, value: &str) -> Written {
        put(self.client(id), key, value, soon()).await.unwrap()
    }

    /// A client of each running node.
    pub(super) fn clients(&self) -> Vec<Client> {
        self.nodes
            .values()
            .map(|node| node.client.clone())
            .collect()
    }

    /// Waits until all nodes applied the same, and checks that it is the same.
    pub(super) async fn converge(&self) {
        eventually("all nodes applied the same index", || {
            let mut applied = self
                .nodes
                .values()
                .map(|node| node.state().applied().log_id);
            let first = applied.next().unwrap();
            first.is_some() && applied.all(|other| other == first)
        })
        .await;
        let mut digests = self
            .nodes
            .values()
            .map(|node| node.state().applied().digest);
        let first = digests.next().unwrap();
        assert!(digests.all(|other| other == first), "replicas diverged");
    }

    /// Every fault any running node reported.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self
            .nodes
            .values()
            .map(|node| node.faults.lock().unwrap().clone());
        faults.flatten().collect()
    }
}

/// Writes a key through `client`.
pub(super) fn put(
    client: &Client,
    key: &str,
    value: &str,
    deadline: Instant,
) -> impl Future<Output = Result<Written, WriteError>> + Send + use<> {
    let command = Command::KvPut {
        key,
        value: value.as_bytes(),
        expect: Expect::Any,
    };
    client.write(&command, deadline)
}

/// Writes a key through whichever of `clients` leads, and again until it is written: where a test fills
/// the disk, a slow one makes leaders change. A value put twice is the value put once.
pub(super) async fn put_by_any(clients: &[Client], key: &str, value: &str) -> Written {
    let deadline = soon();
    let mut last = None;
    loop {
        for client in clients {
            match put(client, key, value, deadline).await {
                Ok(written) => return written,
                Err(why) => last = Some(why),
            }
        }
        assert!(Instant::now() < deadline, "{key} was not written: {last:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A deadline that only a broken test reaches.
pub(super) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits until `probe` gives something.
pub(super) async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = soon();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until `condition` holds.
pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || condition().then_some(())).await;
}
