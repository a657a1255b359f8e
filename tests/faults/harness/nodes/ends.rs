//! How processes end: asked to, by themselves, or because the node was removed.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use super::{Nodes, pid};
use crate::run::Exit;

/// The signal of a process that ends itself.
const ABORT: i32 = Signal::ABORT.as_raw();

impl Nodes {
    /// Asks every node to stop (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) fn stop_all(&mut self, limit: Duration) -> anyhow::Result<()> {
        for node in self.running.values() {
            kill_process(pid(&node.child)?, Signal::TERM)?;
        }
        let start = Instant::now();
        while !self.running.is_empty() {
            let mut ended = Vec::new();
            for (id, node) in &mut self.running {
                if let Some(status) = node.child.try_wait()? {
                    ended.push((*id, status));
                }
            }
            for (id, status) in ended {
                self.running.remove(&id);
                self.note_exit(id, status, status.success());
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "nodes {:?} do not stop within {limit:?}",
                self.running.keys()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Notes nodes that ended by themselves; gives the ids of those that may not.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn look_for_dead(&mut self) -> anyhow::Result<Vec<u64>> {
        let mut dead = Vec::new();
        for (id, node) in &mut self.running {
            if let Some(status) = node.child.try_wait()? {
                dead.push((*id, status, node.is_armed));
            }
        }
        let mut strange = Vec::new();
        for (id, status, is_armed) in dead {
            self.running.remove(&id);
            let is_due = self.may_end(id, is_armed, status);
            self.note_exit(id, status, is_due);
            if !is_due {
                strange.push(id);
            }
        }
        Ok(strange)
    }

    /// Whether a node may have ended like that: at a crash point, since it was removed, or for its disk; if for its disk, it is noted.
    pub(super) fn may_end(&mut self, id: u64, is_armed: bool, status: ExitStatus) -> bool {
        if let Some(failing) = self.failing.get_mut(&id)
            && failing.ends(status)
        {
            return true;
        }
        // What an armed node may end with is its abort.
        (is_armed && status.signal() == Some(ABORT)) || self.is_due(id, status)
    }

    /// Starts every node again that has ended by itself, which was to be expected; gives who they were.
    ///
    /// # Errors
    /// When one cannot be asked or started.
    pub(crate) fn revive(&mut self) -> anyhow::Result<Vec<u64>> {
        let before = self.exits.len();
        let dead = self.look_for_dead()?;
        for exit in &mut self.exits[before..] {
            exit.expected = true;
        }
        dead.iter().try_for_each(|id| self.start(*id))?;
        Ok(dead)
    }

    /// Whether a node may end so for what the operator did: one that is removed stops in good order, one that came back with nothing is refused.
    fn is_due(&self, id: u64, status: ExitStatus) -> bool {
        self.leaving.contains(&id) && (status.success() || self.hollow.contains(&id))
    }

    pub(super) fn note_exit(&mut self, node: u64, status: ExitStatus, expected: bool) {
        self.exits.push(Exit {
            node,
            status: status.to_string(),
            expected,
        });
    }
}
