//! Who is not listened to.

use super::snapshots::{said_to_be, snapshot_error};
use super::*;

/// An append of `node`, which leads in `term`, of the membership `members` alone, committed.
fn membership(
    term: u64,
    node: u64,
    prev: Option<LogId>,
    members: &[u64],
) -> AppendEntriesRequest<Types> {
    let id = log_id(term, node, prev.map_or(0, |prev| prev.index + 1));
    // Three ids were given out so far.
    let of = Member {
        ids_upto: 3,
        ..member("nowhere")
    };
    let nodes: BTreeMap<_, _> = members.iter().map(|id| (*id, of.clone())).collect();
    let voters = vec![members.iter().copied().collect()];
    let membership = RaftMembership::new(voters, nodes).unwrap();
    AppendEntriesRequest {
        vote: leader_vote(term, node),
        prev_log_id: prev.map(convert::raft_log_id),
        entries: vec![entry(id, EntryPayload::Membership(membership))],
        leader_commit: Some(convert::raft_log_id(id)),
    }
}

/// The error of a stream opened over `link`.
async fn stream_error<C: Connect>(link: &mut Link<C>) -> String {
    let mut answers = link
        .stream_append(stream::iter([append(0, 1, 8)]), ttl())
        .await
        .unwrap();
    let answer = timeout(SOON, answers.next()).await.unwrap();
    match answer {
        Some(Err(RPCError::Unreachable(error))) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The error of a heartbeat over a call.
async fn call_error<C: Connect>(link: &mut Link<C>) -> String {
    match link.append_entries(append(0, 0, 0), ttl()).await {
        Err(RPCError::Unreachable(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn who_is_not_meant_is_refused_with_the_reason(serve: Serve) {
    let node = follower(2, serve).await;
    let cases = [
        (Stranger::new(1, OTHER_CLUSTER), 2, "another cluster"),
        (Stranger::new(1, CLUSTER), 9, "means node 9, this is node 2"),
        (Stranger::new(2, CLUSTER), 2, "another node has its id"),
        (Stranger::new(7, CLUSTER), 2, "under the vote of node 1"),
    ];
    for (stranger, target, reason) in &cases {
        let mut link = node.link_to(*target, stranger, Lane::Stream);
        let error = stream_error(&mut link).await;
        assert!(error.contains(reason), "{error}");
        let mut link = node.link_to(*target, stranger, Lane::Unary);
        let error = call_error(&mut link).await;
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!((node.last_index(), node.vote()), (None, None));
}

pub(crate) async fn another_version_or_another_call_is_refused(serve: Serve) {
    let node = follower(2, serve).await;
    let stranger = Stranger::new(1, CLUSTER);
    let good = message(&stranger, 2, Call::Append);
    let answer = unary_call(&node.addr, Call::Append, good.clone()).await;
    assert!(answer.is_ok(), "{answer:?}");
    let mut newer = good.to_vec();
    newer[0] = 200;
    let error = unary_call(&node.addr, Call::Append, newer.into())
        .await
        .unwrap_err();
    let said = format!(
        "message has protocol version 200, this node speaks {}",
        handshake::PROTOCOL
    );
    assert!(error.to_string().contains(&said), "{error}");
    let error = unary_call(&node.addr, Call::Vote, good).await.unwrap_err();
    assert!(error.to_string().contains("the path says Vote"), "{error}");
    let short = Bytes::from_static(b"no message");
    assert!(unary_call(&node.addr, Call::Append, short).await.is_err());
}

/// A heartbeat of `stranger` to node `to` as bytes.
fn message(stranger: &Stranger, to: u64, call: Call) -> Bytes {
    let me = stranger.dir.identity();
    let header = Header {
        call,
        cluster: crate::raft::wire::id_bytes(CLUSTER).unwrap(),
        from: me.node_id,
        from_uuid: crate::raft::wire::id_bytes(&me.node_uuid).unwrap(),
        boot: stranger.dir.boot(),
        to_uuid: [0; 16],
        to,
        vote: Vote {
            term: 1,
            node: me.node_id,
            committed: true,
        },
        seq: 0,
    };
    let mut out = Segments::default();
    Append::default().encode(&header, &mut out);
    assert!(out.len() > HEADER_LEN);
    out.into_bytes()
}

pub(crate) async fn one_id_from_two_directories_is_refused_while_the_first_is_connected(
    serve: Serve,
) {
    let node = follower(2, serve).await;
    let (first, second) = (Stranger::new(1, CLUSTER), Stranger::new(1, CLUSTER));
    let mut link = node.link_from(&first, Lane::Stream, Tcp);
    let live = open_stream(&mut link, append(0, 1, 8)).await;
    for lane in [Lane::Stream, Lane::Unary, Lane::Snapshot] {
        let mut link = node.link_from(&second, lane, Tcp);
        let error = match lane {
            Lane::Stream => stream_error(&mut link).await,
            Lane::Unary => call_error(&mut link).await,
            Lane::Snapshot => {
                let last = Some(log_id(1, 1, 9));
                snapshot_error(&mut link, said_to_be(CLUSTER, last)).await
            }
        };
        assert!(error.contains("another data directory"), "{error}");
    }
    drop(live);
    drop(link);
    let mut link = node.link_from(&second, Lane::Unary, Tcp);
    timeout(SOON, async {
        while link.append_entries(append(0, 0, 0), ttl()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("heard once the first is gone");
}

pub(crate) async fn a_newer_stream_of_a_peer_takes_over(serve: Serve) {
    let node = follower(2, serve).await;
    let stranger = Stranger::new(1, CLUSTER);
    let mut older = node.link_from(&stranger, Lane::Stream, Tcp);
    let mut older = open_stream(&mut older, append(0, 1, 8)).await;
    let mut newer = node.link_from(&stranger, Lane::Stream, Tcp);
    let mut newer = open_stream(&mut newer, append(1, 1, 8)).await;
    let ended = timeout(SOON, older.next()).await.unwrap().unwrap();
    assert!(ended.contains("newer stream"), "{ended}");
    assert!(
        timeout(Duration::from_millis(300), newer.next())
            .await
            .is_err()
    );
    // The older one left after the newer one came, and did not take its place away.
    let mut other = node.link_from(&Stranger::new(1, CLUSTER), Lane::Unary, Tcp);
    let error = call_error(&mut other).await;
    assert!(error.contains("another data directory"), "{error}");
}

pub(crate) async fn a_committed_removal_closes_the_stream_of_the_removed(serve: Serve) {
    let node = follower(2, serve).await;
    let (removed, leader) = (Stranger::new(3, CLUSTER), Stranger::new(1, CLUSTER));
    let mut link = node.link_from(&removed, Lane::Stream, Tcp);
    let with = membership(1, 3, None, &[1, 2, 3]);
    let mut live = open_stream(&mut link, with).await;

    let mut link = node.link_from(&leader, Lane::Stream, Tcp);
    let without = membership(2, 1, Some(log_id(1, 3, 0)), &[1, 2]);
    let _leading = open_stream(&mut link, without).await;
    let ended = timeout(SOON, live.next()).await.unwrap().unwrap();
    assert!(ended.contains("node 3 was removed"), "{ended}");
    let mut link = node.link_from(&removed, Lane::Unary, Tcp);
    let mut beat = append(0, 0, 0);
    beat.vote = leader_vote(1, 3);
    let error = link.append_entries(beat, ttl()).await.unwrap_err();
    assert!(error.to_string().contains("node 3 was removed"), "{error}");
}

pub(crate) async fn a_candidate_that_is_no_member_is_refused_unless_its_log_says_more(
    serve: Serve,
) {
    let node = follower(2, serve).await;
    let mut link = node.link_from(&Stranger::new(1, CLUSTER), Lane::Unary, Tcp);
    link.append_entries(membership(1, 1, None, &[1, 2, 3]), ttl())
        .await
        .unwrap();
    let mut link = node.link_from(&Stranger::new(8, CLUSTER), Lane::Unary, Tcp);
    let vote = convert::raft_vote(Vote {
        term: 9,
        node: 8,
        committed: false,
    });
    let at = |index| Some(convert::raft_log_id(log_id(1, 1, index)));
    let error = link
        .vote(VoteRequest::new(vote, at(0)), ttl())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("node 8 is not a member"),
        "{error}"
    );
    // It may know of a later membership: the core decides, here by the lease of node 1.
    let response = link
        .vote(VoteRequest::new(vote, at(1)), ttl())
        .await
        .unwrap();
    assert!(!response.vote_granted);
}
