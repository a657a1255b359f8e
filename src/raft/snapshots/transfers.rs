//! Transfers under way: how far they are, and which part of the log they need.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::storage::clock::now;

/// How long the log after a snapshot is kept once that was delivered: by then replication has gone on from there.
const GRACE: Duration = Duration::from_secs(5);

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The other node.
    pub peer: u64,
    /// Bytes that the receiver has, what it had before included.
    pub done: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
}

/// The transfers of one node; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Transfers {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    sending: Mutex<BTreeMap<u64, Entry>>,
    receiving: Mutex<Option<Entry>>,
    /// Held by the one transfer that may come in.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when another one wants to come in.
    give_way: Mutex<CancellationToken>,
    /// Since when none comes in, as far as anybody looked.
    quiet: Mutex<Option<Instant>>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

struct Entry {
    peer: u64,
    /// Last index of the snapshot.
    last: u64,
    done: Arc<AtomicU64>,
    total: u64,
    ended: Option<Instant>,
}

/// A snapshot is being sent for as long as this lives.
pub(crate) struct Sending {
    transfers: Transfers,
    number: u64,
    done: Arc<AtomicU64>,
}

/// A snapshot is being received for as long as this lives.
pub(crate) struct Receiving {
    transfers: Transfers,
    done: Arc<AtomicU64>,
    /// Cancelled when this transfer is to make way for another one.
    pub(crate) give_way: CancellationToken,
    _turn: OwnedMutexGuard<()>,
}

impl Transfers {
    /// A snapshot of `total` bytes up to index `last` is sent to `peer` from now on.
    pub(crate) fn send(&self, peer: u64, last: u64, total: u64) -> Sending {
        let number = self.inner.next.fetch_add(1, Relaxed);
        let done = Arc::<AtomicU64>::default();
        let entry = Entry {
            peer,
            last,
            done: done.clone(),
            total,
            ended: None,
        };
        lock(&self.inner.sending).insert(number, entry);
        Sending {
            transfers: self.clone(),
            number,
            done,
        }
    }

    /// A snapshot of `total` bytes up to index `last` comes in from `peer`, once an older transfer has made way: the newer one
    /// is of a newer leader, or of one that has given the older up.
    pub(crate) async fn receive(&self, peer: u64, last: u64, total: u64) -> Receiving {
        let give_way = CancellationToken::new();
        std::mem::replace(&mut *lock(&self.inner.give_way), give_way.clone()).cancel();
        let turn = self.inner.turn.clone().lock_owned().await;
        let done = Arc::<AtomicU64>::default();
        *lock(&self.inner.receiving) = Some(Entry {
            peer,
            last,
            done: done.clone(),
            total,
            ended: None,
        });
        Receiving {
            transfers: self.clone(),
            done,
            give_way,
            _turn: turn,
        }
    }

    /// If none has come in for `patience`: the turn, so that none begins while it is held. Then it is not said again for as long.
    pub(crate) fn quiet(&self, patience: Duration) -> Option<OwnedMutexGuard<()>> {
        let turn = self.inner.turn.clone().try_lock_owned().ok()?;
        let mut quiet = lock(&self.inner.quiet);
        let since = *quiet.get_or_insert_with(now);
        if now().saturating_duration_since(since) < patience {
            return None;
        }
        *quiet = None;
        Some(turn)
    }

    /// The log must be kept after this index.
    pub(crate) fn needs_after(&self) -> Option<u64> {
        let mut sending = lock(&self.inner.sending);
        sending.retain(|_, entry| {
            entry
                .ended
                .is_none_or(|ended| now().duration_since(ended) < GRACE)
        });
        sending.values().map(|entry| entry.last).min()
    }

    /// What is being sent, the newest to each peer.
    pub(crate) fn sending(&self) -> Vec<Progress> {
        let sending = lock(&self.inner.sending);
        let running = sending.values().filter(|entry| entry.ended.is_none());
        let newest: BTreeMap<u64, Progress> = running
            .map(|entry| (entry.peer, entry.progress()))
            .collect();
        newest.into_values().collect()
    }

    /// What is being received.
    pub(crate) fn receiving(&self) -> Option<Progress> {
        lock(&self.inner.receiving).as_ref().map(Entry::progress)
    }

    /// Bytes of files sent and received since the start.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let inner = &self.inner;
        (
            inner.sent_bytes.load(Relaxed),
            inner.received_bytes.load(Relaxed),
        )
    }
}

impl Entry {
    fn progress(&self) -> Progress {
        Progress {
            peer: self.peer,
            done: self.done.load(Relaxed),
            total: self.total,
        }
    }
}

impl Sending {
    /// The receiver lacks `bytes` of the snapshot.
    pub(crate) fn lacks(&self, bytes: u64) {
        let sending = lock(&self.transfers.inner.sending);
        let total = sending.get(&self.number).map_or(0, |entry| entry.total);
        self.done.store(total.saturating_sub(bytes), Relaxed);
    }

    /// `bytes` more were sent.
    pub(crate) fn sent(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
        self.transfers.inner.sent_bytes.fetch_add(bytes, Relaxed);
    }
}

impl Sending {
    /// The peer has the snapshot.
    pub(crate) fn delivered(self) {
        if let Some(entry) = lock(&self.transfers.inner.sending).get_mut(&self.number) {
            entry.ended = Some(now());
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut sending = lock(&self.transfers.inner.sending);
        // The next attempt sends the snapshot of then, and needs the log after that one.
        sending.retain(|number, entry| *number != self.number || entry.ended.is_some());
    }
}

impl Receiving {
    /// `bytes` of the snapshot were there before.
    pub(crate) fn had(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    /// `bytes` more came.
    pub(crate) fn received(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
        self.transfers
            .inner
            .received_bytes
            .fetch_add(bytes, Relaxed);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        *lock(&self.transfers.inner.quiet) = None;
        *lock(&self.transfers.inner.receiving) = None;
    }
}
