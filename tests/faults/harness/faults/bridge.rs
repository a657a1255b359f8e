//! Voters restart inside the lease of a leader that is cut off.
//!
//! A voter that does not hear the leader wants to be elected, and the others, who do, keep it from that. Then they are cut
//! from the leader too, and at the same moment killed and started again. A voter that has forgotten whom it promised to
//! follow would elect a second leader at once, while the first still has its lease and answers reads from it.

use std::thread;

use super::{Fault, Installed, NotInstalled, named_nodes, part, shuffled};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Bridge;

impl Fault for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn says(&self) -> &'static str {
        "a leader is cut off while the voters that keep another from being elected restart"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        _: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let skipped = |why: &str| NotInstalled::Skipped(why.to_owned());
        if nodes.awake().len() < nodes.ids().len() {
            return Err(skipped("not everybody is awake"));
        }
        let (leader, _) = nodes.leader().ok_or_else(|| skipped("nobody leads"))?;
        let mut others = shuffled(&nodes.ids(), random);
        others.retain(|id| *id != leader);
        let heir = others.remove(0);
        let cut = |a: u64, b: u64| [(a, b), (b, a)];
        nodes
            .net
            .change(&cut(leader, heir), |quality| quality.cut = true)?;
        let lease = nodes.pace().election_max;
        // Until the heir wants to be elected; how far it is with that is up to chance.
        thread::sleep(part(
            lease,
            150 + u32::try_from(random.below(100)).unwrap_or(0),
        ));
        let mut directions = cut(leader, heir).to_vec();
        for other in &others {
            directions.extend(cut(leader, *other));
        }
        nodes
            .net
            .change(&directions, |quality| quality.cut = true)?;
        for other in &others {
            nodes.kill(*other)?;
            nodes.start(*other)?;
        }
        let is_lost = random.percent(50);
        Ok(Installed {
            nodes: nodes.ids(),
            aim: vec![leader],
            how: Some(format!(
                "n{leader} cut off, {} restarted",
                named_nodes(&others)
            )),
            lasts: part(lease, 250),
            until: None,
            heal: Box::new(move |nodes| nodes.net.heal(&directions, is_lost)),
        })
    }
}
