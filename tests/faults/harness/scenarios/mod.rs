//! Directed scenarios: where chance would have to be very lucky, each step is taken on purpose.
//!
//! A scenario is played again and again, each time on a cluster that is whole and idle, with the timeouts that nodes have by
//! default. What it demands is one thing: no read answers less than what was acknowledged before it began ([`probe`]).
//! Each try says too whether it got to where the danger is, since a try that did not proves nothing.
//!
//! To add one, write its file and add its line to [`ALL`].

mod clocks;

mod leader;

pub(crate) mod named;

mod pause;

mod probe;

mod restarts;

mod stage;

mod transfer;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use self::stage::Stage;
use super::nodes::{Nodes, Pace};
use crate::random::Random;

/// Steps taken on purpose.
trait Scenario: Sync {
    /// A word.
    fn name(&self) -> &'static str;
    /// A sentence.
    fn says(&self) -> &'static str;
    /// How fast the clocks of the nodes run, in percent of the true rate, from node 1 on; right if there is nothing.
    fn rates(&self) -> &'static [u64] {
        &[]
    }
    /// The time between heartbeats, in percent of the lease; at most a quarter of it.
    fn heartbeat(&self) -> u32 {
        10
    }
    /// Plays it once, from a whole cluster to a whole cluster.
    ///
    /// # Errors
    /// When the harness fails: that is no finding, and red all the same.
    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried>;
}

/// Every scenario.
const ALL: &[&dyn Scenario] = &[
    &restarts::BridgeRestart,
    &restarts::BothRestart,
    &pause::PausedLeader,
    &transfer::DeafTransfer,
    &leader::RestartedLeader,
    &clocks::FastFollowers,
    &clocks::LateAnswers,
];

/// What came of a try.
#[derive(Clone, Debug)]
struct Tried {
    /// Why it was given up before it began.
    skipped: Option<String>,
    /// The steps were in time.
    is_set: bool,
    /// It got to where the danger is: as a rule a second leader while the first could still answer. Where a guard is in its
    /// place this does not happen.
    is_reached: bool,
    /// How it went, for people.
    told: String,
    /// A read that should have seen more.
    stale: Option<String>,
}

impl Tried {
    fn skipped(why: &str) -> Tried {
        Tried {
            skipped: Some(why.to_owned()),
            is_set: false,
            is_reached: false,
            told: why.to_owned(),
            stale: None,
        }
    }
}

/// A scenario, played some times.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Which: a name.
    name: String,
    /// How often.
    #[arg(long, default_value_t = 20)]
    tries: u64,
    /// On how many clusters at once: a try is mostly waiting.
    #[arg(long, value_name = "CLUSTERS", default_value_t = 2)]
    side_by_side: u64,
    /// No more tries once a read was stale.
    #[arg(long)]
    until_red: bool,
    /// Everything random is drawn from it; drawn from the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// The nodes' lease in milliseconds; the default is that of the nodes.
    #[arg(long, default_value_t = 2000)]
    lease_ms: u64,
    /// Where to leave what was found; made from name and seed if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where directories are made.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    root: PathBuf,
    /// The binary; the one that was built with the tests if not given.
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    binary: Option<PathBuf>,
}

/// What all clusters together found.
#[derive(Debug, Default)]
struct Found {
    tried: Vec<Tried>,
    failures: Vec<String>,
}

/// Name and sentence of every scenario.
pub(crate) fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|known| (known.name(), known.says()))
}

