//! A snapshot that comes in: the manifest first, then what this node asks for.
//!
//! What is here already is not asked for: files staged by a transfer that was cut off, and those that this node's own snapshot
//! has. Each file is verified against the manifest when it is complete. Only when all are, they become a snapshot, which the core
//! is then given to install: until that is done the state is the old one, whatever happens. While files are read to be verified,
//! and while the core installs, this node says now and then that it is busy.
//!
//! One comes in at a time, and a newer one takes over: it is of a newer leader, or of one that has given the older up.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::fence::{Refusal, check_disk};
use super::serve::{Server, failed, nonsense};
use super::stream::{Io, put_answer, send};
use super::{Call, PeerError};
use crate::raft::blocking;
use crate::raft::convert;
use crate::raft::snapshots::{Receiving, Snapshots, meta_of};
use crate::raft::types::{RaftSnapshot, SnapshotData, Types};
use crate::raft::vitals::Vitals;
use crate::raft::wire::answer::Answer;
use crate::raft::wire::snapshot::{Asked, Sent};
use crate::raft::wire::{self, Cursor, Header, rare};
use crate::storage::snapshot::{Manifest, Missing, Staging};
use crate::storage::{LogId, Vote};

/// The connection.
struct Line {
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    write: WriteHalf<Io>,
    /// Number of the last frame.
    seq: u64,
    vitals: Vitals,
    /// How long the sender may be silent, or not read what it is told.
    stall: Duration,
}

/// A transfer that was admitted.
struct Transfer<'s, SM: RaftStateMachine<Types>> {
    server: &'s Server<SM>,
    line: &'s mut Line,
    /// Of the last frame.
    header: Header,
    receiving: Receiving,
    /// Always there between two steps.
    staging: Option<Staging>,
}

/// Why a transfer ends.
enum End {
    Refused(Refusal),
    /// This node's vote, which is beyond the sender's.
    HigherVote(Vote),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Refused(refusal)
    }
}

/// Takes the snapshot that comes in on `io`.
pub(super) async fn serve<SM>(server: &Server<SM>, io: Io) -> Result<(), PeerError>
where
    SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    let (read, write) = tokio::io::split(io);
    let mut line = Line {
        frames: FramedRead::new(read, wire::codec()),
        write,
        seq: 0,
        vitals: server.context.vitals.clone(),
        stall: server.context.options.snapshots.stall,
    };
    let first = match line.frame().await {
        Ok(first) => first,
        Err(refusal) => return Err(PeerError(refusal.reason)),
    };
    let mut cursor = Cursor::new(first);
    let header = Header::decode(&mut cursor).map_err(|error| PeerError(error.to_string()))?;
    line.seq = header.seq;
    let vote = match offered(server, &mut line, &header, cursor).await {
        Ok(vote) | Err(End::HigherVote(vote)) => vote,
        Err(End::Refused(refusal)) => {
            // It is over, whether the peer still hears why or not.
            let _ = line.answer(Answer::Refused(refusal.reason.clone())).await;
            return Err(server.refuse(header.from, "snapshot", refusal));
        }
    };
    server.noise.recovered(header.from, "snapshot");
    let over = line.say(Asked::Over(vote)).await;
    over.map_err(|refusal| PeerError(refusal.reason))
}

/// Looks at the offer, and takes the snapshot if it is needed. Gives this node's vote.
async fn offered<SM>(
    server: &Server<SM>,
    line: &mut Line,
    header: &Header,
    cursor: Cursor,
) -> Result<Vote, End>
where
    SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    if header.call != Call::Snapshot {
        let reason = format!("{:?} where a snapshot is sent", header.call);
        return Err(Refusal::new("malformed", reason).into());
    }
    server.admit(header)?;
    let Sent::Offer(bytes) = Sent::decode(cursor).map_err(nonsense)? else {
        return Err(Refusal::new("malformed", "no manifest comes first").into());
    };
    let manifest = Manifest::decode(&bytes);
    let manifest =
        manifest.map_err(|what| Refusal::new("manifest", format!("manifest: {what}")))?;
    let last = check_offer(server, header, &manifest)?;
    check_vote(server, header)?;
    check_disk(&server.context.vitals.space)?;
    let committed = {
        let metrics = server.raft()?.metrics();
        metrics
            .borrow_watched()
            .local_committed
            .as_ref()
            .map(convert::log_id)
    };
    if let Some(committed) = committed.filter(|committed| committed.index >= last.index) {
        if last > committed {
            let reason =
                format!("it ends at {last:?}, which contradicts {committed:?}, committed here");
            return Err(Refusal::new("contradiction", reason).into());
        }
        // An answer that was lost is asked for again.
        return Ok(vote(server)?);
    }
    let transfers = server.context.snapshots.transfers().clone();
    let turn = transfers.receive(header.from, last.index, manifest.bytes());
    let receiving = line.busy(turn).await?;
    let transfer = Transfer {
        server,
        line,
        header: *header,
        receiving,
        staging: None,
    };
    transfer.run(manifest).await
}

