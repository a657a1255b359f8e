//! Reads against the machine's memory, from recents, a frozen seal and the tables; while apply and seals go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::db::Table;
use super::super::layout::{IdKey, position};
use super::super::{KvRow, Order, State, View};
use super::workload::Workload;
use super::{memory, open, tuning, upto};
use crate::machine::{AccountRef, Command, Memory, NewTransfer, Position, Record, entry};
use crate::storage::{Kind, LogEntry, LogId};

/// Everything the reads of `view` should give, from the records of `memory`.
struct Expected {
    /// By number - 1.
    accounts: Vec<String>,
    transfers: BTreeMap<String, Position>,
    /// By account number: positions.
    history: BTreeMap<u64, Vec<Position>>,
}

fn expected(memory: &Memory) -> Expected {
    let mut expected = Expected {
        accounts: Vec::new(),
        transfers: BTreeMap::new(),
        history: BTreeMap::new(),
    };
    for (at, bytes) in memory.journal() {
        match Record::decode(bytes).unwrap() {
            Record::AccountCreated { id, .. } => expected.accounts.push(id.to_owned()),
            Record::Transfer(transfer) => {
                expected.transfers.insert(transfer.id.to_owned(), at);
                if transfer.refusal == 0 {
                    expected.history.entry(transfer.debit).or_default().push(at);
                    expected
                        .history
                        .entry(transfer.credit)
                        .or_default()
                        .push(at);
                }
            }
            Record::KvPut { .. }
            | Record::KvDeleted { .. }
            | Record::LedgerCreated { .. }
            | Record::Answered { .. }
            | Record::AnswerForgotten { .. } => {}
        }
    }
    expected
}

fn check_transfers(view: &View, memory: &Memory, expected: &Expected) {
    let records: BTreeMap<Position, &[u8]> = memory.journal().collect();
    for (id, at) in &expected.transfers {
        let row = view.transfer(id).unwrap().value.expect("it exists");
        assert_eq!((&row.id, row.position), (id, *at));
        assert_eq!(view.transfer_at(*at).unwrap().value, row);
        let Record::Transfer(record) = Record::decode(records[at]).unwrap() else {
            panic!("a transfer")
        };
        assert_eq!(
            (row.amount, row.refusal, &row.metadata[..]),
            (record.amount, record.refusal, record.metadata)
        );
        assert_eq!(
            (row.debit_after, row.credit_after),
            (record.debit_after, record.credit_after)
        );
        let account = |number: u64, id: &str| match number {
            0 => id.to_owned(),
            number => expected.accounts[usize::try_from(number).unwrap() - 1].clone(),
        };
        assert_eq!(row.debit_account, account(record.debit, record.debit_id));
        assert_eq!(row.credit_account, account(record.credit, record.credit_id));
        assert_eq!(
            row.ledger.is_some(),
            record.debit != 0 && record.credit != 0
        );
    }
    assert_eq!(view.transfer("never-posted").unwrap().value, None);
}

