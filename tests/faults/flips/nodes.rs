//! The same harms to the directory of a node of a real cluster, killed before and started after.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::harm::Harm;
use super::{Subject, Tree, Verdict, harm, tree_of};
use crate::harness::http;
use crate::harness::nodes::{Nodes, Pace};
use crate::harness::{finish, form};
use crate::random::Random;

/// The node that is harmed.
const NODE: u64 = 3;

/// Keys written before.
const KEYS: usize = 120;

/// How long the node may take to serve, or to say why it does not.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts of a node that stops for what it finds: the next one repairs it.
const STARTS_MAX: usize = 3;

/// What was tried.
#[derive(Default)]
pub(crate) struct Played {
    /// Harms.
    pub(crate) tried: usize,
    /// Those that were silent.
    pub(crate) silent: Vec<String>,
}

/// The directory as something to draw harms from.
struct Directory {
    tree: Tree,
}

impl Subject for Directory {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn kind(&self, file: &str) -> &'static str {
        let file = file.rsplit('/').next().unwrap_or(file);
        match file {
            "identity" => "node: identity",
            "witness" => "node: witness",
            _ if file.ends_with(".log") => "node: log",
            _ => "node: state or snapshot",
        }
    }

    fn is_small(&self, _: &str) -> bool {
        false
    }

    fn attempt(&self, _: &Path, _: &[(String, Option<Vec<u8>>)]) -> anyhow::Result<Verdict> {
        unreachable!("it is tried on a cluster")
    }
}

