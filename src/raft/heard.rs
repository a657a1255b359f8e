//! What this process heard of its peers: which start of a node speaks, and how far each acknowledged the log while this node led.
//!
//! A data directory can be copied and put back, and then its node has forgotten what it promised. Two things show that. Each
//! start on a directory has a number, so an older start, or another one with the same number, runs on a copy. And a follower
//! never goes back behind what it acknowledged to the leader of the moment: one that does has lost it. The core must not hear of
//! that: it takes such an answer for impossible, and stops.
//!
//! It is kept in memory, so what nobody remembers any more is not noticed; and of two copies of which none has forgotten anything,
//! the one that was started last, or else was heard first, is listened to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mutants::{self, Mutant};
use crate::storage::clock::now;
use crate::storage::identity::Boot;
use crate::storage::{LogId, Vote};

/// What was heard; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Data directory and newest start of each node that spoke.
    starts: BTreeMap<u64, ([u8; 16], Boot)>,
    /// When that start first spoke.
    since: BTreeMap<u64, Instant>,
    /// Under which vote of this node each peer acknowledged how much of the log.
    held: BTreeMap<u64, (Vote, LogId)>,
    /// Who lacks what it acknowledged: in which start, and what it lacks.
    lost: BTreeMap<u64, (Boot, String)>,
}

/// What to do about a directory that is not what it was.
const REMEDY: &str =
    "Keep that directory aside and join again under a new id (quorate node replace)";

impl Heard {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which start of node `node` speaks from directory `uuid`. `Err` says why it must not be listened to.
    pub(crate) fn start(&self, node: u64, uuid: [u8; 16], boot: Boot) -> Result<(), String> {
        let mut inner = self.inner();
        inner.check(node, uuid, boot)?;
        if inner.starts.insert(node, (uuid, boot)) != Some((uuid, boot)) {
            inner.since.insert(node, now());
        }
        Ok(())
    }

    /// Whether the newest start of node `node` was first heard less than `wait` ago: it may have started just before.
    pub(crate) fn is_new(&self, node: u64, wait: Duration) -> bool {
        let since = self.inner().since.get(&node).copied();
        since.is_some_and(|since| now().saturating_duration_since(since) < wait)
    }

    /// Whether the start `boot` of node `node` is the newest one heard of. `Err` says what is wrong.
    pub(crate) fn check(&self, node: u64, uuid: [u8; 16], boot: Boot) -> Result<(), String> {
        self.inner().check(node, uuid, boot)
    }

    /// Notes that `peer` has the log up to `last` on its disk, as it told this node, which leads by `vote`.
    pub(crate) fn acknowledged(&self, peer: u64, vote: Vote, last: Option<LogId>) {
        let Some(last) = last else {
            return;
        };
        let mut inner = self.inner();
        let held = inner.held.entry(peer).or_insert((vote, last));
        if held.0 != vote || held.1 < last {
            *held = (vote, last);
        }
    }

    /// Why `peer`, which says that it lacks the entry `at`, is not to be believed, if it has acknowledged that to this node, which
    /// leads by `vote`.
    pub(crate) fn lost(&self, peer: u64, vote: Vote, at: LogId) -> Option<String> {
        let mut inner = self.inner();
        let (under, last) = *inner.held.get(&peer)?;
        if under != vote || at.index > last.index || mutants::on(Mutant::OldIdAfterWipe) {
            return None;
        }
        let why = format!(
            "node {peer} lacks entry {}, which it had on its disk: its data directory was put back from an older copy. {REMEDY}",
            at.index
        );
        // Until it spoke there is nobody to tell.
        if let Some((_, boot)) = inner.starts.get(&peer).copied() {
            inner.lost.insert(peer, (boot, why.clone()));
        }
        Some(why)
    }

    /// Why nothing is to be sent to `peer`, if nothing is: its newest start lacks what it acknowledged.
    pub(crate) fn refuses(&self, peer: u64) -> Option<String> {
        let inner = self.inner();
        let (boot, why) = inner.lost.get(&peer)?;
        let is_newest = inner
            .starts
            .get(&peer)
            .is_some_and(|(_, known)| known == boot);
        is_newest.then(|| why.clone())
    }
}

