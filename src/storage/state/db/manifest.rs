//! What RocksDB's own reader of its `MANIFEST` does not get over.
//!
//! The file is a log of records in blocks of 32 KiB. Types of records from 5 on are for logs whose files are used again; a
//! `MANIFEST` has none. When RocksDB 11.8.1 meets one there (a flipped bit is enough), it takes the record for an old one and
//! tries again for ever: opening never ends. So the types are looked at first. Everything else is left to RocksDB, which holds
//! each record against its checksum. The format: `db/log_format.h` and the wiki page "Write Ahead Log File Format" of RocksDB.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

const BLOCK_LEN: usize = 32 << 10;
/// Checksum (4), length (2, little endian), type (1).
const HEADER_LEN: usize = 7;
/// 0 is padding, 1 to 4 are a whole record, the first part of one, a middle one and the last.
const TYPE_MAX: u8 = 4;

/// Looks at the type of every record of the `MANIFEST` in use in `dir`. `Err` says what is damaged. What cannot be found or read
/// is left to RocksDB to tell.
pub(super) fn check(dir: &Path) -> Result<(), String> {
    let Some(name) = current(dir) else {
        return Ok(());
    };
    let Ok(mut file) = File::open(dir.join(&name)) else {
        return Ok(());
    };
    let mut block = Vec::with_capacity(BLOCK_LEN);
    for number in 0.. {
        block.clear();
        let read = Read::by_ref(&mut file)
            .take(BLOCK_LEN as u64)
            .read_to_end(&mut block);
        if !matches!(read, Ok(1..)) {
            break;
        }
        if let Some((at, kind)) = strange(&block) {
            let at = number * BLOCK_LEN + at;
            return Err(format!(
                "{name} is damaged: the record at byte {at} has the type {kind}, which it cannot have"
            ));
        }
        // What is written behind it from here on is not looked at: that block would begin in its middle.
        if block.len() < BLOCK_LEN {
            break;
        }
    }
    Ok(())
}

/// The name of the `MANIFEST` in use.
fn current(dir: &Path) -> Option<String> {
    let name: io::Result<String> = fs::read_to_string(dir.join("CURRENT"));
    let name = name.ok()?;
    let name = name.strip_suffix('\n')?;
    name.starts_with("MANIFEST-").then(|| name.to_owned())
}

/// The first record of a block that has a type of no record: where it begins, and the type. The last block may end in the middle
/// of a record, and any with too few bytes for a header.
fn strange(block: &[u8]) -> Option<(usize, u8)> {
    let mut at = 0;
    while let Some(&[_, _, _, _, low, high, kind]) = block.get(at..at + HEADER_LEN) {
        if kind > TYPE_MAX {
            return Some((at, kind));
        }
        let length = usize::from(u16::from_le_bytes([low, high]));
        if kind == 0 && length == 0 {
            // Padding to the end of the block.
            return None;
        }
        at += HEADER_LEN + length;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_no_record_has_is_found_wherever_it_is() {
        let record = |kind: u8, length: u16| {
            let [low, high] = length.to_le_bytes();
            let header = vec![1, 2, 3, 4, low, high, kind];
            [header, vec![0xff; usize::from(length)]].concat()
        };
        let whole = [record(1, 100), record(2, 0), record(4, 3)].concat();
        assert_eq!(strange(&whole), None);
        assert_eq!(strange(&[]), None);
        for cut in 0..whole.len() {
            assert_eq!(strange(&whole[..cut]), None, "{cut} bytes");
        }
        for (at, kind) in [(0, 5), (107, 9), (114, 129)] {
            let mut harmed = whole.clone();
            harmed[at + 6] = kind;
            assert_eq!(strange(&harmed), Some((at, kind)));
        }
        let padded = [whole, vec![0; 20]].concat();
        assert_eq!(strange(&padded), None);
    }
}
