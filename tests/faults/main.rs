//! Fault tests in the style of Jepsen: runs on real processes, and the checkers that judge them.
//!
//! ```text
//! cargo test --test faults -- run --help         a run: nodes, clients, faults; then judged; exit 1 if it is red
//! cargo test --test faults -- scenario NAME      steps taken on purpose, again and again; exit 1 if a read was stale
//! cargo test --test faults -- kills|cuts|full       outages by the hundreds under a load by the million; exit 1 if anything is lost
//! cargo test --test faults -- mutants            builds broken on purpose, each run until it is found out
//! cargo test --test faults -- flips              one harm at a time to files; exit 1 if one is silent
//! cargo test --test faults                       the claims: every checker red on a violation, green next to it
//! cargo test --features simulation --test faults -- sim
//!                                                seeds in the simulation; exit 1 if one is red
//! cargo test --test faults -- check DIR          judges a run directory and writes its report; exit 1 if it is red
//! cargo test --test faults -- simulate DIR       leaves a run directory of the simulated store, with or without a flaw
//! ```
//!
//! How data passes through: the [`harness`] makes a run directory ([`run`]), which holds a plan, the history of the clients, the applied logs and the
//! output of the nodes ([`history`]). Each promise ([`promises`]) judges all of it by itself. [`statistics`] count what
//! happened, [`report`] shows both. The claims ([`claims`]) run a simulated store, correct and with one flaw at a time,
//! through all of that.
//!
//! | to add | touch |
//! |---|---|
//! | a workload, a fault | its file and its line, see [`harness`] |
//! | something that is harmed on the disk | see [`flips`] |
//! | a promise | its file in `promises/`, its line in `promises::ALL`, claims about it |
//! | a rule of coverage | its line in `promises::coverage::RULES` |
//! | a plot | its file in `report/plots/`, its line in `report::plots::ALL` |
//! | a flaw of the simulated store | its variant in `claims::store::flaw`, its line in `Flaw::ALL` |
//! | a claim | its function, its line in the `ALL` of its file |

mod flips;

mod harness;

mod history;

mod random;

#[path = "../support/ports.rs"]
mod ports;

mod run;

mod promises;

mod statistics;

mod report;

mod claims;

#[cfg(feature = "simulation")]
mod sim;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use claims::store;
use harness::net::{Network, namespaces};
use harness::options::Options;
use harness::volume::Outage;
use harness::{mutants, scenarios, volume};
use promises::Limits;
use report::Report;
use run::Evidence;

/// Fault tests; without a command, the claims about the checkers.
#[derive(Parser)]
#[command(
    name = "faults",
    bin_name = "scripts/faults.sh",
    args_conflicts_with_subcommands = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only claims whose name contains one of these.
    filters: Vec<String>,
    /// Only claims whose name is one of the filters.
    #[arg(long)]
    exact: bool,
    /// Name the claims, and ask none.
    #[arg(long)]
    list: bool,
    /// As other test binaries take it: there are no claims that are switched off.
    #[arg(long)]
    ignored: bool,
    /// As other test binaries take it, and of no effect.
    #[arg(long, hide = true)]
    nocapture: bool,
    /// As other test binaries take it, and of no effect.
    #[arg(long, hide = true)]
    format: Option<String>,
    /// As other test binaries take it, and of no effect.
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a run on real processes and judge it.
    Run(Box<Options>),
    /// Play a directed scenario on real processes.
    Scenario(Box<scenarios::Options>),
    /// Play seeds in the simulation.
    #[cfg(feature = "simulation")]
    Sim(Box<sim::Options>),
    /// Harm files, and see that whatever is harmed is found.
    Flips(Box<flips::Options>),
    /// Run builds that are broken on purpose until each is found out.
    Mutants(Box<mutants::Options>),
    /// Kill nodes by the hundreds under a load of transfers by the million, and hold the books against what was acknowledged.
    Kills(Box<volume::Options>),
    /// The same with power cuts, which take root and loop devices.
    Cuts(Box<volume::Options>),
    /// Disks that fail, tear or hang under transfers in batches.
    Eio(Box<volume::Options>),
    /// The same with disks that are filled to the last block, which take the same.
    Full(Box<volume::Options>),
    /// The same with nodes that end at crash points, in a build that has them.
    Points(Box<volume::Options>),
    /// Name the workloads, the faults and the scenarios.
    List,
    /// Judge a run directory again, and write its report anew.
    Check {
        /// The directory.
        dir: PathBuf,
        /// Where to write the report, if not there.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// What each checker may take.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        limit: u64,
    },
    /// Leave a run directory of the simulated store.
    Simulate {
        /// The directory.
        dir: PathBuf,
        /// Everything random is drawn from it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What the clients do: register, bank, set, append or mixed.
        #[arg(long, default_value = "mixed")]
        workload: String,
        /// What is wrong with the store: the name of a flaw.
        #[arg(long)]
        flaw: Option<String>,
        /// How many clients.
        #[arg(long, default_value_t = 6)]
        clients: u64,
        /// How long, in virtual seconds.
        #[arg(long, default_value_t = 12)]
        seconds: u64,
        /// The pause of a client between two operations, in milliseconds, in the mean.
        #[arg(long, default_value_t = 60)]
        think_ms: u64,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let is_green = match args.command {
        Some(command) => run_command(command),
        None if args.list => {
            if !args.ignored {
                claims::list(&args.filters, args.exact);
            }
            Ok(true)
        }
        None => Ok(args.ignored || claims::run(&args.filters, args.exact)),
    };
    match is_green {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            say(&format!("faults: {e:#}"));
            ExitCode::from(2)
        }
    }
}

