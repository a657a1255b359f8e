//! What goes to standard output and error, and with which exit code a command ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::Format;
use super::client::Answer;

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Refused or failed, and certainly not applied.
    pub(super) fn refused(message: impl Into<String>) -> Failure {
        Failure {
            code: 1,
            message: message.into(),
        }
    }

    /// Called wrongly.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure {
            code: 2,
            message: message.into(),
        }
    }

    /// May have been applied.
    pub(super) fn unknown(message: impl Into<String>) -> Failure {
        Failure {
            code: 3,
            message: message.into(),
        }
    }

    /// Nobody could be reached; certainly not applied.
    pub(super) fn unreachable(message: impl Into<String>) -> Failure {
        Failure {
            code: 4,
            message: message.into(),
        }
    }

    /// The answer was a problem.
    pub(super) fn problem(answer: &Answer) -> Failure {
        let problem = answer.json();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let mut message = match text("code").as_str() {
            "" => format!("HTTP {}: {}", answer.status, answer.text()),
            code => format!("{code}: {}", text("detail")),
        };
        for wrong in problem["errors"].as_array().into_iter().flatten() {
            let place = ["pointer", "parameter", "header"].map(|kind| wrong[kind].as_str());
            let place = place.into_iter().flatten().next().unwrap_or_default();
            let detail = wrong["detail"].as_str().unwrap_or_default();
            let _ = write!(message, "\n  {place}: {detail}");
        }
        if text("outcome") == "unknown" {
            let _ = write!(message, "\nwhether it was applied is not known");
            if let Some(check) = problem["check"].as_str() {
                let _ = write!(message, "; see {check}");
            }
            return Failure::unknown(message);
        }
        Failure::refused(message)
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        complain(&self.message);
        ExitCode::from(self.code)
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u8 {
        self.code
    }
}

/// A line on standard error.
pub(super) fn complain(message: &str) {
    // If standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "quorate: {message}");
}

/// Text on standard output. A closed pipe is the reader's choice, not a failure.
pub(super) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// Bytes on standard output.
pub(super) fn print_bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints a successful answer: as the API gave it, or field by field.
pub(super) fn show(format: Format, answer: &Answer) {
    match format {
        Format::Json => print(&format!("{}\n", answer.text())),
        Format::Table => print(&fields(&answer.json())),
    }
}

/// `name  value` lines, nested names joined with dots.
fn fields(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let join = |inner: &str| match name {
        "" => inner.to_owned(),
        _ => format!("{name}.{inner}"),
    };
    match value {
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
        Value::Null => rows.push((name.to_owned(), "-".to_owned())),
        Value::String(text) => rows.push((name.to_owned(), text.clone())),
        Value::Bool(_) | Value::Number(_) => rows.push((name.to_owned(), value.to_string())),
    }
}

/// Rows under a heading, columns as wide as they need to be.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_says_what_and_where_and_its_code_says_what_may_be_assumed() {
        let problem = |status: u16, outcome: &str| {
            let body = json!({
                "code": "invalid_value", "detail": "x is wrong", "outcome": outcome,
                "errors": [{ "pointer": "/x", "detail": "must be y" }], "check": "/v1/kv/a",
            });
            Failure::problem(&Answer {
                status,
                body: body.to_string().into(),
                endpoint: String::new(),
            })
        };
        let refused = problem(400, "not_applied");
        assert_eq!(refused.code(), 1);
        assert!(
            refused.message.contains("/x: must be y"),
            "{}",
            refused.message
        );
        let unknown = problem(504, "unknown");
        assert_eq!(unknown.code(), 3);
        assert!(unknown.message.contains("/v1/kv/a"), "{}", unknown.message);
    }

    #[test]
    fn a_table_is_as_wide_as_its_cells() {
        let rows = [
            vec!["n1".to_owned(), "leader".to_owned()],
            vec!["n22".to_owned(), "-".to_owned()],
        ];
        assert_eq!(
            table(&["NODE", "ROLE"], &rows),
            "NODE  ROLE\nn1    leader\nn22   -\n"
        );
    }

    #[test]
    fn fields_of_objects_are_joined() {
        assert_eq!(
            fields(&json!({ "a": { "b": "1" }, "c": [true] })),
            "a.b  1\nc.0  true\n"
        );
    }
}
