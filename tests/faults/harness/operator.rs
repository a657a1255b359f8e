//! An operator who changes the members whatever else is done to the cluster: asks any node, and asks again, until it is so.
//!
//! In a thread of its own, so that other faults meet a change that is under way. A refusal settles nothing, since whoever refuses
//! may lead no longer; nor does an answer that knows less than an earlier one. All requests may be repeated, and each names
//! what is so once it is done. The one danger is a request to take a vote away whose outcome nobody knows: it may come true
//! when the vote was given back long ago, which is remembered.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{self, Lost, Reply};
use crate::history::Membership;
use crate::random::Random;

/// Longer than most faults: what was answered is certain.
const PATIENCE: Duration = Duration::from_secs(8);

/// Between a refusal and the next attempt.
const PAUSE: Duration = Duration::from_millis(60);

/// How long he may take to go on to the next step, in milliseconds.
const LINGERS: u64 = 1500;

/// What a member is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It votes.
    Voter,
    /// It does not.
    Learner,
    /// It is no member.
    Gone,
}

/// A request to change the members.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    body: String,
    /// What is so once it is done.
    goal: Vec<(u64, Role)>,
}

impl Request {
    /// Adds a member, said as a request says it.
    pub(crate) fn add(id: u64, member: &Value) -> Request {
        Request::post("", member.to_string(), &[(id, Role::Learner)])
    }

    /// Gives it a vote.
    pub(crate) fn promote(id: u64) -> Request {
        let path = format!("/{id}/promote");
        Request::post(&path, "{}".to_owned(), &[(id, Role::Voter)])
    }

    /// Takes its vote away.
    pub(crate) fn demote(id: u64) -> Request {
        let path = format!("/{id}/demote");
        Request::post(&path, "{}".to_owned(), &[(id, Role::Learner)])
    }

    /// Puts a member without a vote in the place of a voter.
    pub(crate) fn replace(old: u64, new: u64) -> Request {
        let (path, body) = (format!("/{old}/replace"), json!({ "by": new }));
        let goal = [(old, Role::Gone), (new, Role::Voter)];
        Request::post(&path, body.to_string(), &goal)
    }

    /// Removes it.
    pub(crate) fn remove(id: u64) -> Request {
        Request {
            method: "DELETE",
            ..Request::post(&format!("/{id}"), String::new(), &[(id, Role::Gone)])
        }
    }

    fn post(path: &str, body: String, goal: &[(u64, Role)]) -> Request {
        Request {
            method: "POST",
            path: format!("/v1/cluster/members{path}?timeout=3s"),
            body,
            goal: goal.to_vec(),
        }
    }

    /// Whether these members are what it asks for.
    fn is_done(&self, told: &Membership) -> bool {
        self.goal.iter().all(|(id, role)| match role {
            Role::Voter => told.voters.contains(id),
            Role::Learner => told.learners.contains(id),
            Role::Gone => !told.all().contains(id),
        })
    }

    /// Whose vote it takes though it stays.
    fn demoted(&self) -> Option<u64> {
        let is_demotion = self.path.contains("/demote");
        self.goal.first().filter(|_| is_demotion).map(|(id, _)| *id)
    }
}

/// A step of a change.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Asked until one of them is done.
    Until(Vec<Request>),
    /// Two at once to different nodes, each once; whether only one of them may be done.
    Race([Request; 2], bool),
}

/// A change of the members.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// What is asked, one after the other; the last one until it is done.
    pub(crate) steps: Vec<Step>,
    /// What may be so in the end, all that is known to be open left aside.
    pub(crate) legal: Vec<BTreeSet<u64>>,
}

/// An operator at work.
pub(crate) struct Operator {
    thread: JoinHandle<anyhow::Result<Membership>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    is_done: AtomicBool,
    stop: AtomicBool,
}

impl Operator {
    /// Sets one to work, on a cluster that is as `before`, with these nodes to ask. What he asks and is told goes to `log`.
    pub(crate) fn start(
        change: Change,
        before: &Membership,
        addrs: Vec<(u64, SocketAddr)>,
        seed: u64,
        log: File,
    ) -> Operator {
        let shared: Arc<Shared> = Arc::default();
        let mut work = Work {
            addrs,
            random: Random::new(seed),
            either: before.either.clone(),
            newest: 0,
            last: String::new(),
            log,
            shared: Arc::clone(&shared),
        };
        let thread = thread::spawn(move || {
            let result = work.make(&change);
            work.shared.is_done.store(true, Ordering::Relaxed);
            result
        });
        Operator { thread, shared }
    }

    /// Whether he has come to an end, for a look from elsewhere.
    pub(crate) fn is_done(&self) -> impl Fn() -> bool + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.is_done.load(Ordering::Relaxed)
    }

    /// Waits until he has; who belongs to the cluster then.
    ///
    /// # Errors
    /// When he does not get it done, or was told what cannot be.
    pub(crate) fn finish(self, limit: Duration) -> anyhow::Result<Membership> {
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < limit {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        let finished = self.thread.join();
        finished.map_err(|_| anyhow::anyhow!("the operator panicked"))?
    }
}