fn run_command(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(options) => make(&options),
        Command::Scenario(options) => scenarios::play(&options, say),
        #[cfg(feature = "simulation")]
        Command::Sim(options) => sim::play(&options, say),
        Command::Flips(options) => flips::play(&options, say),
        Command::Mutants(options) => mutants::hunt(&options, say),
        Command::Kills(options) => volume::play(Outage::Kill, &options, say),
        Command::Cuts(options) => volume::play(Outage::Cut, &options, say),
        Command::Eio(options) => volume::play(Outage::Error, &options, say),
        Command::Full(options) => volume::play(Outage::Fill, &options, say),
        Command::Points(options) => volume::play(Outage::Point, &options, say),
        Command::List => {
            for workload in harness::workloads::ALL {
                say(&format!(
                    "workload {:10} {}",
                    workload.name(),
                    workload.says()
                ));
            }
            for fault in harness::faults::ALL {
                say(&format!("fault    {:10} {}", fault.name(), fault.says()));
            }
            for (name, says) in scenarios::list() {
                say(&format!("scenario {name:16} {says}"));
            }
            for (number, says, places) in scenarios::named::NAMED {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                say(&format!("{number:8} {says}: {}", places.join("; ")));
            }
            Ok(true)
        }
        Command::Check { dir, out, limit } => {
            let limits = Limits {
                time: Duration::from_secs(limit),
            };
            check(&dir, out.as_deref().unwrap_or(&dir), &limits)
        }
        Command::Simulate {
            dir,
            seed,
            workload,
            flaw,
            clients,
            seconds,
            think_ms,
        } => {
            anyhow::ensure!(
                clients > 0 && seconds > 0,
                "there must be clients, and time"
            );
            let known = ["register", "bank", "set", "append", "mixed"];
            anyhow::ensure!(
                known.contains(&workload.as_str()),
                "no workload {workload}; known are {known:?}"
            );
            let named =
                |name: String| store::Flaw::named(&name).with_context(|| format!("no flaw {name}"));
            let flaw = flaw.map(named).transpose()?;
            let options = store::Options {
                seed,
                workload,
                clients,
                seconds,
                think_ms,
                has_faults: true,
                flaw,
            };
            store::simulate(&options).write(&dir)?;
            Ok(true)
        }
    }
}

/// Makes a run and judges it; whether it is green.
fn make(options: &Options) -> anyhow::Result<bool> {
    if options.network == Network::Namespaces && !options.inside {
        let error = namespaces::enter("--inside");
        say(&format!("SKIPPED run: {error:#}"));
        return Ok(true);
    }
    let dir = harness::run(options, say)?;
    let limits = Limits {
        time: Duration::from_secs(options.limit),
    };
    let is_green = check(&dir, &dir, &limits)?;
    if is_green && !options.keep {
        harness::tidy_up(&dir)?;
    }
    Ok(is_green)
}

/// Judges a run directory and leaves the report in `out`; whether the run is green.
fn check(dir: &Path, out: &Path, limits: &Limits) -> anyhow::Result<bool> {
    let evidence = Evidence::load(dir)?;
    let report = Report::new(&evidence, promises::judge(&evidence, limits));
    report.write(&evidence, out)?;
    say(&report::summary::markdown(&report));
    Ok(report.verdict == "green")
}

/// Prints. That nobody reads on, as behind a pipe into `head`, is no fault.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
