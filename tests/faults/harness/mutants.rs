//! Which run must find which mutant, and the proof that it does: each mutant is run with new seeds until a checker that was to
//! find it is red, or the time is up.
//!
//! A run may be red for any reason, a failure of the harness among them. Only the promises named here count.

mod cases;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use quorate::mutants::{self, Mutant};
use serde_json::Value;

use self::cases::{By, CASES, Case, INVARIANT, SILENT, STALE};
use crate::promises;

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
    /// This harness, built with mutants and the simulation: what harms files and simulates runs in it.
    #[arg(long, value_name = "FILE")]
    harness: PathBuf,
    /// Where runs are left.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    root: PathBuf,
}

/// What is said of outages that take what this machine does not give, root as a rule.
const SKIPPED: &str = "(not possible here)";

/// What came of a case.
struct Outcome {
    /// Broken promises of those that were to be broken; none if it stayed undetected.
    broken: Vec<String>,
    /// Broken promises that prove nothing.
    beside: Vec<String>,
    runs: u64,
    took: Duration,
}

/// Mutants that no case is about.
pub(crate) fn forgotten() -> Vec<&'static str> {
    let has_case = |mutant: &Mutant| CASES.iter().any(|case| case.mutant == *mutant);
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
        let is_skipped = beside.iter().any(|one| one == SKIPPED);
        if !broken.is_empty() || is_skipped || took.as_secs() >= options.patience {
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
    let left = options.patience.saturating_sub(start.elapsed().as_secs());
    let mut command = match by {
        By::Flips(_) | By::Sim(..) => Command::new(&options.harness),
        // This very program, though it may be built anew meanwhile.
        _ => {
            let mut command = Command::new("/proc/self/exe");
            command.env("QUORATE_BIN", &options.binary);
            command
        }
    };
    command
        .args(arguments(by, seed, left))
        .arg("--dir")
        .arg(dir)
        .env(mutants::VARIABLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.status().context("a run of its own")?;
    broken(by, dir)
}

/// What the harness is told to do; `left` is how many seconds it may take.
fn arguments(by: &By, seed: u64, left: u64) -> Vec<String> {
    let seeded = seed.to_string();
    let mut words = vec!["--seed", &seeded];
    let numbers: Vec<String>;
    let command = match by {
        By::Run(workload, faults, seconds) | By::Long(workload, faults, seconds) => {
            numbers = vec![seconds.to_string()];
            let lease = if matches!(by, By::Long(..)) {
                "2000"
            } else {
                "700"
            };
            words.extend(["--workload", workload, "--faults", faults]);
            words.extend(["--seconds", &numbers[0], "--lease-ms", lease]);
            words.extend(faults.contains("away").then_some("--snapshots"));
            "run"
        }
        By::Scenario(scenario) => {
            // Three clusters, as many tries as there may be time for.
            numbers = vec![(left / 4).clamp(3, 50).to_string()];
            words.extend([*scenario, "--until-red", "--tries", &numbers[0]]);
            "scenario"
        }
        By::Volume(outages, hits) => {
            words.extend(["--hits", hits, "--batch", "100"]);
            words.extend(["--transfers", "60000"]);
            outages
        }
        By::Flips(flips) => {
            numbers = vec![flips.to_string()];
            words.extend(["--nodes", "0", "--flips", &numbers[0]]);
            "flips"
        }
        By::Sim(scenario, seeds) => {
            // Not the seeds of the run before.
            numbers = vec![seeds.to_string(), (1 + (seed - 1) * seeds).to_string()];
            words[1] = &numbers[1];
            words.extend(["--seeds", &numbers[0]]);
            if let Some(scenario) = scenario {
                words.extend(["--scenario", scenario]);
            }
            "sim"
        }
    };
    let words = std::iter::once(command).chain(words);
    words.map(str::to_owned).collect()
}

/// What the run left in `dir` says is broken.
fn broken(by: &By, dir: &Path) -> anyhow::Result<Vec<String>> {
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
        By::Volume(..) if !dir.join("volume.json").exists() => Ok(vec![SKIPPED.to_owned()]),
        By::Volume(..) => {
            let report = json_file(&dir.join("volume.json"))?;
            let findings = report["findings"].as_array().context("no findings")?;
            let kinds = findings.iter().filter_map(|one| one["kind"].as_str());
            let kinds: BTreeSet<&str> = kinds.collect();
            Ok(kinds.into_iter().map(str::to_owned).collect())
        }
        By::Flips(_) => {
            let report = json_file(&dir.join("flips.json"))?;
            let silent = report["silent"].as_u64().context("no count")?;
            Ok(Vec::from_iter((silent > 0).then(|| SILENT.to_owned())))
        }
        By::Sim(..) => {
            let report = json_file(&dir.join("sim.json"))?;
            let red = report["red"].as_array().context("nothing is said")?;
            let kinds = red.iter().filter_map(|what| Some(kind_of(what.as_str()?)));
            let kinds: BTreeSet<&str> = kinds.collect();
            Ok(kinds.into_iter().map(str::to_owned).collect())
        }
    }
}

/// The promise that a finding of the simulation is about. What is about none is an invariant, or a node's own check that ended it.
fn kind_of(what: &str) -> &str {
    let named = what.split_once(": ").map_or("", |(name, _)| name);
    match promises::ALL.iter().any(|promise| promise.name == named) {
        true => named,
        false if what.contains("no progress") => "(no progress)",
        false => INVARIANT,
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
        By::Flips(_) => ("files", "flips"),
        By::Sim(scenario, _) => ("(simulation)", scenario.unwrap_or("by chance")),
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
