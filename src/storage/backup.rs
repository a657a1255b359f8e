//! Backups: a state as it stood at one entry, as one stream that says itself whether it is whole and right.
//!
//! It is a tar archive of these files, in this order and with nothing else in it, not even in the fields of the headers:
//!
//! | file | what |
//! |---|---|
//! | `manifest` | of which cluster and of which entry, and the hash of every file: [`Manifest`] |
//! | `summary.json` | what there is, counted, with the sums of every ledger: [`Summary`] |
//! | `state/*` | a checkpoint of the state, as a snapshot holds it |
//! | `end` | the hash of all that is before: without it, it was cut off |
//!
//! Whoever reads it knows from the manifest what must come next, to the byte, so names lead nowhere and nothing can be missing,
//! added or changed. Whether the state inside is one that a cluster could have had, [`check()`] says: it derives everything from the
//! journal again and holds it against manifest and summary. No cluster is needed for that.

mod check;
mod manifest;
mod read;
mod tar;
#[cfg(test)]
mod tests;
mod write;

pub use check::{Checked, check, unpack};
pub use manifest::Manifest;
pub use read::{Content, head, read};
pub use write::Backup;

pub use super::state::{LedgerSummary, Summary};

use std::io;

use super::snapshot::FileEntry;

const MANIFEST: &str = "manifest";
const SUMMARY: &str = "summary.json";
const STATE: &str = "state";
const END: &str = "end";
/// Bytes of the last file: a hash in hexadecimal and a line's end.
const END_LEN: u64 = 65;
/// Zero blocks after the last file, as tar wants them.
const TAIL_BLOCKS: usize = 2;
/// Most bytes of a manifest or a summary: they are held in memory. A ledger takes some 150 of them.
const HEAD_LEN_MAX: u64 = 1 << 30;
/// Bytes read and hashed at once.
const PIECE_LEN: usize = 256 << 10;

/// What a file of the state is called in the archive.
fn path_of(file: &FileEntry) -> String {
    format!("{STATE}/{}", file.name)
}

/// What the last file says, if `hash` is that of everything before.
fn end_text(hash: &blake3::Hash) -> String {
    format!("{}\n", hash.to_hex())
}

/// Refuses a head file that is too long to be held in memory.
fn check_head(name: &str, size: u64) -> io::Result<()> {
    match size <= HEAD_LEN_MAX {
        true => Ok(()),
        false => Err(damaged(format!(
            "file {name} of the backup: {size} bytes are too many, at most {HEAD_LEN_MAX} are read"
        ))),
    }
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
