//! What happens to the log while a write of it is under way.

use super::*;

fn start() -> (Log, Writer<ModelDisk>) {
    Log::with_writer(ModelDisk::new(), UUID, small()).unwrap()
}

fn flushed(log: &Log) -> Option<LogId> {
    *log.flushed().borrow()
}

#[test]
fn flushed_follows_the_disk_and_not_the_queue() {
    let (log, mut writer) = start();
    assert_eq!(flushed(&log), None);
    log.append(vec![entry(1, 0, 10), entry(1, 1, 10)], done());
    assert_eq!((flushed(&log), log.state().last), (None, Some(id(1, 1))));
    let batch = writer.take();
    log.append(vec![entry(1, 2, 10)], done());
    let result = writer.write(&batch);
    assert_eq!(flushed(&log), None, "written but not told");
    writer.finish(batch, result).unwrap();
    assert_eq!(flushed(&log), Some(id(1, 1)));
    writer.step().unwrap();
    assert_eq!(flushed(&log), Some(id(1, 2)));
}

#[test]
fn truncation_lowers_flushed_and_evicts_at_once() {
    let (log, mut writer) = start();
    log.append((0..5).map(|index| entry(1, index, 10)).collect(), done());
    writer.step().unwrap();
    assert_eq!(flushed(&log), Some(id(1, 4)));
    log.truncate_after(Some(id(1, 2)));
    assert_eq!(
        (flushed(&log), log.state().last),
        (Some(id(1, 2)), Some(id(1, 2)))
    );
    assert_eq!(log.read(0..9, u64::MAX).unwrap().len(), 3);
    log.truncate_after(None);
    assert_eq!((flushed(&log), log.state().last), (None, None));
    assert!(log.read(0..9, u64::MAX).unwrap().is_empty());
}

#[test]
fn a_sync_under_way_does_not_raise_flushed_to_a_truncated_entry() {
    let (log, mut writer) = start();
    log.append(vec![entry(1, 0, 10)], done());
    writer.step().unwrap();
    log.append(vec![entry(1, 1, 10), entry(1, 2, 10)], done());
    let batch = writer.take();
    let result = writer.write(&batch);
    log.truncate_after(Some(id(1, 0)));
    writer.finish(batch, result).unwrap();
    assert_eq!(flushed(&log), Some(id(1, 0)));
    assert_eq!(log.state().last, Some(id(1, 0)));
    assert_eq!(log.read(0..9, u64::MAX).unwrap(), [entry(1, 0, 10)]);
}

#[test]
fn an_entry_of_another_term_at_the_same_index_is_not_flushed_by_the_old_one() {
    let (log, mut writer) = start();
    log.append((0..3).map(|index| entry(1, index, 10)).collect(), done());
    let batch = writer.take();
    let result = writer.write(&batch);
    log.truncate_after(Some(id(1, 0)));
    log.append(vec![entry(2, 1, 20), entry(2, 2, 20)], done());
    writer.finish(batch, result).unwrap();
    assert_eq!(flushed(&log), Some(id(1, 0)));
    let wanted = [entry(1, 0, 10), entry(2, 1, 20), entry(2, 2, 20)];
    assert_eq!(
        log.read(0..9, u64::MAX).unwrap(),
        wanted,
        "the old ones' places are not read"
    );
    writer.step().unwrap();
    assert_eq!(flushed(&log), Some(id(2, 2)));
    assert_eq!(log.read(0..9, u64::MAX).unwrap(), wanted);
}

#[test]
fn the_lowest_of_several_truncations_during_a_sync_counts() {
    let (log, mut writer) = start();
    log.append((0..6).map(|index| entry(1, index, 10)).collect(), done());
    let batch = writer.take();
    let result = writer.write(&batch);
    log.truncate_after(Some(id(1, 1)));
    log.append(vec![entry(2, 2, 1), entry(2, 3, 1), entry(2, 4, 1)], done());
    log.truncate_after(Some(id(2, 3)));
    writer.finish(batch, result).unwrap();
    assert_eq!(flushed(&log), Some(id(1, 1)));
    writer.step().unwrap();
    assert_eq!(flushed(&log), Some(id(2, 3)));
}

#[test]
fn a_snapshot_raises_flushed_and_a_write_under_way_does_not_lower_it() {
    let (log, mut writer) = start();
    log.append(vec![entry(1, 0, 10)], done());
    let batch = writer.take();
    let result = writer.write(&batch);
    log.raise_flushed(id(3, 40));
    log.purge(id(3, 40));
    writer.finish(batch, result).unwrap();
    assert_eq!(flushed(&log), Some(id(3, 40)));
    assert_eq!(log.state().last, Some(id(3, 40)));
    log.append(vec![entry(3, 41, 10)], done());
    writer.step().unwrap();
    assert_eq!(flushed(&log), Some(id(3, 41)));
    assert_eq!(log.read(0..99, u64::MAX).unwrap(), [entry(3, 41, 10)]);
}

#[test]
fn completions_come_in_order_and_with_their_batch() {
    let (log, mut writer) = start();
    let (send, told) = std::sync::mpsc::channel();
    let tell = |n: u32| -> super::super::Done {
        let send = send.clone();
        Box::new(move |result| send.send((n, result.is_ok())).unwrap())
    };
    log.append(vec![entry(1, 0, 10)], tell(1));
    log.save_vote(vote(2), tell(2));
    let batch = writer.take();
    log.append(vec![entry(1, 1, 10)], tell(3));
    let result = writer.write(&batch);
    assert!(told.try_recv().is_err());
    writer.finish(batch, result).unwrap();
    assert_eq!(
        told.try_iter().collect::<Vec<_>>(),
        [(1, true), (2, true)],
        "3 was not in that sync"
    );
    writer.step().unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(3, true)]);
}

