//! One mutant for each rule: without it the search finds a counterexample to the promise that the test names.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::promises::{LEADER_IS_ONE, LEASE_READ_IS_FRESH, LOG_ID_IS_UNIQUE, WRITE_IS_KEPT};
use crate::protocol::{Cluster, Flaw};
use crate::settings::{Bounds, Grid, PRODUCT, Settings};
use crate::{SMALL, report};

/// Asserts that `promise` is broken, and shows by which steps.
fn breaks(promise: &'static str, cluster: Cluster) {
    let start = Instant::now();
    let name = format!("{:?}, {:?}", cluster.flaw, cluster.limits);
    let search = cluster
        .checker()
        .finish_when(HasDiscoveries::AnyOf([promise].into()));
    let search = search.spawn_bfs().join();
    let steps = search.discovery(promise).map(|path| path.into_actions());
    let steps = steps.unwrap_or_else(|| panic!("\"{promise}\" holds although it should not"));
    let name = format!("{name} breaks \"{promise}\": {steps:?}");
    report(
        &name,
        search.unique_state_count(),
        search.state_count(),
        start,
    );
}

#[test]
fn without_the_vote_gate_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::NoVoteGate);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_a_gate_shorter_than_the_lease_a_lease_read_is_stale() {
    let settings = Settings {
        vote_gate_permille: 800,
        ..PRODUCT
    };
    let bounds = Bounds {
        in_flight: 0,
        ..SMALL
    };
    let cluster = Cluster::new(Grid::Fine, bounds).with_settings(settings, Grid::Fine);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_voters_that_keep_no_promise_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::NoPromise);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

/// openraft's `trigger().elect(false)` does this: outside tests only `elect(true)`, with a pre-vote, is safe.
#[test]
fn with_an_election_forced_on_a_node_that_promised_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::ForcedElection);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_a_lease_counted_from_the_receipt_of_the_answer_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::LeaseFromReceipt);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_reads_for_the_whole_lease_and_drifting_clocks_a_lease_read_is_stale() {
    let settings = Settings {
        lease_read_permille: 1000,
        ..PRODUCT
    };
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_settings(settings, Grid::Coarse);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

/// The limit is (1 - 0.2) / (1 + 0.2) = 0.667: the model is as sharp as the arithmetic.
#[test]
fn with_reads_for_seven_tenths_of_the_lease_a_lease_read_is_stale() {
    let settings = Settings {
        lease_read_permille: 700,
        ..PRODUCT
    };
    let bounds = Bounds {
        restarts: 0,
        in_flight: 0,
        ..SMALL
    };
    let cluster = Cluster::new(Grid::Fine, bounds).with_settings(settings, Grid::Fine);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn without_waiting_for_the_leaders_first_entry_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::FirstEntryNotAwaited);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_a_cached_deadline_that_outlives_a_transfer_a_lease_read_is_stale() {
    let bounds = Bounds {
        transfers: 1,
        ..SMALL
    };
    let cluster = Cluster::new(Grid::Coarse, bounds).with_flaw(Flaw::CacheOutlivesTransfer);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_a_check_that_outlives_a_transfer_a_lease_read_is_stale() {
    let bounds = Bounds {
        transfers: 1,
        ..SMALL
    };
    let cluster = Cluster::new(Grid::Coarse, bounds).with_flaw(Flaw::ChecksNotDrained);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

/// Here the leader itself votes for its rival. openraft's leader refuses that while a quorum follows it, but not once an
/// append of its own was answered with the rival's higher vote: then it has stepped down.
#[test]
fn with_a_cached_deadline_that_outlives_a_step_down_a_lease_read_is_stale() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::CacheOutlivesStepDown);
    breaks(LEASE_READ_IS_FRESH, cluster);
}

#[test]
fn with_leader_restore_an_unflushed_tail_loses_an_acknowledged_write() {
    let bounds = Bounds { writes: 2, ..SMALL };
    let cluster = Cluster::new(Grid::Coarse, bounds).with_flaw(Flaw::LeaderRestore);
    breaks(LOG_ID_IS_UNIQUE, cluster.clone());
    breaks(WRITE_IS_KEPT, cluster);
}

#[test]
fn with_a_flush_completed_before_the_sync_an_acknowledged_write_is_lost() {
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_flaw(Flaw::FlushBeforeSync);
    breaks(WRITE_IS_KEPT, cluster);
}

#[test]
fn with_a_vote_answered_before_the_sync_a_term_and_node_lead_twice() {
    let bounds = Bounds {
        campaigns: 2,
        ..SMALL
    };
    let cluster = Cluster::new(Grid::Coarse, bounds).with_flaw(Flaw::VoteBeforeSync);
    breaks(LEADER_IS_ONE, cluster);
}
