//! What one node pays to apply transfers: the machine and its state on RocksDB, without consensus and HTTP.
//!
//! `cargo bench --bench apply -- [--transfers N] [--accounts N] [--ids random|ordered] [--rate N] [--snapshots N] [--dir PATH]
//! [--json]`
//!
//! Entries of 8,190 transfers between uniformly drawn accounts, each with an id of 26 characters, one in 8,190 a retry of an old
//! transfer. `random` ids are random, `ordered` ones begin with their time, as ULIDs do. With `--rate` entries are handed over
//! at that many transfers a second, otherwise as fast as they are taken. With `--snapshots` one is made beside, as a node does,
//! whenever so many entries were applied.
//!
//! CPU is that of the whole process, RocksDB's threads, seals and compaction included, up to when nothing is left to compact,
//! less what the main thread used while it generated entries (read from /proc/thread-self/schedstat around the generator).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for a terminal"
)]

#[path = "apply/snapshots.rs"]
mod snapshots;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate::machine::{AccountRef, Command, Limits, NewAccount, NewLedger, NewTransfer, entry};
use quorate::storage::state::{Options, State, Stats};
use quorate::storage::{Kind, LogEntry, LogId};
use snapshots::Snapshots;

const BATCH: u64 = 8190;

struct Args {
    transfers: u64,
    accounts: u64,
    ordered: bool,
    rate: Option<u64>,
    snapshots: Option<u64>,
    dir: Option<PathBuf>,
    json: bool,
}

fn args() -> Args {
    let mut args = Args {
        transfers: 20_000_000,
        accounts: 10_000,
        ordered: false,
        rate: None,
        snapshots: None,
        dir: None,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .unwrap_or_else(|| panic!("{word} wants a value"))
        };
        let number = |text: String| text.replace('_', "").parse::<u64>().expect("a number");
        match word.as_str() {
            "--transfers" => args.transfers = number(value()),
            "--accounts" => args.accounts = number(value()),
            "--ids" => args.ordered = value() == "ordered",
            "--rate" => args.rate = Some(number(value())),
            "--snapshots" => args.snapshots = Some(number(value())),
            "--dir" => args.dir = Some(value().into()),
            "--json" => args.json = true,
            // What cargo itself passes.
            "--bench" => {}
            other => panic!("unknown argument {other}; see the head of benches/apply.rs"),
        }
    }
    args
}

/// Makes entries.
struct Generator {
    random: u64,
    accounts: u64,
    ordered: bool,
    made: u64,
    /// A transfer of a while ago, to be retried: as (id, debit, credit, amount).
    old: VecDeque<(String, u64, u64, u128)>,
}

impl Generator {
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn account(&mut self) -> u64 {
        1 + self.next() % self.accounts
    }

    fn id(&mut self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        // About 250,000 ids a second: the first ten characters are milliseconds.
        let time = if self.ordered {
            1_700_000_000_000 + self.made / 250
        } else {
            self.next()
        };
        let (a, b) = (self.next(), self.next());
        let digit = |bits: u64| char::from(DIGITS[usize::try_from(bits & 31).unwrap()]);
        let part = |bits: u64, count: u32| {
            (0..count)
                .rev()
                .map(move |place| digit(bits >> (5 * place)))
        };
        part(time, 10).chain(part(a, 8)).chain(part(b, 8)).collect()
    }

    fn entry(&mut self, count: u64) -> Vec<u8> {
        let mut rows: Vec<(String, u64, u64, u128)> = (0..count)
            .map(|_| {
                let (debit, mut credit) = (self.account(), self.account());
                if credit == debit {
                    credit = credit % self.accounts + 1;
                }
                self.made += 1;
                (
                    self.id(),
                    debit,
                    credit,
                    u128::from(1 + self.next() % 100_000),
                )
            })
            .collect();
        self.old.push_back(rows[0].clone());
        if self.old.len() > 400
            && let Some(old) = self.old.pop_front()
        {
            *rows.last_mut().unwrap() = old;
        }
        let transfers = rows
            .iter()
            .map(|(id, debit, credit, amount)| NewTransfer {
                id,
                debit: AccountRef::Number(*debit),
                credit: AccountRef::Number(*credit),
                amount: *amount,
                code: 1,
                linked: false,
                metadata: "",
            })
            .collect();
        entry::assemble(
            &[Command::Transfers(transfers)],
            1_700_000_000_000_000_000 + self.made,
        )
    }
}

