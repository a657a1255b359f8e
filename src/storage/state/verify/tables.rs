//! Counting and comparing the rows of the derived tables.

use super::super::db::{Db, Range, Table};
use super::super::layout::{
    account_id_key, ledger_account_key, parse_answer, parse_history, parse_history_key,
    parse_old_answer, parse_position,
};
use super::super::live::slot;
use super::super::load::Stamps;
use super::VerifyReport;
use super::rebuild::{History, Rebuilt, answer_hash, chain, key_hash, row_hash};
use crate::machine::Fault;

/// Compares every table with what the journal gave.
pub(super) fn compare(
    db: &Db,
    stamps: &Stamps,
    rebuilt: &Rebuilt,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    report.accounts = rebuilt.live.account_count();
    report.ledgers = rebuilt.live.ledger_count().into();
    report.keys = rebuilt.keys.len() as u64;
    report.compare(
        "accounts",
        stamps.applied.accounts,
        rebuilt.live.account_count(),
    );
    report.compare(
        "ledgers",
        stamps.applied.ledgers,
        rebuilt.live.ledger_count(),
    );
    ledgers(db, rebuilt, report)?;
    accounts(db, rebuilt, report)?;
    ids(db, stamps, rebuilt, report)?;
    history(db, stamps, rebuilt, report)?;
    filter(db, stamps, rebuilt, report)?;
    keys(db, rebuilt, report)?;
    answers(db, stamps, rebuilt, report)
}

fn ledgers(db: &Db, rebuilt: &Rebuilt, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut rows = db.rows(Table::Ledgers, Range::whole(&[]), None);
    for (number, ledger) in (1u32..).zip(&rebuilt.live.ledgers) {
        let wanted = (number.to_be_bytes().to_vec(), ledger.fixed.encode());
        let found = rows
            .next()?
            .map(|(key, value)| (key.to_vec(), value.to_vec()));
        report.compare(&format!("row of ledger {number}"), found, Some(wanted));
    }
    if rows.next()?.is_some() {
        report.problem("the table of ledgers has more rows than the journal gives");
    }
    Ok(())
}

/// Rows of accounts were compared one by one; here their ids, and that there are no more of either.
fn accounts(db: &Db, rebuilt: &Rebuilt, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut count = 0u64;
    let mut rows = db.rows(Table::Accounts, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        count += 1;
        let number = key.try_into().map(u64::from_be_bytes).ok();
        let fixed = super::super::layout::AccountFixed::decode(value);
        let (Some(number), Some(fixed)) = (number, fixed) else {
            report.problem(format!("row of account {} is damaged", key.escape_ascii()));
            continue;
        };
        for key in [
            account_id_key(&fixed.id),
            ledger_account_key(fixed.ledger, &fixed.id),
        ] {
            let found = db.get(Table::AccountIds, &key)?.map(|value| value.to_vec());
            report.compare(
                &format!("row of account id {:?}", fixed.id),
                found,
                Some(number.to_le_bytes().to_vec()),
            );
        }
    }
    let wanted = rebuilt.live.account_count();
    report.compare("rows of accounts", count, wanted);
    report.compare(
        "rows of account ids",
        count_rows(db, Table::AccountIds)?,
        2 * wanted,
    );
    Ok(())
}