/// Tries `count` harms.
///
/// # Errors
/// When the cluster cannot be made or does not get on.
pub(crate) fn play(
    count: usize,
    binary: Option<&Path>,
    dir: &Path,
    random: &mut Random,
    say: fn(&str),
) -> anyhow::Result<Played> {
    let mut played = Played::default();
    if count == 0 {
        return Ok(played);
    }
    let dir = dir.join("cluster");
    for part in ["logs", "data"] {
        fs::create_dir_all(dir.join(part))?;
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_quorate"));
    let flags = [
        "--log-segment-bytes",
        "256KiB",
        "--snapshot-log-bytes",
        "1MiB",
        "--snapshot-every",
        "2s",
    ];
    let flags = flags.map(str::to_owned);
    let pace = Pace::of_lease(Duration::from_millis(700));
    let mut nodes = Nodes::new(&dir, binary.unwrap_or(&built), 3, pace, &flags)?;
    form(&mut nodes)?;
    let mut last = 0;
    for key in 0..KEYS {
        last = last.max(put(&nodes, key)?);
    }
    finish::wait_applied(&nodes, last)?;
    // A snapshot is made meanwhile.
    thread::sleep(Duration::from_secs(3));
    nodes.kill(NODE)?;
    let (home, kept) = (nodes.data_dir(NODE), dir.join("kept"));
    copy(&home, &kept)?;
    let mut counts = [0; 4];
    while played.tried < count {
        let harm = draw(&home, random)?;
        played.tried += 1;
        let verdict = attempt(&mut nodes, &home, &harm)?;
        if nodes.is_running(NODE) {
            nodes.kill(NODE)?;
        }
        let place = match verdict {
            Verdict::Unaffected => 0,
            Verdict::Repaired => 1,
            Verdict::Refused(_) => 2,
            Verdict::Silent(what) => {
                played.silent.push(format!("node, {harm}: {what}"));
                3
            }
        };
        counts[place] += 1;
        // What took part goes on from where it is; what did not, from where it was.
        match place {
            0 | 1 => {
                forget_aside(&home)?;
                fs::remove_dir_all(&kept)?;
                copy(&home, &kept)?;
            }
            _ => {
                // But its starts are counted on, or the others would take it for what it is: put back from a copy.
                let starts = fs::read(home.join("boot"))?;
                fs::remove_dir_all(&home)?;
                copy(&kept, &home)?;
                fs::write(home.join("boot"), starts)?;
            }
        }
    }
    let [fine, repaired, refused, silent] = counts;
    say(&format!(
        "| node of a cluster | all of these | {count} | {fine} | {repaired} | {refused} | {silent} |"
    ));
    Ok(played)
}

fn put(nodes: &Nodes, key: usize) -> anyhow::Result<u64> {
    let start = Instant::now();
    loop {
        let path = format!("/v1/kv/key-{key}");
        let asked = http::ask(
            nodes.addr(1),
            "PUT",
            &path,
            &value(key),
            Duration::from_secs(5),
        );
        match asked {
            Ok(reply) if reply.status / 100 == 2 => {
                return Ok(reply.number("quorate-index").unwrap_or_default());
            }
            other => anyhow::ensure!(start.elapsed() < PATIENCE, "{path}: {other:?}"),
        }
    }
}

fn value(key: usize) -> String {
    format!("{key}-").repeat(400)
}

/// A harm to a file of one of the kinds, each as likely as the others.
fn draw(home: &Path, random: &mut Random) -> anyhow::Result<Harm> {
    let mut directory = Directory {
        tree: tree_of(home)?,
    };
    directory
        .tree
        .retain(|name, bytes| !bytes.is_empty() && !name.ends_with("LOCK") && name != "lock");
    let is_of: [fn(&str) -> bool; 6] = [
        |name| name == "identity",
        |name| name == "log/witness",
        |name| name.starts_with("log/") && name.ends_with(".log"),
        |name| name.starts_with("state/") && name.ends_with(".sst"),
        |name| name.starts_with("state/") && !name.ends_with(".sst"),
        |name| name.starts_with("snapshots/"),
    ];
    // What is in memory only has no files.
    let has_some = |of: &&fn(&str) -> bool| directory.tree.keys().any(|name| of(name));
    let there: Vec<_> = is_of.iter().filter(has_some).collect();
    let of = random.pick(&there);
    directory.tree.retain(|name, _| of(name));
    let flips = directory.tree.len() * 40;
    let harms = harm::draw(&directory, flips, random);
    Ok(random.pick(&harms).clone())
}

/// Harms the directory and starts the node on it.
fn attempt(nodes: &mut Nodes, home: &Path, harm: &Harm) -> anyhow::Result<Verdict> {
    let mut tree = Tree::new();
    for name in harm.files() {
        tree.insert(name.to_owned(), fs::read(home.join(name))?);
    }
    for (name, bytes) in harm.apply(&tree) {
        match bytes {
            // In place: whoever shares the file shares the harm.
            Some(bytes) => fs::write(home.join(name), bytes)?,
            None => fs::remove_file(home.join(name))?,
        }
    }
    let mut starts = 0;
    while starts < STARTS_MAX {
        let told = fs::metadata(nodes.log(NODE)).map_or(0, |log| log.len());
        nodes.start(NODE)?;
        starts += 1;
        let Some(verdict) = serve(nodes, starts > 1 || is_aside(home)?)? else {
            let text = fs::read(nodes.log(NODE))?;
            let from = usize::try_from(told)?.min(text.len());
            let text = String::from_utf8_lossy(&text[from..]).into_owned();
            if text.contains("sets this state aside") {
                continue;
            }
            let last = text.lines().last().unwrap_or("nothing").to_owned();
            return Ok(match last.contains("panicked") || text.is_empty() {
                true => Verdict::Silent(format!("it ended: {last}")),
                false => Verdict::Refused(last),
            });
        };
        return Ok(verdict);
    }
    Ok(Verdict::Silent(format!("it stopped {starts} times")))
}

/// Waits until the node serves and reads everything from it; `None` if it ends.
fn serve(nodes: &mut Nodes, was_repaired: bool) -> anyhow::Result<Option<Verdict>> {
    let start = Instant::now();
    let glance = Duration::from_secs(2);
    loop {
        if nodes.look_for_dead()?.contains(&NODE) {
            return Ok(None);
        }
        let ready = http::ask(nodes.addr(NODE), "GET", "/readyz", "", glance);
        if ready.is_ok_and(|reply| reply.status == 200) {
            break;
        }
        if start.elapsed() > PATIENCE {
            return Ok(Some(Verdict::Silent(
                "it neither serves nor ends".to_owned(),
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
    for key in 0..KEYS {
        let path = format!("/v1/kv/key-{key}?consistency=follower");
        match http::ask(nodes.addr(NODE), "GET", &path, "", glance) {
            Ok(reply) if reply.status == 200 && reply.text() == value(key) => {}
            // A fault: the node ends.
            _ if wait_for_end(nodes)? => return Ok(None),
            other => return Ok(Some(Verdict::Silent(format!("key {key}: {other:?}")))),
        }
    }
    let repaired = was_repaired || is_aside(&nodes.data_dir(NODE))?;
    Ok(Some(match repaired {
        true => Verdict::Repaired,
        false => Verdict::Unaffected,
    }))
}

fn wait_for_end(nodes: &mut Nodes) -> anyhow::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        if nodes.look_for_dead()?.contains(&NODE) {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

/// The states that were set aside in `home`.
fn aside(home: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .context("a name")?
            .to_string_lossy()
            .into_owned();
        found.extend(name.starts_with("state.damaged-").then_some(path));
    }
    Ok(found)
}

fn is_aside(home: &Path) -> anyhow::Result<bool> {
    Ok(!aside(home)?.is_empty())
}

fn forget_aside(home: &Path) -> anyhow::Result<()> {
    for path in aside(home)? {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// Copies a directory with all below it. Files that were one are two afterwards.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for (name, bytes) in tree_of(from)? {
        let path = to.join(name);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(path, bytes)?;
    }
    Ok(())
}
