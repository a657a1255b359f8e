//! The four forms of output: aligned for people; the API's own JSON; one JSON value a line; CSV.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::Value;

use super::output::print;

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// The API's own JSON.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// Comma-separated values with a heading (RFC 4180).
    Csv,
}

/// Longest cell of a table, in characters: the other forms have the whole of it.
const CELL_MAX: usize = 60;

/// Prints one thing.
pub(super) fn show(format: Format, value: &Value) {
    match format {
        Format::Json | Format::Jsonl => print(&format!("{value}\n")),
        Format::Table => print(&fields(value)),
        Format::Csv => {
            let mut csv = Csv::default();
            print(&csv.rows(std::slice::from_ref(value)));
        }
    }
}

/// `name  value` lines, nested names joined with dots.
pub(super) fn fields(value: &Value) -> String {
    let rows = flat(value);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let value = if value.is_empty() { "-" } else { value };
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// Names and values of everything in `value`, nested names joined with dots; `null` is empty. Metadata, whose names are not
/// this API's, stays together.
fn flat(value: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    rows
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let join = |inner: &str| match name {
        "" => inner.to_owned(),
        _ => format!("{name}.{inner}"),
    };
    match value {
        Value::Object(_) if name == "metadata" => rows.push((name.to_owned(), value.to_string())),
        Value::Object(members) => {
            for (inner, value) in members {
                flatten(&join(inner), value, rows);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                flatten(&join(&place.to_string()), value, rows);
            }
        }
        other => rows.push((name.to_owned(), cell(other))),
    }
}

/// A value that is no object and no array, as text.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A table of `rows`: for each column its heading, and the JSON pointer of what stands in it.
pub(super) fn table_of(columns: &[(&str, &str)], rows: &[Value]) -> String {
    let heading: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
    let cells = rows.iter().map(|row| {
        let cells = columns.iter().map(|(_, pointer)| {
            let text = row.pointer(pointer).map(cell).unwrap_or_default();
            if text.is_empty() {
                "-".to_owned()
            } else {
                one_line(&text)
            }
        });
        cells.collect()
    });
    table(&heading, &cells.collect::<Vec<_>>())
}

/// `text` on one line, and not longer than a cell may be.
fn one_line(text: &str) -> String {
    let visible = text.chars().flat_map(|c| match c.is_control() {
        true => c.escape_default().collect::<Vec<_>>(),
        false => vec![c],
    });
    let mut line: String = visible.take(CELL_MAX + 1).collect();
    if line.chars().count() > CELL_MAX {
        line = line.chars().take(CELL_MAX - 3).collect::<String>() + "...";
    }
    line
}

/// Rows under a heading, columns as wide as they need to be.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..heading.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut heading.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Writes CSV: a heading once, named by the first row, and what later rows have under those names.
#[derive(Debug, Default)]
pub(super) struct Csv {
    heading: Option<Vec<String>>,
}

impl Csv {
    /// The lines of `rows`, after the heading if these are the first.
    pub(super) fn rows(&mut self, rows: &[Value]) -> String {
        let mut text = String::new();
        for row in rows {
            let flat = flat(row);
            let heading = self.heading.get_or_insert_with(|| {
                let names: Vec<_> = flat.iter().map(|(name, _)| name.clone()).collect();
                text.push_str(&csv_line(names.iter().map(String::as_str)));
                names
            });
            let cell = |name: &String| {
                let found = flat.iter().find(|(known, _)| known == name);
                found.map_or("", |(_, value)| value)
            };
            text.push_str(&csv_line(heading.iter().map(cell)));
        }
        text
    }
}

fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let quoted = cells.map(|cell| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [
            json!({ "id": "n1", "is": { "role": "leader" } }),
            json!({ "id": "n22", "is": { "role": null } }),
        ];
        assert_eq!(
            table_of(&[("NODE", "/id"), ("ROLE", "/is/role")], &rows),
            "NODE  ROLE\nn1    leader\nn22   -\n"
        );
        let long = [json!({ "v": format!("a\nb{}", "x".repeat(100)) })];
        let text = table_of(&[("V", "/v")], &long);
        assert!(text.contains("a\\nbxx") && text.contains("..."), "{text}");
        assert_eq!(text.lines().nth(1).unwrap().len(), CELL_MAX);
    }

    #[test]
    fn fields_of_objects_are_joined() {
        let value = json!({ "a": { "b": "1" }, "c": [true], "d": null, "metadata": { "k": "v" } });
        let text = "a.b       1\nc.0       true\nd         -\nmetadata  {\"k\":\"v\"}\n";
        assert_eq!(fields(&value), text);
    }

    #[test]
    fn csv_has_one_heading_and_quotes_what_needs_it() {
        let mut csv = Csv::default();
        let first = [json!({ "a": "x,y", "b": { "c": 1 } })];
        assert_eq!(csv.rows(&first), "a,b.c\n\"x,y\",1\n");
        let second = [json!({ "b": { "c": "\"" }, "other": 2 })];
        assert_eq!(csv.rows(&second), ",\"\"\"\"\n");
    }
}
