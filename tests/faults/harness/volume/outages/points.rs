//! Crash points: nodes that are started so that they end between two steps that make something durable.
//!
//! Each point has its turn before any is tried again, in an order drawn from the seed, as is the pass at which the node ends. A
//! node that does not come to its point in time is killed and the point tried again. Where nodes have disks of their own, every
//! second one loses its power at the point as well: then what the steps before did not sync is gone. A point that no node came to
//! in the whole run is a finding.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use quorate::mutants::CRASH_POINTS;
use serde_json::{Value, json};

use super::{LOOK, Outages};
use crate::harness::finish;
use crate::harness::http;
use crate::harness::nodes::Nodes;
use crate::harness::volume::{Finding, Outage};
use crate::random::Random;

/// How long an armed node may take to come to its point.
const ARMED: Duration = Duration::from_secs(8);
/// How long a node is kept away for the others to purge what it lacks.
const AWAY: Duration = Duration::from_secs(15);
/// How long a node that ended in the making of its directory may take to serve.
const MADE: Duration = Duration::from_secs(30);
/// Times that a point is tried in a turn.
const TRIES: u64 = 3;
/// Passes from which the one is drawn at which a node ends, at points that are passed with every write, and at others.
const PASSES: [u64; 2] = [200, 2];

/// What came of each point.
#[derive(Debug, Default)]
pub(super) struct Points {
    counts: BTreeMap<&'static str, Count>,
    /// Points that have their turn before any is tried again, with the tries that each has left.
    turn: Vec<(&'static str, u64)>,
    /// Turns begun.
    turns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Nodes that were armed with it.
    armed: u64,
    /// Nodes that ended there.
    ended: u64,
    /// Of these, nodes that lost their power too.
    cut: u64,
}

impl Points {
    /// The next point, of those that a running node passes.
    pub(super) fn next(&mut self, random: &mut Random) -> &'static str {
        if self.turn.is_empty() {
            self.turns += 1;
            let points = CRASH_POINTS.iter().map(|(point, _)| *point);
            let points = points.filter(|point| !is_first_only(point));
            self.turn = points.map(|point| (point, TRIES)).collect();
        }
        let at = usize::try_from(random.below(self.turn.len() as u64)).expect("below a length");
        self.turn[at].0
    }

    /// Starts these nodes anew so that they end at `point`; those that do not come to it are killed. How many ended there.
    ///
    /// # Errors
    /// When a node ends otherwise, or the harness fails.
    pub(super) fn strike(
        &mut self,
        random: &mut Random,
        nodes: &mut Nodes,
        chosen: &[u64],
        point: &'static str,
    ) -> anyhow::Result<u64> {
        chosen.iter().try_for_each(|id| nodes.kill(*id))?;
        if let (true, [id]) = (is_of_return(point), chosen) {
            let lacks = nodes.last_index().unwrap_or(0) + 1;
            let gone = Instant::now();
            while !nodes.all_purged(*id, lacks) && gone.elapsed() < AWAY {
                thread::sleep(Duration::from_millis(50));
            }
        }
        let is_frequent = ["log:", "apply:"].iter().any(|of| point.starts_with(of));
        let pass = 1 + random.below(PASSES[usize::from(!is_frequent)]);
        for id in chosen {
            nodes.start_armed(*id, &format!("{point}={pass}"))?;
        }
        let ended = wait_ended(nodes, chosen)?;
        for id in chosen {
            if nodes.is_running(*id) {
                nodes.kill(*id)?;
            }
        }
        let is_cut = random.percent(50) && lose_power(nodes, &ended)?;
        self.count(point, chosen.len(), ended.len(), is_cut);
        self.tried(point, !ended.is_empty());
        Ok(ended.len() as u64)
    }

    /// Whether every point has had its turn once.
    pub(super) fn is_once_through(&self) -> bool {
        self.turns > 0 && self.turn.is_empty() || self.turns > 1
    }

    fn count(&mut self, point: &'static str, armed: usize, ended: usize, is_cut: bool) {
        let count = self.counts.entry(point).or_default();
        count.armed += armed as u64;
        count.ended += ended as u64;
        count.cut += if is_cut { ended as u64 } else { 0 };
    }

    /// A point has had its turn when somebody came to it, or after some tries.
    fn tried(&mut self, point: &str, is_reached: bool) {
        for (_, left) in self.turn.iter_mut().filter(|(at, _)| *at == point) {
            *left = if is_reached { 0 } else { *left - 1 };
        }
        self.turn.retain(|(_, left)| *left > 0);
    }