/// Holds what a manifest says against who sends it. Gives the last entry of the snapshot.
fn check_offer<SM: RaftStateMachine<Types>>(
    server: &Server<SM>,
    header: &Header,
    manifest: &Manifest,
) -> Result<LogId, Refusal> {
    let refused = |reason: String| Refusal::new("manifest", reason);
    let mine = server.context.dir.identity().cluster_id;
    if manifest.cluster != mine {
        let other = manifest.cluster.as_deref().unwrap_or("no cluster");
        return Err(refused(format!(
            "the snapshot is of another cluster: {other}"
        )));
    }
    let last = manifest.applied.log_id;
    let last = last.ok_or_else(|| refused("the snapshot holds nothing".to_owned()))?;
    // The core takes a snapshot of a leader to come for impossible, and stops.
    let leader = (header.vote.term, header.vote.node);
    if (last.term, last.node) > leader {
        return Err(refused(format!(
            "it ends at {last:?}, beyond the sender's term {leader:?}"
        )));
    }
    Ok(last)
}

/// This node's vote.
fn vote<SM: RaftStateMachine<Types>>(server: &Server<SM>) -> Result<Vote, Refusal> {
    Ok(convert::vote(&server.metrics()?.vote))
}

/// Ends a transfer of a leader that is none any more.
fn check_vote<SM: RaftStateMachine<Types>>(
    server: &Server<SM>,
    header: &Header,
) -> Result<(), End> {
    let known = server.metrics()?.vote;
    match known > convert::raft_vote(header.vote) {
        true => Err(End::HigherVote(convert::vote(&known))),
        false => Ok(()),
    }
}

impl<SM> Transfer<'_, SM>
where
    SM: RaftStateMachine<Types, SnapshotData = SnapshotData>,
{
    async fn run(mut self, manifest: Manifest) -> Result<Vote, End> {
        let total = manifest.bytes();
        let missing = self.begin(manifest).await?;
        let lacks = missing
            .iter()
            .map(|missing| self.size(missing.file) - missing.offset);
        let lacks: u64 = lacks.sum();
        self.receiving.had(total.saturating_sub(lacks));
        self.line.say(Asked::Lacks(lacks)).await?;
        let from = self.header.from;
        tracing::info!(from, total, lacks, "a snapshot comes in");
        for missing in missing {
            self.file(missing).await?;
        }
        let vote = self.install().await?;
        tracing::info!(from, total, "the snapshot is installed");
        Ok(vote)
    }

    fn size(&self, file: usize) -> u64 {
        let staging = self.staging.as_ref();
        staging.map_or(0, |staging| staging.manifest().files[file].size)
    }

    async fn begin(&mut self, manifest: Manifest) -> Result<Vec<Missing>, End> {
        let snapshots = &self.server.context.snapshots;
        let (dir, own) = (snapshots.incoming(), snapshots.current());
        let begin = blocking::io(move || {
            let own = own.as_ref().map(|own| &own.snapshot);
            let own = own.map(|own| (own.path.as_path(), &own.manifest));
            Staging::begin(&dir, manifest, own)
        });
        let (staging, missing) = self.line.busy(begin).await?.map_err(|error| disk(&error))?;
        self.staging = Some(staging);
        Ok(missing)
    }

    /// Asks for what is missing of a file until all of it is there, verified.
    async fn file(&mut self, missing: Missing) -> Result<(), End> {
        let place = u32::try_from(missing.file).expect("a manifest fits into a frame");
        let (mut offset, size) = (missing.offset, self.size(missing.file));
        let want = Asked::Want {
            file: place,
            offset,
        };
        self.line.say(want).await?;
        while offset < size {
            let bytes = self.chunk(place, offset).await?;
            let len = bytes.len() as u64;
            self.put(missing.file, offset, bytes).await?;
            offset += len;
            self.receiving.received(len);
        }
        Ok(())
    }

    /// The next bytes, which must be those of `file` at `offset`.
    async fn chunk(&mut self, file: u32, offset: u64) -> Result<Bytes, End> {
        let frame = tokio::select! {
            biased;
            () = self.receiving.give_way.cancelled() => {
                return Err(Refusal::new("superseded", "a newer transfer of a snapshot took over").into());
            }
            frame = self.line.frame() => frame?,
        };
        let mut cursor = Cursor::new(frame);
        let header = Header::decode(&mut cursor).map_err(nonsense)?;
        let due = Header {
            seq: self.header.seq + 1,
            ..self.header
        };
        if header != due {
            return Err(Refusal::new("sender", "the sender of a snapshot changed").into());
        }
        self.server.admit(&header)?;
        (self.header, self.line.seq) = (header, header.seq);
        check_vote(self.server, &header)?;
        check_disk(&self.server.context.vitals.space)?;
        match Sent::decode(cursor).map_err(nonsense)? {
            Sent::Chunk {
                file: f,
                offset: o,
                bytes,
            } if (f, o) == (file, offset) => Ok(bytes),
            other => {
                let reason = format!(
                    "{} bytes that were not asked for, where those of file {file} at {offset} were due",
                    other.frame_len()
                );
                Err(Refusal::new("sequence", reason).into())
            }
        }
    }

    async fn put(&mut self, file: usize, offset: u64, bytes: Bytes) -> Result<(), End> {
        let mut staging = self.staging.take().expect("it is there between two steps");
        let put = blocking::io(move || {
            let put = staging.put(file, offset, &bytes);
            Ok((staging, put))
        });
        let (staging, put) = self.line.busy(put).await?.map_err(|error| disk(&error))?;
        self.staging = Some(staging);
        put.map(|_| ()).map_err(|error| disk(&error).into())
    }

    /// Puts the staged files together and has the core install the snapshot. Gives this node's vote.
    async fn install(mut self) -> Result<Vote, End> {
        let staging = self.staging.take().expect("it is there between two steps");
        let snapshots = self.server.context.snapshots.clone();
        let assembled = self
            .line
            .busy(blocking::io(move || assemble(&snapshots, &staging)));
        let snapshot = assembled.await?.map_err(|error| disk(&error))?;
        let vote = convert::raft_vote(self.header.vote);
        let installing = self.server.raft()?.install_full_snapshot(vote, snapshot);
        let response = self.line.busy(installing).await?.map_err(failed)?;
        if response.vote <= vote {
            let incoming = self.server.context.snapshots.incoming();
            let cleared = blocking::io(move || Staging::clear(&incoming)).await;
            cleared.map_err(|error| disk(&error))?;
        }
        Ok(convert::vote(&response.vote))
    }
}

