//! The state against the machine's own memory, through crashes, seals of both kinds, checkpoints and damage.

mod checkpoints;
mod crashes;
mod damage;
mod follow;
mod pages;
mod reads;
mod upgrade;
mod workload;

use std::path::Path;

use self::workload::Workload;
use super::core::{Hook, Tuning};
use super::filter::Sizes;
use super::{Options, State};
use crate::machine::Memory;
use crate::storage::{Kind, LogEntry};

/// Seals every few entries, so that a short workload has several; filters of a few dozen ids.
fn tuning(ingest: bool) -> Tuning {
    Tuning {
        seal_journal_bytes: 24 << 10,
        ingest_transfers_min: if ingest { 1 } else { usize::MAX },
        balances_every: if ingest { 1 } else { 2 },
        batch_bytes_max: 4 << 10,
        history_row_max: 7,
        filter: Sizes {
            first: 64,
            largest: 256,
            bytes_max: 4 << 10,
        },
        names_max: 16,
        keys_max: 16,
        cache_bytes: 1 << 20,
        ..Tuning::new(Options::default())
    }
}

fn open(dir: &Path, tuning: Tuning, hook: Option<Hook>) -> State {
    State::open_tuned(dir, tuning, hook).expect("opens")
}

/// What the machine's memory holds after the commands among `entries`.
fn memory(entries: &[LogEntry]) -> Memory {
    let mut memory = Memory::new();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Commands) {
        memory.apply(entry.id.index, &entry.body).expect("applies");
    }
    memory
}

/// `entries` up to and including index `last`.
fn upto(entries: &[LogEntry], last: u64) -> &[LogEntry] {
    &entries[..entries.partition_point(|entry| entry.id.index <= last)]
}

#[test]
fn the_same_entries_give_the_same_replies_and_the_same_dump_as_in_memory() {
    for ingest in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let entries = Workload::new(7).entries(80);
        let state = open(&dir.path().join("state"), tuning(ingest), None);
        let mut memory = Memory::new();
        for some in entries.chunks(3) {
            let replies = state.apply(some).unwrap();
            for (entry, replies) in some.iter().zip(replies) {
                match entry.kind {
                    Kind::Commands => {
                        assert_eq!(
                            memory.apply(entry.id.index, &entry.body).unwrap().replies,
                            replies
                        );
                    }
                    Kind::Blank | Kind::Membership => assert_eq!(replies, []),
                }
            }
            assert_eq!(state.applied().log_id, some.last().map(|entry| entry.id));
        }
        assert_eq!(state.dump().unwrap(), memory.dump());
        state.seal().unwrap();
        assert_eq!(
            state.dump().unwrap(),
            memory.dump(),
            "sealing changes nothing"
        );
        let durable = state.close().unwrap();
        assert_eq!(durable, state.applied().log_id);
        let applied = state.applied();
        drop(state);
        let report = State::verify(&dir.path().join("state")).unwrap();
        assert_eq!(
            (&report.problems[..], report.applied),
            (&[][..], applied.log_id)
        );
        assert_eq!(report.digest, memory.digest());
        let state = open(&dir.path().join("state"), tuning(ingest), None);
        assert_eq!(state.applied(), applied);
        assert_eq!(state.dump().unwrap(), memory.dump());
    }
}

#[test]
fn what_the_tables_hold_is_not_kept_in_memory_too() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("state"), tuning(false), None);
    let core = state.core();
    for some in Workload::new(7).entries(80).chunks(3) {
        state.apply(some).unwrap();
        let live = core.read().unwrap();
        let nothing = super::live::Overlay::default();
        assert_eq!(format!("{:?}", live.overlay), format!("{nothing:?}"));
    }
}

#[test]
fn an_empty_state_is_made_once_and_never_out_of_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let state = open(&root, tuning(false), None);
    assert_eq!(state.applied(), super::Applied::default());
    drop(state);
    // A start that was cut off before its end is begun again.
    std::fs::remove_file(root.join("CURRENT")).unwrap();
    std::fs::write(root.join("CREATING"), "").unwrap();
    drop(open(&root, tuning(false), None));
    // Without that sign a lost CURRENT is damage, of our pointer as of RocksDB's.
    let pointer = std::fs::read(root.join("CURRENT")).unwrap();
    std::fs::remove_file(root.join("CURRENT")).unwrap();
    let refused = State::open(&root, Options::default()).unwrap_err().0;
    assert!(refused.contains("lost its file CURRENT"), "{refused}");
    std::fs::write(root.join("CURRENT"), &pointer).unwrap();
    std::fs::remove_file(root.join("state-0").join("CURRENT")).unwrap();
    assert!(State::open(&root, Options::default()).is_err());
    std::fs::remove_dir_all(root.join("state-0")).unwrap();
    let refused = State::open(&root, Options::default()).unwrap_err().0;
    assert!(refused.contains("not there"), "{refused}");
    assert!(State::verify(&root).is_err());
}

#[test]
fn every_flipped_bit_of_the_pointer_to_the_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    drop(open(&root, tuning(false), None));
    let pointer = std::fs::read(root.join("CURRENT")).unwrap();
    // The line's end says nothing.
    for bit in 0..(pointer.len() - 1) * 8 {
        let mut bad = pointer.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(root.join("CURRENT"), &bad).unwrap();
        let found = super::dirs::inspect(&root);
        let same_number = bad.eq_ignore_ascii_case(&pointer);
        assert!(found.is_err() || same_number, "bit {bit}");
    }
    std::fs::write(root.join("CURRENT"), &pointer).unwrap();
    assert_eq!(
        super::dirs::inspect(&root).unwrap(),
        Some(root.join("state-0"))
    );
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let state = open(&root, tuning(false), None);
    let core = state.core();
    let mut batch = core.db.batch();
    let seed = super::hash::Seed::random();
    super::meta::put(
        &mut batch,
        &super::meta::Origin {
            format: super::meta::FORMAT + 1,
            seed,
        },
    );
    core.db.write(batch).unwrap();
    drop(core);
    state.close().unwrap();
    drop(state);
    let refused = State::open(&root, Options::default()).unwrap_err().0;
    assert!(refused.contains("start a newer one"), "{refused}");
    let line = "quorate-state 2 state-0";
    std::fs::write(
        root.join("CURRENT"),
        format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes())),
    )
    .unwrap();
    let refused = State::open(&root, Options::default()).unwrap_err().0;
    assert!(refused.contains("has format 2"), "{refused}");
}

#[test]
fn an_entry_out_of_order_is_a_fault_and_stops_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(3).entries(6);
    let state = open(&dir.path().join("state"), tuning(false), None);
    state.apply(&entries).unwrap();
    assert!(state.apply(&entries[2..3]).is_err());
    assert!(state.apply(&[]).is_err(), "a fault is for good");
}
