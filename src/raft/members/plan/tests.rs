//! What is proposed, and what is refused before anything is.

use std::sync::Arc;

use super::*;
use crate::raft::convert;
use crate::raft::types::RaftMembership;
use crate::storage::LogId;

const LEASE: Duration = Duration::from_secs(60);
const LAST: u64 = 5000;

fn member(id: u64) -> Member {
    Member {
        peer_addr: format!("n{id}:1"),
        client_url: format!("http://n{id}:2"),
        uuid: format!("dir-{id}"),
        ..Member::default()
    }
}

/// What node 1 knows as the leader: the voters, who else is a member, and which of all answered lately, with all of the log.
fn leader(voters: &[&[u64]], learners: &[u64], answering: &[u64]) -> Metrics {
    let all = voters.iter().copied().flatten().chain(learners);
    let nodes: BTreeMap<u64, Member> = all.map(|id| (*id, member(*id))).collect();
    let configs = voters.iter().map(|set| set.iter().copied().collect());
    let membership = RaftMembership::new(configs.collect(), nodes).unwrap();
    let id = |index| {
        convert::raft_log_id(LogId {
            term: 1,
            node: 1,
            index,
        })
    };
    let stored = Arc::new(RaftStoredMembership::new(Some(id(7)), membership));
    let mut now = Metrics::new_initial(1);
    now.state = ServerState::Leader;
    now.committed_membership_config = stored.clone();
    now.membership_config = stored;
    now.last_log_index = Some(LAST);
    let matched = answering.iter().map(|node| (*node, Some(id(LAST))));
    now.replication = Some(matched.collect());
    let heard = answering
        .iter()
        .map(|node| (*node, Some(openraft::TokioInstant::now().into())));
    now.heartbeat = Some(heard.collect());
    now
}

/// Three voters that all answer, and learner 4.
fn healthy() -> Metrics {
    leader(&[&[1, 2, 3]], &[4], &[2, 3, 4])
}

/// What comes of it where every disk has room.
fn planned(now: &Metrics, change: &MemberChange) -> Result<Plan, MemberError> {
    plan(now, change, LEASE, |_| false)
}

fn proposed(now: &Metrics, change: &MemberChange) -> (Changes, bool) {
    match planned(now, change).unwrap() {
        Plan::Propose(proposal) => {
            assert_eq!(proposal.decided_on, *now.membership_config.log_id());
            (proposal.changes, proposal.retain)
        }
        other => panic!("{other:?}"),
    }
}

fn refused(now: &Metrics, change: &MemberChange) -> MemberError {
    planned(now, change).unwrap_err()
}

fn add(id: u64) -> MemberChange {
    let member = member(id);
    MemberChange::Add { id, member }
}

fn promote(id: u64) -> MemberChange {
    MemberChange::Promote {
        id,
        lag_max: None,
        force: false,
    }
}

fn demote(id: u64, force: bool) -> MemberChange {
    MemberChange::Demote { id, force }
}

fn remove(id: u64, force: bool) -> MemberChange {
    MemberChange::Remove { id, force }
}

fn replace(old: u64, new: u64) -> MemberChange {
    MemberChange::Replace {
        old,
        new,
        lag_max: None,
        force: false,
    }
}

#[test]
fn a_new_node_joins_without_a_vote_and_under_an_id_above_all() {
    let nodes = BTreeMap::from([(5, member(5))]);
    assert_eq!(
        proposed(&healthy(), &add(5)),
        (ChangeMembers::AddNodes(nodes), true)
    );
    assert!(matches!(planned(&healthy(), &add(4)), Ok(Plan::Done)));
    let slip = refused(&healthy(), &add(6 + ids::LEAP_MAX));
    assert!(slip.to_string().contains("far above"), "{slip}");
    proposed(&healthy(), &add(5 + ids::LEAP_MAX));
    let sparse = leader(&[&[1, 7]], &[], &[7]);
    let used = refused(&sparse, &add(6));
    assert!(used.to_string().contains("an id of 8 or more"), "{used}");
}

