//! Applying entries: the machine decides against the state in memory, and what it decided is written in one batch.
//!
//! The state in memory is locked for writing while one entry is applied, and not while the batch is built and written: so
//! readers wait for an entry at most, and never see part of one. What they see may not be in the tables yet; until it is, they
//! find it in the overlay. That is sound because the entries are committed: what the tables lose in a crash is applied again.

use std::sync::Arc;
use std::time::Instant;

use super::ahead::Ahead;
use super::core::{Core, Writer, Written, lock};
use super::db::{Batch, Table};
use super::journal::EntryRows;
use super::keys::Keys;
use super::layout::{account_id_key, ledger_account_key, parse_kv};
use super::live::{Live, Overlay, Reach, slot};
use super::meta::{self, AppliedRow, MembershipRow};
use super::stats::Counters;
use crate::machine::id::{AccountNumber, LedgerNumber};
use crate::machine::{
    Account, Answer, Fault, KvMeta, Ledger, NewTransfer, OldAnswer, Outcome, Position, Record,
    Reply, Store,
};
use crate::mutants::{self, Mutant};
use crate::storage::{Kind, LogEntry};

impl Core {
    /// Applies `entries` and writes them; then begins a seal if one is due.
    pub(super) fn apply(self: &Arc<Core>, entries: &[LogEntry]) -> Result<Vec<Vec<Reply>>, Fault> {
        let mut writer = lock(&self.writer);
        let applied = self.apply_all(&mut writer, entries).and_then(|replies| {
            self.seal_if_due(&mut writer)?;
            Ok(replies)
        });
        applied.map_err(|fault| self.fail(fault))
    }

    fn apply_all(
        &self,
        writer: &mut Writer,
        entries: &[LogEntry],
    ) -> Result<Vec<Vec<Reply>>, Fault> {
        self.check()?;
        let mut replies = Vec::with_capacity(entries.len());
        let mut membership_changed = false;
        for entry in entries {
            replies.push(self.apply_one(writer, entry)?);
            membership_changed |= entry.kind == Kind::Membership;
            // A node that catches up is handed thousands of entries: a batch ends between any two of them.
            if self.read()?.overlay.bytes >= self.tuning.batch_bytes_max {
                self.write_out(writer, std::mem::take(&mut membership_changed))?;
            }
        }
        if !entries.is_empty() {
            self.write_out(writer, membership_changed)?;
        }
        Ok(replies)
    }

    fn apply_one(&self, writer: &mut Writer, entry: &LogEntry) -> Result<Vec<Reply>, Fault> {
        let index = entry.id.index;
        let (last, last_time_ns, digest) = {
            let applied = lock(&self.applied);
            (applied.log_id, applied.time_ns, applied.digest)
        };
        if last.is_some_and(|last| index <= last.index) {
            return Err(Fault::new(format!(
                "log entry {index} is to be applied after entry {last:?}"
            )));
        }
        let mut replies = Vec::new();
        match entry.kind {
            Kind::Blank | Kind::Membership => self.write()?.index = index,
            Kind::Commands => {
                let rows = writer.spare.pop().unwrap_or_default().restart(index);
                let start = Instant::now();
                let (outcome, rows) = self.decide(entry, rows, last_time_ns, &mut writer.keys)?;
                let decided = Counters::since(&self.counters.decide_ns, start);
                replies = outcome.replies;
                let digest = rows.digest(&digest);
                Counters::since(&self.counters.digest_ns, decided);
                Counters::add(&self.counters.entries, 1);
                let mut applied = lock(&self.applied);
                applied.time_ns = outcome.time_ns;
                applied.digest = digest;
            }
        }
        let mut applied = lock(&self.applied);
        applied.log_id = Some(entry.id);
        if entry.kind == Kind::Membership {
            applied.membership = Some(entry.body.clone());
        }
        Ok(replies)
    }

    /// Has the machine apply an entry of commands, and publishes the result.
    fn decide(
        &self,
        entry: &LogEntry,
        rows: EntryRows,
        last_time_ns: u64,
        keys: &mut Keys,
    ) -> Result<(Outcome, Arc<EntryRows>), Fault> {
        let index = entry.id.index;
        if index == 0 {
            return Err(Fault::new(
                "log entry 0 has commands; it must be a membership",
            ));
        }
        let mut live = self.write()?;
        let slots_before = live.recents.next_slot();
        let mut applier = Applier {
            core: self,
            live: &mut live,
            keys,
            rows,
            ahead: Ahead::default(),
        };
        let decided = crate::machine::apply(&entry.body, index, last_time_ns, &mut applier);
        let mut rows = applier.rows;
        match decided {
            Ok(outcome) => {
                rows.time_ns = outcome.time_ns;
                let rows = Arc::new(rows);
                Counters::add(
                    &self.counters.transfers,
                    live.recents.next_slot() - slots_before,
                );
                live.end_entry(index, outcome.time_ns);
                live.overlay.bytes += rows.bytes();
                live.overlay.entries.insert(index, Arc::clone(&rows));
                Ok((outcome, rows))
            }
            Err(fault) => {
                live.broken = true;
                Err(fault)
            }
        }
    }

