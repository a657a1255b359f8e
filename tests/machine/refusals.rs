//! The order in which a transfer's refusals are looked for: each alone, and every two that can hold at once.

use quorate::machine::{
    AccountRef, Command, Limits, Memory, NewAccount, NewLedger, NewTransfer, Reply, TransferResult,
    entry,
};

/// What can be wrong with a transfer, in the order of the refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    ChainOpen,
    ChainFailed,
    Zero,
    Known,
    Same,
    NoDebit,
    NoCredit,
    Mismatch,
    Overflow,
    ExceedsCredits,
    ExceedsDebits,
}

use Wrong::*;

const ALL: [Wrong; 11] = [
    ChainOpen,
    ChainFailed,
    Zero,
    Known,
    Same,
    NoDebit,
    NoCredit,
    Mismatch,
    Overflow,
    ExceedsCredits,
    ExceedsDebits,
];

/// Pairs of which no transfer can have both.
const NEVER_BOTH: [(Wrong, Wrong); 8] = [
    // Nothing is neither too much nor over a limit.
    (Zero, Overflow),
    (Zero, ExceedsCredits),
    (Zero, ExceedsDebits),
    // An account that does not exist, or is both accounts, has no other ledger; one that does not exist has no limit.
    (Same, Mismatch),
    (NoDebit, Mismatch),
    (NoCredit, Mismatch),
    (NoDebit, ExceedsCredits),
    (NoCredit, ExceedsDebits),
];

impl Wrong {
    fn code(self) -> &'static str {
        match self {
            ChainOpen => "chain_open",
            ChainFailed => "chain_failed",
            Zero => "amount_must_not_be_zero",
            Known => "exists_with_different_fields",
            Same => "accounts_must_differ",
            NoDebit => "debit_account_not_found",
            NoCredit => "credit_account_not_found",
            Mismatch => "ledger_mismatch",
            Overflow => "amount_overflow",
            ExceedsCredits => "exceeds_credits",
            ExceedsDebits => "exceeds_debits",
        }
    }
}

fn plain<'a>(id: &'a str, debit: &'a str, credit: &'a str, amount: u128) -> NewTransfer<'a> {
    let (debit, credit) = (AccountRef::Id(debit), AccountRef::Id(credit));
    NewTransfer {
        id,
        debit,
        credit,
        amount,
        code: 0,
        linked: false,
        metadata: "",
    }
}

/// Two ledgers that have ten minor units left to the end of their totals. In each a wallet that holds 5 and a loan of 5:
/// moving 8 passes their limits, moving 11 overflows as well.
fn prepared() -> Memory {
    let mut commands = Vec::new();
    let account = |id, ledger, debits, credits| {
        let limits = Limits {
            debits_must_not_exceed_credits: debits,
            credits_must_not_exceed_debits: credits,
        };
        Command::CreateAccount(NewAccount {
            id,
            ledger,
            code: 0,
            limits,
        })
    };
    for ledger in ["usd", "eur"] {
        commands.push(Command::CreateLedger(NewLedger {
            id: ledger,
            asset: ledger,
            scale: 2,
        }));
    }
    commands.extend([
        account("bank", "usd", false, false),
        account("shop", "usd", false, false),
        account("wallet", "usd", true, false),
        account("loan", "usd", false, true),
        account("eur-bank", "eur", false, false),
        account("eur-shop", "eur", false, false),
        account("eur-wallet", "eur", true, false),
        account("eur-loan", "eur", false, true),
    ]);
    commands.push(Command::Transfers(vec![
        plain("known", "bank", "shop", 1),
        plain("u1", "bank", "wallet", 5),
        plain("u2", "loan", "bank", 5),
        plain("u3", "bank", "shop", u128::MAX - 21),
        plain("e1", "eur-bank", "eur-wallet", 5),
        plain("e2", "eur-loan", "eur-bank", 5),
        plain("e3", "eur-bank", "eur-shop", u128::MAX - 20),
    ]));
    let mut store = Memory::new();
    let outcome = store
        .apply(1, &entry::assemble(&commands, 0))
        .expect("memory does not fail");
    let Some(Reply::Transfers(results)) = outcome.replies.last() else {
        panic!("the last command is a batch")
    };
    assert!(
        results
            .iter()
            .all(|result| matches!(result, TransferResult::Created(_))),
        "{results:?}"
    );
    store
}

