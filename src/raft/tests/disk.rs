//! A model disk whose syncs can be made to wait.

use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex};

use crate::storage::log::disk::{Disk, File};
use crate::storage::log::model::ModelDisk;

/// What a sync does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Works,
    Hangs,
    /// The process that used it is dead.
    Dead,
}

#[derive(Debug, Default)]
struct Valve {
    mode: Mutex<Mode>,
    changed: Condvar,
}

impl Valve {
    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
        self.changed.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        let mut mode = self.mode.lock().unwrap();
        loop {
            match *mode {
                Mode::Works => return Ok(()),
                Mode::Hangs => mode = self.changed.wait(mode).unwrap(),
                Mode::Dead => return Err(io::Error::other("the process is dead")),
            }
        }
    }
}

/// A log's directory on a disk that hangs on demand.
#[derive(Clone, Debug, Default)]
pub(super) struct SlowDisk {
    pub(super) model: ModelDisk,
    valve: Arc<Valve>,
}

impl SlowDisk {
    /// No sync returns for as long as what this gives is held.
    #[must_use]
    pub(super) fn hang(&self) -> Hang {
        self.valve.set(Mode::Hangs);
        Hang {
            valve: self.valve.clone(),
        }
    }

    /// The disk as the next process finds it after a power cut that took everything not synced.
    pub(super) fn after_power_cut(&self) -> SlowDisk {
        let model = self.model.after_power_cut(&self.model.uncertain(), &[]);
        self.valve.set(Mode::Dead);
        SlowDisk {
            model,
            valve: Arc::default(),
        }
    }

    /// The disk as the next process finds it after an orderly end.
    pub(super) fn reopened(&self) -> SlowDisk {
        SlowDisk {
            model: self.model.after_kill(),
            valve: Arc::default(),
        }
    }
}

/// A disk hangs while this lives. Also when a test fails: nothing waits for the disk then.
pub(super) struct Hang {
    valve: Arc<Valve>,
}

impl Drop for Hang {
    fn drop(&mut self) {
        let mut mode = self.valve.mode.lock().unwrap();
        if *mode == Mode::Hangs {
            *mode = Mode::Works;
            self.valve.changed.notify_all();
        }
    }
}

impl Disk for SlowDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.model.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.model.open(name)
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.model.open_to_write(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.model.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.model.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.model.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.valve.pass()?;
        self.model.sync_dir()
    }
}

impl SlowDisk {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        let valve = self.valve.clone();
        Arc::new(SlowFile { file, valve })
    }
}

struct SlowFile {
    file: Arc<dyn File>,
    valve: Arc<Valve>,
}

impl File for SlowFile {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.file.reserve(bytes)
    }

    fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.zero(from, to)
    }

    fn write(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.file.write(offset, parts)
    }

    fn sync(&self) -> io::Result<()> {
        self.valve.pass()?;
        self.file.sync()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(offset, buffer)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
}