fn check_history(view: &View, expected: &Expected) {
    for (number, id) in (1..).zip(&expected.accounts) {
        let wanted = expected.history.get(&number).cloned().unwrap_or_default();
        for order in [Order::Ascending, Order::Descending] {
            let mut wanted = wanted.clone();
            if order == Order::Descending {
                wanted.reverse();
            }
            for limit in [5, 1000] {
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let page = view
                        .transfers_of(id, order, after, limit)
                        .unwrap()
                        .value
                        .expect("it exists");
                    after = page.last().map(|row| row.position);
                    found.extend(page.iter().map(|row| row.position));
                    if page.len() < limit {
                        break;
                    }
                }
                assert_eq!(found, wanted, "account {id}, {order:?}, pages of {limit}");
            }
            // A cursor that is no posting of the account.
            let after = wanted.get(2).map(|at| Position {
                index: at.index,
                record: at.record.saturating_sub(1),
            });
            let found = view
                .transfers_of(id, order, after, 1000)
                .unwrap()
                .value
                .unwrap();
            let beyond = |at: &&Position| match order {
                Order::Ascending => after.is_none_or(|after| after < **at),
                Order::Descending => after.is_none_or(|after| **at < after),
            };
            let found: Vec<Position> = found.iter().map(|row| row.position).collect();
            assert_eq!(
                found,
                wanted.iter().filter(beyond).copied().collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(
        view.transfers_of("nobody", Order::Ascending, None, 10)
            .unwrap()
            .value,
        None
    );
}

fn check_lists(view: &View, memory: &Memory, expected: &Expected) {
    let mut ids: Vec<&String> = expected.accounts.iter().collect();
    ids.sort();
    let found = view.accounts(None, "", None, 1000).unwrap().value;
    assert_eq!(found.iter().map(|row| &row.id).collect::<Vec<_>>(), ids);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = view
            .accounts(None, "account:", after.as_deref(), 3)
            .unwrap()
            .value;
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        paged.extend(page);
    }
    assert_eq!(paged, found);
    for ledger in view.ledgers(None, 100).unwrap().value {
        let of_ledger = view
            .accounts(Some(&ledger.id), "", None, 1000)
            .unwrap()
            .value;
        assert!(of_ledger.iter().all(|row| row.ledger == ledger.id));
        assert_eq!(
            of_ledger.len(),
            found.iter().filter(|row| row.ledger == ledger.id).count()
        );
        let trial = view.trial_balance(&ledger.id).unwrap().value.unwrap();
        assert_eq!(
            (trial.summed, trial.accounts),
            (ledger.totals, of_ledger.len() as u64)
        );
        assert_eq!(trial.summed.debits, trial.summed.credits);
        assert_eq!(view.ledger(&ledger.id).unwrap().value, Some(ledger));
    }
    for row in &found {
        assert_eq!(view.account(&row.id).unwrap().value.as_ref(), Some(row));
    }
    assert_eq!(view.account("nobody").unwrap().value, None);
    let keys = view.kv_list("", None, 1000, 1 << 30).unwrap().value.rows;
    let small = view
        .kv_list("key/", Some("key/1"), 3, 100)
        .unwrap()
        .value
        .rows;
    let wanted = keys.iter().filter(|row| &row.key[..] > "key/1").take(3);
    let fits = |found: &[KvRow]| {
        found.len() <= 1
            || found
                .iter()
                .map(|row| row.key.len() + row.value.len())
                .sum::<usize>()
                <= 100
    };
    assert!(fits(&small) && small.is_empty() == (wanted.clone().count() == 0));
    assert!(wanted.zip(&small).all(|(a, b)| a == b), "{small:?}");
    for limit in 1..=keys.len() + 1 {
        let page = view.kv_list("", None, limit, 1 << 30).unwrap().value;
        assert_eq!(page.more, limit < keys.len(), "{limit} of {}", keys.len());
        assert_eq!(page.rows, keys[..limit.min(keys.len())]);
    }
    for row in keys {
        let (meta, value) = memory.value(&row.key).expect("it exists");
        assert_eq!(
            (row.created, row.modified, row.version),
            (meta.created, meta.modified, meta.version)
        );
        assert_eq!(&row.value[..], value);
        assert_eq!(view.kv(&row.key).unwrap().value, Some(row));
    }
    assert_eq!(view.kv("no such key").unwrap().value, None);
}

/// That every read of `state` gives what `memory` holds.
pub(super) fn check(state: &State, memory: &Memory) {
    let (view, expected) = (state.view(), expected(memory));
    check_transfers(&view, memory, &expected);
    check_history(&view, &expected);
    check_lists(&view, memory, &expected);
    let ids = expected
        .accounts
        .iter()
        .map(String::as_str)
        .chain(["nobody"]);
    let mut numbers: Vec<Option<u64>> = (1..=expected.accounts.len() as u64).map(Some).collect();
    numbers.push(None);
    assert_eq!(state.resolve(ids).unwrap(), numbers);
}

#[test]
fn reads_give_what_was_applied_before_and_after_seals_of_both_kinds() {
    for (seed, ingest) in [(31, false), (32, true)] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let entries = Workload::new(seed).entries(70);
        let state = open(&root, tuning(ingest), None);
        for some in entries.chunks(35) {
            state.apply(some).unwrap();
            let last = some.last().unwrap().id.index;
            check(&state, &memory(upto(&entries, last)));
            state.seal().unwrap();
            check(&state, &memory(upto(&entries, last)));
        }
        state.close().unwrap();
        drop(state);
        check(&open(&root, tuning(ingest), None), &memory(&entries));
    }
}

