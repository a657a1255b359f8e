//! The formats: what is refused, in which words, and that what is written can be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::history::applied::NodeLog;
use crate::history::recorder::Recorder;
use crate::history::{Event, Happening, History, Kind, edn};

use super::store::{Options, simulate};
use super::tale::history;
use super::{Claim, claim};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(each_broken_rule_of_order_is_told_with_its_line),
    claim!(each_broken_rule_of_an_operation_is_told_with_its_line),
    claim!(a_cut_file_is_refused),
    claim!(applied_logs_are_checked_too),
    claim!(what_is_read_is_written_again_byte_for_byte),
    claim!(many_threads_write_one_order),
    claim!(a_clock_that_falls_back_is_held),
    claim!(an_operation_without_an_end_is_unknown),
    claim!(windows_are_paired_by_class_and_id),
    claim!(edn_is_as_jepsen_writes_it),
    claim!(keys_for_knossos_say_absent_and_fail_refused_cas),
];

const INVOKE: &str =
    r#"{"index":0,"time":5,"process":0,"type":"invoke","f":"write","key":"k","value":1,"op":"a"}"#;
const OK: &str =
    r#"{"index":1,"time":6,"process":0,"type":"ok","f":"write","key":"k","op":"a","log_index":1}"#;

fn told(lines: &[&str]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    History::parse("h.jsonl", &text).map_or_else(|e| e.to_string(), |_| "nothing".to_owned())
}

