//! Codecs: what is written is read back, there is one encoding of everything, and any bytes at all are read or refused.

use proptest::collection::vec;
use proptest::prelude::*;

use quorate::machine::command::{KEY_LEN_MAX, ModIndex};
use quorate::machine::entry::{self, Entry};
use quorate::machine::{
    AccountRef, Balance, Command, Expect, Limits, Memory, NewAccount, NewLedger, NewTransfer, Once,
    Position, Record, TransferRecord, once::fingerprint,
};

use crate::draw::for_all;

/// Values that commands and records borrow from.
#[derive(Clone, Debug)]
struct Texts {
    ids: Vec<String>,
    key: String,
    value: Vec<u8>,
    metadata: String,
}

fn texts() -> impl Strategy<Value = Texts> {
    let id = || {
        let first = prop::sample::select(&b"azAZ09"[..]);
        (
            first,
            vec(prop::sample::select(&b"azAZ09:_.@-"[..]), 0..127),
        )
            .prop_map(|(first, rest)| {
                let bytes = std::iter::once(first).chain(rest).collect();
                String::from_utf8(bytes).expect("ASCII")
            })
    };
    let key = vec(any::<char>(), 1..KEY_LEN_MAX / 4).prop_map(|chars| chars.into_iter().collect());
    let metadata = vec(any::<char>(), 0..20).prop_map(|chars| chars.into_iter().collect());
    (vec(id(), 6), key, vec(any::<u8>(), 0..50), metadata).prop_map(
        |(ids, key, value, metadata)| Texts {
            ids,
            key,
            value,
            metadata,
        },
    )
}

#[derive(Clone, Debug)]
struct Numbers {
    small: Vec<u8>,
    code: u32,
    account: Vec<u64>,
    amount: Vec<u128>,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    (
        vec(any::<u8>(), 8),
        any::<u32>(),
        vec(1u64.., 4),
        vec(any::<u128>(), 5),
    )
        .prop_map(|(small, code, account, amount)| Numbers {
            small,
            code,
            account,
            amount,
        })
}

fn mod_index(numbers: &Numbers, which: usize) -> ModIndex {
    ModIndex {
        index: numbers.account[which],
        command: numbers.code,
    }
}

fn limits(bits: u8) -> Limits {
    Limits::from_bits(bits & 3).expect("two bits")
}

fn commands<'a>(texts: &'a Texts, numbers: &Numbers) -> Vec<Command<'a>> {
    let expect = match numbers.small[0] % 4 {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::Present,
        _ => Expect::At(mod_index(numbers, 0)),
    };
    let ids = &texts.ids;
    let account = |which: usize| match numbers.small[which] % 2 {
        0 => AccountRef::Number(numbers.account[which]),
        _ => AccountRef::Id(&ids[which]),
    };
    let transfer = |id: usize| NewTransfer {
        id: &ids[id],
        debit: account(1),
        credit: account(2),
        amount: numbers.amount[id],
        code: numbers.code,
        linked: numbers.small[id].is_multiple_of(3),
        metadata: if id == 0 { &texts.metadata } else { "" },
    };
    let batch = Command::Transfers(
        (0..1 + usize::from(numbers.small[5] % 4))
            .map(transfer)
            .collect(),
    );
    let once = |command| {
        Command::Once(Once {
            key: &ids[3],
            fingerprint: fingerprint(&ids[4], &command),
            command: Box::new(command),
        })
    };
    vec![
        Command::KvPut {
            key: &texts.key,
            value: &texts.value,
            expect,
        },
        Command::KvDelete {
            key: &texts.key,
            expect,
        },
        Command::CreateLedger(NewLedger {
            id: &ids[0],
            asset: "A-b._9",
            scale: numbers.small[3] % 39,
        }),
        Command::CreateAccount(NewAccount {
            id: &ids[1],
            ledger: &ids[2],
            code: numbers.code,
            limits: limits(numbers.small[4]),
        }),
        batch.clone(),
        once(batch),
        once(Command::KvDelete {
            key: &texts.key,
            expect,
        }),
    ]
}

