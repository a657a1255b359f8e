//! Anomalies of transactions: each by hand, and all against every possible order.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::history::{Event, History, Kind, Operation};

use super::tale::evidence;
use super::{Claim, assert_green, assert_red, claim, second, verdict};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(a_cycle_of_writes_is_g0),
    claim!(a_read_of_an_aborted_append_is_g1a),
    claim!(a_read_in_the_middle_of_a_transaction_is_g1b),
    claim!(a_cycle_of_writes_and_reads_is_g1c),
    claim!(a_lost_update_is_g_single),
    claim!(write_skew_is_g2_item),
    claim!(a_stale_transaction_is_realtime_only),
    claim!(a_forgotten_append_is_found_by_the_next_read),
    claim!(lists_that_no_order_explains_are_named),
    claim!(a_transaction_sees_its_own_steps),
    claim!(whatever_is_red_has_no_serial_order_and_what_has_none_is_red),
];

fn red(tale: &str, words: &str) {
    assert_red("isolation", &evidence(tale, &[]), words);
}

fn green(tale: &str) {
    assert_green("isolation", &evidence(tale, &[]));
}

fn a_cycle_of_writes_is_g0() {
    let tale = r#"0 > txn [["append","x",1],["append","y",1]]
        1 > txn [["append","x",2],["append","y",2]]
        0 ok =[["append","x",1],["append","y",1]]
        1 ok =[["append","x",2],["append","y",2]]
        0 > txn [["r","x",null],["r","y",null]]
        0 ok =[["r","x",[1,2]],["r","y",LAST]]"#;
    red(&tale.replace("LAST", "[2,1]"), "G0: ");
    green(&tale.replace("LAST", "[1,2]"));
}

fn a_read_of_an_aborted_append_is_g1a() {
    let tale = "0 > txn [[\"append\",\"x\",1]]\n0 END\n1 > txn [[\"r\",\"x\",null]]\n1 ok =[[\"r\",\"x\",[1]]]";
    red(&tale.replace("END", "fail"), "G1a: ");
    green(&tale.replace("END", "info"));
}

fn a_read_in_the_middle_of_a_transaction_is_g1b() {
    let tale = r#"0 > txn [["append","x",1],["append","x",2]]
        1 > txn [["r","x",null]]
        1 ok =[["r","x",SEEN]]
        0 ok =[["append","x",1],["append","x",2]]"#;
    red(&tale.replace("SEEN", "[1]"), "G1b: ");
    green(&tale.replace("SEEN", "[1,2]"));
    green(&tale.replace("SEEN", "[]"));
}

fn a_cycle_of_writes_and_reads_is_g1c() {
    let tale = r#"0 > txn [["append","x",1],["r","y",null]]
        1 > txn [["append","y",1],["r","x",null]]
        0 ok =[["append","x",1],["r","y",[1]]]
        1 ok =[["append","y",1],["r","x",SEEN]]"#;
    red(&tale.replace("SEEN", "[1]"), "G1c: ");
    green(&tale.replace("SEEN", "[]"));
}

fn a_lost_update_is_g_single() {
    let tale = r#"0 > txn [["r","x",null],["append","x",1]]
        1 > txn [["r","x",null],["append","x",2]]
        0 ok =[["r","x",[]],["append","x",1]]
        1 ok =[["r","x",SEEN],["append","x",2]]
        0 > txn [["r","x",null]]
        0 ok =[["r","x",[1,2]]]"#;
    red(&tale.replace("SEEN", "[]"), "G-single: ");
    green(&tale.replace("SEEN", "[1]"));
}

fn write_skew_is_g2_item() {
    let tale = r#"0 > txn [["r","x",null],["append","y",1]]
        1 > txn [["r","y",null],["append","x",1]]
        0 ok =[["r","x",[]],["append","y",1]]
        1 ok =[["r","y",SEEN],["append","x",1]]
        0 > txn [["r","x",null],["r","y",null]]
        0 ok =[["r","x",[1]],["r","y",[1]]]"#;
    red(&tale.replace("SEEN", "[]"), "G2-item: ");
    green(&tale.replace("SEEN", "[1]"));
}

fn a_stale_transaction_is_realtime_only() {
    let tale = r#"0 > txn [["append","x",1]]
        0 ok =[["append","x",1]]
        1 > txn [["r","x",null]]
        1 ok =[["r","x",SEEN]]
        0 > txn [["r","x",null]]
        0 ok =[["r","x",[1]]]"#;
    red(
        &tale.replace("SEEN", "[]"),
        "G-single-realtime: T2 did not see T0 was over before T2",
    );
    green(&tale.replace("SEEN", "[1]"));
}

fn a_forgotten_append_is_found_by_the_next_read() {
    let tale = "0 > txn [[\"append\",\"x\",1]]\n0 END\n1 > txn [[\"r\",\"x\",null]]\n1 ok =[[\"r\",\"x\",[]]]";
    red(
        &tale.replace("END", "ok =[[\"append\",\"x\",1]]"),
        "G-single-realtime: ",
    );
    green(&tale.replace("END", "info"));
}