impl Inner {
    fn check(&self, node: u64, uuid: [u8; 16], boot: Boot) -> Result<(), String> {
        if let Some((known, newest)) = self.starts.get(&node)
            && *known == uuid
        {
            check_start(node, *newest, boot)?;
        }
        match self.lost.get(&node) {
            Some((lost, why)) if *lost == boot => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

fn check_start(node: u64, newest: Boot, boot: Boot) -> Result<(), String> {
    if boot.number < newest.number {
        return Err(format!(
            "node {node} speaks from start {} of its data directory, and start {} was heard: it was put back from an older copy, or \
             runs on a copy. {REMEDY}",
            boot.number, newest.number
        ));
    }
    if boot.number == newest.number && boot.nonce != newest.nonce {
        return Err(format!(
            "two processes say to be start {} of node {node}: its data directory was put back from an older copy, or one of the two \
             runs on a copy. {REMEDY}",
            boot.number
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: [u8; 16] = [7; 16];

    fn boot(number: u64, nonce: u64) -> Boot {
        Boot { number, nonce }
    }

    fn vote(term: u64) -> Vote {
        Vote {
            term,
            node: 1,
            committed: true,
        }
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId {
            term,
            node: 1,
            index,
        }
    }

    #[test]
    fn the_newest_start_is_listened_to_and_neither_an_older_one_nor_its_double() {
        let heard = Heard::default();
        heard.start(2, DIR, boot(4, 1)).unwrap();
        heard.start(2, DIR, boot(4, 1)).unwrap();
        let double = heard.start(2, DIR, boot(4, 2)).unwrap_err();
        assert!(double.contains("two processes"), "{double}");
        heard.start(2, DIR, boot(5, 3)).unwrap();
        let older = heard.start(2, DIR, boot(4, 1)).unwrap_err();
        assert!(
            older.contains("start 4") && older.contains("start 5"),
            "{older}"
        );
        assert!(heard.check(2, DIR, boot(4, 1)).is_err());
        heard.check(2, DIR, boot(6, 1)).unwrap();
        // Another node, or another directory, which others judge.
        heard.start(3, DIR, boot(1, 1)).unwrap();
        heard.start(2, [8; 16], boot(1, 1)).unwrap();
    }

    #[test]
    fn a_start_is_new_from_when_it_was_first_heard() {
        let (heard, long, short) = (Heard::default(), Duration::from_secs(60), Duration::ZERO);
        assert!(!heard.is_new(2, long), "nothing is known of it");
        heard.start(2, DIR, boot(4, 1)).unwrap();
        assert!(heard.is_new(2, long) && !heard.is_new(2, short));
        let first = heard.inner().since[&2];
        heard.start(2, DIR, boot(4, 1)).unwrap();
        assert_eq!(heard.inner().since[&2], first);
        heard.start(2, DIR, boot(5, 1)).unwrap();
        assert!(heard.inner().since[&2] > first);
    }

    #[test]
    fn who_lacks_what_it_acknowledged_to_the_same_leader_has_lost_it() {
        let heard = Heard::default();
        assert_eq!(heard.lost(2, vote(3), id(3, 1)), None);
        heard.acknowledged(2, vote(3), Some(id(3, 9)));
        heard.acknowledged(2, vote(3), Some(id(3, 7)));
        assert!(heard.lost(2, vote(3), id(3, 9)).is_some());
        assert_eq!(heard.lost(2, vote(3), id(3, 10)), None);
        // Under another leader it may have had to give entries up.
        assert_eq!(heard.lost(2, vote(5), id(3, 9)), None);
        heard.acknowledged(2, vote(5), Some(id(5, 4)));
        assert_eq!(heard.lost(2, vote(5), id(5, 5)), None);
    }

    #[test]
    fn who_lost_something_is_refused_until_it_starts_again() {
        let heard = Heard::default();
        heard.acknowledged(2, vote(3), Some(id(3, 9)));
        // Before it spoke nobody knows which start of it that is.
        assert!(heard.lost(2, vote(3), id(3, 9)).is_some());
        assert_eq!(heard.refuses(2), None);
        heard.start(2, DIR, boot(4, 1)).unwrap();
        assert!(heard.lost(2, vote(3), id(3, 9)).is_some());
        assert!(
            heard
                .refuses(2)
                .is_some_and(|why| why.contains("lacks entry 9"))
        );
        assert!(heard.start(2, DIR, boot(4, 1)).is_err());
        assert!(heard.check(2, DIR, boot(4, 1)).is_err());
        heard.start(2, DIR, boot(5, 1)).unwrap();
        assert_eq!(heard.refuses(2), None);
    }
}