fn log_entry(index: u64, body: Vec<u8>) -> LogEntry {
    LogEntry {
        id: LogId {
            term: 1,
            node: 1,
            index,
        },
        kind: Kind::Commands,
        body: body.into(),
    }
}

/// Creates the ledger and the accounts; returns the last index used.
fn set_up(state: &State, accounts: u64) -> u64 {
    let ledger = entry::assemble(
        &[Command::CreateLedger(NewLedger {
            id: "main",
            asset: "USD",
            scale: 2,
        })],
        1,
    );
    state.apply(&[log_entry(1, ledger)]).unwrap();
    let (mut index, mut made) = (1, 0);
    while made < accounts {
        let ids: Vec<String> = (made..accounts.min(made + 10_000))
            .map(|n| format!("account:{n:010}"))
            .collect();
        made += ids.len() as u64;
        let commands: Vec<Command<'_>> = ids
            .iter()
            .map(|id| {
                Command::CreateAccount(NewAccount {
                    id,
                    ledger: "main",
                    code: 1,
                    limits: Limits::default(),
                })
            })
            .collect();
        index += 1;
        state
            .apply(&[log_entry(index, entry::assemble(&commands, 1))])
            .unwrap();
    }
    index
}

/// CPU of the whole process: user and system ticks of 10 ms.
fn process_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn schedstat(path: &Path) -> Duration {
    let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(
        text.split_whitespace()
            .next()
            .and_then(|ns| ns.parse().ok())
            .unwrap_or(0),
    )
}

/// CPU of this thread.
fn thread_cpu() -> Duration {
    schedstat(Path::new("/proc/thread-self"))
}

/// CPU of RocksDB's threads.
fn rocksdb_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(Result::ok);
    tasks
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.starts_with("rocksdb"))
        })
        .map(|task| schedstat(&task.path()))
        .sum()
}

fn memory_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

struct Run {
    transfers: u64,
    snapshots: u32,
    snapshots_took: Duration,
    /// Per entry, in the order applied.
    took: Vec<Duration>,
    wall: Duration,
    /// Without the generator.
    cpu: Duration,
    cpu_settled: Duration,
    apply_thread: Duration,
    rocksdb: Duration,
    stats: Stats,
    rss_mb: u64,
    rss_peak_mb: u64,
    disk: u64,
}

