//! What is under way on an append stream, shared by its two directions.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use openraft::raft::{StreamAppendError, StreamAppendResult};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::check_answer;
use super::unary::CallError;
use crate::raft::convert;
use crate::raft::heard::Heard;
use crate::raft::types::Types;
use crate::raft::vitals::Vitals;
use crate::raft::wire::answer::Answer;
use crate::storage::clock::now;
use crate::storage::{LogId, Vote};

/// Most frames under way: as many as openraft's receiving side takes before it answers.
const IN_FLIGHT_MAX: usize = 64;
/// Most bytes of frames under way (16 MiB); a single larger frame travels alone.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;

/// The frames a session has under way.
pub(super) struct Window {
    /// Whose answers are awaited, and who is told what its clock showed.
    peer: u64,
    vitals: Vitals,
    /// A plain lock: held for queue operations, never across an await.
    state: Mutex<WindowState>,
    /// Notified when something left.
    room: Notify,
}

struct WindowState {
    in_flight: VecDeque<InFlight>,
    bytes: usize,
    /// When something last moved.
    moved: Instant,
}

/// A frame that was, or is being, written and is not answered.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) seq: u64,
    pub(super) vote: Vote,
    pub(super) prev: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) len: usize,
    /// When its writing began; the window sets it.
    pub(super) sent: std::time::Instant,
}

