//! The applied log: what the journal shows against what the machine answered.

use super::super::Journal;
use super::super::meta::{self, AppliedRow};
use super::workload::Workload;
use super::{open, tuning};
use crate::machine::reply::Existence;
use crate::machine::{Command, Memory, Record, Reply, TransferResult, entry};
use crate::storage::applied::Line;
use crate::storage::applied::pair::Pairing;
use crate::storage::{Kind, LogEntry, LogId};

/// Result and dup as an answer has them; `None` for what is not told.
type Told = (Option<bool>, Option<bool>, Option<&'static str>);

fn told(reply: &Reply, keyed: bool) -> Vec<Told> {
    match reply {
        Reply::Rejected(rejection) => vec![(Some(false), Some(false), Some(rejection.code()))],
        Reply::KvPut { .. } | Reply::KvDeleted { .. } => vec![(Some(true), Some(false), None)],
        Reply::Ledger { existence, .. } | Reply::Account { existence, .. } => {
            let is_known = keyed || *existence == Existence::Created;
            vec![(is_known.then_some(true), Some(false), None)]
        }
        Reply::Transfers(results) => results.iter().map(transfer_told).collect(),
        Reply::Replayed(replayed) => {
            let mut first = told(&replayed.reply, true);
            first.iter_mut().for_each(|told| told.1 = Some(true));
            first
        }
    }
}

/// What lines of `command` must tell, a transfer each by itself.
fn due(reply: &Reply, command: &Command<'_>) -> Vec<Told> {
    let (inner, keyed) = match command {
        Command::Once(once) => (&*once.command, true),
        plain => (plain, false),
    };
    let told = told(reply, keyed);
    match inner {
        // Refused as a whole, for its key.
        Command::Transfers(batch) if told.len() != batch.len() => told.repeat(batch.len()),
        _ => told,
    }
}

fn transfer_told(result: &TransferResult) -> Told {
    match result {
        TransferResult::Created(_) => (Some(true), Some(false), None),
        TransferResult::Exists(_) => (Some(true), Some(true), None),
        // Whether it was remembered from before, the answer does not say.
        TransferResult::Refused(_) => (Some(false), None, None),
    }
}

fn check(line: &Line, told: Told) {
    let (result, dup, code) = told;
    // That a ledger or an account was not made, the journal does not say, unless under a key.
    let silent = line.op.is_none() && ["ledger", "account"].contains(&line.f);
    let result = result.filter(|done| *done || !silent);
    // Nor what is answered for a transfer posted before whose chain failed now.
    if line.f == "transfer" && line.result.is_none() {
        return;
    }
    assert_eq!(line.result, result, "{line:?}");
    assert!(dup.is_none_or(|dup| dup == line.dup), "{line:?}");
    assert!(
        code.is_none() || line.code.is_none() || line.code == code,
        "{line:?} {code:?}"
    );
}

/// These entries, and every third of those with commands once more.
fn sent_again(mut entries: Vec<LogEntry>) -> Vec<LogEntry> {
    let again = entries.iter().filter(|entry| entry.kind == Kind::Commands);
    let again: Vec<LogEntry> = again.step_by(3).cloned().collect();
    for mut entry in again {
        let last = entries.last().expect("there are entries").id;
        entry.id = LogId {
            index: last.index + 1,
            ..last
        };
        entries.push(entry);
    }
    entries
}

fn state_of(entries: &[LogEntry], root: &std::path::Path) {
    let state = open(root, tuning(false), None);
    state.apply(entries).unwrap();
    state.close().unwrap();
}

#[test]
fn what_the_journal_shows_is_what_was_answered() {
    let (mut dups, mut told_transfers) = (0, 0);
    for seed in 0..20 {
        let entries = sent_again(Workload::new(seed).entries(120));
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        state_of(&entries, &root);
        let (mut memory, mut pairing) = (Memory::new(), Pairing::default());
        let journal = Journal::open(&root).unwrap();
        let followed = journal.follow(|journaled| {
            let logged = &entries[usize::try_from(journaled.index).unwrap()];
            assert_eq!(logged.kind, Kind::Commands);
            let replies = memory.apply(journaled.index, &logged.body).unwrap().replies;
            let lines = pairing.entry(logged, &journaled.records()?)?;
            let parsed = entry::Entry::parse(&logged.body)?;
            let due: Vec<Told> = replies
                .iter()
                .zip(parsed.commands())
                .flat_map(|(reply, command)| due(reply, &command.unwrap()))
                .collect();
            assert_eq!(lines.len(), due.len(), "{lines:#?} {replies:#?}");
            for (line, told) in lines.iter().zip(due) {
                check(line, told);
                assert_eq!((line.index, line.term), (logged.id.index, logged.id.term));
                dups += u32::from(line.dup);
                told_transfers += u32::from(line.f == "transfer" && line.result.is_some());
            }
            Ok(())
        });
        followed.unwrap();
        assert_eq!(journal.applied().digest, memory.digest());
    }
    assert!(dups > 10, "{dups} repeats are too few to prove anything");
    assert!(
        told_transfers > 100,
        "{told_transfers} transfers are too few"
    );
}

#[test]
fn records_that_nobody_asked_for_are_noticed() {
    let entries = Workload::new(3).entries(60);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    state_of(&entries, &root);
    let (mut pairing, mut noticed) = (Pairing::default(), 0);
    let followed = Journal::open(&root).unwrap().follow(|journaled| {
        let logged = &entries[usize::try_from(journaled.index).unwrap()];
        let records = journaled.records()?;
        let strange = Record::KvDeleted {
            key: "nobody's own",
        };
        let more = [records, vec![strange]].concat();
        let told = pairing.entry(logged, &more);
        let told = told.expect_err("a record that nobody asked for");
        assert!(told.contains("nobody asked for"), "{told}");
        noticed += 1;
        Ok(())
    });
    followed.unwrap();
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn another_digest_than_the_one_stored_is_an_error() {
    let entries = Workload::new(4).entries(30);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    state_of(&entries, &root);
    let follow = || Journal::open(&root)?.follow(|_| Ok(()));
    assert!(follow().is_ok());
    {
        let state = open(&root, tuning(false), None);
        let core = state.core();
        let mut row: AppliedRow = meta::get(&core.db).unwrap().unwrap();
        row.digest[7] ^= 1;
        let mut batch = core.db.batch();
        meta::put(&mut batch, &row);
        core.db.write(batch).unwrap();
        core.db.flush().unwrap();
    }
    let error = follow().unwrap_err();
    assert!(error.0.contains("leads to digest"), "{error}");
}
