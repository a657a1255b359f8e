use super::*;
use crate::machine::entry::assemble;
use crate::machine::{Expect, Memory, ModIndex, Position, TransferResult};

const HOUR_NS: u64 = 3_600_000_000_000;

fn put(value: &[u8]) -> Command<'_> {
    Command::KvPut {
        key: "a",
        value,
        expect: Expect::Any,
    }
}

fn under<'a>(key: &'a str, command: Command<'a>) -> Command<'a> {
    Command::Once(Once {
        key,
        fingerprint: fingerprint("PUT", &command),
        command: Box::new(command),
    })
}

fn apply_one(store: &mut Memory, command: Command<'_>) -> Reply {
    let index = store.applied() + 1;
    let outcome = store.apply(index, &assemble(&[command], HOUR_NS)).unwrap();
    outcome.replies.into_iter().next().unwrap()
}

fn written(reply: &Reply) -> bool {
    matches!(reply, Reply::KvPut { .. })
}

#[test]
fn a_new_key_is_refused_while_as_many_as_may_be_are_held() {
    let mut store = Memory::new();
    assert!(written(&apply_one(&mut store, under("known", put(b"x")))));
    store.answers_pretended = KEYS_MAX - 2;
    assert!(written(&apply_one(&mut store, under("last", put(b"x")))));
    let full = Reply::Rejected(Rejection::IdempotencyKeysFull);
    for _ in 0..2 {
        assert_eq!(apply_one(&mut store, under("new", put(b"y"))), full);
    }
    assert_eq!(
        store.value("a").unwrap().1,
        b"x",
        "what is refused is not done"
    );
    let known = apply_one(&mut store, under("known", put(b"x")));
    assert!(matches!(known, Reply::Replayed(_)), "{known:?}");
    assert!(written(&apply_one(&mut store, put(b"z"))), "without a key");
    store.answers_pretended -= 1;
    assert!(
        written(&apply_one(&mut store, under("new", put(b"y")))),
        "the refusal was not remembered"
    );
}

#[test]
fn an_entry_forgets_at_most_1024_keys_and_one_for_each_command() {
    let mut store = Memory::new();
    let keys: Vec<String> = (0..4000).map(|number| format!("k{number:04}")).collect();
    let commands: Vec<Command<'_>> = keys.iter().map(|key| under(key, put(b"x"))).collect();
    store.apply(1, &assemble(&commands, HOUR_NS)).unwrap();
    let held = |store: &mut Memory, stamp_ns, commands: &[Command<'_>]| {
        let index = store.applied() + 1;
        store.apply(index, &assemble(commands, stamp_ns)).unwrap();
        store.answer_count()
    };
    assert_eq!(held(&mut store, 25 * HOUR_NS - 1, &[]), 4000);
    assert_eq!(held(&mut store, 25 * HOUR_NS, &[]), 4000 - 1024);
    let two = [put(b"y"), put(b"z")];
    assert_eq!(held(&mut store, 0, &two), 4000 - 1024 - 1026);
    assert_eq!(store.find_answer("k2049").unwrap(), None);
    assert!(
        store.find_answer("k2050").unwrap().is_some(),
        "oldest first"
    );
    assert_eq!(held(&mut store, 0, &[]), 4000 - 3 * 1024 - 2);
    assert_eq!(held(&mut store, 0, &[]), 0);
}

#[test]
fn an_entry_of_the_first_rules_forgets_nothing() {
    let mut store = Memory::new();
    apply_one(&mut store, under("k", put(b"x")));
    let mut old = assemble(&[], 100 * HOUR_NS);
    old[1] = 1;
    store.apply(2, &old).unwrap();
    assert_eq!(store.answer_count(), 1);
}

#[test]
fn a_fingerprint_tells_apart_whatever_changes_the_effect_or_the_answer() {
    let delete = Command::KvDelete {
        key: "a",
        expect: Expect::Any,
    };
    let absent = Command::KvPut {
        key: "a",
        value: b"x",
        expect: Expect::Absent,
    };
    let prints = [
        fingerprint("PUT", &put(b"x")),
        fingerprint("POST", &put(b"x")),
        fingerprint("PUT", &put(b"y")),
        fingerprint("PUT", &absent),
        fingerprint("PUT", &delete),
    ];
    for (place, print) in prints.iter().enumerate() {
        assert!(!prints[..place].contains(print), "{place}");
    }
    assert_eq!(fingerprint("PUT", &put(b"x")), prints[0]);
}

#[test]
fn the_bytes_of_a_reply_are_fixed_and_lead_back_to_it() {
    let at = ModIndex {
        index: 300,
        command: 1,
    };
    let posted = TransferResult::Created(Position {
        index: 300,
        record: 2,
    });
    let refused = TransferResult::Refused(Rejection::ChainFailed);
    for (reply, bytes) in [
        (
            Reply::Rejected(Rejection::PreconditionFailed { current: Some(at) }),
            &b"\0\x01\x01\xac\x02\x01"[..],
        ),
        (
            Reply::KvPut {
                created: at,
                modified: at,
                version: 1,
            },
            b"\x01\xac\x02\x01\xac\x02\x01\x01",
        ),
        (
            Reply::Transfers(vec![posted, refused]),
            b"\x05\x02\0\xac\x02\x02\x02\x0d",
        ),
    ] {
        assert_eq!(reply.to_bytes(), bytes, "{reply:?}");
        assert_eq!(Reply::from_bytes(bytes), Ok(reply));
        assert!(Reply::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Reply::from_bytes(&[bytes, &[0]].concat()).is_err());
    }
}