fn assemble(snapshots: &Snapshots, staging: &Staging) -> io::Result<RaftSnapshot> {
    let path = snapshots.new_path();
    if let Err(error) = staging.assemble(&path) {
        let _ = std::fs::remove_dir_all(&path);
        return Err(error);
    }
    let manifest = staging.manifest().clone();
    Ok(RaftSnapshot {
        meta: meta_of(&manifest.applied)?,
        snapshot: snapshots.hold(path, manifest, true),
    })
}

/// A file that is not what the manifest says, or a disk that fails: the error names it.
fn disk(error: &io::Error) -> Refusal {
    let problem = match error.kind() {
        io::ErrorKind::InvalidData => "damaged",
        _ => "disk",
    };
    Refusal::new(problem, error.to_string())
}

impl Line {
    /// The next frame.
    async fn frame(&mut self) -> Result<Bytes, Refusal> {
        match timeout(self.stall, self.frames.next()).await {
            Ok(Some(Ok(frame))) => Ok(frame.freeze()),
            Ok(Some(Err(error))) => Err(Refusal::new("lost", format!("no frame: {error}"))),
            Ok(None) => Err(Refusal::new("lost", "the sender closed the connection")),
            Err(_) => Err(Refusal::new("stalled", "nothing comes from the sender")),
        }
    }

    async fn say(&mut self, asked: Asked) -> Result<(), Refusal> {
        self.answer(Answer::Rare(rare::encode(&asked).into())).await
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), Refusal> {
        let mut out = BytesMut::new();
        put_answer(answer, self.seq, self.vitals.signs(), &mut out);
        let sent = send(&mut self.write, &mut out, self.stall).await;
        sent.map_err(|reason| Refusal::new("write", reason))
    }

    /// Waits for `work`, telling the sender now and then that it goes on. What works on files is waited for even if the sender is
    /// gone: the next transfer must not meet it.
    async fn busy<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let mut work = pin!(work);
        let mut told = Ok(());
        loop {
            tokio::select! {
                biased;
                done = &mut work => return told.map(|()| done),
                () = tokio::time::sleep(self.stall / 4), if told.is_ok() => {
                    told = self.say(Asked::Busy).await;
                }
            }
        }
    }
}
