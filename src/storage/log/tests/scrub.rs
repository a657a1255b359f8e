//! Closed segments are read again, and what rotted in them is found.

use super::*;

/// A log of several closed segments on `disk`, in use.
fn forty(disk: &ModelDisk) -> (Log, Writer<ModelDisk>) {
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, small()).unwrap();
    for index in 0..40 {
        log.append(vec![entry(1, index, 100)], done());
        writer.step().unwrap();
    }
    (log, writer)
}

#[test]
fn a_flipped_byte_of_what_was_written_to_a_closed_segment_is_found_with_its_place() {
    let disk = ModelDisk::new();
    let (log, _writer) = forty(&disk);
    let mut bytes = 0;
    log.scrub(&mut |read| {
        bytes += read;
        true
    })
    .unwrap();
    assert!(bytes > 30 * 4096);
    let name = "0000000002.log";
    for at in [0, 9, 100, 4096, 4100, 4096 + 200, 2 * 4096 + 60] {
        let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 0x40;
        disk.damage(name, flip);
        let found = log.scrub(&mut |_| true);
        disk.damage(name, flip);
        match found {
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
            // Between records there is nothing that anybody reads.
            Ok(()) => assert_eq!(disk.content(name)[at], 0, "{at}"),
        }
    }
    log.scrub(&mut |_| true).unwrap();
}

#[test]
fn a_pace_that_says_so_ends_it() {
    let disk = ModelDisk::new();
    let (log, _writer) = forty(&disk);
    let mut calls = 0;
    log.scrub(&mut |_| {
        calls += 1;
        calls < 3
    })
    .unwrap();
    assert_eq!(calls, 3);
}

#[test]
fn records_longer_than_what_is_read_at_once_are_followed_too() {
    let disk = ModelDisk::new();
    let options = Options {
        segment_bytes: 8 << 20,
        ..small()
    };
    let (log, mut writer) = Log::with_writer(disk.clone(), UUID, options).unwrap();
    for (index, length) in (0..).zip([700_000, 3_000_000, 100, 1_048_000, 900_000].repeat(3)) {
        log.append(vec![entry(1, index, length)], done());
        writer.step().unwrap();
    }
    let (mut bytes, mut most) = (0, 0);
    log.scrub(&mut |read| {
        (bytes, most) = (bytes + read, most.max(read));
        true
    })
    .unwrap();
    assert!(bytes > 8 << 20, "{bytes}");
    assert!(most <= 1 << 20, "{most} bytes at once");
    let name = "0000000001.log";
    for at in [1 << 20, (1 << 20) - 1, 2 << 20, 3_000_000, 5_000_000] {
        let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 0x40;
        disk.damage(name, flip);
        let found = log.scrub(&mut |_| true).unwrap_err().to_string();
        disk.damage(name, flip);
        assert!(found.contains(name), "{found}");
    }
    log.scrub(&mut |_| true).unwrap();
}
