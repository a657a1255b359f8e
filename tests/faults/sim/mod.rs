//! The simulation: a cluster on one thread and in a time of its own, so that a seed is a run ([`quorate::raft::sim`]).
//!
//! A [`stage`] is a cluster with the history of its clients. On it a [`run`] plays faults drawn from its seed, and a
//! [`scenario`] steps taken on purpose. Either leaves what a run on real processes leaves, in the same formats, for the same
//! checkers; what only a simulation can see, it judges itself: the invariants of consensus at every tick, and that a cluster
//! whose faults are over gets on in bounded time.
//!
//! | to add | touch |
//! |---|---|
//! | a fault | its variant in `nemesis::Fault` and its arms there |
//! | a scenario | its function in [`scenario`], its line in `scenario::ALL` |
//! | a seed that was red | its line in `regressions.txt` |

mod clients;

mod nemesis;

mod run;

mod scenario;

mod stage;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::json;

use crate::claims::store::Files;

/// Which seeds are played.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// The first one; only this one if --seeds is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps taken on purpose instead of faults drawn by chance.
    #[arg(long)]
    scenario: Option<String>,
    /// The seeds of `regressions.txt` instead.
    #[arg(long, conflicts_with_all = ["seeds", "seed", "scenario", "dir"])]
    regressions: bool,
    /// Play so many of them a second time: they must be the same.
    #[arg(long, default_value_t = 0)]
    twice: u64,
    /// Go on after a red seed, and count them.
    #[arg(long)]
    count: bool,
    /// Seeds played side by side; as many as there are cores if not given.
    #[arg(long)]
    threads: Option<usize>,
    /// Where a red run is left.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Where `sim.json` says what was found, and a red run is left instead.
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    dir: Option<PathBuf>,
}

/// What came of a seed.
pub(crate) struct Played {
    /// What it leaves for the checkers.
    files: Files,
    /// What is wrong, the shortest first; green if nothing is.
    red: Vec<String>,
    /// Operations that were answered.
    answered: u64,
    /// Of these, reads that a lease served.
    by_lease: u64,
    /// Faults that met a leader.
    on_leader: u64,
    /// What was simulated, in milliseconds.
    simulated_ms: u64,
    /// The steps were taken as they should be, in time; always so without a scenario.
    is_set: bool,
    /// Of everything that happened.
    trace: (u64, String),
}

impl Played {
    /// There was not even a cluster.
    fn nothing(why: String) -> Played {
        Played {
            files: Files::default(),
            red: vec![why],
            answered: 0,
            by_lease: 0,
            on_leader: 0,
            simulated_ms: 0,
            is_set: false,
            trace: Default::default(),
        }
    }
}

/// So many seeds must have met everything together.
const BATCH: u64 = 20;

type Play = fn(u64) -> Played;

/// What all seeds add up to.
#[derive(Default)]
struct Total {
    played: AtomicU64,
    red: AtomicU64,
    set: AtomicU64,
    answered: AtomicU64,
    by_lease: AtomicU64,
    on_leader: AtomicU64,
    simulated_ms: AtomicU64,
    first_red: Mutex<Option<(u64, Vec<String>)>>,
    stop: AtomicBool,
}

/// Plays the seeds; whether all were green.
///
/// # Errors
/// If there is no such scenario, or a red run cannot be left.
pub(crate) fn play(options: &Options, say: fn(&str)) -> anyhow::Result<bool> {
    let named = std::env::var(quorate::mutants::VARIABLE).ok();
    if let Some(notice) = quorate::mutants::choose(named.as_deref()).map_err(anyhow::Error::msg)? {
        say(&notice);
    }
    if !options.regressions {
        return play_seeds(options, say);
    }
    let mut is_green = true;
    for (seed, scenario) in regressions()? {
        let options = Options {
            seeds: 1,
            seed: Some(seed),
            scenario,
            ..options.clone()
        };
        is_green &= play_seeds(&options, say)?;
    }
    Ok(is_green)
}

/// Seeds that were red once, each with its scenario if it is one.
fn regressions() -> anyhow::Result<Vec<(u64, Option<String>)>> {
    let lines = include_str!("regressions.txt").lines();
    let told = lines.map(|line| line.split('#').next().unwrap_or_default().trim());
    let parsed = told.filter(|told| !told.is_empty()).map(|told| {
        let (seed, scenario) = told.split_once(' ').unwrap_or((told, ""));
        let seed = seed.parse().with_context(|| format!("no seed: {told}"))?;
        Ok((
            seed,
            (!scenario.is_empty()).then(|| scenario.trim().to_owned()),
        ))
    });
    parsed.collect()
}

