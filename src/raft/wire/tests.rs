use bytes::{Buf, Bytes};
use proptest::prelude::*;

use super::answer::{Answer, Answered};
use super::append::Append;
use super::rare::{TransferAsked, TransferGiven, VoteAsked, VoteGiven};
use super::*;
use crate::raft::space::Room;
use crate::raft::vitals::Signs;
use crate::storage::{Kind, LogEntry, LogId};

fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: 1,
        index,
    }
}

fn header(call: Call) -> Header {
    Header {
        call,
        cluster: [7; 16],
        from: 1,
        from_uuid: [9; 16],
        boot: Boot {
            number: 3,
            nonce: 4,
        },
        to_uuid: [6; 16],
        to: 2,
        vote: Vote {
            term: 5,
            node: 1,
            committed: true,
        },
        seq: 77,
    }
}

fn entries(range: std::ops::Range<u64>, len: usize) -> Vec<LogEntry> {
    let entry = |index| LogEntry {
        id: id(5, index),
        kind: Kind::Commands,
        body: Bytes::from(vec![u8::try_from(index % 251).unwrap(); len]),
    };
    range.map(entry).collect()
}

fn encode(header: &Header, append: Append) -> Bytes {
    let len = append.frame_len();
    let mut out = Segments::default();
    append.encode(header, &mut out);
    assert_eq!(out.len(), len);
    out.into_bytes()
}

fn decode(message: Bytes) -> Result<(Header, Append), WireError> {
    let mut cursor = Cursor::new(message);
    let header = Header::decode(&mut cursor)?;
    Append::decode(&header, cursor).map(|append| (header, append))
}

#[test]
fn an_append_comes_back_as_it_was() {
    let mut all = entries(4..9, 10_000);
    all[2].kind = Kind::Membership;
    all[3].kind = Kind::Blank;
    all[3].body = Bytes::new();
    let append = Append {
        prev: Some(id(4, 3)),
        commit: Some(id(4, 2)),
        entries: all,
    };
    let asked = header(Call::Append);
    assert_eq!(decode(encode(&asked, append.clone())), Ok((asked, append)));
}

#[test]
fn a_heartbeat_is_an_append_without_entries() {
    let asked = header(Call::Append);
    let message = encode(&asked, Append::default());
    assert_eq!(message.len(), HEADER_LEN + 56);
    assert_eq!(decode(message), Ok((asked, Append::default())));
}

#[test]
fn received_bodies_are_slices_of_the_frame() {
    let append = Append {
        prev: None,
        commit: None,
        entries: entries(0..3, 5000),
    };
    let message = encode(&header(Call::Append), append);
    let frame = message.as_ptr_range();
    let (_, received) = decode(message.clone()).unwrap();
    for entry in received.entries {
        assert!(frame.contains(&entry.body.as_ptr()));
    }
}

#[test]
fn large_bodies_are_sent_from_where_they_are() {
    let all = entries(0..2, 100_000);
    let places: Vec<_> = all.iter().map(|entry| entry.body.as_ptr()).collect();
    let append = Append {
        prev: None,
        commit: None,
        entries: all,
    };
    let mut out = Segments::default();
    append.encode(&header(Call::Append), &mut out);
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let count = out.chunks_vectored(&mut slices);
    let sent: Vec<_> = slices[..count].iter().map(|slice| slice.as_ptr()).collect();
    assert_eq!(sent[1..], places);
}

