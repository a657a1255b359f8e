//! Forming a cluster.

use futures_util::future::join_all;

use super::cluster::{Cluster, fast};
use super::net;
use crate::raft::start::Guards;
use crate::raft::{InitError, Initialized};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_told_to_form_the_same_cluster_at_once_form_one() {
    let cluster = Cluster::started(3, fast(), Guards::ALL).await;
    let members = cluster.members();
    let told = cluster
        .nodes
        .values()
        .map(|node| node.client.initialize(members.clone()));
    for formed in join_all(told).await {
        formed.unwrap();
    }
    let leader = cluster.leader().await;
    cluster.put(leader, "a", "1").await;
    cluster.converge().await;
    let mut ids = cluster
        .nodes
        .values()
        .map(|node| node.client.status().cluster_id);
    let first = ids.next().unwrap().expect("formed");
    assert!(ids.all(|id| id.as_ref() == Some(&first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn forming_again_is_idempotent_with_the_same_members_and_refused_with_others() {
    let cluster = Cluster::formed().await;
    // A node that has not heard of it yet would form it along.
    cluster.converge().await;
    let mut members = cluster.members();
    for id in [1, 2] {
        let again = cluster.client(id).initialize(members.clone()).await;
        assert_eq!(again.unwrap(), Initialized::Already);
    }
    members.remove(&3);
    let refused = cluster.client(1).initialize(members).await.unwrap_err();
    assert!(
        matches!(refused, InitError::AlreadyInitialized(_)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_cluster_is_not_taken() {
    let cluster = Cluster::started(3, fast(), Guards::ALL).await;
    let alone = [(3, net::member(3))].into();
    cluster.client(3).initialize(alone).await.unwrap();
    let refused = cluster
        .client(1)
        .initialize(cluster.members())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, InitError::PeerInOtherCluster(_)),
        "{refused:?}"
    );
    // Nobody was adopted: the two others can still form one.
    let mut members = cluster.members();
    members.remove(&3);
    let formed = cluster.client(1).initialize(members).await;
    assert_eq!(formed.unwrap(), Initialized::Formed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_does_not_answer_prevents_forming() {
    let cluster = Cluster::started(2, fast(), Guards::ALL).await;
    let mut members = cluster.members();
    members.insert(3, net::member(3));
    let refused = cluster.client(1).initialize(members).await.unwrap_err();
    assert!(
        matches!(refused, InitError::PeerUnreachable(_)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_forms_a_cluster_and_leads_again_right_after_a_restart() {
    let mut cluster = Cluster::formed_with(1, fast(), Guards::ALL).await;
    cluster.put(1, "a", "1").await;
    cluster.stop(1).await;
    cluster.start(1).await;
    assert!(
        cluster.nodes[&1].context.gate.check().is_ok(),
        "nobody else has a vote"
    );
    cluster.leader().await;
    assert_eq!(cluster.nodes[&1].get("a").as_deref(), Some("1"));
}
