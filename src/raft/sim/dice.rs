//! All chance in a simulation: numbers from its seed.

use std::cell::RefCell;

/// A sequence of numbers: SplitMix64, the same everywhere and for ever.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Any number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number from `low` up to and including `high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so often in a hundred times.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

thread_local! {
    /// What the nodes of the simulation on this thread draw from: they take turns, so the order of draws is as certain as
    /// that of everything else.
    static SHARED: RefCell<Option<Dice>> = const { RefCell::new(None) };
}

/// From now on this thread simulates; no more, if there is no seed.
pub(super) fn set(seed: Option<u64>) {
    SHARED.set(seed.map(Dice::new));
}

/// Whether this thread simulates.
pub(crate) fn is_simulated() -> bool {
    SHARED.with_borrow(Option::is_some)
}

/// What `roll` makes of the dice of the simulation on this thread; nothing, if there is none.
pub(super) fn roll<T>(roll: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    SHARED.with_borrow_mut(|dice| dice.as_mut().map(roll))
}