#[test]
fn a_log_that_is_not_in_order_is_refused() {
    let asked = header(Call::Append);
    let in_order = Append {
        prev: Some(id(5, 3)),
        commit: None,
        entries: entries(4..7, 1),
    };
    assert!(decode(encode(&asked, in_order.clone())).is_ok());
    let mut hole = in_order.clone();
    hole.entries.remove(1);
    let mut gap = in_order.clone();
    gap.prev = Some(id(5, 2));
    let mut no_start = in_order.clone();
    no_start.prev = None;
    let mut backwards = in_order.clone();
    backwards.entries[1].id.term = 4;
    let mut too_new = in_order.clone();
    too_new.entries[2].id.term = 6;
    let mut at_the_end = in_order;
    at_the_end.prev = Some(id(5, u64::MAX));
    for wrong in [hole, gap, no_start, backwards, too_new, at_the_end] {
        assert!(decode(encode(&asked, wrong)).is_err());
    }
}

#[test]
fn an_append_of_a_node_that_does_not_lead_is_refused() {
    for (committed, node) in [(false, 1), (true, 3)] {
        let mut asked = header(Call::Append);
        asked.vote.committed = committed;
        asked.vote.node = node;
        assert!(decode(encode(&asked, Append::default())).is_err());
    }
}

#[test]
fn another_version_is_named_and_nothing_else_is_read() {
    let mut message = encode(&header(Call::Append), Append::default()).to_vec();
    message[0] = 9;
    assert_eq!(
        decode(message[..4].to_vec().into()),
        Err(WireError::Version(9))
    );
}

#[test]
fn what_is_cut_short_or_has_more_is_refused() {
    let append = Append {
        prev: None,
        commit: None,
        entries: entries(0..2, 3),
    };
    let message = encode(&header(Call::Append), append);
    for len in 0..message.len() {
        assert!(decode(message.slice(..len)).is_err(), "{len}");
    }
    let mut more = message.to_vec();
    more.push(0);
    assert!(decode(more.into()).is_err());
}

#[test]
fn a_count_of_entries_that_are_not_there_allocates_nothing() {
    let mut message = encode(&header(Call::Append), Append::default()).to_vec();
    message[HEADER_LEN + 4..HEADER_LEN + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(message.into()), Err(WireError::Short));
}

#[test]
fn a_long_catch_up_is_cut_into_frames_that_join() {
    let append = Append {
        prev: Some(id(5, 9)),
        commit: Some(id(5, 9)),
        entries: entries(10..40, 300 << 10),
    };
    let frames = append.clone().into_frames().unwrap();
    assert!(frames.len() >= 9, "{}", frames.len());
    let mut prev = append.prev;
    for frame in &frames {
        assert_eq!((frame.prev, frame.commit), (prev, append.commit));
        assert!(frame.frame_len() <= FRAME_LEN_MAX && !frame.entries.is_empty());
        prev = frame.last();
    }
    let joined: Vec<_> = frames.into_iter().flat_map(|frame| frame.entries).collect();
    assert_eq!(joined, append.entries);
}

#[test]
fn an_entry_of_the_largest_size_travels_and_a_larger_one_is_refused() {
    let of = |len| Append {
        prev: None,
        commit: None,
        entries: entries(0..3, len),
    };
    let frames = of(crate::machine::entry::ENTRY_LEN_MAX)
        .into_frames()
        .unwrap();
    assert_eq!(frames.len(), 3);
    assert!(
        frames
            .iter()
            .all(|frame| frame.frame_len() <= FRAME_LEN_MAX)
    );
    assert!(of(FRAME_LEN_MAX).into_frames().is_err());
}

#[test]
fn every_answer_comes_back_as_it_was() {
    let vote = header(Call::Vote).vote;
    let answers = [
        Answer::Matched(None),
        Answer::Matched(Some(id(3, 4))),
        Answer::Conflict(Some(id(0, 0))),
        Answer::HigherVote(vote),
        Answer::Refused("node 3 was removed from the cluster".to_owned()),
        Answer::Rare(Bytes::from_static(b"body")),
    ];
    for (seq, answer) in (5..).zip(answers) {
        let mut out = Segments::default();
        let signs = Signs {
            wall_ns: 7 + seq,
            room: Room::ALL[usize::try_from(seq).unwrap() % 3],
        };
        answer.clone().encode(seq, signs, &mut out);
        let received = Answered { seq, signs, answer };
        assert_eq!(Answer::decode(out.into_bytes()), Ok(received));
    }
}

