//! Lists: as many pages as are wanted, in any form.

use clap::Args;
use serde_json::Value;

use super::Global;
use super::format::{Csv, Format, table_of};
use super::output::{Failure, is_lost, print, remark};
use crate::client::{Answer, Ask};

/// Most rows of a page.
const PAGE_MAX: u64 = 1000;

/// How much of a list is wanted.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Amount {
    /// Most rows.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Every row, however many there are.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Prints the list that `ask` asks for; `columns` are those of a table.
pub(super) async fn list(
    global: &Global,
    ask: &Ask,
    columns: &[(&str, &str)],
    amount: Amount,
) -> Result<(), Failure> {
    let mut left = if amount.all { u64::MAX } else { amount.limit };
    let (mut rows, mut csv, mut cursor) = (Vec::new(), Csv::default(), None);
    loop {
        let limit = left.min(PAGE_MAX).to_string();
        let asked = ask
            .clone()
            .param("limit", Some(&limit))
            .param("cursor", cursor.as_deref());
        let answer = global.ask(&asked).await?;
        let mut page = answer.json();
        let Value::Array(mut data) = page["data"].take() else {
            return Err(Failure::refused("the answer is no list"));
        };
        left = left.saturating_sub(data.len() as u64);
        // Lines can go out page by page; the other forms need all rows first.
        match global.output {
            Format::Jsonl => print(
                &data
                    .iter()
                    .map(|row| format!("{row}\n"))
                    .collect::<String>(),
            ),
            Format::Csv => print(&csv.rows(&data)),
            Format::Table | Format::Json => rows.append(&mut data),
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if is_lost() {
            return Ok(());
        }
        if cursor.is_some() && left > 0 {
            continue;
        }
        match global.output {
            Format::Table => print(&table_of(columns, &rows)),
            Format::Json => {
                page["data"] = rows.into();
                print(&format!("{page}\n"));
            }
            Format::Jsonl | Format::Csv => {}
        }
        if cursor.is_some() {
            remark("there are more: --limit N, or --all");
        }
        footer(&answer);
        return Ok(());
    }
}

/// Says, to people only, when what was read was true.
pub(super) fn footer(answer: &Answer) {
    let header = |name: &str| answer.header(name).unwrap_or("?");
    let mut line = format!(
        "as of index {}, level {}, from n{}",
        header("quorate-index"),
        header("consistency-effective"),
        header("quorate-served-by"),
    );
    if let Some(age) = answer.header("quorate-staleness") {
        line += &match age {
            "unknown" => ", of unknown age".to_owned(),
            age => format!(", at most {age} old"),
        };
    }
    remark(&line);
}