#[track_caller]
fn assert_told(cases: &[(&[&str], &str)]) {
    for (lines, words) in cases {
        let told = told(lines);
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
}

fn each_broken_rule_of_order_is_told_with_its_line() {
    assert_eq!(told(&[INVOKE, OK]), "nothing");
    assert_told(&[
        (&[INVOKE, "{"], "h.jsonl:2: EOF while parsing"),
        (
            &[INVOKE, &OK.replace("\"f\"", "\"F\"")],
            "h.jsonl:2: unknown field `F`",
        ),
        (
            &[INVOKE, &OK.replace("\"index\":1", "\"index\":2")],
            "h.jsonl:2: index is 2, the line is number 1 from 0",
        ),
        (
            &[INVOKE, &OK.replace("\"time\":6", "\"time\":4")],
            "h.jsonl:2: time 4 is before the line above, 5",
        ),
        (&[OK], "h.jsonl:1: index is 1"),
        (
            &[&OK.replace("\"index\":1", "\"index\":0")],
            "h.jsonl:1: process 0 ends an operation that it did not begin",
        ),
        (
            &[INVOKE, &INVOKE.replace("\"index\":0", "\"index\":1")],
            "h.jsonl:2: process 0 begins an operation before",
        ),
        (
            &[INVOKE, &OK.replace("write", "read")],
            "h.jsonl:2: process 0 ends read, but it began write of 1 to k",
        ),
        (
            &[INVOKE, &OK.replace("\"k\"", "\"j\"")],
            "but it began write of 1 to k",
        ),
        (
            &[INVOKE, &OK.replace("\"a\"", "\"b\"")],
            "the op of the end is not that of the invoke",
        ),
    ]);
    let info = OK.replace("\"ok\"", "\"info\"");
    let again = INVOKE.replace("\"index\":0,\"time\":5", "\"index\":2,\"time\":7");
    assert_eq!(
        told(&[INVOKE, &info, &again]),
        "h.jsonl:3: process 0 is used again after an info"
    );
}

fn each_broken_rule_of_an_operation_is_told_with_its_line() {
    assert_told(&[
        (
            &[&INVOKE.replace(",\"op\":\"a\"", "")],
            "h.jsonl:1: a write without op, its idempotency key",
        ),
        (
            &[&INVOKE.replace("\"key\":\"k\",", "")],
            "h.jsonl:1: a write without a key",
        ),
        (
            &[&INVOKE.replace("}", ",\"level\":\"leader\"}")],
            "h.jsonl:1: a write has a level",
        ),
        (
            &[&INVOKE.replace("write", "read").replace("\"value\":1,", "")],
            "h.jsonl:1: a read lacks a level",
        ),
        (
            &[&INVOKE.replace("\"value\":1", "\"value\":\"1\"")],
            "h.jsonl:1: \"1\" is not a whole number",
        ),
        (
            &[&INVOKE.replace("write", "fly")],
            "h.jsonl:1: unknown operation \"fly\"",
        ),
        (
            &[&INVOKE.replace("\"process\":0", "\"process\":-2")],
            "process -2 is neither a client nor the nemesis",
        ),
        (
            &[&INVOKE.replace("\"process\":0", "\"process\":-1")],
            "a line of the nemesis must have type info",
        ),
    ]);
}

fn a_cut_file_is_refused() {
    let error =
        History::parse("h", &format!("{INVOKE}\n{OK}")).expect_err("the last line has no end");
    assert_eq!(
        error.to_string(),
        "h:2: the last line has no end: the file was cut"
    );
}

fn applied_logs_are_checked_too() {
    let line = |index: u64, term: u64| {
        format!(
            "{{\"index\":{index},\"term\":{term},\"op\":\"a\",\"f\":\"write\",\"key\":\"k\",\"value\":1}}\n"
        )
    };
    let told = |text: &str| {
        NodeLog::parse(1, "n1", text).map_or_else(|e| e.to_string(), |_| "nothing".to_owned())
    };
    assert_eq!(told(&(line(1, 1) + &line(1, 1) + &line(3, 2))), "nothing");
    assert_eq!(
        told(&(line(2, 1) + &line(1, 1))),
        "n1:2: index 1 is below the line above, 2"
    );
    assert_eq!(
        told(&(line(1, 2) + &line(2, 1))),
        "n1:2: term 1 after term 2"
    );
    assert_eq!(
        told(&(line(1, 1) + &line(1, 2))),
        "n1:2: term 2 after term 1"
    );
    assert!(
        told(&line(1, 1).replace("\"value\":1", "\"value\":null"))
            .starts_with("n1:1: null is not a whole number")
    );
}

fn what_is_read_is_written_again_byte_for_byte() {
    let files = simulate(&Options::small(5, "mixed"));
    let history = History::parse("h", &files.history).expect("it keeps the format");
    let lines = history
        .events
        .iter()
        .map(|event| serde_json::to_string(event).expect("events are plain") + "\n");
    assert_eq!(lines.collect::<String>(), files.history);
}

fn many_threads_write_one_order() {
    let recorder = Arc::new(Recorder::new(Vec::new()));
    let clients: Vec<_> = (0..8)
        .map(|process| {
            let recorder = Arc::clone(&recorder);
            thread::spawn(move || {
                for round in 0..50 {
                    let mut event = Event::new(process, Kind::Invoke, "add");
                    (event.key, event.op) =
                        (Some("s".to_owned()), Some(format!("{process}-{round}")));
                    event.value = (process * 100 + round).into();
                    let begun = recorder
                        .record(event.clone())
                        .expect("memory can be written");
                    (event.kind, event.value) = (Kind::Ok, serde_json::Value::Null);
                    assert!(recorder.record(event).expect("memory can be written") > begun);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("no client fails");
    }
    let recorder = Arc::into_inner(recorder).expect("the clients are gone");
    let text =
        String::from_utf8(recorder.finish().expect("memory can be written")).expect("JSON is text");
    let history = History::parse("h", &text).expect("it keeps the format");
    assert_eq!(history.operations.len(), 400);
}

fn a_clock_that_falls_back_is_held() {
    let time = Arc::new(AtomicU64::new(9));
    let clock = Arc::clone(&time);
    let recorder = Recorder::with_clock(
        Vec::new(),
        Box::new(move || clock.fetch_sub(1, Ordering::Relaxed)),
    );
    for name in ["a", "b"] {
        recorder
            .record(Happening::Phase(name.to_owned()).event())
            .expect("memory can be written");
    }
    let text =
        String::from_utf8(recorder.finish().expect("memory can be written")).expect("JSON is text");
    assert!(History::parse("h", &text).is_ok(), "{text}");
}

fn an_operation_without_an_end_is_unknown() {
    let history = history("0 > write k 1");
    assert_eq!(history.operations[0].outcome.name(), "info");
    assert_eq!(history.operations[0].ended, None);
}

fn windows_are_paired_by_class_and_id() {
    let step =
        |id: u64, outcome: &str| format!("{{\"id\":{id},\"nodes\":[2],\"outcome\":\"{outcome}\"}}");
    let tale = [
        format!("-1 install kill {}", step(1, "installed")),
        format!("-1 install pause {}", step(1, "installed")),
        format!("-1 install kill {}", step(2, "skipped")),
        format!("-1 heal kill {}", step(1, "installed")),
        "-1 phase final".to_owned(),
    ];
    let windows = history(&tale.join("\n")).windows();
    let shown: Vec<_> = windows
        .iter()
        .map(|w| (w.fault.as_str(), w.start, w.end, w.healed))
        .collect();
    assert_eq!(
        shown,
        [
            ("kill", 0, 3_000_000, true),
            ("pause", 1_000_000, 4_000_000, false)
        ]
    );
}

fn edn_is_as_jepsen_writes_it() {
    let history = history(
        "0 > cas k - 1\n0 ok yes @1\n0 > txn [[\"append\",\"x\",1],[\"r\",\"x\",null]]\n-1 phase final",
    );
    let lines: Vec<String> = edn::history(&history).lines().map(str::to_owned).collect();
    let expected = [
        "{:index 0, :time 0, :process 0, :type :invoke, :f :cas, :key \"k\", :value [nil 1]}",
        "{:index 1, :time 1000000, :process 0, :type :ok, :f :cas, :key \"k\", :value nil, :log-index 1, :result true}",
        "{:index 2, :time 2000000, :process 0, :type :invoke, :f :txn, :value [[:append \"x\" 1] [:r \"x\" nil]]}",
        "{:index 3, :time 3000000, :process :nemesis, :type :info, :f :phase, :value \"final\"}",
    ];
    assert_eq!(lines, expected);
}

fn keys_for_knossos_say_absent_and_fail_refused_cas() {
    let tale = "0 > cas k - 1\n0 ok yes @1\n0 > cas k 7 2\n0 ok no @2\n0 > read k lease\n0 ok =1\n0 > read j leader\n0 ok =-\n0 > read k follower\n0 ok =-";
    let keys = edn::per_key(&history(tale));
    assert_eq!(keys.len(), 2);
    let k: Vec<&str> = keys["k"].lines().collect();
    assert_eq!(k.len(), 6, "{k:#?}");
    assert!(
        k[0].ends_with(":type :invoke, :f :cas, :value [:absent 1]}"),
        "{}",
        k[0]
    );
    assert!(
        k[1].ends_with(":type :ok, :f :cas, :value [:absent 1]}"),
        "{}",
        k[1]
    );
    assert!(
        k[3].ends_with(":type :fail, :f :cas, :value [7 2]}"),
        "{}",
        k[3]
    );
    assert!(k[4].ends_with(":f :read, :value nil}"), "{}", k[4]);
    assert!(k[5].ends_with(":type :ok, :f :read, :value 1}"), "{}", k[5]);
    assert!(
        keys["j"].ends_with(":type :ok, :f :read, :value :absent}\n"),
        "{}",
        keys["j"]
    );
}
