//! The tail witness: a small file that says how far the log was durable when it was last written.
//!
//! A log alone cannot tell a tail that a power cut tore, which nobody was promised, from acknowledged records that rotted.
//! The witness can. It is written after each sync of the log and before the acknowledgement, without a sync of its own, so
//! after a kill it is exact; it is synced a few times a second, so after a power cut it is at most that old. It is never
//! ahead of the log: it names a position in the stream, and the stream only grows (a truncation is one more record of
//! it), so there is nothing to lower.
//!
//! Two slots of 4 KiB. Only one is written between two syncs; after a sync it is the other's turn. So the slot that may
//! be torn is never the only one, nor is it after the next opening: that goes on with the slot that may not be on the
//! disk. What a slot says fits in its first 512 bytes, one sector.

use std::io::{self, IoSlice};
use std::sync::Arc;

use super::codec::{Reader, put_log_id, put_text, put_vote};
use super::disk::{Disk, File, preallocate, read_all};
use super::head::{NEWER, open_block, seal_block};
use super::record::{BLOCK, BLOCK_LEN, Chain, Position};
use super::shape::Shape;
use crate::storage::{LogId, Vote};

/// Name of the file.
pub(super) const NAME: &str = "witness";

/// What a slot says must fit in one sector: a torn slot is then seen to be torn.
const SECTOR_LEN: usize = 512;

const MAGIC: [u8; 8] = *b"QUORWIT\0";

/// What the log held when the witness was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// The node.
    pub uuid: String,
    /// Counts the times it was written.
    pub sequence: u64,
    /// Counts the times the log was opened.
    pub epoch: u64,
    /// The log was closed in good order, and everything before is synced.
    pub clean: bool,
    /// The stream is durable up to here.
    pub position: Position,
    /// Its chain there.
    pub chain: Chain,
    /// The vote there.
    pub vote: Option<Vote>,
    /// The last entry there.
    pub last: Option<LogId>,
    /// The purge point there.
    pub purged: Option<LogId>,
}

impl Witness {
    /// Whether the stream up to [`Witness::position`] adds up to what was witnessed.
    pub(super) fn agrees(&self, chain: Chain, shape: &Shape) -> bool {
        let state = &shape.state;
        self.chain == chain
            && self.vote == state.vote
            && self.last == state.last
            && self.purged == state.purged
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR_LEN);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.push(u8::from(self.clean));
        out.extend_from_slice(&self.position.segment.to_le_bytes());
        out.extend_from_slice(&self.position.offset.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        put_vote(&mut out, self.vote);
        put_log_id(&mut out, self.last);
        put_log_id(&mut out, self.purged);
        put_text(&mut out, &self.uuid);
        let mut slot = seal_block(MAGIC, &out, SECTOR_LEN);
        slot.resize(BLOCK_LEN, 0);
        slot
    }

    fn decode(slot: &[u8]) -> Result<Witness, String> {
        let mut reader = open_block(MAGIC, slot, SECTOR_LEN)?;
        Witness::fields(&mut reader).ok_or_else(|| "an unreadable slot".to_owned())
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Witness> {
        Some(Witness {
            sequence: reader.u64()?,
            epoch: reader.u64()?,
            clean: reader.flag()?,
            position: Position {
                segment: reader.u32()?,
                offset: reader.u64()?,
            },
            chain: Chain(reader.array()?),
            vote: reader.vote()?,
            last: reader.log_id()?,
            purged: reader.log_id()?,
            uuid: reader.text()?.to_owned(),
        })
    }
}

/// Reads the newer of the slots that are intact, and which slot is to be written next; else why not. That is the one that
/// may not be on the disk as it reads: the damaged one, or else the newer.
pub(super) fn load<D: Disk>(disk: &D) -> Result<(Witness, usize), String> {
    let file = disk.open(NAME).map_err(|error| error.to_string())?;
    let bytes = read_all(&*file).map_err(|error| error.to_string())?;
    let slot = |at: usize| Witness::decode(bytes.get(at * BLOCK_LEN..).unwrap_or_default());
    match (slot(0), slot(1)) {
        (Err(reason), _) | (_, Err(reason)) if reason.starts_with(NEWER) => Err(reason),
        (Ok(first), Ok(second)) if second.sequence > first.sequence => Ok((second, 1)),
        (Ok(first), Ok(_)) => Ok((first, 0)),
        (Ok(first), Err(_)) => Ok((first, 1)),
        (Err(_), Ok(second)) => Ok((second, 0)),
        (Err(first), Err(second)) => Err(format!("slot 0 holds {first}, slot 1 holds {second}")),
    }
}

/// The file, being written.
pub(super) struct WitnessFile {
    file: Arc<dyn File>,
    /// The slot to write: the other one is synced and holds an older witness.
    hot: usize,
    dirty: bool,
}

impl WitnessFile {
    /// Makes the file with `witness` in both slots, synced. Its name is the caller's to sync.
    pub(super) fn create<D: Disk>(disk: &D, witness: &Witness) -> io::Result<()> {
        let file = disk.create(NAME)?;
        preallocate(&*file, 2 * BLOCK)?;
        let slot = witness.encode();
        file.write(0, &[IoSlice::new(&slot), IoSlice::new(&slot)])?;
        file.sync()
    }

    /// Opens the file, slot `hot` of which is to be written next.
    pub(super) fn open<D: Disk>(disk: &D, hot: usize) -> io::Result<WitnessFile> {
        Ok(WitnessFile {
            file: disk.open_to_write(NAME)?,
            hot,
            dirty: false,
        })
    }

    /// Writes `witness`, without a sync.
    pub(super) fn write(&mut self, witness: &Witness) -> io::Result<()> {
        let offset = BLOCK * u64::from(self.hot == 1);
        self.file
            .write(offset, &[IoSlice::new(&witness.encode())])?;
        self.dirty = true;
        Ok(())
    }

    /// Whether the newest is not synced.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Syncs the newest; the next one goes to the other slot.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync()?;
            self.hot = 1 - self.hot;
            self.dirty = false;
        }
        Ok(())
    }
}
