//! The key-value store: put and delete, each on a condition.
//!
//! A key's modification index names one write, so comparing it compares the write: a key that was deleted and made again
//! never has an index it had before (no ABA). Its version counts writes since it was last created.
//!
//! The condition is judged first: a delete that expects something of an absent key fails the precondition; a delete
//! without one, or one that expects the key absent, answers that there was no key.

use super::command::{Expect, ModIndex};
use super::record::Record;
use super::reply::{Rejection, Reply};
use super::store::{Fault, KvMeta, Store};
use crate::mutants::{self, Mutant};

/// Creates or replaces `key`; `at` is this write.
pub(super) fn put<S: Store>(
    store: &mut S,
    key: &str,
    value: &[u8],
    expect: Expect,
    at: ModIndex,
) -> Result<Reply, Fault> {
    let current = store.kv(key)?;
    if let Err(rejection) = check(expect, current) {
        return Ok(Reply::Rejected(rejection));
    }
    let (created, version) = match current {
        Some(meta) => (meta.created, meta.version + 1),
        None => (at, 1),
    };
    store.append(&Record::KvPut {
        key,
        value,
        created,
        modified: at,
        version,
    })?;
    Ok(Reply::KvPut {
        created,
        modified: at,
        version,
    })
}

/// Removes `key`.
pub(super) fn delete<S: Store>(store: &mut S, key: &str, expect: Expect) -> Result<Reply, Fault> {
    let current = store.kv(key)?;
    if let Err(rejection) = check(expect, current) {
        return Ok(Reply::Rejected(rejection));
    }
    let Some(meta) = current else {
        return Ok(Reply::Rejected(Rejection::KeyNotFound));
    };
    store.append(&Record::KvDeleted { key })?;
    Ok(Reply::KvDeleted { was: meta.modified })
}

/// Whether the condition holds of the key as it is.
fn check(expect: Expect, current: Option<KvMeta>) -> Result<(), Rejection> {
    let holds = match expect {
        _ if mutants::on(Mutant::CasUnconditional) => true,
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Present => current.is_some(),
        Expect::At(at) => current.is_some_and(|meta| meta.modified == at),
    };
    if holds {
        Ok(())
    } else {
        Err(Rejection::PreconditionFailed {
            current: current.map(|meta| meta.modified),
        })
    }
}
