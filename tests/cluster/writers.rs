//! Callers of the client library that keep honest accounts of what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::client::answer::Created;
use quorate::client::kv::{Condition, Put, Stored};
use quorate::client::transfers::{Batch, BatchFate, BatchResults, NewTransfer, Transfer};
use quorate::client::{Client, Error, Options, Written};
use tokio::runtime::Builder;

/// Logical writes, all workers together.
pub(crate) const WRITES: u64 = 10_000;
/// Callers at once.
pub(crate) const WORKERS: u64 = 16;
/// How many workers increment one counter.
pub(crate) const SHARE: u64 = 4;
/// Transfers in a batch.
const BATCH: u64 = 5;
/// One call in so many has hardly any time. No divisor of the period in which kinds of writes alternate, so that each kind
/// meets it.
const HASTY: u64 = 7;

/// What a worker was told, and what it makes of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) retried: u64,
    pub(crate) replayed: u64,
    pub(crate) rejected: u64,
    pub(crate) unavailable: u64,
    pub(crate) unknown: u64,
    /// Amount by id of every transfer that was posted, by what the client said.
    pub(crate) posted: BTreeMap<String, u128>,
    /// How often each counter was incremented.
    pub(crate) increments: BTreeMap<String, u64>,
    /// How often each key was put.
    pub(crate) puts: BTreeMap<String, u64>,
    /// The highest index heard of.
    pub(crate) last_index: u64,
}

impl Tally {
    /// Adds what another worker was told.
    pub(crate) fn add(&mut self, other: Tally) {
        self.calls += other.calls;
        self.retried += other.retried;
        self.replayed += other.replayed;
        self.rejected += other.rejected;
        self.unavailable += other.unavailable;
        self.unknown += other.unknown;
        self.posted.extend(other.posted);
        self.puts.extend(other.puts);
        self.last_index = self.last_index.max(other.last_index);
        for (counter, count) in other.increments {
            *self.increments.entry(counter).or_default() += count;
        }
    }
}

/// A caller of the library.
pub(crate) struct Worker {
    number: u64,
    patient: Client,
    hasty: Client,
    progress: Arc<AtomicU64>,
    /// Writes so far of this worker's own key.
    version: u64,
    tally: Tally,
}

impl Worker {
    /// Worker number `number`, which asks at `urls`.
    pub(crate) fn new(urls: &[String], number: u64, progress: Arc<AtomicU64>) -> Worker {
        let options = Options {
            timeout: Duration::from_secs(20),
            attempt: Duration::from_millis(400),
            pause_max: Duration::from_millis(200),
            ..Options::default()
        };
        let mut endpoints = urls.to_vec();
        endpoints.rotate_left(usize::try_from(number).expect("few") % urls.len());
        let patient = Client::new(&endpoints, options).expect("endpoints");
        let timeout = Duration::from_millis(60);
        let hasty = patient.with(Options { timeout, ..options });
        Worker {
            number,
            patient,
            hasty,
            progress,
            version: 0,
            tally: Tally::default(),
        }
    }

