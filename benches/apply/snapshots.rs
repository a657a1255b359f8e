//! Snapshots beside apply.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quorate::storage::snapshot::{self, Manifest};
use quorate::storage::state::State;

/// Makes snapshots beside apply, each in the place of the one before.
pub(super) struct Snapshots {
    state: State,
    dir: PathBuf,
    /// How many were made.
    pub(super) made: u32,
    /// How long that took.
    pub(super) took: Duration,
    running: Option<std::thread::JoinHandle<Made>>,
    last: Option<(PathBuf, Manifest)>,
}

type Made = (PathBuf, Manifest, Duration);

impl Snapshots {
    /// Of `state`, in `dir`.
    pub(super) fn new(state: State, dir: &Path) -> Snapshots {
        Snapshots {
            state,
            dir: dir.to_owned(),
            made: 0,
            took: Duration::ZERO,
            running: None,
            last: None,
        }
    }

    /// Begins one, unless one is being made.
    pub(super) fn begin(&mut self) {
        if self
            .running
            .as_ref()
            .is_some_and(|running| !running.is_finished())
        {
            return;
        }
        self.end();
        let (state, last) = (self.state.clone(), self.last.clone());
        let path = self.dir.join(format!("snapshot-{}", self.made));
        self.running = Some(std::thread::spawn(move || {
            let begun = Instant::now();
            let known = last
                .as_ref()
                .map(|(path, manifest)| (path.as_path(), manifest));
            let manifest = snapshot::make(|at| state.checkpoint(at), &path, None, known).unwrap();
            (path, manifest, begun.elapsed())
        }));
    }

    /// Waits for the one being made.
    pub(super) fn end(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let (path, manifest, took) = running.join().unwrap();
        self.made += 1;
        self.took += took;
        if let Some((old, _)) = self.last.replace((path, manifest)) {
            std::fs::remove_dir_all(old).unwrap();
        }
    }
}
