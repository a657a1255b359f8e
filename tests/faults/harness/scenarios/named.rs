//! The scenarios that a replicated log must stand, by the numbers they have in our list of them, and where each is played.

use std::fmt;

/// Where a scenario is played.
pub(crate) enum Place {
    /// One of ours, by name.
    Scenario(&'static str),
    /// A command of `scripts/faults.sh`.
    Command(&'static str),
    /// A test: its file and name.
    Test(&'static str, &'static str),
    /// Nowhere, and why.
    Nowhere(&'static str),
}

use Place::{Command, Nowhere, Scenario, Test};

/// Number, what happens, and where.
pub(crate) const NAMED: &[(&str, &str, &[Place])] = &[
    (
        "S1",
        "a leader is frozen beyond its lease",
        &[Scenario("paused-leader")],
    ),
    (
        "S2",
        "a voter restarts inside the lease it promised",
        &[Scenario("bridge-restart")],
    ),
    ("S3", "both voters do", &[Scenario("both-restart")]),
    (
        "S4",
        "followers with fast clocks",
        &[Scenario("fast-followers"), Scenario("late-answers")],
    ),
    (
        "S5",
        "lease reads while leadership is handed over",
        &[Scenario("deaf-transfer")],
    ),
    (
        "S6",
        "a leader restarts and leads on",
        &[
            Scenario("restarted-leader"),
            Test(
                "src/raft/tests/safety.rs",
                "a_leader_that_lost_its_tail_does_not_reuse_a_log_id",
            ),
        ],
    ),
    (
        "S7",
        "an answer is lost and the write sent again",
        &[
            Test(
                "src/raft/tests/time.rs",
                "a_write_sent_again_is_done_once_through_failing_leaders_and_power_cuts",
            ),
            Command("kills"),
        ],
    ),
    (
        "S8",
        "a bit of a log flips",
        &[
            Test(
                "src/storage/log/tests/real.rs",
                "a_removed_entry_file_and_a_flipped_byte_are_refused_on_the_real_disk",
            ),
            Command("flips"),
        ],
    ),
    (
        "S9",
        "a voter ends before and after its vote is on the disk",
        &[
            Command("points"),
            Test(
                "src/raft/tests/storage.rs",
                "a_vote_is_saved_when_it_is_on_the_disk",
            ),
        ],
    ),
    (
        "S10",
        "a snapshot meets a tail that contradicts it",
        &[Test(
            "src/raft/tests/repair.rs",
            "only_what_contradicts_a_snapshot_is_cut_off_the_log",
        )],
    ),
    (
        "S11",
        "two operators change the members at once",
        &[
            Command("run"),
            Test(
                "src/raft/members/plan/tests.rs",
                "nothing_is_changed_while_a_change_is_half_done_or_by_who_does_not_lead",
            ),
        ],
    ),
    ("S12", "the leader's disk is full", &[Command("full")]),
    (
        "S13",
        "one fsync fails",
        &[
            Command("eio"),
            Test(
                "src/raft/tests/watching.rs",
                "a_failed_sync_stops_the_node_at_once",
            ),
        ],
    ),
    (
        "S14",
        "all nodes lose their power at once",
        &[Command("cuts")],
    ),
    (
        "S15",
        "nodes join after the log was purged",
        &[Test(
            "tests/cluster/replace.rs",
            "every_node_of_a_cluster_is_replaced_under_load_and_no_request_fails",
        )],
    ),
    (
        "S16",
        "a cluster is formed by several at once",
        &[Test(
            "src/raft/tests/forming.rs",
            "nodes_told_to_form_the_same_cluster_at_once_form_one",
        )],
    ),
    (
        "S17",
        "a follower too old for the bound that a read names",
        &[Nowhere(
            "no read names a bound: level `follower` promises nothing about age",
        )],
    ),
    (
        "S18",
        "reads before a new leader's first entry is committed",
        &[Scenario("restarted-leader")],
    ),
];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scenario(name) => write!(f, "scenario {name}"),
            Command(name) => write!(f, "scripts/faults.sh {name}"),
            Test(file, name) => write!(f, "{file}: {name}"),
            Nowhere(why) => write!(f, "nowhere: {why}"),
        }
    }
}
