//! A model of what lease reads rest on: votes, leases, the vote gate, leadership transfer and restart, searched to the
//! end within bounds by stateright.
//!
//! # What is modelled
//!
//! Three voters, no change of membership. One row per step; `openraft` is the pinned version.
//!
//! | step | stands for |
//! |---|---|
//! | `Write`, `Flush` | openraft's append, which does not wait for the disk; the log's completed sync |
//! | `Call`, `Send`, `Arrive`, `Lose` | append requests and heartbeats with their answers: within a tick, or late, or lost |
//! | `Stand`, `Poll`, `Lead` | an election: `Engine::elect`, `handle_vote_req`, `establish_leader` |
//! | `Learn` | taking a higher vote from an answer: `Notification::HigherVote`, `handle_vote_resp`, `handle_pre_vote_resp` |
//! | `Revoke`, `EndCheck` | the product makes ready for a transfer: no lease read is served, checks are drained |
//! | `HandOver`, `TakeOver` | `trigger().transfer_leader`, `handle_transfer_leader`, `elect_by_leadership_transfer` |
//! | `Restart` | a crash at any moment, and the start after it: everything volatile is lost, the unflushed tail too |
//! | `Tick` | time |
//!
//! The rules, each of which the product or openraft must keep:
//! 1. A follower that heard its leader neither votes nor stands for one lease on its own clock. The promise is volatile;
//!    a vote taken from elsewhere ends it, the leader's own transfer ends it.
//! 2. A leader serves lease reads for `LEASE_READ_FRACTION` of the lease on its own clock, from the *sending* of the
//!    newest request that a quorum acknowledged, once its first own entry is applied.
//! 3. From process start on a node refuses votes, pre-votes and transfers and does not stand, for `VOTE_GATE_FACTOR`
//!    leases on its own clock. It follows a leader all the while.
//! 4. A leader that shall hand over first stops its lease reads: no check begins, those under way are waited for or
//!    their result is thrown away, then the transfer is sent. Votes asked for by a transfer do not honour rule 1.
//! 5. A leader that takes another vote stops its lease reads before that vote is saved.
//! 6. A leader never leads on after a restart (`enable_leader_restore: Some(false)`).
//! 7. A vote is on disk before it is answered, an entry counts where it is on disk, and nothing is applied, and so
//!    acknowledged, beyond the local flush.
//!
//! The model lets a leader serve from a cached deadline that follows every acknowledgement at once. A product that asks
//! the core for each batch of reads serves less, never more, and has rules 4 and 5 from the core. It matters for caches:
//! openraft's leader steps down for any higher vote that it hears of and then votes like anybody, its lease
//! notwithstanding; a late pre-vote is enough to get there.
//!
//! # How, and why that is enough
//!
//! - *Clocks.* A tick is true time. Clocks are off by up to 20 % in either direction: a clock is taken as slow where it
//!   measures what its node may do (rule 2) and as fast where it measures what its node owes (rules 1 and 3), which
//!   covers every real pair of clocks, also with drift that changes. See [`settings::Limits`].
//! - *Grids.* Searches on the fine grid stand for continuous time, on the coarse one (three ticks a lease) for more
//!   elections, messages and restarts, untimed ones for what must hold with no clock at all. See [`settings::Grid`].
//! - *More than the product can do* is allowed where that is simpler: no election timeout, no pre-vote, no vote refused
//!   by a leader because a quorum follows it, writes without a lease, votes durable before older entries are. Each is
//!   a behaviour more; what holds here holds with them too.
//! - *Messages* may be late, lost and overtaken. At most two append requests are late at once; vote requests and the
//!   transfer may be as late as they like. Refused vote requests stay under way, as if they were sent again.
//! - *Forgetting.* States that differ only in what cannot matter any more are one state; `reduce.rs` says why,
//!   and small searches are compared with ones that forget nothing.
//! - *Bounds* are in each test: elections, writes, restarts, transfers, late requests. Time is not bounded. Nothing is
//!   left out within the bounds, and `sometimes` properties show that it is not for want of anything happening.
//!
//! # What is promised
//!
//! [`promises`]: no lease read is stale; no acknowledged write is lost; a term and node lead at most once (openraft's
//! default leader ids allow two leaders in a term, ordered by node); no log id is given twice. Then one mutant for each
//! rule: without it the search finds a counterexample, and the test names the promise that breaks.

#[path = "model/settings.rs"]
mod settings;

#[path = "model/log.rs"]
mod log;

#[path = "model/state.rs"]
mod state;

#[path = "model/protocol.rs"]
mod protocol;

#[path = "model/replication.rs"]
mod replication;

#[path = "model/election.rs"]
mod election;

#[path = "model/transfer.rs"]
mod transfer;

#[path = "model/reduce.rs"]
mod reduce;

#[path = "model/promises.rs"]
mod promises;

#[path = "model/forgetting.rs"]
mod forgetting;

