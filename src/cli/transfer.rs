//! `quorate transfer`: one, or a file full.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::Global;
use super::import::Import;
use super::ledger::checked_id;
use super::list::{Amount, list};
use super::output::Failure;
use crate::client::ask::new_key;
use crate::client::transfers::{NewTransfer, Order};

/// Transfers.
#[derive(Debug, Subcommand)]
pub(super) enum Transfer {
    /// Post a transfer.
    Send(Send),
    /// Post the transfers of a file, many in one request.
    #[command(visible_alias = "import")]
    Batch(Import),
    /// List the posted transfers of an account.
    #[command(after_help = "Examples:
  quorate transfer list --account users:alice --newest-first --limit 10
  quorate transfer list --account users:alice --all -o jsonl")]
    List {
        /// Id of the account.
        #[arg(long, value_parser = checked_id)]
        account: String,
        /// The newest first instead of the oldest.
        #[arg(long)]
        newest_first: bool,
        #[command(flatten)]
        amount: Amount,
    },
    /// Show a transfer, posted or refused for ever.
    #[command(
        visible_alias = "get",
        after_help = "Example:\n  quorate transfer show order-77"
    )]
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
    /// How much, in minor units of the ledger: 1250 is 12.50 at scale 2.
    #[arg(long, value_parser = minor_units, allow_negative_numbers = true)]
    amount: u128,
    /// A number of your choice.
    #[arg(long, default_value_t = 0)]
    code: u32,
    /// Metadata; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
}

fn minor_units(text: &str) -> Result<u128, String> {
    text.parse().map_err(|_| {
        "not a whole number of minor units, above 0 and below 2^128, such as 1250 for 12.50 at scale 2"
            .to_owned()
    })
}

/// Of a table of transfers.
const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("DEBIT", "/debit_account"),
    ("CREDIT", "/credit_account"),
    ("AMOUNT", "/amount"),
    ("CODE", "/code"),
    ("CREATED", "/created_at"),
];

impl Transfer {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Transfer::Send(send) => {
                let new = send.into_transfer();
                let told = global.write(&new.ask()).await;
                told.map_err(|failure| failure.within(&format!("transfer {}", new.id)))
            }
            Transfer::Batch(import) => import.run(global).await,
            Transfer::List {
                account,
                newest_first,
                amount,
            } => {
                let order = if newest_first {
                    Order::Descending
                } else {
                    Order::Ascending
                };
                let ask = global
                    .read(&format!("/v1/accounts/{account}/transfers"))
                    .param("sort", Some(order.name()));
                list(global, &ask, COLUMNS, amount).await
            }
            Transfer::Show { id } => {
                global
                    .show(&global.read(&format!("/v1/transfers/{id}")))
                    .await
            }
        }
    }
}

impl Send {
    fn into_transfer(self) -> NewTransfer {
        NewTransfer {
            id: self.id.unwrap_or_else(new_key),
            debit_account: self.debit,
            credit_account: self.credit,
            amount: self.amount,
            code: self.code,
            linked: false,
            metadata: self.metadata.into_iter().collect::<BTreeMap<_, _>>(),
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("metadata is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::id;

    #[test]
    fn an_amount_is_a_whole_number_of_minor_units() {
        assert_eq!(minor_units("1250"), Ok(1250));
        for bad in [
            "12.50",
            "-5",
            "",
            "1e3",
            "340282366920938463463374607431768211456",
        ] {
            assert!(
                minor_units(bad).unwrap_err().contains("1250 for 12.50"),
                "{bad}"
            );
        }
    }

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
        let named = send(Some("t")).into_transfer();
        assert_eq!((&*named.id, named.amount), ("t", u128::MAX));
        assert_eq!(named.metadata["k"], "v=w");
        let made = send(None).into_transfer();
        assert!(id::is_valid(&made.id));
        assert_ne!(made.id, send(None).into_transfer().id);
    }
}
