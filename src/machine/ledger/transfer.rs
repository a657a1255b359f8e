//! A batch of transfers: each by itself, or in linked chains.

use super::Touched;
use super::known::{self, Known};
use super::posting::{self, Posting};
use crate::machine::command::{AccountRef, NewTransfer};
use crate::machine::reply::{Rejection, Reply, TransferResult};
use crate::machine::store::{Fault, Store};
use crate::mutants::{self, Mutant};

/// What is to become of one transfer.
enum Verdict {
    /// To be posted.
    Post(Posting),
    /// Its id is known: this is the answer, and nothing is to be done.
    Known(TransferResult),
    /// Refused now.
    Refuse(Rejection),
}

/// Posts `batch`, a command of the entry at log index `index`.
pub(in crate::machine) fn post_transfers<S: Store>(
    store: &mut S,
    batch: &[NewTransfer<'_>],
    index: u64,
    touched: &mut Touched,
) -> Result<Reply, Fault> {
    check_numbers(store, batch)?;
    store.expect(batch)?;
    let mut results = Vec::with_capacity(batch.len());
    let mut rest = batch;
    while let Some(first) = rest.first() {
        if !first.linked {
            results.push(post_one(store, first, touched)?);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        match rest.iter().position(|transfer| !transfer.linked) {
            Some(last) => {
                let (chain, after) = rest.split_at(last.saturating_add(1));
                post_chain(store, chain, index, touched, &mut results)?;
                rest = after;
            }
            None => {
                results.resize(batch.len(), TransferResult::Refused(Rejection::ChainFailed));
                if let Some(last) = results.last_mut() {
                    *last = TransferResult::Refused(Rejection::ChainOpen);
                }
                rest = &[];
            }
        }
    }
    Ok(Reply::Transfers(results))
}

/// That every account number of the batch was given out. The leader resolved them, so another is not a client's doing.
fn check_numbers<S: Store>(store: &S, batch: &[NewTransfer<'_>]) -> Result<(), Fault> {
    let last = store.account_count();
    for transfer in batch {
        for account in [transfer.debit, transfer.credit] {
            if let AccountRef::Number(number) = account
                && (number == 0 || number > last)
            {
                let what = format!(
                    "transfer {:?} names account number {number} of {last}",
                    transfer.id
                );
                return Err(Fault::new(what));
            }
        }
    }
    Ok(())
}

fn post_one<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    touched: &mut Touched,
) -> Result<TransferResult, Fault> {
    match judge(store, transfer)? {
        Verdict::Post(posting) => post(store, transfer, &posting, touched),
        Verdict::Known(result) => Ok(result),
        Verdict::Refuse(rejection) => {
            posting::remember(store, transfer, &rejection)?;
            Ok(TransferResult::Refused(rejection))
        }
    }
}

/// Posts a whole chain or nothing of it.
fn post_chain<S: Store>(
    store: &mut S,
    chain: &[NewTransfer<'_>],
    index: u64,
    touched: &mut Touched,
    results: &mut Vec<TransferResult>,
) -> Result<(), Fault> {
    let mark = store.mark();
    let start = results.len();
    for (member, transfer) in chain.iter().enumerate() {
        let verdict = judge(store, transfer)?;
        let failure = match &verdict {
            Verdict::Post(posting) => {
                results.push(post(store, transfer, posting, touched)?);
                continue;
            }
            Verdict::Known(result @ (TransferResult::Created(_) | TransferResult::Exists(_))) => {
                results.push(*result);
                continue;
            }
            Verdict::Known(result @ TransferResult::Refused(_)) => *result,
            Verdict::Refuse(rejection) => TransferResult::Refused(*rejection),
        };
        if !mutants::on(Mutant::ChainNotAtomic) {
            store.undo_to(mark)?;
        }
        if let Verdict::Refuse(rejection) = &verdict {
            posting::remember(store, transfer, rejection)?;
        }
        let failed = TransferResult::Refused(Rejection::ChainFailed);
        for result in results.iter_mut().skip(start) {
            let stays = match result {
                // A chain may name one transfer twice: what it posted itself does not exist any more.
                TransferResult::Exists(at) => at.index != index || at.record < mark,
                TransferResult::Created(_) | TransferResult::Refused(_) => false,
            };
            if !stays {
                *result = failed;
            }
        }
        results.push(failure);
        let unjudged = chain.len().saturating_sub(member).saturating_sub(1);
        results.resize(results.len().saturating_add(unjudged), failed);
        return Ok(());
    }
    Ok(())
}

/// Goes through the refusals of one transfer in their order, from the third on; the first two are the chain's.
fn judge<S: Store>(store: &mut S, transfer: &NewTransfer<'_>) -> Result<Verdict, Fault> {
    if transfer.amount == 0 {
        return Ok(Verdict::Refuse(Rejection::AmountMustNotBeZero));
    }
    let known = store.find_transfer(transfer.id)?;
    if let Some(position) = known.filter(|_| !mutants::on(Mutant::TransferPostedAgain)) {
        return Ok(Verdict::Known(
            match known::compare(store, transfer, position)? {
                Known::Posted => TransferResult::Exists(position),
                Known::Refused(rejection) => TransferResult::Refused(rejection),
            },
        ));
    }
    Ok(match posting::judge(store, transfer)? {
        Ok(posting) => Verdict::Post(posting),
        Err(rejection) => Verdict::Refuse(rejection),
    })
}

fn post<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    posting: &Posting,
    touched: &mut Touched,
) -> Result<TransferResult, Fault> {
    touched.add(posting.ledger);
    Ok(TransferResult::Created(posting::append(
        store, transfer, posting,
    )?))
}
