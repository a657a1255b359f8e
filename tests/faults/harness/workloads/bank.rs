//! A bank: transfers between a few accounts that must not be overdrawn, reads of all of them at each level.

use super::{Planned, Workload, any_level, reads_at_every_level};
use crate::harness::world::World;
use crate::history::nemesis::Accounts;
use crate::history::{Call, Transfer};
use crate::random::Random;

/// Accounts beside the one that owes what they hold.
const ACCOUNTS: u64 = 8;
/// What each holds when the bank opens.
pub(crate) const OPENING: i64 = 40;
/// The account that may owe.
pub(crate) const MINT: &str = "mint";

/// See the module.
pub(crate) struct Bank;

/// The accounts as the bank opens.
pub(crate) fn opening() -> Accounts {
    let mut balances: std::collections::BTreeMap<String, i64> =
        (0..ACCOUNTS).map(|n| (account(n), OPENING)).collect();
    let issued: i64 = balances.values().sum();
    balances.insert(MINT.to_owned(), -issued);
    Accounts {
        balances,
        overdraft: vec![MINT.to_owned()],
    }
}

fn account(number: u64) -> String {
    format!("a{number}")
}

/// A transfer: mostly small, now and then more than anybody has.
pub(crate) fn transfer(random: &mut Random) -> Call {
    let from = random.below(ACCOUNTS);
    let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
    let amount = match random.below(12) {
        0 => 10 * OPENING * i64::try_from(ACCOUNTS).expect("a few"),
        some => 1 + i64::try_from(some % 5).expect("below 5"),
    };
    Call::Transfer(Transfer {
        from: account(from),
        to: account(to),
        amount,
    })
}

impl Workload for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn says(&self) -> &'static str {
        "transfers between accounts that must not be overdrawn, reads of all of them at each level"
    }

    fn needs_bank(&self) -> bool {
        true
    }

    fn expects(&self) -> Vec<String> {
        [reads_at_every_level(), vec!["transfer".to_owned()]].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["witness", "bank", "durable", "digests"]
    }

    fn next(&self, _: &World, random: &mut Random) -> Planned {
        if random.percent(50) {
            Planned::read(None, any_level(random))
        } else {
            Planned::write(None, transfer(random))
        }
    }
}
