//! The numbers of the model: the product's settings, the clocks and the bounds of the search.

/// Part of the lease in which a lease read is served, in thousandths. Mirrors `LEASE_READ_FRACTION = 0.6` of
/// `quorate::raft`; the test `the_model_has_the_products_settings` keeps the two equal.
pub(crate) const LEASE_READ_PERMILLE: u32 = 600;
/// Multiple of the lease for which a restarted voter grants no vote, in thousandths. Mirrors
/// `VOTE_GATE_FACTOR = 1.3` of `quorate::raft`; the same test keeps the two equal.
pub(crate) const VOTE_GATE_PERMILLE: u32 = 1300;
/// How far a clock may run fast or slow against true time, in thousandths. The product has no setting for it: it is
/// the bound for which `LEASE_READ_FRACTION` was chosen, (1 - 0.2) / (1 + 0.2) = 0.667 > 0.6.
pub(crate) const DRIFT_PERMILLE: u32 = 200;

/// Settings under which a cluster is checked; the mutants change one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Part of the lease in which a lease read is served, in thousandths of the lease.
    pub(crate) lease_read_permille: u32,
    /// How long a restarted voter refuses to vote, in thousandths of the lease.
    pub(crate) vote_gate_permille: u32,
    /// How far each clock may be off, in thousandths.
    pub(crate) drift_permille: u32,
}

/// What the product runs with.
pub(crate) const PRODUCT: Settings = Settings {
    lease_read_permille: LEASE_READ_PERMILLE,
    vote_gate_permille: VOTE_GATE_PERMILLE,
    drift_permille: DRIFT_PERMILLE,
};

/// How finely true time is cut into ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Grid {
    /// Three ticks a lease, and everything happens at a tick: few states, and one tick too much in the read window or
    /// too little in a promise is already a counterexample.
    Coarse,
    /// Twelve ticks a lease. Every limit is then a whole number of ticks (9, 10 and 13), and both sides of a limit are
    /// allowed at it. With such closed constraints a search over whole ticks finds all that can happen in continuous
    /// time (Henzinger, Manna, Pnueli 1992, "What good are digital clocks?").
    Fine,
    /// No time: no lease read is served and nothing is promised or gated, so that anybody may stand and vote at any
    /// moment. For what must not depend on clocks at all.
    Untimed,
}

/// For how many ticks of true time each timer holds, in the worst case of drift.
///
/// A clock is taken as slow where it measures what its own node may do (serve reads) and as fast where it measures
/// what its node owes to others (a promise, the gate). Both at once is more than any real clock can do, so this
/// covers every pair of clocks, also clocks whose drift changes on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From the sending of an acknowledged request: a leader serves lease reads.
    pub(crate) read: u8,
    /// From hearing the leader: a follower refuses to vote.
    pub(crate) promise: u8,
    /// From its start: a node refuses to vote.
    pub(crate) gate: u8,
}

impl Limits {
    /// The limits of `settings` on `grid`.
    pub(crate) fn new(settings: Settings, grid: Grid) -> Limits {
        let (ticks_per_lease, is_closed) = match grid {
            Grid::Coarse => (3, false),
            Grid::Fine => (12, true),
            Grid::Untimed => {
                return Limits {
                    read: 0,
                    promise: 0,
                    gate: 0,
                };
            }
        };
        // What a clock shows after a tick of true time, and a duration on a clock, both in thousandths of a tick.
        let (slow, fast) = (
            1000 - settings.drift_permille,
            1000 + settings.drift_permille,
        );
        let lease = 1000 * ticks_per_lease;
        let read_window = settings.lease_read_permille * ticks_per_lease;
        let gate_window = settings.vote_gate_permille * ticks_per_lease;
        // openraft serves while `now < acknowledged + lease` and refuses a vote until `now > heard + lease`.
        let (read, promise, gate) = if is_closed {
            (
                upto(read_window, slow),
                before(lease, fast),
                before(gate_window, fast),
            )
        } else {
            (
                before(read_window, slow),
                upto(lease, fast),
                upto(gate_window, fast),
            )
        };
        Limits {
            read,
            promise,
            gate,
        }
    }
}

/// How many ticks from 0 on have a clock below `end`.
fn before(end: u32, clock_per_tick: u32) -> u8 {
    u8::try_from(end.div_ceil(clock_per_tick)).expect("a lease is a few ticks")
}

/// How many ticks from 0 on have a clock at most at `end`.
fn upto(end: u32, clock_per_tick: u32) -> u8 {
    u8::try_from(end / clock_per_tick + 1).expect("a lease is a few ticks")
}

/// Where the search ends. Everything within is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Times that a node stands for election in all. The first leader has been elected before.
    pub(crate) campaigns: u8,
    /// Client writes proposed in all.
    pub(crate) writes: u8,
    /// Process restarts in all, each a crash with the loss of what was not flushed.
    pub(crate) restarts: u8,
    /// Leadership transfers begun in all.
    pub(crate) transfers: u8,
    /// Append requests that may take their time at once, at most two. Beside them a leader may call a follower and
    /// have its answer within the tick.
    pub(crate) in_flight: u8,
    /// How many of the three nodes are tried as the first leader: their order matters where two candidates share a
    /// term.
    pub(crate) first_leaders: u8,
}
