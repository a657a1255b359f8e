//! What a membership remembers of the past: node ids that are gone, and how often the cluster was made anew.

use crate::raft::types::RaftStoredMembership;

/// The largest id that ever was a member, as far as `stored` tells.
pub(in crate::raft) fn upto(stored: &RaftStoredMembership) -> u64 {
    let known = stored.nodes().map(|(id, member)| member.ids_upto.max(*id));
    known.max().unwrap_or(0)
}

/// So far above the others an id may be. One that is much larger is a slip, and would use up all that are smaller.
pub(in crate::raft) const LEAP_MAX: u64 = 1000;

/// The smallest id that a new node may have; zero if there is no cluster.
pub(in crate::raft) fn next_id(stored: &RaftStoredMembership) -> u64 {
    match stored.nodes().next() {
        Some(_) => upto(stored).saturating_add(1),
        None => 0,
    }
}

/// How many clusters this one is, counting those it was made of: 1 for one that was formed of new nodes, and one more whenever it
/// was made of what was left, or of a backup. Zero if there is no cluster. Every member carries it, so whoever stays does.
pub(in crate::raft) fn epoch(stored: &RaftStoredMembership) -> u64 {
    match stored.nodes().next() {
        Some(_) => epoch_carried(stored).max(1),
        None => 0,
    }
}

/// The epoch as members carry it: zero in the first one.
pub(in crate::raft) fn epoch_carried(stored: &RaftStoredMembership) -> u64 {
    let known = stored.nodes().map(|(_, member)| member.epoch);
    known.max().unwrap_or(0)
}

/// Whether node `id` was a member before `stored` and is none any more. Ids only grow, so one that is larger than all there were
/// belongs to a node that joined later.
pub(in crate::raft) fn is_removed(stored: &RaftStoredMembership, id: u64) -> bool {
    stored.get_node(&id).is_none() && id <= upto(stored)
}
