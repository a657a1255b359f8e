//! Taking a backup of a node: an answer that is larger than memory, piece by piece.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::Client;
use super::ask::Ask;
use super::attempt::{Attempt, judge};
use super::error::{Error, Unavailable};
use super::pool::{self, SendError};

/// Longest problem that is read, in bytes.
const PROBLEM_LEN_MAX: usize = 1 << 20;

/// A backup on its way.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    patience: Duration,
    /// `host:port` of the node whose state it is.
    pub asked: String,
    /// Log index of the last entry in it.
    pub index: Option<u64>,
    /// Bytes of the whole, if they are known.
    pub len: Option<u64>,
}

impl Client {
    /// Asks the endpoints one after the other for a backup of their state, until one makes it; waits for the beginning, and between any
    /// two pieces, for as long as this client's timeout. To back up a certain node, ask a client that has no other endpoint.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn backup(&self) -> Result<Download, Error> {
        let ask = backup_ask(self.options.level);
        let mut last = Unavailable {
            why: String::new(),
            problem: None,
            attempts: 0,
        };
        for address in self.endpoints() {
            last.attempts += 1;
            let sent = self.begin(address, &ask).await?;
            let refused = match sent {
                Ok(response) if response.status().is_success() => {
                    return Ok(self.download(address, response));
                }
                Ok(response) => whole(response, self.options.timeout).await,
                Err(error) => Err(error),
            };
            match judge(&ask, refused) {
                Attempt::Refused(problem) => {
                    return Err(Error::Rejection(Box::new(super::Rejection {
                        problem,
                        attempts: last.attempts,
                    })));
                }
                Attempt::NotNow(why) => (last.why, last.problem) = (why.why, why.problem),
                Attempt::Done(_) | Attempt::Doubtful { .. } => {
                    last.why = format!("{address} did not answer as a node does");
                }
            }
        }
        Err(Error::Unavailable(Box::new(last)))
    }

    async fn begin(
        &self,
        address: &str,
        ask: &Ask,
    ) -> Result<Result<Response<Incoming>, SendError>, Error> {
        let deadline = Instant::now() + self.options.timeout;
        let request = ask.request(self.options.timeout)?;
        Ok(pool::send_alone(address, request, deadline).await)
    }

    fn download(&self, address: &str, response: Response<Incoming>) -> Download {
        let index = response.headers().get("quorate-index");
        let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
        let body = response.into_body();
        Download {
            asked: address.to_owned(),
            index,
            len: body.size_hint().exact(),
            patience: self.options.timeout,
            body,
        }
    }
}

/// The request for a backup.
pub fn backup_ask(level: super::Level) -> Ask {
    Ask::read("/v1/backup", level)
}

impl Download {
    /// The next piece; nothing after the last one.
    ///
    /// # Errors
    /// If it breaks off, or nothing comes for too long: what came until then is worth nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = timeout(self.patience, self.body.frame()).await;
            let frame = frame.map_err(|_| self.broken("nothing more came"))?;
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| self.broken(&error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    fn broken(&self, why: &str) -> Error {
        Error::Unavailable(Box::new(Unavailable {
            why: format!("the backup of {} broke off: {why}", self.asked),
            problem: None,
            attempts: 1,
        }))
    }
}

/// An answer that is no backup, with its body.
async fn whole(
    response: Response<Incoming>,
    patience: Duration,
) -> Result<Response<Bytes>, SendError> {
    let (head, body) = response.into_parts();
    let body = http_body_util::Limited::new(body, PROBLEM_LEN_MAX).collect();
    let lost = |why: String| SendError::NoAnswer(why);
    let body = timeout(patience, body)
        .await
        .map_err(|_| lost("its answer broke off".to_owned()))?
        .map_err(|error| lost(error.to_string()))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
