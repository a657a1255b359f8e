//! A state built again from nothing but its journal.

use std::collections::BTreeMap;

use quorate::machine::{Memory, Record, Store};

/// That the journal of `store` rolled forward, as a node does after a restart, gives all that `store` derived live.
pub(crate) fn assert_rebuilds(store: &Memory) {
    let mut entries: BTreeMap<u64, Vec<&[u8]>> = BTreeMap::new();
    for (at, bytes) in store.journal() {
        entries.entry(at.index).or_default().push(bytes);
    }
    let mut copy = Memory::new();
    for (index, records) in entries {
        copy.begin(index);
        for bytes in records {
            copy.append(&Record::decode(bytes).expect("the journal holds records"))
                .expect("memory does not fail");
        }
        copy.finish(copy.time_ns() + 1);
    }
    assert_eq!(
        derived(&copy),
        derived(store),
        "the state is not what its journal says"
    );
}

/// A dump without its first and last line: how far it is and the digest, which also count entries without records.
fn derived(store: &Memory) -> String {
    let dump = store.dump();
    let lines: Vec<&str> = dump
        .lines()
        .filter(|line| !line.starts_with("applied "))
        .collect();
    lines
        .into_iter()
        .filter(|line| !line.starts_with("digest "))
        .collect::<Vec<_>>()
        .join("\n")
}
