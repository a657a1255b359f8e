//! The one writer of a history.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Instant;

use super::Event;

/// Nanoseconds since the start of the run; never runs backwards.
pub(crate) type Clock = Box<dyn FnMut() -> u64 + Send>;

/// Writes events in the order in which they happen.
///
/// Clock and file share one lock: an event that another thread could know of has a smaller index. A client records its
/// invoke *before* it sends the first byte and its end *after* it has the last one, so that the interval in the history
/// contains the true one.
pub(crate) struct Recorder<W: Write> {
    inner: Mutex<Inner<W>>,
}

struct Inner<W> {
    clock: Clock,
    out: W,
    next_index: u64,
    last_time: u64,
}

impl<W: Write> Recorder<W> {
    /// A recorder on the monotonic clock, which starts now.
    pub(crate) fn new(out: W) -> Recorder<W> {
        let start = Instant::now();
        let nanos = move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Recorder::with_clock(out, Box::new(nanos))
    }

    /// A recorder on another clock, such as a simulated one.
    pub(crate) fn with_clock(out: W, clock: Clock) -> Recorder<W> {
        let inner = Inner {
            clock,
            out,
            next_index: 0,
            last_time: 0,
        };
        Recorder {
            inner: Mutex::new(inner),
        }
    }

    /// Writes one event; returns its index. The index and time that `event` carries are replaced.
    ///
    /// # Errors
    /// When the line cannot be written: the run is then worth nothing and must end.
    pub(crate) fn record(&self, mut event: Event) -> io::Result<u64> {
        let mut inner = self.inner.lock().map_err(|_| poisoned())?;
        // A clock that fell back would make a history that no reader accepts.
        inner.last_time = (inner.clock)().max(inner.last_time);
        (event.index, event.time) = (inner.next_index, inner.last_time);
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        inner.out.write_all(&line)?;
        inner.next_index += 1;
        Ok(event.index)
    }

    /// Ends the history and gives the file back, flushed.
    ///
    /// # Errors
    /// When what is buffered cannot be written.
    pub(crate) fn finish(self) -> io::Result<W> {
        let mut inner = self.inner.into_inner().map_err(|_| poisoned())?;
        inner.out.flush()?;
        Ok(inner.out)
    }
}

fn poisoned() -> io::Error {
    io::Error::other("a thread died while it wrote the history")
}
