//! Blocks of a tar archive (POSIX ustar), as this program writes them and no otherwise: what is read is held against what would
//! have been written, so that there is one archive of the same files and no second one that differs in a byte.

/// Bytes of a block: headers are one, contents are filled up to whole ones.
pub(super) const BLOCK: usize = 512;
/// Sizes from here on do not fit into eleven octal digits.
const OCTAL_MAX: u64 = 1 << 33;
/// Longest name that a header takes, in bytes.
pub(super) const NAME_LEN_MAX: usize = 100;

/// Zeros after contents of `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (BLOCK - over) % BLOCK
}

/// Bytes that a file of `size` takes in the archive.
pub(super) fn entry_len(size: u64) -> u64 {
    (BLOCK + padding(size)) as u64 + size
}

/// The header of a file: readable, of nobody, of no time.
///
/// # Panics
/// If the name is longer than [`NAME_LEN_MAX`].
pub(super) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    assert!(name.len() <= NAME_LEN_MAX, "{name:?} is too long");
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < OCTAL_MAX {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The size that a header tells.
pub(super) fn size(header: &[u8; BLOCK]) -> Option<u64> {
    if header[124] == 0x80 {
        let bytes = header[128..136].try_into().expect("eight bytes");
        return Some(u64::from_be_bytes(bytes));
    }
    let digits = std::str::from_utf8(&header[124..135]).ok()?;
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_back_and_blocks_are_whole() {
        for bytes in [0, 1, 511, 512, 513, OCTAL_MAX - 1, OCTAL_MAX, u64::MAX >> 1] {
            assert_eq!(size(&header("state/000012.sst", bytes)), Some(bytes));
            assert_eq!(entry_len(bytes) % BLOCK as u64, 0);
            assert!(entry_len(bytes) >= bytes + BLOCK as u64);
        }
        assert_eq!(size(&[0xff; BLOCK]), None);
    }
}
