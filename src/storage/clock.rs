//! The monotonic clock: the one that timers go by. In a simulation it is that of the simulated node.

use std::time::Instant;

/// What it shows.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
