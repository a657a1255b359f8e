//! Clients that send transfers and keep honest accounts: what was acknowledged, what was refused for certain, and what
//! stayed unknown until it was sent again.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::http::{Answer, Connection};
use super::wait::pause_between_polls;

/// What one answer, or the lack of one, says of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done: created now, or found done.
    Done,
    /// It certainly did not happen and never will.
    NotApplied,
    /// It may happen, may have happened, or never will.
    Unknown,
}

/// What a client does with a transfer that was certainly not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnNotApplied {
    /// Send it again until it is done.
    Retry,
    /// Leave it alone for ever, to see later that it really is not there.
    Abandon,
}

/// The accounts of one client, or of many added up.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Amount by id of every transfer acknowledged.
    pub(crate) acked: BTreeMap<String, u64>,
    /// Ids that were certainly not applied and never sent again.
    pub(crate) abandoned: Vec<String>,
    /// Transfers that were unknown at some time; all of them were resolved by sending them again.
    pub(crate) resolved: u64,
    /// When each acknowledgement came.
    pub(crate) acked_at: Vec<Instant>,
    /// The longest that one transfer took, from its first attempt to its acknowledgement.
    pub(crate) slowest: Duration,
    /// The highest index acknowledged.
    pub(crate) last_index: u64,
}

impl Book {
    fn add(&mut self, other: Book) {
        self.acked.extend(other.acked);
        self.abandoned.extend(other.abandoned);
        self.resolved += other.resolved;
        self.acked_at.extend(other.acked_at);
        self.slowest = self.slowest.max(other.slowest);
        self.last_index = self.last_index.max(other.last_index);
    }

    /// Minor units moved by everything acknowledged.
    pub(crate) fn moved(&self) -> u64 {
        self.acked.values().sum()
    }

    /// The longest time without an acknowledgement between the first and the last.
    pub(crate) fn longest_gap(&self) -> Duration {
        let mut times = self.acked_at.clone();
        times.sort();
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Book>>,
}

impl Load {
    /// Starts `clients` clients, each moving money from `debit` to `credit` one transfer at a time over all `nodes`.
    pub(crate) fn start(nodes: &[SocketAddr], clients: usize, policy: OnNotApplied) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let clients = (0..clients)
            .map(|number| {
                let client = Client {
                    number,
                    nodes: nodes.to_vec(),
                    at: number % nodes.len(),
                    connection: None,
                    parked: VecDeque::new(),
                    policy,
                    acknowledged: Arc::clone(&acknowledged),
                    book: Book::default(),
                };
                let stop = Arc::clone(&stop);
                thread::spawn(move || client.run(&stop))
            })
            .collect();
        Load {
            stop,
            acknowledged,
            clients,
        }
    }

    /// Transfers acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets every client finish what it has in hand, and adds up their accounts.
    pub(crate) fn finish(self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        let mut book = Book::default();
        for client in self.clients {
            book.add(client.join().expect("a client does not panic"));
        }
        book
    }
}

/// A transfer on its way.
struct Transfer {
    id: String,
    amount: u64,
    begun: Instant,
    /// An attempt left it in doubt.
    doubtful: bool,
}

impl Transfer {
    fn body(&self) -> String {
        json!({
            "id": self.id, "debit_account": "debit", "credit_account": "credit",
            "amount": self.amount.to_string(), "code": 1,
        })
        .to_string()
    }
}

/// What became of one attempt.
enum Attempt {
    /// An answer, and the index it names if the transfer is done.
    Answered(Verdict, u64),
    /// No connection: nothing was sent.
    NotSent,
    /// The connection broke after something was sent: as unknown as it gets.
    Broken,
}

/// How long a client goes on sending one transfer before it calls the cluster unavailable.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Between two transfers of a client: the books stay short enough to be compared line by line on every node.
const PACE: Duration = Duration::from_millis(3);

