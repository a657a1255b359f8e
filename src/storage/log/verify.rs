//! Looking at a log without changing it.

use std::path::Path;

use super::LogState;
use super::disk::{Disk, RealDisk};
use super::recover::is_fresh;
use super::scan::scan;
use crate::storage::identity::OpenError;

/// What [`verify`] found in a log that can be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node it belongs to; `None` if no log was ever opened in the directory.
    pub node_uuid: Option<String>,
    /// Segment files.
    pub segments: u64,
    /// What they take on the disk, in bytes.
    pub segment_bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Index of the first of them, or of the next one if there is none.
    pub first: u64,
    /// What consensus finds when the log is opened.
    pub state: LogState,
    /// It was closed in good order.
    pub is_clean: bool,
    /// Bytes of a torn tail, acknowledged to nobody: cut off when the log is opened.
    pub torn_bytes: u64,
}

/// Reads and checks the whole log in `dir` and changes nothing. No process may have it open.
///
/// # Errors
/// If the log could not be opened, for the same reasons and in the same words.
pub fn verify(dir: &Path) -> Result<Report, OpenError> {
    verify_on(&RealDisk::new(dir))
}

/// [`verify`] on any disk.
pub fn verify_on<D: Disk>(disk: &D) -> Result<Report, OpenError> {
    let fresh = is_fresh(disk)
        .map_err(|error| OpenError(format!("cannot read the log's directory: {error}")))?;
    if fresh {
        return Ok(Report::default());
    }
    let scan = scan(disk, None)?;
    Ok(Report {
        segments: scan.segments.len() as u64,
        segment_bytes: scan.segments.iter().map(|segment| segment.length).sum(),
        entries: scan.shape.end().saturating_sub(scan.shape.first),
        first: scan.shape.first,
        state: scan.shape.state,
        is_clean: scan.is_clean(),
        torn_bytes: scan.tail.torn.len() as u64,
        node_uuid: Some(scan.witness.uuid),
    })
}
