//! Idempotency keys: a command that is done once, however often it is sent.
//!
//! A command sent with a key is decided like any other, and its reply is journaled under the key in the same entry. Sent
//! again, it is not decided: it gets that reply, with the log index it was first given at. The log orders what is sent
//! twice at the same moment, so there is nothing to race. A key that comes back with another request is refused, naming
//! when and where it was first used; what a request *is*, is said by its [`fingerprint`].
//!
//! # How long a key is kept
//! - For [`RETENTION_NS`] of log time at least: a key is never forgotten before, whatever else happens.
//! - Before its commands, an entry of `n` commands forgets the oldest keys older than that, at most [`FORGET_MIN`]` + n` of
//!   them: so keys go at least as fast as they come, and no entry has to forget a day's worth of them. An entry without
//!   commands (a *tick*) does the same, so that time passes for keys in a cluster where nobody writes.
//! - At most [`KEYS_MAX`] keys are held. When so many are, a command with a new key is refused
//!   ([`Rejection::IdempotencyKeysFull`]) and not done, until the oldest has had its time: a promise is never broken to make
//!   room. Commands without a key, and those with a key that is known, go on.
//!
//! All this is part of the rules of apply: every node agrees, and no setting changes it.

#[cfg(test)]
mod tests;

use super::command::{Command, Once};
use super::entry;
use super::record::Record;
use super::reply::{Rejection, Replayed, Reply};
use super::store::{Fault, Store};
use crate::mutants::{self, Mutant};

/// Log time for which a key is kept at least, in nanoseconds (24 hours).
pub const RETENTION_NS: u64 = 24 * 60 * 60 * 1_000_000_000;
/// Most keys held: some 3 GB of rows with keys of 36 bytes, and 194 new keys a second all day long.
pub const KEYS_MAX: u64 = 1 << 24;
/// How many keys an entry without commands may forget.
pub const FORGET_MIN: u32 = 1024;
/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 255;
/// Bytes of a fingerprint.
pub const FINGERPRINT_LEN: usize = 32;

/// Whether `key` may be an idempotency key: 1 to [`KEY_LEN_MAX`] printable ASCII bytes, spaces included.
pub fn is_key(key: &[u8]) -> bool {
    (1..=KEY_LEN_MAX).contains(&key.len()) && key.iter().all(|byte| (b' '..=b'~').contains(byte))
}

/// What tells one request from another: its `route` (method and the path it was sent to, as the API names them) and its
/// command with all that changes its effect, conditions included. Made before account ids become numbers, so that it does
/// not depend on which leader took the request.
pub fn fingerprint(route: &str, command: &Command<'_>) -> [u8; FINGERPRINT_LEN] {
    let mut bytes = Vec::new();
    let len = u32::try_from(route.len()).expect("routes are short");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(route.as_bytes());
    entry::encode_command(command, &mut bytes);
    *blake3::hash(&bytes).as_bytes()
}

/// Whether a key first used at `used_ns` may be forgotten at log time `now_ns`.
pub fn is_due(used_ns: u64, now_ns: u64) -> bool {
    due_until(now_ns).is_some_and(|until_ns| used_ns <= until_ns)
}

/// The last moment of use that lies far enough back at log time `now_ns`.
fn due_until(now_ns: u64) -> Option<u64> {
    now_ns.checked_sub(match mutants::on(Mutant::KeysForgotten) {
        true => 1_000_000_000,
        false => RETENTION_NS,
    })
}

/// Forgets keys that have had their time, before the `commands` commands of an entry with log time `time_ns`.
pub(super) fn forget<S: Store>(store: &mut S, time_ns: u64, commands: u32) -> Result<(), Fault> {
    let (Some(oldest_ns), Some(until_ns)) = (store.oldest_answer_ns()?, due_until(time_ns)) else {
        return Ok(());
    };
    // The usual entry ends here or above: memory knows that nothing is due.
    if oldest_ns > until_ns {
        return Ok(());
    }
    let max = FORGET_MIN.saturating_add(commands);
    for old in store.oldest_answers(until_ns, max)? {
        store.append(&Record::AnswerForgotten {
            key: &old.key,
            at: old.at,
        })?;
    }
    Ok(())
}

/// The reply to `once` if its command is not to be done: it was done before, or its key cannot be taken.
pub(super) fn known<S: Store>(store: &mut S, once: &Once<'_>) -> Result<Option<Reply>, Fault> {
    let Some(found) = store.find_answer(once.key)? else {
        let full = store.answer_count() >= KEYS_MAX;
        return Ok(full.then_some(Reply::Rejected(Rejection::IdempotencyKeysFull)));
    };
    if found.fingerprint != once.fingerprint {
        return Ok(Some(Reply::Rejected(Rejection::IdempotencyKeyReused {
            index: found.at.index,
            time_ns: found.time_ns,
        })));
    }
    let bytes = store.record(found.at)?;
    let wrong = |what| {
        Fault::new(format!(
            "record {}.{}: {what}",
            found.at.index, found.at.record
        ))
    };
    let Record::Answered { key, reply, .. } = Record::decode(&bytes).map_err(wrong)? else {
        return Err(wrong(format!("is no answer to key {:?}", once.key)));
    };
    if key != once.key {
        return Err(wrong(format!("answers key {key:?}, not {:?}", once.key)));
    }
    Ok(Some(Reply::Replayed(Replayed {
        index: found.at.index,
        reply: Box::new(Reply::from_bytes(reply).map_err(wrong)?),
    })))
}

/// Journals `reply` under the key of `once`, which was decided in an entry with log time `time_ns`.
pub(super) fn remember<S: Store>(
    store: &mut S,
    once: &Once<'_>,
    time_ns: u64,
    reply: &Reply,
) -> Result<(), Fault> {
    store.append(&Record::Answered {
        key: once.key,
        fingerprint: once.fingerprint,
        time_ns,
        reply: &reply.to_bytes(),
    })?;
    Ok(())
}
