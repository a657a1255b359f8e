//! Damage to files: one harm at a time to what a node leaves on its disk, then everything is opened and read as a node does.
//!
//! Whatever is harmed, the verdict must be one of three: nothing of what was held is different; the damage was found, so that a
//! node sets aside what is damaged and gets it back; or the directory is refused, with the reason. What is never allowed is
//! silence: something else than was written, or less, given as if it were whole.
//!
//! | to add | touch |
//! |---|---|
//! | something that is harmed | its file with a [`Subject`], its line in [`subjects`] |
//! | a kind of harm | its variant of [`harm::Harm`] and its arms there |

mod harm;
mod identity;
mod log;
mod nodes;
mod snapshot;
mod state;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use quorate::mutants;
use serde_json::json;

use self::harm::Harm;
use crate::random::Random;

/// Silent harms that are told in full.
const TOLD_MAX: usize = 5;

/// A trial takes milliseconds.
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// How much is harmed.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Single bits flipped in process, in all; other harms come on top.
    #[arg(long, default_value_t = 40_000)]
    flips: usize,
    /// Everything random is drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Harms tried on a node of a real cluster.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// The program of those nodes, if not the one that was built with this.
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    binary: Option<PathBuf>,
    /// Where trials are made and, if any is red, left.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    root: PathBuf,
    /// Where `flips.json` says what was found; the trials are made there too. Made below the root if not given, and gone if nothing
    /// was silent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Files by name.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// What came of a harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything is as it was.
    Unaffected,
    /// It was found, and what was lost was had again.
    Repaired,
    /// It was found, and nothing is done with what is there; why.
    Refused(String),
    /// Something else is given than was there, or nobody knows.
    Silent(String),
}

/// Something that is harmed.
pub(crate) trait Subject: Sync {
    /// Its files as they should be.
    fn tree(&self) -> &Tree;

    /// What kind of file that is: a row of the table.
    fn kind(&self, file: &str) -> &'static str;

    /// Whether every byte of that file is flipped; of others a sample is.
    fn is_small(&self, file: &str) -> bool;

    /// Opens and reads everything in `dir`, an empty directory of this trial, after the files in `changed` became those (`None`:
    /// gone).
    ///
    /// # Errors
    /// When the trial could not be made.
    fn attempt(&self, dir: &Path, changed: &[(String, Option<Vec<u8>>)])
    -> anyhow::Result<Verdict>;
}

/// Verdicts counted, by kind of file and kind of harm.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(&'static str, &'static str), [usize; 4]>,
    silent: Vec<String>,
    reasons: BTreeMap<String, usize>,
}

impl Table {
    fn count(&mut self, kind: &'static str, harm: &Harm, verdict: Verdict) {
        let place = match verdict {
            Verdict::Unaffected => 0,
            Verdict::Repaired => 1,
            Verdict::Refused(why) => {
                *self.reasons.entry(why).or_default() += 1;
                2
            }
            Verdict::Silent(what) => {
                self.silent.push(format!("{harm}: {what}"));
                3
            }
        };
        self.rows.entry((kind, harm.kind())).or_default()[place] += 1;
    }

