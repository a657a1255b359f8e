//! Whom to ask next: the leader as far as known, else the endpoints in turn, none that needs rest while another does not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ask::Place;
use super::pool::authority;

/// How long a node is left alone after it did not answer, or could not be reached, unless it says otherwise.
const REST: Duration = Duration::from_millis(250);

/// What a client knows of the nodes.
#[derive(Debug)]
pub(super) struct Whom {
    endpoints: Vec<String>,
    follow_leader: bool,
    // Held for a look or a note, never across an await.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    leader: Option<String>,
    /// Place of the endpoint whose turn it is.
    turn: usize,
    /// Not to be asked before.
    rest_until: HashMap<String, Instant>,
}

impl Known {
    fn rests(&self, address: &str, now: Instant) -> Option<Instant> {
        self.rest_until
            .get(address)
            .copied()
            .filter(|until| *until > now)
    }
}

impl Whom {
    /// For these endpoints, at least one.
    pub(super) fn new(endpoints: Vec<String>, follow_leader: bool) -> Whom {
        Whom {
            endpoints,
            follow_leader,
            known: Mutex::default(),
        }
    }

    /// `host:port` of each endpoint.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The address to ask, and the time before which it should not be.
    pub(super) fn choose(&self, place: Place) -> (String, Option<Instant>) {
        let (now, known) = (Instant::now(), self.known());
        if let (Place::Leader, Some(leader)) = (place, &known.leader)
            && known.rests(leader, now).is_none()
        {
            return (leader.clone(), None);
        }
        let count = self.endpoints.len();
        let in_turn = (0..count).map(|step| &self.endpoints[(known.turn + step) % count]);
        let soonest = in_turn
            .map(|address| (known.rests(address, now), address))
            .min_by_key(|(until, _)| *until)
            .expect("there is at least one endpoint");
        (soonest.1.clone(), soonest.0)
    }

    /// An answer named the leader, or knew none.
    pub(super) fn leads(&self, url: Option<&str>) {
        if !self.follow_leader {
            return;
        }
        let address = url.and_then(|url| authority(url).ok());
        let mut known = self.known();
        let now = Instant::now();
        // A follower may not know yet what was just found out: that the node it names is gone.
        known.leader = address.filter(|address| known.rests(address, now).is_none());
    }

    /// The node at `address` was of no help: it is left alone for `rest`, or for a little.
    pub(super) fn failed(&self, address: &str, rest: Option<Duration>) {
        let mut known = self.known();
        let until = Instant::now() + rest.unwrap_or(REST);
        known.rest_until.insert(address.to_owned(), until);
        if known.leader.as_deref() == Some(address) {
            known.leader = None;
        }
        if self.endpoints[known.turn] == address {
            known.turn = (known.turn + 1) % self.endpoints.len();
        }
    }

    /// The node at `address` answered.
    pub(super) fn answered(&self, address: &str) {
        self.known().rest_until.remove(address);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whom(follow_leader: bool) -> Whom {
        let endpoints = ["a:1", "b:1", "c:1"].map(str::to_owned).into();
        Whom::new(endpoints, follow_leader)
    }

    fn next(whom: &Whom, place: Place) -> String {
        whom.choose(place).0
    }

    #[test]
    fn the_leader_is_asked_for_what_only_it_can_do() {
        let whom = whom(true);
        whom.leads(Some("http://d:1"));
        assert_eq!(next(&whom, Place::Leader), "d:1");
        assert_eq!(next(&whom, Place::Anywhere), "a:1");
        whom.leads(None);
        assert_eq!(next(&whom, Place::Leader), "a:1");
        whom.leads(Some("https://d:1"));
        assert_eq!(next(&whom, Place::Leader), "a:1");
    }

    #[test]
    fn a_client_that_does_not_follow_asks_its_endpoints_only() {
        let whom = whom(false);
        whom.leads(Some("http://b:1"));
        assert_eq!(next(&whom, Place::Leader), "a:1");
    }

    #[test]
    fn a_leader_that_failed_is_not_believed_in_again_at_once() {
        let whom = whom(true);
        whom.leads(Some("http://b:1"));
        whom.failed("b:1", Some(Duration::from_secs(60)));
        assert_eq!(next(&whom, Place::Leader), "a:1");
        whom.leads(Some("http://b:1"));
        assert_eq!(next(&whom, Place::Leader), "a:1");
        whom.answered("b:1");
        whom.leads(Some("http://b:1"));
        assert_eq!(next(&whom, Place::Leader), "b:1");
    }

    #[test]
    fn endpoints_are_asked_in_turn_and_those_at_rest_last() {
        let whom = whom(true);
        for expected in ["a:1", "b:1", "c:1"] {
            let (address, rests) = whom.choose(Place::Anywhere);
            assert_eq!((&*address, rests), (expected, None));
            let rest = if expected == "b:1" { 10 } else { 60 };
            whom.failed(&address, Some(Duration::from_secs(rest)));
        }
        let (address, rests) = whom.choose(Place::Anywhere);
        assert_eq!(address, "b:1", "its rest ends first");
        assert!(rests.is_some());
        whom.answered("c:1");
        assert_eq!(whom.choose(Place::Anywhere), ("c:1".to_owned(), None));
    }
}
