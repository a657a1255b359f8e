use super::codec::TRANSFER_LEN;
use super::*;

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn posted() -> TransferRecord<'static> {
    TransferRecord {
        id: "t1",
        debit: 0x0102,
        credit: 0x0304,
        debit_id: "",
        credit_id: "",
        amount: 0x0506,
        code: 0x0708,
        linked: true,
        metadata: "{}",
        refusal: 0,
        debit_after: Balance {
            debits: 0x11,
            credits: 0x12,
        },
        credit_after: Balance {
            debits: 0x13,
            credits: 0x14,
        },
    }
}

#[test]
fn the_layout_of_every_record_is_fixed() {
    let (created, modified) = (
        ModIndex {
            index: 3,
            command: 4,
        },
        ModIndex {
            index: 5,
            command: 6,
        },
    );
    let limits = Limits {
        debits_must_not_exceed_credits: true,
        credits_must_not_exceed_debits: false,
    };
    for (record, wanted) in [
        (
            Record::KvPut { key: "k", value: b"v\xff", created, modified, version: 7 },
            &b"\x01\x01\0\x03\0\0\0\0\0\0\0\x04\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\0kv\xff"[..],
        ),
        (Record::KvDeleted { key: "key" }, b"\x02key"),
        (
            Record::LedgerCreated { number: 9, id: "usd", asset: "USD", scale: 2 },
            b"\x03\x02\x03\x03\x09\0\0\0usdUSD",
        ),
        (
            Record::AccountCreated { number: 8, id: "alice", ledger: 9, code: 7, limits },
            b"\x04\x01\x05\0\x09\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0alice",
        ),
        (
            Record::Answered { key: "a b", fingerprint: *b"0123456789abcdef0123456789ABCDEF", time_ns: 7, reply: b"r\xff" },
            b"\x06\x03\x07\0\0\0\0\0\0\x000123456789abcdef0123456789ABCDEFa br\xff",
        ),
        (
            Record::AnswerForgotten { key: "a b", at: Position { index: 5, record: 6 } },
            b"\x07\x05\0\0\0\0\0\0\0\x06\0\0\0a b",
        ),
    ] {
        assert_eq!(encoded(&record), wanted, "{record:?}");
        assert_eq!(Record::decode(wanted), Ok(record));
    }
}

#[test]
fn the_layout_of_a_transfer_is_fixed() {
    let bytes = encoded(&Record::Transfer(posted()));
    let mut wanted = vec![0; TRANSFER_LEN];
    for (at, byte) in [
        (0, 5),
        (1, 1),
        (4, 8),
        (5, 7),
        (8, 2),
        (12, 2),
        (16, 2),
        (17, 1),
        (24, 4),
        (25, 3),
        (32, 6),
        (33, 5),
        (48, 0x11),
        (64, 0x12),
        (80, 0x13),
        (96, 0x14),
    ] {
        wanted[at] = byte;
    }
    wanted.extend_from_slice(b"t1{}");
    assert_eq!(bytes, wanted);

    let refused = TransferRecord {
        refusal: 1,
        debit: 0,
        debit_id: "ghost",
        linked: false,
        ..posted()
    };
    let bytes = encoded(&Record::Transfer(refused));
    assert_eq!(
        (&bytes[1..4], bytes[9], &bytes[16..18]),
        (&[0, 1, 0][..], 5, &[0, 0][..])
    );
    assert_eq!(&bytes[TRANSFER_LEN..], b"t1ghost{}");
    assert_eq!(Record::decode(&bytes), Ok(Record::Transfer(refused)));
}

#[test]
fn a_record_cut_or_longer_is_refused() {
    let limits = Limits::default();
    for record in [
        Record::LedgerCreated {
            number: 9,
            id: "usd",
            asset: "USD",
            scale: 2,
        },
        Record::AccountCreated {
            number: 8,
            id: "alice",
            ledger: 9,
            code: 7,
            limits,
        },
        Record::Transfer(posted()),
    ] {
        let mut bytes = encoded(&record);
        for len in 0..bytes.len() {
            assert!(
                Record::decode(&bytes[..len]).is_err(),
                "{len} bytes of {record:?}"
            );
        }
        bytes.push(0);
        assert!(Record::decode(&bytes).is_err(), "{record:?} and a byte");
    }
}

#[test]
fn a_transfer_record_with_a_field_out_of_range_is_refused() {
    let good = encoded(&Record::Transfer(posted()));
    for (at, byte, wanted) in [
        (0, 8, "unknown record kind"),
        (1, 2, "flags"),
        (2, 6, "unknown refusal"),
        (3, 1, "unknown refusal"),
        (11, 1, "reserved"),
        (14, 1, "reserved"),
        (TRANSFER_LEN, 0xff, "transfer id is not UTF-8"),
        (TRANSFER_LEN + 2, 0xff, "metadata is not UTF-8"),
    ] {
        let mut bad = good.clone();
        bad[at] = byte;
        let what = Record::decode(&bad).unwrap_err();
        assert!(what.contains(wanted), "{what:?}, not {wanted:?}");
    }
    // Posted from no account.
    let mut bad = good;
    bad[16..24].fill(0);
    assert!(
        Record::decode(&bad)
            .unwrap_err()
            .contains("does not name its accounts")
    );
}

#[test]
#[should_panic(expected = "names each account of a record once")]
fn writing_a_posted_transfer_without_an_account_is_a_bug() {
    encoded(&Record::Transfer(TransferRecord {
        debit: 0,
        debit_id: "ghost",
        ..posted()
    }));
}
