//! What bounds a request, and the memory that all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::machine::command::{BATCH_LEN_MAX, VALUE_LEN_MAX};

/// Bounds of requests. Each is a setting of the same name, and what refuses a request names it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most bytes of path and query.
    pub uri_bytes_max: usize,
    /// Most bytes of a JSON body.
    pub body_bytes_max: usize,
    /// Most bytes of the body of a batch.
    pub batch_body_bytes_max: usize,
    /// Most bytes of a value of the key-value store.
    pub value_bytes_max: usize,
    /// Most transfers in a batch.
    pub batch_transfers_max: usize,
    /// Most bytes of keys and values in a page.
    pub page_bytes_max: usize,
    /// Most bytes of the bodies of all requests under way, and of large answers.
    pub bodies_bytes_max: usize,
    /// Most writes under way, from their body being here to their answer.
    pub writes_max: usize,
    /// How late the threads that serve clients may be before writes are refused.
    pub lag_max: Duration,
    /// Longest time a body may take, however fast it comes.
    pub body_timeout: Duration,
    /// Time before the rate of a body counts.
    pub body_grace: Duration,
    /// Fewest bytes of a body that must come in a second.
    pub body_rate_min: u64,
    /// Deadline of a request that names none.
    pub timeout_default: Duration,
    /// Longest deadline a request may name.
    pub timeout_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            uri_bytes_max: 8 << 10,
            body_bytes_max: 1 << 20,
            batch_body_bytes_max: 8 << 20,
            value_bytes_max: VALUE_LEN_MAX,
            batch_transfers_max: BATCH_LEN_MAX,
            page_bytes_max: 4 << 20,
            bodies_bytes_max: 256 << 20,
            writes_max: 1024,
            lag_max: Duration::from_secs(2),
            body_timeout: Duration::from_secs(30),
            body_grace: Duration::from_secs(5),
            body_rate_min: 1 << 10,
            timeout_default: Duration::from_secs(5),
            timeout_max: Duration::from_secs(60),
        }
    }
}

/// A limit of bytes and the setting it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Name of the setting.
    pub(super) setting: &'static str,
    /// Bytes allowed.
    pub(super) bytes: usize,
}

impl Limits {
    /// Largest body that `path` takes.
    pub(super) fn body(&self, path: &str) -> Bound {
        let (setting, bytes) = match path {
            "/v1/transfers/batch" => ("batch_body_bytes_max", self.batch_body_bytes_max),
            _ if path.starts_with("/v1/kv/") => ("value_bytes_max", self.value_bytes_max),
            _ => ("body_bytes_max", self.body_bytes_max),
        };
        Bound { setting, bytes }
    }

    /// How long a body may have taken once `have` bytes of it are here.
    pub(super) fn patience(&self, have: usize) -> Duration {
        let millis = (have as u64)
            .saturating_mul(1000)
            .checked_div(self.body_rate_min);
        // No rate, no other bound than the whole time.
        let earned = millis.map_or(self.body_timeout, Duration::from_millis);
        self.body_timeout
            .min(self.body_grace.saturating_add(earned))
    }
}

/// Counts the bytes of all bodies and large answers under way against one bound.
#[derive(Debug)]
pub(super) struct Memory {
    taken: AtomicUsize,
    max: usize,
}

/// A share of [`Memory`], given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(max: usize) -> Arc<Memory> {
        Arc::new(Memory {
            taken: AtomicUsize::new(0),
            max,
        })
    }

    /// A share of nothing, to grow.
    pub(super) fn share(self: &Arc<Memory>) -> Share {
        Share {
            of: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// Takes `bytes` more; `false` and nothing if there are not as many.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        // Relaxed: a count that guards no other memory.
        let taken = self.of.taken.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if taken.saturating_add(bytes) <= self.of.max {
            return true;
        }
        self.of.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
        false
    }
}

impl Share {
    /// `bytes` that keep this share until the last reference to them is gone: until they are sent, for an answer.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _share: self,
        })
    }
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_up_to_its_bound_and_given_back() {
        let memory = Memory::new(10);
        let (mut one, mut other) = (memory.share(), memory.share());
        assert!(one.grow(9));
        assert!(!other.grow(2));
        assert!(other.grow(1));
        assert!(!other.grow(1));
        drop(one);
        assert!(other.grow(9));
        drop(other);
        assert_eq!(memory.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_keeps_its_share_until_its_last_piece_is_gone() {
        let memory = Memory::new(10);
        let mut share = memory.share();
        assert!(share.grow(4));
        let mut bytes = share.hold(Bytes::from_static(b"abcd"));
        let piece = bytes.split_to(1);
        assert_eq!(piece, "a");
        drop(bytes);
        assert!(!memory.share().grow(7));
        drop(piece);
        assert!(memory.share().grow(10));
    }

    #[test]
    fn a_body_earns_time_by_arriving() {
        let limits = Limits::default();
        assert_eq!(limits.patience(0), limits.body_grace);
        assert_eq!(
            limits.patience(2048),
            limits.body_grace + Duration::from_secs(2)
        );
        assert_eq!(limits.patience(usize::MAX), limits.body_timeout);
        let any = Limits {
            body_rate_min: 0,
            ..limits
        };
        assert_eq!(any.patience(0), any.body_timeout);
    }
}