fn run(args: &Args, dir: &Path) -> Run {
    std::fs::create_dir_all(dir).unwrap();
    let state = State::open(&dir.join("state"), Options::default()).unwrap();
    let mut snapshots = Snapshots::new(state.clone(), dir);
    let mut index = set_up(&state, args.accounts);
    let mut generator = Generator {
        random: 42,
        accounts: args.accounts,
        ordered: args.ordered,
        made: 0,
        old: VecDeque::new(),
    };
    let before = state.stats();
    let (cpu, thread, rocksdb, start) =
        (process_cpu(), thread_cpu(), rocksdb_cpu(), Instant::now());
    let (mut generating, mut took) = (Duration::ZERO, Vec::new());
    let mut rss_peak_mb = 0;
    while generator.made < args.transfers {
        let begun = thread_cpu();
        let body = generator.entry(BATCH.min(args.transfers - generator.made));
        generating += thread_cpu() - begun;
        index += 1;
        let entry = [log_entry(index, body)];
        if let Some(rate) = args.rate {
            let due = start + Duration::from_secs_f64(generator.made as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let begun = Instant::now();
        state.apply(&entry).unwrap();
        took.push(begun.elapsed());
        let every = args.snapshots.unwrap_or(u64::MAX);
        if (took.len() as u64).is_multiple_of(every) {
            snapshots.begin();
        }
        if took.len() % 64 == 0 {
            rss_peak_mb = rss_peak_mb.max(memory_mb("VmRSS"));
        }
    }
    let wall = start.elapsed();
    snapshots.end();
    let (apply_thread, cpu_applied) = (
        thread_cpu() - thread - generating,
        process_cpu() - cpu - generating,
    );
    let rss_mb = memory_mb("VmRSS");
    state.close().unwrap();
    state.settle().unwrap();
    let stats = subtract(&state.stats(), &before);
    Run {
        transfers: generator.made,
        snapshots: snapshots.made,
        snapshots_took: snapshots.took,
        took,
        wall,
        cpu: cpu_applied,
        cpu_settled: process_cpu() - cpu - generating,
        apply_thread,
        rocksdb: rocksdb_cpu() - rocksdb,
        stats,
        rss_mb,
        rss_peak_mb,
        disk: disk_bytes(&dir.join("state")),
    }
}

fn subtract(after: &Stats, before: &Stats) -> Stats {
    Stats {
        entries: after.entries - before.entries,
        transfers: after.transfers - before.transfers,
        decide: after.decide - before.decide,
        id_check: after.id_check - before.id_check,
        digest: after.digest - before.digest,
        encode: after.encode - before.encode,
        write: after.write - before.write,
        stall: after.stall - before.stall,
        seals: after.seals - before.seals,
        seal: after.seal - before.seal,
        journal_bytes: after.journal_bytes - before.journal_bytes,
        rolled_bytes: after.rolled_bytes,
    }
}

fn report(args: &Args, run: &Run) -> Vec<(&'static str, f64)> {
    let mut sorted = run.took.clone();
    sorted.sort_unstable();
    let ms = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a part of a length is a length"
        )]
        let at = (sorted.len() as f64 * part) as usize;
        sorted[at.min(sorted.len() - 1)].as_secs_f64() * 1e3
    };
    let each = |time: Duration| time.as_secs_f64() * 1e6 / run.transfers as f64;
    let other = run
        .cpu_settled
        .saturating_sub(run.apply_thread)
        .saturating_sub(run.rocksdb);
    vec![
        ("accounts", args.accounts as f64),
        ("transfers", run.transfers as f64),
        (
            "transfers_per_s",
            run.transfers as f64 / run.wall.as_secs_f64(),
        ),
        ("cpu_us_per_transfer", each(run.cpu)),
        ("cpu_us_per_transfer_settled", each(run.cpu_settled)),
        ("entry_ms_median", ms(0.5)),
        ("entry_ms_p99", ms(0.99)),
        ("entry_ms_max", ms(1.0)),
        ("apply_thread_cpu_us", each(run.apply_thread)),
        ("rocksdb_threads_cpu_us", each(run.rocksdb)),
        ("seal_thread_cpu_us", each(other)),
        ("wall_us_decide", each(run.stats.decide)),
        ("wall_us_of_it_id_check", each(run.stats.id_check)),
        ("wall_us_digest", each(run.stats.digest)),
        ("wall_us_encode_crc", each(run.stats.encode)),
        ("wall_us_write", each(run.stats.write)),
        ("wall_us_waiting_for_seals", each(run.stats.stall)),
        ("wall_us_seals_in_background", each(run.stats.seal)),
        ("seals", run.stats.seals as f64),
        ("snapshots", f64::from(run.snapshots)),
        (
            "snapshot_ms_mean",
            run.snapshots_took.as_secs_f64() * 1e3 / f64::from(run.snapshots.max(1)),
        ),
        ("rss_mb", run.rss_mb as f64),
        ("rss_mb_peak", run.rss_peak_mb as f64),
        (
            "journal_bytes_per_transfer",
            run.stats.journal_bytes as f64 / run.transfers as f64,
        ),
        (
            "disk_bytes_per_transfer",
            run.disk as f64 / run.transfers as f64,
        ),
    ]
}

fn main() {
    // As a node does.
    quorate::node::tune_allocator();
    let args = args();
    let temporary =
        std::env::temp_dir().join(format!("quorate-bench-apply-{}", std::process::id()));
    let dir = args.dir.clone().unwrap_or_else(|| temporary.clone());
    let run = run(&args, &dir);
    let figures = report(&args, &run);
    if args.json {
        let fields: Vec<String> = figures
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value:.3}"))
            .collect();
        println!("{{{}}}", fields.join(","));
    } else {
        figures
            .iter()
            .for_each(|(name, value)| println!("{name:30} {value:14.3}"));
    }
    if args.dir.is_none() {
        std::fs::remove_dir_all(&temporary).unwrap();
    }
}
