//! How much of the disk the log takes, and how much of it which entries: what is purged is decided by bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Log;
use super::disk::File;
use super::index::Place;

impl Log {
    /// What the log's segments take on the disk, in bytes. More than its entries do: each write begins a new block.
    pub fn disk_bytes(&self) -> u64 {
        let files: Vec<_> = self.shared().lock().files.values().cloned().collect();
        files.iter().map(length).sum()
    }

    /// Bytes on the disk from entry `index` on, or from the first entry that is there. Of what is prepared and not yet written
    /// nothing counts.
    pub fn bytes_from(&self, index: u64) -> u64 {
        let (from, end, files) = {
            let inner = self.shared().lock();
            let from = inner.index.get(index.max(inner.index.start()));
            let last = inner.index.end().checked_sub(1);
            let end = last.and_then(|last| inner.index.get(last));
            (from, end, inner.files.clone())
        };
        let (Some(from), Some(end)) = (from, end) else {
            return 0;
        };
        let between = files.range(from.segment()..end.segment());
        let whole: u64 = between.map(|(_, file)| length(file)).sum();
        (whole + end.end()).saturating_sub(from.start())
    }

    /// The last entry of the segments that are not needed to keep at least `keep` bytes of the newest: purged up to there, the
    /// log gives back all that it can. `None` if that is nothing.
    pub fn purgeable(&self, keep: u64) -> Option<u64> {
        let (end, files) = {
            let inner = self.shared().lock();
            let last = inner.index.end().checked_sub(1)?;
            (inner.index.get(last)?, inner.files.clone())
        };
        let first_kept = first_kept(end, &files, keep);
        let first = self.shared().lock().index.first_in(first_kept)?;
        first.checked_sub(1)
    }
}

/// The oldest of the newest segments that together have `keep` bytes up to `end`.
fn first_kept(end: Place, files: &BTreeMap<u32, Arc<dyn File>>, keep: u64) -> u32 {
    let mut kept = end.end();
    let mut first = end.segment();
    for (number, file) in files.range(..end.segment()).rev() {
        if kept >= keep {
            break;
        }
        kept += length(file);
        first = *number;
    }
    first
}

fn length(file: &Arc<dyn File>) -> u64 {
    file.length().unwrap_or(0)
}
