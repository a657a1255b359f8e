//! Deriving everything again from the journal's first entry.

use std::collections::BTreeMap;

use super::super::core::Loaded;
use super::super::db::{Db, Range, Table};
use super::super::filter::Segment;
use super::super::hash::Seed;
use super::super::journal::{Chunk, Trail};
use super::super::layout::{
    IdKey, answer_key, answer_order_key, answer_row, old_answer_row, position,
};
use super::super::live::{Live, Reach};
use super::super::load::Stamps;
use super::VerifyReport;
use crate::machine::{Answer, Fault, OldAnswer, Position, Record, TransferRecord, digest};

/// Ids looked up at once.
const IDS_AT_ONCE: usize = 8192;

/// What the journal gives.
pub(super) struct Rebuilt {
    pub(super) live: Live,
    /// Every key with its row.
    pub(super) keys: BTreeMap<KeyHash, RowHash>,
    /// By its place, the rows of every answer held under an idempotency key.
    pub(super) answers: BTreeMap<Position, AnswerRows>,
    /// By account number - 1: its sealed postings.
    pub(super) history: Vec<History>,
    /// Filters over sealed ids, each as large as the one stored.
    pub(super) segments: Vec<Segment>,
    /// Over the hashes in the last of them, in the order of their ids' records.
    pub(super) hashes: u64,
    /// Transfers that ought to be in the table of ids.
    pub(super) sealed_transfers: u64,
}

/// A key, as much of it as tells it from another: there may be more keys than memory has room for.
pub(super) type KeyHash = [u8; 10];

/// A row, as much of it as tells whether it is the right one.
pub(super) type RowHash = [u8; 6];

/// The two rows of an answer, with their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerRows {
    pub(super) by_key: [u8; 8],
    pub(super) in_order: [u8; 8],
}

/// A sequence of positions, as much of it as tells it from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    count: u64,
    hash: u64,
}

impl History {
    pub(super) fn push(&mut self, seed: Seed, at: Position) {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..].copy_from_slice(&position(at));
        *self = History {
            count: self.count + 1,
            hash: seed.hash(&bytes),
        };
    }
}

/// Follows the journal.
struct Rebuild<'a> {
    db: &'a Db,
    loaded: Option<&'a Loaded>,
    sealed: u64,
    rebuilt: Rebuilt,
    /// Sealed transfers not looked up yet.
    ids: Vec<(String, Position)>,
    /// Ids in the last of the segments.
    segment_ids: usize,
}

/// Derives everything from the journal and looks up each sealed id on the way. Ends at the first record that cannot be.
pub(super) fn rebuild(
    db: &Db,
    stamps: &Stamps,
    loaded: Option<&Loaded>,
    report: &mut VerifyReport,
) -> Result<Rebuilt, Fault> {
    let live = Live::new(stamps.origin.seed);
    let rebuilt = Rebuilt {
        live,
        keys: BTreeMap::new(),
        answers: BTreeMap::new(),
        history: Vec::new(),
        segments: Vec::new(),
        hashes: 0,
        sealed_transfers: 0,
    };
    let mut rebuild = Rebuild {
        db,
        loaded,
        sealed: stamps.sealed.transfers.index,
        rebuilt,
        ids: Vec::new(),
        segment_ids: 0,
    };
    let mut trail = Trail::after(0, digest::GENESIS);
    let mut rows = db.rows(Table::Journal, Range::whole(&[]), None);
    loop {
        let followed = match rows.next() {
            Ok(Some((key, value))) => Chunk::parse(key, value).and_then(|chunk| {
                trail.follow(&chunk)?;
                report.entries += u64::from(chunk.last);
                rebuild.chunk(&chunk, report)
            }),
            Ok(None) => break,
            Err(fault) => Err(fault.what),
        };
        if let Err(what) = followed {
            report.problem(format!("journal: {what}; nothing after it was checked"));
            break;
        }
        if rebuild.ids.len() >= IDS_AT_ONCE {
            rebuild.look_up(report)?;
        }
    }
    rebuild.look_up(report)?;
    if let Err(what) = trail.end() {
        report.problem(format!("journal: {what}"));
    }
    report.digest = trail.digest;
    report.compare("digest", stamps.applied.digest, trail.digest);
    report.compare("log time", stamps.applied.time_ns, trail.time_ns);
    Ok(rebuild.rebuilt)
}

