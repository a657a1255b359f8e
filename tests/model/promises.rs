//! What must always hold, and what must be reachable so that it does not hold for want of anything happening.

use stateright::Property;

use crate::log::Entry;
use crate::protocol::{Cluster, Flaw};
use crate::state::{Node, Reads, Role, State};

/// A lease read never returns a state older than the newest acknowledged write.
pub(crate) const LEASE_READ_IS_FRESH: &str = "no lease read is stale";
/// A majority has every acknowledged write on disk, at its place.
pub(crate) const WRITE_IS_KEPT: &str = "no acknowledged write is lost";
/// A term and node become leader at most once.
pub(crate) const LEADER_IS_ONE: &str = "a term and node lead at most once";
/// Two entries with one log id are one entry.
pub(crate) const LOG_ID_IS_UNIQUE: &str = "no log id is given twice";

/// Every property of the model; of what must be reachable, that which lies within its bounds.
pub(crate) fn all(cluster: &Cluster) -> Vec<Property<Cluster>> {
    let mut all = vec![
        Property::always(LEASE_READ_IS_FRESH, lease_reads_are_fresh),
        Property::always(WRITE_IS_KEPT, acknowledged_writes_are_kept),
        Property::always(LEADER_IS_ONE, |_, state: &State| !state.established_twice),
        Property::always(LOG_ID_IS_UNIQUE, |_, state| log_ids_are_unique(state)),
        Property::sometimes(
            "a write is acknowledged in a later term",
            acknowledged_later,
        ),
    ];
    if cluster.limits.read > 0 {
        all.push(Property::sometimes(
            "a lease read returns a write",
            returns_a_write,
        ));
        all.push(Property::sometimes(
            "a later leader serves a lease read",
            later_leader_serves,
        ));
    }
    if cluster.bounds.restarts > 0 {
        all.push(Property::sometimes(
            "a leader is elected after a crash",
            |_, state: &State| state.restarts > 0 && leads_later(state, |_| true),
        ));
        all.push(Property::sometimes(
            "a crash loses an unflushed write",
            |_, state| loses_a_write(state),
        ));
    }
    if cluster.bounds.transfers > 0 {
        all.push(Property::sometimes("a transfer succeeds", |_, state| {
            leads_later(state, |role| {
                matches!(
                    role,
                    Role::Leader {
                        by_transfer: true,
                        ..
                    }
                )
            })
        }));
    }
    all
}

/// Whether a node would serve a lease read now: its deadline has not passed, its first entry is applied and no transfer
/// has revoked the deadline. A node that does not lead has no deadline, but for the mutant that keeps it.
pub(crate) fn serves_lease_reads(cluster: &Cluster, node: &Node) -> bool {
    let is_ready = match &node.role {
        Role::Leader { first, reads, .. } => {
            let is_cached = match reads {
                Reads::Serving => true,
                Reads::Revoked { .. } => cluster.flaw == Flaw::CacheOutlivesTransfer,
                Reads::Transferring { cached, .. } => {
                    *cached || cluster.flaw == Flaw::CacheOutlivesTransfer
                }
            };
            let awaits = cluster.flaw != Flaw::FirstEntryNotAwaited && node.applied() < *first;
            is_cached && !awaits
        }
        Role::Follower | Role::Candidate { .. } => cluster.flaw == Flaw::CacheOutlivesStepDown,
    };
    is_ready && node.acknowledged.within(cluster.limits.read)
}

/// Whether what a node has applied holds every acknowledged write. The read is one step of the model: it is the
/// moment of the check, and a pause between check and answer only lets the answer arrive later.
fn is_fresh(state: &State, node: &Node) -> bool {
    let applied = &node.log.entries()[..usize::from(node.applied())];
    acknowledged(state).all(|(write, len)| {
        applied
            .get(len - 1)
            .is_some_and(|entry| entry.write() == write)
    })
}

/// Each acknowledged write with the length of the log that ends with it.
fn acknowledged(state: &State) -> impl Iterator<Item = (u8, usize)> {
    (1..)
        .zip(state.acknowledged.map(usize::from))
        .filter(|(_, len)| *len > 0)
}

fn lease_reads_are_fresh(cluster: &Cluster, state: &State) -> bool {
    let mut serving = state
        .nodes
        .iter()
        .filter(|node| serves_lease_reads(cluster, node));
    serving.all(|node| is_fresh(state, node))
}

fn acknowledged_writes_are_kept(_: &Cluster, state: &State) -> bool {
    acknowledged(state).all(|(write, len)| {
        let holds = |node: &&Node| {
            let durable = &node.log.entries()[..usize::from(node.flushed)];
            durable
                .get(len - 1)
                .is_some_and(|entry| entry.write() == write)
        };
        state.nodes.iter().filter(holds).count() >= 2
    })
}

fn log_ids_are_unique(state: &State) -> bool {
    let logs = state.nodes.each_ref().map(|node| node.log.entries());
    let agree = |one: &[Entry], other: &[Entry]| {
        let same_id = |(a, b): &(&Entry, &Entry)| a.leader_id() == b.leader_id();
        one.iter().zip(other).filter(same_id).all(|(a, b)| a == b)
    };
    agree(logs[0], logs[1]) && agree(logs[1], logs[2]) && agree(logs[0], logs[2])
}

/// Whether a leader of a later term has committed its first entry.
fn leads_later(state: &State, role: fn(&Role) -> bool) -> bool {
    state.nodes.iter().any(|node| {
        let Role::Leader { first, .. } = node.role else {
            return false;
        };
        node.vote.term() > 1 && node.committed >= first && role(&node.role)
    })
}

fn returns_a_write(cluster: &Cluster, state: &State) -> bool {
    let serves = |node: &Node| serves_lease_reads(cluster, node) && is_fresh(state, node);
    acknowledged(state).next().is_some() && state.nodes.iter().any(serves)
}

fn later_leader_serves(cluster: &Cluster, state: &State) -> bool {
    state
        .nodes
        .iter()
        .any(|node| node.leads() && node.vote.term() > 1 && serves_lease_reads(cluster, node))
}

fn acknowledged_later(_: &Cluster, state: &State) -> bool {
    acknowledged(state).any(|(write, len)| {
        state.nodes.iter().any(|node| {
            let entry = node.log.entries().get(len - 1);
            entry.is_some_and(|entry| entry.write() == write && entry.term() > 1)
        })
    })
}

/// Whether a proposed write is in no log any more, which only a crash does.
fn loses_a_write(state: &State) -> bool {
    let held = |write: u8| {
        state
            .nodes
            .iter()
            .any(|node| node.log.entries().iter().any(|e| e.write() == write))
    };
    (1..=state.writes).any(|write| !held(write))
}
