//! Putting a node together, and the order in which that happens.
//!
//! Log and state are open; the core recovers from them (it re-applies what was committed) and is built without running.
//! Everything that must be there when it runs is made: the peers' way to it, the batcher, the barriers, the watchdogs.
//! Then it runs, with elections off until the vote gate is open.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use openraft::network::{NetSnapshot, RaftNetworkFactory};
use openraft::{Config, StorageHelper};
use tokio::time::Instant;

use super::batcher::Batcher;
use super::client::{Client, Node};
use super::clocks::LogClock;
use super::context::PeerContext;
use super::digests::{Compared, Comparer, Marks};
use super::flush_gate::FlushGate;
use super::form::{Former, UnaryCall};
use super::hand_over::HandOver;
use super::keeper::Keeper;
use super::log_store::LogStore;
use super::members::{Farewell, Members, Removed};
use super::scrub::Scrubber;
use super::snapshots::Snapshots;
use super::state_machine::StateMachine;
use super::status::{LastContact, StatusSource};
use super::ticks::Ticker;
use super::types::{Raft, SnapshotData, Types};
use super::vitals::Vitals;
use super::watchdog::{FaultAction, Faults};
use super::{
    Gate, Member, Options, Replica, VOTE_GATE_FACTOR, config, read, recover, space, status,
    watchdog,
};
use crate::mutants::{self, Mutant};
use crate::storage::identity::DataDir;
use crate::storage::log::Log;
use crate::storage::state::State;
use crate::storage::watch;

/// What a node is put together from.
pub(super) struct Parts<S = State> {
    pub(super) dir: Arc<DataDir>,
    pub(super) log: Log,
    pub(super) state: S,
    pub(super) options: Options,
    /// Clock and disk of this machine.
    pub(super) vitals: Vitals,
    pub(super) me: Member,
    /// Reaches other nodes before there is a cluster.
    pub(super) call: UnaryCall,
    /// What to do when the node cannot go on.
    pub(super) on_fault: FaultAction,
    /// When the process started, or later.
    pub(super) started: Instant,
    pub(super) guards: Guards,
}

/// The guards of this module against what openraft or a crash could do. All on, except in tests that show what they
/// prevent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guards {
    /// A leader that restarted does not lead on without an election.
    pub(super) no_leader_restore: bool,
    /// See [`super::gate`].
    pub(super) vote_gate: bool,
    /// See [`super::flush_gate`].
    pub(super) flush_gate: bool,
}

impl Guards {
    pub(super) const ALL: Guards = Guards {
        no_leader_restore: true,
        vote_gate: true,
        flush_gate: true,
    };
}

/// Starts a node whose peers are reached through what `network` makes.
pub(super) async fn start<S, N>(
    parts: Parts<S>,
    network: impl FnOnce(Arc<PeerContext>) -> N,
) -> anyhow::Result<(Client<S>, Arc<PeerContext>)>
where
    S: Replica + Clone,
    N: RaftNetworkFactory<Types>,
    N::Network: NetSnapshot<Types, SnapshotData = SnapshotData>,
{
    forget_what_the_state_is_past(&parts.log, &parts.state);
    // One that was begun is finished here, before anything looks at the log.
    recover::finish(&parts.dir.identity(), &parts.log, &parts.state).await?;
    let log_store = LogStore::new(parts.log.clone(), parts.state.clone());
    let snapshots = open_snapshots(&parts)?;
    let marks = Marks::default();
    let machine = machine(&parts, snapshots.clone(), marks.clone());
    let gate = gate(&parts, log_store.clone(), machine.clone()).await?;
    let context = Arc::new(PeerContext {
        dir: parts.dir.clone(),
        me: parts.me.clone(),
        gate,
        vitals: parts.vitals.clone(),
        options: parts.options.clone(),
        raft: OnceLock::new(),
        pristine: pristine(&parts.log),
        marks,
        snapshots: snapshots.clone(),
    });
    let applied = machine.watch_applied();
    let raft = Raft::build(
        parts.dir.identity().node_id,
        Arc::new(checked_config(&parts)?),
        network(context.clone()),
        log_store,
        machine,
    )
    .await
    .context("consensus cannot recover from the log and the state")?;
    let set = context.raft.set(raft.clone());
    assert!(set.is_ok(), "the context is new");
    let client = assemble(parts, &context, raft, applied, snapshots);
    client.node.raft.run();
    Ok((client, context))
}