#[test]
fn unflushed_bytes_and_age_count_the_queue_and_what_is_under_way() {
    let (log, mut writer) = start();
    assert_eq!(
        (log.unflushed_bytes(), log.oldest_unflushed()),
        (0, Duration::ZERO)
    );
    log.save_committed(None);
    log.append(vec![entry(1, 0, 1000)], done());
    let one = log.unflushed_bytes();
    assert!((1000..1100).contains(&one));
    let batch = writer.take();
    assert_eq!(log.unflushed_bytes(), one);
    assert!(
        log.oldest_unflushed() > Duration::ZERO,
        "nothing waits, and one is under way"
    );
    log.append(vec![entry(1, 1, 1000)], done());
    assert_eq!(log.unflushed_bytes(), 2 * one);
    let age = log.oldest_unflushed();
    assert!(age > Duration::ZERO && log.oldest_unflushed() >= age);
    let result = writer.write(&batch);
    writer.finish(batch, result).unwrap();
    assert_eq!(log.unflushed_bytes(), one);
    writer.step().unwrap();
    assert_eq!(
        (log.unflushed_bytes(), log.oldest_unflushed()),
        (0, Duration::ZERO)
    );
}

#[test]
fn committed_rides_along_and_never_survives_above_an_entry() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    log.append(vec![entry(1, 0, 10), entry(1, 1, 10)], done());
    writer.step().unwrap();
    let written = disk.operations();
    log.save_committed(Some(id(1, 1)));
    assert_eq!(log.state().committed, Some(id(1, 1)));
    assert_eq!(
        log.oldest_unflushed(),
        Duration::ZERO,
        "nobody waits for it"
    );
    assert_eq!(disk.operations(), written);
    log.append(vec![entry(1, 2, 10)], done());
    writer.step().unwrap();
    log.save_committed(Some(id(1, 9)));
    assert_eq!(
        log.state().committed,
        Some(id(1, 2)),
        "not above the last entry"
    );
    writer.step().unwrap();
    let (again, ..) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!(again.state().committed, Some(id(1, 2)));
}

#[test]
#[should_panic(expected = "after Some")]
fn an_entry_that_leaves_a_hole_is_refused() {
    let (log, _writer) = start();
    log.append(vec![entry(1, 0, 10), entry(1, 2, 10)], done());
}

#[test]
fn any_mix_of_operations_and_moments_reads_as_a_plain_list_would() {
    for seed in 0..300 {
        mix(seed);
    }
}

/// Random operations, with the writer at random stages, against a vector; reopened at the end.
fn mix(seed: u64) {
    let mut random = Random(seed);
    let disk = ModelDisk::new();
    let options = Options {
        cache_bytes: random.next() % 4000,
        ..small()
    };
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, options).unwrap();
    let (mut list, mut term, mut purged) = (Vec::<LogEntry>::new(), 1, None::<LogId>);
    let mut under_way = None;
    for _ in 0..60 {
        let last = list.last().map(|entry| entry.id).or(purged);
        match random.next() % 8 {
            0..=2 => {
                let next = last.map_or(0, |last| last.index + 1);
                let count = random.next() % 4;
                let new: Vec<_> = (next..next + count)
                    .map(|index| entry(term, index, (random.next() % 3000) as usize))
                    .collect();
                list.extend(new.clone());
                log.append(new, done());
            }
            3 if !list.is_empty() => {
                let keep = random.next() as usize % list.len();
                list.truncate(keep);
                log.truncate_after(list.last().map(|entry| entry.id).or(purged));
                term += 1;
            }
            4 if list.len() > 4 => {
                let upto = list[random.next() as usize % 3].id;
                list.retain(|entry| entry.id.index > upto.index);
                purged = Some(upto);
                log.purge(upto);
            }
            5 => log.save_vote(vote(term), done()),
            _ => match under_way.take() {
                None => {
                    let batch = writer.take();
                    let result = writer.write(&batch);
                    under_way = Some((batch, result));
                }
                Some((batch, result)) => writer.finish(batch, result).unwrap(),
            },
        }
        assert_eq!(
            log.read(0..u64::MAX, u64::MAX).unwrap(),
            list,
            "seed {seed}"
        );
        let last = list.last().map(|entry| entry.id).or(purged);
        assert_eq!(log.state().last, last, "seed {seed}");
        assert!(flushed(&log) <= last, "seed {seed}: never beyond the log");
    }
    if let Some((batch, result)) = under_way {
        writer.finish(batch, result).unwrap();
    }
    writer.step().unwrap();
    assert_eq!(flushed(&log), log.state().last);
    let (again, _, (_, entries)) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!((entries, again.state()), (list, log.state()), "seed {seed}");
}

#[test]
fn what_was_cut_below_a_snapshot_is_not_flushed_by_it() {
    let (log, mut writer) = Log::with_writer(ModelDisk::new(), UUID, small()).unwrap();
    log.append((0..9).map(|index| entry(1, index, 10)).collect(), done());
    writer.step().unwrap();
    log.raise_flushed(id(1, 8));
    log.truncate_after(Some(id(1, 5)));
    assert_eq!(*log.flushed().borrow(), Some(id(1, 5)));
    log.save_vote(vote(2), done());
    writer.step().unwrap();
    assert_eq!(*log.flushed().borrow(), Some(id(1, 5)));
}
