//! Durations counted by size, for measuring what happens thousands of times a second: recording one is three additions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the classes, in microseconds; one more class holds what is longer.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// See the module.
#[derive(Debug, Default)]
pub struct Histogram {
    classes: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many durations were at most as long as each of [`BOUNDS_US`].
    pub up_to: [u64; BOUNDS_US.len()],
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, duration: Duration) {
        let micros = duration.as_nanos().div_ceil(1000);
        let class = BOUNDS_US.partition_point(|bound| u128::from(*bound) < micros);
        // Relaxed: the numbers are read for people, who do not mind one that is on its way.
        self.classes[class].fetch_add(1, Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanos, Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Counted {
        let mut counted = Counted {
            sum: Duration::from_nanos(self.sum_ns.load(Relaxed)),
            ..Counted::default()
        };
        for (place, class) in self.classes.iter().enumerate() {
            counted.count += class.load(Relaxed);
            if let Some(up_to) = counted.up_to.get_mut(place) {
                *up_to = counted.count;
            }
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_for_every_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record(Duration::from_nanos(100_001));
        let counted = histogram.read();
        assert_eq!(counted.count, 6);
        assert_eq!(counted.up_to[0], 2, "0 and 100");
        assert_eq!(
            counted.up_to[1], 4,
            "a nanosecond beyond a bound is beyond it"
        );
        assert_eq!(counted.up_to[BOUNDS_US.len() - 1], 5);
        assert_eq!(counted.sum, Duration::from_nanos(20_000_302_001));
    }
}
