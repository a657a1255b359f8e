//! Clients that send batches of transfers, each until it is answered. What is in a batch follows from its name, so nothing needs
//! to be remembered but how many batches each client sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Finding;
use crate::harness::http::{Connection, Lost, Reply, Request};
use crate::harness::nodes::Nodes;
use crate::harness::world::lock;
use crate::harness::{api, finish, insist};
use crate::random::Random;

/// Accounts between which everything goes; all of them may owe, so no transfer is refused.
const ACCOUNTS: u64 = 16;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a client goes on with one batch, at most.
const TENACITY: Duration = Duration::from_secs(120);
/// Between two attempts when nothing was done.
const PAUSE: Duration = Duration::from_millis(20);
/// Share of answered batches that are sent again at once, in percent.
const RESENT: u64 = 5;
/// Share of batches before which another one is sent whose transfers are one chain and whose last one cannot be: nothing of it may be
/// posted, in percent.
const DOOMED: u64 = 5;

/// A transfer: debit, credit, amount.
type Transfer = (u64, u64, u64);

/// What all clients share.
pub(super) struct Load {
    nodes: Vec<SocketAddr>,
    seed: u64,
    /// Transfers in a batch.
    batch: u64,
    think_ms: u64,
    stop: AtomicBool,
    acked: AtomicU64,
    doubts: AtomicU64,
    resent: AtomicU64,
    doomed: AtomicU64,
    no_room: AtomicU64,
    findings: Mutex<Vec<Finding>>,
}

/// What a node says to the one that it forwards to, which does not forward again.
const FORWARDED: &str = "quorate-forwarded";

/// What an answer says of a batch.
enum Said {
    /// All of it is there; so many were posted now.
    Posted(u64),
    /// Nothing of it happened, and why.
    NotApplied(String),
    /// Nobody knows.
    Unknown,
    /// No correct node answers so.
    Absurd(String),
}

/// A request and what must come of it.
struct Batch {
    request: Request,
    /// Nothing of it, rather than all.
    is_doomed: bool,
}

/// A batch that was answered.
#[derive(Default)]
struct Answered {
    /// Transfers that the last attempt posted.
    created: u64,
    /// Another may have posted some before.
    was_doubted: bool,
    /// What the last one said by which nothing happened.
    denied: Option<String>,
}

/// Opens the ledger and its accounts.
pub(super) fn open(nodes: &Nodes) -> anyhow::Result<()> {
    let ledger = json!({"id": api::BANK, "asset": "USD", "scale": 2});
    insist(nodes, "/v1/ledgers", &ledger.to_string())?;
    let mut last = 0;
    for number in 0..ACCOUNTS {
        let account = json!({"id": format!("v{number}"), "ledger": api::BANK, "code": 1});
        last = insist(nodes, "/v1/accounts", &account.to_string())?;
    }
    finish::wait_applied(nodes, last)
}

/// Starts the clients; each gives how many batches it sent.
pub(super) fn start(load: &Arc<Load>, clients: u64) -> Vec<JoinHandle<u64>> {
    let client = |number: u64| {
        let load = Arc::clone(load);
        thread::spawn(move || load.run(number))
    };
    (0..clients).map(client).collect()
}

/// Ends them; by client, how many batches were acknowledged.
pub(super) fn end(load: &Load, clients: Vec<JoinHandle<u64>>) -> Vec<u64> {
    load.stop.store(true, Ordering::Relaxed);
    let ended = clients.into_iter().map(JoinHandle::join);
    ended
        .map(|sent| {
            sent.unwrap_or_else(|_| {
                load.found("failure", "a client panicked");
                0
            })
        })
        .collect()
}

impl Load {
    /// A load on these nodes, past the network between them.
    pub(super) fn new(nodes: &Nodes, seed: u64, batch: u64, think_ms: u64) -> Load {
        Load {
            nodes: nodes.ids().into_iter().map(|id| nodes.addr(id)).collect(),
            seed,
            batch,
            think_ms,
            stop: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            doubts: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            doomed: AtomicU64::new(0),
            no_room: AtomicU64::new(0),
            findings: Mutex::default(),
        }
    }

