//! Numbers from a seed: SplitMix64, whose sequence is the same everywhere and for ever.

use std::time::Duration;

/// A source of numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from `low` up to but not including `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// True so often in a hundred times.
    pub(crate) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of them; there must be one.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len() as u64);
        &from[usize::try_from(at).expect("below the length of a slice")]
    }

    /// A latency in nanoseconds around `mean_ms`, with a long tail, as networks and disks have it.
    pub(crate) fn latency(&mut self, mean_ms: f64) -> u64 {
        let uniform = (self.below(1_000_000) as f64 + 1.0) / 1_000_001.0;
        let latency = Duration::from_secs_f64(mean_ms / 1e3 * (0.4 - 0.6 * uniform.ln()));
        u64::try_from(latency.as_nanos()).expect("far below centuries")
    }
}
