//! What a change comes to: pure, from what the leader knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::{ChangeMembers, Instant as _, ServerState};

use super::ids;
use crate::raft::types::{RaftLogId, RaftStoredMembership, Types};
use crate::raft::{Member, MemberChange, MemberError, status};

/// Entries that a node may lack when it gets a vote, unless the request says otherwise.
pub(super) const LAG_MAX: u64 = 1024;

type Metrics = openraft::RaftMetrics<Types>;
type Changes = ChangeMembers<u64, Member>;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing: it is so already.
    Done,
    /// Another voter has to lead first.
    HandOver,
    /// This.
    Propose(Proposal),
}

/// What is proposed.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) changes: Changes,
    /// Voters that lose their vote stay as members.
    pub(super) retain: bool,
    /// The membership that must still be the last one.
    pub(super) decided_on: Option<RaftLogId>,
}

/// Decides what `change` comes to by what the leader knows as `now`, counting as alive who answered within `lease` and takes
/// entries: who `is_full` answers heartbeats, and nothing else.
///
/// # Errors
/// Why it must not be.
pub(super) fn plan(
    now: &Metrics,
    change: &MemberChange,
    lease: Duration,
    is_full: impl Fn(u64) -> bool,
) -> Result<Plan, MemberError> {
    if now.state != ServerState::Leader {
        return Err(MemberError::NotLeader(status::leader(now)));
    }
    let stored = &*now.membership_config;
    if now.committed_membership_config.log_id() != stored.log_id()
        || stored.get_joint_config().len() != 1
    {
        let why = "the change before this one is not finished yet".to_owned();
        return Err(MemberError::InProgress(why));
    }
    let full = stored.nodes().map(|(id, _)| *id).filter(|id| is_full(*id));
    let at = At {
        now,
        stored,
        lease,
        full: full.collect(),
    };
    match change {
        MemberChange::Add { id, member } => at.add(*id, member),
        MemberChange::Move { id, member } => at.relocate(*id, member),
        MemberChange::Promote { id, lag_max, force } => at.promote(*id, *lag_max, *force),
        MemberChange::Demote { id, force } => at.demote(*id, *force),
        MemberChange::Remove { id, force } => at.remove(*id, *force),
        MemberChange::Replace {
            old,
            new,
            lag_max,
            force,
        } => at.replace(*old, *new, *lag_max, *force),
    }
}

/// The moment at which a change is decided.
struct At<'a> {
    now: &'a Metrics,
    stored: &'a RaftStoredMembership,
    lease: Duration,
    /// Whose disks are full.
    full: BTreeSet<u64>,
}

