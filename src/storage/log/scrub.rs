//! Reading closed segments again while the log is in use. What is in them was read when the log was opened, or written since, and
//! nobody looks at it again until a follower needs it or the node starts anew.

use std::io;
use std::sync::Arc;

use super::Log;
use super::disk::File;
use super::head::Head;
use super::record::{BLOCK, BLOCK_LEN, Chain, HEADER_LEN, first_len, read_record};
use super::scan::segment_name;

/// Bytes read at once.
const PIECE_LEN: usize = 1 << 20;

impl Log {
    /// Reads every segment but the one being written, and checks that each goes on where the one before ends. `pace` is told of
    /// bytes read, waits for as long as the rate asks for, and says whether to go on. Takes memory for a piece
    /// of a segment, or for its largest record. Blocking.
    ///
    /// # Errors
    /// If the disk fails, or (`InvalidData`) a segment is damaged: the text says where.
    pub fn scrub(&self, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
        let files: Vec<(u32, Arc<dyn File>)> = {
            let inner = self.shared().lock();
            inner
                .files
                .iter()
                .map(|(number, file)| (*number, file.clone()))
                .collect()
        };
        for pair in files.windows(2) {
            let [(number, file), (next, after)] = pair else {
                unreachable!("windows of two");
            };
            let Some((at, chain, why)) = walk(*number, &**file, pace)? else {
                return Ok(());
            };
            let mut head = vec![0; BLOCK_LEN];
            after.read(0, &mut head)?;
            let head = Head::decode(&head).map_err(|why| damaged(*next, 0, &why))?;
            if head.chain != chain {
                return Err(damaged(*number, at, why));
            }
        }
        Ok(())
    }
}

/// Follows the records of segment `number`: where they end, their chain there, and why they end; `None` if the pace ends it.
fn walk(
    number: u32,
    file: &dyn File,
    pace: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Option<(u64, Chain, &'static str)>> {
    let mut window = Window {
        file,
        length: file.length()?,
        bytes: Vec::new(),
        start: 0,
    };
    if !window.hold(0, BLOCK_LEN, pace)? {
        return Ok(None);
    }
    let head = Head::decode(window.from(0)).map_err(|why| damaged(number, 0, &why))?;
    if head.segment != number {
        return Err(damaged(number, 0, "it is another segment"));
    }
    let (mut at, mut chain) = (BLOCK, head.chain);
    loop {
        if !window.hold(at, HEADER_LEN, pace)? {
            return Ok(None);
        }
        let len = first_len(window.from(at));
        if !window.hold(at, len, pace)? {
            return Ok(None);
        }
        match read_record(window.from(at), 0, chain) {
            Ok((_, end, next)) => (at, chain) = (at + end as u64, next),
            Err(why) => return Ok(window.pass(pace)?.then_some((at, chain, why))),
        }
    }
}

/// A part of a file, in memory: a piece of it, or as much as one record takes.
struct Window<'a> {
    file: &'a dyn File,
    /// Of the file.
    length: u64,
    bytes: Vec<u8>,
    /// Where in the file it begins.
    start: u64,
}

impl Window<'_> {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// What is held from `at` on.
    fn from(&self, at: u64) -> &[u8] {
        let from = usize::try_from(at - self.start).ok();
        from.and_then(|from| self.bytes.get(from..))
            .unwrap_or_default()
    }

    /// Reads on until it holds the `len` bytes from `at` on, or all that there are; what is before may go. Whether the pace goes on.
    fn hold(&mut self, at: u64, len: usize, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<bool> {
        while self.end() < self.length.min(at + len as u64) {
            let held = self.from(at).len();
            self.bytes.drain(..self.bytes.len() - held);
            self.start = at;
            if !self.read(pace)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads all that is left, and holds nothing of it. Whether the pace goes on.
    fn pass(&mut self, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<bool> {
        while self.end() < self.length {
            self.start = self.end();
            self.bytes.clear();
            if !self.read(pace)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the next piece. Whether the pace goes on.
    fn read(&mut self, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<bool> {
        let (from, held) = (self.end(), self.bytes.len());
        let left = usize::try_from(self.length - from).unwrap_or(usize::MAX);
        self.bytes.resize(held + left.min(PIECE_LEN), 0);
        let read = self.file.read(from, &mut self.bytes[held..])?;
        self.bytes.truncate(held + read);
        if read == 0 {
            // Shorter than it was a moment ago.
            self.length = from;
        }
        Ok(pace(read as u64))
    }
}

fn damaged(number: u32, at: u64, why: &str) -> io::Error {
    let name = segment_name(number);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("file {name}, offset {at}: {why}"),
    )
}
