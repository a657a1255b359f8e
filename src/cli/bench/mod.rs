//! `quorate bench`: closed-loop load, or one at a fixed rate, with latency percentiles.
//!
//! Each client sends a request, waits for the answer and sends the next, so a slow server is asked less often: the percentiles
//! are those of this many waiting clients, not of an arrival rate.

mod report;

mod wire;

mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;
use tokio::task::JoinSet;

use self::report::{Report, Tally};
use self::wire::Wire;
use self::workload::{Maker, Shape, Workload};
use super::format::{Format, show};
use super::output::{Failure, print};
use super::progress::Progress;
use super::{Global, asking};
use crate::client::ledgers::NewLedger;
use crate::client::{Client, authority};
use crate::machine::command::BATCH_LEN_MAX;

/// Pause of a client whose connection failed.
const PAUSE: Duration = Duration::from_millis(20);
/// How often to look whether it is over.
const WATCH: Duration = Duration::from_millis(20);
/// Requests under way while data is set up.
const SETUP_CLIENTS: u8 = 32;

/// Measure throughput and latency.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate bench transfer --clients 64 --seconds 10
  quorate bench kv-get -c lease --clients 64
  quorate bench transfer-batch --clients 4 --ops 100 --json

Ledger, accounts and keys are made first and not measured. Clients spread over all endpoints.")]
pub(super) struct Bench {
    /// What to measure.
    #[arg(value_enum)]
    workload: Workload,
    /// Clients at once, each with a connection of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=99_999))]
    clients: u64,
    /// How long to measure.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How long to run before measuring.
    #[arg(long, default_value_t = 1)]
    warmup_seconds: u64,
    /// Stop after this many requests instead.
    #[arg(long, conflicts_with_all = ["seconds", "warmup_seconds"])]
    ops: Option<u64>,
    /// Send this many requests a second, all clients together, whether or not answers keep up; a client that is still
    /// waiting when its next request is due lets that one go. Latencies then count from when a request was due.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Number of keys.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=99_999_999))]
    keys: u64,
    /// Number of accounts.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..=99_999_999))]
    accounts: u64,
    /// Transfers in a batch.
    #[arg(
        long,
        default_value_t = BATCH_LEN_MAX as u64,
        value_parser = clap::value_parser!(u64).range(1..=BATCH_LEN_MAX as u64)
    )]
    batch: u64,
    /// Threads of this client.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Ask the leader only, found through the endpoints.
    #[arg(long)]
    leader_only: bool,
    /// Print JSON, as with -o json.
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Sets up, measures and prints.
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let shape = Shape {
            workload: self.workload,
            keys: self.keys,
            value_bytes: self.value_bytes,
            accounts: self.accounts,
            batch: self.batch,
            query: format!("?consistency={}", global.level().name()),
            run,
        };
        let endpoints = self.set_up(global, &shape)?;
        let report = self.measure(&endpoints, &shape)?;
        match (self.json, global.output) {
            (true, _) => show(Format::Json, &report.json()),
            (false, Format::Table) => print(&report.text()),
            (false, other) => show(other, &report.json()),
        }
        Ok(())
    }

    /// Time between two requests of one client, if --rate says.
    fn interval(&self) -> Option<Duration> {
        let rate = self.rate? as f64;
        Some(Duration::from_secs_f64(self.clients as f64 / rate))
    }

    /// Makes what the workload needs; gives the addresses to ask.
    fn set_up(&self, global: &Global, shape: &Shape) -> Result<Vec<String>, Failure> {
        let mut endpoints = Vec::new();
        asking(async {
            let client = global.client()?;
            endpoints = match self.leader_only {
                true => vec![leader(&client).await?],
                false => client.endpoints().to_vec(),
            };
            match shape.workload {
                Workload::KvPut => Ok(()),
                Workload::KvGet => fill(&endpoints, shape, shape.keys).await,
                Workload::Transfer | Workload::TransferBatch => {
                    let ledger = NewLedger {
                        id: "bench".to_owned(),
                        asset: "BENCH".to_owned(),
                        scale: 2,
                    };
                    client.create_ledger(&ledger).await?;
                    fill(&endpoints, shape, shape.accounts).await
                }
            }
        })?;
        Ok(endpoints)
    }

    fn measure(&self, endpoints: &[String], shape: &Shape) -> Result<Report, Failure> {
        let warmup = if self.ops.is_some() {
            0
        } else {
            self.warmup_seconds
        };
        let from = Instant::now() + Duration::from_secs(warmup);
        let plan = Arc::new(Plan {
            shape: shape.clone(),
            from,
            until: self
                .ops
                .is_none()
                .then(|| from + Duration::from_secs(self.seconds)),
            left: AtomicU64::new(self.ops.unwrap_or(u64::MAX)),
            interval: self.interval(),
        });
        let threads: Vec<_> = (0..self.threads)
            .map(|thread| {
                let (plan, endpoints) = (plan.clone(), endpoints.to_vec());
                let clients = (u64::from(thread)..self.clients)
                    .step_by(usize::from(self.threads))
                    .collect();
                std::thread::spawn(move || run_clients(&plan, &endpoints, clients))
            })
            .collect();
        self.watch(&plan, &threads);
        let mut tally = Tally::new();
        for thread in threads {
            tally.add(&thread.join().expect("a client does not panic")?);
        }
        let elapsed = match plan.until {
            Some(until) => until - from,
            None => from.elapsed(),
        };
        let items = if shape.workload == Workload::TransferBatch {
            shape.batch
        } else {
            1
        };
        let workload = shape.workload.name();
        Ok(Report {
            workload,
            clients: self.clients,
            items,
            rate: self.rate,
            elapsed,
            tally,
        })
    }
}

