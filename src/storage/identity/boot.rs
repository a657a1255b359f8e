//! How often a node was started on a data directory: with it the others tell the node from one that runs on a copy.
//!
//! The file has two slots, written in turn, each with a checksum. It never grows, so a node also starts on a disk that is full.

use std::io::{self, IoSlice};

use crate::storage::log::disk::{Disk, read_all};

const BOOT: &str = "boot";
const BOOT_NEW: &str = "boot.new";
const TITLE: &str = "quorate start";
/// Version of the file.
const FORMAT: u32 = 1;
/// Bytes of a slot: what a disk writes whole or not at all.
const SLOT: usize = 512;

/// One start of a node on its data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// Counts them, from 1; zero for who only looks.
    pub number: u64,
    /// Random: tells two starts with the same number apart, of a directory and of its copy.
    pub nonce: u64,
}

/// Counts one more start, durably. A directory of an older version was never counted.
///
/// # Errors
/// If it cannot be read or written; the text says which.
pub(super) fn next<D: Disk>(disk: &D) -> Result<Boot, String> {
    let bytes = match disk.open(BOOT) {
        Ok(file) => Some(read_all(&*file).map_err(|error| error.to_string())?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.to_string()),
    };
    let number = match &bytes {
        None => 1,
        Some(bytes) => newest(bytes)? + 1,
    };
    let written = match bytes {
        None => make(disk, number),
        Some(_) => write(disk, number),
    };
    written.map_err(|error| error.to_string())?;
    let (nonce, _) = uuid::Uuid::new_v4().as_u64_pair();
    Ok(Boot { number, nonce })
}

/// The number of the last start. A slot that was being written in a crash was never spoken of, so the other one counts.
fn newest(bytes: &[u8]) -> Result<u64, String> {
    let damaged = || format!("the file {BOOT} in it is damaged");
    if bytes.len() != 2 * SLOT {
        return Err(damaged());
    }
    let slots = bytes.chunks(SLOT);
    let mut newest = None;
    for slot in slots {
        newest = newest.max(decode(slot)?);
    }
    newest.ok_or_else(damaged)
}

fn encode(number: u64) -> Vec<u8> {
    let text = format!("{TITLE}\nformat {FORMAT}\nnumber {number}\n");
    let checksum = blake3::hash(text.as_bytes()).to_hex();
    let mut slot = format!("{text}checksum {checksum}\n").into_bytes();
    slot.resize(SLOT, b'\n');
    slot
}

/// `None` if the slot is not whole; an error if it is of a later version.
fn decode(slot: &[u8]) -> Result<Option<u64>, String> {
    let Ok(text) = std::str::from_utf8(slot) else {
        return Ok(None);
    };
    let mut lines = text.lines();
    let mut value = |name: &str| lines.next()?.strip_prefix(name);
    let is_ours = value(TITLE) == Some("");
    let format = value("format ").filter(|_| is_ours);
    if format.is_some_and(|format| format != FORMAT.to_string()) {
        return Err(format!(
            "the file {BOOT} in it has a format that this version of Quorate does not know; run a newer version"
        ));
    }
    // Written again it must be the same to the last byte, checksum and all.
    let number = value("number ").and_then(|number| number.parse().ok());
    Ok(number.filter(|number| encode(*number) == slot))
}

/// Makes the file: after a crash it is there whole, or not at all.
fn make<D: Disk>(disk: &D, number: u64) -> io::Result<()> {
    match disk.remove(BOOT_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(BOOT_NEW)?;
    for number in [number - 1, number] {
        file.write(place(number), &[IoSlice::new(&encode(number))])?;
    }
    file.sync()?;
    disk.rename(BOOT_NEW, BOOT)?;
    disk.sync_dir()
}

/// Writes over the older slot.
fn write<D: Disk>(disk: &D, number: u64) -> io::Result<()> {
    let file = disk.open_to_write(BOOT)?;
    file.write(place(number), &[IoSlice::new(&encode(number))])?;
    file.sync()
}

fn place(number: u64) -> u64 {
    number % 2 * SLOT as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::model::ModelDisk;

    #[test]
    fn each_start_has_the_next_number_and_a_nonce_of_its_own() {
        let disk = ModelDisk::new();
        let starts: Vec<Boot> = (0..5).map(|_| next(&disk).unwrap()).collect();
        let numbers: Vec<u64> = starts.iter().map(|boot| boot.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        let copy = next(&disk.after_kill()).unwrap();
        let own = next(&disk).unwrap();
        assert_eq!(copy.number, own.number);
        assert_ne!(copy.nonce, own.nonce);
    }

    #[test]
    fn no_number_is_given_twice_over_a_power_cut_at_any_moment() {
        for starts in [0, 1, 2] {
            for step in 0.. {
                let disk = ModelDisk::new();
                let before = (0..starts).map(|_| next(&disk).unwrap().number).max();
                disk.stop_at(disk.operations() + step);
                let given = next(&disk).ok().map(|boot| boot.number);
                let uncertain = disk.uncertain();
                let total: usize = uncertain.iter().map(|one| one.outcomes).product();
                for mut pick in 0..total {
                    let outcome = |outcomes: usize| {
                        let outcome = pick % outcomes;
                        pick /= outcomes;
                        outcome
                    };
                    let outcomes = uncertain.iter().map(|one| one.outcomes).map(outcome);
                    let outcomes: Vec<usize> = outcomes.collect();
                    let found = next(&disk.after_power_cut(&uncertain, &outcomes)).unwrap();
                    assert!(Some(found.number) > given.max(before), "step {step}");
                }
                if given.is_some() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_damaged_or_of_a_later_version_is_refused() {
        let disk = ModelDisk::new();
        next(&disk).unwrap();
        let whole = disk.content(BOOT);
        for damaged in [
            vec![0; whole.len()],
            whole[..SLOT].to_vec(),
            Vec::new(),
            [&whole[..], b"\n"].concat(),
        ] {
            disk.replace(BOOT, Some(damaged));
            let refused = next(&disk).unwrap_err();
            assert!(refused.contains("damaged"), "{refused}");
        }
        let later = String::from_utf8(whole.clone()).unwrap();
        let later = later.replace("format 1", "format 2").into_bytes();
        disk.replace(BOOT, Some(later));
        assert!(next(&disk).unwrap_err().contains("newer version"));
        disk.replace(BOOT, Some(whole));
        assert_eq!(next(&disk).unwrap().number, 2);
    }
}