#[test]
fn the_clusters_epoch_stays_whoever_joins_moves_or_goes() {
    let mut now = healthy();
    let stored = &*now.membership_config;
    let nodes = stored.nodes().map(|(id, member)| {
        let epoch = if *id == 1 { 3 } else { 0 };
        (
            *id,
            Member {
                epoch,
                ..member.clone()
            },
        )
    });
    let configs = stored.get_joint_config().clone();
    let membership = RaftMembership::new(configs, nodes.collect::<BTreeMap<_, _>>()).unwrap();
    let stored = RaftStoredMembership::new(*stored.log_id(), membership);
    assert_eq!(ids::epoch(&stored), 3);
    now.membership_config = Arc::new(stored);
    now.committed_membership_config = now.membership_config.clone();
    let (joining, _) = proposed(&now, &add(5));
    let wanted = |id, name: &str| {
        let peer_addr = name.to_owned();
        let member = Member {
            peer_addr,
            epoch: 3,
            ..member(id)
        };
        BTreeMap::from([(id, member)])
    };
    assert_eq!(joining, ChangeMembers::AddNodes(wanted(5, "n5:1")));
    let elsewhere = Member {
        peer_addr: "else:1".to_owned(),
        ..member(1)
    };
    let relocation = MemberChange::Move {
        id: 1,
        member: elsewhere,
    };
    let (moved, _) = proposed(&now, &relocation);
    assert_eq!(moved, ChangeMembers::SetNodes(wanted(1, "else:1")));
}

#[test]
fn a_member_is_not_joined_again_from_another_directory_or_under_taken_addresses() {
    let mut wiped = member(3);
    wiped.uuid = "another".to_owned();
    let change = MemberChange::Add {
        id: 3,
        member: wiped.clone(),
    };
    let used = refused(&healthy(), &change);
    assert!(
        matches!(&used, MemberError::IdUsed(why) if why.contains("5 or more")),
        "{used}"
    );
    let change = MemberChange::Move {
        id: 3,
        member: wiped,
    };
    let other = refused(&healthy(), &change).to_string();
    assert!(other.contains("another data directory"), "{other}");
    let change = MemberChange::Add {
        id: 5,
        member: member(2),
    };
    assert!(matches!(
        refused(&healthy(), &change),
        MemberError::Exists(_)
    ));
}

#[test]
fn a_node_gets_a_vote_once_it_has_nearly_all_of_the_log_and_answers() {
    let ids = BTreeSet::from([4]);
    assert_eq!(
        proposed(&healthy(), &promote(4)),
        (ChangeMembers::AddVoterIds(ids), true)
    );
    assert!(matches!(planned(&healthy(), &promote(3)), Ok(Plan::Done)));
    assert!(matches!(
        refused(&healthy(), &promote(9)),
        MemberError::NoSuchMember(9)
    ));
    let silent = leader(&[&[1, 2, 3]], &[4], &[2, 3]);
    let behind = |matched: u64| {
        let mut now = healthy();
        let id = LogId {
            term: 1,
            node: 1,
            index: matched,
        };
        let matched = Some(convert::raft_log_id(id));
        now.replication.as_mut().unwrap().insert(4, matched);
        now
    };
    for now in [silent, behind(LAST - LAG_MAX - 1)] {
        let why = refused(&now, &promote(4));
        assert!(matches!(why, MemberError::NotCaughtUp(_)), "{why}");
        let change = MemberChange::Promote {
            id: 4,
            lag_max: None,
            force: true,
        };
        proposed(&now, &change);
    }
    proposed(&behind(LAST - LAG_MAX), &promote(4));
}

#[test]
fn what_would_leave_no_majority_that_answers_is_refused_unless_forced() {
    // Of three voters one is silent: without another one, the two left would both be needed.
    let degraded = leader(&[&[1, 2, 3]], &[4], &[2, 4]);
    for change in [demote(2, false), remove(2, false)] {
        let why = refused(&degraded, &change);
        assert!(
            matches!(why, MemberError::QuorumLost(_)),
            "{change:?}: {why}"
        );
    }
    proposed(&degraded, &remove(2, true));
    // The silent one can go, and be replaced.
    proposed(&degraded, &remove(3, false));
    proposed(&degraded, &replace(3, 4));
    let why = refused(&degraded, &remove(2, false)).to_string();
    assert!(
        why.contains("1 answer with room on their disks and 2 must"),
        "{why}"
    );
    let alone = leader(&[&[1]], &[2], &[2]);
    for change in [demote(1, true), remove(1, true)] {
        assert!(matches!(
            refused(&alone, &change),
            MemberError::LastVoter(1)
        ));
    }
}

