//! Transfers as lines of text: JSON or CSV.

use super::import::Lines;
use crate::client::transfers::NewTransfer;
use crate::machine::id;

/// The transfers in `text`; or what is wrong with it, and where.
pub(super) fn parse(text: &str, lines: Lines) -> Result<Vec<NewTransfer>, String> {
    match lines {
        Lines::Jsonl => {
            let lines = text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty());
            let read = |(number, line): (usize, &str)| {
                let at = |why: String| format!("line {}: {why}", number + 1);
                let transfer = serde_json::from_str(line).map_err(|error| at(error.to_string()))?;
                checked(transfer).map_err(at)
            };
            lines.map(read).collect()
        }
        Lines::Csv => csv(text),
    }
}

fn checked(transfer: NewTransfer) -> Result<NewTransfer, String> {
    let ids = [
        ("id", &transfer.id),
        ("debit_account", &transfer.debit_account),
        ("credit_account", &transfer.credit_account),
    ];
    match ids.iter().find(|(_, text)| !id::is_valid(text)) {
        None => Ok(transfer),
        Some((name, text)) => Err(format!("{name}: {text:?} is not an id")),
    }
}

fn csv(text: &str) -> Result<Vec<NewTransfer>, String> {
    let mut records = records(text)?.into_iter();
    let Some((_, heading)) = records.next() else {
        return Err("there is no heading".to_owned());
    };
    let mut transfers = Vec::new();
    for (line, cells) in records {
        let at = |why: String| format!("line {line}: {why}");
        if cells.len() != heading.len() {
            let (have, want) = (cells.len(), heading.len());
            return Err(at(format!("{have} values under {want} names")));
        }
        let pairs = heading.iter().zip(cells);
        transfers.push(transfer(pairs).and_then(checked).map_err(at)?);
    }
    Ok(transfers)
}

fn transfer<'a>(pairs: impl Iterator<Item = (&'a String, String)>) -> Result<NewTransfer, String> {
    let mut new = NewTransfer {
        id: String::new(),
        debit_account: String::new(),
        credit_account: String::new(),
        amount: 0,
        code: 0,
        linked: false,
        metadata: Default::default(),
    };
    for (name, value) in pairs {
        let wrong = || format!("{name}: {value:?} will not do");
        match name.as_str() {
            "id" => new.id = value,
            "debit_account" => new.debit_account = value,
            "credit_account" => new.credit_account = value,
            "amount" => new.amount = value.parse().map_err(|_| wrong())?,
            "code" if value.is_empty() => {}
            "code" => new.code = value.parse().map_err(|_| wrong())?,
            "linked" if value.is_empty() => {}
            "linked" => new.linked = value.parse().map_err(|_| wrong())?,
            other => match other.strip_prefix("metadata.") {
                Some(_) if value.is_empty() => {}
                Some(key) => {
                    new.metadata.insert(key.to_owned(), value);
                }
                None => return Err(format!("no field is called {other:?}")),
            },
        }
    }
    Ok(new)
}

/// Records of CSV (RFC 4180), each with the line it starts on; empty lines are left out.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut start) = (1, 1);
    let mut rest = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .chars()
        .peekable();
    let mut quoted = false;
    while let Some(c) = rest.next() {
        line += usize::from(c == '\n');
        match (quoted, c) {
            (true, '"') if rest.peek() == Some(&'"') => cell.extend(rest.next()),
            (true, '"') => quoted = false,
            (true, _) => cell.push(c),
            (false, '"') if cell.is_empty() => quoted = true,
            (false, '"') => return Err(format!("line {line}: a quote within a value")),
            (false, ',') => record.push(std::mem::take(&mut cell)),
            (false, '\r') if rest.peek() == Some(&'\n') => {}
            (false, '\n') => {
                if !record.is_empty() || !cell.is_empty() {
                    record.push(std::mem::take(&mut cell));
                    records.push((start, std::mem::take(&mut record)));
                }
                start = line;
            }
            (false, _) => cell.push(c),
        }
    }
    if quoted {
        return Err(format!("line {start}: a quote is not closed"));
    }
    if !record.is_empty() || !cell.is_empty() {
        record.push(cell);
        records.push((start, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_json_and_of_csv_are_the_same_transfers() {
        let json = concat!(
            r#"{"id":"t1","debit_account":"a","credit_account":"b","amount":"12","linked":true,"metadata":{"k":"x,\"y"}}"#,
            "\n\n",
            r#"{"id":"t2","debit_account":"a","credit_account":"b","amount":"340282366920938463463374607431768211455","code":7}"#,
        );
        let csv = "\u{feff}id,debit_account,credit_account,amount,linked,code,metadata.k\r\n\
                   t1,a,b,12,true,,\"x,\"\"y\"\r\n\
                   t2,a,b,340282366920938463463374607431768211455,,7,\n";
        let from_json = parse(json, Lines::Jsonl).unwrap();
        assert_eq!(from_json.len(), 2);
        assert_eq!(parse(csv, Lines::Csv).unwrap(), from_json);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let head = "id,debit_account,credit_account,amount\n";
        for (rows, expected) in [
            ("t,a,b\n", "line 2: 3 values under 4 names"),
            ("t,a,b,1\nt,a,b,-1\n", "line 3: amount: \"-1\" will not do"),
            ("t t,a,b,1\n", "line 2: id: \"t t\" is not an id"),
            ("\"t\n,a,b,1\n", "line 2: a quote is not closed"),
            ("t\"t,a,b,1\n", "line 2: a quote within a value"),
        ] {
            assert_eq!(
                parse(&format!("{head}{rows}"), Lines::Csv).unwrap_err(),
                expected
            );
        }
        let unknown = parse("id,price\nt,1\n", Lines::Csv).unwrap_err();
        assert!(unknown.contains("\"price\""), "{unknown}");
        assert!(parse("", Lines::Csv).is_err());
        let json = "\n{\"id\":\"t\",\"price\":1}";
        let unknown = parse(json, Lines::Jsonl).unwrap_err();
        assert!(
            unknown.starts_with("line 2: ") && unknown.contains("price"),
            "{unknown}"
        );
    }
}
