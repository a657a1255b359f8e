//! Known bugs, built in on purpose, so that the fault tests can show that they find them.
//!
//! Only a build with the feature `mutants` has any, and of those at most one, chosen when the program starts. Otherwise
//! [`on`] is `false` when the program is compiled, and nothing of this is left in it. A build that has them does nothing
//! until it is told which one to have, and says at each start what is broken.
//!
//! Every layer may ask; nothing here reads a clock, a disk or the environment: the command line chooses.

/// The environment variable that names the mutant.
pub const VARIABLE: &str = "QUORATE_MUTANT";

/// The environment variable that names a crash point and the pass at which the process ends there: `log:synced=17`.
pub const CRASH_VARIABLE: &str = "QUORATE_CRASH";

/// What stands for none of them.
pub const NONE: &str = "none";

/// The version of this program, for people.
pub const VERSION: &str = if cfg!(feature = "mutants") {
    concat!(
        env!("CARGO_PKG_VERSION"),
        ", BROKEN ON PURPOSE: built with mutants"
    )
} else {
    env!("CARGO_PKG_VERSION")
};

/// Makes the mutants: for each its name in the source, its word, and what is broken.
macro_rules! mutants {
    ($($name:ident $word:literal $says:literal)*) => {
        /// A known bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $says] $name,)*
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)*];

            /// Its word.
            pub fn name(self) -> &'static str {
                match self { $(Mutant::$name => $word,)* }
            }

            /// What is broken, in a sentence.
            pub fn says(self) -> &'static str {
                match self { $(Mutant::$name => $says,)* }
            }
        }
    };
}

mutants! {
    AckBeforeSync "ack-before-sync" "A write is acknowledged before it is on the disk."
    VoteNotSaved "vote-not-saved" "A vote is given without being written down."
    VoteNotSynced "vote-not-synced" "A vote is given before it is on the disk."
    VoteGrantedTwice "vote-granted-twice" "Every candidate gets this node's vote, whomever it promised it to."
    NoVoteGate "no-vote-gate" "A restarted node votes at once, though it has forgotten whose lease it promised to keep."
    LeaderRestored "leader-restored" "A leader that restarts leads on without an election."
    LeaseUnchecked "lease-unchecked" "A leader answers lease reads however old its lease is."
    LeaseWithoutMargin "lease-without-margin" "A leader answers lease reads for the whole of its lease, as if all clocks ran alike."
    LeaseFromReceiveTime "lease-from-receive-time" "A leader counts its lease from when an answer came, not from when it asked."
    LeaseKeptInTransfer "lease-kept-in-transfer" "A leader answers lease reads while it hands its leadership over."
    ReadIndexUnconfirmed "read-index-unconfirmed" "A leader answers reads without asking whether it still leads."
    ReadUnapplied "read-unapplied" "A read is answered before what it must see is applied."
    ReadAnywhere "read-anywhere" "Any node answers reads as if it led."
    AppliedTooHigh "applied-too-high" "A read says a higher index than the one it was true at."
    BankReadTorn "bank-read-torn" "A list of accounts is read at two moments."
    TimeoutNotApplied "timeout-not-applied" "A write whose outcome is unknown is said not to be applied."
    AnswersSwapped "answers-swapped" "The answers of one log entry go to each other's clients."
    KeysForgotten "keys-forgotten" "Idempotency keys are forgotten after a second."
    TransferPostedAgain "transfer-posted-again" "A transfer that is sent again is posted again."
    LimitsIgnored "limits-ignored" "An account pays out more than its limits allow."
    LegLost "leg-lost" "A transfer debits one account and credits none."
    CasUnconditional "cas-unconditional" "A conditional write does not look at its condition."
    StateNotAtomic "state-not-atomic" "The state says that it holds an entry before it does."
    SnapshotMislabelled "snapshot-mislabelled" "A snapshot says that it ends where the state is when it is finished, not where it was made of it."
    RefusalLeavesLeg "refusal-leaves-leg" "A transfer that is refused debits its account all the same."
    ChainNotAtomic "chain-not-atomic" "What a chain of transfers posted before one of them was refused stays posted."
    PurgeBeyondSnapshot "purge-beyond-snapshot" "The log is purged of everything that is committed, whatever the snapshot holds."
    OldIdAfterWipe "old-id-after-wipe" "A node that lost its disk is taken for what it was."
    StaleTerm "stale-term" "Messages of a leader of before are taken for messages of the one that leads."
    SyncErrorIgnored "sync-error-ignored" "A sync of the log that fails is taken for one that did not."
    LogDamageSkipped "log-damage-skipped" "The log is taken to end where it cannot be read."
    DamageBelieved "damage-believed" "Rows of the state are read without a look at their checksums."
}

