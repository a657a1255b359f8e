//! What can be wrong with the simulated store, and which promises that must break.

/// One thing that the store does wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A write is acknowledged and forgotten.
    LostWrite,
    /// A leader read is answered from an old state, and says so.
    StaleLeaderRead,
    /// A lease read is.
    StaleLeaseRead,
    /// A leader read is answered from an old state, and names the newest index.
    LyingRead,
    /// A register read returns what nobody wrote.
    InventedValue,
    /// A write is refused as not done, and done.
    FailApplied,
    /// A cas is done though its condition does not hold.
    WildCas,
    /// A write whose answer was lost is done again when it is retried.
    DoubledWrite,
    /// A retry is answered otherwise than the original.
    ForgetfulRetry,
    /// A write takes its place in the log before one that was over when it began.
    OrderAgainstTime,
    /// A node shows an entry before the one that comes before it.
    ReorderedPrefix,
    /// One node says that it applied two entries in the other order.
    SwappedEntries,
    /// One node skips an entry.
    SkippedEntry,
    /// A follower read is answered from a state before the one that it showed last.
    GoesBack,
    /// A follower read is answered before the node has what it demands.
    TokenIgnored,
    /// A follower read names a bound on its age that does not hold.
    BoundTooTight,
    /// A read names an index higher than the one it saw.
    AppliedTooHigh,
    /// A transfer is applied twice.
    DoubledTransfer,
    /// A transfer is applied though the payer does not have it.
    Overdrawn,
    /// A read of the bank takes one account from an older state.
    FracturedBank,
    /// A read of the bank leaves an account out.
    MissingAccount,
    /// A read of the set leaves an old element out.
    ForgottenElement,
    /// A read of the set has an element twice.
    DoubledElement,
    /// A read of the set has an element that nobody added.
    PhantomElement,
    /// A transaction reads one list from an old state.
    FracturedTransaction,
    /// A transaction appends in the middle.
    AppendInTheMiddle,
    /// A transaction that failed leaves its appends.
    AbortedAppend,
    /// A node ends before the end of the log.
    LeftBehind,
    /// A node ends with another state.
    OtherDigest,
    /// A node panics.
    Panic,
    /// The faults that were planned were not installed.
    NoFaults,
}

impl Flaw {
    /// Every flaw: the workload that shows it, and the promises that must break; no other may.
    ///
    /// Some break more than their own: who is shown an index that is too high demands it of the next node, in vain, and
    /// the last reads are not answered.
    pub(crate) const ALL: &[(Flaw, &str, &[&str])] = &[
        (Flaw::LostWrite, "register", &["linear", "witness"]),
        (Flaw::StaleLeaderRead, "register", &["linear", "witness"]),
        (Flaw::StaleLeaseRead, "register", &["linear", "witness"]),
        (Flaw::LyingRead, "register", &["linear", "witness"]),
        (Flaw::InventedValue, "register", &["linear", "witness"]),
        (Flaw::FailApplied, "register", &["linear", "witness"]),
        (Flaw::WildCas, "register", &["linear", "witness"]),
        (Flaw::DoubledWrite, "register", &["linear", "witness"]),
        (Flaw::ForgetfulRetry, "register", &["witness"]),
        (Flaw::OrderAgainstTime, "register", &["linear", "witness"]),
        (Flaw::ReorderedPrefix, "register", &["linear", "witness"]),
        (Flaw::SwappedEntries, "register", &["witness"]),
        (Flaw::SkippedEntry, "register", &["witness"]),
        (Flaw::GoesBack, "register", &["witness"]),
        (Flaw::TokenIgnored, "register", &["witness"]),
        (Flaw::BoundTooTight, "register", &["witness"]),
        (Flaw::AppliedTooHigh, "register", &["coverage", "witness"]),
        (Flaw::DoubledTransfer, "bank", &["witness"]),
        (Flaw::Overdrawn, "bank", &["bank", "witness"]),
        (Flaw::FracturedBank, "bank", &["bank", "witness"]),
        (Flaw::MissingAccount, "bank", &["bank", "witness"]),
        (Flaw::ForgottenElement, "set", &["set", "witness"]),
        (Flaw::DoubledElement, "set", &["set", "witness"]),
        (Flaw::PhantomElement, "set", &["set", "witness"]),
        (
            Flaw::FracturedTransaction,
            "append",
            &["isolation", "witness"],
        ),
        (Flaw::AppendInTheMiddle, "append", &["isolation", "witness"]),
        (Flaw::AbortedAppend, "append", &["isolation", "witness"]),
        (Flaw::LeftBehind, "mixed", &["durable", "digests"]),
        (Flaw::OtherDigest, "mixed", &["digests"]),
        (Flaw::Panic, "mixed", &["crash"]),
        (Flaw::NoFaults, "mixed", &["coverage"]),
    ];

    /// By the name of its variant.
    pub(crate) fn named(name: &str) -> Option<Flaw> {
        Flaw::ALL
            .iter()
            .map(|(flaw, _, _)| *flaw)
            .find(|flaw| format!("{flaw:?}") == name)
    }
}
