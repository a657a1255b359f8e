//! Log time: what the clocks of a majority would call now.
//!
//! Keys are forgotten by log time, and log time is the leader's word. So that one leader whose clock is a year ahead forgets
//! nothing, its word is held against the others': every answer to a leader carries the wall clock of who gave it, and
//! a stamp is one that a majority of the voters would give too, within a tolerance. If this node's own clock is not, the
//! operator is told, once when it begins and then once a minute, and the stamp is what that majority shows. If there is no
//! majority for any time the entry is stamped with nothing, and log time advances by a nanosecond, which expires nothing.
//!
//! What is known of another clock is an interval: the answer was given after the question was sent and before it was
//! received, both by the monotonic clock of this node. Answers to votes count too, so that who was elected has heard the
//! clocks of a majority before it stamps its first entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;

use super::Options;
use super::types::{Raft, Types};
use crate::storage::clock::now;

/// A wall clock: nanoseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What was heard longer ago says nothing any more. Two clocks drift apart by a few milliseconds in that time.
const HEARD_WITHIN: Duration = Duration::from_secs(30);
/// A more precise answer is kept for so long before a less precise one takes its place.
const PRECISE_FOR: Duration = Duration::from_secs(5);
/// How often a clock that the others do not agree with is complained about.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// This node's wall clock, and what it knows of those of others; clones share it.
#[derive(Clone)]
pub(crate) struct Clocks {
    inner: Arc<Inner>,
}

struct Inner {
    wall: WallClock,
    heard: Mutex<BTreeMap<u64, Heard>>,
    /// Entries that were not stamped with this node's time because clocks disagreed.
    disagreements: AtomicU64,
    complained: Mutex<Option<Instant>>,
}

/// What another node's clock showed, some time between two moments of ours.
#[derive(Clone, Copy, Debug)]
struct Heard {
    wall_ns: u64,
    sent: Instant,
    received: Instant,
}

/// Whether this node's clock can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// A majority agrees that it is now so many nanoseconds since 1970.
    Agreed(u64),
    /// A majority agrees on another time than this node's: at least so many nanoseconds since 1970.
    Outvoted(u64),
    /// The clocks of a majority are known, and there is none that a majority agrees with.
    Disputed,
    /// Too few clocks were heard lately.
    Unknown,
}

impl Clocks {
    /// Around the clock of this machine.
    pub(crate) fn system() -> Clocks {
        Clocks::around(Arc::new(|| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, nanos)
        }))
    }

    /// Around `wall`.
    pub(crate) fn around(wall: WallClock) -> Clocks {
        Clocks {
            inner: Arc::new(Inner {
                wall,
                heard: Mutex::default(),
                disagreements: AtomicU64::new(0),
                complained: Mutex::default(),
            }),
        }
    }

    /// This node's wall clock.
    pub(crate) fn wall_ns(&self) -> u64 {
        (self.inner.wall)()
    }

    /// Notes that the wall clock of `peer` showed `wall_ns` in an answer to what was sent at `sent`, received now.
    pub(crate) fn hear(&self, peer: u64, sent: Instant, wall_ns: u64) {
        self.hear_at(peer, sent, now(), wall_ns);
    }

    fn hear_at(&self, peer: u64, sent: Instant, received: Instant, wall_ns: u64) {
        let mut all = self.heard();
        let precise = all.get(&peer).is_some_and(|before| {
            let width = |heard: &Heard| heard.received - heard.sent;
            received.saturating_duration_since(before.received) < PRECISE_FOR
                && width(before) < received - sent
        });
        if !precise {
            let heard = Heard {
                wall_ns,
                sent,
                received,
            };
            all.insert(peer, heard);
        }
    }

    /// Whether a majority of each of `configs`, sets of voters, agrees with the clock of this node, `me`.
    pub(super) fn now(&self, me: u64, configs: &[BTreeSet<u64>], tolerance: Duration) -> Now {
        self.now_at(now(), me, configs, tolerance)
    }

    fn now_at(&self, at: Instant, me: u64, configs: &[BTreeSet<u64>], tolerance: Duration) -> Now {
        let wall_ns = self.wall_ns();
        let all = self.heard();
        let of = |voter: &u64| match *voter == me {
            true => Some((wall_ns, wall_ns)),
            false => all.get(voter).and_then(|heard| heard.at(at)),
        };
        let agree = |time_ns: u64| {
            let allows = |(earliest, latest): (u64, u64)| {
                let tolerance = nanos(tolerance);
                (earliest.saturating_sub(tolerance)..=latest.saturating_add(tolerance))
                    .contains(&time_ns)
            };
            configs.iter().all(|voters| {
                let agree = voters.iter().filter_map(of).filter(|known| allows(*known));
                agree.count() >= majority(voters)
            })
        };
        let known = |voters: &BTreeSet<u64>| voters.iter().filter_map(of).count();
        if configs
            .iter()
            .any(|voters| known(voters) < majority(voters))
        {
            return Now::Unknown;
        }
        if agree(wall_ns) {
            return Now::Agreed(wall_ns);
        }
        let others = configs.iter().flatten().filter_map(of);
        let shown = others.map(|(earliest, _)| earliest);
        match shown.filter(|time_ns| agree(*time_ns)).min() {
            Some(time_ns) => Now::Outvoted(time_ns),
            None => Now::Disputed,
        }
    }

    /// Counts an entry that was not stamped with this node's time because clocks disagreed, and says so now and then.
    pub(super) fn dispute(&self) {
        self.inner.disagreements.fetch_add(1, Ordering::Relaxed);
        let mut complained = lock(&self.inner.complained);
        if complained.is_none_or(|before| now() - before >= COMPLAIN_EVERY) {
            *complained = Some(now());
            tracing::warn!(
                wall_ns = self.wall_ns(),
                "the clock of this node and those of most others differ: log time goes by theirs, or stands still, and nothing \
                 expires, if they differ too; check the clocks"
            );
        }
    }

    /// The next disagreement is a new one.
    pub(super) fn settle(&self) {
        *lock(&self.inner.complained) = None;
    }

    /// Entries not stamped with this node's time because clocks disagreed, since the start.
    pub(super) fn disputes(&self) -> u64 {
        self.inner.disagreements.load(Ordering::Relaxed)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, Heard>> {
        lock(&self.inner.heard)
    }
}

