//! The applied log of a running node: journal and log as they are, in pages that anybody can be asked for at any time, since
//! neither changes once it is applied.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Export, Exported, Line, begin};
use crate::machine::Fault;
use crate::storage::identity::OpenError;
use crate::storage::log::{Log, LogState};
use crate::storage::state::{Applied, Follower, JournalRow, State, journal_index};
use crate::storage::{LogEntry, LogId};

/// Version of the encoding of pages.
const FORMAT: u32 = 1;
/// Bytes of journal, and of log, that a page holds: about, and one entry at least.
const PAGE_BYTES: usize = 4 << 20;

/// A part of the applied log.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    format: u32,
    /// How far the node was when it made this.
    applied: Mark,
    /// Index of the first entry in its log.
    first: u64,
    /// Everything is here from the index asked for up to this one.
    upto: u64,
    rows: Vec<JournalRow>,
    entries: Vec<LogEntry>,
}

/// What a node stored of how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    index: u64,
    time_ns: u64,
    digest: [u8; 32],
}

/// The part of the applied log that begins at `from` and ends at `to`, or with what is applied, or earlier: a page has
/// a bounded size. For [`Pages`]. Blocking.
///
/// # Errors
/// If the disk fails or is damaged.
pub fn page(log: &Log, state: &State, from: u64, to: Option<u64>) -> Result<Vec<u8>, Fault> {
    page_of(PAGE_BYTES, log, state, from, to)
}

/// [`page`] of another size.
pub(in crate::storage) fn page_of(
    bytes_max: usize,
    log: &Log,
    state: &State,
    from: u64,
    to: Option<u64>,
) -> Result<Vec<u8>, Fault> {
    let Applied {
        log_id,
        time_ns,
        digest,
        ..
    } = state.applied();
    let applied = Mark {
        index: log_id.map_or(0, |id| id.index),
        time_ns,
        digest,
    };
    let to = to.map_or(applied.index, |to| to.min(applied.index));
    let (mut rows, mut upto) = state.journal(from, to, bytes_max)?;
    let after = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
    // Asked after the state: a snapshot that takes its place has the log cut before it.
    let LogState { purged, last, .. } = log.state();
    let first = begin(after(purged), after(last), log_id);
    let wanted = from.max(first)..upto + 1;
    let mut entries = Vec::new();
    if !wanted.is_empty() {
        let read = log.read(wanted, bytes_max as u64);
        entries = read.map_err(|error| Fault::new(format!("the log: {error}")))?;
    }
    if let Some(last) = entries.last().map(|entry| entry.id.index) {
        upto = upto.min(last);
        rows.retain(|(key, _)| journal_index(key) <= upto);
    }
    let page = Page {
        format: FORMAT,
        applied,
        first,
        upto,
        rows,
        entries,
    };
    Ok(postcard::to_stdvec(&page).expect("plain data into memory"))
}

/// Makes an export of pages. The first says where it ends: what is applied later is not in it.
#[derive(Debug)]
pub struct Pages {
    until: Option<u64>,
    next: u64,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    /// What the first page said of how far the node was, which is where the journal must lead; nothing before that page.
    end: Option<Mark>,
    follower: Follower,
    export: Export,
}

impl Pages {
    /// An export up to log index `until` if one is given.
    pub fn new(until: Option<u64>) -> Pages {
        Pages {
            until,
            next: 0,
            under_way: None,
        }
    }

    /// From which index on and up to which one the next page is to be asked for.
    pub fn wanted(&self) -> (u64, Option<u64>) {
        let end = self.under_way.as_ref().and_then(|way| way.end);
        (self.next, end.map(|end| end.index))
    }

    /// After the last page: goes on with what was applied since then, as an export of its own that needs none of the pages
    /// before. What the log does not hold any more by then is left out, which [`Pages::first`] tells.
    pub fn go_on(&mut self) {
        if let Some(way) = &mut self.under_way {
            way.end = None;
        }
    }

    /// Index of the entry from which on the export leaves nothing out; nothing before the first page.
    pub fn first(&self) -> Option<u64> {
        Some(self.under_way.as_ref()?.export.first)
    }

    /// Takes the page that was wanted and gives each command in it to `each`, in order; after the last page, how far the export
    /// goes. Blocking, as far as `each` is.
    ///
    /// # Errors
    /// If it is no page, if log and journal do not fit together or do not lead to the digest stored; if less is applied than is
    /// to be exported; and if `each` fails. What it was given until then is worth nothing.
    pub fn take(
        &mut self,
        page: &[u8],
        mut each: impl FnMut(&Line) -> io::Result<()>,
    ) -> Result<Option<Exported>, OpenError> {
        let page: Page = postcard::from_bytes(page)
            .map_err(|error| OpenError(format!("this is no page of an applied log: {error}")))?;
        if page.format != FORMAT {
            return Err(OpenError(format!(
                "a page of format {}, this program knows {FORMAT}",
                page.format
            )));
        }
        if page.upto < self.next {
            return Err(OpenError(format!(
                "the node has applied less than {}, which another one had",
                self.next
            )));
        }
        let until = self.until;
        let way = self.under_way.get_or_insert_with(|| UnderWay {
            end: None,
            follower: Follower::default(),
            export: Export::new(page.first, until),
        });
        let end = match way.end {
            Some(end) => end,
            None => {
                way.export.leave_out(page.first);
                *way.end.insert(page.applied)
            }
        };
        self.next = page.upto + 1;
        way.take(&page, &mut each).map_err(OpenError)?;
        if page.upto < end.index {
            return Ok(None);
        }
        let check = way.follower.check(&end.digest, end.time_ns);
        check.map_err(OpenError)?;
        way.export.end(end.index).map(Some)
    }
}

impl UnderWay {
    fn take(
        &mut self,
        page: &Page,
        each: &mut impl FnMut(&Line) -> io::Result<()>,
    ) -> Result<(), String> {
        let entries = page.entries.iter().map(|entry| (entry.id.index, entry));
        let entries: BTreeMap<u64, &LogEntry> = entries.collect();
        let first = self.export.first;
        let read = |index: u64| match entries.get(&index) {
            Some(entry) => Ok(Some((*entry).clone())),
            None if index < first => Ok(None),
            None => Err(format!(
                "entry {index} is not in the log: it was purged meanwhile, or another node answered; begin again, with one \
                 endpoint"
            )),
        };
        let export = &mut self.export;
        let mut whole = |journaled: &_| export.journaled(journaled, &read, each);
        for (key, value) in &page.rows {
            self.follower.row(key, value, &mut whole)?;
        }
        self.export.silent(page.upto, &read)
    }
}
