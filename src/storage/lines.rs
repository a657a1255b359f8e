//! The manner of manifests: text, one fact a line, and last the hash of all of it.
//!
//! The first line is a title and the version of the format. `-` stands for what is absent; bytes are in hexadecimal.

use std::fmt::Write as _;
use std::str::SplitAsciiWhitespace;

use super::LogId;
use super::snapshot::FileEntry;
use super::state::Applied;

/// Stands for what is absent.
pub(super) const ABSENT: &str = "-";
/// Longest name of a file, in bytes.
const NAME_LEN_MAX: usize = 255;

/// The words of a line.
pub(super) type Words<'a> = SplitAsciiWhitespace<'a>;

/// Adds how far a state is.
pub(super) fn put_applied(text: &mut String, applied: &Applied) {
    let last = applied
        .log_id
        .map(|id| format!("{} {} {}", id.term, id.node, id.index));
    let membership = applied.membership.as_deref().map(hex);
    let mut line = |name: &str, value: Option<String>| {
        let value = value.unwrap_or_else(|| ABSENT.to_owned());
        writeln!(text, "{name} {value}").expect("into memory");
    };
    line("last", last);
    line("time", Some(applied.time_ns.to_string()));
    line("membership", membership);
    line("digest", Some(hex(&applied.digest)));
}

/// Adds a line for each of `files`.
pub(super) fn put_files(text: &mut String, files: &[FileEntry]) {
    for file in files {
        let (size, hash, name) = (file.size, hex(&file.hash), &file.name);
        writeln!(text, "file {size} {hash} {name}").expect("into memory");
    }
}

/// Adds the hash of everything.
pub(super) fn seal(mut text: String) -> String {
    let end = blake3::hash(text.as_bytes());
    writeln!(text, "end {end}").expect("into memory");
    text
}

/// What of `bytes` stands before the hash, if they are a manifest of `what` with this title, of `format` or older.
///
/// # Errors
/// If they are none, are damaged, or of a newer format.
pub(super) fn opened<'a>(
    bytes: &'a [u8],
    title: &str,
    format: u32,
    what: &str,
) -> Result<&'a str, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let first = text.lines().next().unwrap_or_default();
    let found = first
        .strip_prefix(title)
        .and_then(|rest| rest.strip_prefix(' '));
    let found: u32 = found
        .and_then(|found| found.parse().ok())
        .ok_or_else(|| format!("it is no manifest of {what}"))?;
    if found > format {
        return Err(format!(
            "it has format {found}, this program reads up to {format}: start a newer one"
        ));
    }
    checked(text).ok_or_else(|| "it is damaged: its hash is another".to_owned())
}

/// The lines after the first, as words.
pub(super) fn of(body: &str) -> impl Iterator<Item = Words<'_>> {
    body.lines().skip(1).map(str::split_ascii_whitespace)
}

/// Reads [`put_applied`] back.
pub(super) fn applied<'a>(lines: &mut impl Iterator<Item = Words<'a>>) -> Result<Applied, String> {
    let mut value = |name: &str| field(lines.next(), name);
    Ok(Applied {
        log_id: log_id(value("last")?)?,
        time_ns: number(value("time")?.next())?,
        membership: present(value("membership")?)?
            .map(unhex)
            .transpose()?
            .map(Into::into),
        digest: hash(value("digest")?.next())?,
    })
}

/// Reads [`put_files`] back: in order of their names, and not larger than any disk.
pub(super) fn files<'a>(lines: impl Iterator<Item = Words<'a>>) -> Result<Vec<FileEntry>, String> {
    let files = lines.map(|line| file(field(Some(line), "file")?));
    let files = files.collect::<Result<Vec<_>, String>>()?;
    if !files.is_sorted_by(|a, b| a.name < b.name) {
        return Err("its files are not in order".to_owned());
    }
    let total = files
        .iter()
        .try_fold(0_u64, |sum, file| sum.checked_add(file.size));
    total.ok_or("its files are larger than any disk")?;
    Ok(files)
}

/// Everything before the last line, if that line says its hash.
fn checked(text: &str) -> Option<&str> {
    let inner = text.strip_suffix('\n')?;
    let body = &text[..=inner.rfind('\n')?];
    let end = inner[body.len()..].strip_prefix("end ")?;
    (end == blake3::hash(body.as_bytes()).to_hex().as_str()).then_some(body)
}

/// What stands behind `name` in `line`.
pub(super) fn field<'a>(line: Option<Words<'a>>, name: &str) -> Result<Words<'a>, String> {
    let mut words = line.ok_or_else(|| format!("it has no line \"{name}\""))?;
    match words.next() {
        Some(word) if word == name => Ok(words),
        other => Err(format!("it has {other:?} where \"{name}\" is due")),
    }
}

fn word<'a>(words: &mut Words<'a>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| "a line is too short".to_owned())
}

/// What a line says, if it says anything.
pub(super) fn present(mut words: Words<'_>) -> Result<Option<&str>, String> {
    let word = word(&mut words)?;
    Ok((word != ABSENT).then_some(word))
}

fn log_id(mut words: Words<'_>) -> Result<Option<LogId>, String> {
    let first = word(&mut words)?;
    if first == ABSENT {
        return Ok(None);
    }
    Ok(Some(LogId {
        term: number(Some(first))?,
        node: number(words.next())?,
        index: number(words.next())?,
    }))
}

fn file(mut words: Words<'_>) -> Result<FileEntry, String> {
    let size = number(words.next())?;
    let hash = hash(words.next())?;
    let name = word(&mut words)?.to_owned();
    // Whoever sent it: a name must not lead anywhere else.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > NAME_LEN_MAX || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!("it names a file {name:?}, as no snapshot has"));
    }
    Ok(FileEntry { name, size, hash })
}

/// A number.
pub(super) fn number(word: Option<&str>) -> Result<u64, String> {
    let word = word.unwrap_or_default();
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

/// A hash of 32 bytes.
pub(super) fn hash(word: Option<&str>) -> Result<[u8; 32], String> {
    let bytes = unhex(word.unwrap_or_default())?;
    bytes
        .try_into()
        .map_err(|_| "a hash has not 32 bytes".to_owned())
}

/// In hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("into memory");
        text
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is not in hexadecimal");
    let digits = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        return Err(wrong());
    }
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong());
    (0..text.len()).step_by(2).map(pair).collect()
}
