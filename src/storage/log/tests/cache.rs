//! What is in memory, what is read from the disk, and how much of either.

use super::*;

fn with_cache(cache_bytes: u64) -> (Log, Writer<ModelDisk>) {
    let options = Options {
        cache_bytes,
        ..small()
    };
    Log::with_writer(ModelDisk::new(), UUID, options).unwrap()
}

fn bytes(log: &Log) -> u64 {
    log.handle.shared.lock().cache.bytes()
}

#[test]
fn the_cache_keeps_to_its_bound_but_holds_everything_unflushed() {
    let (log, mut writer) = with_cache(5000);
    log.append((0..20).map(|index| entry(1, index, 1000)).collect(), done());
    assert_eq!(bytes(&log), 20 * 1064);
    assert!(log.is_cached(0..20));
    let batch = writer.take();
    log.append(
        (20..30).map(|index| entry(1, index, 1000)).collect(),
        done(),
    );
    assert_eq!(bytes(&log), 30 * 1064);
    let result = writer.write(&batch);
    writer.finish(batch, result).unwrap();
    assert_eq!(
        bytes(&log),
        10 * 1064,
        "only what is not written is beyond the bound"
    );
    assert!(log.is_cached(20..30) && !log.is_cached(19..30));
    writer.step().unwrap();
    assert_eq!(bytes(&log), 4 * 1064);
    log.append(vec![entry(1, 30, 2000)], done());
    assert!(bytes(&log) <= 5000);
    let all = log.read(0..31, u64::MAX).unwrap();
    assert_eq!(all.len(), 31);
    assert!(
        all.iter()
            .zip(0..)
            .all(|(found, index)| found.id.index == index)
    );
}

#[test]
fn empty_entries_count_too() {
    let (log, mut writer) = with_cache(640);
    log.append((0..1000).map(|index| entry(1, index, 0)).collect(), done());
    writer.step().unwrap();
    assert_eq!(bytes(&log), 640);
}

#[test]
fn memory_and_disk_give_the_same() {
    let (log, mut writer) = with_cache(u64::MAX);
    let (other, mut other_writer) = with_cache(0);
    let entries: Vec<_> = (0..40)
        .map(|index| entry(1, index, (index as usize * 997) % 7000))
        .collect();
    for (log, writer) in [(&log, &mut writer), (&other, &mut other_writer)] {
        for chunk in entries.chunks(3) {
            log.append(chunk.to_vec(), done());
            writer.step().unwrap();
        }
    }
    assert!(log.is_cached(0..40) && !other.is_cached(0..1) && !other.is_cached(39..40));
    for (start, end, most) in [
        (0, 40, u64::MAX),
        (3, 17, u64::MAX),
        (5, 40, 9000),
        (39, 99, 0),
        (40, 50, 9),
    ] {
        let from_memory = log.read(start..end, most).unwrap();
        assert_eq!(other.read(start..end, most).unwrap(), from_memory);
        if most == u64::MAX {
            assert_eq!(from_memory, entries[start as usize..end.min(40) as usize]);
        }
    }
}

#[test]
fn a_read_is_bounded_but_gives_at_least_one() {
    for cache_bytes in [0, u64::MAX] {
        let (log, mut writer) = with_cache(cache_bytes);
        log.append((0..9).map(|index| entry(1, index, 1000)).collect(), done());
        writer.step().unwrap();
        assert_eq!(log.read(2..9, 0).unwrap(), [entry(1, 2, 1000)]);
        assert_eq!(log.read(2..9, 2500).unwrap().len(), 2);
        assert_eq!(log.read(2..5, u64::MAX).unwrap().len(), 3);
        assert!(log.read(9..20, u64::MAX).unwrap().is_empty());
        assert!(log.read(0..0, u64::MAX).unwrap().is_empty());
    }
}

#[test]
fn a_read_that_begins_before_the_purge_point_begins_after_it() {
    let (log, mut writer) = with_cache(u64::MAX);
    log.append((0..9).map(|index| entry(1, index, 10)).collect(), done());
    log.purge(id(1, 3));
    assert_eq!(
        log.read(0..6, u64::MAX).unwrap(),
        [entry(1, 4, 10), entry(1, 5, 10)]
    );
    writer.step().unwrap();
    assert_eq!(
        log.read(0..6, u64::MAX).unwrap(),
        [entry(1, 4, 10), entry(1, 5, 10)]
    );
    assert!(log.is_cached(0..9));
}

#[test]
fn a_reopened_log_has_its_end_in_memory() {
    let disk = ModelDisk::new();
    let steps: Vec<_> = (0..9)
        .map(|index| Step::Group(vec![append(1, index, 1000)]))
        .collect();
    live(&disk, &steps);
    let options = Options {
        cache_bytes: 3500,
        ..small()
    };
    let (log, _writer) = Log::with_writer(disk.after_kill(), UUID, options).unwrap();
    assert!(log.is_cached(6..9) && !log.is_cached(5..9));
    assert_eq!(log.read(0..9, u64::MAX).unwrap().len(), 9);
}

#[test]
fn segments_are_removed_once_all_of_them_is_purged_and_readers_keep_what_they_have() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    for index in 0..12 {
        log.append(vec![entry(1, index, 4100)], done());
        writer.step().unwrap();
    }
    let before = log.disk_bytes();
    log.purge(id(1, 9));
    writer.step().unwrap();
    let names = disk.list().unwrap();
    assert!(!names.contains(&"0000000001.log".to_owned()), "{names:?}");
    assert!(log.disk_bytes() < before / 2);
    assert_eq!(
        log.read(0..99, u64::MAX).unwrap(),
        [entry(1, 10, 4100), entry(1, 11, 4100)]
    );
    let (_, _, found) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!(found.0.state.purged, Some(id(1, 9)));
    assert_eq!(found.1.len(), 2);
}

#[test]
fn what_a_removed_segment_said_is_said_again_by_the_next() {
    let disk = ModelDisk::new();
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    log.save_vote(vote(9), done());
    for index in 0..30 {
        log.append(vec![entry(1, index, 4100)], done());
        log.save_committed(Some(id(1, index)));
        writer.step().unwrap();
        if index == 20 {
            log.purge(id(1, 20));
        }
    }
    let state = log.state();
    assert_eq!((state.vote, state.purged), (Some(vote(9)), Some(id(1, 20))));
    let (again, ..) = open(&disk.after_power_cut(&[], &[])).unwrap();
    assert_eq!(again.state(), state);
}
