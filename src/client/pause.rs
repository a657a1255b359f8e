//! How long to wait before asking again: longer each time, and never in step with other clients.

use std::time::Duration;

use super::Options;

/// The longest pause before attempt number `attempt` (the first is 0, and waits for nothing).
fn longest(options: &Options, attempt: u32) -> Duration {
    match attempt.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => options
            .pause_first
            .saturating_mul(1 << doublings.min(20))
            .min(options.pause_max),
    }
}

/// A pause drawn evenly between nothing and the longest ("full jitter"): clients that failed together do not return together.
pub(super) fn before(options: &Options, attempt: u32) -> Duration {
    longest(options, attempt).mul_f64(fraction())
}

/// What a node asked for, and up to a fifth more.
pub(super) fn asked_for(rest: Duration) -> Duration {
    rest.mul_f64(1.0 + fraction() / 5.0)
}

/// Evenly from 0 to 1. Only ever drawn after a failure, so it need not be fast.
fn fraction() -> f64 {
    // The first field of a random UUID is random in all its bits.
    let (random, ..) = uuid::Uuid::new_v4().as_fields();
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = Options {
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_millis(100),
            ..Options::default()
        };
        let millis: Vec<_> = [0, 1, 2, 3, 4, u32::MAX]
            .map(|attempt| longest(&options, attempt).as_millis())
            .into();
        assert_eq!(millis, [0, 20, 40, 80, 100, 100]);
    }

    #[test]
    fn pauses_are_spread_over_their_length() {
        let options = Options::default();
        let drawn: Vec<_> = (0..200).map(|_| before(&options, 10)).collect();
        assert!(drawn.iter().all(|pause| *pause <= options.pause_max));
        assert!(drawn.iter().any(|pause| *pause < options.pause_max / 4));
        assert!(drawn.iter().any(|pause| *pause > options.pause_max * 3 / 4));
        let second = Duration::from_secs(1);
        assert!((0..200).all(|_| {
            (second..second * 6 / 5 + Duration::from_nanos(9)).contains(&asked_for(second))
        }));
    }
}
