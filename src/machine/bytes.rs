//! Reading fixed little-endian layouts: total on any bytes, no allocation unless something is wrong.

/// What is left to read. Every `Err` says what was wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], String> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(short(what, len, self.rest.len())),
        }
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<&'a [u8; N], String> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(short(what, N, self.rest.len())),
        }
    }

    /// One byte.
    pub(super) fn u8(&mut self, what: &str) -> Result<u8, String> {
        self.array(what).map(|&[byte]| byte)
    }

    /// Two bytes.
    pub(super) fn u16(&mut self, what: &str) -> Result<u16, String> {
        self.array(what).map(|bytes| u16::from_le_bytes(*bytes))
    }

    /// Four bytes.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// The next `len` bytes as UTF-8.
    #[inline]
    pub(super) fn text(&mut self, len: usize, what: &str) -> Result<&'a str, String> {
        utf8(self.take(len, what)?, what)
    }

    /// Everything left; nothing is left afterwards.
    pub(super) fn remainder(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// That nothing is left.
    #[inline]
    pub(super) fn end(&self, what: &str) -> Result<(), String> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(format!("{} bytes after the end of {what}", self.rest.len()))
        }
    }
}

/// `bytes` as UTF-8.
#[inline]
pub(super) fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))
}

/// The `N` bytes of a fixed layout that start at `at`, which is inside it.
#[inline]
pub(super) fn fixed<const N: usize>(layout: &[u8], at: usize) -> [u8; N] {
    *layout[at..]
        .first_chunk()
        .expect("a field lies inside its fixed layout")
}

#[cold]
fn short(what: &str, wanted: usize, left: usize) -> String {
    format!("{what} wants {wanted} bytes, {left} left")
}
