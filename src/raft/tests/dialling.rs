//! What is believed of a node that is to be added, by a leader that asks it.

use std::sync::Arc;

use bytes::Bytes;

use super::cluster::{Cluster, soon};
use super::net;
use crate::raft::form::UnaryCall;
use crate::raft::handshake::{AboutYou, AdoptResponse, HelloResponse, PROTOCOL};
use crate::raft::members::Members;
use crate::raft::{Call, Changed, Client, MemberChange, MemberError};

const NEW: u64 = 9;

fn add() -> MemberChange {
    let member = net::member(NEW);
    MemberChange::Add { id: NEW, member }
}

/// What a new node says of itself.
fn new_node() -> HelloResponse {
    HelloResponse {
        protocol: PROTOCOL,
        node_id: NEW,
        node_uuid: "9".repeat(32),
        cluster_id: None,
        pristine: true,
        me: net::member(NEW),
        about_you: AboutYou::Unknown,
    }
}

/// Whoever is asked says `hello`, and agrees to everything; before that, `client` removes node 4, if one is given.
fn says(hello: HelloResponse, client: Option<Client>) -> UnaryCall {
    Arc::new(move |_, call, _| {
        let (hello, client) = (hello.clone(), client.clone());
        Box::pin(async move {
            let answer = match call {
                Call::Hello => postcard::to_stdvec(&hello),
                Call::Adopt => {
                    if let Some(client) = client {
                        let gone = MemberChange::Remove {
                            id: 4,
                            force: false,
                        };
                        client.change_members(gone, soon()).await.unwrap();
                    }
                    postcard::to_stdvec(&AdoptResponse::Adopted)
                }
                other => panic!("{other:?}"),
            };
            Ok(Bytes::from(answer.unwrap()))
        })
    })
}

/// Changes members as node `id` does, but asks through `call`.
fn asking(cluster: &Cluster, id: u64, call: UnaryCall) -> Members {
    let node = &cluster.nodes[&id];
    let hand_over = node.client.node.hand_over.clone();
    let raft = node.raft().clone();
    Members::new(
        node.context.clone(),
        raft,
        call,
        hand_over,
        &cluster.options,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_must_be_the_node_that_is_meant_and_free_to_belong_here() {
    let cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let other_node = HelloResponse {
        node_id: 8,
        ..new_node()
    };
    let other_version = HelloResponse {
        protocol: PROTOCOL + 1,
        ..new_node()
    };
    let other_cluster = HelloResponse {
        cluster_id: Some("8".repeat(32)),
        pristine: false,
        ..new_node()
    };
    for hello in [other_node, other_version] {
        let members = asking(&cluster, leader, says(hello, None));
        let why = members.change(add(), soon()).await.unwrap_err();
        assert!(matches!(why, MemberError::PeerUnreachable(_)), "{why}");
    }
    let members = asking(&cluster, leader, says(other_cluster, None));
    let why = members.change(add(), soon()).await.unwrap_err();
    assert!(matches!(why, MemberError::PeerInOtherCluster(_)), "{why}");
    assert_eq!(cluster.client(leader).status().members.len(), 3);
    let members = asking(&cluster, leader, says(new_node(), None));
    let added = members.change(add(), soon()).await;
    assert!(matches!(added, Ok(Changed::Now(_))));
    let members = cluster.client(leader).status().members;
    assert_eq!(members[3].member.uuid, new_node().node_uuid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_on_members_that_changed_meanwhile_is_not_done() {
    let mut cluster = Cluster::formed().await;
    cluster.start(4).await;
    let leader = cluster.leader().await;
    let joining = MemberChange::Add {
        id: 4,
        member: net::member(4),
    };
    let client = cluster.client(leader).clone();
    client.change_members(joining, soon()).await.unwrap();
    let members = asking(&cluster, leader, says(new_node(), Some(client.clone())));
    let why = members.change(add(), soon()).await.unwrap_err();
    assert!(
        matches!(&why, MemberError::InProgress(why) if why.contains("meanwhile")),
        "{why}"
    );
    let left = client.status().members;
    let left: Vec<u64> = left.iter().map(|member| member.id).collect();
    assert_eq!(left, [1, 2, 3]);
}
