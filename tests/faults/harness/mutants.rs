//! Which run must find which mutant, and the proof that it does: each mutant is run with new seeds until a checker that was to
//! find it is red, or the time is up.
//!
//! A run may be red for any reason, a failure of the harness among them. Only the promises named here count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use quorate::mutants::{self, Mutant};
use serde_json::Value;

use crate::flips;

/// How a mutant is brought to light.
enum By {
    /// A run: workload, faults, seconds of faults.
    Run(&'static str, &'static str, u64),
    /// The same with the lease that nodes have by default, and faults that last as much longer: longer than a client waits.
    Long(&'static str, &'static str, u64),
    /// A scenario, by name.
    Scenario(&'static str),
    /// Outages under volume: `kills` or `cuts`, so many.
    Volume(&'static str, &'static str),
}

/// A mutant, and who must find it.
struct Case {
    mutant: Mutant,
    by: By,
    /// Promises of which one at least must be broken.
    breaks: &'static [&'static str],
}

/// What a scenario finds.
const STALE: &str = "stale read";

/// Mutants that only the simulation finds (`QUORATE_MUTANT=NAME scripts/faults.sh sim`): real disks are too fast for them.
const SIMULATED: &[Mutant] = &[Mutant::VoteNotSynced];

/// Every mutant that is found.
const CASES: &[Case] = &[
    case(
        Mutant::AckBeforeSync,
        By::Run("set,register", "power", 25),
        &["set", "witness", "linear", "crash"],
    ),
    case(Mutant::AckBeforeSync, By::Volume("kills", "60"), FOUND),
    case(Mutant::AckBeforeSync, By::Volume("cuts", "60"), FOUND),
    case(Mutant::AckBeforeSync, By::Volume("points", "40"), FOUND),
    case(
        Mutant::TransferPostedAgain,
        By::Volume("kills", "20"),
        FOUND,
    ),
    case(
        Mutant::VoteNotSaved,
        By::Run("register", "kill,partition", 20),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::VoteGrantedTwice,
        By::Run("register", "partition,kill", 20),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(Mutant::NoVoteGate, By::Scenario("bridge-restart"), &[STALE]),
    case(
        Mutant::LeaderRestored,
        By::Run("register", "power", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::LeaseUnchecked,
        By::Scenario("paused-leader"),
        &[STALE],
    ),
    case(
        Mutant::LeaseWithoutMargin,
        By::Scenario("fast-followers"),
        &[STALE],
    ),
    case(
        Mutant::LeaseFromReceiveTime,
        By::Scenario("late-answers"),
        &[STALE],
    ),
    case(Mutant::StateNotAtomic, By::Volume("kills", "30"), FOUND),
    case(
        Mutant::LeaseKeptInTransfer,
        By::Scenario("deaf-transfer"),
        &[STALE],
    ),
    case(
        Mutant::ReadIndexUnconfirmed,
        By::Run("register", "partition", 30),
        &["linear", "witness"],
    ),
    case(
        Mutant::ReadUnapplied,
        By::Run("register", "moves,kill", 15),
        &["linear", "witness"],
    ),
    case(
        Mutant::ReadAnywhere,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
    case(
        Mutant::AppliedTooHigh,
        By::Run("register", "none", 5),
        &["witness"],
    ),
    case(
        Mutant::BankReadTorn,
        By::Run("bank", "none", 5),
        &["bank", "witness"],
    ),
    case(
        Mutant::TimeoutNotApplied,
        By::Long("register", "pause,partition", 40),
        &["witness", "linear"],
    ),
    case(
        Mutant::AnswersSwapped,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
    case(
        Mutant::KeysForgotten,
        By::Run("register", "none", 8),
        &["linear", "witness", "once"],
    ),
    case(
        Mutant::TransferPostedAgain,
        By::Run("ledger", "none", 8),
        &["witness", "once", "bank"],
    ),
    case(Mutant::ChainNotAtomic, By::Volume("kills", "20"), FOUND),
    case(
        Mutant::PurgeBeyondSnapshot,
        By::Run("register", "kill,away", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(
        Mutant::OldIdAfterWipe,
        By::Run("register", "members,kill", 40),
        &[
            "witness", "linear", "durable", "digests", "crash", "members",
        ],
    ),
    case(
        Mutant::StaleTerm,
        By::Run("register", "partition,pause", 25),
        &["witness", "linear", "durable", "digests", "crash"],
    ),
    case(Mutant::SyncErrorIgnored, By::Volume("eio", "60"), FOUND),
    case(
        Mutant::LimitsIgnored,
        By::Run("bank", "none", 5),
        &["bank", "witness"],
    ),
    case(
        Mutant::LegLost,
        By::Run("bank", "none", 5),
        &["bank", "witness", "crash"],
    ),
    case(
        Mutant::CasUnconditional,
        By::Run("register", "none", 5),
        &["linear", "witness"],
    ),
];

/// What outages under volume find.
const FOUND: &[&str] = &["lost", "doubled", "books", "crash"];

const fn case(mutant: Mutant, by: By, breaks: &'static [&'static str]) -> Case {
    Case { mutant, by, breaks }
}

/// Mutants, each run until it is found.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Only these, by name; `none` is the build without any of them, which must be green.
    names: Vec<String>,
    /// How long one may take, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 240)]
    patience: u64,
    /// The first seed; those of further runs follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A binary that was built with mutants.
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// Where runs are left.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    root: PathBuf,
}

/// What came of a case.
struct Outcome {
    /// Broken promises of those that were to be broken; none if it stayed undetected.
    broken: Vec<String>,
    /// Broken promises that prove nothing.
    beside: Vec<String>,
    runs: u64,
    took: Duration,
}

/// Mutants that no case is about, nor the simulation, nor any harm to files.
pub(crate) fn forgotten() -> Vec<&'static str> {
    let has_case = |mutant: &Mutant| {
        let is_elsewhere = flips::MUTANTS.contains(mutant) || SIMULATED.contains(mutant);
        is_elsewhere || CASES.iter().any(|case| case.mutant == *mutant)
    };
    let without = Mutant::ALL.iter().filter(|mutant| !has_case(mutant));
    without.map(|mutant| mutant.name()).collect()
}

/// Runs mutants; whether each was found, and `none` was green.
///
/// # Errors
/// When a name is not known, or runs cannot be made.
pub(crate) fn hunt(options: &Options, say: impl Fn(&str)) -> anyhow::Result<bool> {
    let known = |name: &String| {
        name == mutants::NONE || CASES.iter().any(|case| case.mutant.name() == name)
    };
    if let Some(name) = options.names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = CASES.iter().map(|case| case.mutant.name()).collect();
        anyhow::bail!("no mutant {name}; known are {} and {all:?}", mutants::NONE);
    }
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|n| n == name);
    let mut table = vec![
        "| mutant | workload | fault | promise that broke | runs | seconds to red |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut is_well = true;
    if wanted(mutants::NONE) {
        let (row, is_green) = check_none(options)?;
        say(&row);
        table.push(row);
        is_well &= is_green;
    }
    for case in CASES.iter().filter(|case| wanted(case.mutant.name())) {
        say(&format!("{}: {}", case.mutant.name(), case.mutant.says()));
        let outcome = find(options, case)?;
        let row = row(case, &outcome);
        say(&row);
        table.push(row);
        is_well &= !outcome.broken.is_empty();
    }
    let table = table.join("\n");
    say(&format!("\n{table}"));
    fs::write(options.root.join("mutants.md"), table + "\n")?;
    Ok(is_well)
}

/// The build without any of its bugs, under a bit of everything.
fn check_none(options: &Options) -> anyhow::Result<(String, bool)> {
    let start = Instant::now();
    let by = By::Run("register,bank,set", "kill,pause,partition", 20);
    let dir = options.root.join(format!("mutant-none-{}", options.seed));
    let broken = run(options, mutants::NONE, &by, options.seed, &dir, start)?;
    let told = match broken.as_slice() {
        [] => "none, as it must be".to_owned(),
        some => format!("**{}**", some.join(", ")),
    };
    let took = start.elapsed().as_secs();
    let row =
        format!("| none | register, bank, set | kill, pause, partition | {told} | 1 | ({took}) |");
    Ok((row, broken.is_empty()))
}

/// Runs a mutant until it is found or the time is up.
fn find(options: &Options, case: &Case) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let (mut beside, mut runs) = (Vec::new(), 0);
    loop {
        let seed = options.seed + runs;
        runs += 1;
        let name = case.mutant.name();
        let dir = options.root.join(format!("mutant-{name}-{seed}"));
        let all = run(options, name, &case.by, seed, &dir, start)?;
        let (broken, other): (Vec<String>, Vec<String>) = all
            .into_iter()
            .partition(|promise| case.breaks.contains(&promise.as_str()));
        beside.extend(other);
        let took = start.elapsed();
        if !broken.is_empty() || took.as_secs() >= options.patience {
            beside.sort();
            beside.dedup();
            return Ok(Outcome {
                broken,
                beside,
                runs,
                took,
            });
        }
    }
}

/// One run in a process of its own, which the mutant's name is handed to; the promises that were broken.
fn run(
    options: &Options,
    name: &str,
    by: &By,
    seed: u64,
    dir: &Path,
    start: Instant,
) -> anyhow::Result<Vec<String>> {
    let _ = fs::remove_dir_all(dir);
    // This very program, though it may be built anew meanwhile.
    let mut command = Command::new("/proc/self/exe");
    match by {
        By::Run(workload, faults, seconds) | By::Long(workload, faults, seconds) => {
            let is_long = matches!(by, By::Long(..));
            command
                .args(["run", "--workload", workload, "--faults", faults])
                .args(["--seconds", &seconds.to_string()])
                .args(faults.contains("away").then_some("--snapshots"))
                .args(["--lease-ms", if is_long { "2000" } else { "700" }])
        }
        By::Scenario(scenario) => {
            // Three clusters, as many tries as there may be time for.
            let left = options.patience.saturating_sub(start.elapsed().as_secs());
            let tries = (left / 4).clamp(3, 50).to_string();
            command.args(["scenario", scenario, "--until-red", "--tries", &tries])
        }
        By::Volume(outages, hits) => command.args([
            outages,
            "--hits",
            hits,
            "--transfers",
            "60000",
            "--batch",
            "100",
        ]),
    };
    command
        .args(["--seed", &seed.to_string(), "--dir"])
        .arg(dir)
        .arg("--binary")
        .arg(&options.binary)
        .env(mutants::VARIABLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.status().context("a run of its own")?;
    match by {
        By::Run(..) | By::Long(..) => {
            let report = json_file(&dir.join("run.json"))?;
            let promises = report["promises"].as_array().context("no promises")?;
            let broken = promises.iter().filter(|one| one["verdict"] == "violated");
            let mut broken: Vec<String> = broken
                .filter_map(|one| Some(one["promise"].as_str()?.to_owned()))
                .collect();
            let unknown = promises.iter().any(|one| one["verdict"] == "unknown");
            if unknown {
                broken.push("(undecided)".to_owned());
            }
            Ok(broken)
        }
        By::Scenario(_) => {
            let report = json_file(&dir.join("scenario.json"))?;
            let mut broken = Vec::new();
            if report["stale"].as_u64().unwrap_or(0) > 0 {
                broken.push(STALE.to_owned());
            }
            if report["failures"] != serde_json::json!([]) {
                broken.push("(failure)".to_owned());
            }
            Ok(broken)
        }
        By::Volume(..) => {
            let report = json_file(&dir.join("volume.json"))?;
            let findings = report["findings"].as_array().context("no findings")?;
            let kinds = findings.iter().filter_map(|one| one["kind"].as_str());
            let kinds: BTreeSet<&str> = kinds.collect();
            Ok(kinds.into_iter().map(str::to_owned).collect())
        }
    }
}

fn json_file(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn row(case: &Case, outcome: &Outcome) -> String {
    let (workload, fault) = match case.by {
        By::Run(workload, faults, _) | By::Long(workload, faults, _) => (workload, faults),
        By::Scenario(name) => ("probe", name),
        By::Volume(outages, _) => ("batches", outages),
    };
    let spaced = |names: &str| names.replace(',', ", ").replace("none", "nothing");
    let (told, seconds) = match outcome.broken.as_slice() {
        [] if outcome.beside.is_empty() => ("**STAYED GREEN**".to_owned(), "-".to_owned()),
        [] => (
            format!("**NOT FOUND**, only {}", outcome.beside.join(", ")),
            "-".to_owned(),
        ),
        broken => (broken.join(", "), outcome.took.as_secs().to_string()),
    };
    format!(
        "| {} | {} | {} | {told} | {} | {seconds} |",
        case.mutant.name(),
        spaced(workload),
        spaced(fault),
        outcome.runs
    )
}