impl Window {
    pub(super) fn new(peer: u64, vitals: Vitals) -> Window {
        Window {
            peer,
            vitals,
            state: Mutex::new(WindowState {
                in_flight: VecDeque::new(),
                bytes: 0,
                moved: Instant::now(),
            }),
            room: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, WindowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().in_flight.is_empty()
    }

    pub(super) fn moved(&self) {
        self.lock().moved = Instant::now();
    }

    /// Waits until `frame` fits and counts it.
    pub(super) async fn enter(&self, mut frame: InFlight) {
        loop {
            let room = self.room.notified();
            {
                let mut state = self.lock();
                let fits = state.bytes + frame.len <= IN_FLIGHT_BYTES_MAX;
                if state.in_flight.is_empty() || (fits && state.in_flight.len() < IN_FLIGHT_MAX) {
                    if state.in_flight.is_empty() {
                        state.moved = Instant::now();
                    }
                    frame.sent = now();
                    state.bytes += frame.len;
                    state.in_flight.push_back(frame);
                    return;
                }
            }
            room.await;
        }
    }

    /// Returns when nothing has moved for `idle_max` although something is under way.
    pub(super) async fn stuck(&self, idle_max: Duration) {
        loop {
            let deadline = {
                let state = self.lock();
                let from = match state.in_flight.is_empty() {
                    true => Instant::now(),
                    false => state.moved,
                };
                from + idle_max
            };
            if deadline <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }

    /// Takes the oldest frame under way off, as answered by `frame`.
    pub(super) fn answered(
        &self,
        frame: Option<Result<BytesMut, std::io::Error>>,
    ) -> Result<StreamAppendResult<Types>, CallError> {
        let lost = |what: String| CallError::Lost(what);
        let frame = frame.ok_or_else(|| lost("the peer closed the stream".to_owned()))?;
        let frame = frame.map_err(|error| lost(error.to_string()))?;
        let answered = Answer::decode(frame.freeze()).map_err(|e| lost(e.to_string()))?;
        let answer = answered.answer;
        if let Answer::Refused(reason) = answer {
            return Err(CallError::Refused(reason));
        }
        let asked = {
            let mut state = self.lock();
            let asked = state.in_flight.pop_front();
            state.bytes -= asked.map_or(0, |asked| asked.len);
            state.moved = Instant::now();
            asked
        };
        self.room.notify_one();
        let asked = asked.filter(|asked| asked.seq == answered.seq);
        let asked = asked.ok_or_else(|| lost(format!("answer {} was not due", answered.seq)))?;
        self.vitals.hear(self.peer, asked.sent, answered.signs);
        check_answer(&answer, asked.prev, asked.last).map_err(lost)?;
        check_held(&self.vitals.heard, self.peer, asked.vote, &answer)?;
        match answer {
            Answer::Matched(matched) => Ok(Ok(matched.map(convert::raft_log_id))),
            Answer::Conflict(Some(at)) => {
                Ok(Err(StreamAppendError::Conflict(convert::raft_log_id(at))))
            }
            Answer::HigherVote(vote) => {
                Ok(Err(StreamAppendError::HigherVote(convert::raft_vote(vote))))
            }
            other => Err(lost(format!("an append was answered with {other:?}"))),
        }
    }
}

/// Holds the answer of `peer` to an append under `vote` against what it acknowledged before: the core cannot live with a follower
/// that goes back.
pub(super) fn check_held(
    heard: &Heard,
    peer: u64,
    vote: Vote,
    answer: &Answer,
) -> Result<(), CallError> {
    match answer {
        Answer::Matched(matched) => heard.acknowledged(peer, vote, *matched),
        Answer::Conflict(Some(at)) => {
            if let Some(why) = heard.lost(peer, vote, *at) {
                return Err(CallError::Refused(why));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::raft::wire::Segments;

    fn window() -> Window {
        Window::new(2, Vitals::healthy())
    }

    fn id(index: u64) -> Option<LogId> {
        Some(LogId {
            term: 1,
            node: 1,
            index,
        })
    }

    /// Frame `seq`, of the one entry with that index.
    fn frame(seq: u64, len: usize) -> InFlight {
        InFlight {
            seq,
            vote: Vote::default(),
            prev: seq.checked_sub(1).and_then(id),
            last: id(seq),
            len,
            sent: std::time::Instant::now(),
        }
    }

    fn answer(seq: u64, answer: Answer) -> Option<Result<BytesMut, std::io::Error>> {
        let mut message = Segments::default();
        answer.encode(seq, crate::raft::vitals::Signs::default(), &mut message);
        Some(Ok(BytesMut::from(&message.into_bytes()[..])))
    }

    #[test]
    fn bytes_under_way_are_bounded_and_a_larger_frame_travels_alone() {
        let window = window();
        let enters = |seq, len| window.enter(frame(seq, len)).now_or_never().is_some();
        assert!(enters(0, IN_FLIGHT_BYTES_MAX + 1), "it is alone");
        assert!(!enters(1, 1));
        let matched = window.answered(answer(0, Answer::Matched(id(0))));
        assert!(matched.is_ok());
        assert!(enters(1, IN_FLIGHT_BYTES_MAX - 1));
        assert!(enters(2, 1));
        assert!(!enters(3, 1));
    }

    #[test]
    fn an_answer_that_is_not_due_or_claims_too_much_is_not_believed() {
        let vote = Vote::default();
        for (given, believed) in [
            (answer(5, Answer::Matched(id(5))), true),
            (answer(5, Answer::Conflict(id(4))), true),
            (answer(5, Answer::HigherVote(vote)), true),
            (answer(4, Answer::Matched(id(5))), false),
            (answer(6, Answer::Matched(id(5))), false),
            (answer(5, Answer::Matched(id(6))), false),
            (answer(5, Answer::Matched(id(3))), false),
            (answer(5, Answer::Conflict(id(5))), false),
            (answer(5, Answer::Rare(bytes::Bytes::new())), false),
        ] {
            let window = window();
            window.enter(frame(5, 1)).now_or_never().unwrap();
            let text = format!("{given:?}");
            assert_eq!(window.answered(given).is_ok(), believed, "{text}");
        }
        let nothing_asked = window().answered(answer(0, Answer::Matched(id(0))));
        assert!(nothing_asked.is_err());
    }

    #[test]
    fn a_peer_that_lacks_what_it_acknowledged_is_not_believed() {
        let window = window();
        window.enter(frame(5, 1)).now_or_never().unwrap();
        assert!(window.answered(answer(5, Answer::Matched(id(5)))).is_ok());
        window.enter(frame(6, 1)).now_or_never().unwrap();
        let gone = window.answered(answer(6, Answer::Conflict(id(5))));
        assert!(
            matches!(&gone, Err(CallError::Refused(why)) if why.contains("older copy")),
            "{gone:?}"
        );
    }

    #[tokio::test]
    async fn a_frame_after_a_long_pause_has_its_whole_time() {
        let (pause, idle_max) = (Duration::from_secs(40), Duration::from_secs(30));
        let window = window();
        window.lock().moved -= pause;
        window.enter(frame(0, 1)).await;
        assert_eq!(window.stuck(idle_max).now_or_never(), None);
        window.lock().moved -= pause;
        assert_eq!(window.stuck(idle_max).now_or_never(), Some(()));
    }
}
