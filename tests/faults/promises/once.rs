//! A write that was answered and is sent again, to whichever node, is answered as before.
//!
//! That it does nothing the second time is not seen here but in the applied log, by [`super::witness`].

use std::collections::BTreeMap;

use crate::history::Operation;
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// One answer for ever.
pub(crate) const PROMISE: Promise = Promise {
    name: "once",
    says: "a write that is sent again under its name is answered as it was the first time",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let operations = evidence.history.operations.iter();
    let first: BTreeMap<&str, &Operation> = operations
        .filter(|operation| operation.answer().is_some())
        .filter_map(|operation| Some((operation.id.as_deref()?, operation)))
        .collect();
    let again = evidence.history.again.iter();
    let answered: Vec<&Operation> = again
        .filter(|operation| operation.answer().is_some())
        .collect();
    let facts = answered.iter().filter_map(|again| {
        let first = first.get(again.id.as_deref()?)?;
        let is_alike = first.answer() == again.answer() && first.call == again.call;
        let what = || {
            let (was, is) = (first.answer(), again.answer());
            format!(
                "{}, sent again, was answered {is:?} at node {} instead of {was:?}",
                first.told(),
                again.node.unwrap_or_default()
            )
        };
        (!is_alike).then(|| Fact::new(what()).about([*first, *again]))
    });
    Verdict::of(answered.len(), facts.collect())
}