/// What a leader stamps its entries with.
pub(super) struct LogClock {
    clocks: Clocks,
    server: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    tolerance: Duration,
}

impl LogClock {
    /// The log time that `clocks` give the node whose core is `raft`.
    pub(super) fn new(clocks: Clocks, raft: &Raft, options: &Options) -> LogClock {
        LogClock {
            clocks,
            server: raft.server_metrics(),
            tolerance: options.clock_tolerance,
        }
    }

    /// Whether this node leads.
    pub(super) fn leads(&self) -> bool {
        self.server.borrow_watched().state == ServerState::Leader
    }

    /// Whether this node's clock can be believed now.
    pub(super) fn now(&self) -> Now {
        let server = self.server.borrow_watched();
        let configs = server.membership_config.get_joint_config();
        self.clocks.now(server.id, configs, self.tolerance)
    }

    /// The stamp of an entry: the time of a majority, or nothing while it is in doubt; apply then advances log time by a
    /// nanosecond.
    pub(super) fn stamp_ns(&self) -> u64 {
        match self.now() {
            Now::Agreed(now_ns) => {
                self.clocks.settle();
                now_ns
            }
            // Were log time to stand still, what is kept for a while from now on would be kept from long ago once it goes on.
            Now::Outvoted(now_ns) => {
                self.clocks.dispute();
                now_ns
            }
            Now::Disputed => {
                self.clocks.dispute();
                0
            }
            Now::Unknown => 0,
        }
    }
}

impl Heard {
    /// What that clock shows at `at`, at least and at most; nothing if it was heard too long ago.
    fn at(&self, at: Instant) -> Option<(u64, u64)> {
        if at.saturating_duration_since(self.received) >= HEARD_WITHIN {
            return None;
        }
        let since = |moment: Instant| {
            let passed = nanos(at.saturating_duration_since(moment));
            self.wall_ns.saturating_add(passed)
        };
        Some((since(self.received), since(self.sent)))
    }
}

