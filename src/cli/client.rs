//! A client of the HTTP API: several endpoints, one deadline, and the truth about what may have happened.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::Value;

use super::output::Failure;
use crate::client::{Pool, SendError, authority};

/// Asked when no endpoint is named.
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:7001";
/// Pause after every endpoint was tried in vain.
const PAUSE: Duration = Duration::from_millis(100);

/// A client; one command's worth.
#[derive(Debug)]
pub(super) struct Client {
    endpoints: Vec<String>,
    // The endpoint that answered last. Relaxed: a hint.
    next: AtomicUsize,
    pool: Pool,
    timeout: Duration,
}

/// An answer with its body in memory.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// The body.
    pub(super) body: Bytes,
    /// `host:port` of who answered.
    pub(super) endpoint: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The node asks to be asked again, or another one to be.
    fn is_busy(&self) -> bool {
        self.status == 429 || self.status >= 500 || self.json()["retryable"] == true
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    retry_safe: bool,
}

impl Ask {
    /// A read.
    pub(super) fn get(target: String) -> Ask {
        let body = Bytes::new();
        Ask {
            method: Method::GET,
            target,
            headers: Vec::new(),
            body,
            retry_safe: true,
        }
    }

    /// A create: it carries an id that is unique for ever, so asking twice does it once.
    pub(super) fn create(target: &str, body: &Value) -> Ask {
        Ask {
            method: Method::POST,
            target: target.to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into(),
            retry_safe: true,
        }
    }

    /// A write to a key: asking twice may undo what another client wrote in between.
    pub(super) fn put(target: String, body: Bytes) -> Ask {
        Ask {
            method: Method::PUT,
            target,
            headers: Vec::new(),
            body,
            retry_safe: false,
        }
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: &'static str, value: String) -> Ask {
        self.headers.push((name, value));
        self
    }

    fn request(&self, left: Duration) -> Result<Request<Full<Bytes>>, Failure> {
        let left = format!("{}ms", left.as_millis().clamp(1, 60_000));
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(&self.target);
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        let body = Full::new(self.body.clone());
        let request = builder.header("quorate-timeout", left).body(body);
        request.map_err(|error| Failure::usage(format!("this cannot be asked: {error}")))
    }
}

impl Client {
    /// A client for `endpoints`, all attempts together taking at most `timeout`.
    pub(super) fn new(endpoints: &[String], timeout: Duration) -> Result<Client, String> {
        let default = [ENDPOINT_DEFAULT.to_owned()];
        let named = if endpoints.is_empty() {
            &default[..]
        } else {
            endpoints
        };
        let endpoints = named
            .iter()
            .map(|url| authority(url))
            .collect::<Result<_, _>>()?;
        Ok(Client {
            endpoints,
            next: AtomicUsize::new(0),
            pool: Pool::default(),
            timeout,
        })
    }

    /// `host:port` of each endpoint.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Asks until there is a success or a definite refusal. Endpoints that cannot be reached or are busy are passed over.
    ///
    /// The outcome is the weakest of all attempts: once one may have been applied, being refused by a busy node afterwards
    /// does not make it certain that nothing was.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut doubt: Option<String> = None;
        let mut last = Failure::unreachable("no time to ask anyone");
        for attempt in 0usize.. {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let place = self.next.load(Ordering::Relaxed) % self.endpoints.len();
            let endpoint = &self.endpoints[place];
            // One silent endpoint among several must not use up all the time.
            let share = if self.endpoints.len() > 1 && ask.retry_safe {
                left / 2
            } else {
                left
            };
            let until = Instant::now() + share.max(Duration::from_millis(100)).min(left);
            match self
                .pool
                .send(endpoint, ask.request(until - Instant::now())?, until)
                .await
            {
                Ok(response) => {
                    let status = response.status().as_u16();
                    let (body, endpoint) = (response.into_body(), endpoint.clone());
                    let answer = Answer {
                        status,
                        body,
                        endpoint,
                    };
                    if answer.is_success() {
                        return Ok(answer);
                    }
                    let failure = Failure::problem(&answer);
                    if !answer.is_busy() {
                        return Err(failure);
                    }
                    if answer.json()["outcome"] != "not_applied" {
                        doubt = Some(answer.text());
                    }
                    last = failure;
                }
                Err(SendError::NotSent(why)) => last = Failure::unreachable(why),
                Err(SendError::NoAnswer(why)) => {
                    doubt = Some(format!("{endpoint}: {why}"));
                    last = Failure::unknown(format!("{endpoint}: {why}"));
                }
            }
            if doubt.is_some() && !ask.retry_safe {
                break;
            }
            self.next.store(place + 1, Ordering::Relaxed);
            if attempt % self.endpoints.len() == self.endpoints.len() - 1 {
                tokio::time::sleep(PAUSE.min(left)).await;
            }
        }
        Err(match doubt {
            Some(_) if ask.method == Method::GET => last,
            Some(why) => Failure::unknown(format!("whether it was applied is not known: {why}")),
            None => last,
        })
    }

    /// Asks one endpoint once.
    pub(super) async fn ask_one(&self, endpoint: &str, ask: &Ask) -> Result<Answer, String> {
        let until = Instant::now() + self.timeout.min(Duration::from_secs(2));
        let request = ask
            .request(until - Instant::now())
            .map_err(|_| "cannot be asked")?;
        let sent = self.pool.send(endpoint, request, until).await;
        let response = sent.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        Ok(Answer {
            status,
            body: response.into_body(),
            endpoint: endpoint.to_owned(),
        })
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
