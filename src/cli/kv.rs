//! `quorate kv`: get and put.

use std::io::Read as _;

use bytes::Bytes;
use clap::Subcommand;

use super::client::Ask;
use super::output::{Failure, print_bytes, show};
use super::{Format, Global};

/// The key-value store.
#[derive(Debug, Subcommand)]
pub(super) enum Kv {
    /// Print the value of a key; with `-o json` its versions too.
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
        /// Write only if the key's tag is this one, such as 40.0, or * for any.
        #[arg(long, value_name = "TAG", conflicts_with = "if_none_match")]
        if_match: Option<String>,
        /// Write only if the key does not exist.
        #[arg(long, value_name = "*", value_parser = ["*"])]
        if_none_match: Option<String>,
    },
}

impl Kv {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = global.client()?;
        match self {
            Kv::Get { key } => {
                let mut ask = Ask::get(format!("{}{}", target(&key)?, global.query()));
                if global.output == Format::Json {
                    ask = ask.header("accept", "application/json".to_owned());
                }
                let answer = client.ask(&ask).await?;
                match global.output {
                    Format::Json => show(Format::Json, &answer),
                    Format::Table => print_bytes(&answer.body),
                }
            }
            Kv::Put {
                key,
                value,
                if_match,
                if_none_match,
            } => {
                let mut ask = Ask::put(target(&key)?, content(&value)?);
                if let Some(tag) = if_match {
                    ask = ask.header("if-match", quoted(&tag));
                }
                if let Some(tag) = if_none_match {
                    ask = ask.header("if-none-match", tag);
                }
                show(global.output, &client.ask(&ask).await?);
            }
        }
        Ok(())
    }
}

fn quoted(tag: &str) -> String {
    match tag == "*" || tag.starts_with('"') {
        true => tag.to_owned(),
        false => format!("\"{tag}\""),
    }
}

/// The path of a key: every byte that could mean something else is escaped.
fn target(key: &str) -> Result<String, Failure> {
    if key.is_empty() {
        return Err(Failure::usage("a key has at least one byte"));
    }
    let escaped = key.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    Ok(escaped.fold("/v1/kv/".to_owned(), |path, part| path + &part))
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
    fn every_key_has_a_path() {
        assert_eq!(target("a/b").unwrap(), "/v1/kv/a/b");
        assert_eq!(
            target("a b?c#d%\u{e9}").unwrap(),
            "/v1/kv/a%20b%3Fc%23d%25%C3%A9"
        );
        assert!(target("").is_err());
    }

    #[test]
    fn a_tag_is_quoted_once() {
        assert_eq!(quoted("40.0"), "\"40.0\"");
        assert_eq!(quoted("\"40.0\""), "\"40.0\"");
        assert_eq!(quoted("*"), "*");
    }
}
