//! The log without threads: one group of operations in, durable when the call returns.
//!
//! A [`Wal`] belongs to one writer. After any error it is failed for good and touches its files no more: whether what was
//! written is on the disk can then be found out only by opening the log again, which writes its tail anew.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::Options;
use super::chores::{Chores, Next, Outcome, Spare};
use super::disk::{Disk, File};
use super::head::Head;
use super::index::Place;
use super::record::{
    BLOCK, Chain, Encoder, GROUP_LEN, Group, HEADER_LEN, Position, padded, record_len,
};
use super::scan::{NEXT, Segment, segment_name};
use super::shape::{Op, Shape};
use super::witness::{Witness, WitnessFile};
use crate::storage::crash;

/// The log, open to write.
pub struct Wal<D: Disk> {
    pub(super) disk: D,
    pub(super) options: Options,
    pub(super) uuid: String,
    pub(super) tag: [u8; 16],
    pub(super) epoch: u64,
    /// Ascending without holes; the last is the one being written.
    pub(super) segments: VecDeque<Segment>,
    /// Where the next group goes: a block of the last segment.
    pub(super) end: Position,
    pub(super) chain: Chain,
    /// What the durable stream adds up to.
    pub(super) shape: Shape,
    pub(super) witness: WitnessFile,
    pub(super) witness_sequence: u64,
    /// What becomes the next segment.
    pub(super) next: Next,
    /// Segments that hold nothing that is needed, to be removed in this order.
    pub(super) unneeded: Vec<u32>,
    /// Segments made since they were last handed out.
    pub(super) made: Vec<(u32, Arc<dyn File>)>,
    pub(super) failed: bool,
}

/// What a group came to.
pub struct Written {
    /// Where each entry of the group is, in order.
    pub(super) places: Vec<Place>,
    /// Segments that became readable with it.
    pub(super) files: Vec<(u32, Arc<dyn File>)>,
    /// First segment that is still needed.
    pub(super) first_segment: u32,
    /// What the durable stream adds up to.
    pub shape: Shape,
}

impl<D: Disk> Wal<D> {
    /// Writes `ops` in order. When it returns they are durable, and the witness says so.
    ///
    /// # Errors
    /// Of the disk. Whether anything was written is unknown then, and so every later call fails.
    pub fn write_group(&mut self, ops: &[Op]) -> io::Result<Written> {
        self.guarded(|wal| {
            let mut places = Vec::new();
            let mut rest = ops;
            while !rest.is_empty() {
                let count = wal.fitting(rest);
                if count == 0 {
                    wal.roll(group_len(&rest[..1]))?;
                    continue;
                }
                let (part, later) = rest.split_at(count);
                wal.write_part(part, &mut places)?;
                rest = later;
            }
            Ok(Written {
                places,
                files: std::mem::take(&mut wal.made),
                first_segment: wal.segments[0].number,
                shape: wal.shape,
            })
        })
    }

    /// Whether the witness was written since it was last synced.
    pub fn is_witness_dirty(&self) -> bool {
        self.witness.is_dirty()
    }

    /// Syncs the witness.
    ///
    /// # Errors
    /// Of the disk; every later call fails.
    pub fn sync_witness(&mut self) -> io::Result<()> {
        crash::at("witness:begin");
        self.guarded(|wal| wal.witness.sync())
    }

    /// Notes durably that the log was closed in good order, so that opening it need not write the tail anew.
    ///
    /// # Errors
    /// Of the disk.
    pub fn close(mut self) -> io::Result<()> {
        self.guarded(|wal| {
            let witness = wal.witnessed(true);
            wal.witness.write(&witness)?;
            wal.witness.sync()
        })
    }

    /// What the durable stream adds up to.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What is to be done about the directory, apart from the writer; run it and give its result to [`Wal::chores_done`].
    pub fn take_chores(&mut self) -> Option<Chores<D>> {
        if self.failed {
            return None;
        }
        let (offset, length) = (self.end.offset, self.active().length);
        let prepare = self.next.due(offset, length, self.options.segment_bytes);
        if prepare.is_none() && self.unneeded.is_empty() {
            return None;
        }
        Some(Chores {
            disk: self.disk.clone(),
            prepare,
            remove: std::mem::take(&mut self.unneeded),
        })
    }

    /// Takes the result of [`Chores::run`].
    ///
    /// # Errors
    /// If they failed; every later call fails.
    pub fn chores_done(&mut self, result: io::Result<Outcome>) -> io::Result<()> {
        self.guarded(|wal| {
            match result? {
                Outcome::Removed => {}
                Outcome::Spare(spare) => wal.next = Next::Here(spare),
                Outcome::NoSpare => wal.next = Next::GivenUp,
            }
            Ok(())
        })
    }

    fn guarded<T>(&mut self, run: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        if self.failed {
            return Err(io::Error::other("the log failed before"));
        }
        // Set meanwhile, so that a panic counts as a failure too.
        self.failed = true;
        let result = run(self);
        self.failed = result.is_err();
        result
    }

    fn active(&self) -> &Segment {
        self.segments
            .back()
            .expect("there is always a segment to write")
    }

