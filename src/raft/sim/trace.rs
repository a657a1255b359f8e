//! What happened in a simulation, as one number: two runs of a seed are the same if it is.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// Takes in every event in its order; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    hasher: blake3::Hasher,
    events: u64,
    /// Where each event is written as a line, for people.
    lines: Option<std::io::BufWriter<std::fs::File>>,
}

impl Trace {
    /// A trace, told in the file `path` too if there is one.
    pub(super) fn new(path: Option<&Path>) -> std::io::Result<Trace> {
        let file = path.map(std::fs::File::create).transpose()?;
        let inner = Inner {
            lines: file.map(std::io::BufWriter::new),
            ..Inner::default()
        };
        Ok(Trace(Arc::new(Mutex::new(inner))))
    }

    /// Something happened, `what` of it to be told apart by these numbers.
    pub(super) fn note(&self, what: &str, numbers: &[u64]) {
        let mut inner = self.lock();
        inner.events += 1;
        inner.hasher.update(what.as_bytes());
        for number in numbers {
            inner.hasher.update(&number.to_le_bytes());
        }
        if let Some(lines) = &mut inner.lines {
            writeln!(lines, "{what} {numbers:?}").expect("the trace can be written");
        }
    }

    /// How much happened, and the hash of it.
    pub(super) fn told(&self) -> (u64, String) {
        let inner = self.lock();
        (inner.events, inner.hasher.finalize().to_hex().to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics holding it")
    }
}
