//! Checking a stopped node's state: the journal against its checksums and digests, everything derived against the journal.
//!
//! The journal is the truth. It is read from its first entry and derived into fresh memory with the same code that apply uses;
//! what opening the database would give must be equal, and every row of every derived table must be the one the journal
//! asks for, no more and no fewer. Nothing on the disk is changed.

mod rebuild;
mod tables;

use std::path::Path;

use super::core::{Loaded, Tuning};
use super::db::{Access, Db};
use super::load::{self, Stamps};
use super::{LedgerSummary, Options, State, Summary, dirs};
use crate::machine::Fault;
use crate::storage::LogId;
use crate::storage::identity::OpenError;

/// Most problems that are described.
const PROBLEMS_MAX: usize = 100;
/// Block cache while verifying: most reads are scans.
const CACHE_BYTES: u64 = 64 << 20;

/// What [`State::verify`] saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Last entry applied.
    pub applied: Option<LogId>,
    /// Digest of everything applied, computed again from the journal.
    pub digest: [u8; 32],
    /// Entries in the journal.
    pub entries: u64,
    /// Records in the journal.
    pub records: u64,
    /// Transfers among them, posted or refused.
    pub transfers: u64,
    /// Those of them that were refused for ever.
    pub refused: u64,
    /// Accounts.
    pub accounts: u64,
    /// Ledgers.
    pub ledgers: u64,
    /// Each of them: its accounts, and the sums over their balances.
    pub trial: Vec<LedgerSummary>,
    /// Keys.
    pub keys: u64,
    /// Answers held under idempotency keys.
    pub idempotency_keys: u64,
    /// What is wrong, at most a hundred; empty if all is well.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problem_count == 0
    }

    /// What it counted, as a backup tells it.
    pub fn summary(&self) -> Summary {
        Summary {
            accounts: self.accounts,
            transfers: self.transfers - self.refused,
            refused: self.refused,
            keys: self.keys,
            idempotency_keys: self.idempotency_keys,
            ledgers: self.trial.clone(),
        }
    }

    fn problem(&mut self, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what.into());
        }
    }

    /// Notes a problem unless `found` is `wanted`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers pass what they made for the purpose"
    )]
    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, wanted: T) {
        if found != wanted {
            self.problem(format!("{what}: {found:?}, the journal gives {wanted:?}"));
        }
    }
}

impl State {
    /// Checks the state in `dir`, which no process may be using. Blocking, for as long as reading everything takes.
    ///
    /// # Errors
    /// If there is no state, or it cannot even be opened. What is wrong inside is in the report.
    pub fn verify(dir: &Path) -> Result<VerifyReport, OpenError> {
        let path = dirs::inspect(dir)?;
        let path = path.ok_or_else(|| {
            OpenError(format!("state directory {} holds no state", dir.display()))
        })?;
        let db = Db::open(&path, Access::ReadOnly, CACHE_BYTES)
            .map_err(|fault| OpenError(fault.what))?;
        verify(&db).map_err(|fault| OpenError(fault.what))
    }
}

fn verify(db: &Db) -> Result<VerifyReport, Fault> {
    let tuning = Tuning::new(Options::default());
    let stamps = Stamps::read(db)?;
    let mut report = VerifyReport {
        applied: stamps.applied.log_id,
        ..VerifyReport::default()
    };
    // What a start would serve from.
    let loaded = match load::load(db, &tuning) {
        Ok(loaded) => Some(loaded),
        Err(fault) => {
            report.problem(format!("the state cannot be opened: {}", fault.what));
            None
        }
    };
    let rebuilt = rebuild::rebuild(db, &stamps, loaded.as_ref(), &mut report)?;
    tables::compare(db, &stamps, &rebuilt, &mut report)?;
    report.trial = trial(&rebuilt);
    if let Some(loaded) = &loaded {
        compare_memory(loaded, &rebuilt, &mut report);
        compare_filters(loaded, &rebuilt, &mut report);
    }
    Ok(report)
}

/// The sums over the balances of each ledger's accounts.
fn trial(rebuilt: &rebuild::Rebuilt) -> Vec<LedgerSummary> {
    let ledgers = rebuilt.live.ledgers.iter().map(|ledger| LedgerSummary {
        id: ledger.fixed.id.clone(),
        asset: ledger.fixed.asset.clone(),
        scale: ledger.fixed.scale,
        accounts: 0,
        debits_posted: 0,
        credits_posted: 0,
    });
    let mut ledgers: Vec<LedgerSummary> = ledgers.collect();
    for account in &rebuilt.live.accounts {
        let number = usize::try_from(account.ledger).unwrap_or(usize::MAX);
        let ledger = number.checked_sub(1).and_then(|at| ledgers.get_mut(at));
        let ledger = ledger.expect("the journal creates a ledger before its accounts");
        ledger.accounts += 1;
        // Checked by now: the total of a ledger did not overflow.
        ledger.debits_posted += account.balance.debits;
        ledger.credits_posted += account.balance.credits;
    }
    ledgers
}

/// What opening gives against what the journal gives.
fn compare_memory(loaded: &Loaded, rebuilt: &rebuild::Rebuilt, report: &mut VerifyReport) {
    let (opened, wanted) = (&loaded.live, &rebuilt.live);
    report.compare(
        "accounts in memory",
        opened.accounts.len(),
        wanted.accounts.len(),
    );
    for (number, (opened, wanted)) in (1..).zip(opened.accounts.iter().zip(&wanted.accounts)) {
        report.compare(
            &format!("account {number}"),
            opened.page_row(),
            wanted.page_row(),
        );
    }
    report.compare(
        "ledgers in memory",
        opened.ledgers.len(),
        wanted.ledgers.len(),
    );
    for (opened, wanted) in opened.ledgers.iter().zip(&wanted.ledgers) {
        let id = &wanted.fixed.id;
        report.compare(
            &format!("ledger {id:?}"),
            (&opened.fixed, opened.ledger),
            (&wanted.fixed, wanted.ledger),
        );
        if wanted.ledger.debits != wanted.ledger.credits {
            let (debits, credits) = (wanted.ledger.debits, wanted.ledger.credits);
            report.problem(format!(
                "ledger {id:?} has debits {debits} and credits {credits}"
            ));
        }
    }
}

/// The filters opening gives, bit for bit.
fn compare_filters(loaded: &Loaded, rebuilt: &rebuild::Rebuilt, report: &mut VerifyReport) {
    let opened = &loaded.live.filter.segments;
    report.compare(
        "segments of the filter",
        opened.len(),
        rebuilt.segments.len(),
    );
    for (number, (opened, wanted)) in opened.iter().zip(&rebuilt.segments).enumerate() {
        if opened.to_bytes() != wanted.to_bytes() {
            report.problem(format!(
                "segment {number} of the filter is not made of the ids sealed"
            ));
        }
    }
}
