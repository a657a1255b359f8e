//! Reads of transfers.

use super::super::core::Core;
use super::super::db::{Range, Table};
use super::super::layout::{history_key, parse_history, parse_history_key};
use super::super::live::Live;
use super::super::recent::Recents;
use super::super::view::{At, Order, TransferRow, View};
use crate::machine::{Fault, Position, Record, TransferRecord};

/// Longest chain of recent postings that is followed back to find the oldest; beyond it slots are scanned forward. An account
/// with more has at least one posting in every few hundred slots.
const CHAIN_MAX: usize = 4096;

impl View {
    /// A transfer by id, posted or refused.
    pub fn transfer(&self, id: &str) -> Result<At<Option<TransferRow>>, Fault> {
        let (index, recent, hash, filter) = {
            let live = self.core.read()?;
            let hash = live.seed.hash(id.as_bytes());
            (
                live.index,
                live.find_recent(hash, id),
                hash,
                live.filter.clone(),
            )
        };
        let at = match recent {
            Some(at) => Some(at),
            // What was sealed since may be newer than the index.
            None => self
                .core
                .find_sealed(&filter, hash, id)?
                .filter(|at| at.index <= index),
        };
        let value = at.map(|at| self.row(at)).transpose()?;
        Ok(At { index, value })
    }

    /// The transfer at a position that a reply named; a fault if there is none.
    pub fn transfer_at(&self, at: Position) -> Result<At<TransferRow>, Fault> {
        let index = self.index();
        Ok(At {
            index,
            value: self.row(at)?,
        })
    }

    /// Posted transfers of an account, beyond `after` in the given order, up to `limit`; `None` if there is no such account.
    pub fn transfers_of(
        &self,
        account: &str,
        order: Order,
        after: Option<Position>,
        limit: usize,
    ) -> Result<At<Option<Vec<TransferRow>>>, Fault> {
        let At { index, value } = self.core.account_number(account)?;
        let Some(number) = value else {
            return Ok(At { index, value: None });
        };
        let At {
            index,
            value: positions,
        } = self.core.positions_of(number, order, after, limit)?;
        let rows = positions
            .into_iter()
            .map(|at| self.row(at))
            .collect::<Result<_, _>>()?;
        Ok(At {
            index,
            value: Some(rows),
        })
    }

    fn row(&self, at: Position) -> Result<TransferRow, Fault> {
        let (time_ns, bytes) = self.core.record(at)?;
        let wrong = |what: String| {
            self.core.db.damaged(
                Table::Journal,
                format_args!("record {}.{}: {what}", at.index, at.record),
            )
        };
        let Record::Transfer(record) = Record::decode(&bytes).map_err(wrong)? else {
            return Err(wrong("it is no transfer".to_owned()));
        };
        Ok(TransferRow {
            id: record.id.to_owned(),
            debit_account: self.account_id(record.debit, record.debit_id)?,
            credit_account: self.account_id(record.credit, record.credit_id)?,
            ledger: self.ledger_id(&record)?,
            amount: record.amount,
            code: record.code,
            linked: record.linked,
            metadata: record.metadata.to_owned(),
            refusal: record.refusal,
            debit_after: record.debit_after,
            credit_after: record.credit_after,
            position: at,
            time_ns,
        })
    }

    fn account_id(&self, number: u64, id: &str) -> Result<String, Fault> {
        if number == 0 {
            Ok(id.to_owned())
        } else {
            Ok(self.core.fixed(number)?.id)
        }
    }

    fn ledger_id(&self, record: &TransferRecord<'_>) -> Result<Option<String>, Fault> {
        if record.debit == 0 || record.credit == 0 {
            return Ok(None);
        }
        let live = self.core.read()?;
        Ok(Some(
            super::ledger_of(&self.core, &live, record.debit)?.fixed.id,
        ))
    }
}

impl Core {
    /// Positions of an account's postings beyond `after`.
    pub(in super::super) fn positions_of(
        &self,
        account: u64,
        order: Order,
        after: Option<Position>,
        limit: usize,
    ) -> Result<At<Vec<Position>>, Fault> {
        let (index, sealed, recent) = {
            let live = self.read()?;
            let recent = match order {
                Order::Ascending => recent_ascending(&live, account, after, limit),
                Order::Descending => recent_descending(&live, account, after, limit),
            };
            (live.index, live.sealed, recent)
        };
        let value = match order {
            Order::Ascending => {
                let mut positions = self.sealed_ascending(account, after, limit, sealed)?;
                let left = limit - positions.len();
                positions.extend(recent.into_iter().take(left));
                positions
            }
            Order::Descending => {
                let mut positions = recent;
                let left = limit - positions.len();
                let after = positions.last().copied().or(after);
                positions.extend(self.sealed_descending(account, after, left, sealed)?);
                positions
            }
        };
        Ok(At { index, value })
    }

