//! The deterministic core: what every command does to the ledger and the key-value store.
//!
//! The same entry applied to the same state gives the same state, the same replies and the same digest on every node, for
//! ever. So nothing here reads a clock, draws a random number, iterates a hash map, does I/O, awaits or uses a float.
//! What a command decides is written down as [`Record`]s; everything else a node keeps is derived from them (see
//! [`Store::append`]), which is why live apply, roll-forward after a restart and a full rebuild give the same bytes.
//!
//! Data flow: `raft` hands [`apply`] the bytes of one [`entry`]; each command in it is decided by `kv` or `ledger`
//! against a [`Store`], unless [`once`] finds it done before; the records go to the store, the [`Reply`]s go back to the callers.

#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::wildcard_enum_match_arm
)]

mod bytes;

pub mod id;

pub mod command;

pub mod entry;

mod kv;

mod ledger;

pub mod once;

pub mod record;

pub mod store;

pub mod derive;

pub mod digest;

pub mod memory;

pub mod reply;

pub use command::{
    AccountRef, Command, Expect, Limits, ModIndex, NewAccount, NewLedger, NewTransfer, Once,
};
pub use memory::Memory;
pub use record::{Balance, Record, TransferRecord};
pub use reply::{Rejection, Replayed, Reply, TransferResult};
pub use store::{Account, Answer, Fault, KvMeta, Ledger, OldAnswer, Position, Store};

/// What applying one entry gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The entry's log time: nanoseconds since 1970, more than that of any entry before it.
    pub time_ns: u64,
    /// One reply per command, in order.
    pub replies: Vec<Reply>,
}

/// Applies the entry `bytes`, which stands at log index `index`, to `store`. `last_time_ns` is the log time of the entry
/// before. Everything it does is in `store`'s journal afterwards; the caller writes that down.
///
/// # Errors
/// A [`Fault`] if the bytes are not an entry, are of a newer version, or the store failed. The state is then undefined and the
/// node must stop.
///
/// # Panics
/// If after the entry the debits and credits of a ledger differ: double entry is broken and no answer may leave this node.
pub fn apply<S: Store>(
    bytes: &[u8],
    index: u64,
    last_time_ns: u64,
    store: &mut S,
) -> Result<Outcome, Fault> {
    let wrong = |what: String| Fault::new(format!("log entry {index}: {what}"));
    let entry = entry::Entry::parse(bytes).map_err(wrong)?;
    let time_ns = log_time(last_time_ns, entry.stamp_ns).map_err(wrong)?;
    if entry.rules >= entry::RULES_WITH_KEYS {
        once::forget(store, time_ns, entry.count)?;
    }
    let mut replies =
        Vec::with_capacity(usize::try_from(entry.count).map_err(|err| wrong(err.to_string()))?);
    let mut touched = ledger::Touched::default();
    for (command, position) in entry.commands().zip(0..) {
        let at = ModIndex {
            index,
            command: position,
        };
        let command = command.map_err(wrong)?;
        let reply = if let Command::Once(once) = &command {
            match once::known(store, once)? {
                Some(reply) => reply,
                None => {
                    let reply = decide(store, &once.command, at, &mut touched)?;
                    once::remember(store, once, time_ns, &reply)?;
                    reply
                }
            }
        } else {
            decide(store, &command, at, &mut touched)?
        };
        replies.push(reply);
    }
    touched.assert_balanced(store);
    Ok(Outcome { time_ns, replies })
}

/// Decides one command, whatever key it came under.
fn decide<S: Store>(
    store: &mut S,
    command: &Command<'_>,
    at: ModIndex,
    touched: &mut ledger::Touched,
) -> Result<Reply, Fault> {
    match command {
        Command::KvPut { key, value, expect } => kv::put(store, key, value, *expect, at),
        Command::KvDelete { key, expect } => kv::delete(store, key, *expect),
        Command::CreateLedger(new) => ledger::create_ledger(store, new),
        Command::CreateAccount(new) => ledger::create_account(store, new),
        Command::Transfers(batch) => ledger::post_transfers(store, batch, at.index, touched),
        Command::Once(_) => Err(Fault::new("a key within a key, which no entry can hold")),
    }
}

/// The entry's time: the leader's stamp, but always later than the entry before, whatever the clocks of past leaders said.
fn log_time(last_time_ns: u64, stamp_ns: u64) -> Result<u64, String> {
    let earliest = last_time_ns
        .checked_add(1)
        .ok_or("log time has reached the end of its 64 bits")?;
    Ok(stamp_ns.max(earliest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_time_never_stands_still_nor_runs_backwards() {
        assert_eq!(log_time(0, 0), Ok(1));
        assert_eq!(log_time(10, 9), Ok(11));
        assert_eq!(log_time(10, 11), Ok(11));
        assert_eq!(log_time(10, 500), Ok(500));
        assert!(log_time(u64::MAX, 5).is_err());
    }
}
