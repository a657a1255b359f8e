//! What a backup holds, as text in the manner of a snapshot's manifest.
//!
//! ```text
//! quorate-backup 1
//! cluster 0123456789abcdef0123456789abcdef
//! epoch 1
//! last 3 1 4711
//! time 1700000000000000000
//! membership 0a0b
//! digest 00..ff
//! summary 420 00..ff
//! file 4096 00..ff 000012.sst
//! end 00..ff
//! ```
//!
//! `last` is term, node and index; `time` is log time, in nanoseconds since 1970.

use std::fmt::Write as _;

use crate::storage::lines::{self, field, hash, hex, number};
use crate::storage::snapshot::FileEntry;
use crate::storage::state::Applied;

use super::tar;

/// What the text begins with.
const TITLE: &str = "quorate-backup";
/// Version of this format, and of the whole of a backup: of the order of its parts too.
const FORMAT: u32 = 1;

/// What a backup holds, and of which files it consists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The cluster that it is of.
    pub cluster: String,
    /// That cluster's epoch: whatever is made of this backup has a higher one.
    pub epoch: u64,
    /// How far its state is, as read from inside it.
    pub applied: Applied,
    /// Size in bytes and BLAKE3 of the summary.
    pub summary: (u64, [u8; 32]),
    /// The files of the state, by name.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Bytes of the files of the state.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Log index of the last entry in it.
    pub fn index(&self) -> u64 {
        self.applied.log_id.map_or(0, |id| id.index)
    }

    /// As text.
    pub fn encode(&self) -> String {
        let (cluster, epoch) = (&self.cluster, self.epoch);
        let mut text = format!("{TITLE} {FORMAT}\ncluster {cluster}\nepoch {epoch}\n");
        lines::put_applied(&mut text, &self.applied);
        let (size, hash) = &self.summary;
        writeln!(text, "summary {size} {}", hex(hash)).expect("into memory");
        lines::put_files(&mut text, &self.files);
        lines::seal(text)
    }

    /// Reads back [`Manifest::encode`]; any bytes give a manifest or the reason why they are none.
    ///
    /// # Errors
    /// If they are damaged, of a newer format, or name what no backup has.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let body = lines::opened(bytes, TITLE, FORMAT, "a backup")?;
        let mut lines = lines::of(body);
        let cluster = field(lines.next(), "cluster")?.next().unwrap_or_default();
        if cluster.len() != 32 || !cluster.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("{cluster:?} is no id of a cluster"));
        }
        let epoch = number(field(lines.next(), "epoch")?.next())?;
        let applied = lines::applied(&mut lines)?;
        let mut summary = field(lines.next(), "summary")?;
        let summary = (number(summary.next())?, hash(summary.next())?);
        let files = lines::files(lines)?;
        let too_long = |file: &&FileEntry| super::path_of(file).len() > tar::NAME_LEN_MAX;
        if let Some(file) = files.iter().find(too_long) {
            return Err(format!("it names a file {:?}, as no backup has", file.name));
        }
        Ok(Manifest {
            cluster: cluster.to_owned(),
            epoch,
            applied,
            summary,
            files,
        })
    }
}