    /// How many of `ops`, from the first, fit in the active segment as one group.
    fn fitting(&self, ops: &[Op]) -> usize {
        let room = self.active().length - self.end.offset;
        let mut bytes = HEADER_LEN + GROUP_LEN;
        ops.iter()
            .take_while(|op| {
                bytes += record_len(op);
                padded(bytes) as u64 <= room
            })
            .count()
    }

    fn write_part(&mut self, ops: &[Op], places: &mut Vec<Place>) -> io::Result<()> {
        let mut head = Vec::with_capacity(2 * HEADER_LEN * (ops.len() + 2));
        let mut encoder = Encoder {
            out: &mut head,
            chain: self.chain,
        };
        encoder.group(&Group {
            tag: self.tag,
            position: self.end,
            epoch: self.epoch,
        });
        // The body of the entry `ops[n]` goes in before the rest of `head`.
        let mut bodies = Vec::new();
        let mut bytes = encoder.out.len();
        for (n, op) in ops.iter().enumerate() {
            let length = record_len(op);
            if let Op::Append(entry) = op {
                let offset = self.end.offset + bytes as u64;
                let segment = self.end.segment;
                places.push(Place::new(Position { segment, offset }, length));
                encoder.op(op);
                bodies.push((encoder.out.len(), n));
                let active = self.segments.back_mut().expect("there is always one");
                active.highest = active.highest.max(Some(entry.id.index));
            } else {
                encoder.op(op);
            }
            bytes += length;
        }
        encoder.pad(bytes);
        let chain = encoder.chain;
        let parts = interleave(&head, ops, &bodies);
        let file = &self.active().file;
        crash::at("log:begin");
        file.write(self.end.offset, &parts)?;
        crash::at("log:written");
        file.sync()?;
        crash::at("log:synced");
        self.chain = chain;
        self.end.offset += padded(bytes) as u64;
        for op in ops {
            self.shape.apply(op);
        }
        self.witness_now()?;
        crash::at("log:witnessed");
        if ops.iter().any(|op| matches!(op, Op::Purge(_))) {
            self.release_segments()?;
        }
        Ok(())
    }

    fn witness_now(&mut self) -> io::Result<()> {
        let witness = self.witnessed(false);
        self.witness.write(&witness)
    }

    pub(super) fn witnessed(&mut self, clean: bool) -> Witness {
        self.witness_sequence += 1;
        Witness {
            uuid: self.uuid.clone(),
            sequence: self.witness_sequence,
            epoch: self.epoch,
            clean,
            position: self.end,
            chain: self.chain,
            vote: self.shape.state.vote,
            last: self.shape.state.last,
            purged: self.shape.state.purged,
        }
    }

    /// Begins a segment that takes a group of `bytes`.
    fn roll(&mut self, bytes: usize) -> io::Result<()> {
        let needed = BLOCK + bytes as u64;
        let mut spare = match self.next.take(needed) {
            Some(spare) => spare,
            None => Spare::make(&self.disk, NEXT, self.options.segment_bytes.max(needed))?,
        };
        spare.complete()?;
        let Spare {
            file, length, name, ..
        } = spare;
        let number = self.active().number + 1;
        let head = Head {
            uuid: self.uuid.clone(),
            segment: number,
            chain: self.chain,
            shape: self.shape,
        };
        file.write(0, &[IoSlice::new(&head.encode())])?;
        file.sync()?;
        crash::at("roll:headed");
        self.disk.rename(name, &segment_name(number))?;
        crash::at("roll:renamed");
        self.disk.sync_dir()?;
        crash::at("roll:named");
        self.made.push((number, file.clone()));
        self.segments.push_back(Segment {
            number,
            file,
            highest: None,
            length,
        });
        self.end = Position {
            segment: number,
            offset: BLOCK,
        };
        // Synced, so that the loss of the new segment is seen even after a power cut.
        self.witness_now()?;
        self.witness.sync()
    }

    /// Finds the oldest segments in which no entry is left.
    pub(super) fn release_segments(&mut self) -> io::Result<()> {
        let first = self.shape.first;
        let before = self.unneeded.len();
        while self.segments.len() > 1
            && self.segments[0]
                .highest
                .is_none_or(|highest| highest < first)
        {
            let gone = self.segments.pop_front().expect("there is more than one");
            self.unneeded.push(gone.number);
        }
        if self.unneeded.len() > before {
            crash::at("purge:released");
            // The witness on the disk must not name a segment that is gone.
            self.witness.sync()?;
        }
        Ok(())
    }
}

/// Length of `ops` as one group, in bytes.
fn group_len(ops: &[Op]) -> usize {
    padded(HEADER_LEN + GROUP_LEN + ops.iter().map(record_len).sum::<usize>())
}

/// The buffers of a group: pieces of `head`, and between them the bodies, each at its offset in `head`.
fn interleave<'a>(head: &'a [u8], ops: &'a [Op], bodies: &[(usize, usize)]) -> Vec<IoSlice<'a>> {
    let mut parts = Vec::with_capacity(2 * bodies.len() + 1);
    let mut from = 0;
    for (to, n) in bodies {
        parts.push(IoSlice::new(&head[from..*to]));
        if let Op::Append(entry) = &ops[*n] {
            parts.push(IoSlice::new(&entry.body));
        }
        from = *to;
    }
    parts.push(IoSlice::new(&head[from..]));
    parts
}
