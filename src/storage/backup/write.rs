//! Making a backup of a checkpoint.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use super::{
    END, END_LEN, MANIFEST, Manifest, PIECE_LEN, SUMMARY, Summary, TAIL_BLOCKS, check_head,
    damaged, end_text, path_of,
    tar::{BLOCK, NAME_LEN_MAX, entry_len, header, padding},
};
use crate::storage::snapshot::{self, FileEntry};
use crate::storage::state::State;

/// A backup that can be written: what it will say, and where the files are.
#[derive(Clone, Debug)]
pub struct Backup {
    /// What it holds.
    pub manifest: Manifest,
    /// What there is, counted.
    pub summary: Summary,
    head: [Vec<u8>; 2],
    state: PathBuf,
}

impl Backup {
    /// Of the snapshot in `dir`, made by a node of `cluster` in its `epoch`. Reads the journal of the checkpoint from beginning to end,
    /// for the summary: nothing of it is taken from the state beside. Blocking.
    ///
    /// # Errors
    /// If it cannot be read, or its journal does not lead to its digest.
    pub fn of(
        dir: &Path,
        snapshot: &snapshot::Manifest,
        cluster: String,
        epoch: u64,
    ) -> io::Result<Backup> {
        let state = snapshot::state_dir(dir);
        let summary = State::summarize(&state).map_err(|fault| damaged(fault.what))?;
        let text = summary.encode();
        let manifest = Manifest {
            cluster,
            epoch,
            applied: snapshot.applied.clone(),
            summary: (text.len() as u64, blake3::hash(&text).into()),
            files: snapshot.files.clone(),
        };
        let head = [manifest.encode().into_bytes(), text];
        for (name, bytes) in [MANIFEST, SUMMARY].iter().zip(&head) {
            check_head(name, bytes.len() as u64)?;
        }
        let too_long = |file: &&FileEntry| path_of(file).len() > NAME_LEN_MAX;
        if let Some(file) = manifest.files.iter().find(too_long) {
            let path = path_of(file);
            return Err(damaged(format!(
                "the name {path} is too long for a backup, which takes {NAME_LEN_MAX} bytes"
            )));
        }
        Ok(Backup {
            manifest,
            summary,
            head,
            state,
        })
    }

    /// Bytes of the whole.
    pub fn len(&self) -> u64 {
        let head = self.head.iter().map(|bytes| entry_len(bytes.len() as u64));
        let files = self.manifest.files.iter().map(|file| entry_len(file.size));
        let tail = entry_len(END_LEN) + (TAIL_BLOCKS * BLOCK) as u64;
        head.chain(files).sum::<u64>() + tail
    }

    /// Never: there is always a manifest.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the whole to `out`, a piece at a time. Every file is held against the manifest on the way. Blocking.
    ///
    /// # Errors
    /// If a file cannot be read or is not what it was, or `out` fails: what was written has no end then, and is refused.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = Hashing {
            out,
            hasher: blake3::Hasher::new(),
        };
        for (name, bytes) in [MANIFEST, SUMMARY].iter().zip(&self.head) {
            out.put(&header(name, bytes.len() as u64))?;
            out.put(bytes)?;
            out.pad(bytes.len() as u64)?;
        }
        for file in &self.manifest.files {
            out.put(&header(&path_of(file), file.size))?;
            out.copy(&self.state.join(&file.name), file)?;
            out.pad(file.size)?;
        }
        let end = end_text(&out.hasher.finalize());
        out.put(&header(END, END_LEN))?;
        out.put(end.as_bytes())?;
        out.pad(END_LEN)?;
        out.put(&[0; TAIL_BLOCKS * BLOCK])?;
        out.out.flush()
    }
}

/// Hashes all that goes through.
struct Hashing<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.put(&[0; BLOCK][..padding(size)])
    }

    /// Writes the file at `path`, which must be what `entry` says.
    fn copy(&mut self, path: &Path, entry: &FileEntry) -> io::Result<()> {
        let changed = || damaged(format!("file {} is not what it was", path.display()));
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE_LEN];
        let mut left = entry.size;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            let read = file.read(&mut buffer[..most])?;
            if read == 0 {
                return Err(changed());
            }
            hasher.update(&buffer[..read]);
            self.put(&buffer[..read])?;
            left -= read as u64;
        }
        match <[u8; 32]>::from(hasher.finalize()) == entry.hash {
            true => Ok(()),
            false => Err(changed()),
        }
    }
}