    /// Transfers acknowledged so far.
    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Times that a node said that a disk has no room.
    pub(super) fn no_room(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed)
    }

    /// What the clients found wrong.
    pub(super) fn findings(&self) -> Vec<Finding> {
        lock(&self.findings).clone()
    }

    fn found(&self, kind: &'static str, what: impl Into<String>) {
        lock(&self.findings).push(Finding::new(kind, what));
    }

    /// For people and programs.
    pub(super) fn told(&self) -> Value {
        let (acked, doubts) = (self.acked(), self.doubts.load(Ordering::Relaxed));
        let resent = self.resent.load(Ordering::Relaxed);
        json!({
            "acknowledged": acked, "unknown_attempts": doubts, "batches_sent_again": resent, "no_room": self.no_room(),
            "batch": self.batch, "doomed_chains": self.doomed.load(Ordering::Relaxed),
            "told": format!("{acked} transfers acknowledged in batches of {}, after {doubts} attempts of unknown outcome", self.batch),
        })
    }

    /// What is in a batch.
    fn transfers(&self, client: u64, number: u64) -> impl Iterator<Item = Transfer> {
        let mut random = Random::new(self.seed ^ (client << 48) ^ (number << 16));
        (0..self.batch).map(move |_| {
            let debit = random.below(ACCOUNTS);
            let credit = (debit + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
            (debit, credit, random.between(1, 1000))
        })
    }

    /// What all batches together debit from and credit to each account.
    pub(super) fn sums(&self, sent: &[u64]) -> BTreeMap<String, (u128, u128)> {
        let account = |number: u64| (format!("v{number}"), (0, 0));
        let mut sums: BTreeMap<String, (u128, u128)> = (0..ACCOUNTS).map(account).collect();
        let batches = (0..)
            .zip(sent)
            .flat_map(|(client, count)| (0..*count).map(move |n| (client, n)));
        for (debit, credit, amount) in batches.flat_map(|(client, n)| self.transfers(client, n)) {
            let amount = u128::from(amount);
            sums.entry(format!("v{debit}")).or_default().0 += amount;
            sums.entry(format!("v{credit}")).or_default().1 += amount;
        }
        sums
    }

    /// A batch of a client. One that is doomed has the transfers of the other, under other names, as one chain, and its last one is to
    /// go from an account to itself.
    fn request(&self, client: u64, number: u64, is_doomed: bool) -> Batch {
        let mut body = String::from("{\"transfers\":[");
        for ((debit, credit, amount), at) in self.transfers(client, number).zip(0..) {
            let comma = if at > 0 { "," } else { "" };
            let is_last = at + 1 == self.batch;
            let name = if is_doomed { "doomed-" } else { "" };
            let credit = if is_doomed && is_last { debit } else { credit };
            let linked = is_doomed && !is_last;
            // Writing to a text does not fail.
            let _ = write!(
                body,
                "{comma}{{\"id\":\"{name}{client}-{number}-{at}\",\"debit_account\":\"v{debit}\",\
                 \"credit_account\":\"v{credit}\",\"amount\":\"{amount}\",\"code\":1,\"linked\":{linked}}}"
            );
        }
        body.push_str("]}");
        let request = Request {
            method: "POST",
            path: "/v1/transfers/batch?timeout=5s".to_owned(),
            body,
            headers: if is_direct(client) {
                vec![(FORWARDED, "1".to_owned())]
            } else {
                Vec::new()
            },
        };
        Batch { request, is_doomed }
    }

    fn run(&self, client: u64) -> u64 {
        let mut random = Random::new(self.seed.wrapping_add(client + 1));
        let mut connections = Connections::default();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if random.percent(DOOMED) {
                self.doomed.fetch_add(1, Ordering::Relaxed);
                let doomed = self.request(client, number, true);
                if self
                    .insist(&doomed, &mut connections, &mut random)
                    .is_none()
                {
                    let what = format!("doomed batch {client}-{number} was not answered");
                    self.found("failure", what);
                }
            }
            let request = self.request(client, number, false);
            let Some(Answered {
                created,
                was_doubted,
                denied,
            }) = self.insist(&request, &mut connections, &mut random)
            else {
                self.found(
                    "failure",
                    format!("batch {client}-{number} was not answered within {TENACITY:?}"),
                );
                break;
            };
            // Nobody has sent these ids before; but a node that forwards asks the next leader if one is lost, and then all are there.
            let was_forwarded = !is_direct(client) && created == 0;
            if created < self.batch && !was_doubted && !was_forwarded {
                let before = self.batch - created;
                self.found(
                    "doubled",
                    format!(
                        "{before} transfers of the new batch {client}-{number} existed; what was said before: {denied:?}"
                    ),
                );
            }
            self.acked.fetch_add(self.batch, Ordering::Relaxed);
            number += 1;
            thread::sleep(Duration::from_millis(random.below(2 * self.think_ms + 1)));
            if random.percent(RESENT) {
                self.resent.fetch_add(1, Ordering::Relaxed);
                self.again(
                    &request,
                    &format!("{client}-{}", number - 1),
                    &mut connections,
                    &mut random,
                );
            }
        }
        number
    }

    /// Sends a batch until it is answered.
    fn insist(
        &self,
        request: &Batch,
        connections: &mut Connections,
        random: &mut Random,
    ) -> Option<Answered> {
        let start = Instant::now();
        let mut answered = Answered::default();
        while start.elapsed() < TENACITY {
            match self.attempt(request, connections, random) {
                Said::Posted(created) => {
                    answered.created = created;
                    return Some(answered);
                }
                Said::NotApplied(why) => {
                    answered.denied = Some(why);
                    thread::sleep(PAUSE);
                }
                Said::Unknown => {
                    answered.was_doubted = true;
                    self.doubts.fetch_add(1, Ordering::Relaxed);
                }
                Said::Absurd(what) => {
                    self.found("books", what);
                    answered.created = self.batch;
                    return Some(answered);
                }
            }
        }
        None
    }

    /// Sends a batch that was acknowledged once more: all of it must be there.
    fn again(
        &self,
        request: &Batch,
        name: &str,
        connections: &mut Connections,
        random: &mut Random,
    ) {
        match self.insist(request, connections, random) {
            Some(Answered { created: 0, .. }) => {}
            // An attempt before, whose outcome is unknown, may have posted it: then too it was lost, and is now there.
            Some(Answered { created, .. }) => self.found(
                "lost",
                format!("{created} transfers of batch {name} were acknowledged, and were posted anew when sent again"),
            ),
            None => self.found("failure", format!("batch {name}, sent again, was not answered")),
        }
    }

    /// Sends every batch of a client once more.
    pub(super) fn all_again(&self, client: u64, sent: u64) {
        let mut random = Random::new(self.seed);
        let mut connections = Connections::default();
        for number in 0..sent {
            let request = self.request(client, number, false);
            self.again(
                &request,
                &format!("{client}-{number}"),
                &mut connections,
                &mut random,
            );
        }
    }

    fn attempt(&self, request: &Batch, connections: &mut Connections, random: &mut Random) -> Said {
        let addr = *random.pick(&self.nodes);
        let connection = connections.0.entry(addr).or_default();
        match connection.ask(addr, &request.request, PATIENCE) {
            Ok(reply) => {
                let no_room = u64::from(reply.status == 507);
                self.no_room.fetch_add(no_room, Ordering::Relaxed);
                said(&reply, self.batch, request.is_doomed)
            }
            Err(Lost::NotSent(why)) => Said::NotApplied(why),
            Err(Lost::Unknown(_)) => Said::Unknown,
        }
    }
}

/// Of every two clients one has its requests answered by the node that it asks, or not at all.
fn is_direct(client: u64) -> bool {
    client % 2 == 1
}

/// A connection to each node.
#[derive(Default)]
pub(super) struct Connections(BTreeMap<SocketAddr, Connection>);

fn said(reply: &Reply, batch: u64, is_doomed: bool) -> Said {
    let summary = &reply.json()["summary"];
    let count = |name: &str| summary[name].as_u64().unwrap_or(0);
    match reply.status {
        200 if !is_doomed && count("created") + count("exists") == batch => {
            Said::Posted(count("created"))
        }
        207 if is_doomed && count("refused") == batch => Said::Posted(0),
        408 | 429 | 500..=599 => match reply.field("outcome").as_str() {
            "not_applied" => {
                let text: String = reply.text().chars().take(300).collect();
                Said::NotApplied(format!("{} {text}", reply.status))
            }
            _ => Said::Unknown,
        },
        status => {
            let text: String = reply.text().chars().take(300).collect();
            Said::Absurd(format!("a batch of {batch} was answered {status} {text}"))
        }
    }
}
