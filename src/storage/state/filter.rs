//! Which transfer ids were sealed, answered from memory: about 16 bits an id, one id in a thousand answered "maybe" in vain.
//!
//! Split-block Bloom filters: an id sets eight bits of one 32-byte block, so a look-up touches one cache line a segment.
//! Segments double in size up to a limit; only the last takes new ids. One thread, the seal's, inserts while others look up:
//! bits only ever appear, and nobody relies on them before the seal is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// 64-bit words of a block.
const BLOCK_WORDS: usize = 4;
/// Ids a block is meant for: 256 bits at 16 bits an id.
const BLOCK_IDS: usize = 16;
/// One odd multiplier per 32-bit lane, from the Parquet specification.
const SALT: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// One filter of fixed size.
#[derive(Debug)]
pub(super) struct Segment {
    words: Box<[AtomicU64]>,
}

impl Segment {
    /// An empty one for about `capacity` ids.
    pub(super) fn new(capacity: usize) -> Segment {
        let blocks = capacity.div_ceil(BLOCK_IDS).max(1);
        Segment {
            words: (0..blocks * BLOCK_WORDS)
                .map(|_| AtomicU64::new(0))
                .collect(),
        }
    }

    /// Ids it is for.
    pub(super) fn capacity(&self) -> usize {
        self.words.len() / BLOCK_WORDS * BLOCK_IDS
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.words.len() * 8
    }

    /// Adds an id's hash. One thread at a time.
    pub(super) fn insert(&self, hash: u64) {
        for (word, mask) in self.block(hash).iter().zip(mask(hash)) {
            // A plain load and store: there is one writer, and a locked instruction costs ten times as much.
            word.store(word.load(Relaxed) | mask, Relaxed);
        }
    }

    /// False: the hash was never inserted. True: it probably was.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.block(hash)
            .iter()
            .zip(mask(hash))
            .all(|(word, mask)| word.load(Relaxed) & mask == mask)
    }

    /// The bytes to store, little-endian words.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.words
            .iter()
            .flat_map(|word| word.load(Relaxed).to_le_bytes())
            .collect()
    }

    /// What [`Segment::to_bytes`] gave; `None` if `bytes` cannot be a segment.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Segment> {
        let (words, rest) = bytes.as_chunks::<8>();
        if words.is_empty() || !rest.is_empty() || words.len() % BLOCK_WORDS != 0 {
            return None;
        }
        Some(Segment {
            words: words
                .iter()
                .map(|word| AtomicU64::new(u64::from_le_bytes(*word)))
                .collect(),
        })
    }

    #[inline]
    fn block(&self, hash: u64) -> &[AtomicU64] {
        // The high half picks the block without a division, the low half the bits.
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        let block = ((hash >> 32) * blocks) >> 32;
        let start = usize::try_from(block).expect("a block number is below the number of blocks")
            * BLOCK_WORDS;
        &self.words[start..start + BLOCK_WORDS]
    }
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half of the hash picks the bits"
)]
fn mask(hash: u64) -> [u64; BLOCK_WORDS] {
    let low = hash as u32;
    let bit = |lane: usize| 1u64 << (low.wrapping_mul(SALT[lane]) >> 27);
    std::array::from_fn(|word| bit(2 * word) | bit(2 * word + 1) << 32)
}

/// The segments of a database as readers see them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Oldest first; all but the last are full.
    pub(super) segments: Arc<Vec<Arc<Segment>>>,
    /// Every sealed id is in some segment. False once the memory bound was reached: then "no" means nothing.
    pub(super) complete: bool,
}

impl Filter {
    /// Whether an id with this hash may have been sealed.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        !self.complete
            || self
                .segments
                .iter()
                .any(|segment| segment.may_contain(hash))
    }
}

impl Default for Filter {
    fn default() -> Filter {
        Filter {
            segments: Arc::default(),
            complete: true,
        }
    }
}

/// Sizes of segments and how much memory they may take together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Ids the first segment is for; each next one is for twice as many.
    pub(super) first: usize,
    /// Ids the largest segments are for.
    pub(super) largest: usize,
    /// Bytes of all segments; when the next would pass it, no more ids are added.
    pub(super) bytes_max: usize,
}

impl Sizes {
    /// Ids segment `number`, from 0, is for.
    pub(super) fn capacity(&self, number: usize) -> usize {
        let doublings = u32::try_from(number).unwrap_or(u32::MAX).min(32);
        self.first.saturating_mul(1 << doublings).min(self.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::hash::Seed;
    use super::*;

    #[test]
    fn no_inserted_id_is_denied_and_few_others_are_not() {
        let (seed, segment) = (Seed::random(), Segment::new(100_000));
        let hash = |n: u32| seed.hash(&n.to_le_bytes());
        (0..100_000).for_each(|n| segment.insert(hash(n)));
        assert!((0..100_000).all(|n| segment.may_contain(hash(n))));
        let wrong = (100_000..200_000)
            .filter(|&n| segment.may_contain(hash(n)))
            .count();
        assert!(wrong < 300, "{wrong} of 100,000 absent ids answered maybe");
    }

    #[test]
    fn a_segment_survives_its_bytes() {
        let hashes: Vec<u64> = (0..100u64)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect();
        let segment = Segment::new(100);
        hashes.iter().for_each(|hash| segment.insert(*hash));
        let copy = Segment::from_bytes(&segment.to_bytes()).expect("own bytes");
        assert!(hashes.iter().all(|hash| copy.may_contain(*hash)));
        assert_eq!(
            (copy.capacity(), copy.to_bytes()),
            (112, segment.to_bytes())
        );
        assert!(Segment::from_bytes(&[0; 33]).is_none());
    }
}