struct Client {
    number: usize,
    nodes: Vec<SocketAddr>,
    at: usize,
    connection: Option<Connection>,
    /// In doubt, to be sent again.
    parked: VecDeque<Transfer>,
    policy: OnNotApplied,
    acknowledged: Arc<AtomicU64>,
    book: Book,
}

impl Client {
    fn run(mut self, stop: &AtomicBool) -> Book {
        for sequence in 0_u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.send(Transfer {
                id: format!("t-{}-{sequence}", self.number),
                amount: 1 + sequence % 7,
                begun: Instant::now(),
                doubtful: false,
            });
            thread::sleep(PACE); // no wait for anything: a pace
        }
        while let Some(transfer) = self.parked.pop_front() {
            self.send(transfer);
        }
        self.book
    }

    /// Sends a transfer until its fate is certain, or puts it aside if an attempt leaves it in doubt: it is sent again after
    /// others, when another node may lead. Once in doubt, no later `not applied` can settle it, because the first attempt
    /// may still be on its way; only an answer that names the transfer itself does.
    fn send(&mut self, mut transfer: Transfer) {
        loop {
            let waited = transfer.begun.elapsed();
            assert!(
                waited < GIVE_UP,
                "{} found no taker for {waited:?}",
                transfer.id
            );
            match self.attempt(&transfer) {
                Attempt::Answered(Verdict::Done, index) => return self.done(transfer, index),
                Attempt::Answered(Verdict::NotApplied, _) if self.abandons(&transfer) => {
                    self.book.abandoned.push(transfer.id);
                    self.try_another_node();
                    return;
                }
                Attempt::Answered(Verdict::Unknown, _) | Attempt::Broken => {
                    transfer.doubtful = true;
                    self.parked.push_back(transfer);
                    self.try_another_node();
                    return;
                }
                Attempt::Answered(Verdict::NotApplied, _) | Attempt::NotSent => {
                    self.try_another_node();
                }
            }
        }
    }

    fn done(&mut self, transfer: Transfer, index: u64) {
        let now = Instant::now();
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.book.acked.insert(transfer.id, transfer.amount);
        self.book.acked_at.push(now);
        self.book.slowest = self.book.slowest.max(now - transfer.begun);
        self.book.last_index = self.book.last_index.max(index);
        self.book.resolved += u64::from(transfer.doubtful);
        if let Some(parked) = self.parked.pop_front() {
            self.send(parked);
        }
    }

    /// Another node may know better; a connection that broke is not used again.
    fn try_another_node(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.connection = None;
        pause_between_polls();
    }

    fn abandons(&self, transfer: &Transfer) -> bool {
        self.policy == OnNotApplied::Abandon && !transfer.doubtful
    }

    /// One attempt on the node of the moment.
    fn attempt(&mut self, transfer: &Transfer) -> Attempt {
        let body = transfer.body();
        let Some(connection) = self.connect() else {
            return Attempt::NotSent;
        };
        match connection.request("POST", "/v1/transfers?timeout=3s", body.as_bytes()) {
            Ok(answer) => Attempt::Answered(verdict(&answer), done_index(&answer)),
            Err(_) => Attempt::Broken,
        }
    }

    fn connect(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Connection::open(self.nodes[self.at]).ok();
        }
        self.connection.as_mut()
    }
}

fn done_index(answer: &Answer) -> u64 {
    if answer.status < 300 {
        answer.index()
    } else {
        0
    }
}

/// What an answer says of the write that it answers. A refusal by the ledger's rules would be a bug of the test.
pub(crate) fn verdict(answer: &Answer) -> Verdict {
    match (answer.status, answer.field("outcome").as_str()) {
        (200 | 201, _) => Verdict::Done,
        (429 | 500..=599, "not_applied") => Verdict::NotApplied,
        (500..=599, _) => Verdict::Unknown,
        (status, _) => panic!("unexpected answer {status}: {}", answer.text()),
    }
}
