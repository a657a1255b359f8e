//! Writing a message without copying what is large, and reading one without trusting it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::WireError;
use crate::storage::LogId;

/// Bytes below which copying is cheaper than one more piece in a vectored write.
const COPY_BELOW: usize = 4 << 10;

/// A message being written: small fields gathered, large bodies by reference. Read out as a [`Buf`].
#[derive(Debug, Default)]
pub(crate) struct Segments {
    done: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Segments {
    /// Bytes written and not yet read out.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn put_log_id(&mut self, id: LogId) {
        self.put_u64(id.term);
        self.put_u64(id.node);
        self.put_u64(id.index);
    }

    /// Takes `body` as it is.
    pub(crate) fn put_body(&mut self, body: Bytes) {
        if body.len() < COPY_BELOW {
            return self.put(&body);
        }
        self.len += body.len();
        self.seal();
        self.done.push_back(body);
    }

    /// The whole message in one piece; copies unless it is in one already.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.seal();
        self.copy_to_bytes(self.len)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.done.push_back(self.tail.split().freeze());
        }
    }
}

/// Reading seals what was written: nothing is put after the first byte was read.
impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.done.front().map_or(&self.tail, |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.done.iter().map(|piece| &piece[..]);
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces.chain(tail)) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advanced past the end of a message");
        self.len -= count;
        while let Some(front) = self.done.front_mut() {
            if count < front.len() {
                return front.advance(count);
            }
            count -= front.len();
            self.done.pop_front();
        }
        self.tail.advance(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if self.done.front().is_some_and(|front| front.len() == len) {
            self.len -= len;
            return self.done.pop_front().expect("looked at just now");
        }
        let mut whole = BytesMut::with_capacity(len);
        whole.put(self.take(len));
        whole.freeze()
    }
}

/// A received message, read field by field. Bodies are slices of it.
#[derive(Debug)]
pub(crate) struct Cursor {
    rest: Bytes,
}

impl Cursor {
    pub(crate) fn new(message: Bytes) -> Cursor {
        Cursor { rest: message }
    }

    /// The next `len` bytes, not copied.
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        if len > self.rest.len() {
            return Err(WireError::Short);
        }
        Ok(self.rest.split_to(len))
    }

    /// All that is left.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.rest.first_chunk::<N>().ok_or(WireError::Short)?;
        let bytes = *bytes;
        self.rest.advance(N);
        Ok(bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::malformed(format!("flag {other}"))),
        }
    }

    /// Reserved bytes, so that a later version may give them a meaning.
    pub(crate) fn zeros(&mut self, count: usize) -> Result<(), WireError> {
        match self.take(count)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(WireError::malformed("reserved bytes are set")),
        }
    }

    pub(crate) fn log_id(&mut self) -> Result<LogId, WireError> {
        Ok(LogId {
            term: self.u64()?,
            node: self.u64()?,
            index: self.u64()?,
        })
    }

    /// A log id that counts only if `present`; its bytes are there in any case, zero if it does not.
    pub(crate) fn maybe_log_id(&mut self, present: bool) -> Result<Option<LogId>, WireError> {
        let id = self.log_id()?;
        match (present, id == LogId::default()) {
            (true, _) => Ok(Some(id)),
            (false, true) => Ok(None),
            (false, false) => Err(WireError::malformed("an absent log id is set")),
        }
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::malformed(format!("{extra} bytes too many"))),
        }
    }
}
