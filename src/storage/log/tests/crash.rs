//! Power cuts and kills, at every operation of the disk, with everything they may take.

use super::*;
use crate::storage::log::verify_on;
use crate::storage::log::witness;

/// Checks that the log on `disk` holds everything acknowledged and nothing that was never written, that it can go on, and
/// that a power cut then takes nothing more.
fn check(disk: &ModelDisk, truth: &Truth) {
    let report = verify_on(disk).unwrap();
    let (log, mut writer, mut found) = open(disk).unwrap();
    assert!(
        truth.find(&found).is_some(),
        "acknowledged {}: {found:?}",
        truth.acknowledged
    );
    assert!(report.node_uuid.is_none() || report.state == found.0.state);
    let cut = disk.after_power_cut(&[], &[]);
    assert_eq!(
        open(&cut).unwrap().2,
        found,
        "what was recovered is durable"
    );
    go_on(&log, &mut writer, &mut found);
    let cut = disk.after_power_cut(&[], &[]);
    assert_eq!(open(&cut).unwrap().2, found, "and so is what came after");
}

#[test]
fn a_power_cut_anywhere_takes_nothing_acknowledged() {
    let (mut points, mut images) = (0, 0);
    loop {
        let disk = ModelDisk::new();
        disk.stop_at(points);
        let truth = live(&disk, &life());
        let uncertain = disk.uncertain();
        every_outcome(&uncertain, 400, |outcomes| {
            images += 1;
            check(&disk.after_power_cut(&uncertain, outcomes), &truth);
        });
        if disk.operations() < points {
            break;
        }
        points += 1;
    }
    println!("{points} crash points, {images} images");
    assert!(points > 80 && images > 1000);
}

#[test]
fn a_kill_anywhere_takes_nothing_acknowledged_and_the_witness_is_exact() {
    let mut point = 0;
    loop {
        let disk = ModelDisk::new();
        disk.stop_at(point);
        let truth = live(&disk, &life());
        let killed = disk.after_kill();
        if truth.acknowledged > 0 {
            let (seen, _) = witness::load(&killed).unwrap();
            let told: Vec<_> = truth.states[truth.acknowledged..]
                .iter()
                .map(|(shape, _)| shape.state)
                .collect();
            let says = |state: &super::super::LogState| {
                (seen.vote, seen.last, seen.purged) == (state.vote, state.last, state.purged)
            };
            assert!(
                told.iter().any(says),
                "the witness knows everything acknowledged: {seen:?}"
            );
        }
        check(&killed, &truth);
        if disk.operations() < point {
            break;
        }
        point += 1;
    }
}

#[test]
fn a_power_cut_while_opening_takes_nothing_acknowledged() {
    let (mut point, mut images) = (0, 0);
    loop {
        let first = ModelDisk::new();
        first.stop_at(point);
        let truth = live(&first, &life());
        let uncertain = first.uncertain();
        let mut starts = vec![first.after_kill()];
        every_outcome(&uncertain, 3, |outcomes| {
            starts.push(first.after_power_cut(&uncertain, outcomes))
        });
        for start in starts {
            for again in 0.. {
                let disk = start.after_kill();
                disk.stop_at(again);
                let opened = open(&disk).is_ok();
                let uncertain = disk.uncertain();
                every_outcome(&uncertain, 6, |outcomes| {
                    images += 1;
                    check(&disk.after_power_cut(&uncertain, outcomes), &truth);
                });
                if opened {
                    break;
                }
            }
        }
        if first.operations() < point {
            break;
        }
        // Every second point: the states between are alike, and there are two crashes to combine.
        point += 2;
    }
    println!("{images} images");
    assert!(images > 5000);
}

#[test]
fn an_acknowledgement_comes_after_the_sync() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    for index in 0..4 {
        let (disk, send) = (disk.clone(), send.clone());
        let told = move |result: std::io::Result<()>| {
            result.unwrap();
            let cut = disk.after_power_cut(&[], &[]);
            send.send(open(&cut).unwrap().2.1.len()).unwrap();
        };
        log.append(vec![entry(1, index, 300)], Box::new(told));
        if index % 2 == 1 {
            writer.step().unwrap();
        }
    }
    let durable: Vec<usize> = receive.try_iter().collect();
    assert_eq!(durable, [2, 2, 4, 4]);
}

#[test]
fn a_torn_tail_beyond_the_witness_is_cut_and_a_copy_kept() {
    let disk = ModelDisk::new();
    let steps = [
        Step::Group(vec![append(1, 0, 100)]),
        Step::SyncWitness,
        Step::Group(vec![append(1, 1, 9000)]),
    ];
    // Dies after the write of the second group, before its sync.
    let before = {
        let disk = ModelDisk::new();
        live(&disk, &steps[..2]);
        disk.operations()
    };
    disk.stop_at(before + 1);
    let truth = live(&disk, &steps);
    assert_eq!(truth.acknowledged, 1);
    // Everything of it reached the disk but the last sector.
    let uncertain = disk.uncertain();
    let mut outcomes: Vec<usize> = uncertain.iter().map(|one| one.outcomes - 1).collect();
    *outcomes.last_mut().unwrap() = 0;
    let cut = disk.after_power_cut(&uncertain, &outcomes);
    assert!(verify_on(&cut).unwrap().torn_bytes > 8000);
    let (_, _, found) = open(&cut).unwrap();
    assert_eq!(found, truth.states[1]);
    let names = cut.list().unwrap();
    let copy = names
        .iter()
        .find(|name| name.starts_with("torn-1-"))
        .unwrap();
    assert!(cut.content(copy).len() > 8000);
    assert_eq!(verify_on(&cut).unwrap().torn_bytes, 0);
}

#[test]
fn a_log_closed_in_good_order_is_opened_without_writing_its_tail_anew() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 0, 10)]).unwrap();
    wal.close().unwrap();
    assert!(verify_on(&disk).unwrap().is_clean);
    let again = disk.after_power_cut(&[], &[]);
    let (.., found) = open(&again).unwrap();
    assert_eq!(found.1, [entry(1, 0, 10)]);
    assert_eq!(
        again.operations(),
        3,
        "names are synced, the witness is written and synced, nothing else"
    );
    let killed = disk.after_kill();
    let (mut wal, _) = Wal::open(killed.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 1, 10)]).unwrap();
    assert!(!verify_on(&killed.after_kill()).unwrap().is_clean);
}
