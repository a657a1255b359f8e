//! The network is slow and loses packets: around one node or everywhere. Where it cannot be made slow, it only loses packets.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled, part};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Slow;

impl Fault for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn says(&self) -> &'static str {
        "messages take up to half a second, some longer, around one node or everywhere"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let ids = nodes.ids();
        let centre = leader.unwrap_or_else(|| *random.pick(&ids));
        let everywhere = random.percent(40);
        let directions: Vec<(u64, u64)> = ids
            .iter()
            .flat_map(|a| ids.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| a != b && (everywhere || *a == centre || *b == centre))
            .collect();
        let delay = Duration::from_millis(*random.pick(&[5, 30, 100, 250, 500]));
        let spikes = *random.pick(&[0, 2, 10, 30]);
        let (delay, spikes, how) = match nodes.net.can_delay() {
            true => (
                delay,
                spikes,
                format!("up to {} ms late", delay.as_millis()),
            ),
            false => {
                let lost = spikes.max(2);
                (Duration::ZERO, lost, format!("{lost} % of packets lost"))
            }
        };
        nodes.net.change(&directions, |quality| {
            (quality.delay, quality.spikes) = (delay, spikes);
        })?;
        let place = if everywhere {
            "everywhere".to_owned()
        } else {
            format!("around n{centre}")
        };
        let aim = if everywhere { ids } else { vec![centre] };
        Ok(Installed {
            how: Some(format!("{how} {place}")),
            nodes: aim.clone(),
            aim,
            lasts: part(nodes.pace().election_max, *random.pick(&[100, 300, 500])),
            until: None,
            heal: Box::new(move |nodes| {
                nodes.net.change(&directions, |quality| {
                    (quality.delay, quality.spikes) = (Duration::ZERO, 0);
                })
            }),
        })
    }
}
