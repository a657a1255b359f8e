//! Votes, transfers, the gate, the handshake.

use super::*;

pub(crate) async fn a_pre_vote_and_a_vote_are_decided_by_the_peer(serve: Serve) {
    let node = follower(2, serve).await;
    let mut candidate = node.link_from(&Stranger::new(3, CLUSTER), Lane::Stream, Tcp);
    let request = |term| {
        let vote = Vote {
            term,
            node: 3,
            committed: false,
        };
        VoteRequest::new(convert::raft_vote(vote), None)
    };
    // Nobody leads: granted, and a pre-vote leaves no trace.
    assert!(
        candidate
            .pre_vote(request(5), ttl())
            .await
            .unwrap()
            .vote_granted
    );
    assert_eq!(node.vote(), None);
    // Node 1 leads: its lease holds.
    let mut leader = node.link_from(&Stranger::new(1, CLUSTER), Lane::Unary, Tcp);
    leader.append_entries(append(0, 3, 8), ttl()).await.unwrap();
    let response = candidate.pre_vote(request(5), ttl()).await.unwrap();
    assert!(!response.vote_granted);
    assert_eq!(response.last_log_id.map(|id| id.index), Some(2));
    let response = candidate.vote(request(6), ttl()).await.unwrap();
    assert!(!response.vote_granted);
    assert_eq!(response.vote, leader_vote(1, 1));

    // A peer that cannot be reached grants nothing.
    let faults = Faulty::default();
    faults.set(&node.addr, Lane::Unary, Fault::Refuse);
    let stranger = Stranger::new(3, CLUSTER);
    let mut cut = node.link_from(&stranger, Lane::Stream, faults);
    let error = cut.pre_vote(request(5), ttl()).await.unwrap_err();
    assert!(matches!(error, RPCError::Unreachable(_)), "{error}");
}

pub(crate) async fn leadership_is_handed_over_at_once(serve: Serve) {
    let nodes = cluster(serve).await;
    write(&nodes[0], 0..10).await;
    nodes[1].wait_applied(10).await;
    // It must be told: it never stands by itself.
    nodes[1].raft.runtime_config().elect(false);
    nodes[2].raft.runtime_config().elect(false);
    nodes[0].raft.trigger().transfer_leader(2).await.unwrap();
    leads(&nodes[1]).await;
    write(&nodes[1], 10..20).await;
    shutdown(&nodes).await;
}

pub(crate) async fn a_transfer_of_an_old_leader_is_answered_with_the_vote_of_now(serve: Serve) {
    let node = follower(2, serve).await;
    let mut leader = node.link_from(&Stranger::new(1, CLUSTER), Lane::Unary, Tcp);
    let mut beat = append(0, 0, 0);
    beat.vote = leader_vote(7, 1);
    leader.append_entries(beat, ttl()).await.unwrap();
    let request = TransferLeaderRequest::new(leader_vote(6, 1), 2, None);
    let response = leader.transfer_leader(request, ttl()).await.unwrap();
    assert!(
        matches!(
            response,
            Err(openraft::raft::TransferLeaderError::VoteChanged { actual, .. })
                if actual == leader_vote(7, 1)
        ),
        "{response:?}"
    );
}

pub(crate) async fn behind_the_vote_gate_only_appends_pass(serve: Serve) {
    let gate = Gate::closed_for(Instant::now(), SOON * 2);
    let node = Node::start(2, gate, serve).await;
    let mut link = node.link_from(&Stranger::new(1, CLUSTER), Lane::Stream, Tcp);
    let candidate = convert::raft_vote(Vote {
        term: 5,
        node: 1,
        committed: false,
    });
    let request = || VoteRequest::new(candidate, None);
    let refused = [
        link.vote(request(), ttl()).await.unwrap_err().to_string(),
        link.pre_vote(request(), ttl())
            .await
            .unwrap_err()
            .to_string(),
        link.transfer_leader(
            TransferLeaderRequest::new(leader_vote(1, 1), 2, None),
            ttl(),
        )
        .await
        .unwrap_err()
        .to_string(),
    ];
    for error in refused {
        assert!(error.contains("grants no vote"), "{error}");
    }
    assert_eq!(node.vote(), None);
    let _open = open_stream(&mut link, append(0, 1, 8)).await;
    assert_eq!(node.last_index(), Some(0));
    let mut link = node.link_from(&Stranger::new(1, CLUSTER), Lane::Unary, Tcp);
    // Another directory of the same id would be refused while the stream is open.
    assert!(link.append_entries(append(1, 1, 8), ttl()).await.is_err());
    assert_eq!(node.last_index(), Some(0));
}