#[test]
fn rare_messages_come_back_as_they_were() {
    fn check<T>(value: T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let bytes = Bytes::from(rare::encode(&value));
        assert_eq!(rare::decode::<T>(&bytes), Ok(value));
        let more = Bytes::from([&bytes[..], &[0]].concat());
        assert!(rare::decode::<T>(&more).is_err());
    }
    let vote = header(Call::Vote).vote;
    check(VoteAsked {
        last: Some(id(1, 2)),
        leadership_transfer: true,
    });
    check(VoteGiven {
        vote,
        granted: true,
        last: None,
    });
    check(TransferAsked {
        heir: 3,
        last: Some(id(1, 2)),
    });
    check(TransferGiven::Accepted);
    check(TransferGiven::VoteChanged {
        expected: vote,
        actual: vote,
    });
    check(TransferGiven::LogNotFlushed {
        expected: Some(id(1, 2)),
        actual: None,
    });
}

#[test]
fn an_id_is_read_with_and_without_hyphens() {
    let plain = id_bytes("67e5504410b1426f9247bb680e5fe0c8").unwrap();
    let hyphens = id_bytes("67e55044-10b1-426f-9247-bb680e5fe0c8").unwrap();
    assert_eq!(plain, hyphens);
    assert!(id_bytes("").is_err() && id_bytes("67e5").is_err());
}

/// Bytes that are nearly an append: a valid one with some bytes changed and the end cut off or padded.
fn nearly_an_append() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let changes = prop::collection::vec(change, 0..4);
    (0..5u64, 0..40usize, changes, -8..8isize).prop_map(|(count, len, changes, tail)| {
        let append = Append {
            prev: None,
            commit: Some(id(5, 0)),
            entries: entries(0..count, len),
        };
        let mut bytes = encode(&header(Call::Append), append).to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let new_len = bytes.len().saturating_add_signed(tail);
        bytes.resize(new_len, 0);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_bytes_are_an_error_or_a_message_that_encodes_to_them(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..400), nearly_an_append()],
    ) {
        let bytes = Bytes::from(bytes);
        if let Ok((header, append)) = decode(bytes.clone()) {
            prop_assert_eq!(encode(&header, append), bytes.clone());
        }
        if let Ok(received) = Answer::decode(bytes.clone()) {
            let mut out = Segments::default();
            let Answered { seq, signs, answer } = received.clone();
            answer.encode(seq, signs, &mut out);
            prop_assert_eq!(Answer::decode(out.into_bytes()), Ok(received));
        }
        let _ = rare::decode::<VoteAsked>(&bytes);
        let _ = rare::decode::<VoteGiven>(&bytes);
        let _ = rare::decode::<TransferAsked>(&bytes);
        let _ = rare::decode::<TransferGiven>(&bytes);
    }

    #[test]
    fn a_message_is_read_out_whole_in_pieces_of_any_size(
        lens in prop::collection::vec(prop_oneof![0..64usize, 4000..9000usize], 0..12),
        step in 1..5000usize,
    ) {
        let mut segments = Segments::default();
        let mut whole = Vec::new();
        for (value, len) in lens.into_iter().enumerate() {
            let body = vec![u8::try_from(value).unwrap(); len];
            segments.put_u32(7);
            segments.put_body(Bytes::from(body.clone()));
            whole.extend_from_slice(&7u32.to_le_bytes());
            whole.extend_from_slice(&body);
        }
        let mut read = Vec::new();
        while segments.has_remaining() {
            let chunk = segments.chunk();
            let len = chunk.len().min(step);
            prop_assert!(len > 0);
            read.extend_from_slice(&chunk[..len]);
            segments.advance(len);
        }
        prop_assert_eq!(read, whole);
    }
}
