//! Reading the whole log back, changing nothing: what it holds, and whether that is everything it acknowledged.
//!
//! Accepted is a stream that goes on without a break from the first segment to at least where the witness says it was
//! durable. What follows a break beyond that is a torn tail. Everything else is refused, with the file and offset.

use std::sync::Arc;

use super::disk::{Disk, File, read_all};
use super::head::Head;
use super::index::{Index, Place};
use super::record::{BLOCK, BLOCK_LEN, Chain, Position, Record, find_group, read_record, tag};
use super::shape::Shape;
use super::witness::{self, Witness};
use crate::mutants::{self, Mutant};
use crate::storage::identity::OpenError;

/// Marks a directory in which no log was ever opened: whatever else is in it may be made anew.
pub(crate) const FRESH: &str = "fresh";

/// The next segment, prepared in the background.
pub(super) const SPARE: &str = "spare";

/// The next segment, made when it is needed.
pub(super) const NEXT: &str = "next";

/// The last segment being written anew after an unclean stop.
pub(super) const TAIL: &str = "tail";

/// Name of segment `number`.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:010}.log")
}

fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The refusal to use a log because of `what`, which must say where.
pub(super) fn refusal(what: &str) -> OpenError {
    OpenError(format!(
        "the log is damaged: {what}. Entries or votes that this node acknowledged may be lost, so it must not take \
         part again as it is: keep this directory aside and join this node again under a new id (quorate node replace)"
    ))
}

/// A segment that was read.
pub(super) struct Segment {
    pub number: u32,
    pub file: Arc<dyn File>,
    /// Highest index of an entry ever appended to it.
    pub highest: Option<u64>,
    /// Length of the file, in bytes.
    pub length: u64,
}

/// What is after the end of the stream.
#[derive(Default)]
pub(super) struct Tail {
    /// The last segment, up to where the stream ends.
    pub intact: Vec<u8>,
    /// What follows, up to the last byte that is not zero.
    pub torn: Vec<u8>,
    /// Why the stream ends there.
    pub reason: &'static str,
}

/// Everything a log holds.
pub(super) struct Scan {
    pub segments: Vec<Segment>,
    pub index: Index,
    pub shape: Shape,
    pub chain: Chain,
    /// Where the stream ends.
    pub end: Position,
    pub tail: Tail,
    pub witness: Witness,
    /// Slot of the witness to write next.
    pub slot: usize,
    seen: bool,
    tag: [u8; 16],
}

/// Reads the log on `disk`; if `uuid` is given it must be that node's.
pub(super) fn scan<D: Disk>(disk: &D, uuid: Option<&str>) -> Result<Scan, OpenError> {
    let numbers = segment_numbers(disk)?;
    let (witness, slot) = witness::load(disk)
        .map_err(|reason| refusal(&format!("file {}: {reason}", witness::NAME)))?;
    let uuid = uuid.unwrap_or(&witness.uuid).to_owned();
    if witness.uuid != uuid {
        return Err(foreign(witness::NAME, &witness.uuid, &uuid));
    }
    check_present(&numbers, &witness)?;
    let mut scan = Scan {
        segments: Vec::new(),
        index: Index::default(),
        shape: Shape::default(),
        chain: Chain::seed(&uuid),
        end: Position {
            segment: 0,
            offset: 0,
        },
        tail: Tail::default(),
        witness,
        slot,
        seen: false,
        tag: tag(&uuid),
    };
    for number in numbers {
        scan.segment(disk, number, &uuid)?;
    }
    scan.check_end()?;
    Ok(scan)
}

fn segment_numbers<D: Disk>(disk: &D) -> Result<Vec<u32>, OpenError> {
    let names = disk
        .list()
        .map_err(|error| OpenError(format!("cannot list the log's directory: {error}")))?;
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| segment_number(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// No segment is missing between the first and the one the witness names.
fn check_present(numbers: &[u32], witness: &Witness) -> Result<(), OpenError> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Err(refusal("there is a witness but no segment"));
    };
    let named = witness.position.segment;
    let missing =
        (*first..=*last.max(&named)).find(|number| numbers.binary_search(number).is_err());
    match missing {
        Some(missing) => Err(refusal(&format!(
            "file {} is missing",
            segment_name(missing)
        ))),
        None if named < *first => Err(refusal(&format!("file {} is missing", segment_name(named)))),
        None => Ok(()),
    }
}

fn foreign(file: &str, found: &str, wanted: &str) -> OpenError {
    OpenError(format!(
        "file {file} of the log belongs to node {found}, this is node {wanted}: put the log back that belongs to this \
         node's identity file, or join this node again under a new id (quorate node replace)"
    ))
}

impl Scan {
    /// Where the stream ends and why, for people.
    fn end_text(&self) -> String {
        format!(
            "file {}, offset {}: {}",
            segment_name(self.end.segment),
            self.end.offset,
            self.tail.reason
        )
    }

