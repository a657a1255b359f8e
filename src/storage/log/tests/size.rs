//! How much of the log is purged, by bytes.

use super::*;

/// A log of 40 entries, each a write of its own and a block of its disk, so that a segment holds four.
fn forty() -> (Log, Writer<ModelDisk>) {
    let (log, mut writer) = Log::with_writer(ModelDisk::new(), UUID, small()).unwrap();
    for index in 0..40 {
        log.append(vec![entry(1, index, 100)], done());
        writer.step().unwrap();
    }
    (log, writer)
}

const BLOCK: u64 = 4096;
const SEGMENT: u64 = 5 * BLOCK;

#[test]
fn an_empty_log_has_nothing_to_purge() {
    let (log, _writer) = Log::with_writer(ModelDisk::new(), UUID, small()).unwrap();
    assert_eq!((log.bytes_from(0), log.purgeable(0)), (0, None));
}

#[test]
fn what_was_written_since_an_entry_is_counted_in_bytes_of_the_disk() {
    let (log, _writer) = forty();
    assert_eq!(log.bytes_from(40), 0);
    assert!(log.bytes_from(39) < BLOCK);
    // Within a segment a block an entry, and the head of each segment in between.
    let between = |from: u64, to: u64| log.bytes_from(from) - log.bytes_from(to);
    assert_eq!(between(36, 39), 3 * BLOCK);
    assert_eq!(between(4, 8), SEGMENT);
    assert_eq!(between(0, 36), 9 * SEGMENT);
    assert!(log.bytes_from(0) <= log.disk_bytes());
}

#[test]
fn what_may_be_purged_is_all_of_the_segments_beyond_those_to_keep() {
    let (log, _writer) = forty();
    // The last one is full: entries 36 to 39.
    assert_eq!(log.purgeable(0), Some(35));
    assert_eq!(log.purgeable(SEGMENT - BLOCK), Some(35));
    assert_eq!(log.purgeable(SEGMENT), Some(31));
    assert_eq!(log.purgeable(3 * SEGMENT - BLOCK), Some(27));
    assert_eq!(log.purgeable(10 * SEGMENT), None);
    assert_eq!(log.purgeable(u64::MAX), None);
}

#[test]
fn purging_what_may_be_purged_leaves_what_was_to_be_kept_and_little_more() {
    let (log, mut writer) = forty();
    for keep in [6 * SEGMENT, 2 * SEGMENT + 1, 0] {
        let upto = log.purgeable(keep).unwrap();
        log.purge(id(1, upto));
        writer.step().unwrap();
        assert!(log.bytes_from(0) + 2 * BLOCK >= keep, "too much was purged");
        assert!(
            log.disk_bytes() <= keep + 2 * SEGMENT,
            "{} of {keep}",
            log.disk_bytes()
        );
        assert_eq!(log.purgeable(keep), None, "nothing is left to purge");
    }
    assert_eq!(log.read(0..40, u64::MAX).unwrap().len() as u64, 4);
}
