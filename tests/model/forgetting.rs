//! Checks `reduce.rs` against searches that forget nothing but time: the same is reached, and no read fewer.

use std::collections::HashSet;

use stateright::Model;

use crate::promises::serves_lease_reads;
use crate::protocol::{Cluster, Memory};
use crate::state::{IN_FLIGHT_MAX, NODES, Role, Since, State};

/// What the promises speak of: votes, logs, roles, what is acknowledged; without messages and timers.
type Outcome = State;

/// Every outcome that `cluster` reaches, and every one with a node that serves a lease read in it.
fn reached(cluster: &Cluster) -> (HashSet<Outcome>, HashSet<(Outcome, usize)>) {
    let (mut outcomes, mut reads) = (HashSet::new(), HashSet::new());
    let mut seen: HashSet<State> = cluster.init_states().into_iter().collect();
    let mut todo: Vec<State> = seen.iter().cloned().collect();
    while let Some(state) = todo.pop() {
        let outcome = outcome(&state);
        for (id, node) in state.nodes.iter().enumerate() {
            if serves_lease_reads(cluster, node) {
                reads.insert((outcome.clone(), id));
            }
        }
        outcomes.insert(outcome);
        for next in cluster.next_states(&state) {
            if seen.insert(next.clone()) {
                todo.push(next);
            }
        }
    }
    (outcomes, reads)
}

fn outcome(state: &State) -> Outcome {
    let mut outcome = State {
        appends: [None; IN_FLIGHT_MAX],
        ballots: [None; NODES],
        handover: None,
        ..state.clone()
    };
    for node in &mut outcome.nodes {
        for since in [&mut node.heard, &mut node.started, &mut node.acknowledged] {
            *since = Since::LONG;
        }
        node.promises = true;
        match &mut node.role {
            Role::Leader { matched, .. } => *matched = [0; NODES],
            Role::Follower | Role::Candidate { .. } => node.committed = 0,
        }
    }
    outcome
}

/// Asserts that forgetting what is dead changes nothing that `cluster` can come to. A last leader's lease, which does
/// not age, may serve more reads.
pub(crate) fn assert_harmless(cluster: Cluster) {
    let (outcomes, reads) = reached(&cluster);
    let (all_outcomes, all_reads) = reached(&cluster.remembering(Memory::AllButTime));
    assert!(outcomes == all_outcomes, "an outcome is lost or made up");
    assert!(reads.is_superset(&all_reads), "a lease read is lost");
}