fn majority(voters: &BTreeSet<u64>) -> usize {
    voters.len() / 2 + 1
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(5);

    /// A clock that showed 1000 s at `start`, and what it is told, all in milliseconds since then.
    struct Told {
        clocks: Clocks,
        start: Instant,
        ms: Arc<AtomicU64>,
    }

    fn ns(ms: u64) -> u64 {
        ms * 1_000_000
    }

    impl Told {
        fn new() -> Told {
            let ms = Arc::new(AtomicU64::new(0));
            let shown = ms.clone();
            let wall = move || ns(1_000_000 + shown.load(Ordering::Relaxed));
            Told {
                clocks: Clocks::around(Arc::new(wall)),
                start: Instant::now(),
                ms,
            }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// `peer` answers with a clock that is `ahead` of ours as of when the question was sent.
        fn hear(&self, peer: u64, sent: u64, received: u64, ahead: i64) {
            let wall = (1_000_000 + sent).checked_add_signed(ahead).unwrap();
            let (sent, received) = (self.at(sent), self.at(received));
            self.clocks.hear_at(peer, sent, received, ns(wall));
        }

        fn now(&self, ms: u64, configs: &[&[u64]]) -> Now {
            self.ms.store(ms, Ordering::Relaxed);
            let sets: Vec<BTreeSet<u64>> = configs
                .iter()
                .map(|ids| ids.iter().copied().collect())
                .collect();
            self.clocks.now_at(self.at(ms), 1, &sets, TOLERANCE)
        }
    }

    const YEAR_MS: i64 = 365 * 86_400_000;

    #[test]
    fn a_clock_that_a_majority_shares_is_believed_and_another_is_not() {
        let told = Told::new();
        let agreed = Now::Agreed(ns(1_000_000));
        assert_eq!(told.now(0, &[&[1]]), agreed);
        assert_eq!(told.now(0, &[&[1, 2, 3]]), Now::Unknown);
        told.hear(2, 0, 0, 0);
        assert_eq!(told.now(0, &[&[1, 2, 3]]), agreed);
        told.hear(3, 0, 0, YEAR_MS);
        assert_eq!(told.now(0, &[&[1, 2, 3]]), agreed, "two of three");
        assert_eq!(told.now(0, &[&[1, 3]]), Now::Disputed);
        assert_eq!(told.now(0, &[&[1, 2, 4, 5]]), Now::Unknown);
        // Our own clock may be the odd one: the others agree with each other, a year behind.
        told.hear(2, 6000, 6000, -900_000);
        told.hear(3, 6000, 6000, -900_000);
        let theirs = Now::Outvoted(ns(106_000));
        assert_eq!(told.now(6000, &[&[1, 2, 3]]), theirs);
        assert_eq!(
            told.now(6000, &[&[1, 2, 3, 4]]),
            Now::Disputed,
            "two of four"
        );
    }

    #[test]
    fn both_majorities_of_a_changing_cluster_must_agree() {
        let told = Told::new();
        for (peer, ahead) in [(2, 0), (3, 0), (4, YEAR_MS), (5, YEAR_MS)] {
            told.hear(peer, 0, 0, ahead);
        }
        let agreed = Now::Agreed(ns(1_000_000));
        assert_eq!(told.now(0, &[&[1, 2, 3]]), agreed);
        assert_eq!(told.now(0, &[&[1, 2, 3], &[1, 4, 5]]), Now::Disputed);
        // A leader that is removed counts the clocks of the others only.
        let year_ns = ns(u64::try_from(YEAR_MS).unwrap());
        assert_eq!(
            told.now(0, &[&[4, 5]]),
            Now::Outvoted(ns(1_000_000) + year_ns)
        );
        assert_eq!(told.now(0, &[&[2, 3]]), agreed);
    }

    #[test]
    fn what_was_heard_runs_on_with_time_and_is_forgotten() {
        let told = Told::new();
        told.hear(2, 0, 0, -5000);
        assert_ne!(told.now(0, &[&[1, 2]]), Now::Disputed, "5 s behind");
        assert_ne!(told.now(29_999, &[&[1, 2]]), Now::Disputed, "still 5 s");
        assert_eq!(told.now(30_000, &[&[1, 2]]), Now::Unknown);
        told.hear(2, 30_000, 30_000, 5001);
        assert_eq!(told.now(30_000, &[&[1, 2]]), Now::Disputed, "over 5 s");
    }

    #[test]
    fn an_answer_that_took_long_says_less_and_replaces_no_better_one() {
        let told = Told::new();
        // Between 4 and 6 s ahead: given when the question arrived, or two seconds later.
        told.hear(2, 0, 2000, 6000);
        assert_eq!(told.now(2000, &[&[1, 2]]), Now::Agreed(ns(1_002_000)));
        told.hear(2, 2000, 2000, 6000);
        assert_eq!(told.now(2000, &[&[1, 2]]), Now::Disputed, "6 s ahead");
        told.hear(2, 2000, 4000, 6000);
        assert_eq!(told.now(4000, &[&[1, 2]]), Now::Disputed, "known better");
        told.hear(2, 6000, 8000, 6000);
        assert_eq!(told.now(8000, &[&[1, 2]]), Now::Agreed(ns(1_008_000)));
    }
}
