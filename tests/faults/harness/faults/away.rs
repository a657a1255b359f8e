//! A node is away, killed or cut off, until every other one has purged what it lacks: it comes back by snapshot, while clients
//! write. Every second time it is killed again as it returns, which finds it with half of a snapshot, or about to install it.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use super::{Fault, Installed, NotInstalled, leader_first};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Away;

/// The others take a snapshot each second; if they do not get to it in this time, it comes back all the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at how far they are.
const LOOK: Duration = Duration::from_millis(100);

impl Fault for Away {
    fn name(&self) -> &'static str {
        "away"
    }

    fn says(&self) -> &'static str {
        "a node is down or cut off until the others have purged what it lacks, and returns by snapshot (--snapshots)"
    }

    fn needs_snapshots(&self) -> bool {
        true
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let skipped = |why: &str| NotInstalled::Skipped(why.to_owned());
        if !nodes.have_snapshots() {
            return Err(skipped(
                "the nodes keep their whole log: that takes --snapshots",
            ));
        }
        let order = leader_first(&nodes.awake(), leader, random);
        let id = *order.first().ok_or_else(|| skipped("nobody is awake"))?;
        if order.len() < 2 {
            return Err(skipped("nobody else is awake, who would go on without it"));
        }
        if !nodes.can_lose(id) {
            return Err(skipped(
                "a voter was wiped, and without this one nothing would go on",
            ));
        }
        let is_killed = random.percent(60);
        let others = nodes.ids().into_iter().filter(|other| *other != id);
        let directions: Vec<(u64, u64)> = others
            .flat_map(|other| [(id, other), (other, id)])
            .collect();
        if is_killed {
            nodes.kill(id)?;
        } else {
            nodes
                .net
                .change(&directions, |quality| quality.cut = true)?;
        }
        // Nothing that it gets from now on reaches it, whatever it had on its way.
        let lacks = nodes.last_index().unwrap_or(0) + 1;
        let again = random
            .percent(50)
            .then(|| Duration::from_millis(random.between(50, 600)));
        let looked = Cell::new(Instant::now());
        let how = if is_killed { "down" } else { "cut off" };
        Ok(Installed {
            nodes: vec![id],
            aim: vec![id],
            how: Some(format!(
                "{how}: n{id}, without what comes from log index {lacks} on"
            )),
            lasts: PATIENCE,
            until: Some(Box::new(move |nodes| {
                if looked.get().elapsed() < LOOK {
                    return false;
                }
                looked.set(Instant::now());
                nodes.all_purged(id, lacks)
            })),
            heal: Box::new(move |nodes| {
                nodes.net.heal(&directions, false)?;
                if is_killed {
                    nodes.start(id)?;
                }
                if let Some(after) = again {
                    thread::sleep(after);
                    // Another fault may have ended it meanwhile, and will start it.
                    if nodes.is_running(id) {
                        nodes.kill(id)?;
                        nodes.start(id)?;
                    }
                }
                Ok(())
            }),
        })
    }
}
