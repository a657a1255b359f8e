//! What clients ask of a simulated node, and what they are told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::state::MemoryState;
use crate::machine::command::ModIndex;
use crate::machine::{Command, Expect, Once, Rejection, Reply, once};
use crate::raft::{Client, ReadError, ReadLevel, WriteError, Written};
use crate::storage::clock::now;

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As text.
    pub text: String,
    /// The write.
    pub tag: ModIndex,
}

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The value of a key.
    Read {
        /// How fresh.
        level: ReadLevel,
        /// Whose.
        key: String,
    },
    /// A new value of a key, under an idempotency key.
    Put {
        /// The idempotency key.
        op: String,
        /// Whose.
        key: String,
        /// It.
        value: String,
        /// On which condition.
        expect: Expect,
    },
    /// That another node leads.
    HandOver,
}

/// What it is told.
#[derive(Clone, Debug)]
pub enum Said {
    /// The answer to a read.
    Value {
        /// Applied index it was true at.
        applied: u64,
        /// The level reached.
        level: ReadLevel,
        /// The value, if there is one.
        value: Option<Value>,
    },
    /// A write was done, or refused by its condition.
    Put {
        /// Where it was decided.
        index: u64,
        /// Where it was written, if it was done.
        done: Option<ModIndex>,
    },
    /// It was done, or not, and there is nothing more to say.
    HandedOver,
    /// Certainly not done.
    NotDone {
        /// Why.
        why: String,
        /// Who leads, if that is known.
        leader: Option<u64>,
    },
    /// Nobody knows.
    Unknown(String),
}

/// Where an answer will be.
pub type Slot = Arc<Mutex<Option<Said>>>;

/// Asks, and gives up after `patience`.
pub(super) async fn answer(client: &Client<MemoryState>, ask: Ask, patience: Duration) -> Said {
    let deadline = now() + patience;
    match ask {
        Ask::Read { level, key } => match client.read(level, deadline).await {
            Ok(permit) => {
                let (applied, value) = client.node.state.look(&key);
                let level = permit.effective;
                Said::Value {
                    applied,
                    level,
                    value,
                }
            }
            Err(error) => Said::NotDone {
                why: error.to_string(),
                leader: match error {
                    ReadError::NotLeader(leader) => leader.map(|(id, _)| id),
                    ReadError::Timeout | ReadError::NotReady(_) => None,
                },
            },
        },
        Ask::Put {
            op,
            key,
            value,
            expect,
        } => {
            let put = Command::KvPut {
                key: &key,
                value: value.as_bytes(),
                expect,
            };
            let once = Once {
                key: &op,
                fingerprint: once::fingerprint("PUT", &put),
                command: Box::new(put),
            };
            let written = client.write(&Command::Once(once), deadline).await;
            told(written)
        }
        Ask::HandOver => match client.hand_over(deadline).await {
            Ok(()) => Said::HandedOver,
            Err(error) => Said::Unknown(error.to_string()),
        },
    }
}

fn told(written: Result<Written, WriteError>) -> Said {
    let not_done = |why: &WriteError, leader| Said::NotDone {
        why: why.to_string(),
        leader,
    };
    match written {
        Ok(written) => match written.reply {
            Reply::KvPut { modified, .. } => Said::Put {
                index: written.index,
                done: Some(modified),
            },
            Reply::Rejected(Rejection::PreconditionFailed { .. }) => Said::Put {
                index: written.index,
                done: None,
            },
            other => Said::Unknown(format!("a put was answered {other:?}")),
        },
        Err(WriteError::Unknown(why)) => Said::Unknown(why),
        Err(ref error @ WriteError::NotLeader(ref leader)) => {
            not_done(error, leader.as_ref().map(|(id, _)| *id))
        }
        Err(
            ref error @ (WriteError::Overloaded { .. }
            | WriteError::Expired
            | WriteError::NotReady(_)
            | WriteError::NoRoom(_)
            | WriteError::TooLarge { .. }),
        ) => not_done(error, None),
    }
}
