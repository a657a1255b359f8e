//! Damage with a name: what a directory must not be opened with, and what the refusal says.

use super::*;
use crate::storage::log::disk::Disk;
use crate::storage::log::verify_on;

/// A log in several segments, killed.
fn killed() -> (ModelDisk, Vec<String>) {
    let disk = ModelDisk::new();
    let steps: Vec<Step> = (0..9)
        .map(|index| Step::Group(vec![append(1, index, 4100)]))
        .collect();
    live(&disk, &steps);
    let mut segments = disk.list().unwrap();
    segments.retain(|name| name.ends_with(".log"));
    assert!(segments.len() >= 4, "{segments:?}");
    (disk.after_kill(), segments)
}

/// Opening refuses with a text that holds `parts` and says what to do, and so does verifying; neither changes anything.
fn assert_refused(disk: &ModelDisk, parts: &[&str]) {
    let before = disk.operations();
    let text = open(disk).map(|_| ()).unwrap_err();
    let report = verify_on(disk);
    for part in parts.iter().chain(&["(quorate node replace)"]) {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(
        parts.iter().any(|part| part.starts_with("belongs to node"))
            || report.unwrap_err().0 == text
    );
    assert_eq!(disk.operations(), before, "nothing was changed");
}

#[test]
fn a_missing_segment_is_refused_wherever_it_was() {
    let (_, segments) = killed();
    for name in &segments {
        let (disk, _) = killed();
        disk.replace(name, None);
        // The first one can only be missed by what was in it.
        let says = if *name == segments[0] {
            "missing before file"
        } else {
            name.as_str()
        };
        assert_refused(&disk, &[says, "missing"]);
    }
}

#[test]
fn swapped_segments_are_refused() {
    let (disk, segments) = killed();
    let (first, second) = (disk.content(&segments[1]), disk.content(&segments[2]));
    disk.replace(&segments[1], Some(second));
    disk.replace(&segments[2], Some(first));
    assert_refused(&disk, &[segments[1].as_str(), "it is segment 3"]);
}

#[test]
fn a_head_that_restates_anything_else_than_what_came_before_is_refused() {
    use super::super::head::Head;
    use super::super::record::Chain;
    let changes: [fn(&mut Head); 3] = [
        |head| head.shape.state.vote = Some(vote(9)),
        |head| head.shape.state.committed = Some(id(1, 0)),
        |head| head.chain = Chain([7; 16]),
    ];
    for change in changes {
        let (disk, segments) = killed();
        let name = segments[2].as_str();
        disk.damage(name, |bytes| {
            let mut head = Head::decode(bytes).unwrap();
            change(&mut head);
            bytes[..4096].copy_from_slice(&head.encode());
        });
        assert_refused(&disk, &[name, "goes on from elsewhere"]);
    }
}

#[test]
fn a_segment_or_witness_of_another_node_is_refused() {
    let (disk, segments) = killed();
    let other = ModelDisk::new();
    let (mut wal, _) = Wal::open(other.clone(), "another", small()).unwrap();
    wal.write_group(&[append(1, 0, 10)]).unwrap();
    disk.replace(&segments[0], Some(other.content(&segments[0])));
    assert_refused(&disk, &[segments[0].as_str(), "belongs to node", "another"]);
    let (disk, _) = killed();
    disk.replace("witness", Some(other.content("witness")));
    assert_refused(&disk, &["witness", "belongs to node", "another"]);
}

#[test]
fn a_whole_log_of_another_node_is_refused() {
    let other = ModelDisk::new();
    Wal::open(other.clone(), "another", small()).unwrap();
    assert_refused(&other, &["belongs to node another", UUID]);
}

/// Marks the block at the start of file `name`, sealed over `length` bytes, as of the next format.
fn make_newer(disk: &ModelDisk, name: &str, length: usize) {
    disk.damage(name, |bytes| {
        bytes[8] += 1;
        let crc = crc32c::crc32c(&bytes[..length - 4]);
        bytes[length - 4..length].copy_from_slice(&crc.to_le_bytes());
    });
}

#[test]
fn a_newer_format_is_refused_and_named() {
    let (disk, segments) = killed();
    make_newer(&disk, &segments[1], 4096);
    assert_refused(
        &disk,
        &[segments[1].as_str(), "newer version", "its format is 2"],
    );
    let (disk, _) = killed();
    make_newer(&disk, "witness", 512);
    assert_refused(&disk, &["witness", "newer version", "its format is 2"]);
}

#[test]
fn a_lost_witness_is_refused() {
    let (disk, _) = killed();
    disk.replace("witness", None);
    assert_refused(&disk, &["witness"]);
    let (disk, _) = killed();
    disk.damage("witness", |bytes| bytes.fill(0));
    assert_refused(&disk, &["witness", "slot 0", "slot 1"]);
    let (disk, _) = killed();
    disk.damage("witness", Vec::clear);
    assert_refused(&disk, &["witness", "cut short"]);
}

#[test]
fn a_log_whose_segments_are_all_gone_is_refused() {
    let (disk, segments) = killed();
    segments.iter().for_each(|name| disk.replace(name, None));
    assert_refused(&disk, &["no segment"]);
}

#[test]
fn a_log_shorter_than_its_witness_is_refused() {
    for cut in [Vec::clear as fn(&mut Vec<u8>), |bytes| bytes.fill(0)] {
        let disk = ModelDisk::new();
        live(
            &disk,
            &[
                Step::Group(vec![append(1, 0, 10)]),
                Step::Group(vec![Op::Vote(vote(5))]),
            ],
        );
        let disk = disk.after_kill();
        // Exactly the second group is gone: what is left looks whole.
        disk.damage("0000000001.log", |bytes| {
            let mut rest = bytes.split_off(2 * 4096);
            cut(&mut rest);
            bytes.extend(rest);
        });
        assert_refused(
            &disk,
            &[
                "0000000001.log, offset 8192",
                "acknowledged up to",
                "offset 12288",
            ],
        );
    }
}

#[test]
fn damage_in_an_earlier_segment_is_refused_with_file_and_offset() {
    let (disk, segments) = killed();
    disk.damage(&segments[1], |bytes| bytes[4096 + 3000] ^= 1);
    assert_refused(
        &disk,
        &[segments[1].as_str(), "offset 4168", "a damaged record"],
    );
}

#[test]
fn a_group_of_an_earlier_life_is_not_believed() {
    let disk = ModelDisk::new();
    live(&disk, &[Step::Group(vec![append(1, 0, 10)])]);
    // Two lives from the same point, as after a backup was put back: the same places, the same node, the same counts.
    let lives: Vec<ModelDisk> = [20, 30]
        .map(|length| {
            let disk = disk.after_kill();
            let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
            wal.write_group(&[append(1, 1, length)]).unwrap();
            wal.write_group(&[append(1, 2, length)]).unwrap();
            disk
        })
        .into();
    let other = lives[1].content("0000000001.log");
    let put = |blocks: std::ops::Range<usize>| {
        let bytes = blocks.start * 4096..blocks.end * 4096;
        let disk = lives[0].after_kill();
        disk.damage("0000000001.log", |all| {
            all[bytes.clone()].copy_from_slice(&other[bytes])
        });
        disk
    };
    assert_refused(&put(3..4), &["offset 12288", "does not continue this log"]);
    assert_refused(&put(2..3), &["offset 12288", "does not continue this log"]);
    assert_refused(&put(2..4), &["not what the witness saw"]);
    // Beyond the witness it is cut.
    let disk = put(3..4);
    disk.replace("witness", Some(witness_after(&lives[0], 1)));
    let (.., found) = open(&disk).unwrap();
    assert_eq!(found.1, [entry(1, 0, 10), entry(1, 1, 20)]);
}

#[test]
fn a_group_written_after_another_opening_does_not_continue_this_life() {
    let disk = ModelDisk::new();
    live(&disk, &[Step::Group(vec![append(1, 0, 10)])]);
    // The same entry at the same place, one opening later.
    let lives: Vec<ModelDisk> = [1, 2]
        .map(|openings| {
            let disk = disk.after_kill();
            for _ in 1..openings {
                Wal::open(disk.clone(), UUID, small()).unwrap();
            }
            let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
            wal.write_group(&[append(1, 1, 20)]).unwrap();
            wal.write_group(&[append(1, 2, 20)]).unwrap();
            disk
        })
        .into();
    let other = lives[1].content("0000000001.log");
    let disk = lives[0].after_kill();
    let group = 3 * 4096..4 * 4096;
    disk.damage("0000000001.log", |all| {
        all[group.clone()].copy_from_slice(&other[group]);
    });
    assert_refused(&disk, &["offset 12288", "does not continue this log"]);
}

#[test]
fn entries_out_of_order_are_refused_though_every_record_is_whole() {
    for wrong in [id(2, 3), id(2, 1), id(1, 2)] {
        let disk = ModelDisk::new();
        let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
        wal.write_group(&[append(2, 0, 10), append(2, 1, 10)])
            .unwrap();
        wal.write_group(&[append(wrong.term, wrong.index, 10)])
            .unwrap();
        let says = ["offset 8264", "does not follow the one before"];
        assert_refused(&disk.after_kill(), &says);
    }
}

#[test]
fn a_group_of_another_place_in_a_torn_tail_proves_nothing() {
    let disk = ModelDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    wal.write_group(&[append(1, 0, 10)]).unwrap();
    let witness = disk.content("witness");
    wal.write_group(&[append(1, 1, 9000)]).unwrap();
    let disk = disk.after_kill();
    disk.replace("witness", Some(witness));
    // The group in the tail is torn, and where it should go on stands a whole block from before it.
    disk.damage("0000000001.log", |bytes| {
        bytes.copy_within(4096..8192, 3 * 4096);
    });
    let (.., found) = open(&disk).unwrap();
    assert_eq!(found.1, [entry(1, 0, 10)]);
}

/// The witness of `life` as it was one write earlier: the newer slot made unreadable twice over would be too old, so the
/// log is written again up to there.
fn witness_after(life: &ModelDisk, entries: u64) -> Vec<u8> {
    let disk = ModelDisk::new();
    live(&disk, &[Step::Group(vec![append(1, 0, 10)])]);
    let disk = disk.after_kill();
    let (mut wal, _) = Wal::open(disk.clone(), UUID, small()).unwrap();
    for index in 1..=entries {
        wal.write_group(&[append(1, index, 20)]).unwrap();
    }
    let end = 4096 * (2 + entries as usize);
    let name = "0000000001.log";
    assert_eq!(
        disk.content(name)[..end],
        life.content(name)[..end],
        "the same life so far"
    );
    disk.content("witness")
}

#[test]
fn an_unfinished_creation_is_begun_again_but_a_used_log_is_not_fresh() {
    let disk = ModelDisk::new();
    disk.stop_at(4);
    assert!(open(&disk).is_err());
    let (log, ..) = open(&disk.after_kill()).unwrap();
    assert_eq!(log.state(), super::super::LogState::default());
    let (disk, _) = killed();
    assert!(!disk.list().unwrap().contains(&"fresh".to_owned()));
}

#[test]
fn old_slots_of_the_witness_never_name_a_segment_that_was_removed() {
    let disk = ModelDisk::new();
    live(&disk, &life());
    let named = super::super::witness::load(&disk.after_power_cut(&[], &[]))
        .unwrap()
        .0
        .position
        .segment;
    let first = disk
        .list()
        .unwrap()
        .into_iter()
        .find(|name| name.ends_with(".log"))
        .unwrap();
    assert!(first <= super::super::scan::segment_name(named));
}
