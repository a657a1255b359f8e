//! What a connection is doing, watched without a timer a request.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::listener::Limits;

/// How often connections are looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How long a connection may be silent, or over a head, while places are few.
const PRESSED: Duration = Duration::from_secs(2);

/// Nothing is asked.
pub(super) const IDLE: u32 = 0;
/// A head has begun to come.
pub(super) const HEAD: u32 = 1;
/// A request is being answered.
pub(super) const BUSY: u32 = 2;

/// What a connection is doing: waiting for a request, reading its head, or answering. Each change counts up, so that the
/// watcher can tell a long wait from two short ones.
#[derive(Debug, Default)]
pub(super) struct Activity(AtomicU32);

impl Activity {
    // Relaxed throughout: one task writes and reads, the atomic only makes sharing it within that task safe.
    pub(super) fn set(&self, state: u32) {
        let count = self.0.load(Ordering::Relaxed) >> 2;
        self.0
            .store(count.wrapping_add(1) << 2 | state, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & 3
    }
}

/// Looks at a connection once a [`TICK`].
#[derive(Debug, Default)]
pub(super) struct Watcher {
    seen: u32,
    ticks: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let it be.
    Fine,
    /// It has asked nothing for long.
    Idle,
    /// It has not finished a head, or taken an answer, for too long.
    Slow,
}

impl Watcher {
    /// What is to become of the connection. While places are few (`pressed`), who does nothing goes soon.
    pub(super) fn look(&mut self, activity: &Activity, limits: &Limits, pressed: bool) -> Verdict {
        let (head, idle) = match pressed {
            true => (limits.head.min(PRESSED), limits.idle.min(PRESSED)),
            false => (limits.head, limits.idle),
        };
        let now = activity.0.load(Ordering::Relaxed);
        if now != self.seen {
            self.seen = now;
            self.ticks = 0;
            return Verdict::Fine;
        }
        self.ticks += 1;
        let unchanged = TICK * self.ticks;
        match activity.state() {
            HEAD if unchanged >= head => Verdict::Slow,
            // Asked to close when it was idle: it still has not taken its last answer.
            IDLE if unchanged >= idle + limits.head => Verdict::Slow,
            IDLE if unchanged >= idle => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_connection_is_judged_by_what_it_waits_for() {
        let limits = Limits {
            head: Duration::from_secs(2),
            idle: Duration::from_secs(3),
            ..Limits::default()
        };
        let activity = Activity::default();
        for (state, verdicts) in [
            (
                BUSY,
                [Verdict::Fine, Verdict::Fine, Verdict::Fine, Verdict::Fine],
            ),
            (
                HEAD,
                [Verdict::Fine, Verdict::Fine, Verdict::Slow, Verdict::Slow],
            ),
            (
                IDLE,
                [Verdict::Fine, Verdict::Fine, Verdict::Fine, Verdict::Idle],
            ),
        ] {
            activity.set(state);
            let mut watcher = Watcher::default();
            for verdict in verdicts {
                assert_eq!(
                    watcher.look(&activity, &limits, false),
                    verdict,
                    "state {state}"
                );
            }
        }
    }

    #[test]
    fn while_places_are_few_who_does_nothing_goes_soon() {
        let limits = Limits::default();
        let activity = Activity::default();
        for (state, pressed, last) in [
            (BUSY, true, Verdict::Fine),
            (HEAD, true, Verdict::Slow),
            (HEAD, false, Verdict::Fine),
            (IDLE, true, Verdict::Idle),
            (IDLE, false, Verdict::Fine),
        ] {
            activity.set(state);
            let mut watcher = Watcher::default();
            for _ in 0..2 {
                watcher.look(&activity, &limits, pressed);
            }
            assert_eq!(
                watcher.look(&activity, &limits, pressed),
                last,
                "state {state}"
            );
        }
    }

    #[test]
    fn who_does_not_take_its_last_answer_is_cut_off() {
        let limits = Limits {
            head: Duration::from_secs(2),
            idle: Duration::from_secs(3),
            ..Limits::default()
        };
        let activity = Activity::default();
        activity.set(IDLE);
        let mut watcher = Watcher::default();
        let seen: Vec<_> = (0..6)
            .map(|_| watcher.look(&activity, &limits, false))
            .collect();
        assert_eq!(seen[3..], [Verdict::Idle, Verdict::Idle, Verdict::Slow]);
    }
}
