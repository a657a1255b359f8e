//! The machine against the model on random histories: every reply, every balance, every record.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use quorate::machine::{
    AccountRef, Command, Expect, Memory, NewAccount, NewLedger, NewTransfer, Once, Record,
    Rejection, Reply, Store, TransferResult, entry, once::fingerprint,
};

use crate::draw::{CASES, IDEMPOTENCY_KEYS, KEYS, for_all, history};
use crate::history::assert_rebuilds;
use crate::model::{Ask, Model};

/// The account as a leader would name it that knows `store`, the state before the entry.
fn name_account<'a>(store: &mut Memory, id: &'a str, by_number: bool) -> AccountRef<'a> {
    match store.find_account(id).expect("memory does not fail") {
        Some(number) if by_number => AccountRef::Number(number),
        _ => AccountRef::Id(id),
    }
}

fn command<'a>(store: &mut Memory, ask: &'a Ask, numbers: &[bool]) -> Command<'a> {
    match ask {
        Ask::Put { key, value, expect } => Command::KvPut {
            key,
            value,
            expect: *expect,
        },
        Ask::Delete { key, expect } => Command::KvDelete {
            key,
            expect: *expect,
        },
        Ask::Ledger { id, asset, scale } => Command::CreateLedger(NewLedger {
            id,
            asset,
            scale: *scale,
        }),
        Ask::Account {
            id,
            ledger,
            code,
            limits,
        } => Command::CreateAccount(NewAccount {
            id,
            ledger,
            code: *code,
            limits: *limits,
        }),
        Ask::Transfers(batch) => {
            let named = batch.iter().zip(numbers);
            let members = named.map(|(transfer, &by_number)| NewTransfer {
                id: &transfer.id,
                debit: name_account(store, &transfer.debit, by_number),
                credit: name_account(store, &transfer.credit, by_number),
                amount: transfer.amount,
                code: transfer.code,
                linked: transfer.linked,
                metadata: &transfer.metadata,
            });
            Command::Transfers(members.collect())
        }
        Ask::Once { key, ask } => Command::Once(Once {
            key,
            // As the node sees it that takes the request: it knows no numbers.
            fingerprint: fingerprint("test", &command(store, ask, &vec![false; numbers.len()])),
            command: Box::new(command(store, ask, numbers)),
        }),
    }
}

fn encode(store: &mut Memory, asks: &[(Ask, Vec<bool>)], stamp_ns: u64) -> Vec<u8> {
    let commands: Vec<_> = asks
        .iter()
        .map(|(ask, numbers)| command(store, ask, numbers))
        .collect();
    entry::assemble(&commands, stamp_ns)
}

fn check_state(store: &mut Memory, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(store.ledger_count() as usize, model.ledgers.len());
    for ((id, asset, scale), number) in model.ledgers.iter().zip(1..) {
        prop_assert_eq!(store.find_ledger(id), Some(number));
        prop_assert_eq!(store.ledger_asset(number), Some(asset.as_str()));
        let ledger = store.ledger(number).expect("it is counted");
        let turnover = model.turnover(id);
        prop_assert_eq!(
            (ledger.scale, ledger.debits, ledger.credits),
            (*scale, turnover, turnover)
        );
    }
    prop_assert_eq!(store.account_count(), model.accounts.len() as u64);
    for ((id, ledger, code, limits), number) in model.accounts.iter().zip(1..) {
        let account = store.account(number).expect("it is counted");
        prop_assert_eq!(
            store.account_id(number).expect("it is counted"),
            id.as_str()
        );
        prop_assert_eq!(Some(account.ledger), store.find_ledger(ledger));
        prop_assert_eq!((account.code, account.limits), (*code, *limits));
        prop_assert_eq!(account.balance, model.balance(id), "balance of {}", id);
    }
    for key in KEYS {
        prop_assert_eq!(
            store.value(key).map(|(meta, value)| (meta, value.to_vec())),
            model.key(key)
        );
    }
    prop_assert_eq!(store.answer_count(), model.used.len() as u64);
    for key in IDEMPOTENCY_KEYS {
        let found = store.find_answer(key).expect("memory does not fail");
        let used = model.used.iter().find(|used| used.key == key);
        prop_assert_eq!(
            found.map(|answer| (answer.at, answer.time_ns)),
            used.map(|used| (used.at, used.time_ns))
        );
    }
    check_records(store, model)
}

