//! Appends: the hot path, fixed layout.
//!
//! After the [`Header`]: present flags u32 (bit 0 the log id before, bit 1 the commit), entry count u32, the two log ids
//! (24 bytes each, zero if absent); then a table of 32 bytes per entry (log id 24, kind u8, reserved 3, body length u32);
//! then the bodies, one after the other. The table stands apart from the bodies so that a frame of a few large entries is
//! a few pieces in one vectored write.

use super::{Cursor, FRAME_LEN_MAX, HEADER_LEN, Header, Segments, WireError};
use crate::storage::{Kind, LogEntry, LogId};

/// Bytes before the table.
const FIXED_LEN: usize = HEADER_LEN + 4 + 4 + 24 + 24;
/// Bytes of the table per entry.
const ROW_LEN: usize = 32;
/// Bytes a frame is filled up to. Well below the limit, so that a long catch-up is answered, and seen to progress, frame by
/// frame; one entry larger than this still travels alone.
const FRAME_LEN_TARGET: usize = 1 << 20;

/// What an append carries besides its header, which has the leader's vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Append {
    /// The entry before the first of `entries`; `None` if they start the log.
    pub(crate) prev: Option<LogId>,
    /// How far the leader knows entries to be committed.
    pub(crate) commit: Option<LogId>,
    /// Contiguous entries, possibly none.
    pub(crate) entries: Vec<LogEntry>,
}

impl Append {
    /// The last entry the receiver has when it accepted all.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.entries.last().map(|entry| entry.id).or(self.prev)
    }

    /// Bytes of the frame.
    pub(crate) fn frame_len(&self) -> usize {
        self.entries.iter().map(entry_len).sum::<usize>() + FIXED_LEN
    }

    /// Cuts what does not fit into one frame into several to be sent in order. At least one; all but the last have entries.
    ///
    /// # Errors
    /// If a single entry is larger than a frame may be.
    pub(crate) fn into_frames(mut self) -> Result<Vec<Append>, String> {
        if let Some(entry) = self.entries.iter().find(|entry| {
            let len = entry_len(entry) + FIXED_LEN;
            len > FRAME_LEN_MAX
        }) {
            return Err(format!(
                "log entry {} has {} bytes and fits in no frame",
                entry.id.index,
                entry.body.len()
            ));
        }
        let mut frames = Vec::new();
        while let Some(count) = self.cut() {
            let rest = self.entries.split_off(count);
            let last = self.last();
            frames.push(Append {
                prev: self.prev,
                commit: self.commit,
                entries: std::mem::replace(&mut self.entries, rest),
            });
            self.prev = last;
        }
        frames.push(self);
        Ok(frames)
    }

    /// How many entries fill the first frame, if not all fit into it.
    fn cut(&self) -> Option<usize> {
        let mut len = FIXED_LEN;
        let over = self.entries.iter().position(|entry| {
            len += entry_len(entry);
            len > FRAME_LEN_TARGET
        })?;
        let count = over.max(1);
        (count < self.entries.len()).then_some(count)
    }

    /// The message, bodies by reference.
    pub(crate) fn encode(self, header: &Header, out: &mut Segments) {
        header.encode(out);
        let flags = u32::from(self.prev.is_some()) | u32::from(self.commit.is_some()) << 1;
        out.put_u32(flags);
        out.put_u32(u32::try_from(self.entries.len()).expect("a frame holds fewer entries"));
        out.put_log_id(self.prev.unwrap_or_default());
        out.put_log_id(self.commit.unwrap_or_default());
        for entry in &self.entries {
            out.put_log_id(entry.id);
            out.put_u8(entry.kind as u8);
            out.put(&[0; 3]);
            out.put_u32(u32::try_from(entry.body.len()).expect("an entry fits in a frame"));
        }
        for entry in self.entries {
            out.put_body(entry.body);
        }
    }

    /// Reads what follows `header`. Bodies are slices of the message. Checks what the core would otherwise have to trust:
    /// entries are contiguous, ordered, and not of a later term than the leader's.
    pub(crate) fn decode(header: &Header, mut cursor: Cursor) -> Result<Append, WireError> {
        let flags = cursor.u32()?;
        if flags > 3 {
            return Err(WireError::malformed(format!("append flags {flags}")));
        }
        let count = cursor.u32()? as usize;
        let prev = cursor.maybe_log_id(flags & 1 != 0)?;
        let commit = cursor.maybe_log_id(flags & 2 != 0)?;
        let table_len = count.checked_mul(ROW_LEN).ok_or(WireError::Short)?;
        let mut table = Cursor::new(cursor.take(table_len)?);
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(decode_entry(&mut table, &mut cursor)?);
        }
        cursor.end()?;
        let append = Append {
            prev,
            commit,
            entries,
        };
        append.check(header)?;
        Ok(append)
    }

    fn check(&self, header: &Header) -> Result<(), WireError> {
        if !header.vote.committed || header.vote.node != header.from {
            return Err(WireError::malformed(
                "an append from a node that does not lead",
            ));
        }
        let mut before = self.prev;
        for entry in &self.entries {
            let expected = match before {
                Some(id) => id.index.checked_add(1),
                None => Some(0),
            };
            if Some(entry.id.index) != expected || before.is_some_and(|id| id >= entry.id) {
                return Err(WireError::malformed("entries are not in order"));
            }
            before = Some(entry.id);
        }
        let leader = (header.vote.term, header.vote.node);
        if before.is_some_and(|last| (last.term, last.node) > leader) {
            return Err(WireError::malformed("an entry is newer than its leader"));
        }
        Ok(())
    }
}

fn entry_len(entry: &LogEntry) -> usize {
    ROW_LEN + entry.body.len()
}

fn decode_entry(table: &mut Cursor, bodies: &mut Cursor) -> Result<LogEntry, WireError> {
    let id = table.log_id()?;
    let kind = match table.u8()? {
        0 => Kind::Blank,
        1 => Kind::Commands,
        2 => Kind::Membership,
        other => return Err(WireError::malformed(format!("unknown entry kind {other}"))),
    };
    table.zeros(3)?;
    let len = table.u32()? as usize;
    if kind == Kind::Blank && len != 0 {
        return Err(WireError::malformed("a blank entry has a body"));
    }
    Ok(LogEntry {
        id,
        kind,
        body: bodies.take(len)?,
    })
}