impl At<'_> {
    fn add(&self, id: u64, member: &Member) -> Result<Plan, MemberError> {
        if let Some(known) = self.stored.get_node(&id) {
            if !is_same_directory(known, member) {
                return Err(MemberError::IdUsed(format!(
                    "node {id} is a member with another data directory ({}): a node id is never used twice, so give the new \
                     one an id of {} or more (quorate node replace)",
                    known.uuid,
                    ids::next_id(self.stored)
                )));
            }
            if !known.is_reached_as(member) {
                return Err(MemberError::Exists(format!(
                    "node {id} is a member already, reached at {known}; change that with PUT"
                )));
            }
            return Ok(Plan::Done);
        }
        let next = ids::next_id(self.stored);
        if id < next {
            return Err(MemberError::IdUsed(format!(
                "node ids are never used twice, and those below {next} are used up: give the new node an id of {next} or more"
            )));
        }
        if id - next > ids::LEAP_MAX {
            return Err(MemberError::IdUsed(format!(
                "node id {id} is far above the others: ids only grow, so it would use up all below it; give the new node one from \
                 {next} to {}",
                next.saturating_add(ids::LEAP_MAX)
            )));
        }
        self.check_addresses(id, member)?;
        let nodes = BTreeMap::from([(id, self.joining(member))]);
        Ok(self.propose(ChangeMembers::AddNodes(nodes), true))
    }

    /// A new member as it is written down: nothing of it but what the request may say.
    fn joining(&self, member: &Member) -> Member {
        Member {
            ids_upto: 0,
            leaving: false,
            epoch: ids::epoch_carried(self.stored),
            ..member.clone()
        }
    }

    fn relocate(&self, id: u64, member: &Member) -> Result<Plan, MemberError> {
        let known = self.known(id)?;
        if !is_same_directory(known, member) {
            return Err(MemberError::PeerUnreachable(format!(
                "at {} node {id} has another data directory than the member ({}): it is a copy, or was wiped, and takes a new \
                 id (quorate node replace)",
                member.peer_addr, known.uuid
            )));
        }
        let is_named = known.uuid == member.uuid || member.uuid.is_empty();
        if known.is_reached_as(member) && is_named {
            return Ok(Plan::Done);
        }
        self.check_addresses(id, member)?;
        let moved = Member {
            ids_upto: known.ids_upto,
            leaving: known.leaving,
            epoch: known.epoch,
            ..member.clone()
        };
        let nodes = BTreeMap::from([(id, moved)]);
        Ok(self.propose(ChangeMembers::SetNodes(nodes), true))
    }

    fn promote(&self, id: u64, lag_max: Option<u64>, force: bool) -> Result<Plan, MemberError> {
        self.known(id)?;
        if self.is_voter(id) {
            return Ok(Plan::Done);
        }
        let mut voters = self.voters();
        voters.insert(id);
        if !force {
            self.check_caught_up(id, lag_max)?;
            self.check_quorum(&voters)?;
        }
        let ids = BTreeSet::from([id]);
        Ok(self.propose(ChangeMembers::AddVoterIds(ids), true))
    }

    fn demote(&self, id: u64, force: bool) -> Result<Plan, MemberError> {
        self.known(id)?;
        if !self.is_voter(id) {
            return Ok(Plan::Done);
        }
        self.check_without(id, force)?;
        if id == self.now.id {
            return Ok(Plan::HandOver);
        }
        let ids = BTreeSet::from([id]);
        Ok(self.propose(ChangeMembers::RemoveVoters(ids), true))
    }

    fn remove(&self, id: u64, force: bool) -> Result<Plan, MemberError> {
        if ids::is_removed(self.stored, id) {
            return Ok(Plan::Done);
        }
        let known = self.known(id)?;
        let mut changed = self.memory_without(id);
        if !self.is_voter(id) {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id]));
            return Ok(self.propose(batch(changed, gone), true));
        }
        self.check_without(id, force)?;
        if id == self.now.id {
            return Ok(Plan::HandOver);
        }
        changed.insert(id, leaving(known));
        let gone = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
        Ok(self.propose(batch(changed, gone), false))
    }

    fn replace(
        &self,
        old: u64,
        new: u64,
        lag_max: Option<u64>,
        force: bool,
    ) -> Result<Plan, MemberError> {
        self.known(new)?;
        if ids::is_removed(self.stored, old) && self.is_voter(new) {
            return Ok(Plan::Done);
        }
        let known = self.known(old)?;
        if !self.is_voter(old) {
            return Err(MemberError::NoVoter(old));
        }
        if self.is_voter(new) {
            return Err(MemberError::Exists(format!(
                "node {new} has a vote already: node {old} can be removed, and none takes its place"
            )));
        }
        let mut voters = self.voters();
        voters.remove(&old);
        voters.insert(new);
        if !force {
            self.check_caught_up(new, lag_max)?;
            self.check_quorum(&voters)?;
        }
        if old == self.now.id {
            return Ok(Plan::HandOver);
        }
        let mut changed = self.memory_without(old);
        changed.insert(old, leaving(known));
        let exchanged = ChangeMembers::ReplaceAllVoters(voters);
        Ok(self.propose(batch(changed, exchanged), false))
    }

    fn propose(&self, changes: Changes, retain: bool) -> Plan {
        Plan::Propose(Proposal {
            changes,
            retain,
            decided_on: *self.stored.log_id(),
        })
    }

    fn known(&self, id: u64) -> Result<&Member, MemberError> {
        let known = self.stored.get_node(&id);
        known.ok_or(MemberError::NoSuchMember(id))
    }

    fn voters(&self) -> BTreeSet<u64> {
        self.stored.voter_ids().collect()
    }

    fn is_voter(&self, id: u64) -> bool {
        self.stored.voter_ids().any(|voter| voter == id)
    }

    /// Who of those that stay must be told which ids are used up, because with `id` the memory of it goes.
    fn memory_without(&self, id: u64) -> BTreeMap<u64, Member> {
        let upto = ids::upto(self.stored);
        let mut others = self.stored.nodes().filter(|(other, _)| **other != id);
        if others.any(|(other, member)| member.ids_upto.max(*other) >= upto) {
            return BTreeMap::new();
        }
        let keeper = self.stored.voter_ids().find(|voter| *voter != id);
        let noted = keeper.and_then(|keeper| {
            let member = self.stored.get_node(&keeper)?.clone();
            let ids_upto = upto;
            Some((keeper, Member { ids_upto, ..member }))
        });
        noted.into_iter().collect()
    }

    fn check_addresses(&self, id: u64, member: &Member) -> Result<(), MemberError> {
        let mut others = self.stored.nodes().filter(|(other, _)| **other != id);
        let taken = others.find(|(_, other)| {
            other.peer_addr == member.peer_addr || other.client_url == member.client_url
        });
        match taken {
            Some((other, known)) => Err(MemberError::Exists(format!(
                "node {other} has that address already: it is reached at {known}"
            ))),
            None => Ok(()),
        }
    }

    fn matched(&self, id: u64) -> Option<u64> {
        let replication = self.now.replication.as_ref()?;
        Some(replication.get(&id)?.as_ref()?.index)
    }

    /// Whether node `id` answered within the lease, and has room for what it would be sent.
    fn answers(&self, id: u64) -> bool {
        if id == self.now.id || self.full.contains(&id) {
            return id == self.now.id;
        }
        let heard = self.now.heartbeat.as_ref();
        let sent = heard.and_then(|heard| heard.get(&id)?.as_ref());
        sent.is_some_and(|sent| sent.elapsed() < self.lease)
    }

    fn check_caught_up(&self, id: u64, lag_max: Option<u64>) -> Result<(), MemberError> {
        let last = self.now.last_log_index.unwrap_or(0);
        let lag_max = lag_max.unwrap_or(LAG_MAX);
        let why = match self.matched(id) {
            _ if self.full.contains(&id) => "has a full disk, and takes nothing".to_owned(),
            _ if !self.answers(id) => "did not answer lately".to_owned(),
            Some(matched) if matched.saturating_add(lag_max) >= last => return Ok(()),
            Some(matched) => {
                format!("has entries up to {matched} of {last}, and may lack {lag_max}")
            }
            None => format!("has none of {last} entries yet"),
        };
        Err(MemberError::NotCaughtUp(format!("node {id} {why}")))
    }

    /// Whether the cluster can do without the vote of `id`.
    fn check_without(&self, id: u64, force: bool) -> Result<(), MemberError> {
        let mut voters = self.voters();
        voters.remove(&id);
        if voters.is_empty() {
            return Err(MemberError::LastVoter(id));
        }
        match force {
            true => Ok(()),
            false => self.check_quorum(&voters),
        }
    }

    /// Whether a majority of `voters` answers now: otherwise nothing could be written once they decide.
    fn check_quorum(&self, voters: &BTreeSet<u64>) -> Result<(), MemberError> {
        let answering = voters.iter().filter(|id| self.answers(**id)).count();
        let needed = voters.len() / 2 + 1;
        if answering >= needed {
            return Ok(());
        }
        let silent = voters.iter().filter(|id| !self.answers(**id));
        let silent = silent.map(|id| match self.full.contains(id) {
            true => format!("{id}, whose disk is full,"),
            false => id.to_string(),
        });
        let silent: Vec<String> = silent.collect();
        Err(MemberError::QuorumLost(format!(
            "of {} voters there would be, {answering} answer with room on their disks and {needed} must: nothing could be written \
             until node {} is back",
            voters.len(),
            silent.join(" or ")
        )))
    }
}

/// Whether both may be the same data directory: what is not known does not contradict.
fn is_same_directory(known: &Member, member: &Member) -> bool {
    known.uuid.is_empty() || member.uuid.is_empty() || known.uuid == member.uuid
}

fn leaving(member: &Member) -> Member {
    Member {
        leaving: true,
        ..member.clone()
    }
}

fn batch(noted: BTreeMap<u64, Member>, change: Changes) -> Changes {
    match noted.is_empty() {
        true => change,
        false => ChangeMembers::Batch(vec![ChangeMembers::SetNodes(noted), change]),
    }
}

#[cfg(test)]
mod tests;
