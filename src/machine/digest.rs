//! The chain digest: one hash over everything a node ever decided, equal on every node at the same entry.
//!
//! `blake3(digest before, entry index u64, log time u64, then per record its length u32 and its bytes)`, little-endian. It
//! covers what was decided, with every balance that resulted, not what was asked: so two nodes that read the same entry and
//! differ anywhere in the outcome differ in their digests from there on. An entry without records still extends the chain,
//! since its index and time do.

/// The digest before the first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// Bytes gathered before they are hashed: the hash works on many blocks at once, so feeding it a batch of 8190 records
/// one by one takes five times as long.
const GATHERED_LEN: usize = 32 << 10;

/// The digest of one entry in the making.
///
/// Fed when the entry is complete, from the bytes that are journaled: what a failed chain took back is in neither.
#[derive(Clone, Debug)]
pub struct Chain {
    hasher: blake3::Hasher,
    gathered: Vec<u8>,
}

impl Chain {
    /// Begins the link of the entry at `index` with log time `time_ns`, after the digest `prev`.
    pub fn start(prev: &[u8; 32], index: u64, time_ns: u64) -> Chain {
        let mut gathered = Vec::new();
        gathered.extend_from_slice(prev);
        gathered.extend_from_slice(&index.to_le_bytes());
        gathered.extend_from_slice(&time_ns.to_le_bytes());
        Chain {
            hasher: blake3::Hasher::new(),
            gathered,
        }
    }

    /// Adds the entry's next record, as encoded.
    pub fn record(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("the largest record is a little over 1 MiB");
        self.gathered.extend_from_slice(&len.to_le_bytes());
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED_LEN {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
    }

    /// Adds the entry's next records, each with its length u32 before it: the same as [`Chain::record`] for each. Large pieces
    /// are hashed several times as fast as small ones.
    pub fn framed(&mut self, records: &[u8]) {
        self.hasher.update(&self.gathered);
        self.gathered.clear();
        self.hasher.update(records);
    }

    /// The digest after this entry.
    pub fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.gathered);
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

    #[test]
    fn the_digest_is_the_hash_of_what_the_module_says() {
        let records: Vec<Vec<u8>> = (0..5000u32)
            .map(|number| vec![7; (number % 200) as usize])
            .collect();
        let mut wanted = [GENESIS.as_slice(), &7u64.to_le_bytes(), &9u64.to_le_bytes()].concat();
        for record in &records {
            wanted.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
            wanted.extend_from_slice(record);
        }
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        assert_eq!(
            link(&GENESIS, 7, 9, &records),
            *blake3::hash(&wanted).as_bytes()
        );
    }
}
