//! Why a call has no answer, and so what may be assumed.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a call did not succeed. Which variant it is says what may have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Refused, for a reason that asking again does not change. Certainly not applied.
    #[error(transparent)]
    Rejection(Box<Rejection>),
    /// Nobody could do it in time. Certainly not applied; later it may be possible.
    #[error(transparent)]
    Unavailable(Box<Unavailable>),
    /// It may have been applied, may still be, or never.
    #[error(transparent)]
    Unknown(Box<Unknown>),
    /// A read was answered, but not with what this API says.
    #[error("not an answer of this API: {0}")]
    Protocol(String),
    /// This cannot be asked. Nothing was sent.
    #[error("this cannot be asked: {0}")]
    Invalid(String),
}

/// A problem as a node described it (RFC 9457).
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What, for programs: stable.
    pub code: String,
    /// What, for people.
    #[serde(default)]
    pub detail: String,
    /// `not_applied` or `unknown`.
    pub outcome: String,
    /// Asking again may help.
    #[serde(default)]
    pub retryable: bool,
    /// Id of the request in the node's log.
    #[serde(default)]
    pub request_id: String,
    /// Everything wrong with the request.
    #[serde(default)]
    pub errors: Vec<Value>,
    /// Log index at which it was so: with it, the problem is a fact of the replicated state and not the word of one node.
    #[serde(default, with = "super::text::option")]
    pub index: Option<u64>,
    /// Where to see what became of it.
    #[serde(default)]
    pub check: Option<String>,
    /// Members of this problem alone, such as `fields` or `current`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)?;
        for wrong in &self.errors {
            let place = ["pointer", "parameter", "header"].map(|kind| wrong[kind].as_str());
            let place = place.into_iter().flatten().next().unwrap_or_default();
            let detail = wrong["detail"].as_str().unwrap_or_default();
            write!(f, "\n  {place}: {detail}")?;
        }
        Ok(())
    }
}

/// A refusal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Rejection {
    /// Why.
    pub problem: Problem,
    /// An earlier attempt of the same call had been refused for it, or may have been: the refusal was given again.
    pub attempts: u32,
}

/// Nobody could do it in time.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not done after {attempts} attempts: {why}")]
pub struct Unavailable {
    /// What the last attempt met.
    pub why: String,
    /// What the last node that answered said.
    pub problem: Option<Problem>,
    /// How many attempts were made.
    pub attempts: u32,
}

/// It may have been applied.
///
/// The same request sent again says which: a transfer by its own id, any other write under [`Unknown::idempotency_key`], as
/// long as the cluster remembers it (a day at least). It is then done, once, if it was not before.
#[derive(Clone, Debug, thiserror::Error)]
#[error("whether it was applied is not known: {why}")]
pub struct Unknown {
    /// The attempt that left the doubt.
    pub why: String,
    /// The key under which it was sent.
    pub idempotency_key: Option<String>,
    /// Where a node says one can see what became of it.
    pub check: Option<String>,
    /// How many attempts were made.
    pub attempts: u32,
}

impl Error {
    /// It was certainly not applied.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Error::Unknown(_))
    }

    /// The code of the problem, if a node described one.
    pub fn code(&self) -> Option<&str> {
        let problem = match self {
            Error::Rejection(rejection) => Some(&rejection.problem),
            Error::Unavailable(unavailable) => unavailable.problem.as_ref(),
            Error::Unknown(_) | Error::Protocol(_) | Error::Invalid(_) => None,
        };
        problem.map(|problem| &*problem.code)
    }
}
