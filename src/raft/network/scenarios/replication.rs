//! Streams and heartbeats.

use super::*;

pub(crate) async fn ten_thousand_entries_reach_every_node_in_one_order(serve: Serve) {
    let nodes = cluster(serve).await;
    write(&nodes[0], 0..10_000).await;
    let first = nodes[0].wait_applied(10_000).await;
    for node in &nodes[1..] {
        assert!(node.wait_applied(10_000).await == first);
    }
    let mut all: Vec<_> = first
        .iter()
        .map(|body| body[..].try_into().unwrap())
        .collect();
    all.sort_unstable_by_key(|body| u64::from_le_bytes(*body));
    assert!(all.into_iter().map(u64::from_le_bytes).eq(0..10_000));
    shutdown(&nodes).await;
}

pub(crate) async fn answers_come_in_the_order_of_the_requests(serve: Serve) {
    let node = follower(2, serve).await;
    let mut link = node.link_from(&Stranger::new(1, CLUSTER), Lane::Stream, Tcp);
    let requests = (0..1000).map(|n| append(n * 10, 10, 100));
    // Two sessions on one connection, as after a probe.
    let (some, rest): (Vec<_>, Vec<_>) = requests.partition(|r| r.prev_log_id.is_none());
    let mut last = None;
    for requests in [some, rest] {
        let count = requests.len();
        let input = stream::iter(requests);
        let mut answers = link.stream_append(input, ttl()).await.unwrap();
        for _ in 0..count {
            let answer = timeout(SOON, answers.next()).await.unwrap().unwrap();
            let matched = answer.unwrap().unwrap().unwrap().index;
            assert_eq!(matched, last.map_or(9, |last| last + 10));
            last = Some(matched);
        }
        assert!(timeout(SOON, answers.next()).await.unwrap().is_none());
    }
    assert_eq!(last, Some(9999));
}

pub(crate) async fn as_much_as_allowed_is_under_way_before_the_first_answer(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    let stranger = Stranger::new(1, CLUSTER);
    let mut link = node.patient_link_from(&stranger, Lane::Stream, faults.clone());
    let mut first = link
        .stream_append(stream::iter([append(0, 1, 8)]), ttl())
        .await
        .unwrap();
    assert!(matches!(first.next().await, Some(Ok(Ok(_)))));
    assert!(first.next().await.is_none());
    drop(first);

    faults.set(&node.addr, Lane::Stream, Fault::HangIn);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let input = stream::iter(1..1001).map(move |n| {
        counted.fetch_add(1, Ordering::SeqCst);
        append(n, 1, 8)
    });
    let mut answers = link.stream_append(Box::pin(input), ttl()).await.unwrap();
    let all = async {
        for index in 1..1001 {
            let matched = answers.next().await.unwrap().unwrap().unwrap();
            assert_eq!(matched.unwrap().index, index);
        }
    };
    let heal = async {
        while node.last_index() < Some(64) {
            tokio::task::yield_now().await;
        }
        // 64 are under way, and the next waits for the first answer.
        assert_eq!(
            (asked.load(Ordering::SeqCst), node.last_index()),
            (65, Some(64))
        );
        faults.set(&node.addr, Lane::Stream, Fault::None);
    };
    timeout(SOON, async { tokio::join!(all, heal) })
        .await
        .unwrap();
    assert_eq!(faults.connected(), 1);
}

pub(crate) async fn a_heartbeat_passes_an_append_that_is_stuck(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    faults.set(&node.addr, Lane::Stream, Fault::Throttle(64));
    let stranger = Stranger::new(1, CLUSTER);
    // As openraft makes them.
    let mut network =
        Network::with_connect(stranger.dir.clone(), &options(), Vitals::healthy(), faults);
    let mut link = network.new_client(2, &member(&node.addr)).await;
    let mut beats = network.new_heartbeat_client(2, &member(&node.addr)).await;
    let large = stream::iter([append(0, 1, 4 << 20)]);
    let mut answers = link.stream_append(large, ttl()).await.unwrap();
    // Slower than any time-out, but it moves: not given up.
    let idle = options().heartbeat * 2;
    assert!(timeout(idle * 3, answers.next()).await.is_err());

    let mut beat = append(0, 0, 0);
    beat.prev_log_id = None;
    let beating = async {
        let beat = stream::iter([beat]);
        let mut answers = beats.stream_append(beat, ttl()).await.unwrap();
        assert!(matches!(answers.next().await, Some(Ok(Ok(None)))));
        assert!(answers.next().await.is_none());
    };
    tokio::select! {
        answer = answers.next() => panic!("4 MiB passed at 64 KB/s: {answer:?}"),
        () = beating => {}
    }
    assert_eq!(node.last_index(), None);
}