/// That the records of transfers are exactly those of the model, balances included.
fn check_records(store: &mut Memory, model: &Model) -> Result<(), TestCaseError> {
    let kept = store
        .journal()
        .filter(|(_, bytes)| matches!(Record::decode(bytes), Ok(Record::Transfer(_))))
        .count();
    prop_assert_eq!(kept, model.taken.len());
    for taken in &model.taken {
        prop_assert_eq!(
            store
                .find_transfer(&taken.transfer.id)
                .expect("memory does not fail"),
            Some(taken.at)
        );
        let bytes = store.record(taken.at).expect("it was found");
        let Ok(Record::Transfer(record)) = Record::decode(&bytes) else {
            return Err(TestCaseError::fail("a transfer id leads to another record"));
        };
        let asked = &taken.transfer;
        prop_assert_eq!(
            (record.id, record.amount, record.code),
            (asked.id.as_str(), asked.amount, asked.code)
        );
        prop_assert_eq!(
            (record.linked, record.metadata),
            (asked.linked, asked.metadata.as_str())
        );
        prop_assert_eq!(record.refusal, taken.refused.unwrap_or(0));
        prop_assert_eq!([record.debit_after, record.credit_after], taken.balances);
        for (number, id, asked) in [
            (record.debit, record.debit_id, &asked.debit),
            (record.credit, record.credit_id, &asked.credit),
        ] {
            let named = if number == 0 {
                id.to_owned()
            } else {
                store.account_id(number).expect("it exists")
            };
            prop_assert_eq!(&named, asked);
        }
    }
    Ok(())
}

/// What came out over all cases: a history that never sees a refusal proves nothing about it.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<&'static str, u32>>);

impl Seen {
    fn add(&self, replies: &[Reply]) {
        for reply in replies {
            match reply {
                Reply::Rejected(rejection) => self.count(rejection.code()),
                Reply::Transfers(results) => results
                    .iter()
                    .for_each(|result| self.count(name_result(result))),
                Reply::KvPut { version, .. } => {
                    self.count(if *version > 1 { "replaced" } else { "made" })
                }
                Reply::KvDeleted { .. } => self.count("deleted"),
                Reply::Ledger { .. } | Reply::Account { .. } => {}
                Reply::Replayed(_) => self.count("replayed"),
            }
        }
    }

    fn count(&self, name: &'static str) {
        *self.0.borrow_mut().entry(name).or_default() += 1;
    }
}

fn name_result(result: &TransferResult) -> &'static str {
    match result {
        TransferResult::Created(_) => "created",
        TransferResult::Exists(_) => "exists",
        TransferResult::Refused(rejection) => rejection.code(),
    }
}

/// Every batch once more, as clients that never heard of its outcome would send it: none has a second effect, and none that
/// was refused is posted after all.
fn check_retries(
    store: &mut Memory,
    model: &mut Model,
    batches: &[(Ask, Vec<bool>)],
) -> Result<(), TestCaseError> {
    let balances = |store: &Memory| {
        (1..=store.account_count())
            .map(|number| store.account(number))
            .collect::<Vec<_>>()
    };
    let before = balances(store);
    let index = store.applied() + 1;
    let bytes = encode(store, batches, 0);
    let outcome = store
        .apply(index, &bytes)
        .map_err(|fault| TestCaseError::fail(fault.what))?;
    let plain: Vec<Ask> = batches.iter().map(|(ask, _)| ask.clone()).collect();
    prop_assert_eq!(&outcome.replies, &model.entry(index, 0, &plain));
    for reply in &outcome.replies {
        let Reply::Transfers(results) = reply else {
            continue;
        };
        prop_assert!(
            !results
                .iter()
                .any(|result| matches!(result, TransferResult::Created(_))),
            "{:?}",
            results
        );
    }
    prop_assert_eq!(before, balances(store));
    Ok(())
}

