//! Identifiers chosen by clients, and the numbers the machine gives in return.

/// Longest client-chosen id, in bytes.
pub const ID_LEN_MAX: usize = 128;

/// A ledger's number, counted from 1 in order of creation; immutable and never reused.
pub type LedgerNumber = u32;

/// An account's number, counted from 1 in order of creation; immutable and never reused. 0 means "none".
pub type AccountNumber = u64;

/// Which bytes an id may hold after its first. A table, since a batch of transfers checks a quarter of a megabyte of ids.
const IN_ID: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.' | b'@' | b'-');
        byte += 1;
    }
    table
};

/// Whether `id` follows the grammar `[A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}` of ledger, account and transfer ids.
pub fn is_valid(id: &str) -> bool {
    parse(id.as_bytes()).is_some()
}

/// `bytes` as an id, if they follow the grammar of [`is_valid`].
#[inline]
pub fn parse(bytes: &[u8]) -> Option<&str> {
    let first = bytes.first()?;
    let valid = bytes.len() <= ID_LEN_MAX
        && first.is_ascii_alphanumeric()
        && bytes
            .iter()
            .fold(true, |valid, &byte| valid & IN_ID[usize::from(byte)]);
    if valid {
        std::str::from_utf8(bytes).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_starts_with_a_letter_or_digit_and_is_at_most_128_bytes() {
        for good in [
            "a",
            "0",
            "users:alice:wallet",
            "A.b_c@d-e",
            "x".repeat(ID_LEN_MAX).as_str(),
        ] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            ":a",
            "-a",
            "a b",
            "a/b",
            "\u{e4}",
            "a\u{e4}",
            "a\n",
            "x".repeat(ID_LEN_MAX + 1).as_str(),
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