/// What came of a request.
struct Heard {
    /// Who belongs to the cluster now, if what was asked for is so.
    done: Option<Membership>,
    /// Whether it is so because of this request.
    is_changed: bool,
}

struct Work {
    addrs: Vec<(u64, SocketAddr)>,
    random: Random,
    /// See [`Membership::either`].
    either: BTreeSet<u64>,
    /// The newest change that was heard of: what is not as new is what somebody knew before.
    newest: u64,
    /// What was heard last, for people.
    last: String,
    log: File,
    shared: Arc<Shared>,
}

impl Work {
    fn make(&mut self, change: &Change) -> anyhow::Result<Membership> {
        let mut told = Membership::default();
        let mut last: &[Request] = &[];
        for step in &change.steps {
            if self.random.percent(50) {
                // So that other faults meet what is half done.
                thread::sleep(Duration::from_millis(self.random.below(LINGERS)));
            }
            match step {
                Step::Until(any) => {
                    told = self.until(any)?;
                    last = any;
                }
                Step::Race(two, are_exclusive) => self.race(two, *are_exclusive)?,
            }
        }
        loop {
            let expected = |voters: &BTreeSet<u64>| Membership {
                voters: voters.clone(),
                learners: BTreeSet::new(),
                either: &self.either & voters,
            };
            let mut legal = change.legal.iter().map(expected);
            if let Some(now) = legal.find(|legal| legal.fits(&told)) {
                return Ok(now);
            }
            self.last = format!("members as they must not be: {told:?}");
            thread::sleep(PAUSE);
            told = self.until(last)?;
        }
    }

    /// Asks one or the other until one is done; who belongs to the cluster then.
    fn until(&mut self, any: &[Request]) -> anyhow::Result<Membership> {
        loop {
            let is_over = self.shared.stop.load(Ordering::Relaxed);
            anyhow::ensure!(!is_over, "{any:?} is not done: {}", self.last);
            let request = self.random.pick(any);
            let (node, addr) = *self.random.pick(&self.addrs);
            let reply = send(addr, request);
            if let Some(told) = self.heard(request, node, reply).done {
                return Ok(told);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Asks both at once, of different nodes.
    fn race(&mut self, two: &[Request; 2], are_exclusive: bool) -> anyhow::Result<()> {
        let first = *self.random.pick(&self.addrs);
        let others: Vec<(u64, SocketAddr)> = (self.addrs.iter().copied())
            .filter(|other| other.0 != first.0)
            .collect();
        let second = *self.random.pick(&others);
        let replies = thread::scope(|scope| {
            let other = scope.spawn(|| send(second.1, &two[1]));
            let replies = [Some(send(first.1, &two[0])), other.join().ok()];
            replies.map(|reply| reply.unwrap_or_else(|| Err(Lost::Unknown("panicked".to_owned()))))
        });
        let [one, another] = replies;
        let one = self.heard(&two[0], first.0, one);
        let another = self.heard(&two[1], second.0, another);
        anyhow::ensure!(
            !(are_exclusive && one.is_changed && another.is_changed),
            "both are said to be done, though only one can be: {two:?}"
        );
        Ok(())
    }

    fn heard(&mut self, request: &Request, node: u64, reply: Result<Reply, Lost>) -> Heard {
        let mut heard = Heard {
            done: None,
            is_changed: false,
        };
        let (what, is_certain) = match &reply {
            Ok(reply) => (
                format!("{} {}", reply.status, reply.text()),
                reply.status < 300 || reply.field("outcome") == "not_applied",
            ),
            Err(Lost::NotSent(why)) => (why.clone(), true),
            Err(Lost::Unknown(why)) => (why.clone(), false),
        };
        let (method, path) = (request.method, &request.path);
        self.last = format!("node {node}: {method} {path}: {what}");
        // For people, who can do without.
        let _ = writeln!(self.log, "{}", self.last);
        if !is_certain {
            self.either.extend(request.demoted());
        }
        if let Ok(reply) = reply
            && reply.status < 300
        {
            heard.is_changed = reply.field("result") == "changed";
            let at = reply.field("membership_index").parse();
            let index = reply.number("quorate-index").unwrap_or(0);
            self.newest = self.newest.max(at.unwrap_or(0));
            let told = membership(&reply.json()).filter(|told| request.is_done(told));
            heard.done = told.filter(|_| index >= self.newest);
            if heard.done.is_none() {
                let newest = self.newest;
                let _ = writeln!(self.log, "  is not so, or of before {newest}");
            }
        }
        heard
    }
}

fn send(addr: SocketAddr, request: &Request) -> Result<Reply, Lost> {
    http::ask(addr, request.method, &request.path, &request.body, PATIENCE)
}

/// Who belongs to the cluster, as a node says it; nothing while a change is half done.
pub(crate) fn membership(told: &Value) -> Option<Membership> {
    if told["changing"] != json!(false) {
        return None;
    }
    let mut members = Membership::default();
    for member in told["members"].as_array()? {
        let id = member["id"].as_u64()?;
        match member["role"].as_str()? {
            "voter" => members.voters.insert(id),
            _ => members.learners.insert(id),
        };
    }
    Some(members)
}
