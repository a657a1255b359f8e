//! Opening a database: derived tables as of their stamps, and the journal from there on.

use super::Applied;
use super::answers::Answers;
use super::core::{Loaded, Tuning};
use super::db::{Db, Range, Table};
use super::journal::{Chunk, Trail};
use super::layout::{LedgerFixed, journal_key, parse_page};
use super::live::{AccountState, LedgerState, Live, Reach};
use super::meta::{
    self, AnswersRow, AppliedRow, Cut, FORMAT, MembershipRow, Origin, Sealed, Sealing,
};
use super::seal::{self, Keeper};
use crate::machine::{Fault, Ledger, Record};

/// The rows that say how far everything is.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    pub(super) origin: Origin,
    pub(super) applied: AppliedRow,
    pub(super) membership: Option<MembershipRow>,
    pub(super) answers: AnswersRow,
    pub(super) sealed: Sealed,
    pub(super) sealing: Option<Sealing>,
}

impl Stamps {
    /// Reads them; refuses a database of a newer format.
    pub(super) fn read(db: &Db) -> Result<Stamps, Fault> {
        let origin: Origin =
            meta::get(db)?.ok_or_else(|| db.damaged(Table::Meta, "row origin is missing"))?;
        if origin.format > FORMAT {
            let what = format!(
                "it has format {}, this program reads up to {FORMAT}: start a newer one",
                origin.format
            );
            return Err(db.fault("open", what));
        }
        Ok(Stamps {
            origin,
            applied: meta::get(db)?.unwrap_or_default(),
            membership: meta::get(db)?,
            answers: meta::get(db)?.unwrap_or_default(),
            sealed: meta::get(db)?.unwrap_or_default(),
            sealing: meta::get(db)?,
        })
    }

    /// How far the state is.
    pub(super) fn applied(&self) -> Applied {
        Applied {
            log_id: self.applied.log_id,
            membership: self.membership.as_ref().map(|row| row.0.clone().into()),
            time_ns: self.applied.time_ns,
            digest: self.applied.digest,
        }
    }
}

/// Loads everything from `db`: balances as of their stamp, then the journal up to the last entry applied.
pub(super) fn load(db: &Db, tuning: &Tuning) -> Result<Loaded, Fault> {
    let stamps = Stamps::read(db)?;
    let mut live = Live::new(stamps.origin.seed);
    live.answers = Answers::load(stamps.answers);
    load_ledgers(db, &stamps.sealed.balances, &mut live)?;
    load_balances(db, &stamps.sealed.balances, &mut live)?;
    let filters = seal::load_filters(db, &stamps.sealed, tuning.filter)?;
    live.filter = filters.published();
    live.sealed = stamps.sealed.transfers.index;
    let keeper = Keeper {
        sealed: stamps.sealed,
        filters,
        ..Keeper::default()
    };
    let mut loaded = Loaded {
        live,
        applied: stamps.applied(),
        keeper,
        journal_bytes: 0,
        rolled_bytes: 0,
    };
    roll_forward(db, &stamps, &mut loaded)?;
    loaded.live.index = stamps.applied.log_id.map_or(0, |id| id.index);
    check(db, &loaded.live)?;
    Ok(loaded)
}

fn load_ledgers(db: &Db, cut: &Cut, live: &mut Live) -> Result<(), Fault> {
    let mut rows = db.rows(Table::Ledgers, Range::whole(&[]), None);
    for number in 1..=cut.ledgers {
        let row = rows.next()?.filter(|(key, _)| *key == number.to_be_bytes());
        let fixed = row.and_then(|(_, value)| LedgerFixed::decode(value));
        let fixed = fixed
            .ok_or_else(|| db.damaged(Table::Ledgers, format_args!("no row of ledger {number}")))?;
        live.ledger_numbers.insert(fixed.id.clone(), number);
        let ledger = Ledger {
            scale: fixed.scale,
            debits: 0,
            credits: 0,
        };
        live.ledgers.push(LedgerState { fixed, ledger });
    }
    Ok(())
}

