//! The whole state as text, the same for the same state: for comparing two stores, and for reading in a failed test.

use std::fmt::Write as _;

use super::Memory;
use crate::machine::store::Store;

impl Memory {
    /// Everything held, one line each, in order of number, key or position: ledgers with totals, accounts with balances,
    /// keys, transfer ids and idempotency keys with positions, records as text and as bytes' hash, and the digest.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        self.write(&mut out)
            .expect("writing to a string does not fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "applied {} time {}", self.applied, self.time_ns)?;
        for (row, number) in self.ledgers.iter().zip(1..) {
            let (ledger, indexed) = (row.ledger, self.find_ledger(&row.id));
            assert_eq!(
                indexed,
                Some(number),
                "ledger {:?} is found under its number",
                row.id
            );
            writeln!(
                out,
                "ledger {number} {} {} scale {} debits {} credits {}",
                row.id, row.asset, ledger.scale, ledger.debits, ledger.credits
            )?;
        }
        for (row, number) in self.accounts.iter().zip(1..) {
            let account = row.account;
            assert_eq!(
                self.account_numbers.get(&row.id),
                Some(&number),
                "account {:?} is found",
                row.id
            );
            writeln!(
                out,
                "account {number} {} ledger {} code {} limits {} debits {} credits {}",
                row.id,
                account.ledger,
                account.code,
                account.limits.to_bits(),
                account.balance.debits,
                account.balance.credits
            )?;
        }
        for (key, (meta, value)) in &self.kv {
            writeln!(
                out,
                "key {key:?} created {} modified {} version {} value {}",
                meta.created,
                meta.modified,
                meta.version,
                value.escape_ascii()
            )?;
        }
        for (id, at) in &self.transfers {
            writeln!(out, "transfer {id} at {}.{}", at.index, at.record)?;
        }
        for (at, key) in &self.answer_order {
            let answer = self.answers[key];
            assert_eq!(answer.at, *at, "an answer stands where its order says");
            writeln!(
                out,
                "answer {key:?} at {}.{} time {} to {}",
                at.index,
                at.record,
                answer.time_ns,
                blake3::Hash::from_bytes(answer.fingerprint)
            )?;
        }
        for (at, bytes) in self.journal() {
            writeln!(
                out,
                "record {}.{} {}",
                at.index,
                at.record,
                bytes.escape_ascii()
            )?;
        }
        writeln!(out, "digest {}", blake3::Hash::from_bytes(self.digest))
    }
}
