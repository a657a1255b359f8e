//! The parts of the harness that can be wrong without anybody noticing: what is sent, how answers are understood, what an
//! export becomes, and what a partition cuts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::api::{Asked, Said, request, said};
use crate::harness::applied::translate;
use crate::harness::faults::Installed;
use crate::harness::faults::partition::shapes;
use crate::harness::follow::{Piece, holes};
use crate::harness::hand::understood;
use crate::harness::http::Reply;
use crate::harness::mutants;
use crate::harness::net::namespaces::rules;
use crate::harness::net::{Quality, Table};
use crate::harness::scenarios;
use crate::harness::scenarios::named::{NAMED, Place};
use crate::history::{Answer, Call, Level};

use super::{Claim, claim};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(only_a_body_that_says_so_makes_an_answer_certain),
    claim!(an_absent_register_is_a_value_with_its_index),
    claim!(an_answer_that_no_correct_node_gives_is_told_apart),
    claim!(a_conditional_write_names_the_tag_that_it_saw),
    claim!(an_export_becomes_what_the_clients_asked),
    claim!(an_export_of_what_nobody_asked_is_refused),
    claim!(each_partition_cuts_what_it_says),
    claim!(a_partition_meets_the_leader_only_where_it_is_the_one_cut_off),
    claim!(a_packet_filter_drops_what_does_not_come_through),
    claim!(a_hole_between_the_pieces_of_a_log_is_found),
    claim!(some_run_is_to_find_each_mutant),
    claim!(tries_that_came_too_late_prove_nothing),
    claim!(what_is_listed_as_played_somewhere_is_there),
    claim!(what_is_typed_is_done_or_said_not_to_be_understood),
];

