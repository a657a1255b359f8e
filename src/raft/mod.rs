//! Consensus: everything that speaks openraft, and the only folder that does.

// As data flows: writes, reads, what openraft drives, what keeps the node safe, how it starts.
mod batcher;
mod blocking;
mod client;
mod clocks;
mod queue;
mod read;
mod ticks;
mod told;

mod convert;
mod flush_gate;
mod keeper;
mod log_store;
mod replica;
mod snapshots;
mod state_machine;
pub mod types;

mod context;
mod form;
mod handshake;
mod heard;
mod members;
pub(crate) mod network;
mod noise;
mod peer;
mod wire;

mod digests;
mod gate;
mod hand_over;
mod scrub;
mod space;
mod stats;
mod status;
mod vitals;
mod watchdog;

mod backup;
mod config;
mod recover;
mod repair;
mod restore;
mod start;

#[cfg(feature = "simulation")]
pub mod sim;

pub use backup::{Backup, BackupError};
pub use client::Client;
pub use digests::{Agreement, Consistency, NodeDigest};
pub(crate) use gate::Gate;
pub use peer::{
    CALL_LEN_MAX, Call, Peer, PeerError, SNAPSHOT_PATH, SNAPSHOT_PROTOCOL, STREAM_PATH,
    STREAM_PROTOCOL,
};
pub use recover::Remains;
pub use replica::Replica;
pub use restore::{Restored, restore};
pub use scrub::ScrubStats;
pub use snapshots::{Counters as SnapshotCounters, Progress, SnapshotOptions};
pub use space::{DiskSpace, Room, SpaceOptions};
pub use stats::{SnapshotStats, Stats};
pub use told::{
    Changed, InitError, Initialized, Member, MemberChange, MemberError, MemberStatus, Permit,
    ReadError, ReadLevel, Role, Standing, Status, TransferError, Transferred, WriteError, Written,
};

pub use crate::storage::histogram::{BOUNDS_US, Counted, Histogram};
pub use crate::storage::state::{
    AccountRow, At, KvRow, LedgerRow, Order, StoredAnswer, TransferRow, TrialBalance, View,
};

use std::sync::Arc;
use std::time::Duration;

use crate::storage::identity::DataDir;

/// Part of the leader lease in which a lease read is served: safe for two clocks drifting 20 % apart in opposite directions.
pub const LEASE_READ_FRACTION: f64 = 0.6;
/// Multiple of the lease for which a restarted voter grants no vote: it has forgotten what it promised.
pub const VOTE_GATE_FACTOR: f64 = 1.3;

/// Settings of consensus. The defaults are the LAN preset.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often an idle leader sends heartbeats.
    pub heartbeat: Duration,
    /// Shortest time without a leader before a node stands for election.
    pub election_min: Duration,
    /// Longest such time; also the leader lease.
    pub election_max: Duration,
    /// After this long without a quorum a leader stops holding back elections.
    pub quorum_loss_probe: Duration,
    /// Most entries in flight, unless batches are full. Another one goes once as many commands wait as are in flight.
    pub batch_in_flight: usize,
    /// Most commands in one entry.
    pub batch_commands_max: usize,
    /// Bytes of commands at which an entry is full (one command may exceed it).
    pub batch_bytes_max: usize,
    /// Most commands waiting to be proposed or in flight; beyond it writes are refused as overloaded.
    pub queue_commands_max: usize,
    /// Most bytes of commands waiting or in flight.
    pub queue_bytes_max: usize,
    /// How long the oldest of them may have waited for its answer; while it is older, and more wait than a few entries take,
    /// writes are refused as overloaded.
    pub queue_wait_max: Duration,
    /// Bytes handed to the log and not yet on the disk beyond which nothing more is proposed.
    pub unflushed_bytes_max: u64,
    /// A flush older than this aborts the process.
    pub flush_abort: Duration,
    /// How far the clock of another voter may be from this node's and still agree with it.
    pub clock_tolerance: Duration,
    /// How often an idle leader looks whether something expires.
    pub tick: Duration,
    /// Snapshots, and how much of the log is kept.
    pub snapshots: SnapshotOptions,
    /// Marks of a disk that fills up.
    pub space: SpaceOptions,
    /// Reading what is on the disk again.
    pub scrub: ScrubOptions,
}

