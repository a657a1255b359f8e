//! Reading a backup, believing nothing of it that does not prove itself.

use std::io::{self, ErrorKind, Read};

use super::tar::{self, BLOCK, header, padding};
use super::{
    END, END_LEN, MANIFEST, Manifest, PIECE_LEN, SUMMARY, Summary, TAIL_BLOCKS, check_head,
    damaged, end_text, path_of,
};
use crate::storage::snapshot::FileEntry;

/// What comes out of a backup while it is read. Nothing of it may be believed before all of it is read.
#[derive(Debug)]
pub enum Content<'a> {
    /// What it will be.
    Head(&'a Manifest, &'a Summary),
    /// A file of the state begins.
    File(&'a FileEntry),
    /// The next piece of it.
    Piece(&'a [u8]),
    /// All of it came, and is what the manifest says.
    Whole,
}

/// Reads the whole of a backup and gives its content to `each`. Blocking.
///
/// # Errors
/// If it is cut off, differs by a byte from what was written, or is of a newer format (`InvalidData`); if `input` or `each` fails.
pub fn read(
    input: impl Read,
    mut each: impl FnMut(Content<'_>) -> io::Result<()>,
) -> io::Result<(Manifest, Summary)> {
    let mut input = Input::new(input);
    let (manifest, summary) = input.head()?;
    each(Content::Head(&manifest, &summary))?;
    for file in &manifest.files {
        input.expect(&path_of(file), file.size)?;
        each(Content::File(file))?;
        input.file(file, &mut each)?;
        each(Content::Whole)?;
    }
    input.end()?;
    Ok((manifest, summary))
}

/// What a backup says of itself in its beginning. The rest is not looked at.
///
/// # Errors
/// If that much of it is cut off, damaged, or of a newer format; if `input` fails.
pub fn head(input: impl Read) -> io::Result<(Manifest, Summary)> {
    Input::new(input).head()
}

/// What is read, hashed on the way.
struct Input<R> {
    input: R,
    hasher: blake3::Hasher,
    at: u64,
}

impl<R: Read> Input<R> {
    fn new(input: R) -> Input<R> {
        Input {
            input,
            hasher: blake3::Hasher::new(),
            at: 0,
        }
    }

    fn head(&mut self) -> io::Result<(Manifest, Summary)> {
        let mut first = [0; BLOCK];
        self.fill(&mut first)?;
        let size = tar::size(&first).filter(|size| first == header(MANIFEST, *size));
        let size = size.ok_or_else(|| damaged("it is no backup, or its beginning is damaged"))?;
        let bytes = self.held(MANIFEST, size)?;
        let manifest = Manifest::decode(&bytes).map_err(|what| wrong(MANIFEST, &what))?;
        let (size, hash) = manifest.summary;
        self.expect(SUMMARY, size)?;
        let bytes = self.held(SUMMARY, size)?;
        check_hash(SUMMARY, &hash, &blake3::hash(&bytes))?;
        let summary = Summary::decode(&bytes).map_err(|what| wrong(SUMMARY, &what))?;
        Ok((manifest, summary))
    }

    /// Reads the header of the file that is due.
    fn expect(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut found = [0; BLOCK];
        self.fill(&mut found)?;
        match found == header(name, size) {
            true => Ok(()),
            false => Err(damaged(format!(
                "at byte {} there is not the file {name} of {size} bytes that is due",
                self.at - BLOCK as u64
            ))),
        }
    }

    /// A file that is held in memory.
    fn held(&mut self, name: &str, size: u64) -> io::Result<Vec<u8>> {
        check_head(name, size)?;
        let mut bytes = Vec::new();
        let mut piece = [0; BLOCK];
        let mut left = usize::try_from(size).expect("a few megabytes");
        // A block at a time: memory is for what has come, not for what is announced.
        while left > 0 {
            let len = left.min(BLOCK);
            self.fill(&mut piece[..len])?;
            bytes.extend_from_slice(&piece[..len]);
            left -= len;
        }
        self.pad(name, size)?;
        Ok(bytes)
    }

    fn file(
        &mut self,
        file: &FileEntry,
        each: &mut impl FnMut(Content<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = path_of(file);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE_LEN];
        let mut left = file.size;
        while left > 0 {
            let len = usize::try_from(left).map_or(PIECE_LEN, |left| left.min(PIECE_LEN));
            self.fill(&mut buffer[..len])?;
            hasher.update(&buffer[..len]);
            each(Content::Piece(&buffer[..len]))?;
            left -= len as u64;
        }
        check_hash(&name, &file.hash, &hasher.finalize())?;
        self.pad(&name, file.size)
    }

    fn pad(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut block = [0; BLOCK];
        let rest = &mut block[..padding(size)];
        self.fill(rest)?;
        match rest.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(wrong(name, "there is something behind its end")),
        }
    }

    /// That nothing was cut off, nothing changed and nothing added.
    fn end(&mut self) -> io::Result<()> {
        let wanted = end_text(&self.hasher.finalize());
        self.expect(END, END_LEN)?;
        if self.held(END, END_LEN)? != wanted.as_bytes() {
            return Err(damaged(
                "the hash of the whole is another than its end says",
            ));
        }
        let mut tail = [0; TAIL_BLOCKS * BLOCK];
        self.fill(&mut tail)?;
        let more = self.input.read(&mut [0])?;
        match more == 0 && tail.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(damaged("there is something behind its end")),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => damaged(format!(
                    "it is cut off after {} bytes or a little later: it is not whole",
                    self.at
                )),
                _ => error,
            })?;
        self.hasher.update(buffer);
        self.at += buffer.len() as u64;
        Ok(())
    }
}

fn check_hash(name: &str, wanted: &[u8; 32], found: &blake3::Hash) -> io::Result<()> {
    match found.as_bytes() == wanted {
        true => Ok(()),
        false => Err(wrong(
            name,
            &format!("its hash is {found}, not the manifest's"),
        )),
    }
}

fn wrong(name: &str, what: &str) -> io::Error {
    damaged(format!("file {name} of the backup: {what}"))
}
