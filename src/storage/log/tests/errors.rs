//! Errors of the disk: nothing is acknowledged any more, and nothing is written any more.

use std::sync::mpsc;
use std::time::Instant;

use super::*;
use crate::storage::log::model::ModelDisk;

#[test]
fn after_any_error_the_log_is_failed_for_good_and_its_files_are_left_alone() {
    let whole = ModelDisk::new();
    live(&whole, &life());
    for failing in 0..whole.operations() {
        let disk = ModelDisk::new();
        disk.fail_at(failing);
        let truth = live(&disk, &life());
        let complete = truth.acknowledged == truth.states.len() - 1;
        if !complete {
            assert_eq!(disk.operations_after_failure(), 0, "operation {failing}");
        }
        // The next process finds what was acknowledged, in the memory of the operating system if not on the disk...
        let next = disk.after_kill();
        let (log, mut writer, mut found) = open(&next).unwrap();
        assert!(
            truth.find(&found).is_some(),
            "operation {failing}: {found:?}"
        );
        // ... and what it found is on the disk, though the sync that failed is not reported again.
        let cut = next.after_power_cut(&[], &[]);
        assert_eq!(open(&cut).unwrap().2, found, "operation {failing}");
        go_on(&log, &mut writer, &mut found);
        assert_eq!(open(&next.after_power_cut(&[], &[])).unwrap().2, found);
    }
}

#[test]
fn a_failed_write_group_makes_every_later_one_fail() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    disk.fail_at(disk.operations() + 1);
    let sync_failed = wal
        .write_group(&[append(1, 0, 10)])
        .map(|_| ())
        .unwrap_err();
    assert_eq!(sync_failed.to_string(), "injected disk error");
    assert!(wal.write_group(&[append(1, 1, 10)]).is_err());
    assert!(wal.sync_witness().is_err());
    assert!(wal.take_chores().is_none());
    assert!(wal.close().is_err());
    assert_eq!(disk.operations_after_failure(), 0);
}

#[test]
fn everybody_who_waits_or_comes_later_learns_of_a_failure() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    let failure = log.failure();
    let (send, told) = mpsc::channel();
    let tell = |name: &'static str| -> super::super::Done {
        let send = send.clone();
        Box::new(move |result| {
            send.send((name, result.map_err(|error| error.to_string())))
                .unwrap()
        })
    };
    log.append(vec![entry(1, 0, 10)], tell("before"));
    writer.step().unwrap();
    disk.fail_at(disk.operations() + 1);
    log.append(vec![entry(1, 1, 10)], tell("in flight"));
    let batch = writer.take();
    let result = writer.write(&batch);
    log.save_vote(vote(4), tell("queued"));
    assert!(writer.finish(batch, result).is_err());
    log.append(vec![entry(1, 2, 10)], tell("later"));
    assert!(writer.step().is_err());
    let told: Vec<_> = told.try_iter().collect();
    let failed = || Err("injected disk error".to_owned());
    let wanted = [
        ("before", Ok(())),
        ("in flight", failed()),
        ("queued", failed()),
        ("later", failed()),
    ];
    assert_eq!(told, wanted);
    assert_eq!(log.poisoned(), Some("injected disk error".to_owned()));
    assert!(failure.has_changed().unwrap());
    assert_eq!(
        *log.flushed().borrow(),
        Some(id(1, 0)),
        "what failed was never flushed"
    );
    assert_eq!(disk.operations_after_failure(), 0);
    assert_eq!(log.oldest_unflushed(), Duration::ZERO);
}

#[test]
fn the_thread_reports_a_failure_and_ends() {
    let disk = ModelDisk::new();
    let log = Log::start(disk.clone(), UUID, small()).unwrap();
    disk.fail_at(disk.operations());
    let (send, told) = mpsc::channel();
    log.append(
        vec![entry(1, 0, 10)],
        Box::new(move |result| send.send(result.is_err()).unwrap()),
    );
    assert!(told.recv().unwrap());
    log.close();
    assert!(log.poisoned().is_some());
    assert_eq!(
        disk.operations_after_failure(),
        0,
        "closing a failed log writes nothing"
    );
}

#[test]
fn an_entry_damaged_on_the_disk_is_an_error_when_it_is_read() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    log.append((0..3).map(|index| entry(1, index, 200)).collect(), done());
    writer.step().unwrap();
    assert_eq!(log.read(0..3, u64::MAX).unwrap().len(), 3);
    disk.damage("0000000001.log", |bytes| bytes[4096 + 72 + 257 + 100] ^= 4);
    assert_eq!(log.read(0..1, u64::MAX).unwrap(), [entry(1, 0, 200)]);
    let error = log.read(0..3, u64::MAX).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("entry 1 is damaged"), "{error}");
}

#[test]
fn a_witness_that_cannot_be_synced_fails_the_log_as_a_write_would() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    log.append(vec![entry(1, 0, 10)], done());
    writer.step().unwrap();
    let (send, told) = mpsc::channel();
    log.append(
        vec![entry(1, 1, 10)],
        Box::new(move |result| send.send(result.is_err()).unwrap()),
    );
    disk.fail_at(disk.operations());
    assert!(writer.sync_witness().is_err());
    assert_eq!(told.try_recv(), Ok(true), "who waits is told");
    assert_eq!(log.poisoned(), Some("injected disk error".to_owned()));
}

#[test]
fn a_writer_that_panics_fails_the_log_and_who_comes_later_learns_of_it() {
    let log = Log::start(ModelDisk::new(), UUID, small()).unwrap();
    log.append(
        vec![entry(1, 0, 10)],
        Box::new(|_| panic!("on purpose, on the writer's thread")),
    );
    let patience = Instant::now() + Duration::from_secs(30);
    while log.poisoned().is_none() {
        assert!(Instant::now() < patience, "the log counts as working");
        std::thread::yield_now();
    }
    assert_eq!(log.poisoned(), Some("the log's writer panicked".to_owned()));
    let (send, told) = mpsc::channel();
    log.append(
        vec![entry(1, 1, 10)],
        Box::new(move |result| send.send(result.is_err()).unwrap()),
    );
    assert_eq!(told.try_recv(), Ok(true));
}

#[test]
fn another_entry_in_the_place_of_one_is_an_error_when_it_is_read() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    log.append((0..3).map(|index| entry(1, index, 200)).collect(), done());
    writer.step().unwrap();
    // A write that went astray: each record is whole, and one stands where another should.
    let (first, length) = (4096 + 72, 257);
    disk.damage("0000000001.log", |bytes| {
        bytes.copy_within(first..first + length, first + length);
    });
    assert_eq!(log.read(0..1, u64::MAX).unwrap(), [entry(1, 0, 200)]);
    let error = log.read(1..2, u64::MAX).unwrap_err().to_string();
    assert!(
        error.contains("entry 1 is damaged") && error.contains("another entry"),
        "{error}"
    );
}