/// Points between the steps that make something durable, at which a process can be told to end: by name, what was just done, or
/// what is about to be.
pub const CRASH_POINTS: &[(&str, &str)] = &[
    (
        "identity:written",
        "a new identity is synced and not in its place",
    ),
    (
        "identity:renamed",
        "a new identity is in its place, its name not synced",
    ),
    ("log:begin", "a group of the log is about to be written"),
    (
        "log:written",
        "a group of the log is written and not synced",
    ),
    (
        "log:synced",
        "a group of the log is synced and not witnessed",
    ),
    (
        "log:witnessed",
        "a group of the log is witnessed and nobody told",
    ),
    ("witness:begin", "the witness is about to be synced"),
    ("roll:headed", "a new segment has its head and not its name"),
    ("roll:renamed", "a new segment has its name, not synced"),
    (
        "roll:named",
        "a new segment is there and the witness does not know",
    ),
    ("vote:asked", "a vote is about to be written down"),
    ("vote:saved", "a vote is written down and not given"),
    (
        "purge:checked",
        "the state does not need what is to be purged",
    ),
    (
        "purge:released",
        "segments are not needed and the witness is not synced",
    ),
    ("purge:removed", "a segment is removed, its name not synced"),
    ("apply:decided", "an entry is decided and not written"),
    (
        "apply:written",
        "an entry is written to the state and nobody told",
    ),
    ("flush", "the state is about to be flushed"),
    ("seal:noted", "a seal has begun"),
    ("seal:ids", "a seal has written the ids"),
    ("seal:history", "a seal has written the history"),
    ("seal:filters", "a seal has made the filters"),
    ("seal:stamped", "a seal is complete and not published"),
    (
        "checkpoint:flushed",
        "the state is flushed for a checkpoint",
    ),
    (
        "checkpoint:linked",
        "a checkpoint is there, without a manifest",
    ),
    (
        "manifest:written",
        "a manifest is synced and not in its place",
    ),
    (
        "manifest:renamed",
        "a manifest is in its place, its name not synced",
    ),
    (
        "staging:file",
        "a file of a snapshot is there and not verified",
    ),
    (
        "staging:linked",
        "a snapshot that came in is put together, without a manifest",
    ),
    (
        "install:settled",
        "the log is ready for a snapshot that came in",
    ),
    ("install:copied", "the files of the new state are there"),
    ("install:opened", "the new state was opened"),
    (
        "current:written",
        "the name of the new state is synced and not in its place",
    ),
    (
        "current:renamed",
        "the name of the new state is in its place, not synced",
    ),
    ("install:current", "the new state is the current one"),
    (
        "install:done",
        "the new state is in use and its snapshot not known",
    ),
];

/// A point, and passes left until the process ends there.
#[cfg(feature = "mutants")]
static CRASH: std::sync::OnceLock<(&str, std::sync::atomic::AtomicU64)> =
    std::sync::OnceLock::new();

/// Whether the process is to end here, at this pass of `point`.
#[cfg(feature = "mutants")]
pub fn strikes(point: &str) -> bool {
    let chosen = CRASH.get().filter(|(chosen, _)| *chosen == point);
    let before = std::sync::atomic::Ordering::Relaxed;
    chosen.is_some_and(|(_, left)| left.fetch_sub(1, before) == 1)
}

/// Whether the process is to end here: never.
#[cfg(not(feature = "mutants"))]
pub const fn strikes(_: &str) -> bool {
    false
}

/// Has the process end at a point, if `named` names one and its pass. Does nothing in a build without mutants, and asks nothing.
///
/// # Errors
/// When a build with mutants is told of a point that is not known, or of no pass.
#[cfg(feature = "mutants")]
pub fn choose_crash(named: impl FnOnce() -> Option<String>) -> Result<(), String> {
    let Some(named) = named() else {
        return Ok(());
    };
    let (point, pass) = find_crash(&named)?;
    CRASH
        .set((point, pass.into()))
        .map_err(|_| "the crash point was chosen before".to_owned())
}