impl Bench {
    /// Shows how far it is, while it runs.
    fn watch(&self, plan: &Plan, threads: &[std::thread::JoinHandle<Result<Tally, Failure>>]) {
        let total = self.ops.unwrap_or(self.seconds);
        let mut progress = Progress::new("measuring", total);
        while progress.is_shown() && threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(WATCH);
            progress.at(match self.ops {
                Some(ops) => ops.saturating_sub(plan.left.load(Ordering::Relaxed)),
                None => plan.from.elapsed().as_secs(),
            });
        }
    }
}

/// What all clients share.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    /// Answers before this are not counted.
    from: Instant,
    /// No request starts after this.
    until: Option<Instant>,
    /// Requests left to send. Relaxed: a count.
    left: AtomicU64,
    /// Time between two requests of a client; none if each waits for the answer to the one before.
    interval: Option<Duration>,
}

impl Plan {
    fn may_start(&self) -> bool {
        if let Some(until) = self.until {
            return Instant::now() < until;
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

/// `host:port` of the leader's client listener.
async fn leader(client: &Client) -> Result<String, Failure> {
    let leader = client.view().await?.value.leader;
    let leader = leader.ok_or_else(|| Failure::refused("no leader is known"))?;
    authority(&leader.client_url).map_err(Failure::refused)
}

fn run_clients(
    plan: &Arc<Plan>,
    endpoints: &[String],
    clients: Vec<u64>,
) -> Result<Tally, Failure> {
    let mut all = Tally::new();
    asking(async {
        let mut running = JoinSet::new();
        for client in clients {
            let place = usize::try_from(client).expect("few clients") % endpoints.len();
            running.spawn(run_client(plan.clone(), endpoints[place].clone(), client));
        }
        while let Some(tally) = running.join_next().await {
            all.add(&tally.expect("a client does not panic"));
        }
        Ok(())
    })?;
    Ok(all)
}

async fn run_client(plan: Arc<Plan>, endpoint: String, client: u64) -> Tally {
    let mut tally = Tally::new();
    let mut maker = Maker::new(&plan.shape, client);
    let mut request = Vec::new();
    let mut wire = None;
    let mut pace = plan.interval.map(|interval| Pace::new(interval, client));
    while plan.may_start() {
        let due = match &mut pace {
            Some(pace) => pace.wait().await,
            None => Instant::now(),
        };
        maker.next(&mut request);
        let answered = attempt(&mut wire, &endpoint, &request).await;
        let ended = Instant::now();
        let counts = due >= plan.from && plan.until.is_none_or(|until| ended <= until);
        match answered {
            Ok(()) if counts => tally.success(ended - due),
            Ok(()) => {}
            Err(kind) => {
                if counts {
                    tally.error(kind, ended - due);
                }
                // Whoever keeps a rate does so whatever the answer, as long as there is someone who answers.
                if pace.is_none() || wire.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    tally.skipped(pace.map_or(0, |pace| pace.skipped));
    tally
}

/// When one client's requests are due.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    next: Instant,
    skipped: u64,
}

impl Pace {
    /// The clients are spread over the interval, so that they do not send all at once.
    fn new(interval: Duration, client: u64) -> Pace {
        // Multiples of the golden ratio spread evenly, however many there are.
        let phase = (client as f64 * 0.618_033_988_749_895).fract();
        Pace {
            interval,
            next: Instant::now() + interval.mul_f64(phase),
            skipped: 0,
        }
    }

    /// Waits until the next request is due and says when that was. Those that were due while the one before was waiting for
    /// its answer are let go.
    async fn wait(&mut self) -> Instant {
        let now = Instant::now();
        while self.next + self.interval <= now {
            self.next += self.interval;
            self.skipped += 1;
        }
        let due = self.next;
        self.next += self.interval;
        tokio::time::sleep_until(due.into()).await;
        due
    }
}

/// One request; the kind of failure if it is one.
async fn attempt(wire: &mut Option<Wire>, endpoint: &str, request: &[u8]) -> Result<(), String> {
    if wire.is_none() {
        let connected = Wire::connect(endpoint).await;
        *wire = Some(connected.map_err(|error| format!("connecting: {}", error.kind()))?);
    }
    let open = wire.as_mut().expect("connected above");
    let answer = match open.exchange(request).await {
        Ok(answer) => answer,
        Err(error) => {
            *wire = None;
            return Err(format!("no answer: {}", error.kind()));
        }
    };
    let verdict = match answer.status {
        200 | 201 => Ok(()),
        status => {
            let body: Value = serde_json::from_slice(open.body(&answer)).unwrap_or_default();
            Err(format!(
                "{status} {}",
                body["code"].as_str().unwrap_or("some refused")
            ))
        }
    };
    if answer.is_last {
        *wire = None;
    }
    verdict
}

/// Makes `count` accounts or keys, many at once; what exists is left.
async fn fill(endpoints: &[String], shape: &Shape, count: u64) -> Result<(), Failure> {
    let mut running = JoinSet::new();
    for client in 0..u64::from(SETUP_CLIENTS).min(count) {
        let (shape, endpoints) = (shape.clone(), endpoints.to_vec());
        running.spawn(async move {
            let mut maker = Maker::new(&shape, client);
            let (mut wire, mut request) = (None, Vec::new());
            for number in (client..count).step_by(usize::from(SETUP_CLIENTS)) {
                request.clear();
                match shape.workload {
                    Workload::KvGet | Workload::KvPut => maker.put(number, &mut request),
                    Workload::Transfer | Workload::TransferBatch => {
                        Maker::account(number, &mut request);
                    }
                }
                persist(&mut wire, &endpoints, &request).await?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(filled) = running.join_next().await {
        let filled = filled.expect("a client does not panic");
        filled.map_err(|why| Failure::refused(format!("setting up: {why}")))?;
    }
    Ok(())
}

/// Sends a request that may be sent twice until it succeeds, a few times.
async fn persist(
    wire: &mut Option<Wire>,
    endpoints: &[String],
    request: &[u8],
) -> Result<(), String> {
    let mut last = String::new();
    for turn in 0..50 {
        match attempt(wire, &endpoints[turn % endpoints.len()], request).await {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
        *wire = None;
        tokio::time::sleep(PAUSE * 5).await;
    }
    Err(last)
}
