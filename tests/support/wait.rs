//! Waiting for a condition, never for a time alone.

use std::thread;
use std::time::{Duration, Instant};

/// Polls `condition` until it gives something, or panics with `what` after `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} in vain for: {what}"
        );
        pause_between_polls();
    }
}

/// The pace of polling: short enough not to matter, long enough to leave the processors to those waited for.
pub(crate) fn pause_between_polls() {
    thread::sleep(Duration::from_millis(10));
}
