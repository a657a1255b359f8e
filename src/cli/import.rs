//! `quorate transfer batch`: transfers from a file, in batches.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Global;
use super::format::{Csv, Format, fields, table_of};
use super::output::{Exit, Failure, print};
use super::progress::Progress;
use super::rows::parse;
use crate::client::transfers::{Batch, NewTransfer};
use crate::machine::command::BATCH_LEN_MAX;

/// Most bytes of JSON in a batch: below what a node takes (8 MiB).
const BATCH_BYTES_MAX: usize = 7 << 20;

/// Post the transfers of a file, many in one request.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate transfer batch transfers.csv
  generate | quorate transfer batch - --format jsonl -o jsonl >results.jsonl

A line of JSON is what the API takes: {\"id\", \"debit_account\", \"credit_account\", \"amount\": \"1250\", \"code\", \"linked\",
\"metadata\"}. CSV has a heading with those names, and metadata.NAME for each of the metadata. The whole file is checked before
anything is sent. Batches follow each other in order; linked transfers stay in one. It stops at the first batch that could
not be done: running it again is safe, because what was posted is found by its id. Ends with 5 if any transfer was refused, with 10
if it stopped after batches that are done.")]
pub(super) struct Import {
    /// The file, or - for standard input.
    file: PathBuf,
    /// What the lines are [default: csv for a file called so, else jsonl].
    #[arg(long, value_enum)]
    format: Option<Lines>,
    /// Most transfers in a request.
    #[arg(
        long,
        default_value_t = BATCH_LEN_MAX as u64,
        value_parser = clap::value_parser!(u64).range(1..=BATCH_LEN_MAX as u64)
    )]
    batch: u64,
}

/// What the lines of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Lines {
    /// A JSON object each.
    #[value(alias = "ndjson")]
    Jsonl,
    /// Comma-separated values under a heading.
    Csv,
}

/// What became of all transfers so far.
#[derive(Debug, Default)]
struct Sum {
    batches: u64,
    created: u64,
    exists: u64,
    refused: Vec<Value>,
}

impl Import {
    /// Reads, sends, and prints what became of it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = self.file.display().to_string();
        let is_csv = self.file.extension().is_some_and(|end| end == "csv");
        let guess = if is_csv { Lines::Csv } else { Lines::Jsonl };
        let text = self
            .text()
            .map_err(|why| Failure::usage(format!("{name}: {why}")))?;
        let transfers = parse(&text, self.format.unwrap_or(guess))
            .map_err(|why| Failure::usage(format!("{name}: {why}\nnothing was sent")))?;
        drop(text);
        let max = usize::try_from(self.batch).expect("bounded above");
        let ends = ends(&transfers, max)
            .map_err(|why| Failure::usage(format!("{name}: {why}\nnothing was sent")))?;
        let (mut sum, mut csv) = (Sum::default(), Csv::default());
        let mut progress = Progress::new("posting", transfers.len() as u64);
        let mut start = 0;
        for end in ends {
            let told = send(global, &transfers[start..end], &mut sum, &mut csv).await;
            if let Err(failure) = told {
                drop(progress);
                let which = format!(
                    "transfers {} to {end}, after {start} that are done",
                    start + 1
                );
                return Err(sum.cut_off(global.output, failure.within(&which)));
            }
            start = end;
            progress.at(start as u64);
        }
        drop(progress);
        sum.show(global.output);
        match sum.refused.len() {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Refused,
                format!("{count} of {} transfers were refused", transfers.len()),
            )),
        }
    }

    fn text(&self) -> Result<String, String> {
        if self.file.as_os_str() != "-" {
            return std::fs::read_to_string(&self.file).map_err(|error| error.to_string());
        }
        let mut text = String::new();
        let read = std::io::stdin().lock().read_to_string(&mut text);
        read.map(|_| text).map_err(|error| error.to_string())
    }
}