/// What a transfer answers that has all of `wrong` wrong with it, and whether its refusal was remembered.
fn answer(wrong: &[Wrong]) -> (String, bool) {
    let is = |what| wrong.contains(&what);
    let debit = match (is(NoDebit), is(ExceedsCredits)) {
        (true, _) => "ghost",
        (false, true) => "wallet",
        (false, false) => "bank",
    };
    let credit = match (is(NoCredit), is(ExceedsDebits)) {
        (true, _) => "phantom",
        (false, true) => "loan",
        (false, false) => "shop",
    };
    let credit = if is(Mismatch) {
        format!("eur-{credit}")
    } else {
        credit.to_owned()
    };
    let (debit, credit) = match is(Same) {
        // The account that has what else is wrong.
        true if is(NoCredit) || is(ExceedsDebits) => (credit.as_str(), credit.as_str()),
        true => (debit, debit),
        false => (debit, credit.as_str()),
    };
    let amount = match (
        is(Zero),
        is(Overflow),
        is(ExceedsCredits) || is(ExceedsDebits),
    ) {
        (true, _, _) => 0,
        (false, true, _) => 11,
        (false, false, true) => 8,
        (false, false, false) => 2,
    };
    let mut subject = plain(
        if is(Known) { "known" } else { "new" },
        debit,
        credit,
        amount,
    );
    subject.code = 9;
    subject.linked = is(ChainOpen);
    let mut batch = vec![subject];
    if is(ChainFailed) {
        batch.insert(
            0,
            NewTransfer {
                linked: true,
                ..plain("bad", "bank", "bank", 1)
            },
        );
    }
    let mut store = prepared();
    let before = store.journal().count();
    let outcome = store
        .apply(2, &entry::assemble(&[Command::Transfers(batch)], 0))
        .expect("memory does not fail");
    let [Reply::Transfers(results)] = outcome.replies.as_slice() else {
        panic!("one batch, one reply")
    };
    let code = match results.last() {
        Some(TransferResult::Refused(rejection)) => rejection.code().to_owned(),
        other => format!("{other:?}"),
    };
    (code, store.journal().count() > before)
}

#[test]
fn a_transfer_with_nothing_wrong_is_created() {
    let (code, _) = answer(&[]);
    assert!(code.contains("Created"), "{code}");
}

#[test]
fn each_refusal_has_its_cause() {
    for wrong in ALL {
        let remembered = matches!(
            wrong,
            NoDebit | NoCredit | Overflow | ExceedsCredits | ExceedsDebits
        );
        assert_eq!(
            answer(&[wrong]),
            (wrong.code().to_owned(), remembered),
            "{wrong:?}"
        );
    }
}

#[test]
fn of_two_refusals_the_earlier_one_is_answered() {
    let mut pairs = 0;
    for first in ALL {
        for second in ALL.into_iter().filter(|second| first < *second) {
            if !NEVER_BOTH.contains(&(first, second)) {
                assert_eq!(
                    answer(&[first, second]).0,
                    first.code(),
                    "{first:?} and {second:?}"
                );
                pairs += 1;
            }
        }
    }
    assert_eq!(pairs, 11 * 10 / 2 - NEVER_BOTH.len());
}

/// The pairs that a known id can be in with itself: the transfer it was posted as, and one remembered as refused.
#[test]
fn a_known_id_answers_before_the_state_is_looked_at() {
    let mut store = prepared();
    let refused = plain("late", "wallet", "shop", 8);
    let filled = plain("fill", "bank", "wallet", 5);
    let posted = plain("known", "bank", "shop", 1);
    let batch = vec![refused, filled, refused, posted];
    let outcome = store
        .apply(2, &entry::assemble(&[Command::Transfers(batch)], 0))
        .expect("memory does not fail");
    let [Reply::Transfers(results)] = outcome.replies.as_slice() else {
        panic!("one batch, one reply")
    };
    assert!(
        matches!(results[1], TransferResult::Created(_)),
        "{results:?}"
    );
    assert_eq!(results[0], results[2], "a retry never turns no into yes");
    assert!(
        matches!(results[3], TransferResult::Exists(_)),
        "{results:?}"
    );
}
