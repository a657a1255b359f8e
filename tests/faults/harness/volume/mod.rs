//! Outages by the hundreds under a load of transfers by the million: nothing acknowledged may be lost, nothing may be done twice.
//!
//! The other runs record every operation and judge each answer, which volume does not allow. Here each client sends batches of
//! transfers whose ids and amounts follow from seed, client and number ([`load`]), sends a batch until it is answered, and in the
//! end the books must say what all of them together come to ([`audit`]): each batch, sent once more, is found whole, and each
//! account has on every node the debits and credits of every batch exactly once.
//!
//! What is done to the nodes is drawn from the seed ([`outages`]): one, a majority or all of them are killed, lose their power, or
//! find their disk full or failing; or they end at a crash point, between two steps that make something durable.

mod audit;

mod load;

mod outages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use self::load::Load;
use self::outages::Outages;
use super::disks;
use super::nodes::{Nodes, Pace};
use crate::statistics::Snapshots;

/// How a node is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    /// SIGKILL.
    Kill,
    /// Its power is cut: its process ends, and what was not synced is gone.
    Cut,
    /// Its disk is filled to the last block, and it must live on.
    Fill,
    /// Its disk fails reads, writes or syncs, tears a write, or hangs.
    Error,
    /// It ends at a crash point ([`quorate::mutants::CRASH_POINTS`]), and half of the times loses its power there too, where there are disks for that.
    Point,
}

/// Outages under a load of transfers.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// How many nodes are hit, each counted that is hit together with others.
    #[arg(long)]
    hits: Option<u64>,
    /// How many transfers are to be acknowledged meanwhile.
    #[arg(long)]
    transfers: Option<u64>,
    /// Transfers in a request.
    #[arg(long, default_value_t = 20)]
    batch: u64,
    /// Clients, each with one request at a time.
    #[arg(long, default_value_t = 8)]
    clients: u64,
    /// The pause of a client between two batches in milliseconds, in the mean.
    #[arg(long, default_value_t = 20)]
    think_ms: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// The nodes' lease in milliseconds, which is the longest time to an election.
    #[arg(long, default_value_t = 700)]
    lease_ms: u64,
    /// Everything random is drawn from it; drawn from the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Where to leave what was found; made from the seed if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where directories are made.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    root: PathBuf,
    /// The binary; the one that was built with the tests if not given.
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    binary: Option<PathBuf>,
}

/// The long form: hits, transfers.
const KILLS: (u64, u64) = (1000, 1_000_000);
const CUTS: (u64, u64) = (300, 300_000);
const FILLS: (u64, u64) = (50, 50_000);
const ERRORS: (u64, u64) = (300, 300_000);
const POINTS: (u64, u64) = (400, 200_000);

/// A log that is purged while the run goes on, and a state that is sealed, so that outages meet that too.
const FLAGS: &[&str] = &[
    "--log-segment-bytes",
    "2MiB",
    "--log-keep-bytes",
    "4MiB",
    "--snapshot-log-bytes",
    "16MiB",
    "--seal-journal-bytes",
    "8MiB",
    "--state-cache-bytes",
    "32MiB",
];

/// Of nodes whose disks hang: for how long they wait for one.
const FLUSH_ABORT: Duration = Duration::from_secs(2);

/// The same, so small that every crash point is passed within seconds.
const SMALL: &[&str] = &[
    "--log-segment-bytes",
    "256KiB",
    "--log-keep-bytes",
    "256KiB",
    "--snapshot-log-bytes",
    "1MiB",
    "--snapshot-every",
    "1s",
    "--seal-journal-bytes",
    "1MiB",
    "--state-cache-bytes",
    "32MiB",
];

/// Something that is wrong, by its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `lost`, `doubled`, `books`, `crash`, `late`, `reads`, `unnoticed`, `coverage`, or `failure`, which is one of the harness.
    pub(crate) kind: &'static str,
    /// In words.
    pub(crate) what: String,
}

impl Finding {
    fn new(kind: &'static str, what: impl Into<String>) -> Finding {
        Finding {
            kind,
            what: what.into(),
        }
    }
}

