//! The table: every mutant, the run that must find it, and the promises of which one must break.

use quorate::mutants::Mutant;

/// How a mutant is brought to light.
pub(super) enum By {
    /// A run: workload, faults, seconds of faults.
    Run(&'static str, &'static str, u64),
    /// The same with the lease that nodes have by default, and faults that last as much longer: longer than a client waits.
    Long(&'static str, &'static str, u64),
    /// A scenario, by name.
    Scenario(&'static str),
    /// Outages under volume: `kills` or `cuts`, so many.
    Volume(&'static str, &'static str),
    /// Harm to files: so many flips.
    Flips(u64),
    /// The simulation: the scenario, if it is one, and so many seeds at most.
    Sim(Option<&'static str>, u64),
}

/// A mutant, and who must find it.
pub(super) struct Case {
    /// What is broken.
    pub(super) mutant: Mutant,
    /// How it is found.
    pub(super) by: By,
    /// Promises of which one at least must be broken.
    pub(super) breaks: &'static [&'static str],
}

/// What a scenario finds.
pub(super) const STALE: &str = "stale read";

/// What harm to files finds.
pub(super) const SILENT: &str = "silent harm";

/// What the simulation finds, beside promises: an invariant, or a node's own check.
pub(super) const INVARIANT: &str = "invariant";

/// Every mutant that is found.
pub(super) const CASES: &[Case] = &[
    case(
        Mutant::AckBeforeSync,
        By::Run("set,register", "power", 25),
        &["set", "witness", "linear", "crash"],
    ),
    case(Mutant::AckBeforeSync, By::Volume("kills", "60"), FOUND),
    case(Mutant::AckBeforeSync, By::Volume("cuts", "60"), FOUND),
    case(Mutant::AckBeforeSync, By::Volume("points", "40"), FOUND),
    case(
        Mutant::TransferPostedAgain,
        By::Volume("kills", "20"),
        FOUND,
    ),
    case(
        Mutant::VoteNotSaved,
        By::Run("register", "kill,partition", 20),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(Mutant::VoteNotSynced, By::Sim(None, 400), IN_SIM),
    case(
        Mutant::VoteGrantedTwice,
        By::Run("register", "partition,kill", 20),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(Mutant::NoVoteGate, By::Scenario("bridge-restart"), &[STALE]),
    case(
        Mutant::LeaderRestored,
        By::Run("register", "power", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::LeaseUnchecked,
        By::Scenario("paused-leader"),
        &[STALE],
    ),
    case(
        Mutant::LeaseWithoutMargin,
        By::Scenario("fast-followers"),
        &[STALE],
    ),
    case(
        Mutant::LeaseFromReceiveTime,
        By::Scenario("late-answers"),
        &[STALE],
    ),
    case(Mutant::StateNotAtomic, By::Volume("kills", "30"), FOUND),
    case(
        Mutant::LeaseKeptInTransfer,
        By::Scenario("deaf-transfer"),
        &[STALE],
    ),
    case(
        Mutant::ReadIndexUnconfirmed,
        By::Run("register", "partition", 30),
        &["linear", "witness"],
    ),
    case(
        Mutant::ReadUnapplied,
        By::Run("register", "moves,kill", 15),
        &["linear", "witness"],
    ),
    case(
        Mutant::ReadAnywhere,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
    case(
        Mutant::AppliedTooHigh,
        By::Run("register", "none", 5),
        &["witness"],
    ),
    case(
        Mutant::BankReadTorn,
        By::Run("bank", "none", 5),
        &["bank", "witness"],
    ),
    case(
        Mutant::TimeoutNotApplied,
        By::Long("register", "pause,partition", 40),
        &["witness", "linear"],
    ),
    case(
        Mutant::AnswersSwapped,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
    case(
        Mutant::KeysForgotten,
        By::Run("register", "none", 8),
        &["linear", "witness", "once"],
    ),
    case(
        Mutant::TransferPostedAgain,
        By::Run("ledger", "none", 8),
        &["witness", "once", "bank"],
    ),
    case(Mutant::ChainNotAtomic, By::Volume("kills", "20"), FOUND),
    case(
        Mutant::PurgeBeyondSnapshot,
        By::Run("register", "kill,away", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::SnapshotMislabelled,
        By::Run("register", "away,kill", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::OldIdAfterWipe,
        By::Run("register", "members,kill", 40),
        &[
            "witness", "linear", "durable", "digests", "crash", "members",
        ],
    ),
    case(
        Mutant::StaleTerm,
        By::Run("register", "partition,pause", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(Mutant::SyncErrorIgnored, By::Volume("eio", "60"), FOUND),
    case(Mutant::DamageBelieved, By::Flips(4000), &[SILENT]),
    case(Mutant::LogDamageSkipped, By::Flips(4000), &[SILENT]),
    case(
        Mutant::RefusalLeavesLeg,
        By::Run("bank", "none", 5),
        &["bank", "witness", "crash"],
    ),
    case(
        Mutant::LimitsIgnored,
        By::Run("bank", "none", 5),
        &["bank", "witness"],
    ),
    case(
        Mutant::LegLost,
        By::Run("bank", "none", 5),
        &["bank", "witness", "crash"],
    ),
    case(
        Mutant::CasUnconditional,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
];

/// What the simulation finds where acknowledged writes or votes are lost.
const IN_SIM: &[&str] = &[
    INVARIANT, "linear", "witness", "durable", "digests", "crash",
];

/// What outages under volume find.
const FOUND: &[&str] = &["lost", "doubled", "books", "crash"];

/// The case of a mutant.
const fn case(mutant: Mutant, by: By, breaks: &'static [&'static str]) -> Case {
    Case { mutant, by, breaks }
}
