//! A backup of this node, made and sent while it serves.
//!
//! It is this node's state, so it is never forwarded. At level `leader` a node that does not lead asks the leader which index is the
//! latest, and waits until it has that.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Request, header};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::Full;
use tokio::sync::mpsc;

use super::answer::{Answer, INDEX};
use super::call::{Call, FORWARDED_HEADER, Input, READ_PARAMS, TIMEOUT_HEADER};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code, Problem};
use super::routes::Routes;
use super::{Served, Shared};
use crate::client::authority;
use crate::raft::{Backup, BackupError, Member, Permit, ReadError, ReadLevel};

const TAR: &str = "application/x-tar";
/// Bytes sent at once.
const PIECE_LEN: usize = 256 << 10;
/// Pieces made and not yet sent, at most: a client that is slow waits for nothing, and nothing waits in memory for it.
const PIECES_MAX: usize = 4;
/// How often the leader is asked: enough for one that stops and the one after it.
const ATTEMPTS: u32 = 3;
/// Pause before another attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// A read that only the leader answers, and cheaply: for the index of its answer.
const CHEAP: &str = "/v1/ledgers?limit=1&consistency=leader";

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "getBackup",
        "node",
        "A backup of this node's state",
        "A tar archive of one moment, named by `Quorate-Index`: a manifest with the hash of every file, counts and sums of every \
         ledger, the files of the state, and last the hash of all of it, so that no part is taken for the whole. `quorate backup save` \
         takes it, `quorate backup verify` derives the state again and compares, `quorate restore` makes a new cluster of it. Always of the \
         node that is asked, whatever it is; one at a time. The deadline is for the moment: making and sending takes as long as it \
         takes, as long as the client goes on reading.",
    );
    Routes::new().get(
        "/v1/backup",
        send,
        about
            .reads()
            .makes(&[TAR])
            .answers_in(200, "The backup.", &[(TAR, schema::bytes(usize::MAX >> 1))])
            .fails(&[Code::BackupInProgress, Code::DiskFull, Code::Internal]),
    )
}

async fn send(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    params.problems.finish()?;
    let permit = permit(&app, &call, level, deadline).await?;
    let backup = app.raft.backup().await?;
    let (index, len) = (backup.index(), backup.len());
    tracing::info!(index, bytes = len, "sending a backup");
    let answer = Answer::stream(TAR, body(backup)).header(header::CONTENT_LENGTH, len.into());
    Ok(answer.read(index, level, &permit))
}

/// Leave to read this node's state at `level`.
async fn permit(
    app: &Served,
    call: &Call,
    level: ReadLevel,
    deadline: Instant,
) -> Result<Permit, ApiError> {
    let mut why = String::new();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PAUSE * attempt).await;
        }
        let leader = match app.raft.read(level, deadline).await {
            Err(ReadError::NotLeader(leader)) => leader,
            permit => return Ok(permit?),
        };
        let Some((id, member)) = leader else {
            why = "no leader is known here".to_owned();
            continue;
        };
        let index = match latest(app, call, &member, deadline).await {
            Ok(index) => index,
            Err(error) => {
                why = format!("node {id}, which leads, was asked how far it is: {error}");
                continue;
            }
        };
        if app.raft.wait_applied(index, deadline).await {
            return Ok(Permit {
                effective: ReadLevel::Leader,
                staleness: Some(Duration::ZERO),
            });
        }
        let detail = format!("this node has not applied index {index}, which the leader has");
        return Err(ApiError::new(Code::ReadTimeout, detail));
    }
    Err(ApiError::new(Code::NoLeader, why))
}

/// The index that everything acknowledged before is at or below, as the leader says.
async fn latest(
    app: &Served,
    call: &Call,
    leader: &Member,
    deadline: Instant,
) -> Result<u64, String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = CHEAP.parse().expect("a path and a query");
    let headers = request.headers_mut();
    let left = deadline.saturating_duration_since(Instant::now());
    let left = HeaderValue::from_str(&format!("{}ms", left.as_millis().max(1)));
    headers.insert(
        HeaderName::from_static(TIMEOUT_HEADER),
        left.expect("digits and letters are visible ASCII"),
    );
    // Whoever does not lead any more says so instead of asking another one.
    headers.insert(
        HeaderName::from_static(FORWARDED_HEADER),
        HeaderValue::from_static("1"),
    );
    if let Ok(id) = HeaderValue::from_str(&call.request_id) {
        headers.insert(super::edge::REQUEST_ID, id);
    }
    let address = authority(&leader.client_url)?;
    let answer = app.peers.send(&address, request, deadline).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let index = answer.headers().get(INDEX);
    let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
    match index {
        Some(index) if answer.status().is_success() => Ok(index),
        _ => Err(format!("it answered {}", answer.status())),
    }
}

/// What is sent, made in a thread of its own as fast as it is taken. An error ends it before its announced length, which clients see.
fn body(backup: Backup) -> Body {
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    tokio::task::spawn_blocking(move || {
        let index = backup.index();
        let mut out = Pieces {
            sender,
            piece: BytesMut::with_capacity(PIECE_LEN),
        };
        let written = backup.write(&mut out);
        // By now it is over: who has the last piece may ask for the next backup.
        let last = match written {
            Ok(()) => Ok(out.piece.freeze()),
            Err(error) => {
                tracing::warn!(index, "a backup was not sent to its end: {error}");
                Err(error)
            }
        };
        // If nobody takes it, nobody is there any more.
        let _ = out.sender.blocking_send(last);
    });
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        Some((pieces.recv().await?, pieces))
    });
    Body::from_stream(pieces)
}

/// Gathers pieces and hands them on; waits while enough are on their way.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() >= PIECE_LEN {
            let piece = std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE_LEN));
            let sent = self.sender.blocking_send(Ok(piece.freeze()));
            sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))?;
        }
        let len = bytes.len().min(PIECE_LEN - self.piece.len());
        self.piece.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> ApiError {
        let detail = error.to_string();
        match error {
            BackupError::Busy => Problem::new(Code::BackupInProgress, detail).into(),
            BackupError::NotReady(_) => ApiError::new(Code::NotReady, detail),
            BackupError::NoRoom(_) => ApiError::new(Code::DiskFull, detail),
            BackupError::Failed(why) => {
                tracing::error!("a backup failed: {why}");
                // What failed is for the operator: the request id finds the line above in the log.
                ApiError::new(Code::Internal, "this node could not read its state")
            }
        }
    }
}