fn count_rows(db: &Db, table: Table) -> Result<u64, Fault> {
    let mut rows = db.rows(table, Range::whole(&[]), None);
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Each sealed id was found; here, that there are no others. Beyond the stamp there may be rows only of a seal in the making.
fn ids(
    db: &Db,
    stamps: &Stamps,
    rebuilt: &Rebuilt,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    let (mut sealed, mut beyond) = (0u64, 0u64);
    let mut rows = db.rows(Table::Ids, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        match parse_position(value) {
            None => report.problem(format!(
                "row of transfer id {} is damaged",
                key.escape_ascii()
            )),
            Some(at) if at.index <= stamps.sealed.transfers.index => sealed += 1,
            Some(at) if may_be(stamps, at.index) => {}
            Some(_) => beyond += 1,
        }
    }
    report.compare("rows of transfer ids", sealed, rebuilt.sealed_transfers);
    report.compare("rows of transfer ids beyond the last seal", beyond, 0);
    Ok(())
}

/// Whether a row beyond the stamp may be there.
fn may_be(stamps: &Stamps, index: u64) -> bool {
    stamps.sealing.is_some_and(|sealing| index <= sealing.to)
}

fn history(
    db: &Db,
    stamps: &Stamps,
    rebuilt: &Rebuilt,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    let mut found = vec![History::default(); rebuilt.live.accounts.len()];
    let mut last = None;
    let mut rows = db.rows(Table::History, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let parsed = parse_history_key(key)
            .and_then(|(account, first)| Some((account, parse_history(first, value)?)));
        let Some((account, positions)) =
            parsed.filter(|(account, _)| rebuilt.live.account(*account).is_some())
        else {
            report.problem(format!("row of history {} is damaged", key.escape_ascii()));
            continue;
        };
        for at in positions {
            // As readers do: what two rows hold counts once.
            let again = last.is_some_and(|last| (account, at) <= last);
            if at.index <= stamps.sealed.transfers.index && !again {
                found[slot(account)].push(rebuilt.live.seed, at);
                last = Some((account, at));
            } else if !again && !may_be(stamps, at.index) {
                report.problem(format!(
                    "history of account {account} holds {at:?}, beyond the last seal"
                ));
            }
        }
    }
    for (number, found) in (1..).zip(&found) {
        let wanted = rebuilt
            .history
            .get(slot(number))
            .copied()
            .unwrap_or_default();
        report.compare(&format!("history of account {number}"), *found, wanted);
    }
    Ok(())
}

/// The hashes of the filter's segment that is being filled; its bits and those of full ones are compared after opening.
fn filter(
    db: &Db,
    stamps: &Stamps,
    rebuilt: &Rebuilt,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    if stamps.sealed.segment_ids == 0 {
        return Ok(());
    }
    let bytes = super::super::seal::stored_hashes(db, &stamps.sealed)?;
    let hashes = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|hash| u64::from_le_bytes(*hash));
    let found = hashes.fold(0, |before, hash| chain(rebuilt.live.seed, before, hash));
    report.compare("hashes of the filter", found, rebuilt.hashes);
    Ok(())
}

/// Both kinds of rows of every answer, and no others.
fn answers(
    db: &Db,
    stamps: &Stamps,
    rebuilt: &Rebuilt,
    report: &mut VerifyReport,
) -> Result<(), Fault> {
    report.idempotency_keys = rebuilt.answers.len() as u64;
    report.compare("answers", stamps.answers, rebuilt.live.answers.row);
    let mut right = 0;
    let mut rows = db.rows(Table::Idempotency, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let found = answer_hash(key, value);
        let rows_at = |at| rebuilt.answers.get(&at);
        // Which answer a row is of, the key says, or the row.
        let is_right = match (parse_old_answer(key, value), parse_answer(value)) {
            (Some(old), _) => rows_at(old.at).is_some_and(|rows| rows.in_order == found),
            (None, Some(answer)) => rows_at(answer.at).is_some_and(|rows| rows.by_key == found),
            (None, None) => false,
        };
        right += u64::from(is_right);
        if !is_right {
            report.problem(format!(
                "row {} of idempotency keys is not one that the journal gives",
                key.escape_ascii()
            ));
        }
    }
    let wanted = 2 * rebuilt.answers.len() as u64;
    report.compare("rows of idempotency keys that are right", right, wanted);
    Ok(())
}

fn keys(db: &Db, rebuilt: &Rebuilt, report: &mut VerifyReport) -> Result<(), Fault> {
    let mut right = 0;
    let mut rows = db.rows(Table::Kv, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let wanted = rebuilt.keys.get(&key_hash(key));
        let is_right = wanted == Some(&row_hash(value));
        right += u64::from(is_right);
        if !is_right {
            let what = match wanted {
                Some(_) => "is not the one that the journal gives",
                None => "is there, the journal gives none",
            };
            report.problem(format!("row of key {} {what}", key.escape_ascii()));
        }
    }
    let wanted = rebuilt.keys.len() as u64;
    report.compare("rows of keys that are right", right, wanted);
    Ok(())
}
