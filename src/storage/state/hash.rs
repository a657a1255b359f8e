//! A fast keyed hash for the tables and filters of ids.
//!
//! Clients choose ids, so an unkeyed hash would let one of them fill a table with collisions. The key is drawn at random when
//! a database is made and stored with it, because the filters on disk depend on it. It differs from node to node, which is
//! harmless: hashes only find things, they decide nothing.

/// The key of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Seed(u64, u64);

/// Odd constants with evenly spread bits (the fractional parts of the square roots of 2 and 3).
const MIX: [u64; 2] = [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b];

impl Seed {
    /// A random one.
    pub(super) fn random() -> Seed {
        let (a, b) = uuid::Uuid::new_v4().as_u64_pair();
        Seed(a, b)
    }

    /// The hash of `bytes`: the folded 128-bit products of 16 bytes at a time. What is left at the end is read from its first
    /// and its last bytes, which may overlap, as wyhash does: copied to a buffer it would have to wait for the copy.
    #[inline]
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        let len = bytes.len() as u64;
        let mut state = self.0 ^ MIX[0].wrapping_mul(len);
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            let (a, b) = halves(block);
            state = fold(a ^ self.1, b ^ state);
        }
        if !rest.is_empty() {
            let (a, b) = match bytes.last_chunk::<16>() {
                Some(block) => halves(block),
                None => ends(bytes),
            };
            state = fold(a ^ self.1, b ^ state);
        }
        fold(state ^ MIX[1], self.0 ^ MIX[0])
    }
}

#[inline]
fn halves(block: &[u8; 16]) -> (u64, u64) {
    let (a, b) = block.split_at(8);
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("half of 16 bytes is 8"));
    (word(a), word(b))
}

/// All of 1 to 15 bytes.
#[inline]
fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        return (
            u32::from_le_bytes(*first).into(),
            u32::from_le_bytes(*last).into(),
        );
    }
    let middle = u64::from(bytes[bytes.len() / 2]);
    (
        u64::from(bytes[0]) << 8 | middle,
        u64::from(bytes[bytes.len() - 1]),
    )
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of the product are wanted"
)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn similar_ids_spread_over_high_and_low_bits() {
        let seed = Seed(1, 2);
        let hashes: Vec<u64> = (0..10_000)
            .map(|n| seed.hash(format!("transfer-{n:012}").as_bytes()))
            .collect();
        for shift in [0, 32, 48] {
            let buckets: BTreeSet<u64> =
                hashes.iter().map(|hash| (hash >> shift) & 0xffff).collect();
            // 10,000 balls in 65,536 bins occupy about 9,270.
            assert!(
                (9_100..9_500).contains(&buckets.len()),
                "{} of 65,536 at {shift}",
                buckets.len()
            );
        }
    }

    #[test]
    fn length_and_key_are_part_of_the_hash() {
        let seed = Seed(1, 2);
        assert_ne!(seed.hash(b"a"), seed.hash(b"a\0"));
        assert_ne!(seed.hash(b"a"), Seed(1, 3).hash(b"a"));
        assert_ne!(seed.hash(&[7; 16]), seed.hash(&[7; 32]));
    }
}
