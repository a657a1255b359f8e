//! Append streams, frame by frame.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{Call, Peer, PeerError};
use crate::raft::Gate;
use crate::raft::network::testing::{CLUSTER, Node, Stranger, options};
use crate::raft::space::Room;
use crate::raft::wire::answer::Answer;
use crate::raft::wire::append::Append;
use crate::raft::wire::{self, Header, Segments, id_bytes};
use crate::storage::{Kind, LogEntry, LogId, Vote};

const SOON: Duration = Duration::from_secs(30);

/// A stream served by node 2 and held by hand.
struct ByHand {
    frames: Framed<DuplexStream, LengthDelimitedCodec>,
    served: tokio::task::JoinHandle<Result<(), PeerError>>,
    header: Header,
}

impl ByHand {
    fn open(peer: &Peer, sender: &Stranger, buffer: usize) -> ByHand {
        let (near, far) = tokio::io::duplex(buffer);
        let peer = peer.clone();
        let me = sender.dir.identity();
        ByHand {
            frames: Framed::new(near, wire::codec()),
            served: tokio::spawn(async move { peer.stream(far).await }),
            header: Header {
                call: Call::Append,
                cluster: id_bytes(CLUSTER).unwrap(),
                from: me.node_id,
                from_uuid: id_bytes(&me.node_uuid).unwrap(),
                boot: sender.dir.boot(),
                to_uuid: [0; 16],
                to: 2,
                vote: Vote {
                    term: 1,
                    node: me.node_id,
                    committed: true,
                },
                seq: 0,
            },
        }
    }

    /// Sends an append of one entry at `index` and counts on.
    async fn send(&mut self, index: u64) {
        let id = |index| LogId {
            term: 1,
            node: 1,
            index,
        };
        let append = Append {
            prev: index.checked_sub(1).map(id),
            commit: None,
            entries: vec![LogEntry {
                id: id(index),
                kind: Kind::Commands,
                body: Bytes::from_static(b"entry"),
            }],
        };
        let mut frame = Segments::default();
        append.encode(&self.header, &mut frame);
        self.frames.send(frame.into_bytes()).await.unwrap();
        self.header.seq += 1;
    }

    async fn answer(&mut self) -> Option<(u64, Answer)> {
        let frame = tokio::time::timeout(SOON, self.frames.next())
            .await
            .unwrap()?;
        let answered = Answer::decode(BytesMut::freeze(frame.unwrap())).unwrap();
        Some((answered.seq, answered.answer))
    }

    /// The reason of the refusal that ends the stream.
    async fn refused(mut self) -> String {
        let Some((_, Answer::Refused(reason))) = self.answer().await else {
            panic!("not refused");
        };
        self.closed().await.unwrap_err();
        reason
    }

    /// Waits until the stream is closed from the other side, and is what served it.
    async fn closed(mut self) -> Result<(), PeerError> {
        assert_eq!(self.answer().await, None);
        tokio::time::timeout(SOON, self.served)
            .await
            .unwrap()
            .unwrap()
    }
}

async fn node() -> (std::sync::Arc<Node>, Peer) {
    let node = Node::start(2, Gate::open(), |_, _| {}).await;
    node.raft.runtime_config().elect(false);
    let peer = Peer::new(node.context.clone());
    (node, peer)
}

#[tokio::test]
async fn a_stream_ends_with_its_peer_after_all_is_answered() {
    let (_node, peer) = node().await;
    let mut stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 1 << 20);
    for index in 0..100 {
        stream.send(index).await;
    }
    for index in 0..100 {
        let (seq, answer) = stream.answer().await.unwrap();
        assert_eq!(seq, index);
        assert!(matches!(answer, Answer::Matched(Some(id)) if id.index == index));
    }
    drop(stream.frames);
    assert!(stream.served.await.unwrap().is_ok());
}

#[tokio::test]
async fn after_a_conflict_the_connection_is_closed_though_the_peer_holds_it_open() {
    let (node, peer) = node().await;
    let mut stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 1 << 20);
    // What is under way behind the conflict is not acted on.
    stream.send(5).await;
    stream.send(0).await;
    let conflict = stream.answer().await;
    assert!(matches!(conflict, Some((0, Answer::Conflict(Some(id)))) if id.index == 4));
    stream.closed().await.unwrap();
    let _ = node;
}

