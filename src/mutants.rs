//! Known bugs, built in on purpose, so that the fault tests can show that they find them.
//!
//! Only a build with the feature `mutants` has any, and of those at most one, chosen when the program starts. Otherwise
//! [`on`] is `false` when the program is compiled, and nothing of this is left in it. A build that has them does nothing
//! until it is told which one to have, and says at each start what is broken.
//!
//! Every layer may ask; nothing here reads a clock, a disk or the environment: the command line chooses.

/// The environment variable that names the mutant.
pub const VARIABLE: &str = "QUORATE_MUTANT";

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
    VoteGrantedTwice "vote-granted-twice" "Every candidate gets this node's vote, whomever it promised it to."
    NoVoteGate "no-vote-gate" "A restarted node votes at once, though it has forgotten whose lease it promised to keep."
    LeaderRestored "leader-restored" "A leader that restarts leads on without an election."
    LeaseUnchecked "lease-unchecked" "A leader answers lease reads however old its lease is."
    LeaseWithoutMargin "lease-without-margin" "A leader answers lease reads for the whole of its lease, as if all clocks ran alike."
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
    DamageBelieved "damage-believed" "Rows of the state are read without a look at their checksums."
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

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn a_usual_build_has_none_and_is_told_none() {
        assert_eq!(choose(Some("no-vote-gate")), Ok(None));
        assert!(Mutant::ALL.iter().all(|mutant| !on(*mutant)));
        assert_eq!(VERSION, env!("CARGO_PKG_VERSION"));
    }
}
