//! Fixed, little-endian layout of the small things the log writes beside bodies.

use crate::storage::{LogId, Vote};

/// Appends an optional log id: a byte 0 or 1, then term, node, index (zeros if there is none).
pub(super) fn put_log_id(out: &mut Vec<u8>, id: Option<LogId>) {
    out.push(u8::from(id.is_some()));
    let LogId { term, node, index } = id.unwrap_or_default();
    for number in [term, node, index] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Appends an optional vote: a byte 0 or 1, then term, node, committed (zeros if there is none).
pub(super) fn put_vote(out: &mut Vec<u8>, vote: Option<Vote>) {
    out.push(u8::from(vote.is_some()));
    let vote = vote.unwrap_or_default();
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.node.to_le_bytes());
    out.push(u8::from(vote.committed));
}

/// Appends a text of at most 255 bytes: its length, then its bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("callers bound the length"));
    out.extend_from_slice(text.as_bytes());
}

/// Reads back what the functions above wrote. Everything is `None` on bytes they cannot have written.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn log_id(&mut self) -> Option<Option<LogId>> {
        let some = self.flag()?;
        let id = LogId {
            term: self.u64()?,
            node: self.u64()?,
            index: self.u64()?,
        };
        match some {
            true => Some(Some(id)),
            false => (id == LogId::default()).then_some(None),
        }
    }

    pub(super) fn vote(&mut self) -> Option<Option<Vote>> {
        let some = self.flag()?;
        let vote = Vote {
            term: self.u64()?,
            node: self.u64()?,
            committed: self.flag()?,
        };
        match some {
            true => Some(Some(vote)),
            false => (vote == Vote::default()).then_some(None),
        }
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.bytes(usize::from(length))?).ok()
    }

    /// Nothing is left over.
    pub(super) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}
