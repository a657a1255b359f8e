//! The log's tests. Those that crash run on the model disk, with every operation of the disk as a crash point.
#![expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

mod cache;
mod chores;
mod crash;
mod damage;
mod errors;
mod flips;
mod races;
mod real;
mod scrub;
mod size;

use std::time::Duration;

use bytes::Bytes;

use super::disk::Disk;
use super::model::{ModelDisk, Uncertain};
use super::wal::Wal;
use super::writer::Writer;
use super::{Log, Op, Options, Shape};
use crate::storage::{Kind, LogEntry, LogId, Vote};

const UUID: &str = "00000000000000000000000000000abc";

/// Segments of five blocks, a head and four more: logs that roll soon.
fn small() -> Options {
    Options {
        segment_bytes: 5 * 4096,
        cache_bytes: 0,
        witness_sync: Duration::from_secs(3600),
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: 7,
        index,
    }
}

/// An entry with a body of `length` bytes that no other entry has.
fn entry(term: u64, index: u64, length: usize) -> LogEntry {
    let seed = (term * 31 + index) as u8;
    LogEntry {
        id: id(term, index),
        kind: Kind::Commands,
        body: (0..length)
            .map(|n| seed.wrapping_add(n as u8) | 1)
            .collect::<Vec<u8>>()
            .into(),
    }
}

fn append(term: u64, index: u64, length: usize) -> Op {
    Op::Append(entry(term, index, length))
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: 3,
        committed: term.is_multiple_of(2),
    }
}

/// One thing that is done to a [`Wal`].
enum Step {
    Group(Vec<Op>),
    SyncWitness,
    Chores,
}

/// A life of a log in which everything happens: votes, entries smaller and larger than a block, truncations of entries on
/// the disk and in the same group, purges within and beyond the log, segments that roll and are removed.
fn life() -> Vec<Step> {
    use Step::{Chores, Group, SyncWitness};
    vec![
        Group(vec![Op::Vote(vote(1))]),
        Group(vec![append(1, 0, 0), append(1, 1, 40)]),
        Group(vec![append(1, 2, 700), Op::Committed(Some(id(1, 1)))]),
        SyncWitness,
        Group(vec![append(1, 3, 900), append(1, 4, 3500)]),
        Group(vec![Op::Truncate(Some(id(1, 2))), append(2, 3, 30)]),
        Chores,
        Group(vec![Op::Vote(vote(2)), append(2, 4, 6000)]),
        SyncWitness,
        Group(vec![
            append(2, 5, 10),
            Op::Truncate(Some(id(2, 4))),
            Op::Committed(Some(id(2, 4))),
        ]),
        Group(vec![Op::Purge(id(1, 1)), append(2, 5, 3000)]),
        Chores,
        Group(vec![
            append(3, 6, 100),
            append(3, 7, 16_500),
            append(3, 8, 100),
        ]),
        Group(vec![Op::Purge(id(2, 5))]),
        Chores,
        Group(vec![Op::Truncate(Some(id(2, 5)))]),
        Group(vec![append(4, 6, 200)]),
        Group(vec![Op::Purge(id(9, 20)), append(9, 21, 5)]),
        Chores,
        Group(vec![
            Op::Vote(vote(10)),
            append(10, 22, 50),
            append(10, 23, 4200),
        ]),
    ]
}

/// What a log holds: its shape, and all its entries.
type Found = (Shape, Vec<LogEntry>);

/// What a log held after each operation, and how much of it was acknowledged.
struct Truth {
    states: Vec<Found>,
    /// Operations whose group was written.
    acknowledged: usize,
}

