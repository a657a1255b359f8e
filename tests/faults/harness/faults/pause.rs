//! Nodes are frozen (SIGSTOP) for less than a lease, a little more, or several elections.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled, part, targets};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Pause;

impl Fault for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn says(&self) -> &'static str {
        "nodes are frozen around the length of a lease, or for several elections"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let chosen = targets(nodes, leader, random)?;
        for id in &chosen {
            nodes.pause(*id, true)?;
        }
        let lease = nodes.pace().election_max;
        let lasts = match random.below(4) {
            0 => Duration::from_millis(200),
            1 => part(lease, 90),
            2 => part(lease, 110),
            _ => part(lease, 300),
        };
        let paused = chosen.clone();
        Ok(Installed {
            aim: chosen.clone(),
            nodes: chosen,
            how: None,
            lasts,
            until: None,
            heal: Box::new(move |nodes| {
                for id in paused {
                    // Another fault may have ended it meanwhile.
                    if nodes.is_paused(id) {
                        nodes.pause(id, false)?;
                    }
                }
                Ok(())
            }),
        })
    }
}