    /// Writes the overlay to the tables in one batch, and empties it.
    fn write_out(&self, writer: &mut Writer, membership_changed: bool) -> Result<(), Fault> {
        let start = Instant::now();
        let mut batch = self.db.batch();
        let journal_bytes = {
            // Only this thread changes the state, so readers may go on meanwhile.
            let live = self.read()?;
            put_rows(&mut batch, &live);
            let journal_bytes = put_journal(&mut batch, &live.overlay);
            if !live.overlay.answers.in_order.is_empty() {
                live.overlay.answers.put(&mut batch);
                meta::put(&mut batch, &live.answers.row);
            }
            let applied = lock(&self.applied);
            let row = AppliedRow {
                log_id: applied.log_id,
                time_ns: applied.time_ns,
                digest: applied.digest,
                accounts: live.account_count(),
                ledgers: live.ledger_count(),
            };
            meta::put(&mut batch, &row);
            if mutants::on(Mutant::StateNotAtomic) {
                let mut early = self.db.batch();
                meta::put(&mut early, &row);
                self.db.write(early)?;
                self.db.flush()?;
            }
            if let (true, Some(membership)) = (membership_changed, &applied.membership) {
                meta::put(&mut batch, &MembershipRow(membership.to_vec()));
            }
            journal_bytes
        };
        let encoded = Counters::since(&self.counters.encode_ns, start);
        self.point("apply:decided")?;
        self.db.write(batch)?;
        Counters::since(&self.counters.write_ns, encoded);
        Counters::add(&self.counters.journal_bytes, journal_bytes);
        self.point("apply:written")?;
        writer.journal_bytes += journal_bytes;
        let overlay = std::mem::take(&mut self.write()?.overlay);
        let written = Written {
            index: self.read()?.index,
            log_id: lock(&self.applied).log_id,
        };
        self.advance_written(written);
        for (key, cell) in &overlay.kv {
            writer.keys.set(key, cell.as_ref().map(|cell| cell.meta));
        }
        let mut names = lock(&self.names);
        overlay
            .accounts
            .iter()
            .for_each(|(id, number)| names.insert(id, *number));
        writer.spare.extend(
            overlay
                .entries
                .into_values()
                .filter_map(Arc::into_inner)
                .take(2),
        );
        writer.spare.truncate(2);
        Ok(())
    }
}

fn put_rows(batch: &mut Batch<'_>, live: &Live) {
    for (number, row) in &live.overlay.account_rows {
        batch.put(Table::Accounts, &number.to_be_bytes(), &row.encode());
        batch.put(
            Table::AccountIds,
            &account_id_key(&row.id),
            &number.to_le_bytes(),
        );
        batch.put(
            Table::AccountIds,
            &ledger_account_key(row.ledger, &row.id),
            &number.to_le_bytes(),
        );
    }
    if let Some(first) = live.overlay.ledgers_from {
        for (ledger, number) in live.ledgers[slot(first.into())..].iter().zip(first..) {
            batch.put(
                Table::Ledgers,
                &number.to_be_bytes(),
                &ledger.fixed.encode(),
            );
        }
    }
    for (key, cell) in &live.overlay.kv {
        match cell {
            Some(cell) => batch.put(Table::Kv, key.as_bytes(), &cell.encode()),
            None => batch.delete(Table::Kv, key.as_bytes()),
        }
    }
}

/// Returns the bytes put.
fn put_journal(batch: &mut Batch<'_>, overlay: &Overlay) -> u64 {
    let mut value = Vec::new();
    let mut bytes = 0;
    for rows in overlay.entries.values() {
        let mut from = Some(0);
        while let Some(start) = from {
            let (key, next) = rows.chunk(start, &mut value);
            batch.put(Table::Journal, &key, &value);
            bytes += (key.len() + value.len()) as u64;
            from = next;
        }
    }
    bytes
}

/// The state as the machine changes it: memory first, the tables for what is old.
struct Applier<'a> {
    core: &'a Core,
    live: &'a mut Live,
    keys: &'a mut Keys,
    /// What this entry journaled so far.
    rows: EntryRows,
    ahead: Ahead,
}

impl Live {
    /// Ledgers created so far.
    pub(super) fn ledger_count(&self) -> LedgerNumber {
        LedgerNumber::try_from(self.ledgers.len()).expect("ledgers are numbered in a u32")
    }

