//! What is done to files.

use std::fmt;

use super::{Subject, Tree};
use crate::random::Random;

/// What a flip is called.
pub(crate) const FLIP: &str = "a bit flipped";

/// What disks write at once, in bytes.
const SECTOR: usize = 512;

/// Cuts and zeroed sectors of a file, at most.
const SPOTS_MAX: usize = 40;

/// One harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// A bit flips.
    Flip { file: String, byte: usize, bit: u8 },
    /// The file ends there.
    Cut { file: String, len: usize },
    /// A sector is all zeros.
    Zero { file: String, sector: usize },
    /// The file is gone.
    Delete { file: String },
    /// Two files have each other's names.
    Swap { file: String, other: String },
}

impl Harm {
    /// What it is called.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Harm::Flip { .. } => FLIP,
            Harm::Cut { .. } => "cut off",
            Harm::Zero { .. } => "a sector zeroed",
            Harm::Delete { .. } => "deleted",
            Harm::Swap { .. } => "swapped",
        }
    }

    /// The file that is harmed.
    pub(crate) fn file(&self) -> &str {
        match self {
            Harm::Flip { file, .. }
            | Harm::Cut { file, .. }
            | Harm::Zero { file, .. }
            | Harm::Delete { file }
            | Harm::Swap { file, .. } => file,
        }
    }

    /// Every file it has to do with.
    pub(crate) fn files(&self) -> Vec<&str> {
        match self {
            Harm::Swap { file, other } => vec![file, other],
            _ => vec![self.file()],
        }
    }

    /// The files of `tree` that are others afterwards.
    pub(crate) fn apply(&self, tree: &Tree) -> Vec<(String, Option<Vec<u8>>)> {
        let mut bytes = tree[self.file()].clone();
        match self {
            Harm::Flip { byte, bit, .. } => bytes[*byte] ^= 1 << bit,
            Harm::Cut { len, .. } => bytes.truncate(*len),
            Harm::Zero { sector, .. } => {
                let end = bytes.len().min((sector + 1) * SECTOR);
                bytes[sector * SECTOR..end].fill(0);
            }
            Harm::Delete { file } => return vec![(file.clone(), None)],
            Harm::Swap { file, other } => {
                return vec![
                    (file.clone(), Some(tree[other].clone())),
                    (other.clone(), Some(bytes)),
                ];
            }
        }
        vec![(self.file().to_owned(), Some(bytes))]
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Harm::Flip { file, byte, bit } => write!(f, "{file}, byte {byte}, bit {bit} flipped"),
            Harm::Cut { file, len } => write!(f, "{file} cut to {len} bytes"),
            Harm::Zero { file, sector } => write!(f, "{file}, sector {sector} zeroed"),
            Harm::Delete { file } => write!(f, "{file} deleted"),
            Harm::Swap { file, other } => write!(f, "{file} and {other} swapped"),
        }
    }
}

/// Harms to the files of `subject`: every byte of the small ones has a bit flipped, and of the others so many that there are about
/// `flips`; some are cut, some sectors zeroed; every file is deleted once, and swapped with another.
pub(crate) fn draw(subject: &dyn Subject, flips: usize, random: &mut Random) -> Vec<Harm> {
    let tree = subject.tree();
    let mut harms = Vec::new();
    let flip = |file: &String, byte: usize, random: &mut Random| Harm::Flip {
        file: file.clone(),
        byte,
        bit: u8::try_from(random.below(8)).expect("below 8"),
    };
    let (small, large): (Vec<_>, Vec<_>) = tree
        .iter()
        .filter(|(_, bytes)| !bytes.is_empty())
        .partition(|(name, _)| subject.is_small(name));
    let whole: usize = small.iter().map(|(_, bytes)| bytes.len()).sum();
    for (name, bytes) in &small {
        // In a short form not even these are done to the last byte.
        let step = (whole / flips.max(1)).max(1);
        let first = below(random, step);
        let picked = (first..bytes.len()).step_by(step);
        harms.extend(picked.map(|byte| flip(name, byte, random)));
    }
    // However large the small ones are together.
    let left = flips.saturating_sub(whole).max(flips / 3);
    for _ in 0..if large.is_empty() { 0 } else { left } {
        let (name, bytes) = random.pick(&large);
        harms.push(flip(name, below(random, bytes.len()), random));
    }
    let names: Vec<&String> = tree.keys().collect();
    // About a tenth as many as flips.
    let spots = (flips / 20 / names.len().max(1)).clamp(1, SPOTS_MAX);
    for (place, (name, bytes)) in tree.iter().enumerate() {
        let file = (*name).clone();
        harms.push(Harm::Delete { file: file.clone() });
        if names.len() > 1 {
            let other = names[(place + 1) % names.len()].clone();
            let file = file.clone();
            harms.push(Harm::Swap { file, other });
        }
        for _ in 0..if bytes.is_empty() { 0 } else { spots } {
            harms.push(Harm::Cut {
                file: file.clone(),
                len: below(random, bytes.len()),
            });
            harms.push(Harm::Zero {
                file: file.clone(),
                sector: below(random, bytes.len().div_ceil(SECTOR)),
            });
        }
    }
    harms
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a usize")
}
