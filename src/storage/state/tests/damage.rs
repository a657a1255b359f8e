//! Damage is found: by what reads it, by opening, by `verify`.

use std::fs;
use std::path::Path;

use super::super::alarm::MARK;
use super::super::db::{Access, Db, Range, Table};
use super::super::dirs;
use super::super::journal::EntryRows;
use super::super::layout::{history_key, parse_position, push_history};
use super::super::{Journal, State, Unusable};
use super::workload::Workload;
use super::{open, tuning};
use crate::machine::{Command, Expect, Position, Record, entry};
use crate::storage::{Kind, LogEntry, LogId};

/// A state of 50 entries, the first `sealed` of them sealed, closed.
fn make(root: &Path, sealed: usize) {
    let entries = Workload::new(21).entries(50);
    let mut tuning = tuning(false);
    tuning.seal_journal_bytes = u64::MAX;
    tuning.balances_every = 1;
    let state = open(root, tuning, None);
    for some in [&entries[..20], &entries[20..sealed]] {
        state.apply(some).unwrap();
        state.seal().unwrap();
    }
    state.apply(&entries[sealed..]).unwrap();
    state.close().unwrap();
}

/// Changes one row of a table: which, and what becomes of it.
fn change(root: &Path, table: Table, pick: usize, to: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let state = open(root, tuning(false), None);
    let core = state.core();
    let (key, value) = {
        let mut rows = core.db.rows(table, Range::whole(&[]), None);
        for _ in 0..pick {
            rows.next().unwrap();
        }
        let (key, value) = rows.next().unwrap().expect("there are so many rows");
        (key.to_vec(), value.to_vec())
    };
    let mut batch = core.db.batch();
    match to(&value) {
        Some(value) => batch.put(table, &key, &value),
        None => batch.delete(table, &key),
    }
    core.db.write(batch).unwrap();
    core.db.flush().unwrap();
}

fn flip(value: &[u8]) -> Option<Vec<u8>> {
    let mut value = value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 4;
    Some(value)
}

#[test]
fn every_damaged_or_missing_row_is_found_by_verify() {
    for table in Table::ALL {
        for (pick, missing) in [(0, false), (0, true), (1, false), (1, true)] {
            // There is one page of balances; what is wrong with meta is opening's to say.
            if table == Table::Meta || (table == Table::Balances && pick == 1) {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("state");
            make(&root, 50);
            assert_eq!(State::verify(&root).unwrap().problems, [""; 0]);
            change(
                &root,
                table,
                pick,
                |value| if missing { None } else { flip(value) },
            );
            let report = State::verify(&root).unwrap();
            assert!(
                !report.is_ok() && !report.problems.is_empty(),
                "{table:?} row {pick}, missing: {missing}"
            );
        }
    }
}

#[test]
fn a_damaged_chunk_is_refused_at_open_or_by_whoever_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    // One that is sealed: opening does not read it, reading it does not return it.
    change(&root, Table::Journal, 3, flip);
    let state = open(&root, tuning(false), None);
    assert!(
        state
            .dump()
            .unwrap_err()
            .what
            .contains("fails its checksum")
    );
    drop(state);
    // The last one: opening rolls over it.
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let count = {
        let state = open(&root, tuning(false), None);
        let core = state.core();
        let mut rows = core.db.rows(Table::Journal, Range::whole(&[]), None);
        std::iter::from_fn(|| rows.next().unwrap().map(|_| ())).count()
    };
    change(&root, Table::Journal, count - 1, flip);
    let refused = State::open(&root, super::Options::default()).unwrap_err().0;
    assert!(
        refused.contains("fails its checksum") && refused.contains("sets this state aside"),
        "{refused}"
    );
}

#[test]
fn a_missing_chunk_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let count = {
        let state = open(&root, tuning(false), None);
        let core = state.core();
        let mut rows = core.db.rows(Table::Journal, Range::whole(&[]), None);
        std::iter::from_fn(|| rows.next().unwrap().map(|_| ())).count()
    };
    change(&root, Table::Journal, count - 1, |_| None);
    assert!(State::open(&root, super::Options::default()).is_err());
}

