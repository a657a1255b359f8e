//! Checkpoints: the whole state as a directory of its own, and the way back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use super::core::{Core, lock};
use super::db::{Access, Db};
use super::load::Stamps;
use super::{Applied, State, dirs};
use crate::machine::Fault;

/// What a checkpoint holds, as read from inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// How far its state is.
    pub applied: Applied,
}

/// Block cache of a database that is only looked into.
const LOOK_CACHE_BYTES: u64 = 8 << 20;

impl State {
    /// Writes a checkpoint to `dir`, which must not exist, on the same file system. Hard links: fast, and small until the state
    /// moves on. Apply and seals may go on meanwhile; what is in it is a state a crash could have left. Blocking.
    pub fn checkpoint(&self, dir: &Path) -> Result<CheckpointMeta, Fault> {
        let core = self.core();
        core.check()?;
        core.flush()?;
        core.point("checkpoint:flushed")?;
        core.db.checkpoint(dir)?;
        core.point("checkpoint:linked")?;
        State::inspect_checkpoint(dir)
    }

    /// What the checkpoint in `dir` holds.
    pub fn inspect_checkpoint(dir: &Path) -> Result<CheckpointMeta, Fault> {
        let db = Db::open(dir, Access::ReadOnly, LOOK_CACHE_BYTES)?;
        Ok(CheckpointMeta {
            applied: Stamps::read(&db)?.applied(),
        })
    }

    /// Where in `root`, a directory that is to hold a state, the files of a checkpoint are put for [`State::adopt`].
    pub fn first_dir(root: &Path) -> PathBuf {
        dirs::first(root)
    }

    /// Makes the checkpoint whose files are in [`State::first_dir`], each of them durable, the state in `root`. Durable when it
    /// returns. They are not looked at.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn adopt(root: &Path) -> std::io::Result<()> {
        let first = dirs::first(root);
        std::fs::File::open(&first)?.sync_all()?;
        dirs::set_current(root, &first)
    }

    /// Replaces the whole state by the checkpoint in `dir`, which stays as it is. Durable, and all or nothing, when it returns:
    /// a crash before leaves the old state. Apply must not run meanwhile; views taken before keep reading the old state, whose
    /// directory goes away with the last of them. Blocking.
    pub fn install(&self, dir: &Path) -> Result<CheckpointMeta, Fault> {
        let _one = lock(&self.root.installing);
        let old = self.core();
        let failed = |error: std::io::Error| {
            Fault::new(format!("install of checkpoint {}: {error}", dir.display()))
        };
        let next = dirs::next(&self.root.dir, &old.path).map_err(failed)?;
        dirs::copy(dir, &next).map_err(failed)?;
        old.point("install:copied")?;
        // Opened before it becomes the current one: what cannot be opened replaces nothing.
        let new = Arc::new(Core::open(&next, self.root.tuning, old.hook())?);
        old.point("install:opened")?;
        dirs::set_current(&self.root.dir, &next).map_err(failed)?;
        old.point("install:current")?;
        new.db.set_alarm(Some(self.root.alarm.clone()));
        new.resume_seal()?;
        let meta = CheckpointMeta {
            applied: lock(&new.applied).clone(),
        };
        *self
            .root
            .core
            .write()
            .unwrap_or_else(PoisonError::into_inner) = new;
        Core::retire(&old);
        Ok(meta)
    }
}

impl Core {
    /// Stops a database whose place was taken; its directory goes when nobody reads it any more.
    fn retire(old: &Arc<Core>) {
        // What is found in it by who still reads says nothing about the one that took its place.
        old.db.set_alarm(None);
        old.halt();
        old.retired.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
