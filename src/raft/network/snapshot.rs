//! A snapshot on its way to one peer, over a connection of its own: it asks, this node sends what is asked for.
//!
//! Memory is bounded by one chunk. The rate is bounded by pausing between chunks. A peer that neither takes a byte nor says
//! anything for [`SnapshotOptions::stall`] is given up; what it has stays there, and the next attempt goes on from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::unary::CallError;
use crate::raft::SnapshotOptions;
use crate::raft::blocking;
use crate::raft::snapshots::{Sending, SnapshotDir};
use crate::raft::wire::answer::Answer;
use crate::raft::wire::snapshot::{Asked, CHUNK_LEN_MAX, Sent};
use crate::raft::wire::{Header, Segments, rare};
use crate::storage::Vote;
use crate::storage::snapshot;

/// The two halves of an upgraded connection.
pub(crate) type Halves<Io> = (
    FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    WriteHalf<Io>,
);

/// The connection.
struct Line<Io> {
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    write: WriteHalf<Io>,
    /// Of the next frame.
    header: Header,
    stall: Duration,
}

/// Keeps to a rate.
struct Pace {
    rate: u64,
    due: Instant,
}

/// Sends `snapshot` as the sender that `header` names, and gives the vote of the peer once that has installed it, or has it already.
pub(crate) async fn send<Io: AsyncRead + AsyncWrite>(
    (frames, write): Halves<Io>,
    header: Header,
    snapshot: &SnapshotDir,
    options: &SnapshotOptions,
) -> Result<Vote, CallError> {
    let manifest = &snapshot.manifest;
    let last = manifest.applied.log_id.map_or(0, |last| last.index);
    let sending = snapshot.transfers.send(header.to, last, manifest.bytes());
    let mut line = Line {
        frames,
        write,
        header,
        stall: options.stall,
    };
    let mut pace = Pace {
        rate: options.rate,
        due: Instant::now(),
    };
    line.send(Sent::Offer(manifest.encode().into())).await?;
    loop {
        match line.hear().await? {
            Asked::Lacks(bytes) => sending.lacks(bytes),
            Asked::Busy => {}
            Asked::Want { file, offset } => {
                line.send_file(snapshot, file, offset, &mut pace, &sending)
                    .await?;
            }
            Asked::Over(vote) => {
                sending.delivered();
                return Ok(vote);
            }
        }
    }
}

impl<Io: AsyncRead + AsyncWrite> Line<Io> {
    async fn hear(&mut self) -> Result<Asked, CallError> {
        let frame = match timeout(self.stall, self.frames.next()).await {
            Ok(Some(frame)) => frame.map_err(|error| CallError::Lost(error.to_string()))?,
            Ok(None) => return Err(CallError::Lost("the peer closed it".to_owned())),
            Err(_) => return Err(CallError::Timeout(self.stall)),
        };
        let nonsense = |error: crate::raft::wire::WireError| CallError::Lost(error.to_string());
        match Answer::decode(frame.freeze()).map_err(nonsense)?.answer {
            Answer::Rare(asked) => rare::decode(&asked).map_err(nonsense),
            Answer::Refused(reason) => Err(CallError::Refused(reason)),
            other => Err(CallError::Lost(format!(
                "a snapshot was answered with {other:?}"
            ))),
        }
    }

    async fn send_file(
        &mut self,
        snapshot: &SnapshotDir,
        file: u32,
        mut offset: u64,
        pace: &mut Pace,
        sending: &Sending,
    ) -> Result<(), CallError> {
        let entry = usize::try_from(file)
            .ok()
            .and_then(|at| snapshot.manifest.files.get(at));
        let entry = entry.filter(|entry| offset <= entry.size);
        let nothing =
            || CallError::Lost(format!("the peer asked for file {file} from {offset} on"));
        let entry = entry.ok_or_else(nothing)?;
        let path = snapshot::state_dir(&snapshot.path).join(&entry.name);
        let own = |error: io::Error| CallError::Lost(format!("{} here: {error}", path.display()));
        let opening = path.clone();
        let source = Arc::new(
            blocking::io(move || File::open(opening))
                .await
                .map_err(own)?,
        );
        while offset < entry.size {
            let len = (entry.size - offset).min(pace.chunk_len());
            let bytes = read(source.clone(), offset, len).await.map_err(own)?;
            pace.pass(len).await;
            let chunk = Sent::Chunk {
                file,
                offset,
                bytes,
            };
            self.send(chunk).await?;
            offset += len;
            sending.sent(len);
        }
        Ok(())
    }

