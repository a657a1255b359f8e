//! Where each entry on the disk is.

use std::collections::VecDeque;

use super::record::Position;

/// Where an entry's record is: 12 bytes, of which a log has one for each entry it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: u32,
    offset: u32,
    length: u32,
}

impl Place {
    /// The record of `length` bytes at `position`.
    pub(super) fn new(position: Position, length: usize) -> Place {
        Place {
            segment: position.segment,
            offset: u32::try_from(position.offset).expect("a segment is below 4 GiB"),
            length: u32::try_from(length).expect("a segment is below 4 GiB"),
        }
    }

    /// Its segment's number.
    pub(super) fn segment(self) -> u32 {
        self.segment
    }

    /// Offset of the record in its segment.
    pub(super) fn start(self) -> u64 {
        u64::from(self.offset)
    }

    /// Offset right after it.
    pub(super) fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// The places of a run of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Index of the first entry in `places`.
    start: u64,
    places: VecDeque<Place>,
}

impl Index {
    /// An index that has nothing below `start`.
    pub(super) fn new(start: u64) -> Index {
        Index {
            start,
            places: VecDeque::new(),
        }
    }

    /// Index of the first entry whose place is known, or of the next one if there is none.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.start + self.places.len() as u64
    }

    /// Adds entry `index`, right after the last.
    pub(super) fn append(&mut self, index: u64, place: Place) {
        if self.places.is_empty() {
            self.start = index;
        }
        assert_eq!(index, self.end(), "entries are written in order");
        self.places.push_back(place);
    }

    /// Forgets entries from `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        let left = end.saturating_sub(self.start);
        self.places
            .truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.start = self.start.min(end);
    }

    /// Forgets entries below `start`.
    pub(super) fn purge(&mut self, start: u64) {
        let gone = start
            .saturating_sub(self.start)
            .min(self.places.len() as u64);
        self.places
            .drain(..usize::try_from(gone).expect("it is at most a length"));
        self.start += gone;
        if self.places.is_empty() {
            self.start = self.start.max(start);
        }
    }

    /// Index of the first entry in `segment` or after it, if one before it is known too.
    pub(super) fn first_in(&self, segment: u32) -> Option<u64> {
        let before = self
            .places
            .partition_point(|place| place.segment() < segment);
        (before > 0).then_some(self.start + before as u64)
    }

    /// Where entry `index` is.
    pub(super) fn get(&self, index: u64) -> Option<Place> {
        let at = index.checked_sub(self.start)?;
        self.places.get(usize::try_from(at).ok()?).copied()
    }
}
