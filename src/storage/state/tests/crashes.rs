//! A crash at every point, losing or keeping what was not flushed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::super::State;
use super::super::core::{Core, Crash, Hook, Tuning};
use super::super::db::Table;
use super::workload::Workload;
use super::{memory, open, tuning, upto};
use crate::machine::{AccountRef, Command, NewTransfer, entry};
use crate::storage::{Kind, LogEntry, LogId};

/// Applies `entries` beyond what is applied, a few at a time, with a flush now and then. Ends early when the state stops.
fn drive(state: &State, entries: &[LogEntry]) {
    let done = state.applied().log_id.map_or(0, |id| id.index + 1);
    let rest = &entries[upto(entries, done).len() - usize::from(done < entries.len() as u64)..];
    for (round, some) in rest.chunks(3).enumerate() {
        if state.apply(some).is_err() || (round % 5 == 4 && state.flush().is_err()) {
            return;
        }
    }
    let _ = state.seal();
}

/// A hook that crashes at the `at`-th point passed, and notes the names of all points up to there.
fn crash_at(at: u64, crash: Crash, names: &Arc<Mutex<Vec<&'static str>>>) -> Hook {
    let (passed, names) = (AtomicU64::new(0), Arc::clone(names));
    Arc::new(move |name| {
        names.lock().unwrap().push(name);
        (passed.fetch_add(1, Ordering::SeqCst) == at).then_some(crash)
    })
}

/// Crashes at every point of a run, one run each.
fn crash_everywhere(tuning: Tuning, crash: Crash, wanted: &[&str]) {
    let entries = Workload::new(11).entries(42);
    let last = memory(&entries).dump();
    let mut seen = std::collections::BTreeSet::new();
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let names = Arc::default();
        let state = open(&root, tuning, Some(crash_at(at, crash, &names)));
        drive(&state, &entries);
        drop(state);
        let names = names.lock().unwrap().clone();
        let crashed = names.get(usize::try_from(at).unwrap()).copied();
        check_restart(
            &root,
            tuning,
            &entries,
            &last,
            &format!("{crash:?} at point {at}, {crashed:?} of {names:?}"),
        );
        seen.extend(names);
        if crashed.is_none() {
            break;
        }
    }
    for name in wanted {
        assert!(
            seen.contains(name),
            "the run never came by {name}: {seen:?}"
        );
    }
}

/// That a state on the disk is one the entries lead to, and that the rest of them leads on from it.
fn check_restart(root: &Path, tuning: Tuning, entries: &[LogEntry], last: &str, what: &str) {
    let report = State::verify(root).unwrap();
    assert_eq!(report.problems, [""; 0], "{what}");
    let state = open(root, tuning, None);
    let applied = state.applied().log_id.map(|id| id.index);
    assert_eq!(report.applied.map(|id| id.index), applied, "{what}");
    let expected = memory(applied.map_or(&[], |applied| upto(entries, applied)));
    assert_eq!(
        state.dump().unwrap(),
        expected.dump(),
        "{what}: after the restart"
    );
    drive(&state, entries);
    assert_eq!(state.dump().unwrap(), last, "{what}: after the rest");
    state.close().unwrap();
    drop(state);
    assert_eq!(
        State::verify(root).unwrap().problems,
        [""; 0],
        "{what}: after the rest"
    );
}

const APPLY: [&str; 3] = ["apply:decided", "apply:written", "flush"];
const SEAL: [&str; 9] = [
    "seal:begin",
    "seal:noted",
    "seal:ids",
    "seal:history",
    "balances:copied",
    "balances:written",
    "seal:filters",
    "seal:stamped",
    "seal:published",
];

#[test]
fn a_crash_that_loses_what_was_not_flushed_leaves_a_state_to_go_on_from() {
    crash_everywhere(
        tuning(false),
        Crash::Lose,
        &[&APPLY[..], &SEAL, &["seal:rows", "filters:part"]].concat(),
    );
}

#[test]
fn a_crash_that_keeps_what_was_written_leaves_a_state_to_go_on_from() {
    crash_everywhere(
        tuning(false),
        Crash::Keep,
        &[&APPLY[..], &SEAL, &["seal:rows", "filters:part"]].concat(),
    );
}