    /// Makes its share of the writes.
    pub(crate) fn run(mut self) -> Tally {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            for sequence in 0..WRITES / WORKERS {
                match sequence % 10 {
                    0..5 => self.transfer(sequence).await,
                    5 | 6 => self.put(sequence).await,
                    7 | 8 => self.increment().await,
                    _ => self.batch(sequence).await,
                }
                self.progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        self.tally
    }

    /// Makes one logical write. An unknown outcome is resolved by sending the same again, as often as it takes.
    async fn settled<T>(
        &mut self,
        call: impl AsyncFn(&Client) -> Result<Written<T>, Error>,
    ) -> Result<Written<T>, Error> {
        self.tally.calls += 1;
        let first = match self.tally.calls % HASTY {
            0 => &self.hasty,
            _ => &self.patient,
        };
        let mut told = call(first).await;
        while let Err(Error::Unknown(_)) = told {
            self.tally.unknown += 1;
            told = call(&self.patient).await;
        }
        match &told {
            Ok(written) => {
                self.tally.retried += u64::from(written.attempts > 1);
                self.tally.replayed += u64::from(written.replayed);
                self.tally.last_index = self.tally.last_index.max(written.index);
            }
            Err(Error::Rejection(_)) => self.tally.rejected += 1,
            Err(Error::Unavailable(_)) => self.tally.unavailable += 1,
            Err(error) => panic!("{error}"),
        }
        told
    }

    /// Moves money; one in ten from who has none.
    async fn transfer(&mut self, sequence: u64) {
        let poor = sequence.is_multiple_of(20);
        let id = format!("t-{}-{sequence}", self.number);
        let from = if poor { "poor" } else { "debit" };
        let new = new_transfer(id.clone(), from, 1 + sequence % 7);
        let told: Result<Written<Created<Transfer>>, Error> = self
            .settled(async |client: &Client| client.transfer(&new).await)
            .await;
        match told {
            Ok(written) => {
                assert!(!poor, "{id} was posted from nothing");
                assert_eq!(written.value.row.amount, new.amount);
                self.tally.posted.insert(id, new.amount);
            }
            Err(Error::Rejection(why)) => {
                assert!(poor, "{id}: {why}");
                assert_eq!(why.problem.code, "exceeds_credits");
            }
            Err(_) => {}
        }
    }

    /// Overwrites this worker's own key, whose version counts what was done to it.
    async fn put(&mut self, sequence: u64) {
        let key = format!("own-{}", self.number);
        let put = Put::new(&key, sequence.to_string());
        let told: Result<Written<Stored>, Error> = self
            .settled(async |client: &Client| client.put(&put).await)
            .await;
        match told {
            Ok(written) => {
                self.version += 1;
                assert_eq!(
                    written.value.version, self.version,
                    "{key} was written more often, or less, than was told"
                );
                self.tally.puts.insert(key, self.version);
            }
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// Increments a counter that others increment too, if it is still what it was.
    async fn increment(&mut self) {
        let key = format!("counter-{}", self.number / SHARE);
        let read = self.patient.get(&key).await.expect("a read in time");
        let value = read.expect("it was made before").value;
        let count: u64 = std::str::from_utf8(&value.value)
            .expect("digits")
            .parse()
            .expect("digits");
        let put = Put::new(&key, (count + 1).to_string()).only_if(Condition::At(value.tag));
        let told: Result<Written<Stored>, Error> = self
            .settled(async |client: &Client| client.put(&put).await)
            .await;
        match told {
            Ok(_) => *self.tally.increments.entry(key).or_default() += 1,
            Err(Error::Rejection(why)) => assert_eq!(why.problem.code, "precondition_failed"),
            Err(_) => {}
        }
    }

    /// Posts a batch; the last two of every other one are linked, and the very last is from who has nothing.
    async fn batch(&mut self, sequence: u64) {
        let broken = sequence % 20 == 9;
        let mut transfers: Vec<_> = (0..BATCH)
            .map(|place| {
                let id = format!("b-{}-{sequence}-{place}", self.number);
                new_transfer(id, "debit", 1 + place)
            })
            .collect();
        if broken {
            let place = transfers.len() - 2;
            transfers[place].linked = true;
            transfers[place + 1].debit_account = "poor".to_owned();
        }
        let batch = Batch::new(transfers);
        let told: Result<Written<BatchResults>, Error> = self
            .settled(async |client: &Client| client.transfer_batch(&batch).await)
            .await;
        match told {
            Ok(written) => {
                let refused = if broken { 2 } else { 0 };
                let summary = written.value.summary;
                assert_eq!(
                    (summary.exists, summary.refused),
                    (0, refused),
                    "{written:?}"
                );
                for (new, result) in batch.transfers.into_iter().zip(&written.value.results) {
                    assert_eq!(new.id, result.id);
                    if result.result == BatchFate::Created {
                        self.tally.posted.insert(new.id, new.amount);
                    }
                }
            }
            Err(Error::Unavailable(_)) => {}
            Err(error) => panic!("batch {sequence}: {error}"),
        }
    }
}

/// A transfer to the account that everything is credited to.
pub(crate) fn new_transfer(id: String, from: &str, amount: u64) -> NewTransfer {
    NewTransfer {
        id,
        debit_account: from.to_owned(),
        credit_account: "credit".to_owned(),
        amount: amount.into(),
        code: 1,
        linked: false,
        metadata: BTreeMap::new(),
    }
}