#[test]
fn journal_beyond_the_last_entry_applied_is_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let state = open(&root, tuning(false), None);
    let core = state.core();
    let mut rows = EntryRows::default().restart(50);
    rows.time_ns = u64::MAX;
    rows.push(&Record::KvDeleted { key: "k" });
    let mut value = Vec::new();
    let (key, _) = rows.chunk(0, &mut value);
    let mut batch = core.db.batch();
    batch.put(Table::Journal, &key, &value);
    core.db.write(batch).unwrap();
    core.db.flush().unwrap();
    drop((core, state));
    let refused = State::open(&root, super::Options::default()).unwrap_err().0;
    assert!(
        refused.contains("entry 50 is beyond the last one applied"),
        "{refused}"
    );
}

#[test]
fn balances_that_break_double_entry_are_refused_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 50);
    change(&root, Table::Balances, 0, |page| {
        let mut page = page.to_vec();
        page[0] ^= 1;
        Some(page)
    });
    let refused = State::open(&root, super::Options::default()).unwrap_err().0;
    assert!(
        refused.contains("debits") && refused.contains("credits"),
        "{refused}"
    );
}

#[test]
fn a_long_id_whose_row_leads_to_another_transfer_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 50);
    let state = open(&root, tuning(false), None);
    let core = state.core();
    // Such ids stand under a hash.
    let (mut long, mut other) = (None, None);
    let mut rows = core.db.rows(Table::Ids, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next().unwrap() {
        let found = match key.len() {
            41 => &mut long,
            _ => &mut other,
        };
        *found = Some((key.to_vec(), value.to_vec()));
    }
    let ((key, value), (_, elsewhere)) = (long.unwrap(), other.unwrap());
    let id = state
        .view()
        .transfer_at(parse_position(&value).unwrap())
        .unwrap()
        .value
        .id;
    assert!(state.view().transfer(&id).unwrap().value.is_some());
    let mut batch = core.db.batch();
    batch.put(Table::Ids, &key, &elsewhere);
    core.db.write(batch).unwrap();
    let fault = state.view().transfer(&id).unwrap_err().what;
    assert!(fault.contains("another id"), "{fault}");
}

#[test]
fn history_that_two_seals_grouped_differently_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let state = open(&root, tuning(false), None);
    let core = state.core();
    let all = |order| core.positions_of(1, order, None, 1000).unwrap().value;
    let (rising, falling) = (
        all(super::super::Order::Ascending),
        all(super::super::Order::Descending),
    );
    let sealed: Vec<Position> = rising.iter().copied().filter(|at| at.index < 40).collect();
    assert!(sealed.len() > 30);
    // Another row over the second half of one and the first of the next; one of what is not sealed; and one of both.
    let unsealed: Vec<Position> = rising.iter().copied().filter(|at| at.index >= 40).collect();
    let both = [&sealed[sealed.len() - 2..], &unsealed[..2]].concat();
    let mut batch = core.db.batch();
    for some in [&sealed[10..20], &unsealed[..2], &both] {
        let mut row = Vec::new();
        some.windows(2)
            .for_each(|pair| push_history(pair[0], pair[1], &mut row));
        batch.put(Table::History, &history_key(1, some[0]), &row);
    }
    core.db.write(batch).unwrap();
    assert_eq!(all(super::super::Order::Ascending), rising);
    assert_eq!(all(super::super::Order::Descending), falling);
    for limit in [1, 3, 7] {
        for order in [
            super::super::Order::Ascending,
            super::super::Order::Descending,
        ] {
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = core.positions_of(1, order, after, limit).unwrap().value;
                let Some(last) = page.last() else { break };
                after = Some(*last);
                paged.extend(page);
            }
            assert_eq!(paged, all(order));
        }
    }
}

#[test]
fn bytes_that_are_no_entry_stop_the_state_and_nothing_half_applied_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("state"), tuning(false), None);
    let put = Command::KvPut {
        key: "k",
        value: b"v",
        expect: Expect::Any,
    };
    let mut body = entry::assemble(&[put.clone(), put], 1);
    let last = body.len() - 1;
    body.truncate(last);
    let id = LogId {
        term: 1,
        node: 1,
        index: 1,
    };
    assert!(
        state
            .apply(&[LogEntry {
                id,
                kind: Kind::Commands,
                body: body.into()
            }])
            .is_err()
    );
    assert!(state.view().kv("k").is_err(), "a fault, not half an entry");
    assert!(
        state.flush().is_ok_and(|durable| durable.is_none()),
        "nothing of it is on the disk"
    );
}

/// The largest table file of the state in `root`.
fn largest_table(root: &Path) -> std::path::PathBuf {
    let database = dirs::inspect(root).unwrap().unwrap();
    let files = fs::read_dir(database).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let tables = paths.filter(|path| path.extension().is_some_and(|end| end == "sst"));
    tables
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap()
}

