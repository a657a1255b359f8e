//! Nodes are killed and started again with clocks that run too fast or too slow, by as much as lease reads must bear: a
//! fifth, in opposite directions. In the end they are killed once more and have right clocks.

use super::{Fault, Installed, NotInstalled, leader_first, no_clocks, part};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Rates;

/// In percent of the true rate.
const SLOW: u64 = 81;
const FAST: u64 = 119;

impl Fault for Rates {
    fn name(&self) -> &'static str {
        "rates"
    }

    fn says(&self) -> &'static str {
        "nodes start again with clocks a fifth too fast or too slow (libfaketime)"
    }

    fn needs_clocks(&self) -> bool {
        true
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        nodes.clocks().ok_or_else(no_clocks)?;
        let mut order = leader_first(&nodes.awake(), leader, random);
        let count = random.between(1, order.len().max(1) as u64 + 1);
        order.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        if order.is_empty() {
            return Err(NotInstalled::Skipped("nobody is awake".to_owned()));
        }
        restart(nodes, &order, |_| *random.pick(&[SLOW, FAST]))?;
        let lasts = part(nodes.pace().election_max, *random.pick(&[400, 600, 1000]));
        let wrong = order.clone();
        Ok(Installed {
            aim: order.clone(),
            nodes: order,
            how: None,
            lasts,
            until: None,
            heal: Box::new(move |nodes| restart(nodes, &wrong, |_| 100)),
        })
    }
}

fn restart(nodes: &mut Nodes, ids: &[u64], mut rate: impl FnMut(u64) -> u64) -> anyhow::Result<()> {
    let mut ended = Vec::new();
    for id in ids {
        // What another fault has ended meanwhile, that one starts, and with this rate.
        if nodes.is_running(*id) {
            nodes.kill(*id)?;
            ended.push(*id);
        }
        let rate = rate(*id);
        if let Some(clocks) = nodes.clocks_mut() {
            clocks.set_rate(*id, rate);
        }
    }
    ended.iter().try_for_each(|id| nodes.start(*id))
}
