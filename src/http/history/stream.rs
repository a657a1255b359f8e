//! The whole list as CSV or NDJSON: read while it is sent, as of one moment.

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::scan::{Found, Scan};
use super::{CSV, SCAN_MAX};
use crate::http::answer::Answer;
use crate::http::blocking;
use crate::http::error::{ApiError, Code};
use crate::http::transfers::Transfer;
use crate::machine::Fault;
use crate::raft::{Permit, ReadLevel, TransferRow};

/// Rows of one chunk of the body.
const ROWS: usize = 1000;

const COLUMNS: [&str; 14] = [
    "id",
    "ledger",
    "debit_account",
    "credit_account",
    "amount",
    "code",
    "linked",
    "metadata",
    "debit_debits_posted",
    "debit_credits_posted",
    "credit_debits_posted",
    "credit_credits_posted",
    "created_at",
    "created_index",
];

/// The answer with all that `scan` finds. Its beginning is read first: an account that does not exist is still a problem.
pub(super) async fn answer(
    mut scan: Scan,
    media: &'static str,
    level: ReadLevel,
    permit: Permit,
) -> Result<Answer, ApiError> {
    let (scan, first) = blocking(move || {
        let first = scan.next(ROWS, SCAN_MAX)?;
        Ok((scan, first))
    })
    .await?;
    let pin = scan.pin();
    let absent = || ApiError::absent(Code::AccountNotFound, scan.account(), pin);
    let first = first.ok_or_else(absent)?;
    let beginning = match media {
        CSV => Bytes::from(line(&COLUMNS.map(str::to_owned))),
        _ => Bytes::new(),
    };
    let chunks = stream::try_unfold(Some((scan, Some(first))), move |state| async move {
        let Some((mut scan, read)) = state else {
            return Ok::<_, ApiError>(None);
        };
        let (scan, found) = match read {
            Some(found) => (scan, found),
            None => {
                let next = move || {
                    let found = scan.next(ROWS, SCAN_MAX)?;
                    Ok::<_, Fault>((scan, found.unwrap_or_default()))
                };
                blocking(next).await?
            }
        };
        let Found { rows, more } = found;
        let text = Bytes::from(
            rows.into_iter()
                .map(|row| text(row, media))
                .collect::<String>(),
        );
        Ok(Some((text, more.map(|_| (scan, None)))))
    });
    // An error ends the body without its last chunk, which clients see.
    let chunks = chunks.map_err(|_| std::io::Error::other("a read failed"));
    let body = stream::iter([Ok(beginning)]).chain(chunks);
    let content_type = match media {
        CSV => "text/csv; charset=utf-8; header=present",
        _ => media,
    };
    Ok(Answer::stream(content_type, Body::from_stream(body)).read(pin, level, &permit))
}

fn text(row: TransferRow, media: &str) -> String {
    if media != CSV {
        let json = serde_json::to_string(&Transfer::from(row)).expect("our own types are JSON");
        return json + "\n";
    }
    line(&[
        row.id,
        row.ledger.unwrap_or_default(),
        row.debit_account,
        row.credit_account,
        row.amount.to_string(),
        row.code.to_string(),
        row.linked.to_string(),
        row.metadata,
        row.debit_after.debits.to_string(),
        row.debit_after.credits.to_string(),
        row.credit_after.debits.to_string(),
        row.credit_after.credits.to_string(),
        crate::http::time::rfc3339(row.time_ns),
        row.position.index.to_string(),
    ])
}

/// One record, quoted where it must be (RFC 4180).
fn line(cells: &[String]) -> String {
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    writer.write_record(cells).expect("memory takes any record");
    let bytes = writer.into_inner().expect("memory is flushed");
    String::from_utf8(bytes).expect("made of texts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_quoted_where_it_must_be() {
        let cells = ["a", "", "{\"k\":\"x, y\n\"}"].map(str::to_owned);
        assert_eq!(line(&cells), "a,,\"{\"\"k\"\":\"\"x, y\n\"\"}\"\r\n");
    }
}