    /// Accounts created so far.
    pub(super) fn account_count(&self) -> AccountNumber {
        self.accounts.len() as AccountNumber
    }
}

impl Store for Applier<'_> {
    fn ledger_count(&self) -> LedgerNumber {
        self.live.ledger_count()
    }

    #[inline]
    fn ledger(&self, number: LedgerNumber) -> Option<Ledger> {
        Some(self.live.ledger(number)?.ledger)
    }

    fn ledger_asset(&self, number: LedgerNumber) -> Option<&str> {
        Some(&self.live.ledger(number)?.fixed.asset)
    }

    fn find_ledger(&self, id: &str) -> Option<LedgerNumber> {
        self.live.ledger_numbers.get(id).copied()
    }

    fn account_count(&self) -> AccountNumber {
        self.live.account_count()
    }

    #[inline]
    fn account(&self, number: AccountNumber) -> Option<Account> {
        Some(self.live.account(number)?.account())
    }

    fn find_account(&mut self, id: &str) -> Result<Option<AccountNumber>, Fault> {
        match self.live.overlay.accounts.get(id) {
            Some(number) => Ok(Some(*number)),
            None => self.core.find_account(id),
        }
    }

    fn account_id(&mut self, number: AccountNumber) -> Result<String, Fault> {
        match self.live.overlay.account_rows.get(&number) {
            Some(row) => Ok(row.id.clone()),
            None => Ok(self.core.account_fixed(number)?.id),
        }
    }

    fn expect(&mut self, batch: &[NewTransfer<'_>]) -> Result<(), Fault> {
        self.ahead.expect(self.core, self.live, batch)
    }

    #[inline]
    fn find_transfer(&mut self, id: &str) -> Result<Option<Position>, Fault> {
        self.core.counters.id_check(|| {
            let hash = self.live.seed.hash(id.as_bytes());
            self.ahead.asked(self.live, hash);
            if let Some(at) = self.live.find_recent(hash, id) {
                return Ok(Some(at));
            }
            match self.ahead.sealed(id) {
                Some(at) => Ok(at),
                None => self.core.find_sealed(&self.live.filter, hash, id),
            }
        })
    }

    fn record(&mut self, at: Position) -> Result<Vec<u8>, Fault> {
        let rows = if at.index == self.rows.index {
            Some(&self.rows)
        } else {
            self.live.overlay.entries.get(&at.index).map(Arc::as_ref)
        };
        match rows {
            Some(rows) => rows.record(at.record).map(<[u8]>::to_vec).ok_or_else(|| {
                Fault::new(format!("record {}.{} does not exist", at.index, at.record))
            }),
            None => Ok(self.core.journal_record(at)?.1),
        }
    }

    fn kv(&mut self, key: &str) -> Result<Option<KvMeta>, Fault> {
        if let Some(cell) = self.live.overlay.kv.get(key) {
            return Ok(cell.as_ref().map(|cell| cell.meta));
        }
        if let Some(meta) = self.keys.get(key) {
            return Ok(Some(meta));
        }
        let Some(row) = self.core.db.get(Table::Kv, key.as_bytes())? else {
            return Ok(None);
        };
        let damaged = || {
            self.core
                .db
                .damaged(Table::Kv, format_args!("row of {key:?}"))
        };
        let (meta, _) = parse_kv(&row).ok_or_else(damaged)?;
        self.keys.set(key, Some(meta));
        Ok(Some(meta))
    }

    fn find_answer(&mut self, key: &str) -> Result<Option<Answer>, Fault> {
        self.core.find_answer(self.live, key)
    }

    fn answer_count(&self) -> u64 {
        self.live.answers.row.count
    }

    fn oldest_answer_ns(&mut self) -> Result<Option<u64>, Fault> {
        self.core.oldest_answer_ns(self.live)
    }

    fn oldest_answers(&mut self, until_ns: u64, max: u32) -> Result<Vec<OldAnswer>, Fault> {
        self.core.oldest_answers(self.live, until_ns, max)
    }

    #[inline]
    fn append(&mut self, record: &Record<'_>) -> Result<Position, Fault> {
        let at = self.rows.push(record);
        self.live.derive(record, at, Reach::APPLY)?;
        Ok(at)
    }

    fn mark(&self) -> u32 {
        self.rows.len()
    }

    fn undo_to(&mut self, mark: u32) -> Result<(), Fault> {
        while self.rows.len() > mark {
            let newest = self.rows.len() - 1;
            let bytes = self
                .rows
                .record(newest)
                .expect("records are counted without gaps");
            let Record::Transfer(transfer) = Record::decode(bytes).expect("append() encoded it")
            else {
                panic!("only transfers are taken back");
            };
            self.live.undo(&transfer);
            self.rows.pop();
        }
        Ok(())
    }
}
