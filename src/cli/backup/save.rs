//! `quorate backup save`: what comes is kept beside the file it is to become, until it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{failed, told};
use crate::cli::Global;
use crate::cli::format::{Format, show};
use crate::cli::output::{Exit, Failure, print};
use crate::cli::progress::Progress;
use crate::client::Client;
use crate::client::ask::new_key;
use crate::client::save::{Download, backup_ask};
use crate::storage::backup::{self, Manifest, Summary};

/// How long a node may take to begin, and to go on: it reads all of its state first.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Pieces that came and are not yet written, at most.
const PIECES_MAX: usize = 16;

/// Takes a backup into `file`.
pub(super) async fn save(global: &Global, file: &Path, force: bool) -> Result<(), Failure> {
    let taken = || {
        let what = format!("{} exists: --force replaces it", file.display());
        Failure::new(Exit::Conflict, what)
    };
    if !force && file.exists() {
        return Err(taken());
    }
    let (partial, out) = Partial::beside(file).map_err(|error| failed(file, &error))?;
    let client = global.client()?;
    let client: Client = client.with(global.options(TIMEOUT));
    global.explain(&client.endpoints()[0], &backup_ask(global.level()));
    let download = client.backup().await?;
    let (manifest, summary) = receive(download, &partial.0, out).await?;
    partial
        .keep(file, force)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(),
            _ => failed(file, &error),
        })?;
    match global.output {
        Format::Table => print(&format!(
            "{}: cluster {}, epoch {}, as of index {}\n",
            file.display(),
            manifest.cluster,
            manifest.epoch,
            manifest.index()
        )),
        other => show(other, &told(&manifest, &summary)),
    }
    Ok(())
}

/// A file beside the one it is to become: of this command alone, whatever else is saved under the same name meanwhile. It goes
/// when it is dropped.
struct Partial(PathBuf);

impl Partial {
    /// A new file beside `file`.
    fn beside(file: &Path) -> io::Result<(Partial, File)> {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".{}.partial", new_key()));
        let partial = Partial(PathBuf::from(name));
        let out = File::create_new(&partial.0)?;
        Ok((partial, out))
    }

    /// Makes it `file`, durably; only if it is told to, in the place of another one.
    fn keep(self, file: &Path, force: bool) -> io::Result<()> {
        match force {
            true => fs::rename(&self.0, file)?,
            false => claim(&self.0, file)?,
        }
        sync_parent(file)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is FILE by now, or worth nothing; if it cannot be deleted, its name says so.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes `partial` `file` too, unless there is one.
fn claim(partial: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(partial, file) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without links: the name is taken first, by an empty file, which only this command replaces.
            File::create_new(file)?;
            let renamed = fs::rename(partial, file);
            renamed.inspect_err(|_| drop(fs::remove_file(file)))
        }
        linked => linked,
    }
}

/// Writes what comes to `out`, the file at `path`, durably, and checks it on the way.
async fn receive(
    mut download: Download,
    path: &Path,
    out: File,
) -> Result<(Manifest, Summary), Failure> {
    let (sender, pieces) = mpsc::channel::<Bytes>(PIECES_MAX);
    let written = tokio::task::spawn_blocking(move || write(out, pieces));
    let mut progress = Progress::new("backup", download.len.unwrap_or(0));
    let mut done = 0;
    let broken = loop {
        match download.next().await {
            Ok(Some(piece)) => {
                done += piece.len() as u64;
                progress.at(done);
                if sender.send(piece).await.is_err() {
                    // Why, it says itself.
                    break None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop((sender, progress));
    let written = written.await.expect("writing does not panic");
    match broken {
        Some(error) => Err(error.into()),
        None => written.map_err(|error| failed(path, &error)),
    }
}

/// Writes pieces to `file` as they are read and checked.
fn write(file: File, pieces: mpsc::Receiver<Bytes>) -> io::Result<(Manifest, Summary)> {
    let mut kept = Kept {
        pieces,
        piece: Bytes::new(),
        file,
    };
    let told = backup::read(&mut kept, |_| Ok(()))?;
    kept.file.sync_all()?;
    Ok(told)
}

/// Reads what comes and keeps it in a file.
struct Kept {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    file: File,
}

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
            self.file.write_all(&self.piece)?;
        }
        let len = buffer.len().min(self.piece.len());
        buffer[..len].copy_from_slice(&self.piece.split_to(len));
        Ok(len)
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_are_saved_under_one_name_do_not_write_into_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("monday.tar");
        let names = || {
            let listed = fs::read_dir(dir.path()).unwrap();
            let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<Vec<_>>()
        };
        let (first, mut first_out) = Partial::beside(&file).unwrap();
        first_out.write_all(b"first").unwrap();
        let (second, mut second_out) = Partial::beside(&file).unwrap();
        assert!(!file.exists());
        first.keep(&file, false).unwrap();
        second_out.write_all(b"second, and longer").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"first");
        let refused = second.keep(&file, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"first");
        assert_eq!(names(), ["monday.tar"]);
        let (third, mut third_out) = Partial::beside(&file).unwrap();
        third_out.write_all(b"third").unwrap();
        third.keep(&file, true).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"third");
        drop(Partial::beside(&file).unwrap());
        assert_eq!(names(), ["monday.tar"]);
    }
}