impl Truth {
    fn new() -> Truth {
        Truth {
            states: vec![(Shape::default(), Vec::new())],
            acknowledged: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        let (mut shape, mut entries) = self.states.last().unwrap().clone();
        shape.apply(op);
        if let Op::Append(entry) = op {
            entries.push(entry.clone());
        }
        entries.retain(|entry| entry.id.index >= shape.first && entry.id.index < shape.end());
        self.states.push((shape, entries));
    }

    /// After how many operations the log held this: not before the last that was acknowledged. Of equal states the last.
    fn find(&self, found: &Found) -> Option<usize> {
        (self.acknowledged..self.states.len())
            .rev()
            .find(|n| self.states[*n] == *found)
    }
}

/// Lives `steps` on `disk` until it fails.
fn live(disk: &ModelDisk, steps: &[Step]) -> Truth {
    let mut truth = Truth::new();
    let Ok((mut wal, _)) = Wal::open(disk.clone(), UUID, small()) else {
        return truth;
    };
    for step in steps {
        let result = match step {
            Step::Group(ops) => {
                ops.iter().for_each(|op| truth.apply(op));
                wal.write_group(ops)
                    .map(|_| truth.acknowledged += ops.len())
            }
            Step::SyncWitness => wal.sync_witness(),
            Step::Chores => match wal.take_chores() {
                Some(chores) => wal.chores_done(chores.run()),
                None => Ok(()),
            },
        };
        if result.is_err() {
            break;
        }
    }
    truth
}

/// Opens the log on `disk` and reads all of it from there.
fn open<D: Disk>(disk: &D) -> Result<(Log, Writer<D>, Found), String> {
    let (log, writer) = Log::with_writer(disk.clone(), UUID, small()).map_err(|error| error.0)?;
    let entries = log
        .read(0..u64::MAX, u64::MAX)
        .map_err(|error| error.to_string())?;
    let state = log.state();
    assert_eq!(
        *log.flushed().borrow(),
        state.last,
        "what was recovered counts as flushed"
    );
    let first = match (state.last, state.purged) {
        (None, _) => 0,
        (_, Some(purged)) => purged.index + 1,
        (Some(_), None) => entries.first().unwrap().id.index,
    };
    Ok((log, writer, (Shape { state, first }, entries)))
}

/// Appends an entry to a log that was just opened; everything it held before and this are acknowledged then.
fn go_on<D: Disk>(log: &Log, writer: &mut Writer<D>, found: &mut Found) {
    let (shape, entries) = found;
    let term = shape.state.last.map_or(1, |last| last.term);
    let next = entry(
        term,
        shape.state.last.map_or(shape.first, |last| last.index + 1),
        77,
    );
    let (send, receive) = std::sync::mpsc::channel();
    log.append(
        vec![next.clone()],
        Box::new(move |result| send.send(result.is_ok()).unwrap()),
    );
    writer.step().unwrap();
    assert!(receive.try_recv().unwrap());
    shape.append(next.id);
    entries.push(next);
}

/// Calls `check` with every way in which `uncertain` can end, or with `most` of them spread over all if there are more.
fn every_outcome(uncertain: &[Uncertain], most: u64, mut check: impl FnMut(&[usize])) {
    let total = uncertain.iter().fold(1_u64, |total, one| {
        total.saturating_mul(one.outcomes as u64)
    });
    let count = total.min(most);
    let mut random = Random(total);
    for n in 0..count {
        let mut pick = match (total <= most, n) {
            (true, n) => n,
            // All as last synced, all as last written.
            (false, 0) => 0,
            (false, 1) => total - 1,
            (false, _) => random.next() % total,
        };
        let mut outcomes = Vec::with_capacity(uncertain.len());
        for one in uncertain {
            outcomes.push((pick % one.outcomes as u64) as usize);
            pick /= one.outcomes as u64;
        }
        check(&outcomes);
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn done() -> super::Done {
    Box::new(|result| result.unwrap())
}

#[test]
fn a_life_is_remembered() {
    let disk = ModelDisk::new();
    let truth = live(&disk, &life());
    assert_eq!(truth.acknowledged, truth.states.len() - 1, "nothing failed");
    let (_, _, found) = open(&disk.after_kill()).unwrap();
    assert_eq!(found, *truth.states.last().unwrap());
    let names = disk.list().unwrap();
    assert!(!names.contains(&"0000000001.log".to_owned()), "{names:?}");
}

#[test]
fn an_entry_as_large_as_several_segments_has_one_of_its_own() {
    let disk = ModelDisk::new();
    let steps = vec![
        Step::Group(vec![append(1, 0, 100_000), append(1, 1, 5)]),
        Step::Group(vec![append(1, 2, 5)]),
    ];
    let truth = live(&disk, &steps);
    let (_, _, found) = open(&disk.after_kill()).unwrap();
    assert_eq!(found, truth.states[3]);
    assert_eq!(found.1[0].body.len(), 100_000);
}

#[test]
fn an_empty_body_is_an_entry() {
    let blank = LogEntry {
        id: id(1, 0),
        kind: Kind::Blank,
        body: Bytes::new(),
    };
    let disk = ModelDisk::new();
    live(&disk, &[Step::Group(vec![Op::Append(blank.clone())])]);
    let (log, ..) = open(&disk.after_kill()).unwrap();
    assert_eq!(log.read(0..1, 0).unwrap(), [blank]);
}
