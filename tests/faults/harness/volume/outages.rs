//! What is done to the nodes, drawn from the seed: whom, how long they are away, and how much later the next ones are hit.

mod errors;
mod points;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::load::Load;
use super::{Aim, Finding, Outage, audit};
use crate::harness::nodes::Nodes;
use crate::random::Random;
use crate::statistics::Quantiles;

/// How long the cluster may take to acknowledge something after everybody is back.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a cluster may take to acknowledge something after all its disks have room.
const RECOVERED: Duration = Duration::from_secs(10);
/// How long a node that was started again is watched, whether it ends once more.
const LOOP: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// See the module.
pub(super) struct Outages {
    outage: Outage,
    random: Random,
    aim: Aim,
    /// Nodes hit.
    hits: u64,
    /// Times that one, some, and all nodes were hit at once.
    sizes: [u64; 3],
    /// Times that the leader was among them.
    on_leader: u64,
    /// From the last start to the next acknowledgement, in nanoseconds.
    gaps: Vec<u64>,
    findings: Vec<Finding>,
    /// Nodes that ended because their disk was full.
    ended: u64,
    points: points::Points,
    failures: errors::Failures,
}

impl Outages {
    pub(super) fn new(outage: Outage, seed: u64, aim: Aim) -> Outages {
        Outages {
            outage,
            random: Random::new(seed),
            aim,
            hits: 0,
            sizes: [0; 3],
            on_leader: 0,
            gaps: Vec::new(),
            findings: Vec::new(),
            ended: 0,
            points: points::Points::default(),
            failures: errors::Failures::default(),
        }
    }

    /// For people and programs.
    pub(super) fn told(&self) -> Value {
        let [one, some, all] = self.sizes;
        let done = match self.outage {
            Outage::Kill => "killed",
            Outage::Cut => "without power",
            Outage::Fill => "with a full disk",
            Outage::Point => "ended at crash points",
            Outage::Error => "with a disk that failed",
        };
        let gaps = Quantiles::of(self.gaps.iter().copied());
        json!({
            "hits": self.hits, "one": one, "majority": some, "all": all, "on_leader": self.on_leader, "ended": self.ended,
            "points": self.points.told(),
            "failures": self.failures.told(), "first_ack_after_return_ms": gaps,
            "told": format!(
                "{} nodes {done}{}{} ({one} times one, {some} a majority, {all} all; {} times the leader too), back to acknowledging \
                 after {:.0} ms (median; {:.0} at most)",
                self.hits, self.points.in_words(), self.failures.in_words(), self.on_leader, gaps.p50, gaps.max
            ),
        })
    }

    /// Goes on until enough nodes were hit and enough was acknowledged.
    ///
    /// # Errors
    /// When a node ends by itself, the cluster does not get on, or the harness fails.
    pub(super) fn play(
        &mut self,
        nodes: &mut Nodes,
        load: &Load,
        say: &impl Fn(&str),
    ) -> anyhow::Result<()> {
        let mut said = Instant::now();
        while self.hits < self.aim.hits || !self.is_through() {
            // The load keeps pace with the outages, so that it meets all of them.
            let due = self.aim.transfers * self.hits.min(self.aim.hits) / self.aim.hits.max(1);
            wait(load, due)?;
            thread::sleep(Duration::from_millis(self.random.below(250)));
            if !load.findings().is_empty() || !self.findings.is_empty() {
                return Ok(());
            }
            self.hit(nodes, load)
                .with_context(|| format!("after {} nodes were hit", self.hits))?;
            if said.elapsed() > Duration::from_secs(30) {
                said = Instant::now();
                say(&format!(
                    "{} of {} hits, {} transfers",
                    self.hits,
                    self.aim.hits,
                    load.acked()
                ));
            }
        }
        wait(load, self.aim.transfers)
    }

    /// Whether all has had its turn that must have one.
    fn is_through(&self) -> bool {
        match self.outage {
            Outage::Point => self.points.is_once_through(),
            Outage::Error => self.failures.is_once_through(),
            Outage::Kill | Outage::Cut | Outage::Fill => true,
        }
    }

