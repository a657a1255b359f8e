//! What single lists tell: the order of appends, and reads that no order explains.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Call, Micro, Operation};
use crate::promises::Fact;

use super::may_have_happened;

/// By key, its elements in the order in which they were appended, as far as anybody read.
pub(crate) type Orders = BTreeMap<String, Vec<i64>>;

/// The steps of a transaction with what it read, if it was answered, or else as it was asked.
pub(crate) fn steps(transaction: &Operation) -> &[Micro] {
    match (transaction.answer(), &transaction.call) {
        (Some(Answer::Txn(steps)), _) | (_, Call::Txn(steps)) => steps,
        _ => &[],
    }
}

/// Every read of a key: the transaction, and what it saw.
pub(crate) fn reads(transaction: &Operation) -> impl Iterator<Item = (&str, &[i64])> {
    steps(transaction).iter().filter_map(|step| match step {
        Micro::Read(key, Some(list)) => Some((key.as_str(), list.as_slice())),
        Micro::Read(_, None) | Micro::Append(..) => None,
    })
}

/// Every append: key and element.
pub(crate) fn appends(transaction: &Operation) -> impl Iterator<Item = (&str, i64)> {
    steps(transaction).iter().filter_map(|step| match step {
        Micro::Append(key, element) => Some((key.as_str(), *element)),
        Micro::Read(..) => None,
    })
}

/// Transactions whose reads contradict their own steps before: what was read or appended must be at the end of the list.
pub(crate) fn internal(transactions: &[&Operation]) -> Vec<Fact> {
    let mut facts = Vec::new();
    for transaction in transactions {
        // By key: the list after the last read, if there was one, and what was appended since.
        let mut known: BTreeMap<&str, (Option<&[i64]>, Vec<i64>)> = BTreeMap::new();
        for step in steps(transaction) {
            match step {
                Micro::Append(key, element) => known.entry(key).or_default().1.push(*element),
                Micro::Read(key, Some(list)) => {
                    let (read, since) = known.entry(key).or_default();
                    let expected = read.map(|read| [read, since].concat());
                    if expected.is_some_and(|expected| expected != *list) || !list.ends_with(since)
                    {
                        let what = format!(
                            "internal: {} read {key} = {list:?} against its own steps",
                            transaction.told()
                        );
                        facts.push(Fact::new(what).about([*transaction]));
                    }
                    *read = Some(list);
                    since.clear();
                }
                Micro::Read(_, None) => {}
            }
        }
    }
    facts
}

/// The order of appends by the longest read of each key, and the reads that do not fit it.
pub(crate) fn orders<'a>(transactions: &[&'a Operation]) -> (Orders, Vec<Fact>) {
    let mut longest: BTreeMap<&str, (&[i64], &'a Operation)> = BTreeMap::new();
    for transaction in transactions {
        for (key, list) in reads(transaction) {
            let best = longest.entry(key).or_insert((list, transaction));
            if list.len() > best.0.len() {
                *best = (list, transaction);
            }
        }
    }
    let mut facts = Vec::new();
    for (key, (list, reader)) in &longest {
        let mut seen = BTreeSet::new();
        if let Some(element) = list.iter().find(|element| !seen.insert(**element)) {
            let what = format!(
                "duplicate: {} read {key} with {element} twice",
                reader.told()
            );
            facts.push(Fact::new(what).about([*reader]));
        }
    }
    for transaction in transactions {
        for (key, list) in reads(transaction) {
            let (order, reader) = longest[key];
            if !order.starts_with(list) {
                let what = format!(
                    "incompatible-order: {} read {key} = {list:?}, {} read {order:?}",
                    transaction.told(),
                    reader.told()
                );
                facts.push(Fact::new(what).about([*transaction, reader]));
            }
        }
    }
    for transaction in transactions {
        facts.extend(out_of_order(transaction, &longest));
    }
    let orders = longest
        .into_iter()
        .map(|(key, (list, _))| (key.to_owned(), list.to_vec()))
        .collect();
    (orders, facts)
}

/// A transaction whose own appends are in a list in another order than it made them.
fn out_of_order(
    transaction: &Operation,
    longest: &BTreeMap<&str, (&[i64], &Operation)>,
) -> Option<Fact> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, element) in appends(transaction) {
        let place = longest
            .get(key)
            .and_then(|(list, _)| list.iter().position(|known| *known == element));
        let Some(place) = place else { continue };
        if last.insert(key, place).is_some_and(|before| before > place) {
            let (list, reader) = longest[key];
            let what = format!(
                "incompatible-order: {} appended to {key} in another order than {} read: {list:?}",
                transaction.told(),
                reader.told()
            );
            return Some(Fact::new(what).about([transaction, reader]));
        }
    }
    None
}

/// Reads of what was aborted, never appended, or not finished.
pub(crate) fn dirty(transactions: &[&Operation]) -> Vec<Fact> {
    let mut writers: BTreeMap<(&str, i64), &Operation> = BTreeMap::new();
    let mut unfinished: BTreeMap<(&str, i64), &Operation> = BTreeMap::new();
    for transaction in transactions {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for (key, element) in appends(transaction) {
            writers.insert((key, element), transaction);
            if let Some(before) = last.insert(key, element) {
                unfinished.insert((key, before), transaction);
            }
        }
    }
    let mut facts = Vec::new();
    for reader in transactions {
        for (key, list) in reads(reader) {
            for element in list {
                let what = match writers.get(&(key, *element)) {
                    None => format!(
                        "phantom: {} read {element} in {key}, which nobody appended",
                        reader.told()
                    ),
                    Some(writer) if !may_have_happened(writer) => {
                        format!(
                            "G1a: {} read {element} in {key} of {}",
                            reader.told(),
                            writer.told()
                        )
                    }
                    Some(_) => continue,
                };
                facts.push(Fact::new(what).about([*reader]));
            }
            let Some(element) = list.last() else { continue };
            let Some(writer) = unfinished.get(&(key, *element)) else {
                continue;
            };
            if !std::ptr::eq(*writer, *reader) {
                let what = format!(
                    "G1b: {} read {key} up to {element}, in the middle of {}",
                    reader.told(),
                    writer.told()
                );
                facts.push(Fact::new(what).about([*reader, *writer]));
            }
        }
    }
    facts
}