    /// Points that no node came to. A run that was broken off is red for what broke it.
    pub(super) fn missing(&self) -> Vec<Finding> {
        if !self.is_once_through() {
            return Vec::new();
        }
        let points = CRASH_POINTS
            .iter()
            .map(|(point, _)| (point, self.counts.get(point)));
        let missing = points.filter(|(_, count)| count.is_none_or(|count| count.ended == 0));
        missing
            .map(|(point, count)| {
                let armed = count.map_or(0, |count| count.armed);
                let what = format!("no node came to {point}; {armed} were armed with it");
                Finding::new("coverage", what)
            })
            .collect()
    }

    /// In words, if there is anything to say.
    pub(super) fn in_words(&self) -> String {
        let ended =
            |(point, _): &(&str, &str)| self.counts.get(point).map_or(0, |count| count.ended);
        let cut: u64 = self.counts.values().map(|count| count.cut).sum();
        match CRASH_POINTS.iter().map(ended).min() {
            Some(least) if self.turns > 0 => format!(
                ", {cut} of them without power; {} points, each reached at least {least} times",
                CRASH_POINTS.len()
            ),
            _ => String::new(),
        }
    }

    /// For people and programs.
    pub(super) fn told(&self) -> Value {
        let told = |(point, count): (&&str, &Count)| {
            let counts = json!({"armed": count.armed, "ended": count.ended, "cut": count.cut});
            ((*point).to_owned(), counts)
        };
        Value::Object(self.counts.iter().map(told).collect())
    }
}

impl Outages {
    /// What is done before the cluster is formed: a node ends while it makes its directory, and then serves from it.
    ///
    /// # Errors
    /// When it does not.
    pub(in super::super) fn begin(&mut self, nodes: &mut Nodes) -> anyhow::Result<()> {
        if self.outage != Outage::Point {
            return Ok(());
        }
        let node = *nodes.ids().last().context("a cluster without nodes")?;
        let rounds = self.aim.hits / CRASH_POINTS.len() as u64;
        for _ in 0..rounds {
            for (point, _) in CRASH_POINTS.iter().filter(|(point, _)| is_first(point)) {
                nodes.start_armed(node, point)?;
                let ended = wait_ended(nodes, &[node])?;
                anyhow::ensure!(!ended.is_empty(), "node {node} does not end at {point}");
                let is_cut = self.random.percent(50) && lose_power(nodes, &ended)?;
                self.points.count(point, 1, 1, is_cut);
                self.hits += 1;
                nodes.start(node)?;
                wait_serving(nodes, node).with_context(|| format!("after {point}"))?;
                nodes.kill(node)?;
                fs::remove_dir_all(nodes.data_dir(node))?;
            }
        }
        Ok(())
    }
}

/// Points that a node passes when it makes its directory.
fn is_first(point: &str) -> bool {
    is_first_only(point) || point.starts_with("current:")
}

/// Points that it passes only then.
fn is_first_only(point: &str) -> bool {
    point.starts_with("identity:")
}

/// Points that only a node passes that gets a snapshot.
pub(super) fn is_of_return(point: &str) -> bool {
    ["staging:", "install:", "current:"]
        .iter()
        .any(|of| point.starts_with(of))
}

/// Waits until armed nodes have ended; which have.
fn wait_ended(nodes: &mut Nodes, armed: &[u64]) -> anyhow::Result<Vec<u64>> {
    let start = Instant::now();
    loop {
        let dead = nodes.look_for_dead()?;
        anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
        let ended = armed.iter().filter(|id| !nodes.is_running(**id));
        let ended: Vec<u64> = ended.copied().collect();
        if ended.len() == armed.len() || start.elapsed() > ARMED {
            return Ok(ended);
        }
        thread::sleep(LOOK);
    }
}

/// Cuts the power of nodes that have ended and gives it back, where they have disks for that; whether they do. Nobody synced
/// anything since, so it is as if it had gone at the point.
fn lose_power(nodes: &mut Nodes, ended: &[u64]) -> anyhow::Result<bool> {
    if ended.is_empty() || !nodes.has_disks() {
        return Ok(false);
    }
    nodes.cut_power(ended)?;
    ended.iter().try_for_each(|id| nodes.restore_power(*id))?;
    Ok(true)
}

/// Waits until everybody is back and ready.
pub(super) fn wait_ready(nodes: &mut Nodes) -> anyhow::Result<()> {
    let ready = finish::wait_ready(nodes);
    let dead = nodes.look_for_dead()?;
    anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
    ready
}

/// Waits until a node that belongs to no cluster serves.
fn wait_serving(nodes: &mut Nodes, node: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    let ask = |nodes: &Nodes| http::ask(nodes.addr(node), "GET", "/livez", "", LOOK * 100);
    while ask(nodes).is_err() {
        let dead = nodes.look_for_dead()?;
        let waited = start.elapsed();
        anyhow::ensure!(
            dead.is_empty() && waited < MADE,
            "node {node} does not serve after {waited:?}"
        );
        thread::sleep(LOOK);
    }
    Ok(())
}
