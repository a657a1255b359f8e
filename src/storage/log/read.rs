//! Reading entries: from memory, and from the disk what is no longer there.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::File;
use super::index::Place;
use super::record::{ENTRY_LEN, HEADER_LEN, read_entry};
use super::scan::segment_name;
use super::shared::{Inner, Shared};
use crate::storage::LogEntry;

/// Entries that stand close together are read at once, up to so many bytes.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Records further apart than this are not read at once: what is between was truncated.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Entries to read at once: their first index, their places, and the file.
struct Run {
    first: u64,
    places: Vec<Place>,
    file: Arc<dyn File>,
}

/// What a read of a range takes: found out with the log's mutex held, done without.
struct Plan {
    runs: Vec<Run>,
    cached: Vec<LogEntry>,
}

/// See [`Log::read`](super::Log::read).
pub(super) fn read(
    shared: &Shared,
    range: Range<u64>,
    bytes_max: u64,
) -> io::Result<Vec<LogEntry>> {
    let plan = plan(&shared.lock(), range, bytes_max);
    let mut entries = Vec::new();
    for run in &plan.runs {
        read_run(run, &mut entries)?;
    }
    entries.extend(plan.cached);
    Ok(entries)
}

/// Whether entries `range` that the log holds are all in memory.
pub(super) fn is_cached(inner: &Inner, range: &Range<u64>) -> bool {
    let range = clip(inner, range);
    range.is_empty()
        || inner
            .cache
            .start()
            .is_some_and(|start| start <= range.start)
}

/// Reads the end of the log into memory, up to `bytes_max`. Before anything else is done with it: meanwhile what is in
/// memory does not reach its end.
pub(super) fn warm(shared: &Shared, bytes_max: u64) -> io::Result<()> {
    let range = {
        let inner = shared.lock();
        let (mut start, mut bytes) = (inner.view.end(), 0);
        while start > inner.view.first {
            let place = inner
                .index
                .get(start - 1)
                .expect("a recovered entry has a place");
            bytes += place.end() - place.start() + super::cache::ENTRY_OVERHEAD;
            if bytes > bytes_max {
                break;
            }
            start -= 1;
        }
        start..inner.view.end()
    };
    let mut next = range.start;
    while next < range.end {
        let entries = read(shared, next..range.end, RUN_BYTES_MAX)?;
        next += entries.len() as u64;
        let mut inner = shared.lock();
        entries.into_iter().for_each(|entry| inner.keep(entry));
    }
    Ok(())
}

/// Reads entry `index` at `place` of `file`.
pub(super) fn read_at(file: &Arc<dyn File>, place: Place, index: u64) -> io::Result<LogEntry> {
    let run = Run {
        first: index,
        places: vec![place],
        file: file.clone(),
    };
    let mut entries = Vec::new();
    read_run(&run, &mut entries)?;
    Ok(entries.swap_remove(0))
}

fn clip(inner: &Inner, range: &Range<u64>) -> Range<u64> {
    range.start.max(inner.view.first)..range.end.min(inner.view.end())
}

fn plan(inner: &Inner, range: Range<u64>, bytes_max: u64) -> Plan {
    let range = clip(inner, &range);
    let mut plan = Plan {
        runs: Vec::new(),
        cached: Vec::new(),
    };
    let mut bytes: u64 = 0;
    for index in range {
        let found = inner.cache.get(index);
        let place = match found {
            Some(_) => None,
            None => Some(
                inner
                    .index
                    .get(index)
                    .expect("what is not in memory is on the disk"),
            ),
        };
        let on_disk = |place: Place| place.end() - place.start() - (HEADER_LEN + ENTRY_LEN) as u64;
        let length =
            found.map_or_else(|| place.map_or(0, on_disk), |entry| entry.body.len() as u64);
        if bytes > 0 && bytes + length > bytes_max {
            break;
        }
        // An empty body counts too, so that a bound holds for any number of them.
        bytes += length.max(1);
        match (found, place) {
            (Some(entry), _) => plan.cached.push(entry.clone()),
            (None, Some(place)) => plan.add(inner, index, place),
            (None, None) => unreachable!("an entry without a place was found"),
        }
    }
    plan
}

impl Plan {
    fn add(&mut self, inner: &Inner, index: u64, place: Place) {
        if let Some(run) = self.runs.last_mut() {
            let (first, last) = (run.places[0], run.places[run.places.len() - 1]);
            let near =
                last.segment() == place.segment() && place.start() - last.end() <= GAP_BYTES_MAX;
            if near && place.end() - first.start() <= RUN_BYTES_MAX {
                run.places.push(place);
                return;
            }
        }
        let file = inner
            .files
            .get(&place.segment())
            .expect("an entry's segment is open");
        self.runs.push(Run {
            first: index,
            places: vec![place],
            file: file.clone(),
        });
    }
}

fn read_run(run: &Run, entries: &mut Vec<LogEntry>) -> io::Result<()> {
    let (first, last) = (run.places[0], run.places[run.places.len() - 1]);
    let length = usize::try_from(last.end() - first.start()).map_err(io::Error::other)?;
    let mut buffer = vec![0; length];
    let read = run.file.read(first.start(), &mut buffer)?;
    buffer.truncate(read);
    let buffer = Bytes::from(buffer);
    for (place, index) in run.places.iter().zip(run.first..) {
        let at = usize::try_from(place.start() - first.start()).map_err(io::Error::other)?;
        let entry = match read_entry(&buffer, at) {
            Ok((entry, _)) if entry.id.index == index => Ok(entry),
            Ok(_) => Err("another entry"),
            Err(reason) => Err(reason),
        };
        entries.push(entry.map_err(|reason| {
            let name = segment_name(place.segment());
            let text = format!(
                "entry {index} is damaged on the disk: file {name}, offset {}: {reason}",
                place.start()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?);
    }
    Ok(())
}