/// Loads the accounts created up to `cut`, and sums up their ledgers' totals: a total is the sum of its accounts by definition.
fn load_balances(db: &Db, cut: &Cut, live: &mut Live) -> Result<(), Fault> {
    let mut rows = db.rows(Table::Balances, Range::whole(&[]), None);
    let count = usize::try_from(cut.accounts).map_err(|error| db.damaged(Table::Meta, error))?;
    live.accounts.reserve(count);
    let mut page = 0u64;
    while live.accounts.len() < count {
        let damaged = |what| db.damaged(Table::Balances, format_args!("page {page} {what}"));
        let row = rows.next()?.filter(|(key, _)| *key == page.to_be_bytes());
        let accounts = row
            .and_then(|(_, value)| parse_page(value))
            .ok_or_else(|| damaged("is missing or no page"))?;
        for row in accounts.iter().take(count - live.accounts.len()) {
            // A page copied late may hold accounts created after the cut; their records create them again.
            let number = usize::try_from(row.ledger)
                .ok()
                .and_then(|number| number.checked_sub(1));
            let ledger = number.and_then(|number| live.ledgers.get_mut(number));
            let ledger = &mut ledger
                .ok_or_else(|| damaged("names a ledger that does not exist"))?
                .ledger;
            let total = |total: u128, part| {
                total
                    .checked_add(part)
                    .ok_or_else(|| damaged("overflows its ledger"))
            };
            ledger.debits = total(ledger.debits, row.balance.debits)?;
            ledger.credits = total(ledger.credits, row.balance.credits)?;
            live.accounts.push(AccountState::from_page(row));
        }
        page += 1;
    }
    Ok(())
}

/// Derives what the journal holds beyond the stamps. If a seal was interrupted, freezes what it was about at the same cut.
fn roll_forward(db: &Db, stamps: &Stamps, loaded: &mut Loaded) -> Result<(), Fault> {
    let Sealed {
        transfers,
        balances,
        ..
    } = stamps.sealed;
    let damaged = |what: String| db.damaged(Table::Journal, what);
    let last = stamps.applied.log_id.map_or(0, |id| id.index);
    let mut again = stamps.sealing.map(|sealing| sealing.to);
    let mut trail = Trail::after(balances.time_ns, balances.digest);
    let from = journal_key(balances.index + 1, 0);
    let mut rows = db.rows(Table::Journal, Range::whole(&from), None);
    while let Some((key, value)) = rows.next()? {
        let chunk = Chunk::parse(key, value).map_err(damaged)?;
        if chunk.index > last {
            return Err(damaged(format!(
                "entry {} is beyond the last one applied, {last}",
                chunk.index
            )));
        }
        if again.is_some_and(|to| chunk.index > to) {
            freeze_again(loaded, &trail, again.take().expect("it is some"));
        }
        trail.follow(&chunk).map_err(damaged)?;
        let reach = Reach {
            rows: false,
            recents: chunk.index > transfers.index,
            exact: false,
        };
        for (at, bytes) in chunk.records() {
            loaded
                .live
                .derive(&Record::decode(bytes).map_err(damaged)?, at, reach)?;
        }
        let bytes = (key.len() + value.len()) as u64;
        loaded.rolled_bytes += bytes;
        loaded.journal_bytes += if reach.recents { bytes } else { 0 };
        loaded.live.end_entry(chunk.index, chunk.time_ns);
    }
    trail.end().map_err(damaged)?;
    if let Some(to) = again {
        freeze_again(loaded, &trail, to);
    }
    let found = (
        trail.time_ns,
        trail.digest,
        loaded.live.account_count(),
        loaded.live.ledger_count(),
    );
    let wanted = (
        stamps.applied.time_ns,
        stamps.applied.digest,
        stamps.applied.accounts,
        stamps.applied.ledgers,
    );
    if found != wanted {
        return Err(damaged(format!(
            "it does not lead to the state at entry {last}: {found:?} instead of {wanted:?}"
        )));
    }
    Ok(())
}

fn freeze_again(loaded: &mut Loaded, trail: &Trail, to: u64) {
    let live = &mut loaded.live;
    let cut = Cut {
        index: to,
        time_ns: trail.time_ns,
        digest: trail.digest,
        accounts: live.account_count(),
        ledgers: live.ledger_count(),
    };
    let expected = live.recents.len();
    loaded.keeper.again = Some(seal::freeze(live, &mut loaded.keeper, cut, expected));
    loaded.journal_bytes = 0;
}

/// Double entry, before anything is served.
pub(super) fn check(db: &Db, live: &Live) -> Result<(), Fault> {
    match live
        .ledgers
        .iter()
        .find(|ledger| ledger.ledger.debits != ledger.ledger.credits)
    {
        None => Ok(()),
        Some(LedgerState { fixed, ledger }) => {
            let Ledger {
                debits, credits, ..
            } = ledger;
            Err(db.damaged(
                Table::Balances,
                format_args!("ledger {:?}: debits {debits}, credits {credits}", fixed.id),
            ))
        }
    }
}
