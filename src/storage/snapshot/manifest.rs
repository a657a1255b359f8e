//! What belongs to a snapshot, as text: one fact a line, and the hash of all of it at the end.
//!
//! ```text
//! quorate-snapshot 1
//! cluster 0123456789abcdef0123456789abcdef
//! last 3 1 4711
//! time 1700000000000000000
//! membership 0a0b
//! digest 00..ff
//! file 4096 00..ff 000012.sst
//! end 00..ff
//! ```
//!
//! `last` is term, node and index; `-` stands for what is absent. Files are sorted by name.

use std::fmt::Write as _;

use crate::storage::lines::{self, field, present};
use crate::storage::state::Applied;

/// What the text begins with.
const TITLE: &str = "quorate-snapshot";
/// Version of this format.
const FORMAT: u32 = 1;

/// What a snapshot holds and which files it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Cluster of the node that made it.
    pub cluster: Option<String>,
    /// How far its state is, as read from inside it.
    pub applied: Applied,
    /// Its files, by name.
    pub files: Vec<FileEntry>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name: plain, without a path.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The file called `name`.
    pub fn find(&self, name: &str) -> Option<&FileEntry> {
        let at = self
            .files
            .binary_search_by(|file| file.name.as_str().cmp(name));
        at.ok().map(|at| &self.files[at])
    }

    /// As text.
    pub fn encode(&self) -> String {
        let mut text = format!("{TITLE} {FORMAT}\n");
        let cluster = self.cluster.as_deref().unwrap_or(lines::ABSENT);
        writeln!(text, "cluster {cluster}").expect("into memory");
        lines::put_applied(&mut text, &self.applied);
        lines::put_files(&mut text, &self.files);
        lines::seal(text)
    }

    /// Reads back [`Manifest::encode`]; any bytes give a manifest or the reason why they are none.
    ///
    /// # Errors
    /// If they are damaged, of a newer format, or name files that none of ours has.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let body = lines::opened(bytes, TITLE, FORMAT, "a snapshot")?;
        let mut lines = lines::of(body);
        let cluster = present(field(lines.next(), "cluster")?)?.map(str::to_owned);
        let applied = lines::applied(&mut lines)?;
        let files = lines::files(lines)?;
        Ok(Manifest {
            cluster,
            applied,
            files,
        })
    }
}