fn lists_that_no_order_explains_are_named() {
    let tale = r#"0 > txn [["append","x",1]]
        1 > txn [["append","x",2]]
        2 > txn [["r","x",null]]
        3 > txn [["r","x",null]]
        2 ok =[["r","x",[1]]]
        3 ok =[["r","x",SEEN]]
        0 ok =[["append","x",1]]
        1 ok =[["append","x",2]]"#;
    red(&tale.replace("SEEN", "[2,1]"), "incompatible-order: ");
    red(&tale.replace("SEEN", "[1,2,1]"), "duplicate: ");
    red(&tale.replace("SEEN", "[1,3]"), "phantom: ");
    green(&tale.replace("SEEN", "[1,2]"));
}

fn a_transaction_sees_its_own_steps() {
    let tale = "0 > txn [[\"append\",\"x\",1],[\"r\",\"x\",null]]\n0 ok =[[\"append\",\"x\",1],[\"r\",\"x\",SEEN]]";
    red(&tale.replace("SEEN", "[]"), "internal: ");
    green(&tale.replace("SEEN", "[1]"));
}

/// Transactions from bytes; each takes effect at once or when it ends, and is now and then told a lie. At the end both
/// lists are read, so that every append that happened is in an order.
fn small_history(moves: &[(u8, u8, u8)]) -> History {
    let mut events: Vec<Event> = Vec::new();
    let mut lists: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
    let mut open: [Option<(Event, Option<Value>)>; 3] = [None, None, None];
    let mut generation = [0i64; 3];
    let mut next = 1;
    for (who, what, how) in moves {
        let lane = usize::from(who % 3);
        let process = i64::from(who % 3) + 3 * generation[lane];
        match open[lane].take() {
            None => {
                let steps: Value = (0..=what % 2)
                    .map(|step| draw(what >> (2 * step + 1), &mut next))
                    .collect();
                let op = Some(format!("o{}", events.len()));
                let begun = Event {
                    value: steps,
                    op,
                    ..Event::new(process, Kind::Invoke, "txn")
                };
                events.push(begun.clone());
                let early = how
                    .is_multiple_of(2)
                    .then(|| effect(&begun.value, &mut lists, *how));
                open[lane] = Some((begun, early));
            }
            Some((begun, early)) => {
                let (kind, value) = match how % 12 {
                    0 => (Kind::Info, Value::Null),
                    1 if early.is_none() => (Kind::Fail, Value::Null),
                    _ => (
                        Kind::Ok,
                        early.unwrap_or_else(|| effect(&begun.value, &mut lists, *how)),
                    ),
                };
                generation[lane] += i64::from(kind == Kind::Info);
                events.push(Event {
                    kind,
                    value,
                    ..begun
                });
            }
        }
    }
    let all = json!([["r", "x", null], ["r", "y", null]]);
    let last = Event {
        value: all.clone(),
        op: Some("last".to_owned()),
        ..Event::new(99, Kind::Invoke, "txn")
    };
    let seen = effect(&all, &mut lists, 1);
    events.extend([
        last.clone(),
        Event {
            kind: Kind::Ok,
            value: seen,
            ..last
        },
    ]);
    for (index, event) in (0..).zip(&mut events) {
        (event.index, event.time) = (index, index);
    }
    History::from_events("drawn", events).expect("drawn histories keep the format")
}

fn draw(what: u8, next: &mut i64) -> Value {
    let key = if what & 1 == 0 { "x" } else { "y" };
    if what & 2 == 0 {
        return json!(["r", key, null]);
    }
    *next += 1;
    json!(["append", key, *next])
}

fn effect(steps: &Value, lists: &mut [Vec<i64>; 2], how: u8) -> Value {
    let lie = how >> 4;
    let step = |step: &Value| {
        let list = &mut lists[usize::from(step[1] == "y")];
        if step[0] == "append" {
            let at = list.len() - usize::from(lie == 5 && !list.is_empty());
            list.insert(at, step[2].as_i64().expect("drawn as a number"));
            return step.clone();
        }
        let stale = usize::from(lie < 3).min(list.len());
        json!(["r", step[1], list[..list.len() - stale]])
    };
    steps.as_array().into_iter().flatten().map(step).collect()
}

fn whatever_is_red_has_no_serial_order_and_what_has_none_is_red() {
    let config = Config {
        cases: 4000,
        failure_persistence: None,
        ..Config::default()
    };
    let counts = Cell::new((0, 0));
    let moves = vec((any::<u8>(), any::<u8>(), any::<u8>()), 2..14);
    let result = TestRunner::new(config).run(&moves, |moves| {
        let history = small_history(&moves);
        let operations: Vec<&Operation> = history.operations.iter().collect();
        let theirs = second::is_strictly_serializable(&operations);
        let evidence = crate::run::Evidence {
            history: history.clone(),
            ..Default::default()
        };
        let ours = verdict("isolation", &evidence);
        let (good, bad) = counts.get();
        counts.set(if theirs {
            (good + 1, bad)
        } else {
            (good, bad + 1)
        });
        if ours.is_green() == theirs {
            Ok(())
        } else {
            let lines: Vec<String> = history
                .events
                .iter()
                .map(|e| format!("{} {:?} {}", e.process, e.kind, e.value))
                .collect();
            Err(TestCaseError::fail(format!(
                "a serial order: {theirs}; we say {ours:?}: {lines:#?}"
            )))
        }
    });
    assert!(result.is_ok(), "{}", result.expect_err("it is not ok"));
    let (good, bad) = counts.get();
    assert!(
        good > 500 && bad > 500,
        "one-sided: {good} serializable, {bad} not"
    );
}