    /// One outage, and everybody back.
    fn hit(&mut self, nodes: &mut Nodes, load: &Load) -> anyhow::Result<()> {
        let dead = nodes.look_for_dead()?;
        anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
        let point = (self.outage == Outage::Point).then(|| self.points.next(&mut self.random));
        let chosen = self.choose(nodes, point);
        match self.outage {
            Outage::Kill => chosen.iter().try_for_each(|id| nodes.kill(*id))?,
            Outage::Cut => nodes.cut_power(&chosen)?,
            Outage::Fill => fill(nodes, &chosen, true)?,
            Outage::Point | Outage::Error => {}
        }
        self.hits += match point {
            Some(point) => self
                .points
                .strike(&mut self.random, nodes, &chosen, point)?,
            None if self.outage == Outage::Error => {
                self.failures.strike(&mut self.random, nodes, &chosen)?
            }
            None => chosen.len() as u64,
        };
        let lease = nodes.pace().election_max;
        let away = match self.outage {
            Outage::Kill | Outage::Cut | Outage::Point => {
                *self.random.pick(&[0, 0, 10, 60, 130, 250])
            }
            // It is over.
            Outage::Error => 0,
            // It takes the nodes a moment to see it, and that is not what is tried.
            Outage::Fill => *self.random.pick(&[100, 150, 250, 400]),
        };
        thread::sleep(lease * away / 100);
        if self.outage == Outage::Fill {
            return self.drain(nodes, load, &chosen);
        }
        // Whoever ended for its disk runs again.
        let down: &[u64] = if self.outage == Outage::Error {
            &[]
        } else {
            &chosen
        };
        for id in down {
            if self.outage == Outage::Cut {
                nodes.restore_power(*id)?;
            }
            nodes.start(*id)?;
        }
        if self.outage == Outage::Point && self.random.percent(80) {
            points::wait_ready(nodes).with_context(|| format!("after {point:?}"))?;
        }
        // Now and then the next one meets a cluster that is not back yet.
        if self.random.percent(80) {
            let back = Instant::now();
            wait(load, load.acked() + 1)?;
            self.gaps
                .push(u64::try_from(back.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// What full disks did that they may not, beside what the books say; and a run in which nobody noticed them proves nothing.
    pub(super) fn findings(&self, load: &Load) -> Vec<Finding> {
        let mut findings = self.findings.clone();
        let [_, some, all] = self.sizes;
        if self.outage == Outage::Point {
            findings.extend(self.points.missing());
        }
        if self.outage == Outage::Error {
            findings.extend(self.failures.missing());
        }
        if self.outage == Outage::Fill && some + all > 0 && load.no_room() == 0 {
            let what = "disks of a majority were full, and no write was refused for it";
            findings.push(Finding::new("unnoticed", what));
        }
        findings
    }

    /// A node may end once because its disk is full, as one without a block left must; started again it waits for room. All
    /// others serve reads. Then there is room again, and the cluster goes on soon.
    fn drain(&mut self, nodes: &mut Nodes, load: &Load, chosen: &[u64]) -> anyhow::Result<()> {
        let ended = nodes.revive()?;
        self.ended += ended.len() as u64;
        for id in &ended {
            let output = super::output(nodes, *id);
            if !chosen.contains(id) || !output.contains("No space left on device") {
                let what = format!(
                    "node {id} ended while the disks of {chosen:?} were full, for another reason"
                );
                self.findings.push(Finding::new("crash", what));
            }
        }
        for id in nodes.ids() {
            if ended.contains(&id) {
                continue;
            }
            if let Err(error) = audit::shown(nodes, id) {
                let what = format!(
                    "node {id} served no read while the disks of {chosen:?} were full: {error:#}"
                );
                self.findings.push(Finding::new("reads", what));
            }
        }
        let seen = Instant::now();
        while !ended.is_empty() && seen.elapsed() < LOOP {
            let dead = nodes.look_for_dead()?;
            if !dead.is_empty() {
                let what = format!("nodes {dead:?} end again and again while their disks are full");
                self.findings.push(Finding::new("crash", what));
                return fill(nodes, chosen, false);
            }
            thread::sleep(LOOK);
        }
        fill(nodes, chosen, false)?;
        let back = Instant::now();
        wait(load, load.acked() + 1)?;
        let took = back.elapsed();
        self.gaps
            .push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if took > RECOVERED {
            let what = format!(
                "nothing was acknowledged for {took:?} after the disks of {chosen:?} had room"
            );
            self.findings.push(Finding::new("late", what));
        }
        Ok(())
    }

    /// Whom: one node, a majority or all, every second time with the leader.
    fn choose(&mut self, nodes: &Nodes, point: Option<&str>) -> Vec<u64> {
        let mut order = nodes.ids();
        let majority = order.len() / 2 + 1;
        let (size, count) = match self.random.below(10) {
            0..5 => (0, 1),
            5..8 => (1, majority),
            _ => (2, order.len()),
        };
        // An armed node needs others that go on, unless everybody passes its point.
        let (size, count) = match point {
            Some(point) if size == 2 || points::is_of_return(point) => (0, 1),
            _ => (size, count),
        };
        self.sizes[size] += 1;
        let turn = usize::try_from(self.random.below(order.len() as u64)).unwrap_or(0);
        order.rotate_left(turn);
        let leader = nodes.leader().map(|(leader, _)| leader);
        // Who loses the leadership has a vote to write down.
        let is_vote = point.is_some_and(|point| point.starts_with("vote:"));
        if (self.random.percent(50) || is_vote)
            && let Some(at) = order.iter().position(|id| Some(*id) == leader)
        {
            order.rotate_left(at);
        }
        order.truncate(count);
        self.on_leader += u64::from(leader.is_some_and(|leader| order.contains(&leader)));
        order
    }
}

/// Fills the disks of these nodes, all at once, or takes away again what filled them.
fn fill(nodes: &Nodes, chosen: &[u64], full: bool) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let filling = chosen
            .iter()
            .map(|id| scope.spawn(move || nodes.set_full(*id, full)));
        let filling: Vec<_> = filling.collect();
        filling.into_iter().try_for_each(|filling| {
            let filled = filling.join();
            filled.unwrap_or_else(|_| Err(anyhow::anyhow!("a disk was not filled")))
        })
    })
}

/// Waits until so many transfers are acknowledged, or something is found wrong.
fn wait(load: &Load, acked: u64) -> anyhow::Result<()> {
    let (mut last, mut since) = (load.acked(), Instant::now());
    while load.acked() < acked && load.findings().is_empty() {
        if load.acked() > last {
            (last, since) = (load.acked(), Instant::now());
        }
        anyhow::ensure!(
            since.elapsed() < PATIENCE,
            "nothing was acknowledged for {PATIENCE:?}"
        );
        thread::sleep(LOOK);
    }
    Ok(())
}
