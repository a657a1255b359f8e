use super::*;
use crate::machine::entry::assemble;
use crate::machine::{AccountRef, Balance, Command, Limits, NewAccount, NewLedger, NewTransfer};

fn two_accounts() -> Memory {
    let account = |id| {
        Command::CreateAccount(NewAccount {
            id,
            ledger: "usd",
            code: 0,
            limits: Limits::default(),
        })
    };
    let ledger = Command::CreateLedger(NewLedger {
        id: "usd",
        asset: "USD",
        scale: 2,
    });
    let mut store = Memory::new();
    store
        .apply(1, &assemble(&[ledger, account("a"), account("b")], 0))
        .unwrap();
    store
}

fn transfer(id: &str, amount: u128) -> NewTransfer<'_> {
    let (debit, credit) = (AccountRef::Id("a"), AccountRef::Number(2));
    NewTransfer {
        id,
        debit,
        credit,
        amount,
        code: 0,
        linked: false,
        metadata: "",
    }
}

fn record(id: &str, debits: u128, credits: u128) -> Record<'_> {
    Record::Transfer(TransferRecord {
        id,
        debit: 1,
        credit: 2,
        debit_id: "",
        credit_id: "",
        amount: 5,
        code: 0,
        linked: false,
        metadata: "",
        refusal: 0,
        debit_after: Balance { debits, credits: 0 },
        credit_after: Balance { debits: 0, credits },
    })
}

#[test]
fn what_is_taken_back_leaves_no_trace() {
    let mut store = two_accounts();
    store.begin(2);
    store.append(&record("t1", 5, 5)).unwrap();
    let (mark, kept) = (store.mark(), store.clone());
    store.append(&record("t2", 10, 10)).unwrap();
    store.append(&record("t3", 15, 15)).unwrap();
    assert_ne!(store, kept);
    store.undo_to(mark).unwrap();
    assert_eq!(store, kept);
    store.undo_to(mark).unwrap();
    assert_eq!(store, kept);
}

#[test]
fn an_entry_is_the_same_whether_or_not_something_was_taken_back_in_it() {
    let bad = NewTransfer {
        debit: AccountRef::Number(2),
        ..transfer("t3", 1)
    };
    let linked = NewTransfer {
        linked: true,
        ..transfer("t2", 7)
    };
    let (mut plain, mut failed) = (two_accounts(), two_accounts());
    plain
        .apply(
            2,
            &assemble(&[Command::Transfers(vec![transfer("t1", 7)])], 0),
        )
        .unwrap();
    failed
        .apply(
            2,
            &assemble(
                &[Command::Transfers(vec![linked, bad, transfer("t1", 7)])],
                0,
            ),
        )
        .unwrap();
    assert_eq!(plain.dump(), failed.dump());
    assert_eq!(plain.digest(), failed.digest());
}

#[test]
fn a_record_of_the_open_entry_can_be_read() {
    let mut store = two_accounts();
    store.begin(2);
    let at = store.append(&record("t1", 5, 5)).unwrap();
    let bytes = store.record(at).unwrap();
    assert_eq!(Record::decode(&bytes), Ok(record("t1", 5, 5)));
    assert!(
        store
            .record(Position {
                index: 2,
                record: 1
            })
            .is_err()
    );
    assert!(
        store
            .record(Position {
                index: 9,
                record: 0
            })
            .is_err()
    );
}

#[test]
#[should_panic(expected = "not the one its record starts from")]
fn a_record_made_for_another_balance_stops_the_node() {
    let mut store = two_accounts();
    store.begin(2);
    store.append(&record("t1", 6, 5)).unwrap();
}

#[test]
fn a_dump_names_everything() {
    let mut store = two_accounts();
    let put = Command::KvPut {
        key: "k",
        value: b"v\x00",
        expect: crate::machine::Expect::Any,
    };
    store
        .apply(
            3,
            &assemble(&[put, Command::Transfers(vec![transfer("t1", 5)])], 77),
        )
        .unwrap();
    let dump = store.dump();
    for line in [
        "applied 3 time 77",
        "ledger 1 usd USD scale 2 debits 5 credits 5",
        "account 1 a ledger 1 code 0 limits 0 debits 5 credits 0",
        "account 2 b ledger 1 code 0 limits 0 debits 0 credits 5",
        "key \"k\" created 3.0 modified 3.0 version 1 value v\\x00",
        "transfer t1 at 3.1",
    ] {
        assert!(
            dump.lines().any(|held| held == line),
            "{line:?} is not in\n{dump}"
        );
    }
    assert_eq!(
        dump.lines()
            .filter(|line| line.starts_with("record "))
            .count(),
        5
    );
}
