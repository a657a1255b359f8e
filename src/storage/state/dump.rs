//! The whole state as text, in the format of [`Memory::dump`](crate::machine::Memory::dump): what two stores are compared by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::State;
use super::core::{Core, lock};
use super::db::{Range, Table};
use super::journal::Chunk;
use super::layout::{KvCell, account_id_key, parse_journal_key, parse_position};
use crate::machine::{Fault, Position};

impl State {
    /// Everything held, from where reads take it: balances from memory, keys, ids and records from the tables. For tests: it takes
    /// memory for all of it, and must not run beside [`State::apply`].
    pub fn dump(&self) -> Result<String, Fault> {
        let core = self.core();
        let mut out = String::new();
        let mut rows = core
            .db
            .rows(Table::Journal, Range::whole(&[]).reversed(), None);
        let last = rows
            .next()?
            .and_then(|(key, _)| parse_journal_key(key))
            .map_or(0, |(index, _)| index);
        let applied = lock(&core.applied).clone();
        line(
            &mut out,
            format_args!("applied {last} time {}", applied.time_ns),
        );
        dump_ledger(&core, &mut out)?;
        dump_keys(&core, &mut out)?;
        for (id, at) in transfers(&core)? {
            line(
                &mut out,
                format_args!("transfer {id} at {}.{}", at.index, at.record),
            );
        }
        dump_answers(&core, &mut out)?;
        dump_journal(&core, &mut out)?;
        line(
            &mut out,
            format_args!("digest {}", blake3::Hash::from_bytes(applied.digest)),
        );
        Ok(out)
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

fn dump_ledger(core: &Core, out: &mut String) -> Result<(), Fault> {
    let live = core.read()?;
    for (number, ledger) in (1..).zip(&live.ledgers) {
        assert_eq!(
            live.ledger_numbers.get(&ledger.fixed.id),
            Some(&number),
            "a ledger is found under its number"
        );
        let (fixed, ledger) = (&ledger.fixed, ledger.ledger);
        line(
            out,
            format_args!(
                "ledger {number} {} {} scale {} debits {} credits {}",
                fixed.id, fixed.asset, ledger.scale, ledger.debits, ledger.credits
            ),
        );
    }
    for (number, account) in (1..).zip(&live.accounts) {
        let id = core.account_fixed(number)?.id;
        let found = core.db.get(Table::AccountIds, &account_id_key(&id))?;
        assert_eq!(
            found.map(|value| core.parse_number(&value)).transpose()?,
            Some(number),
            "an account is found by id"
        );
        let balance = account.balance;
        line(
            out,
            format_args!(
                "account {number} {id} ledger {} code {} limits {} debits {} credits {}",
                account.ledger,
                account.code,
                account.limits.to_bits(),
                balance.debits,
                balance.credits
            ),
        );
    }
    Ok(())
}

fn dump_keys(core: &Core, out: &mut String) -> Result<(), Fault> {
    let mut rows = core.db.rows(Table::Kv, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let key = std::str::from_utf8(key).map_err(|error| core.db.damaged(Table::Kv, error))?;
        let cell = KvCell::decode(value).ok_or_else(|| core.db.damaged(Table::Kv, key))?;
        let meta = cell.meta;
        line(
            out,
            format_args!(
                "key {key:?} created {} modified {} version {} value {}",
                meta.created,
                meta.modified,
                meta.version,
                cell.value.escape_ascii()
            ),
        );
    }
    Ok(())
}

fn dump_answers(core: &Core, out: &mut String) -> Result<(), Fault> {
    let live = core.read()?;
    let old = core.oldest_answers(&live, u64::MAX, u32::MAX)?;
    assert_eq!(
        old.len() as u64,
        live.answers.row.count,
        "answers are counted"
    );
    for old in old {
        let answer = core.find_answer(&live, &old.key)?;
        let answer = answer.ok_or_else(|| core.db.damaged(Table::Idempotency, &old.key))?;
        assert_eq!(
            (answer.at, answer.time_ns),
            (old.at, old.time_ns),
            "an answer stands where its order says"
        );
        line(
            out,
            format_args!(
                "answer {:?} at {}.{} time {} to {}",
                old.key,
                answer.at.index,
                answer.at.record,
                answer.time_ns,
                blake3::Hash::from_bytes(answer.fingerprint)
            ),
        );
    }
    Ok(())
}

/// Every transfer id: sealed ones from their table and, each found again by itself, recent ones from memory.
fn transfers(core: &Core) -> Result<BTreeMap<String, Position>, Fault> {
    let live = core.read()?;
    let recents = live
        .frozen
        .as_deref()
        .into_iter()
        .chain(std::iter::once(&live.recents));
    let mut transfers: BTreeMap<String, Position> = recents
        .flat_map(|recents| recents.ids())
        .map(|(id, at)| (String::from_utf8_lossy(id).into_owned(), at))
        .collect();
    let mut rows = core.db.rows(Table::Ids, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let at =
            parse_position(value).ok_or_else(|| core.db.damaged(Table::Ids, key.escape_ascii()))?;
        let (_, record) = core.journal_record(at)?;
        let record = crate::machine::Record::decode(&record)
            .map_err(|what| core.db.damaged(Table::Journal, what))?;
        let crate::machine::Record::Transfer(transfer) = record else {
            return Err(core.db.damaged(Table::Ids, key.escape_ascii()));
        };
        // A row of a seal that was interrupted may be there while its transfer is still recent, and then says the same.
        let before = transfers.insert(transfer.id.to_owned(), at);
        assert!(
            before.is_none_or(|before| before == at),
            "transfer {} is at two positions",
            transfer.id
        );
        let hash = live.seed.hash(transfer.id.as_bytes());
        if live.find_recent(hash, transfer.id).is_none() {
            assert_eq!(
                core.find_sealed(&live.filter, hash, transfer.id)?,
                Some(at),
                "a sealed transfer is found"
            );
        }
    }
    Ok(transfers)
}

fn dump_journal(core: &Core, out: &mut String) -> Result<(), Fault> {
    let mut rows = core.db.rows(Table::Journal, Range::whole(&[]), None);
    while let Some((key, value)) = rows.next()? {
        let chunk =
            Chunk::parse(key, value).map_err(|what| core.db.damaged(Table::Journal, what))?;
        for (at, bytes) in chunk.records() {
            line(
                out,
                format_args!("record {}.{} {}", at.index, at.record, bytes.escape_ascii()),
            );
        }
    }
    Ok(())
}
