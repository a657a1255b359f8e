//! Runs on real processes: nodes of the built binary, clients, faults, and what is left behind for the checkers.
//!
//! ```text
//! options -> nodes (processes) + net (between them)   -> workloads: clients -> api, http -> history
//!                  |      ^ nemesis: faults                                     |
//!                  +-> follow: applied logs, if they are kept short             |
//!            finish: heal, read everything once more, stop, export <------------+
//! ```
//!
//! One process, one clock, one writer of the history ([`world::World`]). The main thread owns the nodes and does the faults;
//! each client is a thread. Whatever goes wrong in the harness itself is written into the history and makes the run red.
//!
//! | to add | touch |
//! |---|---|
//! | a workload | its file in `workloads/`, its line in `workloads::ALL` |
//! | a fault | its file in `faults/`, its line in `faults::ALL` |
//! | a scenario | its file in `scenarios/`, its line in `scenarios::ALL` |
//! | a mutant | its line in `src/mutants.rs`, where it is broken, its line in `mutants::CASES` |
//! | a kind of outage under volume | `volume/`, which is a program of its own beside the runs |
//! | an operation | `history::operation`, and how the API spells it in [`api`] and [`applied`] |

pub(crate) mod api;

pub(crate) mod applied;

pub(crate) mod client;

pub(crate) mod clocks;

pub(crate) mod disks;

pub(crate) mod errors;

pub(crate) mod faults;

pub(crate) mod finish;

pub(crate) mod follow;

pub(crate) mod glance;

pub(crate) mod hand;

pub(crate) mod http;

pub(crate) mod mutants;

pub(crate) mod nemesis;

pub(crate) mod net;

pub(crate) mod nodes;

pub(crate) mod operator;

pub(crate) mod options;

pub(crate) mod plan;

pub(crate) mod roster;

pub(crate) mod scenarios;

pub(crate) mod volume;

pub(crate) mod watch;

pub(crate) mod workloads;

pub(crate) mod world;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::json;

use self::client::Client;
use self::follow::Followers;
use self::nemesis::Nemesis;
use self::nodes::{Nodes, Pace};
use self::options::Options;
use self::watch::Watch;
use self::workloads::{Workload, bank};
use self::world::World;
use crate::history::Happening;
use crate::random::Random;

/// How long the cluster is left alone before the first fault.
const CALM: Duration = Duration::from_secs(2);

/// Makes a run and leaves it in a directory, which it gives; judged it is not.
///
/// # Errors
/// When the run cannot even be begun, or left behind.
pub(crate) fn run(options: &Options, say: impl Fn(&str)) -> anyhow::Result<PathBuf> {
    anyhow::ensure!((2..=7).contains(&options.nodes), "from 2 to 7 nodes");
    anyhow::ensure!(options.clients > 0, "there must be clients");
    let (workloads, faults) = (options.workloads()?, options.faults()?);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    let name = format!("{}-{seed}", clock.as_secs());
    let dir = options.dir.clone().unwrap_or(options.root.join(name));
    say(&format!(
        "SEED {seed}\nREPRODUCE {}\nRUN {}",
        options.again(seed),
        dir.display()
    ));
    let built = PathBuf::from(env!("CARGO_BIN_EXE_quorate"));
    let binary = options.binary.clone().unwrap_or(built);
    for part in ["logs", "data"] {
        fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
    }
    let flags = &options.node_flag;
    let pace = Pace::of_lease(Duration::from_millis(options.lease_ms));
    let mut nodes = Nodes::within(options.network, &dir, &binary, options.nodes, pace, flags)?;
    equip(&mut nodes, options, &faults, &say);
    let history = File::create(dir.join("history.jsonl"))?;
    let world = Arc::new(World::new(history, nodes.roster()));
    let has_bank = workloads.iter().any(|workload| workload.needs_bank());
    let followers = options.snapshots.then(|| Followers::start(&world));
    match begin(&mut nodes, has_bank) {
        Ok(()) => work(options, seed, &world, &mut nodes, &workloads, &faults, &say),
        Err(error) => world.fail(format!("the cluster does not form: {error:#}")),
    }
    let pieces = followers.map_or(Vec::new(), |followers| followers.end(&world));
    if let Err(error) = finish::collect(&mut nodes, &dir, &binary, pieces) {
        world.fail(format!("{error:#}"));
    }
    for failure in world.failures() {
        say(&format!("FAILURE {failure}"));
    }
    plan::write(options, seed, &nodes, &workloads, &faults, &binary, &dir)?;
    let world = Arc::into_inner(world).context("a thread still holds the history")?;
    world.finish()?;
    Ok(dir)
}

