//! Who led for how long, as far as a run tells.

use crate::history::nemesis::Process;
use crate::history::{History, Window};
use crate::statistics;

/// A node that was seen to lead, until another was or until it was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Who.
    pub(crate) node: u64,
    /// Since which election.
    pub(crate) term: u64,
    /// First seen, nanoseconds.
    pub(crate) from: u64,
    /// Another was seen, or this one ended: nanoseconds.
    pub(crate) until: u64,
    /// While it was frozen or cut off, or its disk failed, and it was perhaps no longer the leader.
    pub(crate) doubts: Vec<(u64, u64)>,
}

/// By time. Where none is, no leader was known.
pub(crate) fn leads(history: &History) -> Vec<Lead> {
    let windows = history.windows();
    let seen = statistics::leaders(history);
    let lead = |(at, (from, node, term)): (usize, &(u64, u64, u64))| {
        let (from, node, term) = (*from, *node, *term);
        let next = seen.get(at + 1).map_or(history.end_time(), |next| next.0);
        let ended = windows
            .iter()
            .filter(|window| {
                Process::under(&window.fault) == Process::Ends && window.nodes.contains(&node)
            })
            .map(|window| window.start)
            .find(|start| (from..next).contains(start));
        let until = ended.unwrap_or(next);
        let doubts = windows
            .iter()
            .filter(|window| window.start < until && window.end > from && silences(window, node))
            .map(|window| (window.start.max(from), window.end.min(until)));
        Lead {
            node,
            term,
            from,
            until,
            doubts: doubts.collect(),
        }
    };
    seen.iter().enumerate().map(lead).collect()
}

/// Whether a fault may keep a leader from leading: from hearing a majority, as a rule. Of a run that does not tell the shape of a partition it is taken
/// to be so if the leader was met.
fn silences(window: &Window, leader: u64) -> bool {
    if !window.nodes.contains(&leader) {
        return false;
    }
    let name = format!("n{leader}");
    let says = |text: &str| text.split([' ', ',']).any(|word| word == name);
    match (window.fault.as_str(), window.shape.as_deref()) {
        (fault, _) if Process::under(fault) != Process::GoesOn => true,
        ("bridge", Some(shape)) => shape.starts_with(&format!("{name} cut off")),
        ("partition" | "bridge", None) => window.on_leader,
        ("partition", Some(shape)) => match shape.split_once(": ") {
            Some(("alone" | "halves", parts)) => parts.split(" | ").next().is_some_and(says),
            Some(("deaf" | "dumb", parts)) => says(parts),
            _ => false,
        },
        _ => false,
    }
}