/// How often and how fast what is on the disk is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// A round begins so long after the one before began, or when that has ended if that is later.
    pub every: Duration,
    /// Most bytes read in a second; 0 for no rounds at all.
    pub rate: u64,
}

impl Default for ScrubOptions {
    fn default() -> ScrubOptions {
        ScrubOptions {
            every: Duration::from_secs(24 * 3600),
            rate: 8 << 20,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            heartbeat: Duration::from_millis(200),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(2000),
            quorum_loss_probe: Duration::from_millis(4000),
            batch_in_flight: 4,
            batch_commands_max: 8192,
            batch_bytes_max: 256 << 10,
            queue_commands_max: 16_384,
            queue_bytes_max: 64 << 20,
            queue_wait_max: Duration::from_secs(1),
            unflushed_bytes_max: 16 << 20,
            flush_abort: Duration::from_secs(10),
            clock_tolerance: Duration::from_secs(5),
            tick: Duration::from_secs(1),
            snapshots: SnapshotOptions::default(),
            space: SpaceOptions::default(),
            scrub: ScrubOptions::default(),
        }
    }
}

/// Starts consensus over an open data directory: opens log and state, recovers, starts the tasks. `peer_addr` and
/// `client_url` are what this node tells others of itself when a cluster is formed. Some of that may wait for a disk or for peers, for
/// as long as it takes: `stage` is told for what.
///
/// # Errors
/// If log or state cannot be opened or recovered; the message says what to do.
pub async fn start(
    dir: Arc<DataDir>,
    log: crate::storage::log::Options,
    state: crate::storage::state::Options,
    options: Options,
    me: Member,
    stage: &tokio::sync::watch::Sender<&'static str>,
) -> anyhow::Result<(Client, Peer)> {
    let started = tokio::time::Instant::now();
    let vitals = vitals::Vitals {
        clocks: clocks::Clocks::system(),
        space: space::Space::of_dir(options.space, dir.path()),
        heard: heard::Heard::default(),
    };
    stage.send_replace("it waits for room on its disk");
    space::wait_for_start(&vitals.space).await;
    stage.send_replace("it reads its log");
    let net = network::Network::new(dir.clone(), &options, vitals.clone());
    let call: form::UnaryCall = Arc::new(|addr, call, body| {
        Box::pin(async move {
            let answer = network::unary_call(&addr, call, body).await;
            answer.map_err(|error| error.to_string())
        })
    });
    let opening = repair::Opening {
        log: open_log(&dir, log).await?,
        dir: dir.clone(),
        state,
        options: options.clone(),
        call: call.clone(),
        is_alone: false,
    };
    stage.send_replace("it opens its state, or waits for another one from a peer");
    let state = opening.open().await?;
    stage.send_replace("it starts consensus");
    let parts = start::Parts {
        log: opening.log,
        state,
        dir,
        options,
        vitals,
        me,
        call,
        on_fault: watchdog::abort(),
        started,
        guards: start::Guards::ALL,
    };
    let (client, context) = start::start(parts, |context| net.knowing(&context)).await?;
    Ok((client, Peer::new(context)))
}

async fn open_log(
    dir: &DataDir,
    options: crate::storage::log::Options,
) -> anyhow::Result<crate::storage::log::Log> {
    let (path, uuid) = (dir.log_dir(), dir.identity().node_uuid);
    let open = move || crate::storage::log::Log::open(&path, &uuid, options);
    Ok(tokio::task::spawn_blocking(open).await??)
}

#[cfg(test)]
mod tests;
