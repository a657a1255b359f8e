//! Every bit of a small log and of its witness, flipped.

use super::*;
use crate::storage::log::disk::Disk;
use crate::storage::log::scan::scan;

/// A log of a few entries in two segments.
fn short_life() -> Vec<Step> {
    vec![
        Step::Group(vec![Op::Vote(vote(1)), append(1, 0, 60), append(1, 1, 90)]),
        Step::SyncWitness,
        Step::Group(vec![append(1, 2, 4300), Op::Committed(Some(id(1, 1)))]),
        Step::Group(vec![Op::Truncate(Some(id(1, 1))), append(2, 2, 33)]),
        Step::Group(vec![Op::Purge(id(1, 0)), Op::Vote(vote(2))]),
    ]
}

/// Flips every bit of `disk` in turn. Opening must refuse, or give `wanted`. Gives how often it refused.
fn flip_all(disk: &ModelDisk, wanted: &(Shape, Vec<LogEntry>)) -> (u64, u64) {
    let (mut flips, mut refused) = (0, 0);
    for name in disk.list().unwrap() {
        let bits = disk.content(&name).len() as u64 * 8;
        for bit in 0..bits {
            let flip = |bytes: &mut Vec<u8>| bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            disk.damage(&name, flip);
            flips += 1;
            match scan(disk, Some(UUID)) {
                Err(_) => refused += 1,
                Ok(scan) => assert_eq!(scan.shape, wanted.0, "{name}, bit {bit}"),
            }
            // The full opening writes; it is tried on a copy, for every bit of what says most and some of the rest.
            if (bit % 97 == 0 || bit < 4096)
                && let Ok((_, _, found)) = open(&disk.after_kill())
            {
                assert_eq!(found, *wanted, "{name}, bit {bit}");
            }
            disk.damage(&name, flip);
        }
    }
    println!("{flips} flips, {refused} refused");
    (flips, refused)
}

#[test]
fn a_flipped_bit_of_a_killed_node_is_refused_or_does_no_harm() {
    let disk = ModelDisk::new();
    let truth = live(&disk, &short_life());
    let wanted = truth.states.last().unwrap();
    let (flips, refused) = flip_all(&disk, wanted);
    assert!(flips > 100_000 && refused > 50_000 && refused < flips);
}

#[test]
fn a_flipped_bit_of_a_closed_log_is_refused_or_does_no_harm() {
    let disk = ModelDisk::new();
    let truth = live(&disk, &short_life()[..3]);
    let (wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.close().unwrap();
    flip_all(&disk, &truth.states[truth.acknowledged]);
}

#[test]
fn after_a_power_cut_a_flipped_bit_before_the_last_group_is_refused_though_the_witness_is_older() {
    let disk = ModelDisk::new();
    // The witness is not synced after the first two groups: the power cut sets it back.
    let steps: Vec<Step> = (0..4)
        .map(|index| Step::Group(vec![append(1, index, 60)]))
        .collect();
    let truth = live(&disk, &steps);
    let cut = disk.after_power_cut(&[], &[]);
    assert_eq!(
        crate::storage::log::witness::load(&cut).unwrap().0.last,
        None
    );
    let wanted = truth.states.last().unwrap();
    let name = "0000000001.log";
    for bit in 0..4 * 4096 * 8 {
        let flip = |bytes: &mut Vec<u8>| bytes[bit / 8] ^= 1 << (bit % 8);
        cut.damage(name, flip);
        if let Ok(scan) = scan(&cut, Some(UUID)) {
            panic!("bit {bit} was not missed: {:?} of {wanted:?}", scan.shape);
        }
        cut.damage(name, flip);
    }
    assert_eq!(
        scan(&cut, Some(UUID))
            .map_err(|error| error.0)
            .unwrap()
            .shape,
        wanted.0
    );
}
