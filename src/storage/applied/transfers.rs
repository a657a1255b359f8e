//! Transfers in the journal: which record is whose, and what the lack of one says.

use serde_json::Value;

use super::line::{self, Line};
use super::pair::{Left, Pairing};
use crate::machine::{AccountRef, NewTransfer, Record, Rejection, TransferRecord};

impl Pairing {
    /// A transfer without an idempotency key around it: it has its id.
    pub(super) fn posted(
        &mut self,
        new: &NewTransfer<'_>,
        blank: &Line,
        left: &mut Left<'_, '_>,
    ) -> Result<Line, String> {
        let line = self.transfer(new, blank)?;
        let request = hash(&line.value);
        let known = self.transfers.get(new.id).copied();
        Ok(match (self.next_of(new.id, request, left), known) {
            (Some(refused), _) => {
                left.take(self, |_| true);
                line.told(refused)
            }
            (_, Some(fate)) if fate.request == request => Line {
                dup: true,
                ..line.told(fate.refused)
            },
            // For its own sake, or because its id stands for another: not journaled.
            (_, _) => Line {
                result: Some(false),
                ..line
            },
        })
    }

    /// A chain, posted whole or not at all: then at most the member is journaled that the state refused.
    pub(super) fn chain(
        &mut self,
        members: &[NewTransfer<'_>],
        blank: &Line,
        left: &mut Left<'_, '_>,
    ) -> Result<Vec<Line>, String> {
        let mut lines = Vec::with_capacity(members.len());
        for new in members {
            lines.push(self.transfer(new, blank)?);
        }
        let requests: Vec<blake3::Hash> = lines.iter().map(|line| hash(&line.value)).collect();
        let is_posted = self.is_posted(members, &requests, left);
        let mut is_refused = false;
        for ((new, request), line) in members.iter().zip(requests).zip(&mut lines) {
            let known = self.transfers.get(new.id).copied();
            let blank = line.clone();
            *line = match (known, self.next_of(new.id, request, left)) {
                (None, Some(None)) if is_posted => {
                    left.take(self, |_| true);
                    blank.told(None)
                }
                (Some(_), _) if is_posted => Line {
                    dup: true,
                    ..blank.told(None)
                },
                (None, Some(Some(refused))) if !is_refused => {
                    is_refused = true;
                    left.take(self, |_| true);
                    blank.told(Some(refused))
                }
                // Found done or taken back with its chain: which, is not journaled.
                (Some(_), _) => blank,
                (None, _) => Line {
                    result: Some(false),
                    ..blank
                },
            };
        }
        Ok(lines)
    }

    /// Whether the next records post all members of a chain that were not posted before.
    fn is_posted(
        &self,
        members: &[NewTransfer<'_>],
        requests: &[blake3::Hash],
        left: &Left<'_, '_>,
    ) -> bool {
        let mut records = left.0.iter();
        let mut here: Vec<&str> = Vec::new();
        members.iter().zip(requests).all(|(new, request)| {
            let known = self.transfers.get(new.id);
            if let Some(fate) = known {
                return fate.request == *request && fate.refused.is_none();
            }
            // A chain may name one transfer twice.
            if here.contains(&new.id) {
                return true;
            }
            here.push(new.id);
            matches!(records.next(), Some(Record::Transfer(done))
                if done.id == new.id && done.refusal == 0 && hash(&self.journaled(done)) == *request)
        })
    }

    /// Whether the next record is what became of this transfer: then its refusal, if it was refused.
    fn next_of(
        &self,
        id: &str,
        request: blake3::Hash,
        left: &Left<'_, '_>,
    ) -> Option<Option<Rejection>> {
        match left.0.first() {
            Some(Record::Transfer(done))
                if done.id == id && hash(&self.journaled(done)) == request =>
            {
                Some(Rejection::remembered_in(done))
            }
            _ => None,
        }
    }

    /// The id of an account.
    fn account(&self, number: u64) -> Option<&str> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.accounts.get(at).map(String::as_str)
    }

    /// What a transfer in the journal was asked for.
    pub(super) fn journaled(&self, transfer: &TransferRecord<'_>) -> Value {
        let id = |number, named| self.account(number).unwrap_or(named);
        let new = NewTransfer {
            id: transfer.id,
            debit: AccountRef::Number(transfer.debit),
            credit: AccountRef::Number(transfer.credit),
            amount: transfer.amount,
            code: transfer.code,
            linked: transfer.linked,
            metadata: transfer.metadata,
        };
        let debit = id(transfer.debit, transfer.debit_id);
        line::transfer(&new, debit, id(transfer.credit, transfer.credit_id))
    }

    /// A transfer as it was asked for.
    pub(super) fn transfer(&self, new: &NewTransfer<'_>, blank: &Line) -> Result<Line, String> {
        let id = |account: AccountRef<'_>| match account {
            AccountRef::Id(id) => Ok(id.to_owned()),
            AccountRef::Number(number) => self
                .account(number)
                .map(str::to_owned)
                .ok_or_else(|| format!("account {number} was never created")),
        };
        Ok(Line {
            f: "transfer",
            op: Some(new.id.to_owned()),
            key: new.id.to_owned(),
            value: line::transfer(new, &id(new.debit)?, &id(new.credit)?),
            ..blank.clone()
        })
    }
}

/// Everything that was asked for, as a number.
pub(super) fn hash(value: &Value) -> blake3::Hash {
    blake3::hash(value.to_string().as_bytes())
}
