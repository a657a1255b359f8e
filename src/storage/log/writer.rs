//! The log's one writer: takes everything queued, has it written and synced, and tells who waits.
//!
//! A simulation calls [`Writer::step`] itself; otherwise a thread runs it, and another one the chores.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::chores::{Chores, Outcome};
use super::disk::Disk;
use super::shared::{Batch, Shared, Wake};
use super::wal::{Wal, Written};
use crate::mutants::{self, Mutant};
use crate::storage::clock::now;

/// The writer of one log.
pub struct Writer<D: Disk> {
    wal: Wal<D>,
    shared: Arc<Shared>,
    chores: Option<ChoreThread<D>>,
    /// Taken from the queue, not written yet.
    begun: Option<Batch>,
    witness_synced: Instant,
    witness_sync: Duration,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(wal: Wal<D>, shared: Arc<Shared>) -> Writer<D> {
        Writer {
            witness_sync: wal.options.witness_sync,
            wal,
            shared,
            chores: None,
            begun: None,
            witness_synced: now(),
        }
    }

    /// Writes everything queued and tells who waits for it. Chores are done too.
    ///
    /// # Errors
    /// If the log failed, now or before. Everybody was told, and nothing is written any more.
    pub fn step(&mut self) -> io::Result<()> {
        self.begin();
        if mutants::on(Mutant::AckBeforeSync) || mutants::on(Mutant::VoteNotSynced) {
            // As on a slow disk: what is lost with the power is more than one write.
            thread::sleep(Duration::from_millis(20));
        }
        self.end()
    }

    /// Takes everything queued. First half of a step, for a disk that takes its time.
    pub fn begin(&mut self) {
        let mut batch = self.take();
        if mutants::on(Mutant::AckBeforeSync) {
            for done in std::mem::take(&mut batch.waiting) {
                done(Ok(()));
            }
        }
        self.begun = Some(batch);
    }

    /// Writes what was taken and tells who waits for it: second half.
    ///
    /// # Errors
    /// As [`Writer::step`].
    pub fn end(&mut self) -> io::Result<()> {
        if let Some(batch) = self.begun.take() {
            let result = self.write(&batch);
            self.finish(batch, result)?;
        }
        self.do_chores()
    }

    /// What a process leaves that dies in the middle of a write: whatever the disk still takes is written, nobody is told.
    /// Whether anything was.
    pub fn tear(&mut self) -> bool {
        let torn = self.begun.take().map(|batch| self.write(&batch));
        torn.is_some()
    }

    /// Whether [`Writer::step`] has something to do now: somebody waits for a write, or what nobody waits for is due.
    pub fn is_due(&self) -> bool {
        self.shared.is_due(self.witness_sync)
    }

    /// Whether [`Writer::sync_witness`] is due.
    pub fn is_witness_due(&self) -> bool {
        self.wal.is_witness_dirty() && now() - self.witness_synced >= self.witness_sync
    }

    /// Syncs the witness, as is due every [`witness_sync`](super::Options::witness_sync).
    ///
    /// # Errors
    /// If the log failed.
    pub fn sync_witness(&mut self) -> io::Result<()> {
        self.witness_synced = now();
        let result = self.wal.sync_witness();
        self.checked(result)
    }

    /// Takes the queue, first part of a step. Who waits is taken along, so that nobody is told of a sync that began
    /// before his write.
    pub(super) fn take(&mut self) -> Batch {
        self.shared.take()
    }

    /// Writes it: second part.
    pub(super) fn write(&mut self, batch: &Batch) -> io::Result<Written> {
        let began = now();
        let written = self.wal.write_group(&batch.ops);
        if !batch.ops.is_empty() {
            self.shared.writes.record(now() - began);
        }
        written
    }

    /// Tells what came of it: last part.
    pub(super) fn finish(&mut self, batch: Batch, result: io::Result<Written>) -> io::Result<()> {
        match result {
            Ok(written) => {
                self.shared.complete(&batch, written);
                for done in batch.waiting {
                    done(Ok(()));
                }
                Ok(())
            }
            Err(error) => {
                let later = self.shared.fail(&error);
                for done in batch.waiting.into_iter().chain(later) {
                    done(Err(io::Error::new(error.kind(), error.to_string())));
                }
                Err(error)
            }
        }
    }

    /// Fails the log if `result` is an error.
    fn checked<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            for done in self.shared.fail(error) {
                done(Err(io::Error::new(error.kind(), error.to_string())));
            }
        }
        result
    }

    fn do_chores(&mut self) -> io::Result<()> {
        let result = match &self.chores {
            Some(thread) => {
                let mut finished = thread.finished.try_iter();
                let result = finished.try_for_each(|result| self.wal.chores_done(result));
                if let (Some(chores), Some(todo)) = (self.wal.take_chores(), &thread.todo) {
                    // If its thread is gone there is no spare, and the writer makes segments itself.
                    let _ = todo.send(chores);
                }
                result
            }
            None => match self.wal.take_chores() {
                Some(chores) => self.wal.chores_done(chores.run()),
                None => Ok(()),
            },
        };
        self.checked(result)
    }

    /// Runs until the log is closed or fails, on a thread of its own.
    pub(super) fn spawn(mut self) -> io::Result<JoinHandle<()>> {
        self.chores = Some(ChoreThread::spawn()?);
        let shared = self.shared.clone();
        let main = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
            if ended.is_err() {
                // Nobody may wait for ever for a writer that is gone.
                let error = io::Error::other("the log's writer panicked");
                for done in shared.fail(&error) {
                    done(Err(io::Error::other(error.to_string())));
                }
            }
        };
        thread::Builder::new()
            .name("quorate-log".to_owned())
            .spawn(main)
    }

    fn run(mut self) {
        let result = self.run_until_closed();
        self.chores = None;
        match result {
            Ok(()) => {
                let result = self.wal.close();
                if let Err(error) = result {
                    tracing::error!(%error, "cannot close the log in good order");
                }
            }
            Err(error) => tracing::error!(%error, "the log failed"),
        }
    }

    fn run_until_closed(&mut self) -> io::Result<()> {
        loop {
            let dirty = self.wal.is_witness_dirty();
            let witness_due = dirty.then(|| self.witness_synced + self.witness_sync);
            match self.shared.wait(witness_due, self.witness_sync) {
                Wake::Work => self.step()?,
                Wake::Idle => {
                    self.step()?;
                    self.sync_witness()?;
                }
                Wake::Stop => return self.step(),
            }
            if self.is_witness_due() {
                self.sync_witness()?;
            }
        }
    }
}

/// Does chores beside the writer.
struct ChoreThread<D: Disk> {
    todo: Option<mpsc::Sender<Chores<D>>>,
    finished: mpsc::Receiver<io::Result<Outcome>>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Disk> ChoreThread<D> {
    fn spawn() -> io::Result<ChoreThread<D>> {
        let (todo, inbox) = mpsc::channel::<Chores<D>>();
        let (outbox, finished) = mpsc::channel();
        let main = move || {
            for chores in inbox {
                if outbox.send(chores.run()).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("quorate-log-aux".to_owned())
            .spawn(main)?;
        Ok(ChoreThread {
            todo: Some(todo),
            finished,
            thread: Some(thread),
        })
    }
}

impl<D: Disk> Drop for ChoreThread<D> {
    /// Ends the thread: whoever opens the directory next must not meet it.
    fn drop(&mut self) {
        self.todo = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares the log's segments panicked");
        }
    }
}
