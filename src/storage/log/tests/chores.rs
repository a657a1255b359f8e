//! The segment that is made before it is needed.

use std::io;

use super::*;
use crate::storage::log::chores::{Next, Outcome};
use crate::storage::log::scan::SPARE;

/// 64 steps of one block.
const LONG: u64 = 64 * 4096;

/// Has the chores run that are due; whether there were any.
fn chores(wal: &mut Wal<ModelDisk>) -> bool {
    let Some(chores) = wal.take_chores() else {
        return false;
    };
    wal.chores_done(chores.run()).unwrap();
    true
}

fn names(disk: &ModelDisk) -> Vec<String> {
    let mut names = Disk::list(disk).unwrap();
    names.sort();
    names
}

#[test]
fn the_next_segment_grows_from_the_first_to_the_third_quarter_of_this_one() {
    let disk = ModelDisk::new();
    let mut next = Next::Missing;
    let mut done = Vec::new();
    for offset in (4096..=LONG).step_by(4096) {
        let Some(prepare) = next.due(offset, LONG, LONG) else {
            continue;
        };
        assert!(
            next.due(offset, LONG, LONG).is_none(),
            "it is being worked at"
        );
        let spare = prepare.run(&disk).unwrap();
        assert!(
            spare.ready() > done.last().map_or(0, |(_, ready)| *ready),
            "work that is none is not handed out"
        );
        done.push((offset, spare.ready()));
        next = Next::Here(spare);
    }
    assert_eq!(done.first().unwrap().0, LONG / 4 + 4096);
    assert_eq!(done.last().unwrap(), &(LONG * 3 / 4, LONG));
    assert!(done.len() >= 32, "in small steps: {done:?}");
    let largest = done.windows(2).map(|two| two[1].1 - two[0].1).max();
    assert_eq!(largest, Some(2 * 4096));
}

#[test]
fn a_segment_that_fills_before_the_next_is_ready_completes_it() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 0, 3000)]).unwrap();
    assert!(chores(&mut wal), "a first piece");
    assert!(!chores(&mut wal), "no more until the segment fills further");
    assert!(names(&disk).contains(&SPARE.to_owned()));
    for index in 1..5 {
        wal.write_group(&[append(1, index, 3000)]).unwrap();
    }
    assert!(!names(&disk).contains(&SPARE.to_owned()), "it was taken");
    let (_, _, (shape, entries)) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!((shape.end(), entries.len()), (5, 5));
}

#[test]
fn a_segment_that_fills_while_the_next_is_worked_at_makes_its_own() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 0, 3000)]).unwrap();
    let away = wal.take_chores().unwrap();
    for index in 1..5 {
        wal.write_group(&[append(1, index, 3000)]).unwrap();
    }
    assert!(wal.take_chores().is_none(), "one at a time");
    wal.chores_done(away.run()).unwrap();
    for index in 5..9 {
        wal.write_group(&[append(1, index, 3000)]).unwrap();
        chores(&mut wal);
    }
    let (_, _, (shape, entries)) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!((shape.end(), entries.len()), (9, 9));
}

#[test]
fn a_spare_that_cannot_be_made_leaves_nothing_and_is_tried_again_for_the_next_segment() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 0, 3000)]).unwrap();
    let due = wal.take_chores().unwrap();
    disk.fail_at(disk.operations() + 1);
    let outcome: io::Result<Outcome> = due.run();
    assert!(matches!(outcome, Ok(Outcome::NoSpare)));
    wal.chores_done(outcome).unwrap();
    assert!(!names(&disk).contains(&SPARE.to_owned()));
    assert!(wal.take_chores().is_none(), "given up for this segment");
    for index in 1..6 {
        wal.write_group(&[append(1, index, 3000)]).unwrap();
    }
    assert!(chores(&mut wal), "tried again");
    assert!(names(&disk).contains(&SPARE.to_owned()));
}
