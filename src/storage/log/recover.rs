//! Opening the log: made when the directory is fresh, else scanned, its tail written anew if it was not closed in good
//! order, and only then used.
//!
//! What was read back may be in the memory of the operating system alone (after a failed sync it says that pages are clean
//! which it never wrote), so a sync would prove nothing. Written to a new file and synced, it is durable.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::Options;
use super::chores::{Next, Spare};
use super::disk::{Disk, File, preallocate};
use super::head::{Head, UUID_LEN_MAX};
use super::index::Index;
use super::record::{BLOCK, Chain, Encoder, Position, tag};
use super::scan::{FRESH, NEXT, SPARE, Scan, TAIL, scan, segment_name};
use super::shape::Shape;
use super::wal::Wal;
use super::witness::{self, Witness, WitnessFile};
use crate::storage::identity::OpenError;

/// What readers need of a log that was opened.
pub struct Recovered {
    /// What the log holds.
    pub shape: Shape,
    /// Bytes of a torn tail that were cut off; a copy is kept in the directory.
    pub torn_bytes: u64,
    pub(super) index: Index,
    pub(super) files: Vec<(u32, Arc<dyn File>)>,
}

impl<D: Disk> Wal<D> {
    /// Opens the log on `disk`, or makes it if the directory is fresh. Everything it holds then is durable.
    ///
    /// # Errors
    /// If it may not hold everything that was acknowledged, belongs to another node than `uuid`, or the disk fails.
    pub fn open(disk: D, uuid: &str, options: Options) -> Result<(Wal<D>, Recovered), OpenError> {
        if uuid.is_empty() || uuid.len() > UUID_LEN_MAX {
            return Err(OpenError(format!(
                "a node uuid has 1 to {UUID_LEN_MAX} bytes, not {}",
                uuid.len()
            )));
        }
        let options = options.bounded();
        let failed = |error: io::Error| OpenError(format!("cannot open the log: {error}"));
        if is_fresh(&disk).map_err(failed)? {
            create(&disk, uuid, &options).map_err(failed)?;
        }
        let scan = scan(&disk, Some(uuid))?;
        recover(disk, uuid, options, scan).map_err(failed)
    }
}

/// Whether no log was ever opened in the directory.
pub(super) fn is_fresh<D: Disk>(disk: &D) -> io::Result<bool> {
    let names = disk.list()?;
    Ok(names.is_empty() || names.iter().any(|name| name == FRESH))
}

/// Makes a log in a fresh directory. The mark goes last: until then nothing was acknowledged, and a crash leaves a
/// directory that is still fresh.
fn create<D: Disk>(disk: &D, uuid: &str, options: &Options) -> io::Result<()> {
    if disk.list()?.is_empty() {
        disk.create(FRESH)?;
        disk.sync_dir()?;
    }
    for name in [segment_name(1).as_str(), witness::NAME, SPARE, NEXT, TAIL] {
        remove_if_there(disk, name)?;
    }
    let head = Head {
        uuid: uuid.to_owned(),
        segment: 1,
        chain: Chain::seed(uuid),
        shape: Shape::default(),
    };
    let file = disk.create(&segment_name(1))?;
    preallocate(&*file, options.segment_bytes)?;
    file.write(0, &[IoSlice::new(&head.encode())])?;
    file.sync()?;
    let witness = Witness {
        uuid: uuid.to_owned(),
        sequence: 0,
        epoch: 0,
        clean: true,
        position: Position {
            segment: 1,
            offset: BLOCK,
        },
        chain: head.chain,
        vote: None,
        last: None,
        purged: None,
    };
    WitnessFile::create(disk, &witness)?;
    disk.sync_dir()?;
    disk.remove(FRESH)?;
    disk.sync_dir()
}

fn remove_if_there<D: Disk>(disk: &D, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn recover<D: Disk>(
    disk: D,
    uuid: &str,
    options: Options,
    mut scan: Scan,
) -> io::Result<(Wal<D>, Recovered)> {
    for name in [SPARE, NEXT, TAIL] {
        remove_if_there(&disk, name)?;
    }
    // A process that died may have changed names and not come to sync them: the mark of a fresh log must not come back.
    disk.sync_dir()?;
    let torn_bytes = scan.tail.torn.len() as u64;
    if scan.is_clean() {
        let last = scan.segments.last_mut().expect("a scan has a segment");
        last.file = disk.open_to_write(&segment_name(last.number))?;
    } else {
        keep_torn(&disk, &scan)?;
        rewrite_tail(&disk, &mut scan)?;
    }
    let files = scan
        .segments
        .iter()
        .map(|s| (s.number, s.file.clone()))
        .collect();
    let recovered = Recovered {
        shape: scan.shape,
        torn_bytes,
        index: scan.index,
        files,
    };
    let mut wal = Wal {
        witness: WitnessFile::open(&disk, scan.slot)?,
        disk,
        options,
        uuid: uuid.to_owned(),
        tag: tag(uuid),
        epoch: scan.witness.epoch + 1,
        segments: scan.segments.into(),
        end: scan.end,
        chain: scan.chain,
        shape: scan.shape,
        witness_sequence: scan.witness.sequence,
        next: Next::Missing,
        unneeded: Vec::new(),
        made: Vec::new(),
        failed: false,
    };
    // What was recovered counts as acknowledged from here on.
    let witness = wal.witnessed(false);
    wal.witness.write(&witness)?;
    wal.witness.sync()?;
    wal.release_segments()?;
    Ok((wal, recovered))
}

/// Keeps a copy of a torn tail, for whoever wants to know what it was.
fn keep_torn<D: Disk>(disk: &D, scan: &Scan) -> io::Result<()> {
    if scan.tail.torn.is_empty() {
        return Ok(());
    }
    let Position { segment, offset } = scan.end;
    let name = format!("torn-{segment}-{offset}-{}", scan.witness.epoch);
    // An opening that did not finish may have left one.
    remove_if_there(disk, &name)?;
    let file = disk.create(&name)?;
    file.write(0, &[IoSlice::new(&scan.tail.torn)])?;
    file.sync()
}

/// Writes the intact part of the last segment to a new file and puts that in its place.
fn rewrite_tail<D: Disk>(disk: &D, scan: &mut Scan) -> io::Result<()> {
    let last = scan.segments.last_mut().expect("a scan has a segment");
    let mut bytes = std::mem::take(&mut scan.tail.intact);
    let written = bytes.len();
    let mut encoder = Encoder {
        out: &mut bytes,
        chain: scan.chain,
    };
    encoder.pad(written);
    scan.chain = encoder.chain;
    let length = last.length.max(bytes.len() as u64);
    let Spare { file, .. } = Spare::make(disk, TAIL, length)?;
    file.write(0, &[IoSlice::new(&bytes)])?;
    file.sync()?;
    disk.rename(TAIL, &segment_name(last.number))?;
    disk.sync_dir()?;
    last.file = file;
    last.length = length;
    scan.end.offset = bytes.len() as u64;
    Ok(())
}
