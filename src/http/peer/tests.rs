//! The peer listener, end to end: real sockets, several nodes.

use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::raft::Peer;
use crate::raft::network::scenarios::{self, Serve};

fn serve(listener: TcpListener, peer: Peer) {
    tokio::spawn(async move {
        let never = std::future::pending();
        super::serve(listener, peer, never).await.unwrap();
    });
}

/// Runs what must hold between peers with this listener.
macro_rules! hold {
    ($($claim:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $claim() {
            scenarios::$claim(serve as Serve).await;
        }
    )*};
}

hold! {
    ten_thousand_entries_reach_every_node_in_one_order
    answers_come_in_the_order_of_the_requests
    as_much_as_allowed_is_under_way_before_the_first_answer
    a_heartbeat_passes_an_append_that_is_stuck
    a_hung_stream_is_given_up_and_replication_resumes
    a_stream_that_is_idle_is_not_given_up
    a_conflict_ends_the_stream_and_the_next_starts_anew
    a_large_catch_up_is_answered_frame_by_frame
    who_is_not_meant_is_refused_with_the_reason
    another_version_or_another_call_is_refused
    one_id_from_two_directories_is_refused_while_the_first_is_connected
    a_newer_stream_of_a_peer_takes_over
    a_committed_removal_closes_the_stream_of_the_removed
    a_candidate_that_is_no_member_is_refused_unless_its_log_says_more
    a_pre_vote_and_a_vote_are_decided_by_the_peer
    leadership_is_handed_over_at_once
    a_transfer_of_an_old_leader_is_answered_with_the_vote_of_now
    behind_the_vote_gate_only_appends_pass
    a_peer_that_is_away_is_unreachable_and_found_again
    a_node_says_who_it_is_and_joins_a_cluster_once
    a_snapshot_of_who_is_not_meant_is_refused_with_the_reason
    a_snapshot_of_a_leader_that_was_replaced_is_answered_with_the_vote_of_now
    heartbeats_pass_a_snapshot_that_is_stuck_and_its_end_can_be_asked_for
}

/// The status line and the body of the answer to `head` and `body`.
async fn exchange(addr: &str, head: &str, body: &[u8]) -> String {
    let mut io = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    io.write_all(head.as_bytes()).await.unwrap();
    // The listener may answer and close before it has read a body that is too large.
    let _ = io.write_all(body).await;
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_not_for_peers_is_answered_with_a_status() {
    let addr = scenarios::serving(serve as Serve).await;
    let cases = [
        ("GET /raft/stream", 0, StatusCode::UPGRADE_REQUIRED),
        ("GET /raft/hello", 0, StatusCode::METHOD_NOT_ALLOWED),
        ("POST /v1/transfers", 0, StatusCode::NOT_FOUND),
        ("POST /raft/hello", 3, StatusCode::CONFLICT),
        (
            "POST /raft/append",
            (8 << 20) + 1,
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ];
    for (head, len, status) in cases {
        let answer = exchange(&addr, head, &vec![0xff; len]).await;
        let line = format!("HTTP/1.1 {}", status.as_u16());
        assert!(answer.starts_with(&line), "{head}: {answer}");
    }
}
