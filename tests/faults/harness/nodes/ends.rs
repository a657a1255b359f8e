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

    /// Notes nodes that ended by themselves; gives the ids of those that were neither armed to nor removed.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn look_for_dead(&mut self) -> anyhow::Result<Vec<u64>> {
        let mut ended = Vec::new();
        for (id, node) in &mut self.running {
            if let Some(status) = node.child.try_wait()? {
                // What an armed node may end with is its abort.
                let is_armed = node.is_armed && status.signal() == Some(ABORT);
                ended.push((*id, status, is_armed));
            }
        }
        let is_due = |(id, status, is_armed)| (id, status, is_armed || self.is_due(id, status));
        let dead: Vec<_> = ended.into_iter().map(is_due).collect();
        for (id, status, is_due) in &dead {
            self.running.remove(id);
            self.note_exit(*id, *status, *is_due);
        }
        let strange = dead.into_iter().filter(|(.., is_due)| !is_due);
        Ok(strange.map(|(id, ..)| id).collect())
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

    /// Whether a node may end so by itself: one that is removed stops in good order, one that came back with nothing is refused.
    pub(super) fn is_due(&self, id: u64, status: ExitStatus) -> bool {
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
