//! A snapshot on its way in: files are gathered under the names of their hashes, so what is there already, from an earlier
//! transfer or another snapshot, is recognized whatever it was called. When all are there and verified they are put together
//! as a snapshot, whose manifest comes last. A crash leaves what was staged, and nothing that looks like a snapshot.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{
    FileEntry, Manifest, check_file, check_inside, check_listing, damaged, finish, names, state_dir,
};
use crate::storage::crash;
use crate::storage::directory::sync as sync_dir;

/// A transfer being received. Every method blocks.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    manifest: Manifest,
    /// The file being written.
    open: Option<(usize, File, u64)>,
}

/// A file that has to be sent, or the rest of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its place among the files of the manifest.
    pub file: usize,
    /// Bytes of it that are there.
    pub offset: u64,
}

impl Staging {
    /// Goes on in `dir` towards the snapshot of `manifest`, and says what is missing for it. Whatever is staged and does not
    /// belong to it is deleted. Files that the snapshot `own` of this node has are taken from there.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn begin(
        dir: &Path,
        manifest: Manifest,
        own: Option<(&Path, &Manifest)>,
    ) -> io::Result<(Staging, Vec<Missing>)> {
        fs::create_dir_all(dir)?;
        let wanted: BTreeSet<String> = manifest.files.iter().map(staged_name).collect();
        for name in names(dir)? {
            if !wanted.contains(&name) {
                fs::remove_file(dir.join(name))?;
            }
        }
        let staging = Staging {
            dir: dir.to_owned(),
            manifest,
            open: None,
        };
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        for (file, entry) in staging.manifest.files.iter().enumerate() {
            if !seen.insert(entry.hash) {
                continue;
            }
            if let Some(offset) = staging.lacks(entry, own)? {
                missing.push(Missing { file, offset });
            }
        }
        Ok((staging, missing))
    }

    /// From where on `entry` is missing; `None` if all of it is there and as it should be.
    fn lacks(&self, entry: &FileEntry, own: Option<(&Path, &Manifest)>) -> io::Result<Option<u64>> {
        let path = self.dir.join(staged_name(entry));
        if entry.size == 0 {
            File::create(&path)?.sync_all()?;
            return check_file(&path, entry).map(|()| None);
        }
        if !path.exists() {
            let same = |other: &&FileEntry| (other.size, other.hash) == (entry.size, entry.hash);
            let twin = own.and_then(|(dir, own)| Some((dir, own.files.iter().find(same)?)));
            if let Some((dir, twin)) = twin {
                // If it cannot be linked it is sent.
                let _ = fs::hard_link(state_dir(dir).join(&twin.name), &path);
            }
        }
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(0)),
            Err(error) => return Err(error),
        };
        // What is linked is never written to: it would be written to wherever else it is used.
        if metadata.len() < entry.size && metadata.nlink() == 1 {
            return Ok(Some(metadata.len()));
        }
        match check_file(&path, entry) {
            // Whoever wrote it may have ended before it was on the disk.
            Ok(()) => synced(&File::open(&path)?, &path).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("a staged file is of no use: {error}");
                fs::remove_file(&path)?;
                Ok(Some(0))
            }
            Err(error) => Err(error),
        }
    }

    /// What the snapshot will be.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds `bytes` to `file`, at `offset`, where what is there of it must end. When all of it is there it is synced and
    /// verified. Returns whether it is complete.
    ///
    /// # Errors
    /// If the disk fails, more bytes come than the file has, or its hash is another: then it is deleted, to be sent anew.
    pub fn put(&mut self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let entry = self.manifest.files.get(file);
        let entry = entry
            .ok_or_else(|| damaged(format!("there is no file number {file}")))?
            .clone();
        let path = self.dir.join(staged_name(&entry));
        let (mut out, at) = match self.open.take() {
            Some((open, out, at)) if open == file => (out, at),
            _ => {
                let out = File::options().append(true).create(true).open(&path)?;
                let at = out.metadata()?.len();
                (out, at)
            }
        };
        if at != offset {
            return Err(damaged(format!(
                "file {}: bytes for {offset} came where {at} was due",
                entry.name
            )));
        }
        let end = offset + bytes.len() as u64;
        if end > entry.size {
            return Err(damaged(format!(
                "file {}: {end} bytes came, the manifest says {}",
                entry.name, entry.size
            )));
        }
        out.write_all(bytes)?;
        if end < entry.size {
            self.open = Some((file, out, end));
            return Ok(false);
        }
        synced(&out, &path)?;
        crash::at("staging:file");
        match check_file(&path, &entry) {
            Ok(()) => Ok(true),
            Err(error) => {
                fs::remove_file(&path)?;
                Err(io::Error::new(
                    error.kind(),
                    format!("file {}: {error}", entry.name),
                ))
            }
        }
    }

    /// Puts the files together as a snapshot in `to`, which must not exist; durable, and verified to be what its manifest
    /// says, when it returns. What is staged stays until [`Staging::clear`].
    ///
    /// # Errors
    /// If the disk fails, or the checkpoint is not as of what the manifest says.
    pub fn assemble(&self, to: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        let at = state_dir(to);
        fs::create_dir(&at)?;
        for entry in &self.manifest.files {
            fs::hard_link(self.dir.join(staged_name(entry)), at.join(&entry.name))?;
        }
        check_listing(to, &self.manifest)?;
        check_inside(to, &self.manifest)?;
        crash::at("staging:linked");
        finish(to, &self.manifest)
    }

    /// Deletes what is staged in `dir`.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn clear(dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => dir.parent().map_or(Ok(()), sync_dir),
        }
    }
}

/// Syncs a staged file. One of which that fails goes: what is read of it would be what is in memory, not what is on the disk, and
/// a second sync may say that all is well.
fn synced(file: &File, path: &Path) -> io::Result<()> {
    let failed = match file.sync_all() {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    fs::remove_file(path)?;
    Err(failed)
}

fn staged_name(entry: &FileEntry) -> String {
    blake3::Hash::from_bytes(entry.hash).to_string()
}
