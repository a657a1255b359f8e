//! How late the threads that serve clients are. A request that waits for a processor is in no queue that says how long it is,
//! and the work on it is in vain if its answer comes too late: so what a thread would do at once is timed, and while it
//! is done far too late, writes are refused by their head alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// How often it is measured.
const INTERVAL: Duration = Duration::from_millis(20);

/// How late the threads are, for everyone who wants to know.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    origin: Instant,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the next measurement is due, in nanoseconds since `origin`; 0 before the first.
    due_ns: AtomicU64,
    /// How late the last one was, in nanoseconds.
    last_ns: AtomicU64,
}

impl Lag {
    /// Nothing measured yet.
    pub(super) fn new() -> Lag {
        Lag {
            origin: Instant::now(),
            state: Arc::default(),
        }
    }

    /// Measures for ever, on the threads that it runs on.
    pub(super) async fn measure(self) -> Infallible {
        loop {
            let due = Instant::now() + INTERVAL;
            self.expect(due);
            sleep_until(due.into()).await;
            self.met(due, Instant::now());
        }
    }

    /// How late the threads are now: as late as the last measurement, or as the next already is.
    pub(super) fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    fn expect(&self, due: Instant) {
        // Relaxed, here and below: each number stands for itself.
        self.state.due_ns.store(self.ns(due), Ordering::Relaxed);
    }

    fn met(&self, due: Instant, now: Instant) {
        let late = self.ns(now).saturating_sub(self.ns(due));
        self.state.last_ns.store(late, Ordering::Relaxed);
    }

    fn at(&self, now: Instant) -> Duration {
        let due = self.state.due_ns.load(Ordering::Relaxed);
        let last = self.state.last_ns.load(Ordering::Relaxed);
        let overdue = match due {
            0 => 0,
            due => self.ns(now).saturating_sub(due),
        };
        Duration::from_nanos(overdue.max(last))
    }

    fn ns(&self, when: Instant) -> u64 {
        let since = when.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn threads_are_as_late_as_they_last_were_or_already_are_again() {
        let lag = Lag::new();
        let begun = lag.origin;
        assert_eq!(lag.at(begun + ms(1000)), ms(0), "nothing is measured yet");
        lag.expect(begun + ms(20));
        assert_eq!(lag.at(begun + ms(15)), ms(0), "not due yet");
        assert_eq!(lag.at(begun + ms(320)), ms(300), "overdue");
        lag.met(begun + ms(20), begun + ms(320));
        lag.expect(begun + ms(340));
        assert_eq!(lag.at(begun + ms(330)), ms(300), "as late as last time");
        assert_eq!(lag.at(begun + ms(940)), ms(600), "and already later");
        lag.met(begun + ms(340), begun + ms(340));
        assert_eq!(lag.at(begun + ms(340)), ms(0), "in time again");
    }

    #[tokio::test]
    async fn a_thread_that_is_kept_busy_is_late() {
        let lag = Lag::new();
        tokio::spawn(lag.clone().measure());
        tokio::time::sleep(ms(30)).await;
        std::thread::sleep(ms(200));
        // The measurement was due at most 20 ms after the thread was taken, whenever it began.
        assert!(lag.now() >= ms(100), "{:?}", lag.now());
    }
}
