//! Reading closed segments again while the log is in use. What is in them was read when the log was opened, or written since, and
//! nobody looks at it again until a follower needs it or the node starts anew.

use std::io;
use std::sync::Arc;

use super::Log;
use super::disk::File;
use super::head::Head;
use super::record::{BLOCK_LEN, Chain, read_record};
use super::scan::segment_name;

/// Bytes read at once.
const PIECE_LEN: usize = 1 << 20;

impl Log {
    /// Reads every segment but the one being written, and checks that each goes on where the one before ends. `pace` is told of
    /// bytes read, waits for as long as the rate asks for, and says whether to go on. Takes memory for one segment. Blocking.
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
            let Some(bytes) = read(file, pace)? else {
                return Ok(());
            };
            let mut head = vec![0; BLOCK_LEN];
            after.read(0, &mut head)?;
            let (at, chain, why) = walk(*number, &bytes)?;
            let head = Head::decode(&head).map_err(|why| damaged(*next, 0, &why))?;
            if head.chain != chain {
                return Err(damaged(*number, at, why));
            }
        }
        Ok(())
    }
}

/// All of `file`; `None` if the pace ends it.
fn read(file: &Arc<dyn File>, pace: &mut dyn FnMut(u64) -> bool) -> io::Result<Option<Vec<u8>>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let mut offset = 0;
    for piece in bytes.chunks_mut(PIECE_LEN) {
        let read = file.read(offset, piece)?;
        offset += read as u64;
        if !pace(read as u64) {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// Follows the records of segment `number`: where they end, their chain there, and why they end.
fn walk(number: u32, bytes: &[u8]) -> io::Result<(usize, Chain, &'static str)> {
    let head = Head::decode(bytes).map_err(|why| damaged(number, 0, &why))?;
    if head.segment != number {
        return Err(damaged(number, 0, "it is another segment"));
    }
    let (mut at, mut chain) = (BLOCK_LEN, head.chain);
    loop {
        match read_record(bytes, at, chain) {
            Ok((_, end, next)) => (at, chain) = (end, next),
            Err(why) => return Ok((at, chain, why)),
        }
    }
}

fn damaged(number: u32, at: usize, why: &str) -> io::Error {
    let name = segment_name(number);
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("file {name}, offset {at}: {why}"),
    )
}
