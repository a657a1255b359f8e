//! Seals: from time to time the transfers since the last one become sorted rows of the derived tables, in the background.
//!
//! The order of steps, and why a crash between any two is harmless:
//! 1. *Freeze*, between two entries: apply goes on with fresh recents. Everything up to the cut is in the memory tables.
//! 2. Note [`Sealing`] with the end of the cut. Whatever row of this seal survives a crash, this note does too, because it is
//!    written before: to the memory tables before rows that go there, and flushed before files are ingested.
//! 3. If large, flush. Then the journal up to the cut is on the disk before the first ingested row that points into it.
//! 4. Write ids and history, sorted. Rows of a seal depend on its cut alone, and a seal that a crash interrupted is done again
//!    with the same cut, so it puts the same rows over those that survived.
//! 5. Write the pages of balances that changed, each as it is *now*, not as it was at the cut. The copy of
//!    a page may hold effects of entries up to some index E. It goes to the memory tables only after the journal of E did, so
//!    by the atomic flush a page on the disk means E's journal on the disk. Opening then rolls forward at least to E, and
//!    roll-forward sets each account to the balance after its last record. An account with a record after the cut gets the
//!    right balance from that record whatever its page held; one without has not changed since the cut, so its page is right.
//! 6. Add ids to the filters.
//! 7. Stamp what the tables now cover ([`Sealed`]) and take the note back, in one batch, after all rows.
//! 8. Publish: drop the frozen recents. Readers that took them earlier keep them, and read no row beyond their own stamp.

mod balances;
mod filters;
mod transfers;

use std::sync::Arc;
use std::time::Instant;

use super::core::{Core, Writer, lock};
use super::live::Live;
use super::meta::{self, Cut, Sealed, Sealing};
use super::recent::Recents;
use super::stats::Counters;
use crate::machine::Fault;

pub(super) use filters::{Filters, load as load_filters, stored_hashes};

/// What one seal leaves for the next.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The stamp of the last finished seal.
    pub(super) sealed: Sealed,
    /// Pages that changed before the last cut and were not written yet.
    pub(super) dirty: Vec<u64>,
    /// The filters over sealed ids.
    pub(super) filters: Filters,
    /// A seal that a crash interrupted, to be done again.
    pub(super) again: Option<Job>,
    /// Memory of recents that were sealed, for the next ones.
    pub(super) spare: Option<Recents>,
}

/// How many times the room expected memory may have to be used again.
const SPARE_FACTOR_MAX: usize = 4;

/// A seal to be done.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) recents: Arc<Recents>,
    pub(super) cut: Cut,
}

/// Takes the recents of `live` out, to be sealed up to `cut`.
pub(super) fn freeze(live: &mut Live, keeper: &mut Keeper, cut: Cut, expected: usize) -> Job {
    assert!(live.frozen.is_none(), "one seal at a time");
    let base = live.recents.next_slot();
    let fresh = match keeper.spare.take() {
        // Of one that was far larger the memory is given back.
        Some(spare) if spare.capacity() / SPARE_FACTOR_MAX <= expected => spare.reused(base),
        _ => Recents::new(base, expected),
    };
    let recents = Arc::new(std::mem::replace(&mut live.recents, fresh));
    live.frozen = Some(Arc::clone(&recents));
    merge(&mut keeper.dirty, &std::mem::take(&mut live.dirty));
    Job { recents, cut }
}

fn merge(into: &mut Vec<u64>, bits: &[u64]) {
    into.resize(into.len().max(bits.len()), 0);
    into.iter_mut()
        .zip(bits)
        .for_each(|(into, bits)| *into |= bits);
}

impl Core {
    /// Begins a seal if one is due. If one still runs, apply goes on until twice as much is due; then it waits.
    pub(super) fn seal_if_due(self: &Arc<Core>, writer: &mut Writer) -> Result<(), Fault> {
        let recents_bytes = self.read()?.recents.bytes();
        let due = |times: usize| {
            writer.journal_bytes >= self.tuning.seal_journal_bytes.saturating_mul(times as u64)
                || recents_bytes >= self.tuning.seal_recents_bytes.saturating_mul(times)
        };
        if !due(1) || (self.seal_runs() && !due(2)) {
            return Ok(());
        }
        let start = Instant::now();
        self.start_seal(writer)?;
        Counters::since(&self.counters.stall_ns, start);
        Ok(())
    }