#[test]
fn who_has_a_full_disk_is_not_relied_on_though_it_answers() {
    let refused = |change: &MemberChange, full: &'static [u64]| {
        let planned = plan(&healthy(), change, LEASE, |id| full.contains(&id));
        planned.map(drop).unwrap_err()
    };
    // Of nodes 1 and 3 both would be needed, of nodes 1 to 4 three.
    let why = refused(&remove(2, false), &[3]);
    assert!(matches!(why, MemberError::QuorumLost(_)), "{why}");
    assert!(why.to_string().contains("3, whose disk is full"), "{why}");
    let why = refused(&promote(4), &[2, 3]);
    assert!(matches!(why, MemberError::QuorumLost(_)), "{why}");
    for change in [promote(4), replace(2, 4)] {
        let why = refused(&change, &[4]);
        assert!(matches!(why, MemberError::NotCaughtUp(_)), "{why}");
    }
    let change = remove(3, false);
    assert!(plan(&healthy(), &change, LEASE, |id| id == 3).is_ok());
    let change = remove(2, true);
    assert!(plan(&healthy(), &change, LEASE, |id| id == 3).is_ok());
}

#[test]
fn a_voter_is_replaced_in_one_change_and_goes() {
    let (changes, retain) = proposed(&healthy(), &replace(2, 4));
    let gone = Member {
        leaving: true,
        ..member(2)
    };
    let expected = ChangeMembers::Batch(vec![
        ChangeMembers::SetNodes(BTreeMap::from([(2, gone)])),
        ChangeMembers::ReplaceAllVoters(BTreeSet::from([1, 3, 4])),
    ]);
    assert_eq!((changes, retain), (expected, false));
    let done = leader(&[&[1, 3, 4]], &[], &[3, 4]);
    assert!(matches!(planned(&done, &replace(2, 4)), Ok(Plan::Done)));
    assert!(matches!(
        refused(&healthy(), &replace(4, 4)),
        MemberError::NoVoter(4)
    ));
    assert!(matches!(
        refused(&healthy(), &replace(2, 3)),
        MemberError::Exists(_)
    ));
}

#[test]
fn a_leader_hands_over_before_it_loses_its_vote() {
    for change in [demote(1, false), remove(1, false), replace(1, 4)] {
        let planned = planned(&healthy(), &change).unwrap();
        assert!(matches!(planned, Plan::HandOver), "{change:?}: {planned:?}");
    }
}

#[test]
fn the_memory_of_the_largest_id_outlives_its_node() {
    let (changes, retain) = proposed(&healthy(), &remove(4, false));
    let keeper = Member {
        ids_upto: 4,
        ..member(1)
    };
    let expected = ChangeMembers::Batch(vec![
        ChangeMembers::SetNodes(BTreeMap::from([(1, keeper.clone())])),
        ChangeMembers::RemoveNodes(BTreeSet::from([4])),
    ]);
    assert_eq!((changes, retain), (expected, true));
    let mut nodes: BTreeMap<u64, Member> = [2, 3].map(|id| (id, member(id))).into();
    nodes.insert(1, keeper);
    let voters = vec![BTreeSet::from([1, 2, 3])];
    let membership = RaftMembership::new(voters, nodes).unwrap();
    let id = *healthy().membership_config.log_id();
    let stored = RaftStoredMembership::new(id, membership);
    assert!(ids::is_removed(&stored, 4));
    assert!(!ids::is_removed(&stored, 5) && !ids::is_removed(&stored, 3));
    let mut now = healthy();
    now.membership_config = Arc::new(stored);
    assert!(matches!(refused(&now, &add(4)), MemberError::IdUsed(_)));
    assert!(matches!(planned(&now, &remove(4, false)), Ok(Plan::Done)));
    // And when the one that keeps it goes, another one does.
    now.id = 2;
    let (changes, _) = proposed(&now, &remove(1, false));
    let ChangeMembers::Batch(changes) = changes else {
        panic!("{changes:?}");
    };
    let ChangeMembers::SetNodes(noted) = &changes[0] else {
        panic!("{changes:?}");
    };
    assert_eq!(noted[&2].ids_upto, 4);
}

#[test]
fn nothing_is_changed_while_a_change_is_half_done_or_by_who_does_not_lead() {
    let joint = leader(&[&[1, 2, 3], &[1, 3, 4]], &[], &[2, 3, 4]);
    assert!(matches!(
        refused(&joint, &add(5)),
        MemberError::InProgress(_)
    ));
    let mut uncommitted = healthy();
    uncommitted.committed_membership_config = Arc::default();
    assert!(matches!(
        refused(&uncommitted, &add(5)),
        MemberError::InProgress(_)
    ));
    let mut follower = healthy();
    follower.state = ServerState::Follower;
    assert!(matches!(
        refused(&follower, &add(5)),
        MemberError::NotLeader(_)
    ));
}
