//! The power of nodes is cut: their processes end and nothing that they did not sync is there when they start again.

use super::{Fault, Installed, NotInstalled, part, targets};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Power;

impl Fault for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn says(&self) -> &'static str {
        "one, a minority, a majority or all nodes lose their power, and what they did not sync (root)"
    }

    fn needs_disks(&self) -> bool {
        true
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        if !nodes.has_disks() {
            let why = "there are no disks whose power can be cut: that takes root";
            return Err(NotInstalled::Skipped(why.to_owned()));
        }
        let chosen = targets(nodes, leader, random)?;
        nodes.cut_power(&chosen)?;
        let lasts = part(nodes.pace().election_max, *random.pick(&[0, 50, 130, 300]));
        let dark = chosen.clone();
        Ok(Installed {
            aim: chosen.clone(),
            nodes: chosen,
            how: None,
            lasts,
            until: None,
            heal: Box::new(move |nodes| {
                for id in dark {
                    nodes.restore_power(id)?;
                    nodes.start(id)?;
                }
                Ok(())
            }),
        })
    }
}
