//! Histories written by hand, in few words.
//!
//! One event a line, one millisecond a line:
//!
//! ```text
//! 0 > write k 1            process 0 asks to write 1 to register k; the first write has the key o0, the next o1, ...
//! 0 ok @5                  it is answered; log index 5 (for a read: applied index 5)
//! 0 > cas k 1 2            from 1 to 2; `-` is absent
//! 0 ok yes @6              applied; `no` refused
//! 1 > read k lease min=6   demands to see index 6; `max=20` demands an age of at most 20 ms
//! 1 ok =2 @6 n3            answered with 2 by node 3; `=-` absent; any JSON without spaces
//! 1 > read * leader        of the bank
//! 0 > transfer a b 3
//! 0 > add s 4
//! 0 > txn [["append","x",1],["r","x",null]]
//! 1 > again o0             process 1 sends the write o0, which was answered, once more
//! 0 fail                   certainly not done; `info`: nobody knows
//! -1 phase final           a line of the nemesis, the value being text or JSON
//! ```
//!
//! Applied logs are as short: `5 o0`, `6 o1 yes`, `7 o0 dup`, and for a transaction its result.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::history::applied::{Entry, NodeLog};
use crate::history::{Event, History, Kind, Level};
use crate::run::Evidence;

/// The history of a tale.
#[track_caller]
pub(crate) fn history(tale: &str) -> History {
    History::from_events("tale", events(tale)).expect("a tale must keep the format")
}

/// The history of a tale, and the applied logs of nodes 1, 2, ...
#[track_caller]
pub(crate) fn evidence(tale: &str, logs: &[&str]) -> Evidence {
    let history = history(tale);
    let logs = (1..).zip(logs).map(|(node, log)| NodeLog {
        node,
        entries: entries(&history, log),
    });
    Evidence {
        logs: logs.collect(),
        history,
        ..Evidence::default()
    }
}

/// The events of a tale.
pub(crate) fn events(tale: &str) -> Vec<Event> {
    let lines = tale.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut open: BTreeMap<i64, Event> = BTreeMap::new();
    let mut writes = 0;
    let mut events = Vec::new();
    for (index, line) in (0..).zip(lines) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let process: i64 = words[0].parse().expect("a line begins with a process");
        let mut event = match words[1] {
            _ if process == -1 => nemesis(&words[1..]),
            ">" if words[2] == "again" => again(process, words[3], &events),
            ">" => begin(process, &words[2..], &mut writes),
            _ => end(&open[&process], &words[1..]),
        };
        (event.index, event.time) = (index, index * 1_000_000);
        if event.kind == Kind::Invoke {
            open.insert(process, event.clone());
        }
        events.push(event);
    }
    events
}

fn nemesis(words: &[&str]) -> Event {
    let mut event = Event::new(-1, Kind::Info, words[0]);
    event.value = parse(words[words.len() - 1]);
    event.key = (words.len() > 2).then(|| words[1].to_owned());
    event
}

fn again(process: i64, op: &str, events: &[Event]) -> Event {
    let is_first = |event: &&Event| event.op.as_deref() == Some(op);
    let first = events.iter().find(is_first).expect("a write of the tale");
    Event {
        process,
        again: true,
        ..first.clone()
    }
}

fn begin(process: i64, words: &[&str], writes: &mut u64) -> Event {
    let mut event = Event::new(process, Kind::Invoke, words[0]);
    match words {
        ["read", key, level, demands @ ..] => {
            event.key = (*key != "*").then(|| (*key).to_owned());
            event.level = Level::ALL.into_iter().find(|known| known.name() == *level);
            for demand in demands {
                let (name, number) = demand.split_once('=').expect("min= or max=");
                let number: u64 = number.parse().expect("a number");
                match name {
                    "min" => event.min_index = Some(number),
                    _ => event.max_staleness = Some(number * 1_000_000),
                }
            }
            return event;
        }
        ["transfer", from, to, amount] => {
            event.value = json!({"from": from, "to": to, "amount": parse(amount)})
        }
        ["txn", steps] => event.value = parse(steps),
        ["cas", key, old, new] => {
            event.key = Some((*key).to_owned());
            event.value = json!([parse(old), parse(new)]);
        }
        [_, key, value] => {
            event.key = Some((*key).to_owned());
            event.value = parse(value);
        }
        _ => panic!("what is {words:?}?"),
    }
    event.op = Some(format!("o{writes}"));
    *writes += 1;
    event
}

fn end(begun: &Event, words: &[&str]) -> Event {
    let kind = match words[0] {
        "ok" => Kind::Ok,
        "fail" => Kind::Fail,
        _ => Kind::Info,
    };
    let mut event = Event::new(begun.process, kind, &begun.f);
    (event.key, event.op) = (begun.key.clone(), begun.op.clone());
    event.again = begun.again;
    for word in &words[1..] {
        match (word.split_at(1), *word) {
            ((_, _), "yes") => event.result = Some(true),
            ((_, _), "no") => event.result = Some(false),
            (("=", value), _) => event.value = parse(value),
            (("n", node), _) => event.node = node.parse().ok(),
            (("@", index), _) if begun.f == "read" => event.applied = index.parse().ok(),
            (("@", index), _) => event.log_index = index.parse().ok(),
            _ => panic!("what is {word}?"),
        }
    }
    event
}

/// JSON, or `-` for null, or else text.
fn parse(word: &str) -> Value {
    if word == "-" {
        return Value::Null;
    }
    serde_json::from_str(word).unwrap_or_else(|_| Value::from(word))
}

fn entries(history: &History, log: &str) -> Vec<Entry> {
    let lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let begun = history
            .events
            .iter()
            .find(|event| event.op.as_deref() == Some(words[1]));
        let begun = begun.expect("an entry of an operation in the tale");
        let result = words[2..]
            .iter()
            .find(|word| **word != "dup")
            .map_or(Value::Null, |word| match *word {
                "yes" => json!(true),
                "no" => json!(false),
                other => parse(other),
            });
        Entry {
            index: words[0].parse().expect("an entry begins with its index"),
            term: 1,
            op: words[1].to_owned(),
            f: begun.f.clone(),
            key: begun.key.clone(),
            value: begun.value.clone(),
            result,
            dup: words.contains(&"dup"),
        }
    };
    lines.map(entry).collect()
}