#[test]
fn any_history_gives_what_the_model_gives() {
    let seen = Seen::default();
    for_all(&history(), |history| {
        let (mut store, mut twin, mut model) = (Memory::new(), Memory::new(), Model::default());
        for ((asks, stamp_ns), index) in history.asks().iter().zip(history.stamps()).zip(1..) {
            let bytes = encode(&mut store, asks, stamp_ns);
            let held = store.answer_count();
            let outcome = store
                .apply(index, &bytes)
                .map_err(|fault| TestCaseError::fail(fault.what))?;
            let plain: Vec<Ask> = asks.iter().map(|(ask, _)| ask.clone()).collect();
            prop_assert_eq!(&outcome.replies, &model.entry(index, stamp_ns, &plain));
            seen.add(&outcome.replies);
            if store.answer_count() < held {
                seen.count("forgotten");
            }
            check_state(&mut store, &model)?;
            prop_assert_eq!(
                &twin.apply(index, &bytes).expect("the first did not fail"),
                &outcome
            );
        }
        prop_assert_eq!(store.dump(), twin.dump());
        prop_assert_eq!(store.digest(), twin.digest());
        assert_rebuilds(&store);
        let batches: Vec<_> = history.asks().concat();
        let batches: Vec<_> = batches
            .into_iter()
            .filter(|(ask, _)| matches!(ask, Ask::Transfers(_)))
            .collect();
        check_retries(&mut store, &mut model, &batches)
    });
    if std::env::var_os("QUORATE_CASES").is_some() {
        return;
    }
    let seen = seen.0.into_inner();
    let names = [
        "created",
        "exists",
        "chain_open",
        "chain_failed",
        "amount_must_not_be_zero",
        "exists_with_different_fields",
        "accounts_must_differ",
        "debit_account_not_found",
        "credit_account_not_found",
        "ledger_mismatch",
        "amount_overflow",
        "exceeds_credits",
        "exceeds_debits",
        "ledger_not_found",
        "key_not_found",
        "precondition_failed",
        "made",
        "replaced",
        "deleted",
        "replayed",
        "idempotency_key_reused",
        "forgotten",
    ];
    for name in names {
        assert!(
            seen.get(name).is_some_and(|&times| times > CASES / 40),
            "{name} was hardly seen: {seen:?}"
        );
    }
}

/// A reply without positions, which depend on how commands were gathered into entries.
fn without_positions(reply: &Reply) -> String {
    match reply {
        Reply::KvPut { version, .. } => format!("put {version}"),
        Reply::KvDeleted { .. } => "deleted".to_owned(),
        Reply::Transfers(results) => {
            let result = |result: &TransferResult| match result {
                TransferResult::Created(_) => "created".to_owned(),
                TransferResult::Exists(_) => "exists".to_owned(),
                TransferResult::Refused(rejection) => format!("{rejection:?}"),
            };
            results.iter().map(result).collect::<Vec<_>>().join(" ")
        }
        Reply::Rejected(Rejection::PreconditionFailed { .. }) => "precondition".to_owned(),
        Reply::Rejected(Rejection::IdempotencyKeyReused { .. }) => "reused".to_owned(),
        Reply::Replayed(before) => format!("replayed {}", without_positions(&before.reply)),
        Reply::Rejected(_) | Reply::Ledger { .. } | Reply::Account { .. } => format!("{reply:?}"),
    }
}

/// Whether the outcome of a command cannot depend on positions.
fn is_free_of_positions(ask: &Ask) -> bool {
    let ask = match ask {
        Ask::Once { ask, .. } => ask,
        ask => ask,
    };
    !matches!(
        ask,
        Ask::Put {
            expect: Expect::At(_),
            ..
        } | Ask::Delete {
            expect: Expect::At(_),
            ..
        }
    )
}

#[test]
fn how_commands_are_gathered_into_entries_does_not_matter() {
    for_all(&history(), |history| {
        let asks: Vec<_> = history
            .asks()
            .into_iter()
            .flatten()
            .filter(|(ask, _)| is_free_of_positions(ask))
            .collect();
        let mut seen = Vec::new();
        for entry_len in [1, 3, usize::MAX] {
            let mut store = Memory::new();
            let mut replies = Vec::new();
            for (asks, index) in asks.chunks(entry_len.min(asks.len().max(1))).zip(1..) {
                let bytes = encode(&mut store, asks, 0);
                let outcome = store
                    .apply(index, &bytes)
                    .map_err(|fault| TestCaseError::fail(fault.what))?;
                replies.extend(outcome.replies.iter().map(without_positions));
            }
            let records: Vec<Vec<u8>> = store
                .journal()
                .map(|(_, bytes)| bytes.to_vec())
                .filter(|bytes| {
                    !matches!(
                        Record::decode(bytes),
                        Ok(Record::KvPut { .. } | Record::Answered { .. })
                    )
                })
                .collect();
            let values = KEYS.map(|key| {
                store
                    .value(key)
                    .map(|(meta, value)| (meta.version, value.to_vec()))
            });
            seen.push((replies, records, values));
        }
        prop_assert_eq!(&seen[0], &seen[1]);
        prop_assert_eq!(&seen[0], &seen[2]);
        Ok(())
    });
}