/// A node that crashed between the installation of a snapshot and the purge of its log has a log that ends before the state
/// does. Nothing in it is needed: all that the state does not hold was given up for the snapshot.
pub(super) fn forget_what_the_state_is_past(log: &Log, state: &impl Replica) {
    let last = log.state().last;
    if let Some(applied) = state.applied().log_id
        && last.is_some_and(|last| last.index < applied.index)
    {
        log.purge(applied);
    }
}

/// Beside the state, on its file system: a checkpoint is made of hard links.
fn open_snapshots<S: Replica>(parts: &Parts<S>) -> anyhow::Result<Snapshots> {
    let dir = parts.dir.snapshots_dir();
    let applied = parts.state.applied().log_id;
    Snapshots::open(dir.clone(), Some(parts.dir.clone()), applied)
        .with_context(|| format!("the snapshots in {} cannot be used", dir.display()))
}

fn machine<S: Replica + Clone>(
    parts: &Parts<S>,
    snapshots: Snapshots,
    marks: Marks,
) -> StateMachine {
    let flushed = match parts.guards.flush_gate {
        true => FlushGate::of(&parts.log),
        #[cfg(test)]
        false => FlushGate::off(),
        #[cfg(not(test))]
        false => unreachable!("guards are only ever off in tests"),
    };
    StateMachine::new(parts.state.clone(), flushed, snapshots, marks)
}

fn checked_config<S>(parts: &Parts<S>) -> anyhow::Result<Config> {
    let mut config = config::build(&parts.options)?;
    let is_unguarded = cfg!(test) && !parts.guards.no_leader_restore;
    if is_unguarded || mutants::on(Mutant::LeaderRestored) {
        config.enable_leader_restore = Some(true);
        return Ok(config);
    }
    assert_eq!(
        config.enable_leader_restore,
        Some(false),
        "a restarted leader must not lead on without an election: it would hand out log ids twice"
    );
    Ok(config)
}

/// Whether the log holds nothing at all.
fn pristine(log: &Log) -> Box<dyn Fn() -> bool + Send + Sync> {
    let log = log.clone();
    Box::new(move || {
        let state = log.state();
        state.vote.is_none() && state.last.is_none()
    })
}

/// The vote gate: closed after a restart, unless the node promised nothing or nobody else has a vote.
async fn gate<S>(
    parts: &Parts<S>,
    mut log_store: LogStore,
    mut machine: StateMachine,
) -> anyhow::Result<Gate> {
    let is_unguarded = !parts.guards.vote_gate || mutants::on(Mutant::NoVoteGate);
    if parts.log.state().vote.is_none() || is_unguarded {
        return Ok(Gate::open());
    }
    let membership = StorageHelper::new(&mut log_store, &mut machine)
        .get_membership()
        .await
        .context("the last membership cannot be read")?;
    let me = parts.dir.identity().node_id;
    if membership.effective().voter_ids().eq([me]) {
        return Ok(Gate::open());
    }
    let wait = config::lease(&parts.options).mul_f64(VOTE_GATE_FACTOR);
    Ok(Gate::closed_for(parts.started, wait))
}