/// Where batches end: no more than `max` transfers and not too many bytes in each, and no chain in two.
fn ends(transfers: &[NewTransfer], max: usize) -> Result<Vec<usize>, String> {
    let (mut ends, mut start, mut chain, mut bytes) = (Vec::new(), 0, 0, 0);
    let mut since_chain = 0;
    for (place, transfer) in transfers.iter().enumerate() {
        let size = serde_json::to_vec(transfer).map_or(0, |json| json.len() + 1);
        bytes += size;
        since_chain += size;
        if place - start + 1 > max || bytes > BATCH_BYTES_MAX {
            if chain == start {
                return Err(format!(
                    "the linked transfers from {:?} on do not fit into one batch",
                    transfers[chain].id
                ));
            }
            ends.push(chain);
            (start, bytes) = (chain, since_chain);
        }
        if !transfer.linked {
            (chain, since_chain) = (place + 1, 0);
        }
    }
    if start < transfers.len() {
        ends.push(transfers.len());
    }
    Ok(ends)
}

async fn send(
    global: &Global,
    transfers: &[NewTransfer],
    sum: &mut Sum,
    csv: &mut Csv,
) -> Result<(), Failure> {
    let answer = global.ask(&Batch::new(transfers.to_vec()).ask()?).await?;
    let mut body = answer.json();
    let count = |name: &str| body["summary"][name].as_u64().unwrap_or(0);
    sum.batches += 1;
    sum.created += count("created");
    sum.exists += count("exists");
    let Value::Array(results) = body["results"].take() else {
        return Err(Failure::new(
            Exit::Unknown,
            "the answer to a batch has no results",
        ));
    };
    match global.output {
        Format::Jsonl => print(
            &results
                .iter()
                .map(|row| format!("{row}\n"))
                .collect::<String>(),
        ),
        Format::Csv => {
            let rows: Vec<_> = results.iter().map(with_every_field).collect();
            print(&csv.rows(&rows));
        }
        Format::Table | Format::Json => {}
    }
    let refused = results.into_iter().filter(|row| row["result"] == "refused");
    sum.refused.extend(refused);
    Ok(())
}

/// A result with the fields that only some have, so that the heading of CSV does not depend on the first.
fn with_every_field(row: &Value) -> Value {
    json!({ "id": row["id"], "result": row["result"], "code": row["code"], "detail": row["detail"] })
}

impl Sum {
    /// What is said when a batch failed: of those before it, all that is known.
    fn cut_off(&self, format: Format, failure: Failure) -> Failure {
        if self.batches == 0 {
            return failure;
        }
        self.show(format);
        failure.after_a_part()
    }

    fn show(&self, format: Format) {
        let summary = json!({ "batches": self.batches, "created": self.created, "exists": self.exists,
                              "refused": self.refused.len() });
        match format {
            Format::Json => print(&format!(
                "{}\n",
                json!({ "summary": summary, "refused": self.refused })
            )),
            Format::Table => {
                if !self.refused.is_empty() {
                    let columns = [("REFUSED", "/id"), ("CODE", "/code"), ("DETAIL", "/detail")];
                    print(&table_of(&columns, &self.refused));
                }
                print(&fields(&summary));
            }
            Format::Jsonl | Format::Csv => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfers(linked: &[bool]) -> Vec<NewTransfer> {
        let transfer = |(place, linked): (usize, &bool)| NewTransfer {
            id: place.to_string(),
            debit_account: "a".to_owned(),
            credit_account: "b".to_owned(),
            amount: 1,
            code: 0,
            linked: *linked,
            metadata: Default::default(),
        };
        linked.iter().enumerate().map(transfer).collect()
    }

    #[test]
    fn batches_are_full_but_no_chain_is_cut() {
        let of = |linked: &[bool], max| ends(&transfers(linked), max);
        assert_eq!(of(&[], 2).unwrap(), [0; 0]);
        assert_eq!(of(&[false; 5], 2).unwrap(), [2, 4, 5]);
        assert_eq!(of(&[false, true, false, false], 2).unwrap(), [1, 3, 4]);
        assert_eq!(of(&[true, false, true, false], 2).unwrap(), [2, 4]);
        assert_eq!(
            of(&[false, true, true, false, false], 3).unwrap(),
            [1, 4, 5]
        );
        assert!(of(&[false, true, true, false], 2).is_err());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_too() {
        let mut heavy = transfers(&[false; 5]);
        for transfer in &mut heavy {
            let value = "x".repeat(BATCH_BYTES_MAX / 2 - 1000);
            transfer.metadata.insert("k".to_owned(), value);
        }
        assert_eq!(ends(&heavy, 100).unwrap(), [2, 4, 5]);
    }
}
