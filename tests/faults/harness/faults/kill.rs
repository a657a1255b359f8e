//! Nodes are killed (SIGKILL) and started again: at once, within a lease, after it, after elections.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled, part, targets};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Kill;

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn says(&self) -> &'static str {
        "one, a minority, a majority or all nodes are killed and started again"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let chosen = targets(nodes, leader, random)?;
        for id in &chosen {
            nodes.kill(*id)?;
        }
        let lease = nodes.pace().election_max;
        let lasts = match random.below(4) {
            0 => Duration::ZERO,
            1 => part(lease, 50),
            2 => part(lease, 130),
            _ => part(lease, 300),
        };
        let killed = chosen.clone();
        Ok(Installed {
            aim: chosen.clone(),
            nodes: chosen,
            how: None,
            lasts,
            until: None,
            heal: Box::new(move |nodes| {
                for id in killed {
                    nodes.start(id)?;
                }
                Ok(())
            }),
        })
    }
}