/// Plays as many seeds as the options say; whether all were green, and so many as there must be met what they are to meet.
fn play_seeds(options: &Options, say: fn(&str)) -> anyhow::Result<bool> {
    let play = match &options.scenario {
        None => run::play as Play,
        Some(name) => scenario::named(name).with_context(|| format!("no scenario {name}"))?,
    };
    let first = options.seed.unwrap_or(1);
    let total = Total::default();
    let next = AtomicU64::new(first);
    let began = Instant::now();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let failed: Mutex<Option<anyhow::Error>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..options.threads.unwrap_or(cores) {
            scope.spawn(|| {
                let done = farm(options, play, &next, &total, say);
                if let Err(error) = done {
                    total.stop.store(true, Ordering::Relaxed);
                    *failed.lock().expect("nobody panics holding it") = Some(error);
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect("nobody panics holding it") {
        return Err(error);
    }
    say(&summary(&total, began.elapsed().as_secs_f64()));
    if let Some(dir) = &options.dir {
        let first = total.first_red.lock().expect("nobody panics holding it");
        let (seed, red) = first.clone().unzip();
        let report = json!({
            "played": total.played.load(Ordering::Relaxed), "first_red": seed, "red": red.unwrap_or_default(),
        });
        fs::create_dir_all(dir)?;
        fs::write(
            dir.join("sim.json"),
            serde_json::to_string_pretty(&report)? + "\n",
        )?;
    }
    let missing = missing(&total);
    for what in &missing {
        say(&format!("RED: {what}"));
    }
    Ok(total.red.into_inner() == 0 && missing.is_empty())
}

/// What so many seeds prove nothing without.
fn missing(total: &Total) -> Vec<String> {
    let played = total.played.load(Ordering::Relaxed);
    let due = [
        ("no lease read was served", &total.by_lease),
        ("no fault met the leader", &total.on_leader),
    ];
    let is_missing = |number: &AtomicU64| played >= BATCH && number.load(Ordering::Relaxed) == 0;
    let missing = due.iter().filter(|(_, number)| is_missing(number));
    missing
        .map(|(what, _)| format!("in {played} seeds {what}"))
        .collect()
}

/// Plays seeds until there are no more, or one is red.
fn farm(
    options: &Options,
    play: Play,
    next: &AtomicU64,
    total: &Total,
    say: fn(&str),
) -> anyhow::Result<()> {
    let first = options.seed.unwrap_or(1);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed - first >= options.seeds || total.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut played = play(seed);
        if seed - first < options.twice {
            let again = play(seed);
            if (&again.trace, &again.files.history) != (&played.trace, &played.files.history) {
                let what = format!(
                    "a second run is another one: {:?}, then {:?}",
                    played.trace, again.trace
                );
                played.red.insert(0, what);
            }
        }
        total.played.fetch_add(1, Ordering::Relaxed);
        total
            .set
            .fetch_add(u64::from(played.is_set), Ordering::Relaxed);
        total.answered.fetch_add(played.answered, Ordering::Relaxed);
        total.by_lease.fetch_add(played.by_lease, Ordering::Relaxed);
        total
            .on_leader
            .fetch_add(played.on_leader, Ordering::Relaxed);
        total
            .simulated_ms
            .fetch_add(played.simulated_ms, Ordering::Relaxed);
        if !played.red.is_empty() {
            red(options, seed, &played, total, say)?;
        }
    }
}

fn red(
    options: &Options,
    seed: u64,
    played: &Played,
    total: &Total,
    say: fn(&str),
) -> anyhow::Result<()> {
    total.red.fetch_add(1, Ordering::Relaxed);
    let mut first = total.first_red.lock().expect("nobody panics holding it");
    if first.is_some() {
        return Ok(());
    }
    *first = Some((seed, played.red.clone()));
    total.stop.store(!options.count, Ordering::Relaxed);
    say(&format!("RED: seed {seed}"));
    for what in played.red.iter().take(3) {
        say(&format!("  {what}"));
    }
    if let Some(root) = options.dir.as_ref().or(options.root.as_ref()) {
        let dir = root.join(format!("sim-{seed}"));
        played.files.write(&dir)?;
        say(&format!("  left in {}", dir.display()));
    }
    let scenario = options.scenario.as_ref();
    let scenario = scenario.map_or(String::new(), |name| format!(" --scenario {name}"));
    let mutant = std::env::var(quorate::mutants::VARIABLE);
    let mutant = mutant.map_or(String::new(), |name| {
        format!("{}={name} ", quorate::mutants::VARIABLE)
    });
    say(&format!(
        "REPRODUCE: {mutant}scripts/faults.sh sim --seeds 1 --seed {seed}{scenario}"
    ));
    Ok(())
}

fn summary(total: &Total, seconds: f64) -> String {
    let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let played = get(&total.played);
    format!(
        "{played} seeds in {seconds:.1} s ({:.1} a second), {} red; {} as they should be set, {:.1} hours simulated, {} operations answered, \
         {} reads served by a lease, {} faults on a leader",
        played as f64 / seconds,
        get(&total.red),
        get(&total.set),
        get(&total.simulated_ms) as f64 / 3_600_000.0,
        get(&total.answered),
        get(&total.by_lease),
        get(&total.on_leader),
    )
}
