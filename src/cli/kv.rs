//! `quorate kv`.

use std::io::Read as _;

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::Global;
use super::format::Format;
use super::list::{Amount, footer, list};
use super::output::{Failure, print_bytes};
use crate::client::ask::Key;
use crate::client::kv::{Condition, Delete, Put, Tag, path};

/// The key-value store.
#[derive(Debug, Subcommand)]
pub(super) enum Kv {
    /// Print the value of a key; in other forms than a table its versions too.
    #[command(
        after_help = "Examples:\n  quorate kv get greeting\n  quorate kv get greeting -o json"
    )]
    Get {
        /// The key.
        key: String,
    },
    /// Write the value of a key.
    #[command(after_help = "Examples:
  quorate kv put greeting hello
  quorate kv put config @settings.json
  date | quorate kv put now -
  quorate kv put lock me --if-none-match '*'")]
    Put {
        /// The key.
        key: String,
        /// The value, `@FILE` for a file's content, or `-` for standard input.
        value: String,
        #[command(flatten)]
        when: When,
        /// Write only if the key does not exist.
        #[arg(long, value_name = "*", value_parser = ["*"], conflicts_with = "if_match")]
        if_none_match: Option<String>,
    },
    /// Write the value of a key if its tag is still the one that was read.
    #[command(after_help = "Examples:
  quorate kv cas counter 40.0 8       the tag is the ETag, `mod_index` in JSON
  quorate kv cas counter absent 1     if there is no such key
Ends with 4 if it has another one.")]
    Cas {
        /// The key.
        key: String,
        /// The tag, or `absent`, or `present`.
        #[arg(value_parser = expected)]
        expected: Condition,
        /// The value, `@FILE` for a file's content, or `-` for standard input.
        value: String,
        #[command(flatten)]
        once: Once,
    },
    /// Remove a key.
    #[command(
        visible_alias = "del",
        after_help = "Example:\n  quorate kv delete greeting --if-match 40.0"
    )]
    Delete {
        /// The key.
        key: String,
        #[command(flatten)]
        when: When,
    },
    /// List keys with their values, in byte order.
    #[command(after_help = "Example:\n  quorate kv list --prefix config/ -o jsonl")]
    List {
        /// Only those that start so.
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        amount: Amount,
    },
}

/// The condition of a write.
#[derive(Debug, Args)]
pub(super) struct When {
    /// Only if the key's tag is this one, such as 40.0, or * for any.
    #[arg(long, value_name = "TAG", value_parser = matching)]
    if_match: Option<Condition>,
    #[command(flatten)]
    once: Once,
}

/// What makes a write happen once.
#[derive(Debug, Args)]
pub(super) struct Once {
    /// Do it once under this key: sent again with it, it is answered as it was before [default: a random one].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl Once {
    fn key(self) -> Key {
        self.idempotency_key.map_or_else(Key::make, Key::Given)
    }
}

impl Kv {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Kv::Get { key } => get(global, &key).await,
            Kv::Put {
                key,
                value,
                when,
                if_none_match,
            } => {
                let condition = match if_none_match {
                    Some(_) => Condition::Absent,
                    None => when.if_match.unwrap_or_default(),
                };
                put(global, key, &value, condition, when.once).await
            }
            Kv::Cas {
                key,
                expected,
                value,
                once,
            } => put(global, key, &value, expected, once).await,
            Kv::Delete { key, when } => {
                let delete = Delete {
                    key,
                    condition: when.if_match.unwrap_or_default(),
                    idempotency_key: when.once.key(),
                };
                global.write(&delete.ask()?).await
            }
            Kv::List { prefix, amount } => {
                let columns = [
                    ("KEY", "/key"),
                    ("VERSION", "/version"),
                    ("TAG", "/mod_index"),
                    ("VALUE", "/value"),
                ];
                let ask = global.read("/v1/kv").param("prefix", prefix.as_deref());
                list(global, &ask, &columns, amount).await
            }
        }
    }
}

async fn get(global: &Global, key: &str) -> Result<(), Failure> {
    let ask = global.read(&path(key)?);
    if global.output != Format::Table {
        return global.show(&ask.header("accept", "application/json")).await;
    }
    let answer = global.ask(&ask).await?;
    print_bytes(&answer.body);
    footer(&answer);
    Ok(())
}

async fn put(
    global: &Global,
    key: String,
    value: &str,
    condition: Condition,
    once: Once,
) -> Result<(), Failure> {
    let put = Put {
        key,
        value: content(value)?,
        condition,
        idempotency_key: once.key(),
    };
    global.write(&put.ask()?).await
}

fn matching(text: &str) -> Result<Condition, String> {
    match text {
        "*" => Ok(Condition::Present),
        _ => text.parse::<Tag>().map(Condition::At),
    }
}

fn expected(text: &str) -> Result<Condition, String> {
    match text {
        "absent" => Ok(Condition::Absent),
        "present" => Ok(Condition::Present),
        _ => text.parse::<Tag>().map(Condition::At),
    }
}

fn content(value: &str) -> Result<Bytes, Failure> {
    if value == "-" {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        return Ok(bytes.into());
    }
    match value.strip_prefix('@') {
        Some(file) => std::fs::read(file)
            .map(Bytes::from)
            .map_err(|error| Failure::usage(format!("{file}: {error}"))),
        None => Ok(Bytes::copy_from_slice(value.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        assert_eq!(matching("*"), Ok(Condition::Present));
        assert_eq!(expected("absent"), Ok(Condition::Absent));
        let tag = Condition::At("40.0".parse().unwrap());
        assert_eq!(matching("\"40.0\""), Ok(tag.clone()));
        assert_eq!(expected("40.0"), Ok(tag));
        assert!(matching("absent").is_err());
        assert!(expected("40").is_err());
    }
}