fn asked(call: Call, level: Option<Level>) -> Asked {
    Asked {
        op: call.is_write().then(|| "c1-1".to_owned()),
        call,
        key: Some("r1".to_owned()),
        level,
        tag: None,
        min_index: None,
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
    Reply::made(status, headers, body)
}

fn only_a_body_that_says_so_makes_an_answer_certain() {
    let write = asked(Call::Write(1), None);
    let cases = [
        (503, r#"{"code":"no_leader","outcome":"not_applied"}"#, true),
        (
            429,
            r#"{"code":"overloaded","outcome":"not_applied"}"#,
            true,
        ),
        (
            504,
            r#"{"code":"commit_timeout","outcome":"unknown"}"#,
            false,
        ),
        (500, r#"{"code":"internal","outcome":"unknown"}"#, false),
        (503, "", false),
        (502, "<html>", false),
    ];
    for (status, body, is_certain) in cases {
        let said = said(&write, &reply(status, &[], body));
        let expected = match is_certain {
            true => matches!(said, Said::NotApplied(_)),
            false => matches!(said, Said::Unknown(_)),
        };
        assert!(expected, "{status} {body}: {said:?}");
    }
}

fn an_absent_register_is_a_value_with_its_index() {
    let read = asked(Call::Read, Some(Level::Leader));
    let body = r#"{"code":"key_not_found","index":"17"}"#;
    let Said::Done(told) = said(&read, &reply(404, &[], body)) else {
        panic!("an absent key is an answer");
    };
    assert_eq!(told.answer, Answer::Register(None));
    assert_eq!(told.index, Some(17));
    let headers = [
        ("quorate-index", "18"),
        ("quorate-staleness", "12ms"),
        ("consistency-effective", "lease"),
        ("etag", "\"18.0\""),
    ];
    let Said::Done(told) = said(&read, &reply(200, &headers, "5")) else {
        panic!("a value is an answer");
    };
    assert_eq!(told.answer, Answer::Register(Some(5)));
    assert_eq!((told.index, told.staleness), (Some(18), Some(12_000_000)));
    assert_eq!(told.reached, Some(Level::Lease));
}

fn an_answer_that_no_correct_node_gives_is_told_apart() {
    let cases = [
        (asked(Call::Read, Some(Level::Lease)), 200, "no number"),
        (
            asked(Call::Write(1), None),
            422,
            r#"{"code":"idempotency_key_reused"}"#,
        ),
        (
            asked(Call::Write(1), None),
            412,
            r#"{"code":"precondition_failed"}"#,
        ),
        (
            asked(Call::Cas(None, 1), None),
            404,
            r#"{"code":"key_not_found"}"#,
        ),
    ];
    for (asked, status, body) in cases {
        let said = said(&asked, &reply(status, &[], body));
        assert!(
            matches!(said, Said::Absurd(_)),
            "{asked:?} {status}: {said:?}"
        );
    }
}

fn a_conditional_write_names_the_tag_that_it_saw() {
    let from_nothing = request(&asked(Call::Cas(None, 1), None));
    assert!(
        from_nothing
            .headers
            .contains(&("if-none-match", "*".to_owned()))
    );
    let tagged = Asked {
        tag: Some("\"4.0\"".to_owned()),
        ..asked(Call::Cas(Some(1), 2), None)
    };
    let from_one = request(&tagged);
    assert!(
        from_one
            .headers
            .contains(&("if-match", "\"4.0\"".to_owned()))
    );
    assert!(
        from_one
            .headers
            .contains(&("idempotency-key", "c1-1".to_owned()))
    );
}

const EXPORT: &str = r#"{"index":2,"term":1,"at":"2.0","f":"ledger","key":"bank","value":{"asset":"USD","scale":2},"result":true}
{"index":3,"term":1,"at":"3.0","op":"setup-a0","f":"transfer","key":"setup-a0","value":{"from":"mint","to":"a0","amount":"40","code":1},"result":true}
{"index":4,"term":1,"at":"4.0","op":"c1-1","f":"put","key":"r1","value":"7","result":true}
{"index":5,"term":1,"at":"5.0","op":"c1-2","f":"put","key":"r1","value":"8","expect":"4.0","result":true}
{"index":5,"term":1,"at":"5.1","op":"c2-1","f":"put","key":"r1","value":"9","expect":"absent","result":false,"code":"precondition_failed"}
{"index":6,"term":2,"at":"6.0","op":"c1-2","f":"put","key":"r1","value":"8","expect":"4.0","result":true,"dup":true}
{"index":7,"term":2,"at":"7.0","op":"c3-1","f":"put","key":"s1/12","value":"12","result":true}
{"index":8,"term":2,"at":"8.0","op":"c4-1","f":"transfer","key":"c4-1","value":{"from":"a0","to":"a1","amount":"5","code":1},"result":false}
"#;

fn an_export_becomes_what_the_clients_asked() {
    let text = translate(EXPORT).expect("an export");
    let told: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let expected = [
        json!({"index":4,"term":1,"op":"c1-1","f":"write","key":"r1","value":7}),
        json!({"index":5,"term":1,"op":"c1-2","f":"cas","key":"r1","value":[7,8],"result":true}),
        json!({"index":5,"term":1,"op":"c2-1","f":"cas","key":"r1","value":[null,9],"result":false}),
        json!({"index":6,"term":2,"op":"c1-2","f":"cas","key":"r1","value":[7,8],"result":true,"dup":true}),
        json!({"index":7,"term":2,"op":"c3-1","f":"add","key":"s1","value":12}),
        json!({"index":8,"term":2,"op":"c4-1","f":"transfer","value":{"from":"a0","to":"a1","amount":5},"result":false}),
    ];
    assert_eq!(told, expected);
}

fn an_export_of_what_nobody_asked_is_refused() {
    let strange = [
        EXPORT.replace("\"f\":\"put\"", "\"f\":\"delete\""),
        EXPORT.replace("\"value\":\"12\"", "\"value\":\"x\""),
        EXPORT.replace("\"expect\":\"4.0\"", "\"expect\":\"4.1\""),
        EXPORT.replace("\"term\":1", "\"term\":"),
    ];
    for export in strange {
        assert!(translate(&export).is_err(), "{export}");
    }
    // A write without a condition that was refused shows, and contradicts the model.
    let refused = EXPORT.replace(
        "\"value\":\"7\",\"result\":true",
        "\"value\":\"7\",\"result\":false",
    );
    assert!(translate(&refused).is_err(), "its tag is missing then");
}

fn a_hole_between_the_pieces_of_a_log_is_found() {
    let holes = |ranges: &[(u64, u64)], upto: u64| {
        let piece = |(from, upto): &(u64, u64)| Piece {
            from: *from,
            upto: *upto,
            ..Piece::default()
        };
        holes(&ranges.iter().map(piece).collect::<Vec<_>>(), upto)
    };
    assert_eq!(holes(&[(0, 9)], 9), []);
    assert_eq!(holes(&[(5, 12), (0, 4)], 12), []);
    assert_eq!(holes(&[(0, 7), (3, 4), (6, 12)], 12), []);
    assert_eq!(holes(&[(0, 20), (30, 40)], 9), []);
    assert_eq!(holes(&[], 3), [(0, 3)]);
    assert_eq!(holes(&[(1, 9)], 9), [(0, 0)]);
    assert_eq!(holes(&[(0, 4), (6, 9)], 9), [(5, 5)]);
    assert_eq!(holes(&[(0, 4), (6, 9)], 11), [(5, 5), (10, 11)]);
}

fn each_partition_cuts_what_it_says() {
    for size in 2..=7 {
        let order: Vec<u64> = (1..=size).collect();
        for (name, directions, _) in shapes(&order) {
            let cut: BTreeSet<(u64, u64)> = directions.iter().copied().collect();
            assert_eq!(cut.len(), directions.len(), "{name}: none twice");
            assert!(cut.iter().all(|(a, b)| a != b), "{name}");
            let is_symmetric = cut.iter().all(|(a, b)| cut.contains(&(*b, *a)));
            assert_eq!(is_symmetric, !["deaf", "dumb"].contains(&name), "{name}");
            assert!(
                size == 2 || !cut.is_empty(),
                "{name} of {size} cuts nothing"
            );
            let sees = |node: u64| (1..=size).filter(|b| !cut.contains(&(node, *b))).count() as u64;
            match name {
                "alone" => assert_eq!(sees(1), 1, "{name} of {size}"),
                "ring" if size > 3 => assert!((1..=size).all(|node| sees(node) == 3)),
                "bridge" if size > 2 => assert!((1..=size).any(|node| sees(node) == size)),
                _ => {}
            }
        }
    }
}

fn a_partition_meets_the_leader_only_where_it_is_the_one_cut_off() {
    for size in 3..=7 {
        let order: Vec<u64> = (1..=size).collect();
        for (name, directions, aim) in shapes(&order) {
            let aim: BTreeSet<u64> = aim.into_iter().collect();
            let few = (size - 1) / 2;
            let due: BTreeSet<u64> = match name {
                "alone" | "deaf" | "dumb" => BTreeSet::from([1]),
                "halves" => (1..=few).collect(),
                "ring" | "bridge" => directions.iter().map(|(from, _)| *from).collect(),
                other => panic!("whom is {other} aimed at?"),
            };
            assert_eq!(aim, due, "{name} of {size}");
            let installed = Installed {
                nodes: order.clone(),
                aim: aim.iter().copied().collect(),
                how: None,
                lasts: Duration::ZERO,
                until: None,
                heal: Box::new(|_| Ok(())),
            };
            for node in &order {
                assert_eq!(installed.is_on(Some(*node)), aim.contains(node), "{name}");
            }
            assert!(!installed.is_on(None), "{name}");
            let everybody = name == "ring" && size > 3;
            assert_eq!(aim.len() as u64 == size, everybody, "{name} of {size}");
        }
    }
}

fn a_packet_filter_drops_what_does_not_come_through() {
    let cut = |quality: &mut Quality| quality.cut = true;
    let mut table = Table::new();
    cut(table.entry((2, 1)).or_default());
    cut(table.entry((1, 3)).or_default());
    table.entry((3, 1)).or_default().spikes = 10;
    table.entry((4, 1)).or_default();
    let of = |node: u64| {
        let rules = rules(node, &table, |direction| {
            direction == (4, 1) || direction == (2, 1)
        });
        let rules = rules.expect("addresses");
        let lines = rules.lines().filter(|line| line.starts_with("ip "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = [
        // What is cut is not reset: nothing comes through.
        "ip saddr 10.77.0.2 drop",
        "ip saddr 10.77.0.3 numgen random mod 100 < 10 drop",
        "ip saddr 10.77.0.4 meta l4proto tcp reject with tcp reset",
    ];
    assert_eq!(of(1), first);
    assert_eq!(of(2), Vec::<String>::new(), "one way only");
    assert_eq!(of(3), ["ip saddr 10.77.0.1 drop"]);
    let mut flapping = Table::new();
    flapping.entry((2, 1)).or_default().flaps = Some(Duration::from_millis(5));
    let start = Instant::now();
    let mut seen = BTreeSet::new();
    while seen.len() < 2 && start.elapsed() < Duration::from_secs(5) {
        let rules = rules(1, &flapping, |_| false).expect("addresses");
        seen.insert(rules.contains("drop"));
    }
    assert_eq!(seen.len(), 2, "now cut, now whole");
    assert!(rules(1, &Table::from([((254, 1), Quality::default())]), |_| false).is_err());
}

fn some_run_is_to_find_each_mutant() {
    assert_eq!(mutants::forgotten(), Vec::<&str>::new());
}

fn tries_that_came_too_late_prove_nothing() {
    let cases = [
        (0, 0, false),
        (3, 0, false),
        (3, 1, true),
        (7, 1, true),
        (40, 9, false),
        (40, 10, true),
    ];
    for (played, in_time, is_enough) in cases {
        let found = scenarios::is_enough(played, in_time);
        assert_eq!(found, is_enough, "{in_time} of {played}");
    }
}

fn what_is_listed_as_played_somewhere_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    for (number, _, places) in NAMED {
        assert!(!places.is_empty(), "{number} is nowhere");
        for place in *places {
            let is_there = match place {
                Place::Scenario(name) => scenarios::list().any(|(known, _)| known == *name),
                Place::Command(name) => {
                    read("scripts/faults.sh").contains(&format!("scripts/faults.sh {name} "))
                }
                Place::Test(file, name) => read(file).contains(&format!("fn {name}(")),
                Place::Nowhere(_) => true,
            };
            assert!(is_there, "{number}: {place}");
        }
    }
}

fn what_is_typed_is_done_or_said_not_to_be_understood() {
    let cases = [
        ("kill 1 n3", r#"Some(Begin("kill", [1, 3]))"#),
        ("  start 2 ", r#"Some(End("kill", [2]))"#),
        ("cut 1 2", "Some(Cut(1, 2, true))"),
        ("cut 1 > 2", "Some(Cut(1, 2, false))"),
        ("slow 2 3 150", "Some(Slow(2, 3, 150ms))"),
        ("sleep 0.5", "Some(Sleep(500ms))"),
        ("", "None"),
        ("# later", "None"),
    ];
    for (line, order) in cases {
        assert_eq!(understood(line).as_deref(), Ok(order), "{line}");
    }
    let wrong = [
        "kill",
        "kill 4",
        "kill one",
        "cut 1",
        "cut 1 1",
        "cut 1 < 2",
        "sleep long",
        "sleep -1",
        "slow 1 2 far",
        "destroy 1",
        "heal 1",
    ];
    for line in wrong {
        assert!(understood(line).is_err(), "{line}");
    }
}