    fn sum(&self, of: impl Fn(&'static str) -> bool) -> [usize; 4] {
        let mut sum = [0; 4];
        for ((_, harm), row) in self.rows.iter().filter(|((_, harm), _)| of(harm)) {
            let _ = harm;
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    fn text(&self) -> String {
        let mut text = String::from(
            "| file | harm | trials | unaffected | found, repaired | refused | silent |\n|---|---|---|---|---|---|---|\n",
        );
        for ((kind, harm), row) in &self.rows {
            let [fine, repaired, refused, silent] = row;
            let trials: usize = row.iter().sum();
            text.push_str(&format!(
                "| {kind} | {harm} | {trials} | {fine} | {repaired} | {refused} | {silent} |\n"
            ));
        }
        text
    }
}

/// Tries everything; whether nothing was silent.
///
/// # Errors
/// When trials cannot be made.
pub(crate) fn play(options: &Options, say: fn(&str)) -> anyhow::Result<bool> {
    let named = std::env::var(mutants::VARIABLE).ok();
    if let Some(notice) = mutants::choose(named.as_deref()).map_err(anyhow::Error::msg)? {
        say(&notice);
    }
    let began = Instant::now();
    let name = format!("flips-{}-{}", options.seed, std::process::id());
    let dir = options.dir.clone().unwrap_or(options.root.join(name));
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let mut random = Random::new(options.seed);
    let mut table = Table::default();
    let subjects = subjects(&dir)?;
    // What panics says so by its verdict.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (share, subject) in &subjects {
        let wanted = options.flips * share / 100;
        let harms = harm::draw(&**subject, wanted, &mut random);
        try_all(&**subject, &harms, &dir, &mut table, say)?;
    }
    std::panic::set_hook(hook);
    let flips = table.sum(|harm| harm == harm::FLIP);
    let all = table.sum(|_| true);
    say(&table.text());
    for (why, count) in &table.reasons {
        say(&format!("refused {count} times: {why}"));
    }
    let nodes = nodes::play(
        options.nodes,
        options.binary.as_deref(),
        &dir,
        &mut random,
        say,
    )?;
    let silent = table.silent.iter().chain(&nodes.silent);
    for what in silent.clone().take(TOLD_MAX) {
        say(&format!("SILENT {what}"));
    }
    let is_green = silent.clone().count() == 0;
    say(&format!(
        "{} seed {}: {} flips and {} other harms in process, {} on nodes of a cluster; {} silent; {:.0} s",
        if is_green { "GREEN" } else { "RED" },
        options.seed,
        flips.iter().sum::<usize>(),
        all.iter().sum::<usize>() - flips.iter().sum::<usize>(),
        nodes.tried,
        all[3] + nodes.silent.len(),
        began.elapsed().as_secs_f64(),
    ));
    if is_green {
        fs::remove_dir_all(&dir)?;
    }
    if options.dir.is_some() || !is_green {
        fs::create_dir_all(&dir)?;
        let report = json!({
            "seed": options.seed, "flips": flips.iter().sum::<usize>(), "trials": all.iter().sum::<usize>() + nodes.tried,
            "silent": silent.clone().count(), "told": silent.take(TOLD_MAX).collect::<Vec<_>>(),
        });
        fs::write(
            dir.join("flips.json"),
            serde_json::to_string_pretty(&report)? + "\n",
        )?;
    }
    Ok(is_green)
}

/// What is harmed, each with its share of the flips in percent.
fn subjects(dir: &Path) -> anyhow::Result<Vec<(usize, Box<dyn Subject>)>> {
    Ok(vec![
        (60, Box::new(log::Killed::new()?)),
        (5, Box::new(identity::Owner::new(dir)?)),
        (25, Box::new(state::Closed::new(dir)?)),
        (10, Box::new(snapshot::Made::new(dir)?)),
    ])
}

/// Tries each harm in a directory of its own, on all cores.
fn try_all(
    subject: &dyn Subject,
    harms: &[Harm],
    dir: &Path,
    table: &mut Table,
    say: fn(&str),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let shared = Mutex::new((table, None));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for core in 0..cores {
            let (next, shared) = (&next, &shared);
            let dir = dir.join(format!("trial-{core}"));
            let (begin, begun) = mpsc::channel();
            scope.spawn(move || watch(&begun, say));
            scope.spawn(move || {
                while let Some(harm) = harms.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Whoever watches lives as long as this.
                    let _ = begin.send(harm.to_string());
                    let tried = try_one(subject, harm, &dir);
                    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    match tried {
                        Ok(verdict) => shared.0.count(subject.kind(harm.file()), harm, verdict),
                        Err(error) => {
                            shared.1 = Some(error.context(harm.to_string()));
                            next.store(harms.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (_, failed) = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

/// Ends everything if a trial, of which it is told when it begins, goes on for ever: a node that hangs says nothing of what is
/// wrong, and who hangs in a library cannot be ended otherwise.
fn watch(begun: &mpsc::Receiver<String>, say: fn(&str)) {
    let Ok(mut harm) = begun.recv() else { return };
    loop {
        match begun.recv_timeout(TRIAL_MAX) {
            Ok(next) => harm = next,
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                say(&format!(
                    "RED {harm}: after {TRIAL_MAX:?} it is still being opened or read"
                ));
                std::process::exit(1);
            }
        }
    }
}

fn try_one(subject: &dyn Subject, harm: &Harm, dir: &Path) -> anyhow::Result<Verdict> {
    let changed = harm.apply(subject.tree());
    if changed
        .iter()
        .all(|(name, bytes)| subject.tree().get(name) == bytes.as_ref())
    {
        return Ok(Verdict::Unaffected);
    }
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    let tried = catch_unwind(AssertUnwindSafe(|| subject.attempt(dir, &changed)));
    tried.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Ok(Verdict::Silent(format!(
            "a panic: {}",
            text.unwrap_or_default()
        )))
    })
}

/// Makes the files of `tree` in `dir`, but for those that are changed. They are linked from `from` where they are not: whoever opens
/// them replaces files and never writes into them.
fn lay_out(
    dir: &Path,
    from: &Path,
    tree: &Tree,
    changed: &[(String, Option<Vec<u8>>)],
) -> anyhow::Result<()> {
    for name in tree.keys() {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match changed.iter().find(|(changed, _)| changed == name) {
            Some((_, None)) => {}
            Some((_, Some(bytes))) => fs::write(&path, bytes)?,
            None => fs::hard_link(from.join(name), &path)?,
        }
    }
    Ok(())
}

/// The files below `dir`, by their paths in it.
fn tree_of(dir: &Path) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(dir)?.to_str().context("a name")?;
            tree.insert(name.to_owned(), fs::read(&path)?);
        }
    }
    Ok(tree)
}
