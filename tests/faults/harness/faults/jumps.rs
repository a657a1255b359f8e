//! The wall clocks of a minority jump, by seconds up to a day, back or ahead, and jump again to the right time.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled, minority, no_clocks};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Jumps;

/// How far, in seconds.
const JUMPS: &[i64] = &[2, 30, 3600, 86_400];

impl Fault for Jumps {
    fn name(&self) -> &'static str {
        "jumps"
    }

    fn says(&self) -> &'static str {
        "wall clocks of a minority jump by seconds, an hour or a day (libfaketime)"
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
        let chosen = minority(nodes, leader, random)?;
        let clocks = nodes.clocks().ok_or_else(no_clocks)?;
        for id in &chosen {
            let jump = *random.pick(JUMPS);
            clocks.set_ahead(*id, if random.percent(50) { jump } else { -jump })?;
        }
        let moved = chosen.clone();
        Ok(Installed {
            aim: chosen.clone(),
            nodes: chosen,
            how: None,
            // A node looks at its file once a second.
            lasts: Duration::from_millis(random.between(1200, 4000)),
            until: None,
            heal: Box::new(move |nodes| {
                let clocks = nodes.clocks().ok_or_else(|| anyhow::anyhow!("no clocks"))?;
                moved.iter().try_for_each(|id| clocks.set_ahead(*id, 0))
            }),
        })
    }
}