/// Gives the nodes what the faults need, as far as the system lets us: a fault that lacks something is skipped.
fn equip(
    nodes: &mut Nodes,
    options: &Options,
    faults: &[&'static dyn faults::Fault],
    say: impl Fn(&str),
) {
    if (options.by_hand || faults.iter().any(|fault| fault.needs_disks()))
        && let Err(error) = nodes.make_disks(disks::SIZE)
    {
        say(&format!("NO DISKS {error:#}"));
    }
    if faults.iter().any(|fault| fault.needs_clocks())
        && let Err(error) = nodes.make_clocks()
    {
        say(&format!("NO CLOCKS {error:#}"));
    }
    if faults.iter().any(|fault| fault.needs_errors())
        && let Err(error) = nodes.make_errors()
    {
        say(&format!("DISKS DO NOT FAIL {error:#}"));
    }
    if options.snapshots {
        nodes.make_snapshots();
    }
}

/// Starts and forms the cluster.
pub(crate) fn form(nodes: &mut Nodes) -> anyhow::Result<()> {
    for id in nodes.ids() {
        nodes.start(id)?;
    }
    insist(nodes, "/v1/cluster/init", &nodes.members())?;
    finish::wait_ready(nodes)
}

/// Posts until it is done; at which index.
fn insist(nodes: &Nodes, path: &str, body: &str) -> anyhow::Result<u64> {
    let patience = Duration::from_secs(10);
    let start = Instant::now();
    loop {
        match http::ask(nodes.addr(1), "POST", path, body, patience) {
            Ok(reply) if (200..300).contains(&reply.status) => {
                return Ok(reply.number("quorate-index").unwrap_or_default());
            }
            other if start.elapsed() > patience => anyhow::bail!("{path}: {other:?}"),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Starts and forms the cluster, and opens the bank if there is to be one.
fn begin(nodes: &mut Nodes, has_bank: bool) -> anyhow::Result<()> {
    form(nodes)?;
    if !has_bank {
        return Ok(());
    }
    let ask = |path: &str, body: &str| insist(nodes, path, body);
    ask(
        "/v1/ledgers",
        &json!({"id": api::BANK, "asset": "USD", "scale": 2}).to_string(),
    )?;
    let opening = bank::opening();
    for name in opening.balances.keys() {
        let limits = json!({"debits_must_not_exceed_credits": !opening.overdraft.contains(name)});
        let account = json!({"id": name, "ledger": api::BANK, "code": 1, "limits": limits});
        ask("/v1/accounts", &account.to_string())?;
    }
    let mut last = 0;
    for (name, balance) in opening.balances.iter().filter(|(_, balance)| **balance > 0) {
        let transfer = json!({
            "id": format!("{}{name}", applied::SETUP), "debit_account": bank::MINT, "credit_account": name,
            "amount": balance.to_string(), "code": 1,
        });
        last = last.max(ask("/v1/transfers", &transfer.to_string())?);
    }
    // The history begins with the bank open, on every node.
    finish::wait_applied(nodes, last)
}

/// The calm phase, the faults, the healing and the final phase.
fn work(
    options: &Options,
    seed: u64,
    world: &Arc<World>,
    nodes: &mut Nodes,
    workloads: &[&'static dyn Workload],
    faults: &[&'static dyn faults::Fault],
    say: &impl Fn(&str),
) {
    let mut random = Random::new(seed);
    let has_bank = workloads.iter().any(|workload| workload.needs_bank());
    if has_bank {
        world.say(&Happening::Accounts(bank::opening()));
    }
    world.say(&Happening::Phase("calm".to_owned()));
    let watch = Watch::start(Arc::clone(world));
    let clients = start_clients(options, world, workloads, &mut random);
    thread::sleep(CALM);
    world.say(&Happening::Phase("faults".to_owned()));
    let every = Duration::from_millis(options.every_ms);
    let overlap = options.overlap;
    if options.by_hand {
        hand::lead(world, nodes, hand::typed(), say);
    } else {
        let mut nemesis = Nemesis::new(Arc::clone(world), faults, random.next(), overlap, every);
        nemesis.run(nodes, Instant::now() + options.faulty());
    }
    world.say(&Happening::Phase("heal".to_owned()));
    let healed = finish::heal(nodes);
    if let Err(error) = &healed {
        world.fail(format!("healed: {error:#}"));
    }
    // A little of the healed cluster under load.
    thread::sleep(Duration::from_millis(500));
    world.stop();
    for client in clients {
        if client.join().is_err() {
            world.fail("a client panicked");
        }
    }
    // A cluster that does not come back would only let each question run into its time limit.
    if healed.is_ok() {
        finish::final_phase(world, has_bank, random.next());
        if let Err(error) = finish::converge(nodes) {
            world.fail(format!("after the final phase: {error:#}"));
        }
        finish::members(world, nodes);
        if let Err(error) = finish::farewell(nodes) {
            world.fail(format!("in the end: {error:#}"));
        }
    }
    watch.end();
    if let Ok(dead) = nodes.look_for_dead()
        && !dead.is_empty()
    {
        world.fail(format!("nodes {dead:?} ended by themselves"));
    }
}

fn start_clients(
    options: &Options,
    world: &Arc<World>,
    workloads: &[&'static dyn Workload],
    random: &mut Random,
) -> Vec<JoinHandle<()>> {
    let mut clients = Vec::new();
    for number in 0..options.clients {
        let at = number % workloads.len() as u64;
        let workload = workloads[usize::try_from(at).expect("few workloads")];
        // Counted by workload, so that each has clients of every kind.
        let place = number / workloads.len() as u64;
        let client = Client::new(Arc::clone(world), place, random.next(), workload.resent());
        let think = workload.think();
        clients.push(thread::spawn(move || client.run(workload, think)));
    }
    clients
}

/// Removes the nodes' data: what is left says everything about a green run.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn tidy_up(dir: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(dir.join("data")).context("the nodes' data")
}
