//! Disks that fail: a library of ours (`errors.c`, compiled when a run needs it) stands between a node and its files, and fails, tears
//! or holds what it is told to. No privileges are needed, but a C compiler is, which RocksDB takes too.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::process::Signal;

use crate::random::Random;

const SOURCE: &str = include_str!("errors.c");

/// What a disk does. The numbers are those of `errors.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// A sync fails, and the ones after it do not: as where the system reports lost writes once and forgets them.
    SyncOnce = 1,
    /// Every sync fails from then on.
    SyncAlways = 2,
    /// A write fails, and the ones after it do not.
    WriteOnce = 3,
    /// Every write fails from then on.
    WriteAlways = 4,
    /// A write does half of what it was asked to and says so, which is no fault.
    Short = 5,
    /// Half of a write reaches the file, and the node ends there.
    Torn = 6,
    /// Syncs do not come back until it is over.
    Held = 7,
    /// A read fails, and the ones after it do not.
    ReadOnce = 8,
}

/// Which files it does that to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The write-ahead log and its witness.
    Log = 1,
    /// The state database.
    State = 2,
    /// Snapshots, made here or being received.
    Snapshots = 3,
}

impl Place {
    /// In words.
    fn says(self) -> &'static str {
        match self {
            Place::Log => "the log",
            Place::State => "the state",
            Place::Snapshots => "a snapshot",
        }
    }
}

/// What a disk does to which files, in words.
pub(crate) fn label(error: Error, place: Place) -> String {
    format!("{}: {}", place.says(), error.says())
}

impl Error {
    /// In words.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Error::SyncOnce => "a sync fails",
            Error::SyncAlways => "syncs fail",
            Error::WriteOnce => "a write fails",
            Error::WriteAlways => "writes fail",
            Error::Short => "a write is short",
            Error::Torn => "a write is torn",
            Error::Held => "syncs hang",
            Error::ReadOnce => "a read fails",
        }
    }

    /// Whether it goes on until it is ended.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, Error::SyncAlways | Error::WriteAlways | Error::Held)
    }

    /// The signal with which a node may end that meets it.
    pub(crate) fn ends_with(self) -> Option<Signal> {
        match self {
            Error::Short => None,
            Error::Torn => Some(Signal::KILL),
            _ => Some(Signal::ABORT),
        }
    }

    /// Whether a node that meets it must end at once: it cannot know what is on its disk any more. A snapshot is one of several things
    /// that it could do without.
    pub(crate) fn must_end(self, place: Place) -> bool {
        match self {
            Error::Short | Error::Held | Error::ReadOnce => false,
            Error::Torn => true,
            _ => place != Place::Snapshots,
        }
    }
}

/// The disks of all nodes, none of which fails yet.
pub(crate) struct Errors {
    library: PathBuf,
    dir: PathBuf,
}

impl Errors {
    /// Compiles the library into `dir`.
    ///
    /// # Errors
    /// When there is no compiler, or it does not like the source.
    pub(crate) fn make(dir: &Path, nodes: &[u64]) -> anyhow::Result<Errors> {
        let library = dir.join("errors.so");
        let mut compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-x", "c", "-", "-ldl", "-o"])
            .arg(&library)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("no C compiler (cc)")?;
        let mut source = compiler.stdin.take().context("its input")?;
        source.write_all(SOURCE.as_bytes())?;
        drop(source);
        let done = compiler.wait_with_output()?;
        let told = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(done.status.success(), "errors.c: {}", told.trim());
        let errors = Errors {
            library,
            dir: dir.to_owned(),
        };
        nodes.iter().try_for_each(|node| errors.add(*node))?;
        Ok(errors)
    }

    /// One for another node.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub(crate) fn add(&self, node: u64) -> anyhow::Result<()> {
        Ok(fs::write(self.file(node), [0; 16])?)
    }

    fn file(&self, node: u64) -> PathBuf {
        self.dir.join(format!("n{node}.errors"))
    }

    /// Puts the library between a node that is about to start and its disk. It may not be the only one that is put before it.
    pub(crate) fn apply(&self, node: u64, data_dir: &Path, command: &mut Command) {
        let before = command.get_envs().find(|(name, _)| *name == "LD_PRELOAD");
        let mut preload = match before {
            Some((_, Some(others))) => [others, ":".as_ref()].into_iter().collect(),
            _ => std::ffi::OsString::new(),
        };
        preload.push(&self.library);
        command
            .env("LD_PRELOAD", preload)
            .env("QUORATE_ERRORS", self.file(node))
            .env("QUORATE_ERRORS_IN", data_dir);
    }

    /// Has the disk of a node do that from the operation on that comes `after` so many.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn set(
        &self,
        node: u64,
        error: Error,
        place: Place,
        after: u32,
    ) -> anyhow::Result<()> {
        let file = File::options().write(true).open(self.file(node))?;
        let words = [place as u32, after, 0];
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        file.write_all_at(&bytes, 4)?;
        // Last, since it is what the node looks at first.
        file.write_all_at(&(error as u32).to_ne_bytes(), 0)?;
        Ok(())
    }

    /// Lets the disk of a node work again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn clear(&self, node: u64) -> anyhow::Result<()> {
        let file = File::options().write(true).open(self.file(node))?;
        file.write_all_at(&[0; 4], 0)?;
        Ok(())
    }

    /// How many operations that was done to since it was set.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn done(&self, node: u64) -> anyhow::Result<u32> {
        let mut done = [0; 4];
        File::open(self.file(node))?.read_exact_at(&mut done, 12)?;
        Ok(u32::from_ne_bytes(done))
    }
}

/// All that disks do and to which files, the log more often than the others.
pub(crate) fn all() -> Vec<(Error, Place)> {
    use Error::{Held, ReadOnce, Short, SyncAlways, SyncOnce, Torn, WriteAlways, WriteOnce};
    let errors = [
        SyncOnce,
        SyncAlways,
        WriteOnce,
        WriteAlways,
        Short,
        Torn,
        ReadOnce,
    ];
    let places = [Place::Log, Place::Log, Place::State, Place::Snapshots];
    let some = errors
        .iter()
        .flat_map(|error| places.map(|place| (*error, place)));
    // Only for the log does anybody wait.
    some.chain([(Held, Place::Log); 3]).collect()
}

/// Draws after how many operations that is done to those files.
pub(crate) fn after(place: Place, random: &mut Random) -> u32 {
    let most = if place == Place::Log { 50 } else { 10 };
    u32::try_from(random.below(most)).unwrap_or(0)
}