    fn segment<D: Disk>(&mut self, disk: &D, number: u32, uuid: &str) -> Result<(), OpenError> {
        let name = segment_name(number);
        let unreadable = |error| OpenError(format!("cannot read file {name} of the log: {error}"));
        let file = disk.open(&name).map_err(unreadable)?;
        let bytes = read_all(&*file).map_err(unreadable)?;
        let head = Head::decode(&bytes)
            .map_err(|reason| refusal(&format!("file {name}, offset 0: {reason}")))?;
        if head.uuid != uuid {
            return Err(foreign(&name, &head.uuid, uuid));
        }
        if head.segment != number {
            let what = format!("file {name}, offset 0: it is segment {}", head.segment);
            return Err(refusal(&what));
        }
        if self.segments.is_empty() {
            self.shape = head.shape;
            self.chain = head.chain;
            self.index = Index::new(head.shape.end());
        } else if head.chain != self.chain || head.shape != self.shape {
            let what = format!(
                "{}, yet file {name} goes on from elsewhere",
                self.end_text()
            );
            return Err(refusal(&what));
        }
        let length = bytes.len() as u64;
        self.segments.push(Segment {
            number,
            file,
            highest: None,
            length,
        });
        self.walk(number, bytes)
    }

    /// Follows the stream through `bytes`, the segment `number`, to where it ends.
    fn walk(&mut self, number: u32, bytes: Vec<u8>) -> Result<(), OpenError> {
        let mut at = BLOCK_LEN;
        let reason = loop {
            self.end = Position {
                segment: number,
                offset: at as u64,
            };
            self.compare_witness()?;
            match read_record(&bytes, at, self.chain) {
                Err(reason) => break reason,
                Ok((record, end, chain)) => {
                    if let Err(reason) = self.take(&record, end - at) {
                        break reason;
                    }
                    self.chain = chain;
                    at = end;
                }
            }
        };
        let torn = bytes[at..].iter().rposition(|byte| *byte != 0);
        let torn = torn.map_or(&[][..], |last| &bytes[at..=at + last]).to_vec();
        self.tail = Tail {
            intact: Vec::new(),
            torn,
            reason,
        };
        if !self.tail.torn.is_empty() && !mutants::on(Mutant::LogDamageSkipped) {
            self.check_torn(&bytes)?;
        }
        self.tail.intact = bytes;
        self.tail.intact.truncate(at);
        Ok(())
    }

    fn compare_witness(&mut self) -> Result<(), OpenError> {
        if self.end != self.witness.position {
            return Ok(());
        }
        if !self.witness.agrees(self.chain, &self.shape) {
            let Position { segment, offset } = self.end;
            let name = segment_name(segment);
            return Err(refusal(&format!(
                "file {name}, offset {offset}: what comes before is not what the witness saw there"
            )));
        }
        self.seen = true;
        Ok(())
    }

    /// Takes in one record of `length` bytes at the end.
    fn take(&mut self, record: &Record<'_>, length: usize) -> Result<(), &'static str> {
        match record {
            Record::Pad => {}
            Record::Group(group) => {
                if group.tag != self.tag || group.position != self.end {
                    return Err("a group of records that belongs elsewhere");
                }
            }
            Record::Append(id, _, _) => {
                if !self.shape.takes(*id) {
                    return Err("an entry that does not follow the one before");
                }
                self.index.append(id.index, Place::new(self.end, length));
                self.shape.append(*id);
                let segment = self.segments.last_mut().expect("the one being read");
                segment.highest = segment.highest.max(Some(id.index));
            }
            Record::Vote(vote) => self.shape.state.vote = Some(*vote),
            Record::Truncate(upto) => {
                self.shape.truncate_after(*upto);
                self.index.truncate(self.shape.end());
            }
            Record::Purge(upto) => {
                self.shape.purge(*upto);
                self.index.purge(self.shape.first);
            }
            Record::Committed(committed) => self.shape.note_committed(*committed),
        }
        Ok(())
    }

    /// A torn tail holds no group that was written after a later part of it was synced.
    fn check_torn(&self, bytes: &[u8]) -> Result<(), OpenError> {
        let end = usize::try_from(self.end.offset).expect("it is an offset in memory");
        let blocks = (end.next_multiple_of(BLOCK_LEN)..bytes.len()).step_by(BLOCK_LEN);
        for at in blocks.filter(|at| *at > end) {
            let found = find_group(bytes, at);
            let proof = found.is_some_and(|group| {
                let here = (self.end.segment, at as u64);
                group.tag == self.tag && (group.position.segment, group.position.offset) == here
            });
            if proof {
                let what = format!(
                    "{}, but what was written at offset {at} proves it was synced",
                    self.end_text()
                );
                return Err(refusal(&what));
            }
        }
        Ok(())
    }

    /// The stream reached the witness, and every entry it should hold is there.
    fn check_end(&self) -> Result<(), OpenError> {
        if !self.seen && !mutants::on(Mutant::LogDamageSkipped) {
            let Position { segment, offset } = self.witness.position;
            let what = format!(
                "{}, but it was acknowledged up to file {}, offset {offset}",
                self.end_text(),
                segment_name(segment)
            );
            return Err(refusal(&what));
        }
        if !self.shape.is_empty() && self.index.start() != self.shape.first {
            let what = format!(
                "entries {} to {} are missing before file {}",
                self.shape.first,
                self.index.start().saturating_sub(1),
                segment_name(self.segments[0].number)
            );
            return Err(refusal(&what));
        }
        Ok(())
    }

    /// The log was closed in good order and nothing was written since.
    pub(super) fn is_clean(&self) -> bool {
        self.witness.clean
            && self.witness.position == self.end
            && self.tail.torn.is_empty()
            && self.end.offset.is_multiple_of(BLOCK)
    }
}
