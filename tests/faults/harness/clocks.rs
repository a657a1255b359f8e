//! Clocks that run wrong, each node's by itself: libfaketime (Debian package `libfaketime`) stands between a program and the
//! clocks of the system, which nobody touches.
//!
//! A node is given a rate when it starts, and keeps it for its life: to change that of a running process would make its
//! monotonic clock jump. At rate 1 its monotonic clock is the true one and its wall clock may be moved at any time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// The clocks of all nodes.
pub(crate) struct Clocks {
    library: PathBuf,
    /// Where the files are that say how far a wall clock is ahead.
    dir: PathBuf,
    /// By node, in percent of the true rate; 100 where none is.
    rates: BTreeMap<u64, u64>,
}

/// Whether clocks can be made wrong here.
pub(crate) fn are_possible() -> bool {
    library().is_some()
}

impl Clocks {
    /// Clocks that are right, with their files in `dir`.
    ///
    /// # Errors
    /// When the library is not installed, or the files cannot be written.
    pub(crate) fn make(dir: &Path, nodes: &[u64]) -> anyhow::Result<Clocks> {
        let clocks = Clocks {
            library: library().context("libfaketime is not installed")?,
            dir: dir.to_owned(),
            rates: BTreeMap::new(),
        };
        for node in nodes {
            clocks.set_ahead(*node, 0)?;
        }
        Ok(clocks)
    }

    /// How fast both clocks of a node run from its next start on, in percent.
    pub(crate) fn set_rate(&mut self, node: u64, percent: u64) {
        self.rates.insert(node, percent);
    }

    /// Moves a node's wall clock to that many seconds ahead of the true one, within a second.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub(crate) fn set_ahead(&self, node: u64, seconds: i64) -> anyhow::Result<()> {
        let (file, fresh) = (self.file(node), self.dir.join(format!("n{node}.clock.new")));
        fs::write(&fresh, format!("{seconds:+}\n"))?;
        // Whoever reads it finds one or the other.
        fs::rename(fresh, file)?;
        Ok(())
    }

    fn file(&self, node: u64) -> PathBuf {
        self.dir.join(format!("n{node}.clock"))
    }

    /// Has a node that is about to start see these clocks.
    pub(crate) fn apply(&self, node: u64, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        match self.rates.get(&node).copied().unwrap_or(100) {
            100 => command
                .env("FAKETIME_TIMESTAMP_FILE", self.file(node))
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            percent => command.env(
                "FAKETIME",
                format!("+0 x{}.{:02}", percent / 100, percent % 100),
            ),
        };
    }
}

/// Where Debian and its like put it.
fn library() -> Option<PathBuf> {
    let dirs = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let mut paths = dirs
        .iter()
        .map(|dir| PathBuf::from(format!("/usr/lib/{dir}/faketime/libfaketime.so.1")));
    paths.find(|path| path.exists())
}