/// Plays a scenario; whether nothing was stale and nothing failed.
///
/// # Errors
/// When there is no such scenario, or nothing can be written down.
pub(crate) fn play(options: &Options, say: impl Fn(&str) + Sync) -> anyhow::Result<bool> {
    let found = ALL.iter().find(|known| known.name() == options.name);
    let scenario = *found.with_context(|| {
        let known: Vec<&str> = list().map(|(name, _)| name).collect();
        format!("no scenario {}; known are {known:?}", options.name)
    })?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(u64::from(clock.subsec_nanos()));
    let name = format!("{}-{}-{seed}", clock.as_secs(), scenario.name());
    let dir = options.dir.clone().unwrap_or(options.root.join(name));
    if !scenario.rates().is_empty() && !super::clocks::are_possible() {
        let name = scenario.name();
        say(&format!(
            "SKIPPED {name}: libfaketime is not installed, so no clock runs wrong"
        ));
        return Ok(true);
    }
    say(&format!("SEED {seed}\nRUN {}", dir.display()));
    let start = Instant::now();
    let (found, next) = (Mutex::new(Found::default()), AtomicU64::new(0));
    thread::scope(|scope| {
        for side in 0..options.side_by_side.clamp(1, options.tries.max(1)) {
            let (found, next, say, dir) = (&found, &next, &say, dir.join(format!("side{side}")));
            scope.spawn(move || {
                let random = Random::new(seed.wrapping_add(side << 32));
                let played = side_of(options, scenario, &dir, random, next, found, say);
                if let Err(error) = played {
                    say(&format!("FAILURE side {side}: {error:#}"));
                    lock(found).failures.push(format!("{error:#}"));
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    conclude(scenario, &found, start.elapsed(), &dir, say)
}

/// Plays on one cluster until there were enough tries. The cluster belongs to this thread.
fn side_of(
    options: &Options,
    scenario: &dyn Scenario,
    dir: &Path,
    random: Random,
    next: &AtomicU64,
    found: &Mutex<Found>,
    say: impl Fn(&str),
) -> anyhow::Result<()> {
    for part in ["logs", "data"] {
        fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_quorate"));
    let binary = options.binary.clone().unwrap_or(built);
    let mut pace = Pace::of_lease(Duration::from_millis(options.lease_ms));
    pace.heartbeat = pace.election_max * scenario.heartbeat() / 100;
    let mut nodes = Nodes::new(dir, &binary, 3, pace, &[])?;
    if !scenario.rates().is_empty() {
        nodes.make_clocks()?;
        let rates = nodes.ids().into_iter().zip(scenario.rates());
        for (id, rate) in rates {
            let clocks = nodes.clocks_mut().context("they were made")?;
            clocks.set_rate(id, *rate);
        }
    }
    super::form(&mut nodes)?;
    let mut stage = Stage::new(nodes, random);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_over = options.until_red && lock(found).tried.iter().any(|one| one.stale.is_some());
        if number >= options.tries || is_over {
            return Ok(());
        }
        let tried = scenario.attempt(&mut stage)?;
        let dead = stage.nodes.look_for_dead()?;
        anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
        let stale = tried.stale.as_deref().map(|what| format!("; STALE {what}"));
        say(&format!(
            "try {number}: {}{}",
            tried.told,
            stale.unwrap_or_default()
        ));
        lock(found).tried.push(tried);
    }
}

/// Says what was found and leaves it in `dir`, without the nodes' data if nothing was; whether all is well.
fn conclude(
    scenario: &dyn Scenario,
    found: &Found,
    took: Duration,
    dir: &Path,
    say: impl Fn(&str),
) -> anyhow::Result<bool> {
    let count = |of: fn(&Tried) -> bool| found.tried.iter().filter(|one| of(one)).count();
    let played = count(|one| one.skipped.is_none());
    let (set, reached) = (count(|one| one.is_set), count(|one| one.is_reached));
    let stale = count(|one| one.stale.is_some());
    let is_green = stale == 0 && found.failures.is_empty() && is_enough(played, set);
    say(&format!(
        "{} {}: {played} tries, {set} in time, {reached} reached the danger, {stale} with a stale read, {} failures; {:.0} s",
        if is_green { "GREEN" } else { "RED" },
        scenario.name(),
        found.failures.len(),
        took.as_secs_f64(),
    ));
    let stories = found.tried.iter().filter_map(|one| one.stale.as_deref());
    let text = json!({
        "scenario": scenario.name(), "tries": played, "in_time": set, "reached": reached, "stale": stale,
        "failures": found.failures, "seconds": took.as_secs_f64(), "stories": stories.collect::<Vec<_>>(),
    });
    fs::write(
        dir.join("scenario.json"),
        serde_json::to_string_pretty(&text)? + "\n",
    )?;
    if is_green {
        for side in fs::read_dir(dir)? {
            let data = side?.path().join("data");
            if data.exists() {
                fs::remove_dir_all(data)?;
            }
        }
    }
    Ok(is_green)
}

/// Whether so many of the tries were in time that they prove something: a quarter, and one at least.
pub(crate) fn is_enough(played: usize, in_time: usize) -> bool {
    in_time >= (played / 4).max(1)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    super::world::lock(mutex)
}
