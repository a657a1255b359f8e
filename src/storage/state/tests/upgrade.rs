//! A state that an older program left behind, opened by this one.

use std::path::Path;

use super::super::meta::{FORMAT, Origin};
use super::super::{State, meta};
use super::{memory, open, reads, tuning};
use crate::machine::{Command, Expect, Once, entry, once};
use crate::storage::{Kind, LogEntry, LogId};

/// What the last program of format 1 left: 24 entries of random commands, two thirds of them sealed, closed in good order; and the
/// entries. Files by name, without RocksDB's logs and options, and `(id, kind, body)` of each entry, as postcard.
const FORMAT_1: &[u8] = include_bytes!("format_1.postcard");

type Packed = (Vec<(String, Vec<u8>)>, Vec<(LogId, u8, Vec<u8>)>);

/// Puts the state of format 1 into `root`; returns the entries that led to it.
fn unpack(root: &Path) -> Vec<LogEntry> {
    let (files, entries): Packed = postcard::from_bytes(FORMAT_1).unwrap();
    std::fs::create_dir_all(root.join("state-0")).unwrap();
    for (name, bytes) in files {
        std::fs::write(root.join(name), bytes).unwrap();
    }
    let entry = |(id, kind, body): (LogId, u8, Vec<u8>)| LogEntry {
        id,
        kind: match kind {
            0 => Kind::Blank,
            1 => Kind::Commands,
            _ => Kind::Membership,
        },
        body: body.into(),
    };
    entries.into_iter().map(entry).collect()
}

/// The entry after `last`: a write under the idempotency key `k`, which format 1 knew nothing of.
fn keyed(last: &LogEntry, stamp_ns: u64) -> LogEntry {
    let put = Command::KvPut {
        key: "new",
        value: b"v",
        expect: Expect::Any,
    };
    let once = Once {
        key: "k",
        fingerprint: once::fingerprint("test", &put),
        command: Box::new(put),
    };
    LogEntry {
        id: LogId {
            index: last.id.index + 1,
            ..last.id
        },
        kind: Kind::Commands,
        body: entry::assemble(&[Command::Once(once)], stamp_ns).into(),
    }
}

fn origin(state: &State) -> Origin {
    meta::get(&state.core().db).unwrap().unwrap()
}

#[test]
fn a_state_of_format_1_opens_answers_as_ever_and_learns_of_idempotency_keys() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let mut entries = unpack(&root);
    let state = open(&root, tuning(false), None);
    let expected = memory(&entries);
    assert_eq!(state.applied().log_id, entries.last().map(|last| last.id));
    assert_eq!(state.applied().digest, expected.digest());
    reads::check(&state, &expected);
    assert_eq!(origin(&state).format, FORMAT, "an older program refuses it");
    for _ in 0..2 {
        entries.push(keyed(entries.last().unwrap(), expected.time_ns() + 1));
        state.apply(&entries[entries.len() - 1..]).unwrap();
    }
    let expected = memory(&entries);
    let done = |state: &State| {
        let key = state.view().kv("new").unwrap().value.unwrap();
        let answer = state.view().answer("k").unwrap().value.unwrap();
        (key.version, key.modified.index, answer.index)
    };
    let first = entries[entries.len() - 2].id.index;
    assert_eq!(done(&state), (1, first, first), "done once");
    reads::check(&state, &expected);
    state.seal().unwrap();
    state.close().unwrap();
    drop(state);
    assert_eq!(State::verify(&root).unwrap().problems, [""; 0]);
    let state = open(&root, tuning(false), None);
    reads::check(&state, &expected);
    assert_eq!(done(&state), (1, first, first));
}

#[test]
fn verifying_a_state_of_an_older_format_says_that_a_start_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    unpack(&root);
    let refused = State::verify(&root).unwrap_err().0;
    assert!(refused.contains("older version"), "{refused}");
    // Nothing was changed: it still is one.
    assert_eq!(State::verify(&root).unwrap_err().0, refused);
    drop(open(&root, tuning(false), None));
    assert_eq!(State::verify(&root).unwrap().problems, [""; 0]);
}
