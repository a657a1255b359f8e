//! Says each problem once: a peer that is away for an hour is one line in the log, not one per retry.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// What has been said. Forgotten, problem by problem, when things work again.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    /// A plain lock: held for a set operation, never across an await.
    said: Mutex<BTreeSet<(u64, &'static str, &'static str)>>,
}

impl Noise {
    /// Whether `problem` of `peer` on `lane` is new, and so worth a line.
    pub(crate) fn is_new(&self, peer: u64, lane: &'static str, problem: &'static str) -> bool {
        self.lock().insert((peer, lane, problem))
    }

    /// `lane` to `peer` works. Whether it did not before.
    pub(crate) fn recovered(&self, peer: u64, lane: &'static str) -> bool {
        let mut said = self.lock();
        let before = said.len();
        if before > 0 {
            said.retain(|(of, on, _)| (*of, *on) != (peer, lane));
        }
        said.len() < before
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(u64, &'static str, &'static str)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn a_problem_is_said_once_until_it_is_over() {
        let noise = Noise::default();
        assert!(noise.is_new(2, "stream", "unreachable"));
        assert!(!noise.is_new(2, "stream", "unreachable"));
        assert!(noise.is_new(3, "stream", "unreachable"));
        assert!(noise.is_new(2, "unary", "unreachable"));
        assert!(noise.recovered(2, "stream"));
        assert!(!noise.recovered(2, "stream"));
        assert!(noise.is_new(2, "stream", "unreachable"));
        assert!(!noise.is_new(2, "unary", "unreachable"));
    }
}