#[test]
fn a_crash_amid_ingested_seals_that_loses_what_was_not_flushed_leaves_a_state_to_go_on_from() {
    crash_everywhere(
        tuning(true),
        Crash::Lose,
        &[&APPLY[..], &SEAL, &["seal:flushed"]].concat(),
    );
}

#[test]
fn a_crash_amid_ingested_seals_that_keeps_what_was_written_leaves_a_state_to_go_on_from() {
    crash_everywhere(
        tuning(true),
        Crash::Keep,
        &[&APPLY[..], &SEAL, &["seal:flushed"]].concat(),
    );
}

#[test]
fn what_a_crash_left_of_a_file_to_ingest_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let entries = Workload::new(11).entries(42);
    let seals = AtomicU64::new(0);
    // The second seal has ingested what it had to, and is done again.
    let hook: Hook = Arc::new(move |name| {
        let passes = seals.fetch_add(u64::from(name == "seal:history"), Ordering::SeqCst);
        (name == "seal:history" && passes == 1).then_some(Crash::Keep)
    });
    let state = open(&root, tuning(true), Some(hook));
    drive(&state, &entries);
    let live = state.core().db.live().unwrap();
    drop(state);
    let database = root.join("state-0");
    let mut tables = Vec::new();
    for table in [Table::Ids, Table::History] {
        let file = live.iter().find(|file| file.table == table).unwrap();
        let (table_file, kept) = (database.join(&file.file), dir.path().join(table.name()));
        // A power cut before the second name was taken away for good.
        let left = database.join(format!("{}.ingest", table.name()));
        std::fs::hard_link(&table_file, left).unwrap();
        std::fs::hard_link(&table_file, &kept).unwrap();
        tables.push((std::fs::read(&kept).unwrap(), kept));
    }
    let last = memory(&entries).dump();
    check_restart(&root, tuning(true), &entries, &last, "after the crash");
    for (bytes, path) in tables {
        assert!(std::fs::read(&path).unwrap() == bytes, "it was written to");
    }
}

#[test]
fn what_a_start_derives_again_is_within_one_seal() {
    for ingest in [false, true] {
        let tuning = Tuning {
            balances_every: 1,
            ..tuning(ingest)
        };
        let entries = Workload::new(13).entries(90);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let (mut most_rolled, mut largest) = (0, 0);
        for some in entries.chunks(6) {
            let state = open(&root, tuning, None);
            let before = state.stats();
            most_rolled = most_rolled.max(before.rolled_bytes);
            state.apply(some).unwrap();
            largest = largest.max(state.stats().journal_bytes);
            // A seal that is under way is finished; what comes after it is not sealed. Then all is lost but what was flushed.
            state.close().unwrap();
        }
        assert!(
            most_rolled > 0 && most_rolled < tuning.seal_journal_bytes + largest,
            "{most_rolled}, {largest}"
        );
    }
}

#[test]
fn a_flush_is_over_when_everything_written_before_is_on_the_disk() {
    // Tables that are flushed at different rates number their memory tables differently, which is when RocksDB's own wait ends
    // too early: see `Db::flush`.
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let entries = Workload::new(17).entries(120);
    for some in entries.chunks(2) {
        let state = open(&root, tuning(true), None);
        for entry in some {
            state.apply(std::slice::from_ref(entry)).unwrap();
            let flushing = {
                let state = state.clone();
                std::thread::spawn(move || state.flush().unwrap())
            };
            assert_eq!(state.flush().unwrap(), Some(entry.id));
            flushing.join().unwrap();
        }
        drop(state);
        let state = open(&root, tuning(true), None);
        assert_eq!(state.applied().log_id, some.last().map(|entry| entry.id));
    }
}

/// What two threads tell each other at crash points.
#[derive(Default)]
struct Meeting {
    reached: Mutex<std::collections::BTreeSet<&'static str>>,
    more: std::sync::Condvar,
}

impl Meeting {
    fn reach(&self, name: &'static str) {
        self.reached.lock().unwrap().insert(name);
        self.more.notify_all();
    }

    fn is_reached(&self, name: &'static str) -> bool {
        self.reached.lock().unwrap().contains(name)
    }

    /// Waits until one of `names` is reached.
    fn wait(&self, names: &[&'static str]) {
        let reached = self.reached.lock().unwrap();
        let long = std::time::Duration::from_secs(60);
        let missing = |reached: &mut std::collections::BTreeSet<&'static str>| {
            !names.iter().any(|name| reached.contains(name))
        };
        let waited = self.more.wait_timeout_while(reached, long, missing);
        assert!(!waited.unwrap().1.timed_out(), "waited in vain: {names:?}");
    }
}