    /// Positions in the table of history, oldest first. Rows beyond `sealed` do not count yet: those transfers are recent. A
    /// position that two rows hold, because two seals grouped it differently, is given once.
    fn sealed_ascending(
        &self,
        account: u64,
        after: Option<Position>,
        limit: usize,
        sealed: u64,
    ) -> Result<Vec<Position>, Fault> {
        let mut last = after;
        let from = match after {
            Some(after) => self.history_row_with(account, after)?,
            None => history_key(
                account,
                Position {
                    index: 0,
                    record: 0,
                },
            ),
        };
        let to = history_end(account, sealed);
        let mut rows = self
            .db
            .rows(Table::History, Range::from(&from).to(&to), None);
        let mut positions = Vec::new();
        while positions.len() < limit
            && let Some((key, value)) = rows.next()?
        {
            for at in self.history_row(key, value)? {
                if last.is_none_or(|last| last < at)
                    && at.index <= sealed
                    && positions.len() < limit
                {
                    positions.push(at);
                    last = Some(at);
                }
            }
        }
        Ok(positions)
    }

    /// As [`Core::sealed_ascending`], newest first and before `before`.
    fn sealed_descending(
        &self,
        account: u64,
        before: Option<Position>,
        limit: usize,
        sealed: u64,
    ) -> Result<Vec<Position>, Fault> {
        let from = history_key(
            account,
            Position {
                index: 0,
                record: 0,
            },
        );
        let to = history_end(account, sealed);
        let to = before.map_or(to, |before| to.min(history_key(account, before)));
        if from >= to {
            return Ok(Vec::new());
        }
        let mut rows = self
            .db
            .rows(Table::History, Range::from(&from).to(&to).reversed(), None);
        let (mut first, mut positions) = (before, Vec::new());
        while positions.len() < limit
            && let Some((key, value)) = rows.next()?
        {
            for at in self.history_row(key, value)?.into_iter().rev() {
                if first.is_none_or(|first| at < first)
                    && at.index <= sealed
                    && positions.len() < limit
                {
                    positions.push(at);
                    first = Some(at);
                }
            }
        }
        Ok(positions)
    }

    /// The key of the row that `at` is in or would be in: the last one that begins at or before it.
    fn history_row_with(&self, account: u64, at: Position) -> Result<[u8; 20], Fault> {
        let first = history_key(
            account,
            Position {
                index: 0,
                record: 0,
            },
        );
        let mut next = history_key(account, at).to_vec();
        next.push(0);
        let mut rows = self.db.rows(
            Table::History,
            Range::from(&first).to(&next).reversed(),
            None,
        );
        let row = rows.next()?.and_then(|(key, _)| parse_history_key(key));
        Ok(row.map_or(first, |(account, first)| history_key(account, first)))
    }

    fn history_row(&self, key: &[u8], value: &[u8]) -> Result<Vec<Position>, Fault> {
        let parsed = parse_history_key(key).and_then(|(_, first)| parse_history(first, value));
        parsed.ok_or_else(|| {
            self.db
                .damaged(Table::History, format_args!("row {}", key.escape_ascii()))
        })
    }
}

/// The first key beyond what is sealed.
fn history_end(account: u64, sealed: u64) -> [u8; 20] {
    history_key(
        account,
        Position {
            index: sealed + 1,
            record: 0,
        },
    )
}

/// The recents, newest first.
fn generations(live: &Live) -> impl Iterator<Item = &Recents> {
    std::iter::once(&live.recents).chain(live.frozen.as_deref())
}

/// An account's recent positions, newest first, from posting `from` on.
fn chain(live: &Live, from: u64) -> impl Iterator<Item = Position> {
    let mut next = from;
    std::iter::from_fn(move || {
        let (at, previous) = generations(live).find_map(|recents| recents.posting(next))?;
        next = previous;
        Some(at)
    })
}

fn recent_descending(
    live: &Live,
    account: u64,
    after: Option<Position>,
    limit: usize,
) -> Vec<Position> {
    let Some(head) = live.account(account).map(|account| account.head) else {
        return Vec::new();
    };
    let Some(after) = after else {
        return chain(live, head).take(limit).collect();
    };
    if after.index <= live.sealed {
        return Vec::new();
    }
    // A page begins where the one before ended, so its cursor is a posting of this account and need not be searched for.
    let number = u32::try_from(account).unwrap_or(0);
    let from = generations(live)
        .find_map(|recents| recents.posting_at(number, after))
        .unwrap_or(head);
    chain(live, from)
        .skip_while(|at| *at >= after)
        .take(limit)
        .collect()
}

fn recent_ascending(
    live: &Live,
    account: u64,
    after: Option<Position>,
    limit: usize,
) -> Vec<Position> {
    let (Some(state), Ok(number)) = (live.account(account), u32::try_from(account)) else {
        return Vec::new();
    };
    let beyond = |at: &Position| after.is_none_or(|after| after < *at);
    let mut positions: Vec<Position> = chain(live, state.head)
        .take_while(beyond)
        .take(CHAIN_MAX)
        .collect();
    if positions.len() < CHAIN_MAX {
        positions.reverse();
        positions.truncate(limit);
        return positions;
    }
    let oldest_first = live
        .frozen
        .as_deref()
        .into_iter()
        .chain(std::iter::once(&live.recents));
    oldest_first
        .flat_map(|recents| recents.scan(number, after))
        .take(limit)
        .collect()
}