/// Has the process end at a point: never.
#[cfg(not(feature = "mutants"))]
pub fn choose_crash(_: impl FnOnce() -> Option<String>) -> Result<(), String> {
    Ok(())
}

/// The point and the pass of `log:synced=17`.
#[cfg(any(test, feature = "mutants"))]
fn find_crash(named: &str) -> Result<(&'static str, u64), String> {
    let (name, pass) = named.split_once('=').unwrap_or((named, "1"));
    let point = CRASH_POINTS.iter().find(|(known, _)| *known == name);
    let pass = pass.parse().ok().filter(|pass| *pass > 0);
    match (point, pass) {
        (Some((known, _)), Some(pass)) => Ok((known, pass)),
        _ => {
            let known: Vec<&str> = CRASH_POINTS.iter().map(|(name, _)| *name).collect();
            Err(format!(
                "{CRASH_VARIABLE}={named} names no crash point and pass, as log:synced=17 does; the points are: {}",
                known.join(", ")
            ))
        }
    }
}

#[cfg(feature = "mutants")]
static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();

/// Whether this program has that bug.
#[cfg(feature = "mutants")]
pub fn on(mutant: Mutant) -> bool {
    CHOSEN.get() == Some(&Some(mutant))
}

/// Whether this program has that bug: never.
#[cfg(not(feature = "mutants"))]
pub const fn on(_: Mutant) -> bool {
    false
}

/// Makes the mutant of that name the one this program has, once; gives what has to be said of it. Does nothing, and has
/// nothing to say, in a build without mutants.
///
/// # Errors
/// When a build with mutants is not told which one, or one that is not known.
pub fn choose(named: Option<&str>) -> Result<Option<String>, String> {
    if !cfg!(feature = "mutants") {
        return Ok(None);
    }
    let mutant = find(named)?;
    #[cfg(feature = "mutants")]
    CHOSEN
        .set(mutant)
        .map_err(|_| "the mutant was chosen before".to_owned())?;
    let (name, says) = match mutant {
        Some(mutant) => (mutant.name(), mutant.says()),
        None => (NONE, "Nothing is broken this time."),
    };
    Ok(Some(format!(
        "THIS BUILD IS BROKEN ON PURPOSE ({VARIABLE}={name}): {says} Trust it with nothing."
    )))
}

/// The mutant of that name; none if that is what is named.
fn find(named: Option<&str>) -> Result<Option<Mutant>, String> {
    if named == Some(NONE) {
        return Ok(None);
    }
    let mut all = Mutant::ALL.iter().copied();
    let found = all.find(|mutant| Some(mutant.name()) == named);
    found.map(Some).ok_or_else(|| {
        let known: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!(
            "this build is broken on purpose and starts only with {VARIABLE} set to {NONE} or one of: {}",
            known.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_found_by_its_word_and_nothing_else_is() {
        assert_eq!(find(Some(NONE)), Ok(None));
        for mutant in Mutant::ALL {
            assert_eq!(find(Some(mutant.name())), Ok(Some(*mutant)));
        }
        for wrong in [None, Some(""), Some("NoVoteGate"), Some("no-vote-gate ")] {
            let refused = find(wrong).unwrap_err();
            assert!(refused.contains("no-vote-gate"), "{refused}");
        }
    }

    #[test]
    fn a_crash_point_is_named_with_its_pass_or_refused() {
        assert_eq!(find_crash("log:synced=17"), Ok(("log:synced", 17)));
        assert_eq!(find_crash("flush"), Ok(("flush", 1)));
        for wrong in [
            "",
            "log:synced=0",
            "log:synced=",
            "log:sync",
            "log:synced=1=2",
        ] {
            let refused = find_crash(wrong).unwrap_err();
            assert!(refused.contains("manifest:written"), "{refused}");
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_usual_build_has_none_and_is_told_none() {
        assert_eq!(choose(Some("no-vote-gate")), Ok(None));
        assert_eq!(choose_crash(|| Some("no:such=0".to_owned())), Ok(()));
        assert!(!CRASH_POINTS.iter().any(|(name, _)| strikes(name)));
        assert!(Mutant::ALL.iter().all(|mutant| !on(*mutant)));
        assert_eq!(VERSION, env!("CARGO_PKG_VERSION"));
    }
}