#[test]
fn an_id_that_was_sealed_after_the_index_that_is_read_at_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(33).entries(40);
    let state = open(&dir.path().join("state"), tuning(false), None);
    state.apply(&entries).unwrap();
    state.seal().unwrap();
    let expected = expected(&memory(&entries));
    let short = expected.transfers.keys().find(|id| id.len() < 20);
    let id = short.expect("one stands under itself");
    let view = state.view();
    assert!(view.transfer(id).unwrap().value.is_some());
    // As if a seal wrote the row between the look at the index and the look at the table.
    let later = Position {
        index: view.index() + 1,
        record: 0,
    };
    let core = state.core();
    let mut batch = core.db.batch();
    let key = IdKey::new(id.as_bytes());
    batch.put(Table::Ids, key.as_bytes(), &position(later));
    core.db.write(batch).unwrap();
    assert_eq!(view.transfer(id).unwrap().value, None);
}

#[test]
fn a_hot_account_is_listed_by_scanning() {
    let dir = tempfile::tempdir().unwrap();
    let mut unsealed = tuning(false);
    unsealed.seal_journal_bytes = u64::MAX;
    let mut entries = Workload::new(41).entries(3);
    for index in 3..33 {
        let ids: Vec<String> = (0..200).map(|n| format!("hot-{index}-{n}")).collect();
        let transfer = |n: usize| NewTransfer {
            id: &ids[n],
            debit: AccountRef::Number(1),
            // Both are in one ledger, as the setup has it.
            credit: AccountRef::Number(if n.is_multiple_of(3) { 3 } else { 5 }),
            amount: 1,
            code: 1,
            linked: false,
            metadata: "",
        };
        let transfers = (0..ids.len()).map(transfer).collect();
        let body = entry::assemble(&[Command::Transfers(transfers)], 1).into();
        let id = LogId {
            term: 1,
            node: 1,
            index,
        };
        entries.push(LogEntry {
            id,
            kind: Kind::Commands,
            body,
        });
    }
    let state = open(&dir.path().join("state"), unsealed, None);
    state.apply(&entries).unwrap();
    let expected = expected(&memory(&entries));
    let (number, wanted) = (&1, &expected.history[&1]);
    assert_eq!(wanted.len(), 6000, "more than a chain is followed for");
    let core = state.core();
    for after in [None, Some(wanted[100])] {
        let from = after.map_or(0, |_| 101);
        let found = core
            .positions_of(*number, Order::Ascending, after, 300)
            .unwrap()
            .value;
        assert_eq!(found, wanted[from..from + 300]);
    }
}

#[test]
fn readers_never_see_part_of_an_entry_while_entries_and_seals_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(&dir.path().join("state"), tuning(true), None);
    let entries = Workload::new(51).entries(300);
    state.apply(&entries[..3]).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (state, done) = (state.clone(), Arc::clone(&done));
        std::thread::spawn(move || {
            let (mut last, mut rounds) = (0, 0u64);
            while !done.load(Ordering::SeqCst) {
                let view = state.view();
                let trial = view.trial_balance("ledger-1").unwrap();
                let value = trial.value.unwrap();
                // Summed over the accounts at one moment: unequal if an entry were half applied.
                assert_eq!(
                    (value.summed.debits, value.summed),
                    (value.summed.credits, value.ledger.totals)
                );
                assert!(trial.index >= last, "the index of reads never falls");
                last = trial.index;
                let accounts = view.accounts(Some("ledger-1"), "", None, 1000).unwrap();
                let sum: u128 = accounts.value.iter().map(|row| row.balance.debits).sum();
                assert_eq!(
                    sum,
                    accounts.value.iter().map(|row| row.balance.credits).sum()
                );
                let all = view
                    .transfers_of(&accounts.value[0].id, Order::Ascending, None, 10_000)
                    .unwrap();
                let mut reversed = view
                    .transfers_of(&accounts.value[0].id, Order::Descending, None, 10_000)
                    .unwrap();
                reversed.value.as_mut().unwrap().reverse();
                let count = all.value.as_ref().unwrap().len();
                assert_eq!(
                    all.value.unwrap()[..],
                    reversed.value.unwrap()[..count],
                    "none missing, none twice"
                );
                rounds += 1;
            }
            rounds
        })
    };
    for some in entries[3..].chunks(2) {
        state.apply(some).unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(state.dump().unwrap(), memory(&entries).dump());
}
