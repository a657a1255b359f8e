//! Looking through an account's history for the transfers a filter lets through, as of one moment.

use crate::machine::{Fault, Position};
use crate::raft::{Order, TransferRow, View};

/// Rows asked for at once, at least.
const CHUNK: usize = 500;

/// On which side of a transfer an account must stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It is debited.
    Debit,
    /// It is credited.
    Credit,
    /// Either.
    Any,
}

/// Which transfers a list is of.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// The account.
    pub(super) account: String,
    /// In which order.
    pub(super) order: Order,
    /// Its side.
    pub(super) side: Side,
    /// Code of the transfers.
    pub(super) code: Option<u32>,
    /// Log time of the first, nanoseconds since 1970.
    pub(super) from: Option<u64>,
    /// Log time before which they end.
    pub(super) to: Option<u64>,
}

impl Filter {
    /// The filter as a text: two that let other rows through differ.
    pub(super) fn fingerprint(&self) -> String {
        format!("{self:?}")
    }

    /// What to do with a row of a list of moment `pin`. Log time and index go up together.
    fn fate(&self, row: &TransferRow, pin: u64) -> Fate {
        let late = row.position.index > pin || self.to.is_some_and(|to| row.time_ns >= to);
        let early = self.from.is_some_and(|from| row.time_ns < from);
        match self.order {
            Order::Ascending if late => return Fate::End,
            Order::Descending if early => return Fate::End,
            _ if late || early => return Fate::Skip,
            _ => {}
        }
        let side = match self.side {
            Side::Debit => row.debit_account == self.account,
            Side::Credit => row.credit_account == self.account,
            Side::Any => true,
        };
        match side && self.code.is_none_or(|code| code == row.code) {
            true => Fate::Keep,
            false => Fate::Skip,
        }
    }
}

enum Fate {
    Keep,
    Skip,
    /// Neither this row nor any after it.
    End,
}

/// A list being gone through.
pub(super) struct Scan {
    view: View,
    filter: Filter,
    pin: Option<u64>,
    after: Option<Position>,
}

/// Rows that were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// They.
    pub(super) rows: Vec<TransferRow>,
    /// Where to go on, if there is or may be more.
    pub(super) more: Option<Position>,
}

impl Scan {
    /// Goes through what `filter` lets through: from the beginning and as of now, or as of a moment and beyond a position.
    pub(super) fn new(view: View, filter: Filter, begin: Option<(u64, Position)>) -> Scan {
        Scan {
            view,
            filter,
            pin: begin.map(|(pin, _)| pin),
            after: begin.map(|(_, after)| after),
        }
    }

    /// The account.
    pub(super) fn account(&self) -> &str {
        &self.filter.account
    }

    /// The moment: known once something was looked at.
    pub(super) fn pin(&self) -> u64 {
        self.pin.unwrap_or_default()
    }

    /// The next `limit` rows, or fewer after looking at `scan_max`; `None` if there is no such account. Blocking.
    pub(super) fn next(&mut self, limit: usize, scan_max: usize) -> Result<Option<Found>, Fault> {
        let mut found = Found::default();
        let mut looked_at = 0;
        while looked_at < scan_max {
            // One more than wanted: whether a full page is the last one.
            let count = (limit + 1).max(CHUNK).min(scan_max - looked_at);
            let Filter { account, order, .. } = &self.filter;
            let looked = self.view.transfers_of(account, *order, self.after, count)?;
            let pin = *self.pin.get_or_insert(looked.index);
            let Some(rows) = looked.value else {
                return Ok(None);
            };
            let whole = rows.len() < count;
            for row in rows {
                match self.filter.fate(&row, pin) {
                    Fate::End => return Ok(Some(found)),
                    Fate::Keep if found.rows.len() == limit => {
                        found.more = self.after;
                        return Ok(Some(found));
                    }
                    Fate::Keep => {
                        self.after = Some(row.position);
                        found.rows.push(row);
                    }
                    Fate::Skip => self.after = Some(row.position),
                }
                looked_at += 1;
            }
            if whole {
                return Ok(Some(found));
            }
        }
        found.more = self.after;
        Ok(Some(found))
    }
}
