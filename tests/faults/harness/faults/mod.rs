//! What is done to the cluster, one file a fault. To add one, write its file and add its line to [`ALL`].

pub(crate) mod bridge;

pub(crate) mod jumps;

pub(crate) mod kill;

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
    /// The nodes it is done to.
    pub(crate) nodes: Vec<u64>,
    /// What exactly is done, for people, if there is more to say than whom it is done to.
    pub(crate) how: Option<String>,
    /// How long it is to last.
    pub(crate) lasts: Duration,
    /// Ends it.
    pub(crate) heal: Heal,
}

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
    &power::Power,
    &jumps::Jumps,
    &rates::Rates,
];

/// The fault of that name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Fault> {
    ALL.iter().copied().find(|fault| fault.name() == name)
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
    let mut order = shuffled(&awake, random);
    if let Some(leader) = leader.filter(|leader| order.contains(leader)) {
        order.retain(|id| *id != leader);
        order.insert(0, leader);
    }
    order.truncate(count.max(1));
    Ok(order)
}

/// Draws a minority of those awake, with the leader if it is to be hit.
fn minority(
    nodes: &Nodes,
    leader: Option<u64>,
    random: &mut Random,
) -> Result<Vec<u64>, NotInstalled> {
    let mut order = shuffled(&nodes.awake(), random);
    if let Some(leader) = leader {
        order.retain(|id| *id != leader);
        order.insert(0, leader);
    }
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

/// That much of a time, in percent.
fn part(of: Duration, percent: u32) -> Duration {
    of * percent / 100
}
