//! Nodes that come, go, and take each other's place.

use std::collections::{BTreeMap, BTreeSet};

use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, EntryPayload};

use super::cluster::{Cluster, eventually, put_by_any, soon, until};
use super::net;
use crate::raft::start::Guards;
use crate::raft::types::RaftMembership;
use crate::raft::{Changed, Client, Member, MemberChange, MemberError, TransferError};

fn add(id: u64) -> MemberChange {
    let member = net::member(id);
    MemberChange::Add { id, member }
}

fn promote(id: u64) -> MemberChange {
    MemberChange::Promote {
        id,
        lag_max: None,
        force: false,
    }
}

fn remove(id: u64) -> MemberChange {
    MemberChange::Remove { id, force: false }
}

fn replace(old: u64, new: u64) -> MemberChange {
    MemberChange::Replace {
        old,
        new,
        lag_max: None,
        force: false,
    }
}

/// Asks whoever leads, until somebody says yes or a no that stays.
async fn change(clients: &[Client], change: MemberChange) -> Result<Changed, MemberError> {
    let deadline = soon();
    loop {
        for client in clients {
            match client.change_members(change.clone(), deadline).await {
                Err(
                    MemberError::NotLeader(_)
                    | MemberError::InProgress(_)
                    | MemberError::NotCaughtUp(_)
                    | MemberError::NoHeir(_),
                ) => {}
                verdict => return verdict,
            }
        }
        assert!(std::time::Instant::now() < deadline, "{change:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Voters and others, as node `id` sees them.
fn seen(cluster: &Cluster, id: u64) -> (Vec<u64>, Vec<u64>) {
    let members = cluster.client(id).status().members;
    let (voters, others): (Vec<_>, Vec<_>) = members.iter().partition(|member| member.voter);
    let ids = |members: Vec<&crate::raft::MemberStatus>| members.iter().map(|m| m.id).collect();
    (ids(voters), ids(others))
}

async fn wait_seen(cluster: &Cluster, ids: &[u64], voters: &[u64], others: &[u64]) {
    let expected = (voters.to_vec(), others.to_vec());
    eventually(&format!("{ids:?} see {expected:?}"), || {
        ids.iter().all(|id| {
            let changing = cluster.client(*id).status().changing;
            !changing && seen(cluster, *id) == expected
        })
    })
    .await;
}

async fn wait_removed(cluster: &Cluster, id: u64) {
    let why = until("it knows that it was removed", || {
        cluster.client(id).status().removed
    })
    .await;
    assert!(why.contains("was removed from the cluster"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_joins_without_a_vote_catches_up_and_gets_one() {
    let mut cluster = Cluster::formed().await;
    cluster.start(4).await;
    let clients = cluster.clients();
    assert!(matches!(
        change(&clients, add(4)).await,
        Ok(Changed::Now(_))
    ));
    wait_seen(&cluster, &[1, 2, 3, 4], &[1, 2, 3], &[4]).await;
    assert_eq!(change(&clients, add(4)).await.unwrap(), Changed::Before);
    cluster.put(1, "a", "1").await;
    cluster.converge().await;
    assert!(matches!(
        change(&clients, promote(4)).await,
        Ok(Changed::Now(_))
    ));
    wait_seen(&cluster, &[1, 2, 3, 4], &[1, 2, 3, 4], &[]).await;
    assert_eq!(change(&clients, promote(4)).await.unwrap(), Changed::Before);
    // It is a majority with others: two of the first three are gone.
    cluster.converge().await;
    let identity = cluster.nodes[&4].context.dir.identity();
    let members = cluster.client(1).status().members;
    assert_eq!(members[3].member.uuid, identity.node_uuid);
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_replaced_in_one_change_and_its_id_never_comes_back() {
    let mut cluster = Cluster::formed().await;
    cluster.converge().await;
    cluster.crash(3).await;
    cluster.start(4).await;
    let clients = cluster.clients();
    change(&clients, add(4)).await.unwrap();
    change(&clients, replace(3, 4)).await.unwrap();
    wait_seen(&cluster, &[1, 2, 4], &[1, 2, 4], &[]).await;
    assert_eq!(
        change(&clients, replace(3, 4)).await.unwrap(),
        Changed::Before
    );
    // Back with all it had, it is told, and nobody listens to it.
    cluster.start(3).await;
    wait_removed(&cluster, 3).await;
    let again = change(&clients, add(3)).await.unwrap_err();
    assert!(matches!(again, MemberError::IdUsed(_)), "{again}");
    cluster.stop(3).await;
    // Nor after the memory of all processes is gone.
    drop(clients);
    for id in [1, 2, 4] {
        cluster.stop(id).await;
    }
    for id in [1, 2, 4] {
        cluster.start(id).await;
    }
    put_by_any(&cluster.clients(), "after", "1").await;
    let again = change(&cluster.clients(), add(3)).await.unwrap_err();
    assert!(matches!(again, MemberError::IdUsed(_)), "{again}");
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_hands_over_first_and_stops() {
    let mut cluster = Cluster::formed().await;
    cluster.start(4).await;
    let clients = cluster.clients();
    change(&clients, add(4)).await.unwrap();
    change(&clients, promote(4)).await.unwrap();
    cluster.converge().await;
    let leader = cluster.leader().await;
    change(&clients, remove(leader)).await.unwrap();
    let rest: Vec<u64> = (1..=4).filter(|id| *id != leader).collect();
    wait_seen(&cluster, &rest, &rest, &[]).await;
    wait_removed(&cluster, leader).await;
    assert_eq!(
        change(&clients, remove(leader)).await.unwrap(),
        Changed::Before
    );
    assert_ne!(cluster.leader().await, leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_a_voter_that_has_just_started_once_that_helps_to_elect() {
    let mut cluster = Cluster::formed().await;
    cluster.crash(2).await;
    cluster.start(2).await;
    let heard = cluster.nodes[&1].context.vitals.heard.clone();
    let long = std::time::Duration::from_secs(60);
    eventually("node 1 hears of the start", || heard.is_new(2, long)).await;
    let before = cluster.client(1).status().term;
    let moved = cluster.client(1).transfer(Some(2), soon()).await.unwrap();
    assert_eq!((moved.leader, moved.term), (2, before + 1));
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_removed_learns_of_it_and_its_id_is_gone_though_it_was_the_largest() {
    let mut cluster = Cluster::formed().await;
    cluster.start(7).await;
    let clients = cluster.clients();
    change(&clients, add(7)).await.unwrap();
    change(&clients, remove(7)).await.unwrap();
    wait_seen(&cluster, &[1, 2, 3], &[1, 2, 3], &[]).await;
    wait_removed(&cluster, 7).await;
    assert_eq!(cluster.client(1).status().next_id, 8);
    let again = change(&clients, add(7)).await.unwrap_err();
    assert!(matches!(again, MemberError::IdUsed(_)), "{again}");
}

/// Leaves voters 1, 2, 3 and 1, 3, 4 deciding together, and the leader dead.
async fn left_half_done(cluster: &mut Cluster, leaving: bool) -> u64 {
    cluster.start(4).await;
    let clients = cluster.clients();
    change(&clients, add(4)).await.unwrap();
    cluster.converge().await;
    let leader = cluster.leader().await;
    let raft = cluster.nodes[&leader].raft().clone();
    let stored = raft.metrics().borrow_watched().membership_config.clone();
    let gone = Member {
        leaving,
        ..stored.get_node(&2).unwrap().clone()
    };
    let marked = ChangeMembers::SetNodes(BTreeMap::from([(2, gone)]));
    raft.change_membership(marked, true).await.unwrap();
    let stored = raft.metrics().borrow_watched().membership_config.clone();
    let nodes: BTreeMap<u64, Member> = stored
        .nodes()
        .map(|(id, member)| (*id, member.clone()))
        .collect();
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([1, 3, 4])];
    let joint = RaftMembership::new(voters, nodes).unwrap();
    raft.append_membership(joint, EntryPayload::Blank, [])
        .await
        .unwrap();
    cluster.converge().await;
    leader
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_whose_leader_died_half_way_is_finished_by_the_next_one() {
    let mut cluster = Cluster::formed().await;
    let leader = left_half_done(&mut cluster, true).await;
    cluster.crash(leader).await;
    let rest: Vec<u64> = [1, 3, 4].into_iter().filter(|id| *id != leader).collect();
    wait_seen(&cluster, &rest, &[1, 3, 4], &[]).await;
    if leader != 2 {
        wait_removed(&cluster, 2).await;
    }
    put_by_any(&cluster.clients(), "after", "1").await;
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_was_to_stay_stays_when_its_demotion_is_finished_by_another_leader() {
    let mut cluster = Cluster::formed().await;
    left_half_done(&mut cluster, false).await;
    wait_seen(&cluster, &[1, 2, 3, 4], &[1, 3, 4], &[2]).await;
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_finishes_its_own_demotion_hands_over() {
    let mut cluster = Cluster::formed().await;
    let moved = cluster.client(1).transfer(Some(2), soon()).await.unwrap();
    assert_eq!(moved.leader, 2);
    assert_eq!(left_half_done(&mut cluster, false).await, 2);
    wait_seen(&cluster, &[1, 2, 3, 4], &[1, 3, 4], &[2]).await;
    eventually("node 2 leads no more", || !cluster.nodes[&2].is_leader()).await;
    assert_ne!(cluster.leader().await, 2);
    put_by_any(&cluster.clients(), "after", "1").await;
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_wiped_does_not_come_back_under_its_id_and_its_place_is_taken_by_a_new_one()
{
    let mut cluster = Cluster::formed().await;
    cluster.converge().await;
    cluster.crash(2).await;
    cluster.wipe(2);
    cluster.start(2).await;
    let clients = cluster.clients();
    let refused = change(&clients, add(2)).await.unwrap_err();
    assert!(
        matches!(&refused, MemberError::IdUsed(why) if why.contains("another data directory")),
        "{refused}"
    );
    let moved = net::member(2);
    let refused = change(
        &clients,
        MemberChange::Move {
            id: 2,
            member: moved,
        },
    )
    .await;
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("another data directory"), "{why}");
    let formed = cluster.client(2).initialize(cluster.members()).await;
    assert!(formed.is_err(), "{formed:?}");
    assert_eq!(cluster.client(2).status().last_log_index, None);
    cluster.stop(2).await;
    cluster.start(4).await;
    let clients = cluster.clients();
    change(&clients, add(4)).await.unwrap();
    change(&clients, replace(2, 4)).await.unwrap();
    wait_seen(&cluster, &[1, 3, 4], &[1, 3, 4], &[]).await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_does_not_join_and_one_that_is_away_neither() {
    let mut cluster = Cluster::formed().await;
    cluster.start(4).await;
    let alone = [(4, net::member(4))].into();
    cluster.client(4).initialize(alone).await.unwrap();
    let clients = cluster.clients();
    let refused = change(&clients[..3], add(4)).await.unwrap_err();
    assert!(
        matches!(refused, MemberError::PeerInOtherCluster(_)),
        "{refused}"
    );
    let refused = change(&clients[..3], add(5)).await.unwrap_err();
    assert!(
        matches!(refused, MemberError::PeerUnreachable(_)),
        "{refused}"
    );
    wait_seen(&cluster, &[1, 2, 3], &[1, 2, 3], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_gets_no_vote() {
    let mut cluster = Cluster::formed().await;
    cluster.start(4).await;
    let clients = cluster.clients();
    change(&clients, add(4)).await.unwrap();
    cluster.converge().await;
    cluster.crash(4).await;
    let leader = until("it counts as away", || {
        let leader = cluster.nodes.values().find(|node| node.is_leader())?;
        let members = leader.client.status().members;
        let ack = members.iter().find(|member| member.id == 4)?.last_ack?;
        (ack > cluster.options.election_max).then(|| leader.client.clone())
    })
    .await;
    let refused = leader.change_members(promote(4), soon()).await;
    let why = refused.unwrap_err();
    assert!(
        matches!(&why, MemberError::NotCaughtUp(why) if why.contains("did not answer lately")),
        "{why}"
    );
}

/// Node 1 was cut off from the others, which took a vote away and go on without it; it leads in its own eyes for as long as nobody tells
/// it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_deposed_and_does_not_know_says_of_nothing_that_it_is_so_already() {
    let cluster = Cluster::formed_with(5, super::cluster::fast(), Guards::ALL).await;
    for other in 2..=5 {
        cluster.net.cut(1, other);
    }
    let clients: Vec<Client> = (2..=5).map(|id| cluster.client(id).clone()).collect();
    let demote = MemberChange::Demote {
        id: 5,
        force: false,
    };
    let demoted = change(&clients, demote).await;
    assert!(matches!(demoted, Ok(Changed::Now(_))), "{demoted:?}");
    let (deposed, shortly) = (cluster.client(1), || {
        std::time::Instant::now() + std::time::Duration::from_millis(500)
    });
    assert_eq!(
        seen(&cluster, 1).0,
        [1, 2, 3, 4, 5],
        "it has not heard of it"
    );
    let told = deposed.change_members(promote(5), shortly()).await;
    assert!(
        matches!(
            told,
            Err(MemberError::NotLeader(_) | MemberError::NotReady(_))
        ),
        "{told:?}"
    );
    let told = deposed.transfer(Some(1), shortly()).await;
    assert!(
        matches!(
            told,
            Err(TransferError::NotLeader(_) | TransferError::NotReady(_))
        ),
        "{told:?}"
    );
    assert_eq!(cluster.faults(), [""; 0]);
}
