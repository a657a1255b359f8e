//! `quorate ledger`, `account` and `transfer`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Global;
use super::client::Ask;
use super::output::{Failure, show};
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
    /// Show a ledger with its totals.
    Show {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
    /// Show the sums over all accounts of a ledger.
    TrialBalance {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
}

impl Ledger {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let ask = match self {
            Ledger::Create { id, asset, scale } => Ask::create(
                "/v1/ledgers",
                &json!({ "id": id, "asset": asset, "scale": scale }),
            ),
            Ledger::Show { id } => Ask::get(format!("/v1/ledgers/{id}{}", global.query())),
            Ledger::TrialBalance { id } => {
                Ask::get(format!("/v1/ledgers/{id}/trial-balance{}", global.query()))
            }
        };
        answer(global, &ask).await
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
    /// Show an account with its balance.
    Show {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
}

impl Account {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let ask = match self {
            Account::Create {
                id,
                ledger,
                code,
                debits_must_not_exceed_credits,
                credits_must_not_exceed_debits,
            } => {
                let limits = json!({
                    "debits_must_not_exceed_credits": debits_must_not_exceed_credits,
                    "credits_must_not_exceed_debits": credits_must_not_exceed_debits,
                });
                let body = json!({ "id": id, "ledger": ledger, "code": code, "limits": limits });
                Ask::create("/v1/accounts", &body)
            }
            Account::Show { id } => Ask::get(format!("/v1/accounts/{id}{}", global.query())),
        };
        answer(global, &ask).await
    }
}

/// Transfers.
#[derive(Debug, Subcommand)]
pub(super) enum Transfer {
    /// Post a transfer.
    Send(Send),
    /// Show a transfer, posted or refused for ever.
    Show {
        /// Its id.
        #[arg(value_parser = checked_id)]
        id: String,
    },
}

/// Post a transfer.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate transfer send --debit users:alice --credit shops:bob --amount 1250 --metadata order=77

Repeating it with the same --id moves nothing twice. Without --id one is made and printed.")]
pub(super) struct Send {
    /// Its id [default: a random one].
    #[arg(long, value_parser = checked_id)]
    id: Option<String>,
    /// Id of the account to debit: where it comes from.
    #[arg(long, value_parser = checked_id)]
    debit: String,
    /// Id of the account to credit: where it goes.
    #[arg(long, value_parser = checked_id)]
    credit: String,
    /// Minor units.
    #[arg(long)]
    amount: u128,
    /// A number of your choice.
    #[arg(long, default_value_t = 0)]
    code: u32,
    /// Metadata; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

impl Transfer {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let ask = match self {
            Transfer::Send(send) => Ask::create("/v1/transfers", &send.body()),
            Transfer::Show { id } => Ask::get(format!("/v1/transfers/{id}{}", global.query())),
        };
        answer(global, &ask).await
    }
}

impl Send {
    fn body(self) -> Value {
        let id = self
            .id
            .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let pairs = self
            .metadata
            .into_iter()
            .map(|(key, value)| (key, value.into()));
        json!({
            "id": id,
            "debit_account": self.debit,
            "credit_account": self.credit,
            "amount": self.amount.to_string(),
            "code": self.code,
            "metadata": pairs.collect::<Map<String, Value>>(),
        })
    }
}

async fn answer(global: &Global, ask: &Ask) -> Result<(), Failure> {
    show(global.output, &global.client()?.ask(ask).await?);
    Ok(())
}

fn checked_id(text: &str) -> Result<String, String> {
    match id::is_valid(text) {
        true => Ok(text.to_owned()),
        false => Err("an id is [A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("metadata is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_without_an_id_gets_one() {
        let send = |id: Option<&str>| Send {
            id: id.map(str::to_owned),
            debit: "a".to_owned(),
            credit: "b".to_owned(),
            amount: u128::MAX,
            code: 7,
            metadata: vec![pair("k=v=w").unwrap()],
        };
        let body = send(Some("t")).body();
        assert_eq!(body["id"], "t");
        assert_eq!(body["amount"], u128::MAX.to_string());
        assert_eq!(body["metadata"]["k"], "v=w");
        let made = send(None).body();
        assert!(id::is_valid(made["id"].as_str().unwrap()));
    }
}
