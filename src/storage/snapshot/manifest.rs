//! What belongs to a snapshot, as text: one fact a line, and the hash of all of it at the end.
//!
//! ```text
//! quorate-snapshot 1
//! cluster 0123456789abcdef0123456789abcdef
//! last 3 1 4711
//! time 1700000000000000000
//! membership 0a0b
//! digest 00..ff
//! file 4096 00..ff 000012.sst
//! end 00..ff
//! ```
//!
//! `last` is term, node and index; `-` stands for what is absent. Files are sorted by name.

use std::fmt::Write as _;
use std::str::SplitAsciiWhitespace;

use crate::storage::LogId;
use crate::storage::state::Applied;

/// Version of this format.
const FORMAT: u32 = 1;
/// Longest name of a file, in bytes.
const NAME_LEN_MAX: usize = 255;

/// What a snapshot holds and which files it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Cluster of the node that made it.
    pub cluster: Option<String>,
    /// How far its state is, as read from inside it.
    pub applied: Applied,
    /// Its files, by name.
    pub files: Vec<FileEntry>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name: plain, without a path.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub hash: [u8; 32],
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The file called `name`.
    pub fn find(&self, name: &str) -> Option<&FileEntry> {
        let at = self
            .files
            .binary_search_by(|file| file.name.as_str().cmp(name));
        at.ok().map(|at| &self.files[at])
    }

    /// As text.
    pub fn encode(&self) -> String {
        let mut text = format!("quorate-snapshot {FORMAT}\n");
        let last = self
            .applied
            .log_id
            .map(|id| format!("{} {} {}", id.term, id.node, id.index));
        let membership = self.applied.membership.as_deref().map(hex);
        let mut line = |name: &str, value: Option<String>| {
            let value = value.unwrap_or_else(|| ABSENT.to_owned());
            writeln!(text, "{name} {value}").expect("into memory");
        };
        line("cluster", self.cluster.clone());
        line("last", last);
        line("time", Some(self.applied.time_ns.to_string()));
        line("membership", membership);
        line("digest", Some(hex(&self.applied.digest)));
        for file in &self.files {
            line(
                "file",
                Some(format!("{} {} {}", file.size, hex(&file.hash), file.name)),
            );
        }
        let end = blake3::hash(text.as_bytes());
        writeln!(text, "end {end}").expect("into memory");
        text
    }

    /// Reads back [`Manifest::encode`]; any bytes give a manifest or the reason why they are none.
    ///
    /// # Errors
    /// If they are damaged, of a newer format, or name files that none of ours has.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let first = text.lines().next().unwrap_or_default();
        let format = first.strip_prefix("quorate-snapshot ");
        let format: u32 = format
            .and_then(|format| format.parse().ok())
            .ok_or("it is no manifest of a snapshot")?;
        if format > FORMAT {
            return Err(format!(
                "it has format {format}, this program reads up to {FORMAT}: start a newer one"
            ));
        }
        let body = checked(text).ok_or("it is damaged: its hash is another")?;
        let mut lines = body
            .lines()
            .skip(1)
            .map(str::split_ascii_whitespace)
            .peekable();
        let mut value = |name: &str| field(lines.next(), name);
        let manifest = Manifest {
            cluster: present(value("cluster")?)?.map(str::to_owned),
            applied: Applied {
                log_id: log_id(value("last")?)?,
                time_ns: number(value("time")?.next())?,
                membership: present(value("membership")?)?
                    .map(unhex)
                    .transpose()?
                    .map(Into::into),
                digest: hash(value("digest")?.next())?,
            },
            files: Vec::new(),
        };
        let files = lines.map(|line| file(field(Some(line), "file")?));
        let files = files.collect::<Result<Vec<_>, String>>()?;
        if !files.is_sorted_by(|a, b| a.name < b.name) {
            return Err("its files are not in order".to_owned());
        }
        let total = files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        total.ok_or("its files are larger than any disk")?;
        Ok(Manifest { files, ..manifest })
    }
}

const ABSENT: &str = "-";

type Words<'a> = SplitAsciiWhitespace<'a>;

/// Everything before the last line, if that line says its hash.
fn checked(text: &str) -> Option<&str> {
    let inner = text.strip_suffix('\n')?;
    let body = &text[..=inner.rfind('\n')?];
    let end = inner[body.len()..].strip_prefix("end ")?;
    (end == blake3::hash(body.as_bytes()).to_hex().as_str()).then_some(body)
}

/// What stands behind `name` in `line`.
fn field<'a>(line: Option<Words<'a>>, name: &str) -> Result<Words<'a>, String> {
    let mut words = line.ok_or_else(|| format!("it has no line \"{name}\""))?;
    match words.next() {
        Some(word) if word == name => Ok(words),
        other => Err(format!("it has {other:?} where \"{name}\" is due")),
    }
}

fn word<'a>(words: &mut Words<'a>) -> Result<&'a str, String> {
    words.next().ok_or_else(|| "a line is too short".to_owned())
}

fn present(mut words: Words<'_>) -> Result<Option<&str>, String> {
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

fn number(word: Option<&str>) -> Result<u64, String> {
    let word = word.unwrap_or_default();
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn hash(word: Option<&str>) -> Result<[u8; 32], String> {
    let bytes = unhex(word.unwrap_or_default())?;
    bytes
        .try_into()
        .map_err(|_| "a hash has not 32 bytes".to_owned())
}

fn hex(bytes: &[u8]) -> String {
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