    /// Seals everything applied so far and waits for it.
    pub(super) fn seal_now(self: &Arc<Core>) -> Result<(), Fault> {
        self.check()?;
        {
            let mut writer = lock(&self.writer);
            self.start_seal(&mut writer)?;
        }
        self.join_seal()
    }

    /// Does the seal again that a crash interrupted, in the background.
    pub(super) fn resume_seal(self: &Arc<Core>) -> Result<(), Fault> {
        let again = lock(&self.keeper).again.take();
        again.map_or(Ok(()), |job| self.spawn_seal(job))
    }

    /// Whether a seal runs.
    fn seal_runs(&self) -> bool {
        lock(&self.seal_thread)
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for the running seal.
    pub(super) fn join_seal(&self) -> Result<(), Fault> {
        let thread = lock(&self.seal_thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            return Err(self.fail(Fault::new("the thread of a seal panicked")));
        }
        self.check()
    }

    fn start_seal(self: &Arc<Core>, writer: &mut Writer) -> Result<(), Fault> {
        self.join_seal()?;
        let applied = lock(&self.applied).clone();
        let job = {
            let mut keeper = lock(&self.keeper);
            let mut live = self.write()?;
            let cut = Cut {
                index: live.index,
                time_ns: applied.time_ns,
                digest: applied.digest,
                accounts: live.account_count(),
                ledgers: live.ledger_count(),
            };
            // The next seal will be about as large as this one: memory that is reserved now does not move later.
            let expected = live.recents.len();
            freeze(&mut live, &mut keeper, cut, expected)
        };
        writer.journal_bytes = 0;
        self.spawn_seal(job)
    }

    fn spawn_seal(self: &Arc<Core>, job: Job) -> Result<(), Fault> {
        let core = Arc::clone(self);
        let run = move || {
            let start = Instant::now();
            match core.seal(&job) {
                Ok(()) => {
                    // Unless a reader still holds them.
                    lock(&core.keeper).spare = Arc::into_inner(job.recents);
                    Counters::add(&core.counters.seals, 1);
                }
                Err(fault) => drop(core.fail(fault)),
            }
            Counters::since(&core.counters.seal_ns, start);
        };
        let thread = std::thread::Builder::new()
            .name("seal".to_owned())
            .spawn(run)
            .map_err(|error| Fault::new(format!("start of the thread that seals: {error}")))?;
        *lock(&self.seal_thread) = Some(thread);
        Ok(())
    }

    fn seal(&self, job: &Job) -> Result<(), Fault> {
        let mut keeper = lock(&self.keeper);
        let keeper = &mut *keeper;
        let large = job.recents.len() >= self.tuning.ingest_transfers_min;
        self.point("seal:begin")?;
        let mut batch = self.db.batch();
        meta::put(&mut batch, &Sealing { to: job.cut.index });
        self.db.write(batch)?;
        self.point("seal:noted")?;
        if large {
            self.flush()?;
            self.point("seal:flushed")?;
        }
        transfers::write_ids(self, &job.recents, large)?;
        self.point("seal:ids")?;
        transfers::write_history(self, &job.recents, large)?;
        self.point("seal:history")?;
        let mut sealed = Sealed {
            transfers: job.cut,
            seals: keeper.sealed.seals + 1,
            ..keeper.sealed
        };
        if sealed.seals.is_multiple_of(self.tuning.balances_every) {
            balances::write(self, &std::mem::take(&mut keeper.dirty))?;
            sealed.balances = job.cut;
            self.point("seal:balances")?;
        }
        let mut batch = self.db.batch();
        keeper
            .filters
            .add(self, &job.recents, &mut sealed, &mut batch)?;
        self.point("seal:filters")?;
        meta::put(&mut batch, &sealed);
        meta::delete::<Sealing>(&mut batch);
        self.db.write(batch)?;
        self.point("seal:stamped")?;
        keeper.sealed = sealed;
        {
            let mut live = self.write()?;
            live.filter = keeper.filters.published();
            live.sealed = job.cut.index;
            live.frozen = None;
        }
        self.point("seal:published")
    }
}
