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