impl Rebuild<'_> {
    fn chunk(&mut self, chunk: &Chunk<'_>, report: &mut VerifyReport) -> Result<(), String> {
        let live = &mut self.rebuilt.live;
        for (at, bytes) in chunk.records() {
            let wrong = |what: String| format!("record {}.{}: {what}", at.index, at.record);
            let record = Record::decode(bytes).map_err(wrong)?;
            check(live, &record).map_err(wrong)?;
            let reach = Reach {
                rows: true,
                recents: false,
                exact: true,
            };
            live.derive(&record, at, reach)
                .map_err(|fault| wrong(fault.what))?;
            report.records += 1;
            if let Record::Transfer(transfer) = record {
                report.transfers += 1;
                report.refused += u64::from(transfer.refusal != 0);
                self.rebuilt
                    .history
                    .resize(live.accounts.len(), History::default());
                if at.index <= self.sealed {
                    self.rebuilt.sealed_transfers += 1;
                    self.ids.push((transfer.id.to_owned(), at));
                    if transfer.refusal == 0 {
                        for account in [transfer.debit, transfer.credit] {
                            self.rebuilt.history[super::super::live::slot(account)]
                                .push(live.seed, at);
                        }
                    }
                } else if let Some(loaded) = self.loaded {
                    let hash = live.seed.hash(transfer.id.as_bytes());
                    let found = loaded.live.find_recent(hash, transfer.id);
                    report.compare(
                        &format!("recent transfer {:?}", transfer.id),
                        found,
                        Some(at),
                    );
                }
            }
        }
        live.end_entry(chunk.index, chunk.time_ns);
        if chunk.last {
            self.take_rows(report);
        }
        Ok(())
    }

    /// Adds an id to the filters, as long as there is one stored that it belongs to.
    fn filter(&mut self, id: &str) {
        let Some(stored) = self.loaded.map(|loaded| &loaded.live.filter.segments) else {
            return;
        };
        let full = |segments: &[Segment]| {
            segments
                .last()
                .is_none_or(|last| self.segment_ids >= last.capacity())
        };
        if full(&self.rebuilt.segments) {
            let Some(next) = stored.get(self.rebuilt.segments.len()) else {
                return;
            };
            self.rebuilt.segments.push(Segment::new(next.capacity()));
            (self.segment_ids, self.rebuilt.hashes) = (0, 0);
        }
        let hash = self.rebuilt.live.seed.hash(id.as_bytes());
        self.rebuilt
            .segments
            .last()
            .expect("there is one with room")
            .insert(hash);
        self.segment_ids += 1;
        self.rebuilt.hashes = chain(self.rebuilt.live.seed, self.rebuilt.hashes, hash);
    }

    /// Compares the fixed rows an entry asks for, and notes its keys.
    fn take_rows(&mut self, report: &mut VerifyReport) {
        let overlay = std::mem::take(&mut self.rebuilt.live.overlay);
        for (number, row) in &overlay.account_rows {
            let found = self.db.get(Table::Accounts, &number.to_be_bytes());
            let found = found
                .map(|value| value.map(|value| value.to_vec()))
                .map_err(|fault| fault.what);
            report.compare(
                &format!("row of account {number}"),
                found,
                Ok(Some(row.encode())),
            );
        }
        for (at, old) in overlay.answers.in_order {
            match old {
                Some(old) => {
                    // If the key was forgotten and used again within one entry, only the newer one is by key.
                    let newest = overlay.answers.by_key.get(&old.key).copied().flatten();
                    if let Some(answer) = newest.filter(|answer| answer.at == at) {
                        let rows = answer_rows(&old, &answer);
                        self.rebuilt.answers.insert(at, rows);
                    }
                }
                None => {
                    self.rebuilt.answers.remove(&at);
                }
            }
        }
        for (key, cell) in overlay.kv {
            let key = key_hash(key.as_bytes());
            match cell {
                Some(cell) => self.rebuilt.keys.insert(key, row_hash(&cell.encode())),
                None => self.rebuilt.keys.remove(&key),
            };
        }
    }

    /// Looks up the ids collected.
    fn look_up(&mut self, report: &mut VerifyReport) -> Result<(), Fault> {
        let ids = std::mem::take(&mut self.ids);
        ids.iter().for_each(|(id, _)| self.filter(id));
        let keys = ids
            .iter()
            .map(|(id, at)| (IdKey::new(id.as_bytes()), id, *at));
        let mut keyed: Vec<(IdKey, &String, Position)> = keys.collect();
        keyed.sort_unstable_by(|(a, _, _), (b, _, _)| a.as_bytes().cmp(b.as_bytes()));
        let keys = keyed.iter().map(|(key, _, _)| key.as_bytes());
        let found = self.db.get_sorted(Table::Ids, keys)?;
        for ((_, id, at), found) in keyed.iter().zip(found) {
            let found = found.map(|value| value.to_vec());
            let wanted = Some(position(*at).to_vec());
            report.compare(&format!("row of transfer {id:?}"), found, wanted);
        }
        Ok(())
    }
}

