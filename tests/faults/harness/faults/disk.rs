//! The disks of a minority fail a read, a write or a sync, once or from then on, tear a write, or hang.
//!
//! A node cannot know what is on its disk after that, so it must end within a second; it is started again when the disk works.

use super::{Fault, Installed, NotInstalled, minority, part};
use crate::harness::errors::{self, Error};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Disk;

impl Fault for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn says(&self) -> &'static str {
        "disks of a minority fail reads, writes or syncs, tear a write or hang; who cannot go on must end within a second"
    }

    fn needs_errors(&self) -> bool {
        true
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        if !nodes.has_errors() {
            let why = "there is nothing between the nodes and their disks: that takes a C compiler";
            return Err(NotInstalled::Skipped(why.to_owned()));
        }
        let chosen = minority(nodes, leader, random)?;
        let (error, place) = *random.pick(&errors::all());
        let after = errors::after(place, random);
        for id in &chosen {
            nodes.fail_disk(*id, error, place, after)?;
        }
        let lease = nodes.pace().election_max;
        let lasts = match error {
            Error::Held => part(lease, *random.pick(&[40, 90, 150, 400])),
            _ => part(lease, 500),
        };
        let (waited, failing) = (chosen.clone(), chosen.clone());
        let says = error.says();
        Ok(Installed {
            aim: chosen.clone(),
            nodes: chosen,
            how: Some(format!("{says}, {place:?}, after {after} others")),
            lasts,
            // One that hangs does so for its time.
            until: (error != Error::Held).then(|| {
                Box::new(move |nodes: &Nodes| waited.iter().all(|id| nodes.is_done_with(*id))) as _
            }),
            heal: Box::new(move |nodes| {
                for id in failing {
                    nodes.mend_disk(id)?;
                }
                Ok(())
            }),
        })
    }
}