pub(crate) async fn a_hung_stream_is_given_up_and_replication_resumes(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    let stranger = Stranger::new(1, CLUSTER);
    let mut link = node.link_from(&stranger, Lane::Stream, faults.clone());
    let idle = options().heartbeat * 2;
    for fault in [Fault::HangIn, Fault::HangOut] {
        let mut first = link
            .stream_append(stream::iter([append(0, 1, 8)]), ttl())
            .await
            .unwrap();
        assert!(matches!(first.next().await, Some(Ok(Ok(_)))), "{fault:?}");
        assert!(first.next().await.is_none());
        drop(first);
        faults.set(&node.addr, Lane::Stream, fault);
        let started = Instant::now();
        // More will come, so the session does not end by itself.
        let input = stream::iter([append(0, 1, 8)]).chain(stream::pending());
        let mut answers = link.stream_append(Box::pin(input), ttl()).await.unwrap();
        let answer = timeout(SOON, answers.next()).await.unwrap();
        assert!(
            matches!(answer, Some(Err(RPCError::Unreachable(_)))),
            "{answer:?}"
        );
        assert!(started.elapsed() >= idle);
        assert!(answers.next().await.is_none());
        drop(answers);
        faults.set(&node.addr, Lane::Stream, Fault::None);
    }
    assert_eq!(faults.connected(), 2);

    // The same with a cluster: the majority goes on, the third node catches up.
    let nodes = cluster(serve).await;
    write(&nodes[0], 0..10).await;
    nodes[0]
        .faults
        .set(&nodes[2].addr, Lane::Stream, Fault::Hang);
    write(&nodes[0], 10..20).await;
    let connected = nodes[0].faults.connected();
    nodes[1].wait_applied(20).await;
    timeout(SOON, async {
        while nodes[0].faults.connected() == connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the hung stream is given up");
    nodes[0]
        .faults
        .set(&nodes[2].addr, Lane::Stream, Fault::None);
    write(&nodes[0], 20..30).await;
    nodes[2].wait_applied(30).await;
    shutdown(&nodes).await;
}

pub(crate) async fn a_stream_that_is_idle_is_not_given_up(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    let stranger = Stranger::new(1, CLUSTER);
    let mut link = node.link_from(&stranger, Lane::Stream, faults.clone());
    let (send, receive) = tokio::sync::mpsc::unbounded_channel();
    let input = stream::unfold(receive, |mut receive| async {
        Some((receive.recv().await?, receive))
    });
    let mut answers = link.stream_append(Box::pin(input), ttl()).await.unwrap();
    for index in 0..3 {
        send.send(append(index, 1, 8)).unwrap();
        assert!(matches!(answers.next().await, Some(Ok(Ok(_)))));
        assert!(
            timeout(options().heartbeat * 3, answers.next())
                .await
                .is_err()
        );
    }
    assert_eq!(faults.connected(), 1);
}

pub(crate) async fn a_conflict_ends_the_stream_and_the_next_starts_anew(serve: Serve) {
    let node = follower(2, serve).await;
    let faults = Faulty::default();
    let stranger = Stranger::new(1, CLUSTER);
    let mut link = node.patient_link_from(&stranger, Lane::Stream, faults.clone());
    // The follower has nothing: what follows entry 4 conflicts, and so would all that is under way behind it.
    let input = stream::iter((5..20).map(|n| append(n, 1, 8)));
    let mut answers = link.stream_append(input, ttl()).await.unwrap();
    let answer = timeout(SOON, answers.next()).await.unwrap();
    let Some(Ok(Err(StreamAppendError::Conflict(at)))) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(at.index, 4);
    assert!(answers.next().await.is_none());
    drop(answers);

    let input = stream::iter((0..20).map(|n| append(n, 1, 8)));
    let answers = link.stream_append(input, ttl()).await.unwrap();
    let accepted = answers.filter(|answer| std::future::ready(matches!(answer, Ok(Ok(_)))));
    assert_eq!(timeout(SOON, accepted.count()).await.unwrap(), 20);
    assert_eq!(faults.connected(), 2);

    // A newer leader is reported as what it is.
    let newer = node.link_from(&Stranger::new(3, CLUSTER), Lane::Unary, Tcp);
    let mut newer = newer;
    let beat = AppendEntriesRequest {
        vote: leader_vote(2, 3),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    newer.append_entries(beat, ttl()).await.unwrap();
    let mut answers = link
        .stream_append(stream::iter([append(20, 1, 8)]), ttl())
        .await
        .unwrap();
    let answer = timeout(SOON, answers.next()).await.unwrap();
    assert!(
        matches!(answer, Some(Ok(Err(StreamAppendError::HigherVote(vote)))) if vote == leader_vote(2, 3)),
        "{answer:?}"
    );
}

pub(crate) async fn a_large_catch_up_is_answered_frame_by_frame(serve: Serve) {
    let node = follower(2, serve).await;
    let stranger = Stranger::new(1, CLUSTER);
    // Patient: what is claimed is not how fast 30 MiB are appended on a busy machine.
    let mut link = node.patient_link_from(&stranger, Lane::Stream, Tcp);
    let mut answers = link
        .stream_append(stream::iter([append(0, 30, 1 << 20)]), ttl())
        .await
        .unwrap();
    let mut last = None;
    while last < Some(29) {
        let answer = timeout(SOON, answers.next()).await.unwrap().unwrap();
        let matched = answer.unwrap().unwrap().map(|id| id.index);
        assert!(matched > last);
        last = matched;
    }
    assert!(answers.next().await.is_none());
    drop(answers);

    // A unary request carries what fits and says how far that was.
    let mut unary = node.link_from(&stranger, Lane::Unary, Tcp);
    let response = unary.append_entries(append(30, 5, 3 << 20), ttl()).await;
    let Ok(openraft::raft::AppendEntriesResponse::PartialSuccess(Some(matched))) = response else {
        panic!("{response:?}");
    };
    assert_eq!(Some(matched.index), node.last_index());
}
