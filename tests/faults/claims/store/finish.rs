//! The end of a simulated run: everything healed, everything read once more, and what is left behind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crate::history::applied::Entry;
use crate::history::{Call, Happening, Level};
use crate::run::{Exit, Expect, FinalState, Installs, Plan, Snapshots};

use super::cluster::{Cluster, FAULTS, MS, NODES};
use super::{Files, Flaw};

impl Cluster {
    /// The final phase, then the files.
    pub(crate) fn finish(mut self) -> Files {
        self.flush();
        self.say(&Happening::Phase("final".to_owned()));
        let keys: Vec<String> = self
            .state
            .registers
            .keys()
            .chain(self.state.sets.keys())
            .cloned()
            .collect();
        for key in keys {
            let value = self.next_value;
            self.next_value += 1;
            let call = if key == "set" {
                Call::Add(value)
            } else {
                Call::Write(value)
            };
            self.at_once(Some(key.clone()), &call, None);
            for level in Level::ALL {
                self.at_once(Some(key.clone()), &Call::Read, Some(level));
            }
        }
        if ["bank", "mixed"].contains(&self.options.workload.as_str()) {
            for level in Level::ALL {
                self.at_once(None, &Call::Read, Some(level));
            }
        }
        self.files()
    }

    /// One operation from begin to end, while nothing else goes on.
    fn at_once(&mut self, key: Option<String>, call: &Call, level: Option<Level>) {
        let node = self.next_flight % NODES + 1;
        self.pass(MS);
        let id = self.take_off(0, node, key, call.clone(), level);
        self.pass(MS);
        for node in 1..=NODES {
            self.bring(node);
        }
        self.take_effect(id);
        self.flush();
        self.pass(MS);
        self.land(id);
    }

    fn pass(&mut self, time: u64) {
        self.now.fetch_add(time, Ordering::Relaxed);
    }

    fn files(mut self) -> Files {
        let mut logs = BTreeMap::new();
        let mut finals = Vec::new();
        for node in 1..=NODES {
            self.bring(node);
            let (entries, end) = self.end_of(node);
            let lines = entries
                .iter()
                .map(|entry| serde_json::to_string(entry).expect("entries are plain") + "\n");
            logs.insert(node, lines.collect());
            finals.push(end);
        }
        if self.options.flaw == Some(Flaw::Panic)
            && let Some(node) = self.nodes.get_mut(&2)
        {
            let _ = writeln!(
                node.output,
                "thread 'apply' panicked at src/machine/apply.rs:1:1:"
            );
        }
        let output = self
            .nodes
            .iter()
            .map(|(node, state)| (format!("n{node}.log"), state.output.clone()));
        let output = output.collect();
        let plan = self.plan();
        let history = self.recorder.finish().expect("memory can be written");
        let history = String::from_utf8(history).expect("JSON is text");
        Files {
            plan,
            history,
            logs,
            finals,
            output,
        }
    }

    /// The applied log of a node, and where it says it is.
    fn end_of(&self, node: u64) -> (Vec<Entry>, FinalState) {
        let is_odd = node == 3;
        let mut entries = self.log.clone();
        let is = |flaw: Flaw| is_odd && self.options.flaw == Some(flaw);
        if is(Flaw::SwappedEntries) {
            let at = entries.len() / 2;
            let (one, other) = (entries[at].index, entries[at + 1].index);
            entries.swap(at, at + 1);
            (entries[at].index, entries[at + 1].index) = (one, other);
            (entries[at].term, entries[at + 1].term) = (entries[at - 1].term, entries[at + 2].term);
        }
        if is(Flaw::SkippedEntry) {
            entries.remove(entries.len() / 2);
        }
        let mut end = FinalState {
            node,
            applied: self.last_index,
            digest: digest(&self.nodes[&node].state),
            first: 0,
            marks: Vec::new(),
        };
        if is(Flaw::LeftBehind) {
            entries.truncate(entries.len() - 5);
            end.applied = entries.last().map_or(0, |entry| entry.index);
        }
        if is(Flaw::OtherDigest) {
            end.digest.replace_range(..1, "x");
        }
        (entries, end)
    }

    fn plan(&self) -> Plan {
        Plan {
            format: 1,
            seed: self.options.seed,
            workload: self.options.workload.clone(),
            nodes: (1..=NODES).collect(),
            members: Vec::new(),
            about: BTreeMap::from([("store".to_owned(), "simulated".to_owned())]),
            options: serde_json::Map::new(),
            expect: self.expect(),
            exits: vec![Exit {
                node: 1,
                status: "signal 9".to_owned(),
                expected: true,
            }],
        }
    }

    fn expect(&self) -> Expect {
        let due = due(&self.options.workload);
        let always = ["witness", "durable", "digests", "crash", "coverage"];
        let promises = due.iter().map(|(name, _)| *name).chain(always);
        let operations = due.iter().flat_map(|(_, operations)| *operations);
        let twice = Installs {
            times: 2,
            on_leader: 1,
        };
        let faults = FAULTS.iter().filter(|_| self.options.has_faults);
        let has_lease = operations.clone().any(|kind| *kind == "read/lease");
        Expect {
            promises: promises.map(str::to_owned).collect(),
            operations: operations.map(|kind| (*kind).to_owned()).collect(),
            rate_min: 1.0,
            faults: faults.map(|fault| ((*fault).to_owned(), twice)).collect(),
            lease_served_min_percent: if has_lease { 20.0 } else { 0.0 },
            snapshots: Snapshots::default(),
            final_phase: true,
            crash_lines: Vec::new(),
        }
    }
}

/// What a workload exercises: promises, each with the kinds of operation that it lives on.
fn due(workload: &str) -> &'static [(&'static str, &'static [&'static str])] {
    match workload {
        "bank" => &[(
            "bank",
            &["transfer", "read/leader", "read/lease", "read/follower"],
        )],
        "set" => &[(
            "set",
            &["add", "read/leader", "read/lease", "read/follower"],
        )],
        "append" => &[("isolation", &["txn"])],
        "mixed" => &[
            ("linear", &["write", "cas", "read/leader"]),
            ("bank", &["transfer"]),
            ("set", &["add"]),
            ("isolation", &["txn"]),
        ],
        _ => &[(
            "linear",
            &["write", "cas", "read/leader", "read/lease", "read/follower"],
        )],
    }
}

/// Equal states have equal digests.
fn digest(state: &super::state::State) -> String {
    let text = format!("{state:?}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
