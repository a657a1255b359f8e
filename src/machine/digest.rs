//! The chain digest: one hash over everything a node ever decided, equal on every node at the same entry.
//!
//! `blake3(digest before, entry index u64, log time u64, then per record its length u32 and its bytes)`, little-endian. It
//! covers what was decided, with every balance that resulted, not what was asked: so two nodes that read the same entry and
//! differ anywhere in the outcome differ in their digests from there on. An entry without records still extends the chain,
//! since its index and time do.

/// The digest before the first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// The digest of one entry in the making.
///
/// Fed when the entry is complete, from the bytes that are journaled: what a failed chain took back is in neither.
#[derive(Clone, Debug)]
pub struct Chain {
    hasher: blake3::Hasher,
}

impl Chain {
    /// Begins the link of the entry at `index` with log time `time_ns`, after the digest `prev`.
    pub fn start(prev: &[u8; 32], index: u64, time_ns: u64) -> Chain {
        let mut head = [0; 48];
        head[..32].copy_from_slice(prev);
        head[32..40].copy_from_slice(&index.to_le_bytes());
        head[40..].copy_from_slice(&time_ns.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        Chain { hasher }
    }

    /// Adds the entry's next record, as encoded.
    pub fn record(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("the largest record is a little over 1 MiB");
        self.hasher.update(&len.to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The digest after this entry.
    pub fn finish(self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(prev: &[u8; 32], index: u64, time_ns: u64, records: &[&[u8]]) -> [u8; 32] {
        let mut chain = Chain::start(prev, index, time_ns);
        for record in records {
            chain.record(record);
        }
        chain.finish()
    }

    #[test]
    fn every_input_is_in_the_digest() {
        let base = link(&GENESIS, 7, 9, &[b"ab", b"c"]);
        assert_eq!(base, link(&GENESIS, 7, 9, &[b"ab", b"c"]));
        for other in [
            link(&base, 7, 9, &[b"ab", b"c"]),
            link(&GENESIS, 8, 9, &[b"ab", b"c"]),
            link(&GENESIS, 7, 8, &[b"ab", b"c"]),
            link(&GENESIS, 7, 9, &[b"a", b"bc"]),
            link(&GENESIS, 7, 9, &[b"c", b"ab"]),
            link(&GENESIS, 7, 9, &[b"ab"]),
            link(&GENESIS, 7, 9, &[b"ab", b"c", b""]),
        ] {
            assert_ne!(base, other);
        }
    }
}
