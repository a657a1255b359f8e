//! The client of the HTTP API: what programs, the command line and forwarding nodes use to ask nodes.
//!
//! A leaf: it knows the server by its API only, and names nothing of it but the limits in [`crate::machine`]. The edge
//! takes its [`Pool`] from here, because a node that forwards is a client of the leader.
//!
//! # What it promises
//! - **Nothing twice.** A request is sent again only if that cannot do it twice: reads; single transfers, whose id the state
//!   remembers for ever; and every other write under an idempotency key, one per logical write, kept over all attempts.
//!   Anything else is sent again only if not a byte of it had left.
//! - **The truth.** What is reported is the weakest over all attempts. Once one attempt may have been applied, being refused
//!   by a busy node afterwards proves nothing; only an answer of the replicated state does. So `Ok` is applied, once;
//!   [`Error::Rejection`] and [`Error::Unavailable`] are not applied, and never will be; [`Error::Unknown`] is either, and the
//!   same request under the same key says which.
//! - **One deadline** for the whole call, passed on to the nodes, whatever the number of attempts.
//!
//! It does not queue, does not send behind the caller's back and keeps nothing on disk: a program that must know after its own
//! crash writes down the id or the key before it asks.
//!
//! # How a call passes through
//! A method of a resource ([`ledgers`], [`transfers`], [`kv`], [`cluster`], [`members`]) makes an [`Ask`] of its request and decodes the
//! [`Answer`]. In between `call` asks one node after the other: `whom` says which (the leader as far as known, else the
//! endpoints in turn, none that asked for rest), [`Pool`] sends, `attempt` says what one attempt proved, `fate` what all of
//! them prove, `pause` how long to wait.

mod pool;

mod whom;

mod pause;

mod attempt;

mod fate;

mod call;

pub mod ask;

pub mod answer;

pub mod error;

pub mod ledgers;

pub mod transfers;

pub mod kv;

pub mod cluster;

pub mod members;

pub mod save;

mod text;

#[cfg(test)]
mod scenarios;

use std::sync::Arc;
use std::time::Duration;

pub use answer::{Answer, Page, Read, Written};
pub use ask::{Ask, Key, Repeat};
pub use error::{Error, Problem, Rejection, Unavailable, Unknown};
pub use pool::{Content, Pool, SendError, authority};

use whom::Whom;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything acknowledged before: confirmed by a quorum.
    #[default]
    Leader,
    /// The same while clocks drift apart by less than 20 %, without a round trip.
    Lease,
    /// What the asked node has applied; possibly old.
    Follower,
}

impl Level {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Level::Leader => "leader",
            Level::Lease => "lease",
            Level::Follower => "follower",
        }
    }
}

/// How a client asks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a call may take, all attempts together. A node takes at most 60 s of it for one attempt.
    pub timeout: Duration,
    /// How long the first attempt waits for its answer before another node is asked; doubled whenever that was not enough.
    pub attempt: Duration,
    /// Longest pause before the second attempt; doubled for each further one.
    pub pause_first: Duration,
    /// Longest pause ever, unless a node asks for more.
    pub pause_max: Duration,
    /// How fresh reads are to be.
    pub level: Level,
    /// Whether leaders are asked directly that answers name, at the URL they advertise, even if it is no endpoint of this
    /// client. Without it, only the endpoints are asked, and they forward.
    pub follow_leader: bool,
    /// Whether writes that need one are sent under an idempotency key, and so again when in doubt. Nodes that keep no keys
    /// would do them twice: without keys such a write is sent again only if not a byte of it had left.
    pub keys: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_secs(1),
            level: Level::Leader,
            follow_leader: true,
            keys: true,
        }
    }
}

/// Asks the nodes of a cluster. Clones share connections and what is known of the nodes.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
    whom: Arc<Whom>,
    options: Options,
}

impl Client {
    /// A client for the nodes at `endpoints`, base URLs such as `http://127.0.0.1:7001`. It connects when it first asks.
    ///
    /// # Errors
    /// If there is no endpoint, or one is not of that form.
    pub fn new<S: AsRef<str>>(endpoints: &[S], options: Options) -> Result<Client, String> {
        let addresses = endpoints
            .iter()
            .map(|url| authority(url.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err("no endpoint is named".to_owned());
        }
        Ok(Client {
            pool: Arc::default(),
            whom: Arc::new(Whom::new(addresses, options.follow_leader)),
            options,
        })
    }

    /// The same client with other options; whom it asks stays as it was.
    #[must_use]
    pub fn with(&self, options: Options) -> Client {
        Client {
            options,
            ..self.clone()
        }
    }

    /// The same client, reading at `level`.
    #[must_use]
    pub fn at(&self, level: Level) -> Client {
        self.with(Options {
            level,
            ..self.options
        })
    }

    /// How it asks.
    pub fn options(&self) -> Options {
        self.options
    }

    /// `host:port` of each endpoint.
    pub fn endpoints(&self) -> &[String] {
        self.whom.endpoints()
    }
}