#[path = "model/mutants.rs"]
mod mutants;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use protocol::Cluster;
use settings::{
    Bounds, DRIFT_PERMILLE, Grid, LEASE_READ_PERMILLE, PRODUCT, Settings, VOTE_GATE_PERMILLE,
};

/// One election, one write, one restart, one late request: the smallest search with everything but a transfer.
const SMALL: Bounds = Bounds {
    campaigns: 1,
    writes: 1,
    restarts: 1,
    transfers: 0,
    in_flight: 1,
    first_leaders: 1,
};

/// Searches everything and asserts that each promise holds and everything hoped for happens.
fn holds(name: &str, cluster: Cluster) {
    let start = Instant::now();
    let search = cluster
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures);
    let search = search.spawn_bfs().join();
    search.assert_properties();
    assert!(search.is_done(), "{name}: the search ended early");
    report(
        name,
        search.unique_state_count(),
        search.state_count(),
        start,
    );
}

#[expect(
    clippy::print_stdout,
    reason = "how much was searched is the result of the search"
)]
fn report(name: &str, states: usize, steps: usize, start: Instant) {
    println!(
        "{name}: {states} states, {steps} steps, {:.1} s",
        start.elapsed().as_secs_f64()
    );
}

#[test]
fn the_model_has_the_products_settings() {
    let part = |permille: u32| f64::from(permille) / 1000.0;
    assert_eq!(
        part(LEASE_READ_PERMILLE),
        quorate::raft::LEASE_READ_FRACTION
    );
    assert_eq!(part(VOTE_GATE_PERMILLE), quorate::raft::VOTE_GATE_FACTOR);
    // A read window that ends on the slowest clock before a promise does on the fastest, and a gate that outlives it.
    let (slow, fast) = (1000 - DRIFT_PERMILLE, 1000 + DRIFT_PERMILLE);
    assert!(LEASE_READ_PERMILLE * fast < 1000 * slow);
    assert!(VOTE_GATE_PERMILLE * slow > LEASE_READ_PERMILLE * fast);
}

#[test]
fn drifting_clocks_and_a_restart_break_no_promise() {
    holds("continuous time", Cluster::new(Grid::Fine, SMALL));
}

#[test]
fn drifting_clocks_and_a_transfer_break_no_promise() {
    let bounds = Bounds {
        transfers: 1,
        restarts: 2,
        in_flight: 0,
        ..SMALL
    };
    holds(
        "continuous time, a transfer",
        Cluster::new(Grid::Fine, bounds),
    );
}

#[test]
fn rival_elections_break_no_promise() {
    let bounds = Bounds {
        campaigns: 2,
        ..SMALL
    };
    holds("two elections", Cluster::new(Grid::Coarse, bounds));
}

#[test]
fn late_requests_and_two_restarts_break_no_promise() {
    let bounds = Bounds {
        restarts: 2,
        in_flight: 2,
        ..SMALL
    };
    holds("two late requests", Cluster::new(Grid::Coarse, bounds));
}

#[test]
fn a_late_request_around_a_transfer_breaks_no_promise() {
    let bounds = Bounds {
        transfers: 1,
        ..SMALL
    };
    holds(
        "a transfer, a late request",
        Cluster::new(Grid::Coarse, bounds),
    );
}

#[test]
fn a_transfer_among_rivals_from_any_first_leader_breaks_no_promise() {
    let bounds = Bounds {
        campaigns: 2,
        transfers: 1,
        in_flight: 0,
        first_leaders: 3,
        ..SMALL
    };
    holds(
        "two elections, a transfer",
        Cluster::new(Grid::Coarse, bounds),
    );
}

#[test]
fn no_write_is_lost_whatever_the_clocks_do() {
    let bounds = Bounds {
        campaigns: 2,
        writes: 2,
        ..SMALL
    };
    holds("no clocks", Cluster::new(Grid::Untimed, bounds));
}

#[test]
fn no_write_is_lost_when_every_voter_crashes() {
    let bounds = Bounds {
        campaigns: 2,
        writes: 2,
        restarts: 3,
        in_flight: 0,
        ..SMALL
    };
    holds(
        "no clocks, three crashes",
        Cluster::new(Grid::Untimed, bounds),
    );
}

#[test]
fn forgetting_what_is_dead_hides_nothing() {
    let late = Bounds {
        restarts: 0,
        ..SMALL
    };
    let transfer = Bounds {
        transfers: 1,
        in_flight: 0,
        ..SMALL
    };
    for bounds in [late, transfer] {
        forgetting::assert_harmless(Cluster::new(Grid::Coarse, bounds));
    }
}

/// The model is not merely strict: without drift a leader may read for its whole lease.
#[test]
fn with_perfect_clocks_the_whole_lease_is_safe() {
    let settings = Settings {
        lease_read_permille: 1000,
        drift_permille: 0,
        ..PRODUCT
    };
    let cluster = Cluster::new(Grid::Coarse, SMALL).with_settings(settings, Grid::Coarse);
    holds("no drift", cluster);
}
