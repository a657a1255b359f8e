//! What a scenario is played on: a cluster of its own that is whole and idle when a try begins.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::probe::{Probe, Target};
use crate::harness::http::{self, Connection};
use crate::harness::nodes::Nodes;
use crate::harness::{finish, net};
use crate::random::Random;

/// How long the cluster may take to elect, to answer or to catch up.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(crate) struct Stage {
    /// The cluster.
    pub(crate) nodes: Nodes,
    /// Where all chance comes from.
    pub(crate) random: Random,
    keys: u64,
}

impl Stage {
    /// On a cluster that was formed.
    pub(crate) fn new(nodes: Nodes, random: Random) -> Stage {
        Stage {
            nodes,
            random,
            keys: 0,
        }
    }

    /// The lease of the nodes, which is also the longest time to an election.
    pub(crate) fn lease(&self) -> Duration {
        self.nodes.pace().election_max
    }

    /// That part of the lease, in percent.
    pub(crate) fn part(&self, percent: u32) -> Duration {
        self.lease() * percent / 100
    }

    /// A time below that, by chance.
    pub(crate) fn chance(&mut self, below: Duration) -> Duration {
        let most = u64::try_from(below.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.below(most.max(1)))
    }

    /// Who leads, and the others in a random order.
    ///
    /// # Errors
    /// When nobody leads in time.
    pub(crate) fn cast(&mut self) -> anyhow::Result<(u64, Vec<u64>)> {
        let start = Instant::now();
        let leader = loop {
            if let Some((leader, _)) = self.nodes.leader() {
                break leader;
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "nobody leads");
            thread::sleep(Duration::from_millis(20));
        };
        let mut others: Vec<u64> = self.nodes.ids();
        others.retain(|id| *id != leader);
        if self.random.percent(50) {
            others.reverse();
        }
        Ok((leader, others))
    }

    /// A node as loops ask it.
    pub(crate) fn target(&self, id: u64) -> Target {
        (id, self.nodes.addr(id))
    }

    /// A probe whose first value every node has applied.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn probe(&mut self, leader: u64) -> anyhow::Result<Probe> {
        self.keys += 1;
        let probe = Probe::new(format!("p{}", self.keys));
        let mut connection = Connection::default();
        let start = Instant::now();
        let index = loop {
            match probe.write(self.target(leader), &mut connection) {
                Some(index) => break index,
                None => anyhow::ensure!(start.elapsed() < PATIENCE, "the first write fails"),
            }
        };
        finish::wait_applied(&self.nodes, index)?;
        Ok(probe)
    }

    /// Cuts pairs from each other, both ways.
    pub(crate) fn cut(&self, pairs: &[(u64, u64)]) {
        let ways: Vec<_> = pairs
            .iter()
            .flat_map(|(a, b)| [(*a, *b), (*b, *a)])
            .collect();
        self.cut_ways(&ways);
    }

    /// Cuts single directions, the sender first.
    pub(crate) fn cut_ways(&self, ways: &[(u64, u64)]) {
        let cut = |quality: &mut net::Quality| quality.cut = true;
        let changed = self.nodes.net.change(ways, cut);
        changed.expect("proxies take every change");
    }

    /// Kills nodes and starts them again at once.
    ///
    /// # Errors
    /// When they do not run or cannot be started.
    pub(crate) fn restart(&mut self, ids: &[u64]) -> anyhow::Result<()> {
        for id in ids {
            self.nodes.kill(*id)?;
        }
        for id in ids {
            self.nodes.start(*id)?;
        }
        Ok(())
    }

    /// Waits until all of these serve again; how long after `since` that is.
    ///
    /// # Errors
    /// When it takes too long.
    pub(crate) fn back(&self, ids: &[u64], since: Instant) -> anyhow::Result<Duration> {
        let glance = Duration::from_millis(100);
        let serves =
            |id: &u64| http::ask(self.nodes.addr(*id), "GET", "/livez", "", glance).is_ok();
        while !ids.iter().all(serves) {
            let waited = since.elapsed();
            anyhow::ensure!(waited < PATIENCE, "nodes {ids:?} are not back");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(since.elapsed())
    }

    /// Makes everything whole: what was held on the way is lost, who is down or frozen goes on.
    ///
    /// # Errors
    /// When the cluster does not come back.
    pub(crate) fn heal(&mut self) -> anyhow::Result<()> {
        let ids = self.nodes.ids();
        let ways: Vec<_> = ids
            .iter()
            .flat_map(|a| ids.iter().map(move |b| (*a, *b)))
            .collect();
        self.nodes.net.heal(&ways, true)?;
        finish::heal(&mut self.nodes).context("after a try")?;
        Ok(())
    }
}