impl Outage {
    fn command(self) -> &'static str {
        match self {
            Outage::Kill => "kills",
            Outage::Cut => "cuts",
            Outage::Fill => "full",
            Outage::Error => "eio",
            Outage::Point => "points",
        }
    }
}

/// Plays it; whether nothing was found.
///
/// # Errors
/// When it cannot be begun, or nothing be left behind.
pub(crate) fn play(outage: Outage, options: &Options, say: impl Fn(&str)) -> anyhow::Result<bool> {
    anyhow::ensure!((2..=7).contains(&options.nodes), "from 2 to 7 nodes");
    anyhow::ensure!(
        (1..=8190).contains(&options.batch) && options.clients > 0,
        "a batch has from 1 to 8,190 transfers, and somebody must send it"
    );
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    let (hits, transfers) = match outage {
        Outage::Kill => KILLS,
        Outage::Cut => CUTS,
        Outage::Fill => FILLS,
        Outage::Error => ERRORS,
        Outage::Point => POINTS,
    };
    let aim = Aim {
        hits: options.hits.unwrap_or(hits),
        transfers: options.transfers.unwrap_or(transfers),
    };
    check_points(outage, options)?;
    let command = outage.command();
    let name = format!("{}-{command}-{seed}", clock.as_secs());
    let dir = options.dir.clone().unwrap_or(options.root.join(name));
    say(&format!(
        "SEED {seed}\nREPRODUCE scripts/faults.sh {command} --seed {seed} --hits {} --transfers {} --batch {} --clients {} \
         --think-ms {} --nodes {} --lease-ms {}\nRUN {}",
        aim.hits,
        aim.transfers,
        options.batch,
        options.clients,
        options.think_ms,
        options.nodes,
        options.lease_ms,
        dir.display()
    ));
    for part in ["logs", "data"] {
        fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_quorate"));
    let binary = options.binary.clone().unwrap_or(built);
    let pace = Pace::of_lease(Duration::from_millis(options.lease_ms));
    let flush_abort = format!("--flush-abort={}ms", FLUSH_ABORT.as_millis());
    let flags = Vec::from_iter((outage == Outage::Error).then_some(flush_abort));
    let mut nodes = Nodes::new(&dir, &binary, options.nodes, pace, &flags)?;
    let (flags, size) = match outage {
        // A load that goes on while nodes are waited for leaves more than one that keeps pace.
        Outage::Point | Outage::Error => (SMALL, "3G"),
        _ => (FLAGS, disks::SIZE),
    };
    nodes.set_snapshots(flags);
    if outage != Outage::Kill
        && let Err(error) = nodes.make_disks(size)
    {
        let without =
            format!("no disks of the nodes' own ({error:#}); that takes root and loop devices");
        if !matches!(outage, Outage::Point | Outage::Error) {
            say(&format!("SKIPPED {command}: {without}"));
            return Ok(true);
        }
        say(&format!("NO POWER is lost: {without}"));
    }
    if outage == Outage::Error
        && let Err(error) = nodes.make_errors()
    {
        say(&format!("SKIPPED {command}: {error:#}"));
        return Ok(true);
    }
    let start = Instant::now();
    let (told, findings) = under_load(outage, options, seed, aim, &mut nodes, &binary, &say);
    let took = start.elapsed();
    drop(nodes);
    let about = json!({"seed": seed, "nodes": options.nodes, "about": super::plan::about(&binary)});
    conclude(command, about, &told, &findings, took, &dir, say)
}

/// How much is to happen.
#[derive(Clone, Copy, Debug)]
struct Aim {
    hits: u64,
    transfers: u64,
}

/// Refuses what cannot come to every crash point.
fn check_points(outage: Outage, options: &Options) -> anyhow::Result<()> {
    if outage != Outage::Point {
        return Ok(());
    }
    anyhow::ensure!(
        options.nodes > 2,
        "crash points take a cluster that goes on without one node"
    );
    let binary = options
        .binary
        .as_ref()
        .context("no binary with crash points is named")?;
    let version = Command::new(binary).arg("--version").output()?;
    anyhow::ensure!(
        String::from_utf8_lossy(&version.stdout).contains("built with mutants"),
        "{} has no crash points: scripts/faults.sh points builds one that has",
        binary.display()
    );
    Ok(())
}

/// Forms the cluster, plays the outages under the load, and audits; what happened, and what is wrong.
fn under_load(
    outage: Outage,
    options: &Options,
    seed: u64,
    aim: Aim,
    nodes: &mut Nodes,
    binary: &Path,
    say: &impl Fn(&str),
) -> (Value, Vec<Finding>) {
    let failed = |error: anyhow::Error| Finding::new("failure", format!("{error:#}"));
    let mut outages = Outages::new(outage, seed, aim);
    let begun = outages
        .begin(nodes)
        .and_then(|()| super::form(nodes))
        .and_then(|()| load::open(nodes));
    if let Err(error) = begun {
        return (json!({}), vec![failed(error)]);
    }
    let load = Arc::new(Load::new(nodes, seed, options.batch, options.think_ms));
    let clients = load::start(&load, options.clients);
    let mut findings: Vec<Finding> = outages
        .play(nodes, &load, say)
        .map_err(failed)
        .err()
        .into_iter()
        .collect();
    if let Err(error) = super::finish::heal(nodes) {
        findings.push(failed(error.context("healed")));
    }
    let sent = load::end(&load, clients);
    findings.extend(load.findings());
    findings.extend(outages.findings(&load));
    if findings.is_empty() {
        findings.extend(audit::of_books(nodes, &load, &sent).unwrap_or_else(|e| vec![failed(e)]));
    }
    findings.extend(audit::of_nodes(nodes, binary).unwrap_or_else(|e| vec![failed(e)]));
    let told = json!({
        "outages": outages.told(), "load": load.told(), "snapshots": Snapshots::of(&outputs(nodes)),
    });
    (told, findings)
}

/// What the nodes printed, by file name.
fn outputs(nodes: &Nodes) -> BTreeMap<String, String> {
    let log = |id: u64| (format!("n{id}.log"), output(nodes, id));
    nodes.ids().into_iter().map(log).collect()
}

/// What a node printed. What cannot be read says nothing.
fn output(nodes: &Nodes, id: u64) -> String {
    let bytes = fs::read(nodes.log(id)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Says what was found and leaves it in `dir`, without the nodes' data if nothing was; whether all is well.
fn conclude(
    command: &str,
    mut about: Value,
    told: &Value,
    findings: &[Finding],
    took: Duration,
    dir: &Path,
    say: impl Fn(&str),
) -> anyhow::Result<bool> {
    let is_green = findings.is_empty();
    for finding in findings.iter().take(crate::promises::FACTS_MAX) {
        say(&format!(
            "{}: {}",
            finding.kind.to_uppercase(),
            finding.what
        ));
    }
    let count = |kind: &str| {
        findings
            .iter()
            .filter(|finding| finding.kind == kind)
            .count()
    };
    say(&format!(
        "{} {command}, seed {}: {}; {}; {} lost, {} doubled, {} other findings; {:.0} s",
        if is_green { "GREEN" } else { "RED" },
        about["seed"],
        told["outages"]["told"].as_str().unwrap_or("not begun"),
        told["load"]["told"].as_str().unwrap_or("no load"),
        count("lost"),
        count("doubled"),
        findings.len() - count("lost") - count("doubled"),
        took.as_secs_f64(),
    ));
    let found = findings
        .iter()
        .map(|finding| json!({"kind": finding.kind, "what": finding.what}));
    about["command"] = json!(command);
    about["verdict"] = json!(if is_green { "green" } else { "red" });
    about["seconds"] = json!(took.as_secs_f64());
    about["happened"] = told.clone();
    about["findings"] = json!(found.collect::<Vec<_>>());
    fs::write(
        dir.join("volume.json"),
        serde_json::to_string_pretty(&about)? + "\n",
    )?;
    if is_green {
        super::tidy_up(dir)?;
    }
    Ok(is_green)
}