/// Entry `index`: one transfer between two accounts.
fn transfer(index: u64, debit: u64, credit: u64) -> LogEntry {
    let transfer = NewTransfer {
        id: &format!("by-hand-{index}"),
        debit: AccountRef::Number(debit),
        credit: AccountRef::Number(credit),
        amount: 1,
        code: 1,
        linked: false,
        metadata: "",
    };
    let body = entry::assemble(&[Command::Transfers(vec![transfer])], 1);
    let (term, node) = (1, 1);
    LogEntry {
        id: LogId { term, node, index },
        kind: Kind::Commands,
        body: body.into(),
    }
}

#[test]
fn a_page_of_balances_is_never_on_the_disk_before_the_journal_it_reflects() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let mut tuning = tuning(false);
    (tuning.balances_every, tuning.seal_journal_bytes) = (1, u64::MAX);
    // Each pair of accounts is in one ledger, as the setup has it. The last entry changes a balance on the page that is copied
    // which no entry before it would set right again.
    let mut entries = Workload::new(19).entries(3);
    entries.extend([transfer(3, 1, 3), transfer(4, 1, 3), transfer(5, 5, 7)]);
    let (sealed, rest) = entries.split_at(4);
    let (before, after) = rest.split_at(1);
    let meeting = Arc::new(Meeting::default());
    // Set once a seal is finished: before that no page counts.
    let crashing = Arc::new(OnceLock::<Weak<Core>>::new());
    let hook: Hook = {
        let (meeting, crashing) = (Arc::clone(&meeting), Arc::clone(&crashing));
        Arc::new(move |name| {
            let core = crashing.get().and_then(Weak::upgrade)?;
            meeting.reach(name);
            match name {
                // The seal waits until more was applied in memory, and copies that.
                "seal:history" => meeting.wait(&["late apply:decided"]),
                // That is written once the copy waits for it; or never, if the copy was written and got to the disk without.
                "apply:decided" if meeting.is_reached("seal:begin") => {
                    meeting.reach("late apply:decided");
                    meeting.wait(&["wait", "balances:written"]);
                    while !meeting.is_reached("wait") && core.point("probe").is_ok() {
                        std::thread::yield_now();
                    }
                }
                "balances:written" => return Some(Crash::Keep),
                _ => {}
            }
            None
        })
    };
    let state = open(&root, tuning, Some(hook));
    state.apply(sealed).unwrap();
    state.seal().unwrap();
    crashing.set(Arc::downgrade(&state.core())).unwrap();
    state.apply(before).unwrap();
    let sealing = {
        let state = state.clone();
        std::thread::spawn(move || state.seal())
    };
    meeting.wait(&["seal:history"]);
    let _ = state.apply(after);
    assert!(sealing.join().unwrap().is_err(), "it crashed");
    drop(state);
    check_restart(
        &root,
        tuning,
        &entries,
        &memory(&entries).dump(),
        "after the crash",
    );
}

#[test]
fn a_flush_promises_only_what_was_written_before_it() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let mut tuning = tuning(false);
        tuning.seal_journal_bytes = u64::MAX;
        let entries = Workload::new(seed).entries(400);
        let state = open(&root, tuning, None);
        let enough = Arc::new(AtomicBool::new(false));
        let applying = {
            let (state, enough) = (state.clone(), Arc::clone(&enough));
            std::thread::spawn(move || {
                let mut parts = entries.chunks(20);
                while let Some(some) = parts.next().filter(|_| !enough.load(Ordering::SeqCst)) {
                    state.apply(some).unwrap();
                }
            })
        };
        // While entries are decided in memory, and written after the flush has begun.
        let durable = loop {
            let durable = state.flush().unwrap();
            if durable.is_some_and(|id| id.index > 20) {
                break durable;
            }
        };
        assert_eq!(state.durable(), durable);
        enough.store(true, Ordering::SeqCst);
        applying.join().unwrap();
        drop(state);
        let applied = open(&root, tuning, None).applied().log_id;
        assert!(
            applied >= durable,
            "seed {seed}: {applied:?}, though {durable:?} was durable"
        );
    }
}