#[test]
fn a_damaged_block_is_found_by_who_reads_it_and_marks_the_state_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let table = largest_table(&root);
    let mut bytes = fs::read(&table).unwrap();
    bytes[100] ^= 1;
    fs::write(&table, bytes).unwrap();
    let state = open(&root, tuning(false), None);
    let told = state.fault();
    assert!(told.borrow().is_none());
    let fault = state.dump().unwrap_err();
    assert!(fault.is_damage, "{fault}");
    let told = told.borrow().clone().unwrap().what;
    assert_eq!(told, fault.what);
    drop(state);
    let Err(Unusable::Damaged(why)) = State::open_checked(&root, super::Options::default()) else {
        panic!("it was opened again");
    };
    assert!(why.contains(&told), "{why}");
}

#[test]
fn who_watches_is_told_of_a_write_that_failed_and_the_state_is_in_order_for_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 40);
    let state = open(&root, tuning(false), None);
    let told = state.fault();
    // The next table cannot be written: in its place there is a directory.
    let database = dirs::inspect(&root).unwrap().unwrap();
    let tables = (0..200).map(|number| database.join(format!("{number:06}.sst")));
    let blocked: Vec<_> = tables.filter(|table| !table.exists()).collect();
    blocked
        .iter()
        .for_each(|table| fs::create_dir(table).unwrap());
    let entries = Workload::new(21).entries(51);
    state.apply(&entries[50..]).unwrap();
    assert!(told.borrow().is_none());
    let fault = state.flush().unwrap_err();
    let told = told.borrow().clone().expect("told at once");
    assert_eq!((told.what, told.is_damage), (fault.what, false));
    drop(state);
    assert!(!root.join(MARK).exists());
    blocked
        .iter()
        .for_each(|table| fs::remove_dir(table).unwrap());
    State::open_checked(&root, super::Options::default()).unwrap();
}

#[test]
fn a_state_that_lost_a_file_is_damaged_and_one_that_is_in_use_is_not() {
    for name in ["CURRENT", "MANIFEST", "sst"] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        make(&root, 40);
        let database = dirs::inspect(&root).unwrap().unwrap();
        for entry in fs::read_dir(&database).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().contains(name) {
                fs::remove_file(path).unwrap();
            }
        }
        let opened = State::open_checked(&root, super::Options::default());
        assert!(
            matches!(&opened, Err(Unusable::Damaged(_))),
            "{name}: {opened:?}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let _used = open(&root, tuning(false), None);
    let opened = State::open_checked(&root, super::Options::default());
    assert!(matches!(&opened, Err(Unusable::Refused(_))), "{opened:?}");
}

#[test]
fn what_is_set_aside_is_kept_twice_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    assert_eq!(State::count_aside(&root).unwrap(), 0);
    for number in 1..=4 {
        drop(open(&root, tuning(false), None));
        let aside = State::set_aside(&root, "of a test").unwrap();
        assert_eq!(aside, dir.path().join(format!("state.damaged-{number}")));
        assert!(!root.exists() && aside.join("DAMAGED").exists());
        assert_eq!(State::count_aside(&root).unwrap(), number.min(2));
    }
    let mut kept: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["state.damaged-3", "state.damaged-4"]);
}

#[test]
fn a_type_that_no_record_of_the_manifest_has_is_damage_and_not_an_opening_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    make(&root, 50);
    let path = dirs::inspect(&root).unwrap().expect("a state");
    let current = fs::read_to_string(path.join("CURRENT")).unwrap();
    let manifest = path.join(current.trim_end());
    let whole = fs::read(&manifest).unwrap();
    let (mut at, mut records) = (0, 0);
    while at + 7 <= whole.len() {
        for bit in [2, 3, 7] {
            let mut harmed = whole.clone();
            harmed[at + 6] ^= 1 << bit;
            fs::write(&manifest, &harmed).unwrap();
            let refused = Db::open(&path, Access::Existing, 1 << 20)
                .map(drop)
                .unwrap_err();
            assert!(refused.is_damage, "{}", refused.what);
            let refused = Journal::open(&root).map(drop).unwrap_err();
            assert!(refused.0.contains("it cannot have"), "{refused}");
        }
        at += 7 + usize::from(u16::from_le_bytes([whole[at + 4], whole[at + 5]]));
        records += 1;
    }
    assert!(records > 10, "{records} records are too few");
    fs::write(&manifest, &whole).unwrap();
    assert!(State::verify(&root).unwrap().is_ok());
}
