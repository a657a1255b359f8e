//! Keeping the filters over sealed ids, in memory and on the disk.
//!
//! A full segment is stored whole, once. Of the one being filled each seal stores the hashes it added, 8 bytes an id: storing
//! its bits would cost its whole size at every seal, however small the seal.

use std::sync::Arc;

use super::super::core::Core;
use super::super::db::{Batch, Db, Range, Table};
use super::super::filter::{Filter, Segment, Sizes};
use super::super::layout::{hashes_key, segment_key};
use super::super::meta::Sealed;
use super::super::recent::Recents;
use crate::machine::Fault;

/// Bytes of one part of a segment or of its hashes.
const PART_BYTES: usize = 512 << 10;

/// The segments, for the thread that adds to them.
#[derive(Debug)]
pub(in super::super) struct Filters {
    segments: Vec<Arc<Segment>>,
    complete: bool,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters {
            segments: Vec::new(),
            complete: true,
        }
    }
}

impl Filters {
    /// What readers are to see from now on.
    pub(in super::super) fn published(&self) -> Filter {
        Filter {
            segments: Arc::new(self.segments.clone()),
            complete: self.complete,
        }
    }

    /// Adds the ids of `recents`, sealed up to `sealed.transfers`; stores what is needed to have them after a restart and counts
    /// them in `sealed`. What may only happen together with the stamp goes into `stamp`.
    pub(super) fn add(
        &mut self,
        core: &Core,
        recents: &Recents,
        sealed: &mut Sealed,
        stamp: &mut Batch<'_>,
    ) -> Result<(), Fault> {
        let sizes = core.tuning.filter;
        let seed = core.read()?.seed;
        let mut hashes = recents.ids().map(|(id, _)| seed.hash(id)).peekable();
        while hashes.peek().is_some() && self.has_room(sealed, sizes) {
            let number = sealed.segments_full;
            let capacity = sizes.capacity(index(number));
            let left = capacity.saturating_sub(index(sealed.segment_ids));
            let segment = &self.segments[index(number)];
            let added: Vec<u64> = hashes.by_ref().take(left).collect();
            added.iter().for_each(|&hash| segment.insert(hash));
            sealed.segment_ids += added.len() as u64;
            if index(sealed.segment_ids) < capacity {
                store_hashes(core, number, sealed.transfers.index, &added)?;
            } else {
                store_segment(core, number, segment)?;
                stamp.delete_range(
                    Table::Filter,
                    &hashes_key(number, 0, 0),
                    &hashes_key(number + 1, 0, 0),
                );
                sealed.segments_full += 1;
                sealed.segment_ids = 0;
            }
        }
        sealed.unfiltered += hashes.count() as u64;
        self.complete = sealed.unfiltered == 0;
        Ok(())
    }

    /// Whether there is a segment to add to, making the next one if there is none and memory allows it.
    fn has_room(&mut self, sealed: &Sealed, sizes: Sizes) -> bool {
        // Once one id was left out, the answer of the filters is "maybe" for all, so more segments would only cost memory.
        if sealed.unfiltered > 0 {
            return false;
        }
        if index(sealed.segments_full) == self.segments.len() {
            let held: usize = self.segments.iter().map(|segment| segment.bytes()).sum();
            let next = Segment::new(sizes.capacity(self.segments.len()));
            if held + next.bytes() > sizes.bytes_max {
                return false;
            }
            self.segments.push(Arc::new(next));
        }
        true
    }
}

fn store_hashes(core: &Core, segment: u32, to: u64, hashes: &[u64]) -> Result<(), Fault> {
    for (part, hashes) in (0..).zip(hashes.chunks(PART_BYTES / 8)) {
        let value: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        store(core, &hashes_key(segment, to, part), &value)?;
    }
    Ok(())
}

fn store_segment(core: &Core, number: u32, segment: &Segment) -> Result<(), Fault> {
    for (part, value) in (0..).zip(segment.to_bytes().chunks(PART_BYTES)) {
        store(core, &segment_key(number, part), value)?;
    }
    Ok(())
}

fn store(core: &Core, key: &[u8], value: &[u8]) -> Result<(), Fault> {
    core.point("filters:part")?;
    let mut batch = core.db.batch();
    batch.put(Table::Filter, key, value);
    core.db.write(batch)
}

/// Reads the filters that `sealed` counts.
pub(in super::super) fn load(db: &Db, sealed: &Sealed, sizes: Sizes) -> Result<Filters, Fault> {
    let mut filters = Filters {
        segments: Vec::new(),
        complete: sealed.unfiltered == 0,
    };
    for number in 0..sealed.segments_full {
        let bytes = parts(
            db,
            &segment_key(number, 0),
            &segment_key(number + 1, 0),
            |_| true,
        )?;
        let segment = Segment::from_bytes(&bytes)
            .ok_or_else(|| db.damaged(Table::Filter, format_args!("segment {number}")))?;
        filters.segments.push(Arc::new(segment));
    }
    let open = sealed.segments_full;
    if sealed.segment_ids > 0 {
        let bytes = stored_hashes(db, sealed)?;
        let (hashes, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || hashes.len() as u64 != sealed.segment_ids {
            let (found, wanted) = (hashes.len(), sealed.segment_ids);
            let what = format!("{found} ids in segment {open}, not {wanted}");
            return Err(db.damaged(Table::Filter, what));
        }
        let segment = Segment::new(sizes.capacity(index(open)));
        let hashes = hashes.iter().map(|hash| u64::from_le_bytes(*hash));
        hashes.for_each(|hash| segment.insert(hash));
        filters.segments.push(Arc::new(segment));
    }
    Ok(filters)
}

/// The hashes in the segment being filled, as stored, in the order in which they were added. Those beyond the stamp are of a
/// seal that a crash interrupted, which will add them again.
pub(in super::super) fn stored_hashes(db: &Db, sealed: &Sealed) -> Result<Vec<u8>, Fault> {
    let open = sealed.segments_full;
    let (from, to) = (hashes_key(open, 0, 0), hashes_key(open + 1, 0, 0));
    parts(db, &from, &to, |key| within(key, sealed))
}

/// Whether a row of hashes belongs to a finished seal.
fn within(key: &[u8], sealed: &Sealed) -> bool {
    key.get(5..13)
        .is_some_and(|to| to <= &sealed.transfers.index.to_be_bytes()[..])
}

fn parts(
    db: &Db,
    from: &[u8],
    to: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<u8>, Fault> {
    let mut cursor = db.rows(Table::Filter, Range::whole(from).to(to), None);
    let mut bytes = Vec::new();
    while let Some((key, value)) = cursor.next()? {
        if wanted(key) {
            bytes.extend_from_slice(value);
        }
    }
    Ok(bytes)
}

fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().ok().expect("counts of things in memory")
}