    /// Sends one frame. If the peer has closed the connection under it, what it said before says why.
    async fn send(&mut self, sent: Sent) -> Result<(), CallError> {
        let len = sent.frame_len();
        let mut message = Segments::default();
        message.put_u32(u32::try_from(len).map_err(|_| too_large(len))?);
        sent.encode(&self.header, &mut message);
        self.header.seq += 1;
        while message.has_remaining() {
            match timeout(self.stall, self.write.write_buf(&mut message)).await {
                Ok(Ok(taken)) if taken > 0 => {}
                Err(_) => return Err(CallError::Timeout(self.stall)),
                Ok(written) => {
                    let lost = written
                        .map_or_else(|error| error.to_string(), |_| "it is closed".to_owned());
                    return Err(self.refusal().await.unwrap_or(CallError::Lost(lost)));
                }
            }
        }
        let flushed = timeout(self.stall, self.write.flush()).await;
        flushed
            .map_err(|_| CallError::Timeout(self.stall))?
            .map_err(|error| CallError::Lost(error.to_string()))
    }

    /// The refusal that is still to be read, if there is one.
    async fn refusal(&mut self) -> Option<CallError> {
        loop {
            match self.hear().await {
                Ok(_) => {}
                Err(refused @ CallError::Refused(_)) => return Some(refused),
                Err(_) => return None,
            }
        }
    }
}

fn too_large(len: usize) -> CallError {
    CallError::Refused(format!("a manifest of {len} bytes is too large to be sent"))
}

async fn read(source: Arc<File>, offset: u64, len: u64) -> io::Result<Bytes> {
    blocking::io(move || {
        let mut bytes = vec![0; usize::try_from(len).expect("a chunk is small")];
        source.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    })
    .await
}

impl Pace {
    /// Waits until `len` bytes more may be sent.
    async fn pass(&mut self, len: u64) {
        let now = Instant::now();
        let turn = self.turn(now, len);
        if turn > now {
            sleep_until(turn).await;
        }
    }

    /// When that is. What was not used of the rate is lost, so that a pause is not followed by a burst.
    fn turn(&mut self, now: Instant, len: u64) -> Instant {
        let turn = self.due.max(now);
        if self.rate > 0 {
            self.due = turn + Duration::from_secs_f64(len as f64 / self.rate as f64);
        }
        turn
    }

    /// Bytes of a chunk: at a low rate small ones, so that the receiver sees that it goes on.
    fn chunk_len(&self) -> u64 {
        match self.rate {
            0 => CHUNK_LEN_MAX as u64,
            rate => (rate / 8).clamp(1, CHUNK_LEN_MAX as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_without_bursts() {
        let start = Instant::now();
        let mut pace = Pace {
            rate: 1000,
            due: start,
        };
        let turns: Vec<_> = (0..3).map(|_| pace.turn(start, 100) - start).collect();
        assert_eq!(turns, [0, 100, 200].map(Duration::from_millis));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.turn(later, 100), later);
        assert_eq!(pace.turn(later, 100), later + Duration::from_millis(100));
        let mut free = Pace {
            rate: 0,
            due: start,
        };
        assert_eq!(free.turn(later, 1 << 40), later);
        assert_eq!(free.turn(later, 1), later);
    }

    #[test]
    fn chunks_are_small_where_the_rate_is_low() {
        let len = |rate| {
            let due = Instant::now();
            Pace { rate, due }.chunk_len()
        };
        assert_eq!(
            [len(0), len(1), len(8000), len(1 << 40)],
            [1 << 20, 1, 1000, 1 << 20]
        );
    }
}
