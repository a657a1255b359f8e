use super::*;
use crate::machine::command::{AccountRef, BATCH_LEN_MAX, METADATA_LEN_MAX, NewTransfer};

fn read(bytes: &[u8]) -> Result<Vec<Command<'_>>, String> {
    Entry::parse(bytes)?.commands().collect()
}

fn transfer(id: &str) -> NewTransfer<'_> {
    NewTransfer {
        id,
        debit: AccountRef::Number(0x0102),
        credit: AccountRef::Id("bob"),
        amount: 0x0a0b,
        code: 7,
        linked: true,
        metadata: "{}",
    }
}

/// An entry of one command with the bytes `command`.
fn raw(command: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    write_header(&mut bytes, 1, 0);
    bytes.extend_from_slice(&u32::try_from(command.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(command);
    bytes
}

#[test]
fn the_layout_of_an_entry_is_fixed() {
    let at = ModIndex {
        index: 0x0304,
        command: 5,
    };
    let commands = [
        Command::KvPut {
            key: "k",
            value: b"v",
            expect: Expect::At(at),
        },
        Command::CreateLedger(NewLedger {
            id: "usd",
            asset: "USD",
            scale: 2,
        }),
        Command::CreateAccount(NewAccount {
            id: "a",
            ledger: "usd",
            code: 9,
            limits: Limits {
                debits_must_not_exceed_credits: false,
                credits_must_not_exceed_debits: true,
            },
        }),
    ];
    let mut wanted = vec![1, 2, 0, 0, 3, 0, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0];
    wanted.extend_from_slice(b"\x12\0\0\0\x01\x03\x04\x03\0\0\0\0\0\0\x05\0\0\0\x01\0kv");
    wanted.extend_from_slice(b"\x0a\0\0\0\x03\x02\x03\x03usdUSD");
    wanted.extend_from_slice(b"\x0c\0\0\0\x04\x02\x09\0\0\0\x01\x03ausd");
    assert_eq!(assemble(&commands, 0xff), wanted);
    assert_eq!(read(&wanted), Ok(commands.to_vec()));
}

#[test]
fn the_layout_of_a_batch_is_fixed() {
    let commands = [Command::Transfers(vec![transfer("t1")])];
    let mut wanted = b"\x05\x01\0\0\0\x0b\x0a".to_vec();
    wanted.resize(5 + 16, 0);
    wanted.extend_from_slice(b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x07\0\0\0\x05\0\x02\0\x02\0");
    wanted.resize(5 + 64, 0);
    wanted.extend_from_slice(b"t1bob{}");
    assert_eq!(assemble(&commands, 0), raw(&wanted));
    assert_eq!(read(&raw(&wanted)), Ok(commands.to_vec()));
}

fn once<'a>(key: &'a str, command: Command<'a>) -> Command<'a> {
    Command::Once(Once {
        key,
        fingerprint: *b"0123456789abcdef0123456789ABCDEF",
        command: Box::new(command),
    })
}

#[test]
fn the_layout_of_a_command_under_a_key_is_fixed() {
    let delete = Command::KvDelete {
        key: "k",
        expect: Expect::Any,
    };
    let commands = [once("a key", delete)];
    let mut wanted = b"\x06\x05a key0123456789abcdef0123456789ABCDEF\x02".to_vec();
    wanted.extend_from_slice(&[0; 13]);
    wanted.extend_from_slice(b"\x01\0k");
    assert_eq!(assemble(&commands, 0), raw(&wanted));
    assert_eq!(read(&raw(&wanted)), Ok(commands.to_vec()));
    let within = [&wanted[..39], &wanted[..]].concat();
    let what = read(&raw(&within)).unwrap_err();
    assert!(what.contains("unknown kind 6"), "{what}");
    for key in [&b"\x06\0"[..], b"\x06\x01\n", b"\x06\x02\xc3\xbc"] {
        let what = read(&raw(&[key, &wanted[7..]].concat())).unwrap_err();
        assert!(what.contains("key breaks its grammar"), "{what}");
    }
}

#[test]
fn an_entry_of_the_first_rules_is_read_and_holds_no_keys() {
    let delete = Command::KvDelete {
        key: "k",
        expect: Expect::Any,
    };
    let of_rules_1 = |command| {
        let mut bytes = assemble(&[command], 0);
        bytes[1] = 1;
        bytes
    };
    let plain = of_rules_1(delete.clone());
    assert_eq!(Entry::parse(&plain).unwrap().rules, 1);
    assert_eq!(read(&plain), Ok(vec![delete.clone()]));
    let what = read(&of_rules_1(once("k", delete))).unwrap_err();
    assert!(what.contains("unknown kind 6"), "{what}");
}

#[test]
fn an_entry_of_another_version_is_refused() {
    let good = assemble(&[], 0);
    assert_eq!(read(&good), Ok(vec![]));
    for (at, wanted) in [
        (0, "format"),
        (1, "rules"),
        (2, "reserved"),
        (3, "reserved"),
    ] {
        let mut bad = good.clone();
        bad[at] = 9;
        let what = read(&bad).unwrap_err();
        assert!(what.contains(wanted), "{what}");
    }
}

#[test]
fn commands_are_counted_and_nothing_follows_the_last() {
    let command = Command::KvDelete {
        key: "k",
        expect: Expect::Any,
    };
    let good = assemble(&[command.clone(), command], 0);
    for (count, ok) in [
        (0, false),
        (1, false),
        (2, true),
        (3, false),
        (u32::MAX, false),
    ] {
        let mut bytes = good.clone();
        write_header(&mut bytes, count, 0);
        assert_eq!(read(&bytes).is_ok(), ok, "{count}");
    }
    for len in 0..good.len() {
        assert!(read(&good[..len]).is_err(), "{len} bytes");
    }
    let mut longer = good;
    longer.push(0);
    assert!(read(&longer).is_err());
}

/// `count` transfers with the bytes `heap`; each row changed by `change`.
fn batch(count: u32, rows: usize, heap: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut row =
        assemble(&[Command::Transfers(vec![transfer("t")])], 0).split_off(HEADER_LEN + 4 + 5);
    row.truncate(64);
    change(&mut row);
    let mut command = vec![TRANSFERS];
    command.extend_from_slice(&count.to_le_bytes());
    command.extend_from_slice(&row.repeat(rows));
    command.extend_from_slice(heap);
    raw(&command)
}

#[test]
fn a_batch_that_breaks_its_layout_is_refused() {
    let heap = b"tbob{}";
    assert!(read(&batch(1, 1, heap, |_| ())).is_ok());
    let cases: [(&str, Vec<u8>); 14] = [
        ("a batch of 0", batch(0, 0, b"", |_| ())),
        (
            "a batch of 8191",
            batch(8191, 8191, &heap.repeat(8191), |_| ()),
        ),
        ("a batch of 4294967295", batch(u32::MAX, 1, heap, |_| ())),
        ("transfer rows wants", batch(8190, 1, heap, |_| ())),
        ("id wants", batch(2, 2, heap, |_| ())),
        (
            "after the end of the batch",
            batch(1, 1, b"tbob{}x", |_| ()),
        ),
        ("metadata wants", batch(1, 1, b"tbob{", |_| ())),
        ("unknown flags", batch(1, 1, heap, |row| row[36] = 8)),
        ("reserved", batch(1, 1, heap, |row| row[42] = 1)),
        ("reserved", batch(1, 1, heap, |row| row[63] = 1)),
        (
            "account number 0",
            batch(1, 1, heap, |row| row[16..24].fill(0)),
        ),
        (
            "account id wants",
            batch(1, 1, heap, |row| row[24..32].fill(0xff)),
        ),
        ("id of 0 bytes", batch(1, 1, heap, |row| row[38] = 0)),
        (
            "metadata has 65282 bytes",
            batch(1, 1, heap, |row| row[41] = 0xff),
        ),
    ];
    for (wanted, bytes) in cases {
        let what = read(&bytes).unwrap_err();
        assert!(what.contains(wanted), "{what:?}, not {wanted:?}");
    }
}

#[test]
fn texts_that_break_their_grammar_are_refused() {
    for (wanted, heap) in [
        ("id of 1 bytes", b" bob{}"),
        ("account id of 3 bytes", b"tb/b{}"),
        ("metadata is not UTF-8", b"tbob\xff}"),
    ] {
        let what = read(&batch(1, 1, heap, |_| ())).unwrap_err();
        assert!(what.contains(wanted), "{what:?}, not {wanted:?}");
    }
    for (wanted, command) in [
        ("unknown kind 0", &b"\0"[..]),
        ("unknown kind 7", b"\x07"),
        (
            "unknown expectation 4",
            b"\x02\x04\0\0\0\0\0\0\0\0\0\0\0\0\x01\0k",
        ),
        ("not compared", b"\x02\x00\x01\0\0\0\0\0\0\0\0\0\0\0\x01\0k"),
        ("key has 0 bytes", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (
            "key is not UTF-8",
            b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\xff",
        ),
        (
            "key has 1025 bytes",
            b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x04k",
        ),
        ("after the end", b"\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0kk"),
        ("scale 39", b"\x03\x27\x01\x01aA"),
        ("ledger id of 0", b"\x03\x02\0\x01A"),
        ("asset breaks", b"\x03\x02\x01\0a"),
        ("asset breaks", b"\x03\x02\x01\x01a:"),
        ("asset breaks", b"\x03\x02\x01\x11aABCDEFGHIJKLMNOPQ"),
        ("unknown limits", b"\x04\x04\0\0\0\0\x01\x01ab"),
        ("account id", b"\x04\0\0\0\0\0\x01\x01:b"),
        ("ledger id", b"\x04\0\0\0\0\0\x01\x01a:"),
    ] {
        let what = read(&raw(command)).unwrap_err();
        assert!(what.contains(wanted), "{what:?}, not {wanted:?}");
    }
}

#[test]
fn the_longest_of_everything_is_read_back() {
    let (key, value) = ("k".repeat(KEY_LEN_MAX), vec![7; VALUE_LEN_MAX]);
    let (id, metadata) = ("i".repeat(id::ID_LEN_MAX), "m".repeat(METADATA_LEN_MAX));
    let account = AccountRef::Id(&id);
    let longest = NewTransfer {
        id: &id,
        debit: account,
        credit: account,
        amount: u128::MAX,
        code: u32::MAX,
        linked: true,
        metadata: &metadata,
    };
    let commands = [
        Command::KvPut {
            key: &key,
            value: &value,
            expect: Expect::Present,
        },
        Command::CreateLedger(NewLedger {
            id: &id,
            asset: "ABCDEFGHIJKLMNOP",
            scale: SCALE_MAX,
        }),
        Command::Transfers(vec![longest; BATCH_LEN_MAX]),
    ];
    assert_eq!(read(&assemble(&commands, u64::MAX)), Ok(commands.to_vec()));
}

#[test]
fn a_value_beyond_its_limit_is_refused() {
    let command = Command::KvPut {
        key: "k",
        value: &vec![7; VALUE_LEN_MAX],
        expect: Expect::Any,
    };
    let mut bytes = assemble(&[command], 0).split_off(HEADER_LEN + 4);
    bytes.push(7);
    assert!(read(&raw(&bytes)).unwrap_err().contains("value has"));
}

#[test]
#[should_panic(expected = "breaks its grammar")]
fn writing_an_id_that_breaks_its_grammar_is_a_bug() {
    assemble(&[Command::Transfers(vec![transfer("a b")])], 0);
}

#[test]
#[should_panic(expected = "a batch is 1 to 8190 transfers")]
fn writing_an_empty_batch_is_a_bug() {
    assemble(&[Command::Transfers(vec![])], 0);
}