#[tokio::test]
async fn a_node_whose_disk_is_full_takes_no_entries_and_says_so_until_it_has_room() {
    let (node, peer) = node().await;
    let stranger = Stranger::new(1, CLUSTER);
    node.context.vitals.space.pretend(Room::Full);
    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(0).await;
    let reason = stream.refused().await;
    assert!(reason.contains("the disk is full"), "{reason}");
    node.context.vitals.space.pretend(Room::Low);
    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(0).await;
    assert!(matches!(
        stream.answer().await,
        Some((0, Answer::Matched(Some(_))))
    ));
}

#[tokio::test]
async fn a_frame_that_is_not_the_next_ends_the_stream() {
    let (node, peer) = node().await;
    let stranger = Stranger::new(1, CLUSTER);
    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(0).await;
    assert!(stream.answer().await.is_some());
    stream.header.seq += 1;
    stream.send(1).await;
    assert_eq!(stream.refused().await, "frame 2 came where 1 was due");

    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(1).await;
    assert!(stream.answer().await.is_some());
    stream.header.seq -= 1;
    stream.send(1).await;
    assert_eq!(stream.refused().await, "frame 0 came where 1 was due");
    assert_eq!(node.last_index(), Some(1));
}

#[tokio::test]
async fn a_sender_that_changes_in_mid_stream_ends_it() {
    let (node, peer) = node().await;
    let mut stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 1 << 20);
    stream.send(0).await;
    assert!(stream.answer().await.is_some());
    stream.header.from_uuid = [1; 16];
    stream.send(1).await;
    assert_eq!(stream.refused().await, "the sender of a stream changed");
    assert_eq!(node.last_index(), Some(0));
}

#[tokio::test]
async fn every_frame_is_held_against_the_cluster() {
    let (node, peer) = node().await;
    let mut stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 1 << 20);
    stream.send(0).await;
    assert!(stream.answer().await.is_some());
    stream.header.cluster = [1; 16];
    stream.send(1).await;
    assert!(stream.refused().await.contains("another cluster"));
    assert_eq!(node.last_index(), Some(0));
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_stream() {
    let (_node, peer) = node().await;
    let stranger = Stranger::new(1, CLUSTER);
    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream
        .frames
        .send(Bytes::from_static(b"nonsense"))
        .await
        .unwrap();
    assert!(stream.refused().await.contains("protocol version"));

    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(0).await;
    assert!(stream.answer().await.is_some());
    stream
        .frames
        .send(Bytes::from_static(b"\x04\0\0\0\x01"))
        .await
        .unwrap();
    assert!(
        stream
            .refused()
            .await
            .contains("a message ends before its last field")
    );

    let mut stream = ByHand::open(&peer, &stranger, 1 << 20);
    stream.send(1).await;
    assert!(stream.answer().await.is_some());
    // A length that no frame has.
    let io = stream.frames.get_mut();
    tokio::io::AsyncWriteExt::write_all(io, &[0xff; 8])
        .await
        .unwrap();
    assert!(stream.refused().await.contains("a frame cannot be read"));
}

#[tokio::test]
async fn a_peer_that_reads_no_answers_is_given_up() {
    let (_node, peer) = node().await;
    // Room for a frame, not for its answer and another.
    let mut stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 64);
    for index in 0..8 {
        stream.send(index).await;
    }
    let ended = tokio::time::timeout(SOON + options().heartbeat, stream.served).await;
    let error = ended.unwrap().unwrap().unwrap_err();
    assert_eq!(error.0, "answers are not read");
}

#[tokio::test]
async fn a_peer_that_opens_a_stream_and_sends_nothing_is_given_up() {
    let (_node, peer) = node().await;
    let stream = ByHand::open(&peer, &Stranger::new(1, CLUSTER), 1 << 20);
    let ended = stream.closed().await.unwrap_err();
    assert_eq!(ended.0, "no frame in time");
}
