//! What is done to the cluster, one file a fault. To add one, write its file and add its line to [`ALL`].

pub(crate) mod away;

pub(crate) mod bridge;

pub(crate) mod disk;

pub(crate) mod jumps;

pub(crate) mod kill;

pub(crate) mod members;

pub(crate) mod moves;

pub(crate) mod partition;

pub(crate) mod pause;

pub(crate) mod power;

pub(crate) mod rates;

pub(crate) mod slow;

use std::time::Duration;

use super::nodes::Nodes;
use crate::random::Random;

/// A fault that was installed.
pub(crate) struct Installed {
    /// The nodes it is done to: whoever loses something by it.
    pub(crate) nodes: Vec<u64>,
    /// Those of them that it is aimed at: they lose what the others keep. Whether it meets the leader is counted by these.
    pub(crate) aim: Vec<u64>,
    /// What exactly is done, for people, if there is more to say than whom it is done to.
    pub(crate) how: Option<String>,
    /// How long it is to last.
    pub(crate) lasts: Duration,
    /// What it waits for: once this is so, it ends before that time.
    pub(crate) until: Option<Until>,
    /// Ends it.
    pub(crate) heal: Heal,
}

impl Installed {
    /// Whether it meets whoever leads.
    pub(crate) fn is_on(&self, leader: Option<u64>) -> bool {
        leader.is_some_and(|leader| self.aim.contains(&leader))
    }
}

/// Whether what a fault waits for has come to pass.
pub(crate) type Until = Box<dyn Fn(&Nodes) -> bool>;

/// Ends a fault.
pub(crate) type Heal = Box<dyn FnOnce(&mut Nodes) -> anyhow::Result<()>>;

/// Why a fault was not installed.
pub(crate) enum NotInstalled {
    /// It was not possible here and now.
    Skipped(String),
    /// Nobody knows whether it is in force.
    Indeterminate(String),
}

impl From<anyhow::Error> for NotInstalled {
    fn from(error: anyhow::Error) -> NotInstalled {
        NotInstalled::Indeterminate(format!("{error:#}"))
    }
}

/// A class of faults.
pub(crate) trait Fault: Sync {
    /// A word.
    fn name(&self) -> &'static str;
    /// A sentence.
    fn says(&self) -> &'static str;
    /// Whether the nodes need disks whose power can be cut.
    fn needs_disks(&self) -> bool {
        false
    }
    /// Whether the nodes need clocks that can be made wrong.
    fn needs_clocks(&self) -> bool {
        false
    }
    /// Whether the nodes must make snapshots and keep little of their log.
    fn needs_snapshots(&self) -> bool {
        false
    }
    /// Whether it goes on beside other faults: it takes the place of none, and at the end is over after all of them.
    fn is_beside(&self) -> bool {
        false
    }
    /// Whether the nodes need disks that can fail.
    fn needs_errors(&self) -> bool {
        false
    }
    /// Installs one. `leader` is who leads if it is to be hit.
    ///
    /// # Errors
    /// Why it is not in force.
    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled>;
}

/// Every fault.
pub(crate) const ALL: &[&dyn Fault] = &[
    &kill::Kill,
    &pause::Pause,
    &partition::Partition,
    &slow::Slow,
    &moves::Moves,
    &bridge::Bridge,
    &away::Away,
    &members::Members,
    &power::Power,
    &jumps::Jumps,
    &rates::Rates,
    &disk::Disk,
];

/// The fault of that name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Fault> {
    ALL.iter().copied().find(|fault| fault.name() == name)
}

/// Whether these nodes have what a fault needs; without, it is skipped every time.
pub(crate) fn is_possible(fault: &dyn Fault, nodes: &Nodes) -> bool {
    (nodes.has_disks() || !fault.needs_disks())
        && (nodes.clocks().is_some() || !fault.needs_clocks())
        && (nodes.has_errors() || !fault.needs_errors())
        && (nodes.have_snapshots() || !fault.needs_snapshots())
}

/// Draws whom to hit among those awake: one, a minority, a majority, or all; the leader first if it is to be hit.
fn targets(
    nodes: &Nodes,
    leader: Option<u64>,
    random: &mut Random,
) -> Result<Vec<u64>, NotInstalled> {
    let awake = nodes.awake();
    if awake.is_empty() {
        return Err(NotInstalled::Skipped("nobody is awake".to_owned()));
    }
    let size = nodes.ids().len();
    let minority = (size - 1) / 2;
    let count = match random.below(10) {
        0..5 => 1,
        5..7 => minority,
        7..9 => minority + 1,
        _ => size,
    };
    let mut order = leader_first(&awake, leader, random);
    order.truncate(count.max(1));
    Ok(order)
}

/// Draws a minority of those awake, with the leader if it is to be hit.
fn minority(
    nodes: &Nodes,
    leader: Option<u64>,
    random: &mut Random,
) -> Result<Vec<u64>, NotInstalled> {
    let mut order = leader_first(&nodes.awake(), leader, random);
    order.truncate((nodes.ids().len() - 1) / 2);
    if order.is_empty() {
        return Err(NotInstalled::Skipped("nobody is awake".to_owned()));
    }
    Ok(order)
}

/// Why there is no wrong clock.
fn no_clocks() -> NotInstalled {
    NotInstalled::Skipped("there are no clocks to make wrong: that takes libfaketime".to_owned())
}

/// Nodes for people: `n1 n3`.
fn named_nodes(ids: &[u64]) -> String {
    let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
    names.join(" ")
}

/// In a random order.
fn shuffled(from: &[u64], random: &mut Random) -> Vec<u64> {
    let mut left = from.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        let at = random.below(left.len() as u64);
        order.push(left.swap_remove(usize::try_from(at).expect("below a length")));
    }
    order
}

/// In a random order, but for the leader: it comes first if it is to be hit and among them.
fn leader_first(from: &[u64], leader: Option<u64>, random: &mut Random) -> Vec<u64> {
    let mut order = shuffled(from, random);
    if let Some(at) = order.iter().position(|id| Some(*id) == leader) {
        order[..=at].rotate_right(1);
    }
    order
}

/// That much of a time, in percent.
fn part(of: Duration, percent: u32) -> Duration {
    of * percent / 100
}