fn records<'a>(texts: &'a Texts, numbers: &Numbers) -> Vec<Record<'a>> {
    let ids = &texts.ids;
    let balance = |at: usize| Balance {
        debits: numbers.amount[at],
        credits: numbers.amount[at + 1],
    };
    let posted = TransferRecord {
        id: &ids[0],
        debit: numbers.account[0],
        credit: numbers.account[1],
        debit_id: "",
        credit_id: "",
        amount: numbers.amount[0],
        code: numbers.code,
        linked: numbers.small[0].is_multiple_of(2),
        metadata: &texts.metadata,
        refusal: 0,
        debit_after: balance(1),
        credit_after: balance(3),
    };
    let refusal = u16::from(1 + numbers.small[1] % 5);
    let (created, modified) = (mod_index(numbers, 0), mod_index(numbers, 1));
    vec![
        Record::KvPut {
            key: &texts.key,
            value: &texts.value,
            created,
            modified,
            version: numbers.account[2],
        },
        Record::KvDeleted { key: &texts.key },
        Record::LedgerCreated {
            number: numbers.code,
            id: &ids[0],
            asset: "USD",
            scale: numbers.small[0],
        },
        Record::AccountCreated {
            number: numbers.account[0],
            id: &ids[1],
            ledger: numbers.code,
            code: numbers.code,
            limits: limits(numbers.small[2]),
        },
        Record::Answered {
            key: &ids[3],
            fingerprint: [numbers.small[3]; 32],
            time_ns: numbers.account[3],
            reply: &texts.value,
        },
        Record::AnswerForgotten {
            key: &ids[4],
            at: Position {
                index: numbers.account[3],
                record: numbers.code,
            },
        },
        Record::Transfer(posted),
        Record::Transfer(TransferRecord { refusal, ..posted }),
        Record::Transfer(TransferRecord {
            refusal,
            debit: 0,
            debit_id: &ids[1],
            ..posted
        }),
        Record::Transfer(TransferRecord {
            refusal,
            credit: 0,
            credit_id: &ids[2],
            ..posted
        }),
    ]
}

fn read(bytes: &[u8]) -> Result<(u64, Vec<Command<'_>>), String> {
    let entry = Entry::parse(bytes)?;
    Ok((entry.stamp_ns, entry.commands().collect::<Result<_, _>>()?))
}

/// Changes `bytes` a little at `at`.
fn damage(bytes: &mut Vec<u8>, how: u8, at: usize, byte: u8) {
    let at = at % bytes.len();
    match how % 4 {
        0 => bytes[at] ^= byte,
        1 => bytes.truncate(at),
        2 => bytes.insert(at, byte),
        _ => drop(bytes.remove(at)),
    }
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    for_all(
        &(texts(), numbers(), any::<u64>()),
        |(texts, numbers, stamp_ns)| {
            let commands = commands(&texts, &numbers);
            let bytes = entry::assemble(&commands, stamp_ns);
            prop_assert_eq!(read(&bytes), Ok((stamp_ns, commands)));
            Ok(())
        },
    );
}

#[test]
fn a_record_is_read_as_it_was_written() {
    for_all(&(texts(), numbers()), |(texts, numbers)| {
        for record in records(&texts, &numbers) {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }
        Ok(())
    });
}

/// Nothing that is read can be written in another way, and applying it does not panic.
fn check_entry(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok((stamp_ns, commands)) = read(bytes) {
        let mut again = entry::assemble(&commands, stamp_ns);
        // Older rules are read and never written.
        again[1] = bytes[1];
        prop_assert_eq!(again, bytes);
        let _ = Memory::new().apply(1, bytes);
    } else {
        prop_assert!(Memory::new().apply(1, bytes).is_err());
    }
    Ok(())
}

fn check_record(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(record) = Record::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }
    Ok(())
}

#[test]
fn a_damaged_entry_is_refused_or_another_entry() {
    let damages = vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..3);
    for_all(
        &(texts(), numbers(), damages),
        |(texts, numbers, damages)| {
            for command in commands(&texts, &numbers) {
                let mut bytes = entry::assemble(&[command], 1);
                for &(how, at, byte) in &damages {
                    if !bytes.is_empty() {
                        damage(&mut bytes, how, at, byte);
                    }
                }
                check_entry(&bytes)?;
            }
            Ok(())
        },
    );
}

#[test]
fn a_damaged_record_is_refused_or_another_record() {
    let damages = vec((any::<u8>(), any::<usize>(), any::<u8>()), 1..3);
    for_all(
        &(texts(), numbers(), damages),
        |(texts, numbers, damages)| {
            for record in records(&texts, &numbers) {
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                for &(how, at, byte) in &damages {
                    if !bytes.is_empty() {
                        damage(&mut bytes, how, at, byte);
                    }
                }
                check_record(&bytes)?;
            }
            Ok(())
        },
    );
}

#[test]
fn any_bytes_are_an_entry_or_refused() {
    for_all(&(0u8..9, vec(any::<u8>(), 0..300)), |(kind, mut bytes)| {
        check_record(&bytes)?;
        check_entry(&bytes)?;
        // Past the header, or a property of random bytes would only ever see a wrong version.
        if let Some(len) = bytes.len().checked_sub(21) {
            entry::write_header(&mut bytes, 1, 0);
            let command_len = u32::try_from(len + 1).expect("300 bytes");
            bytes[16..20].copy_from_slice(&command_len.to_le_bytes());
            bytes[20] = kind;
            check_entry(&bytes)?;
            check_record(&bytes[20..])?;
        }
        Ok(())
    });
}
