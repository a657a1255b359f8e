//! From what `quorate log export` writes to the applied log of the checkers: from the API's words to the history's.
//!
//! A put without a condition is a write, one with a condition a compare-and-set whose expected value is the one that the
//! tag stands for, and one of a key `s1/12` adds 12 to set `s1`. What the harness did before the history began is left out.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api;
use crate::history::applied::Entry;

/// What names of operations before the history begin with.
pub(crate) const SETUP: &str = "setup-";

/// A line of the export.
#[derive(Deserialize)]
pub(crate) struct Line {
    index: u64,
    term: u64,
    at: String,
    op: Option<String>,
    f: String,
    key: String,
    #[serde(default)]
    value: Value,
    expect: Option<String>,
    result: Option<bool>,
    #[serde(default)]
    dup: bool,
}

/// The value that each tag of a key stands for.
pub(crate) type Tags<'a> = BTreeMap<(&'a str, &'a str), i64>;

/// The lines of an export.
///
/// # Errors
/// When it is none.
pub(crate) fn parse(export: &str) -> anyhow::Result<Vec<Line>> {
    let lines = export.lines().map(serde_json::from_str);
    let lines = lines.collect::<Result<_, _>>();
    lines.context("a line of the export")
}

/// The lines of an applied log, from an export of all of it.
///
/// # Errors
/// When the export holds what no client asked for, such as a value that is no number.
pub(crate) fn translate(export: &str) -> anyhow::Result<String> {
    let lines = parse(export)?;
    translate_piece(&lines, &tags(&lines)?)
}

/// The same of a piece of it, with the tags that were given anywhere.
///
/// # Errors
/// As [`translate`].
pub(crate) fn translate_piece(lines: &[Line], tags: &Tags<'_>) -> anyhow::Result<String> {
    let mut text = String::new();
    for line in lines {
        let at = || format!("log index {}: {} {}", line.index, line.f, line.key);
        if let Some(entry) = entry(line, tags).with_context(at)? {
            text.push_str(&serde_json::to_string(&entry)?);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The value that each tag stands for, from lines of any nodes: a tag is given once.
///
/// # Errors
/// When a value is no number.
pub(crate) fn tags<'a>(lines: impl IntoIterator<Item = &'a Line>) -> anyhow::Result<Tags<'a>> {
    let puts = lines.into_iter();
    let puts = puts.filter(|line| line.f == "put" && line.result == Some(true) && !line.dup);
    puts.map(|line| Ok(((line.key.as_str(), line.at.as_str()), number(&line.value)?)))
        .collect()
}

fn entry(line: &Line, tags: &Tags<'_>) -> anyhow::Result<Option<Entry>> {
    let op = line.op.clone().unwrap_or_default();
    if op.starts_with(SETUP) || ["ledger", "account"].contains(&line.f.as_str()) {
        return Ok(None);
    }
    let result = json!(line.result);
    // A write without a condition has no result: that it was refused would be one too many.
    let done = match line.result {
        Some(true) => Value::Null,
        _ => result.clone(),
    };
    let (f, key, value, result) = match (line.f.as_str(), &line.expect) {
        ("transfer", _) => {
            let transfer = json!({
                "from": line.value["from"], "to": line.value["to"],
                "amount": number(&line.value["amount"])?,
            });
            ("transfer", None, transfer, result)
        }
        ("put", None) if api::is_set(&line.key) => {
            let (set, _) = line
                .key
                .split_once('/')
                .context("a set without an element")?;
            ("add", Some(set), json!(number(&line.value)?), done)
        }
        ("put", None) => (
            "write",
            Some(line.key.as_str()),
            json!(number(&line.value)?),
            done,
        ),
        ("put", Some(expect)) => {
            let key = line.key.as_str();
            let old = match expect.as_str() {
                "absent" => Value::Null,
                tag => json!(
                    tags.get(&(key, tag))
                        .context("a tag that nobody was given")?
                ),
            };
            ("cas", Some(key), json!([old, number(&line.value)?]), result)
        }
        (strange, _) => anyhow::bail!("nobody asks for a {strange}"),
    };
    Ok(Some(Entry {
        index: line.index,
        term: line.term,
        op,
        f: f.to_owned(),
        key: key.map(str::to_owned),
        value,
        result,
        dup: line.dup,
    }))
}

fn number(value: &Value) -> anyhow::Result<i64> {
    let text = value
        .as_str()
        .with_context(|| format!("{value} is no text"))?;
    text.parse()
        .with_context(|| format!("{text:?} is no number"))
}
