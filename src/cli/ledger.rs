//! `quorate ledger`, `account` and `trial-balance`.

use clap::{Args, Subcommand};

use super::Global;
use super::list::{Amount, list};
use super::output::Failure;
use crate::client::Ask;
use crate::client::ledgers::{Limits, NewAccount, NewLedger};
use crate::machine::id;

/// Ledgers.
#[derive(Debug, Subcommand)]
pub(super) enum Ledger {
    /// Create a ledger, or find that it exists.
    #[command(after_help = "Example:\n  quorate ledger create usd --asset USD --scale 2")]
    Create {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
        /// Asset code.
        #[arg(long)]
        asset: String,
        /// Decimal places of the minor unit.
        #[arg(long, default_value_t = 2)]
        scale: u8,
    },
    /// List ledgers, by id.
    #[command(after_help = "Example:\n  quorate ledger list --all -o csv")]
    List {
        #[command(flatten)]
        amount: Amount,
    },
    /// Show a ledger with its totals.
    #[command(
        visible_alias = "get",
        after_help = "Example:\n  quorate ledger show usd"
    )]
    Show {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
}

impl Ledger {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Ledger::Create { id, asset, scale } => {
                global.write(&NewLedger { id, asset, scale }.ask()).await
            }
            Ledger::List { amount } => {
                let columns = [
                    ("ID", "/id"),
                    ("ASSET", "/asset"),
                    ("SCALE", "/scale"),
                    ("DEBITS", "/totals/debits_posted"),
                    ("CREDITS", "/totals/credits_posted"),
                    ("CREATED", "/created_at"),
                ];
                list(global, &global.read("/v1/ledgers"), &columns, amount).await
            }
            Ledger::Show { id } => {
                global
                    .show(&global.read(&format!("/v1/ledgers/{id}")))
                    .await
            }
        }
    }
}

/// Show the sums over all accounts of a ledger, and whether they agree.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate trial-balance usd")]
pub(super) struct TrialBalance {
    /// Id of the ledger.
    #[arg(value_parser = checked_id)]
    ledger: String,
}

impl TrialBalance {
    /// Shows it; fails if the ledger does not balance.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let path = format!("/v1/ledgers/{}/trial-balance", self.ledger);
        let shown = global.shown(&global.read(&path)).await?;
        match shown["balanced"] == true {
            true => Ok(()),
            false => Err(Failure::refused("the ledger does not balance")),
        }
    }
}

/// Accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Create an account, or find that it exists.
    #[command(after_help = "Example:
  quorate account create users:alice --ledger usd --debits-must-not-exceed-credits")]
    Create {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
        /// Id of its ledger.
        #[arg(long, value_parser = checked_id)]
        ledger: String,
        /// A number of your choice, such as one of a chart of accounts.
        #[arg(long, default_value_t = 0)]
        code: u32,
        /// Refuse debits beyond what was credited: a wallet.
        #[arg(long)]
        debits_must_not_exceed_credits: bool,
        /// Refuse credits beyond what was debited: a loan.
        #[arg(long)]
        credits_must_not_exceed_debits: bool,
    },
    /// List accounts with their balances, by id.
    #[command(after_help = "Examples:
  quorate account list --ledger usd --prefix users: --limit 20
  quorate account list --all -o csv >accounts.csv")]
    List {
        /// Only those of this ledger.
        #[arg(long, value_parser = checked_id)]
        ledger: Option<String>,
        /// Only those whose ids start so.
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        amount: Amount,
    },
    /// Show an account with its balance.
    #[command(
        visible_alias = "get",
        after_help = "Example:\n  quorate account show users:alice -c follower"
    )]
    Show {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
}

impl Account {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Account::Create {
                id,
                ledger,
                code,
                debits_must_not_exceed_credits,
                credits_must_not_exceed_debits,
            } => {
                let limits = Limits {
                    debits_must_not_exceed_credits,
                    credits_must_not_exceed_debits,
                };
                let new = NewAccount {
                    id,
                    ledger,
                    code,
                    limits,
                };
                global.write(&new.ask()).await
            }
            Account::List {
                ledger,
                prefix,
                amount,
            } => {
                let ask = accounts(global, ledger.as_deref(), prefix.as_deref());
                list(global, &ask, COLUMNS, amount).await
            }
            Account::Show { id } => {
                global
                    .show(&global.read(&format!("/v1/accounts/{id}")))
                    .await
            }
        }
    }
}

/// Of a table of accounts.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("LEDGER", "/ledger"),
    ("CODE", "/code"),
    ("BALANCE", "/balance/display"),
    ("ASSET", "/balance/asset"),
    ("DEBITS", "/balance/debits_posted"),
    ("CREDITS", "/balance/credits_posted"),
];

fn accounts(global: &Global, ledger: Option<&str>, prefix: Option<&str>) -> Ask {
    global
        .read("/v1/accounts")
        .param("ledger", ledger)
        .param("prefix", prefix)
}

/// An id as it may stand in a path.
pub(super) fn checked_id(text: &str) -> Result<String, String> {
    match id::is_valid(text) {
        true => Ok(text.to_owned()),
        false => Err("an id is [A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}".to_owned()),
    }
}