pub(crate) async fn a_peer_that_is_away_is_unreachable_and_found_again(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    let stranger = Stranger::new(1, CLUSTER);
    let mut link = node.link_from(&stranger, Lane::Unary, faults.clone());
    for round in 0..3 {
        faults.set(&node.addr, Lane::Unary, Fault::Refuse);
        if round > 0 {
            // The kept connection still serves; it hangs next and is given up.
            faults.set(&node.addr, Lane::Unary, Fault::Hang);
            let short = RPCOption::new(Duration::from_millis(100));
            let error = link
                .append_entries(append(0, 0, 0), short.clone())
                .await
                .unwrap_err();
            assert!(matches!(error, RPCError::Timeout(_)), "{error}");
            // A connection that gives nothing is not one.
            let error = link
                .append_entries(append(0, 0, 0), short)
                .await
                .unwrap_err();
            assert!(matches!(error, RPCError::Timeout(_)), "{error}");
            faults.set(&node.addr, Lane::Unary, Fault::Refuse);
        }
        let error = link
            .append_entries(append(0, 0, 0), ttl())
            .await
            .unwrap_err();
        assert!(matches!(error, RPCError::Unreachable(_)), "{error}");
        faults.set(&node.addr, Lane::Unary, Fault::None);
        link.append_entries(append(0, 0, 0), ttl()).await.unwrap();
        let connected = faults.connected();
        link.append_entries(append(0, 0, 0), ttl()).await.unwrap();
        assert_eq!(faults.connected(), connected, "the connection is kept");
    }
}

pub(crate) async fn a_node_says_who_it_is_and_joins_a_cluster_once(serve: Serve) {
    let node = follower(2, serve).await;
    let hello = |to| {
        let request = handshake::HelloRequest {
            protocol: handshake::PROTOCOL,
            from: 1,
            to,
            uuid: "a directory".to_owned(),
            cluster_id: Some(CLUSTER.to_owned()),
            boot: (1, 1),
        };
        unary_call(&node.addr, Call::Hello, rare::encode(&request).into())
    };
    let answer: handshake::HelloResponse = rare::decode(&hello(2).await.unwrap()).unwrap();
    let me = node.context.dir.identity();
    assert_eq!((answer.node_id, &answer.node_uuid), (2, &me.node_uuid));
    assert_eq!(
        (answer.cluster_id.as_deref(), answer.pristine),
        (Some(CLUSTER), true)
    );
    assert_eq!(answer.about_you, handshake::AboutYou::Unknown);
    assert!(matches!(hello(3).await, Err(CallError::Refused(_))));

    let adopt_as = async |to, node_uuid: &str, cluster: &str| {
        let request = handshake::AdoptRequest {
            to,
            node_uuid: node_uuid.to_owned(),
            cluster_id: cluster.to_owned(),
        };
        let answer = unary_call(&node.addr, Call::Adopt, rare::encode(&request).into()).await;
        rare::decode::<handshake::AdoptResponse>(&answer.unwrap()).unwrap()
    };
    let adopt = async |cluster: &str| adopt_as(2, &me.node_uuid, cluster).await;
    for (to, node_uuid) in [(3, &*me.node_uuid), (2, "of another directory")] {
        let answer = adopt_as(to, node_uuid, OTHER_CLUSTER).await;
        assert!(
            matches!(&answer, handshake::AdoptResponse::Refused(why) if why.contains("was meant")),
            "{answer:?}"
        );
    }
    assert_eq!(
        adopt(OTHER_CLUSTER).await,
        handshake::AdoptResponse::Adopted
    );
    assert_eq!(
        node.context.dir.identity().cluster_id.as_deref(),
        Some(OTHER_CLUSTER)
    );
    let leader = Stranger::new(1, OTHER_CLUSTER);
    let mut link = node.link_from(&leader, Lane::Unary, Tcp);
    link.append_entries(append(0, 1, 8), ttl()).await.unwrap();
    let answer = adopt(CLUSTER).await;
    assert!(
        matches!(answer, handshake::AdoptResponse::Refused(_)),
        "{answer:?}"
    );
    assert_eq!(
        node.context.dir.identity().cluster_id.as_deref(),
        Some(OTHER_CLUSTER)
    );
}
