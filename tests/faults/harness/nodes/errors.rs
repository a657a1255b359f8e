//! Disks that fail, and what a node may do about it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Nodes;
use crate::harness::errors::{Error, Errors, Place};

/// How long a node may go on whose disk failed it.
const GOES_ON: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// What the disk of a node does at the moment.
#[derive(Debug)]
pub(super) struct Failing {
    error: Error,
    place: Place,
    /// The node ended for it.
    has_ended: bool,
    /// When it was first seen that the node met it.
    met: OnceLock<Instant>,
}

impl Failing {
    /// Whether the node ended for it, having ended like that. One whose disk fails while it starts does not come up.
    pub(super) fn ends(&mut self, status: ExitStatus) -> bool {
        let by = self.error.ends_with().map(rustix::process::Signal::as_raw);
        let is_refused = self.error.ends_with().is_some() && status.code() == Some(1);
        let is_for_it = (by.is_some() && status.signal() == by) || is_refused;
        self.has_ended |= is_for_it;
        is_for_it
    }
}

impl Nodes {
    /// Has every node reach its disk through something that can fail; before any is started.
    ///
    /// # Errors
    /// When there is no C compiler.
    pub(crate) fn make_errors(&mut self) -> anyhow::Result<()> {
        self.errors = Some(Errors::make(&self.dir.join("data"), &self.ids())?);
        Ok(())
    }

    /// Whether they do.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors.is_some()
    }

    /// Has the disk of a node fail, from the operation on that comes `after` so many.
    ///
    /// # Errors
    /// When it cannot, or does already.
    pub(crate) fn fail_disk(
        &mut self,
        id: u64,
        error: Error,
        place: Place,
        after: u32,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.failing.contains_key(&id),
            "the disk of node {id} fails already"
        );
        let errors = self.errors.as_ref().context("disks that cannot fail")?;
        errors.set(id, error, place, after)?;
        let failing = Failing {
            error,
            place,
            has_ended: false,
            met: OnceLock::new(),
        };
        self.failing.insert(id, failing);
        Ok(())
    }

    /// How many operations of a node its disk has failed since.
    pub(crate) fn met(&self, id: u64) -> u32 {
        let errors = self.errors.as_ref();
        errors.map_or(0, |errors| errors.done(id).unwrap_or(0))
    }

    /// Whether the disk of a node has failed it since, and the node has done what it must then, or may have done and did not.
    pub(crate) fn is_done_with(&self, id: u64) -> bool {
        let Some(failing) = self.failing.get(&id) else {
            return true;
        };
        if self.met(id) == 0 {
            return false;
        }
        let met = failing.met.get_or_init(Instant::now);
        let has_ended = failing.has_ended || !self.is_running(id);
        let error = failing.error;
        // One that hangs does so for as long as it is told to.
        let is_over = error == Error::Held || met.elapsed() > GOES_ON;
        let may_go_on = error.ends_with().is_none() || is_over;
        has_ended || (!error.must_end(failing.place) && may_go_on)
    }

    /// Lets the disk of a node work again, and starts the node if it ended for it. One that must have and goes on is ended, which
    /// counts as a node that ended for no reason. Gives how many operations failed.
    ///
    /// # Errors
    /// When the harness fails, or the node ends otherwise.
    pub(crate) fn mend_disk(&mut self, id: u64) -> anyhow::Result<u32> {
        let met = {
            let errors = self.errors.as_ref().context("disks that cannot fail")?;
            errors.done(id)?
        };
        let since = Instant::now();
        while met > 0 && !self.is_done_with(id) && !self.is_paused(id) {
            // It is done by now with what it need not end for.
            if since.elapsed() > GOES_ON + LOOK {
                self.end_for_going_on(id)?;
                break;
            }
            thread::sleep(LOOK);
            let dead = self.look_for_dead()?;
            anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
        }
        let errors = self.errors.as_ref().context("disks that cannot fail")?;
        errors.clear(id)?;
        let met = errors.done(id)?;
        self.look_for_dead()?;
        let failing = self.failing.remove(&id);
        // Who was ended by another fault is started by it.
        let has_ended = failing.is_some_and(|failing| failing.has_ended);
        if has_ended && !self.is_running(id) && !self.wiped.contains(&id) {
            self.start(id)?;
        }
        Ok(met)
    }

    /// That the disk of a node works again is no reason to start it: it ended for that, and whoever wanted to end it starts it.
    pub(super) fn leave_down(&mut self, id: u64) {
        if let Some(failing) = self.failing.get_mut(&id) {
            failing.has_ended = false;
        }
    }

    fn end_for_going_on(&mut self, id: u64) -> anyhow::Result<()> {
        let Some(failing) = self.failing.get_mut(&id) else {
            return Ok(());
        };
        failing.has_ended = true;
        let (error, place) = (failing.error, failing.place);
        let Some(mut node) = self.running.remove(&id) else {
            return Ok(());
        };
        node.child.kill()?;
        node.child.wait()?;
        self.exits.push(crate::run::Exit {
            node: id,
            status: format!(
                "SIGKILL, since it went on for {GOES_ON:?} after this of its {place:?}: {}",
                error.says()
            ),
            expected: false,
        });
        Ok(())
    }
}