/// A sequence of hashes, as much of it as tells it from another.
pub(super) fn chain(seed: Seed, before: u64, hash: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&before.to_le_bytes());
    bytes[8..].copy_from_slice(&hash.to_le_bytes());
    seed.hash(&bytes)
}

/// The first bytes of the hash of `parts`, told apart.
fn short_hash<const N: usize>(parts: [&[u8]; 2]) -> [u8; N] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(parts[0].len() as u64).to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// What tells a key from another.
pub(super) fn key_hash(key: &[u8]) -> KeyHash {
    short_hash([key, &[]])
}

/// What tells a row from another of the same key.
pub(super) fn row_hash(row: &[u8]) -> RowHash {
    short_hash([&[], row])
}

/// What tells a row of an answer, with its key, from another.
pub(super) fn answer_hash(key: &[u8], row: &[u8]) -> [u8; 8] {
    short_hash([key, row])
}

fn answer_rows(old: &OldAnswer, answer: &Answer) -> AnswerRows {
    AnswerRows {
        by_key: answer_hash(&answer_key(&old.key), &answer_row(answer)),
        in_order: answer_hash(&answer_order_key(old.at), &old_answer_row(old)),
    }
}

/// That a record fits the state before it, which deriving takes for granted.
fn check(live: &Live, record: &Record<'_>) -> Result<(), String> {
    match record {
        Record::Transfer(transfer) if transfer.refusal == 0 => check_transfer(live, transfer),
        Record::Transfer(_)
        | Record::KvPut { .. }
        | Record::KvDeleted { .. }
        | Record::Answered { .. } => Ok(()),
        Record::AnswerForgotten { key, .. } => (live.answers.row.count > 0)
            .then_some(())
            .ok_or_else(|| format!("forgets {key:?} where nothing is held")),
        Record::LedgerCreated { number, id, .. } => {
            let fits = *number == live.ledger_count() + 1 && !live.ledger_numbers.contains_key(*id);
            fits.then_some(())
                .ok_or_else(|| format!("creates ledger {number} {id:?} out of order or again"))
        }
        Record::AccountCreated {
            number, id, ledger, ..
        } => {
            let fits = *number == live.account_count() + 1 && live.ledger(*ledger).is_some();
            let again = live.overlay.accounts.contains_key(*id);
            (fits && !again)
                .then_some(())
                .ok_or_else(|| format!("creates account {number} {id:?} out of order"))
        }
    }
}

fn check_transfer(live: &Live, transfer: &TransferRecord<'_>) -> Result<(), String> {
    let (Some(debit), Some(credit)) = (live.account(transfer.debit), live.account(transfer.credit))
    else {
        return Err("names an account that does not exist".to_owned());
    };
    if transfer.debit == transfer.credit || debit.ledger != credit.ledger {
        return Err("posts to one account, or to two ledgers".to_owned());
    }
    let (mut debit, mut credit) = (debit.balance, credit.balance);
    debit.debits = debit
        .debits
        .checked_add(transfer.amount)
        .ok_or("overflows the debit account")?;
    credit.credits = credit
        .credits
        .checked_add(transfer.amount)
        .ok_or("overflows the credit account")?;
    if debit != transfer.debit_after || credit != transfer.credit_after {
        return Err("its balances after are not those before and its amount".to_owned());
    }
    Ok(())
}