/// Makes the tasks and the handle.
fn assemble<S: Replica + Clone>(
    parts: Parts<S>,
    context: &Arc<PeerContext>,
    raft: Raft,
    applied: watch::Receiver<Option<crate::storage::LogId>>,
    snapshots: Snapshots,
) -> Client<S> {
    let Parts {
        dir,
        log,
        state,
        options,
        vitals,
        call,
        on_fault,
        ..
    } = parts;
    let faults = Faults::new(on_fault);
    let (recovered_now, recovered) = watch::channel(false);
    let clock = Arc::new(LogClock::new(vitals.clocks.clone(), &raft, &options));
    let (batcher, batching) = Batcher::new(raft.clone(), log.clone(), clock.clone(), &options);
    let (barriers, reading) = read::new(raft.clone(), applied, recovered.clone(), &options);
    let space = vitals.space.clone();
    let hand_over = HandOver::new(raft.clone(), vitals.clone(), &options);
    let contact = LastContact::default();
    watch_over(&faults, &raft, &log, &batcher, &hand_over, &options);
    let watched = watchdog::watch_state(state.fault(), faults.clone());
    faults.supervise("state watching", watched);
    faults.supervise("batching", batching.run());
    faults.supervise("reading", reading);
    let ticker = Ticker {
        raft: raft.clone(),
        state: Arc::new(state.clone()),
        clock,
        faults: faults.clone(),
        options: options.clone(),
    };
    faults.supervise("ticking", ticker.run());
    let keeper = Keeper {
        raft: raft.clone(),
        log: log.clone(),
        state: Arc::new(state.clone()),
        snapshots: snapshots.clone(),
        space: space.clone(),
        options: options.clone(),
    };
    faults.supervise("snapshots", keeper.run());
    let watching = space::watch(
        space.clone(),
        raft.clone(),
        hand_over.clone(),
        faults.clone(),
    );
    faults.supervise("disk space", watching);
    let scrubbed = super::scrub::Counters::default();
    let scrubber = Scrubber {
        log: log.clone(),
        state: Arc::new(state.clone()),
        snapshots: snapshots.clone(),
        options: options.scrub,
        faults: faults.clone(),
        counters: scrubbed.clone(),
    };
    faults.supervise("scrubbing", scrubber.run());
    let compared = Compared::default();
    let comparer = Comparer {
        context: context.clone(),
        raft: raft.clone(),
        call: call.clone(),
        state: Arc::new(state.clone()),
        compared: compared.clone(),
    };
    faults.supervise("comparing", comparer.run());
    faults.supervise(
        "contact",
        status::watch_contact(raft.clone(), contact.clone(), options.clone()),
    );
    let removed = Removed::default();
    let members = Members::new(
        context.clone(),
        raft.clone(),
        call.clone(),
        hand_over.clone(),
        &options,
    );
    faults.supervise("membership", members.clone().reconcile());
    let farewell = Farewell {
        context: context.clone(),
        raft: raft.clone(),
        call: call.clone(),
        hand_over: hand_over.clone(),
        contact: contact.clone(),
        removed: removed.clone(),
        faults: faults.clone(),
        options,
    };
    faults.supervise("farewell", farewell.run());
    tokio::spawn(open_gate(raft.clone(), context.gate));
    tokio::spawn(recover(raft.clone(), recovered_now));
    let status = StatusSource {
        raft: raft.clone(),
        dir,
        state: Arc::new(state.clone()),
        recovered,
        contact,
        clocks: vitals.clocks,
        snapshots: snapshots.clone(),
        removed,
        faults: faults.clone(),
    };
    let node = Node {
        dir: context.dir.clone(),
        server: raft.server_metrics(),
        log,
        state,
        snapshots,
        space,
        batcher,
        barriers,
        former: Former::new(context.clone(), raft.clone(), call),
        hand_over,
        members,
        status,
        faults,
        counters: super::stats::Counters::default(),
        scrubbed,
        compared,
        backups: super::backup::Turn::default(),
        raft,
    };
    Client {
        node: Arc::new(node),
    }
}

fn watch_over(
    faults: &Faults,
    raft: &Raft,
    log: &Log,
    batcher: &Batcher,
    hand_over: &HandOver,
    options: &Options,
) {
    faults.supervise(
        "core watching",
        watchdog::watch_core(raft.clone(), faults.clone()),
    );
    faults.supervise(
        "log watching",
        watchdog::watch_log(log.clone(), faults.clone()),
    );
    let disk = watchdog::watch_disk(
        log.clone(),
        batcher.clone(),
        hand_over.clone(),
        options.clone(),
        faults.clone(),
    );
    faults.supervise("disk watching", disk);
}

/// Lets this node stand for election once the gate is open.
async fn open_gate(raft: Raft, gate: Gate) {
    gate.opened().await;
    raft.runtime_config().elect(true);
}

/// Lets reads be served once what was committed before the start is applied. Never, if the core stops before.
async fn recover(raft: Raft, recovered: watch::Sender<bool>) {
    if raft.wait_for_recovery(None).await.is_ok() {
        recovered.send_replace(true);
    }
    // Readers look at the value for as long as the node lives.
    recovered.closed().await;
}
