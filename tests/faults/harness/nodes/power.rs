//! Disks of the nodes' own: their power, and their room.

use anyhow::Context as _;

use super::Nodes;
use crate::harness::disks::Disks;

impl Nodes {
    /// Gives every node a disk of that size, whose power can be cut; before any is started.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn make_disks(&mut self, size: &str) -> anyhow::Result<()> {
        self.disks = Some(Disks::make(&self.dir.join("data"), &self.ids(), size)?);
        Ok(())
    }

    /// Whether the nodes have such disks.
    pub(crate) fn has_disks(&self) -> bool {
        self.disks.is_some()
    }

    /// Cuts the power of nodes: first their disks, then the processes of those that run.
    ///
    /// # Errors
    /// When there are no such disks, or the system does not let us.
    pub(crate) fn cut_power(&mut self, ids: &[u64]) -> anyhow::Result<()> {
        let disks = self.disks.as_ref().context("no disks")?;
        disks.cut(ids)?;
        for id in ids {
            // A node that lost its disk may have ended by itself since.
            let Some(mut node) = self.running.remove(id) else {
                continue;
            };
            node.child.kill()?;
            let status = node.child.wait()?;
            self.note_exit(*id, status, true);
        }
        Ok(())
    }

    /// Gives a node's disk its power back.
    ///
    /// # Errors
    /// When there is no such disk, or the system does not let us.
    pub(crate) fn restore_power(&self, id: u64) -> anyhow::Result<()> {
        self.disks.as_ref().context("no disks")?.restore(id)
    }

    /// Fills the disk of a node, or takes away again what filled it.
    ///
    /// # Errors
    /// When there are no disks, or the system does not let us.
    pub(crate) fn set_full(&self, id: u64, full: bool) -> anyhow::Result<()> {
        let disks = self.disks.as_ref().context("no disks")?;
        match full {
            true => disks.fill(id),
            false => disks.drain(id),
        }
    }
}
