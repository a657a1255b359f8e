//! What a node did to its disk and its sockets, from the system calls a tracer wrote down, and where in its log each entry
//! lies, from the log's files. Both are read here from the outside: nothing is taken from the node's own word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The system calls to be traced: writing files, syncing them, sending on sockets.
pub(crate) const SYSTEM_CALLS: &str =
    "trace=pwrite64,pwritev,pwritev2,fdatasync,fsync,sendto,sendmsg,write,writev";

/// Microseconds since 1970.
pub(crate) type Micros = u64;

/// A successful write to a file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskWrite {
    /// Name of the file, without its directory.
    pub(crate) file: String,
    /// First byte written.
    pub(crate) start: u64,
    /// The byte after the last.
    pub(crate) end: u64,
    /// When the call had returned, or later.
    pub(crate) returned: Micros,
}

/// A successful sync of a file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sync {
    /// Name of the file, without its directory.
    pub(crate) file: String,
    /// When the call began.
    pub(crate) began: Micros,
    /// When it had returned, or later.
    pub(crate) returned: Micros,
}

/// An acknowledgement handed to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Index of the entry it speaks of.
    pub(crate) index: u64,
    /// When the call began: before that not a byte of it had left the process.
    pub(crate) began: Micros,
}

/// Everything of interest that a node did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Writes to the log.
    pub(crate) writes: Vec<DiskWrite>,
    /// Syncs of the log.
    pub(crate) syncs: Vec<Sync>,
    /// Acknowledgements of creates.
    pub(crate) acks: Vec<Ack>,
}

/// Where the record of an entry lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Name of the segment's file.
    pub(crate) file: String,
    /// First byte of the record.
    pub(crate) start: u64,
    /// The byte after its last.
    pub(crate) end: u64,
}

impl Trace {
    /// Reads the files that the tracer left in `dir`.
    pub(crate) fn read(dir: &Path) -> Trace {
        let mut trace = Trace::default();
        for entry in fs::read_dir(dir).expect("a trace").flatten() {
            let text = fs::read(entry.path()).expect("a readable trace");
            for line in String::from_utf8_lossy(&text).lines() {
                trace.take(line);
            }
        }
        trace
    }

    /// Adds what a line says: `1700000000.000001 fdatasync(7</d/log/0000000001.log>) = 0 <0.000100>`.
    pub(crate) fn take(&mut self, line: &str) {
        self.take_if_any(line).unwrap_or_default();
    }

    fn take_if_any(&mut self, line: &str) -> Option<()> {
        let (time, call) = line.split_once(' ')?;
        let began = micros(time)?;
        let (call, took) = call.strip_suffix('>')?.rsplit_once('<')?;
        // Both numbers are rounded to microseconds: the end may be one later than their sum.
        let returned = began + micros(took)? + 1;
        let (call, result) = call.trim_end().rsplit_once(" = ")?;
        let result: u64 = result.split(' ').next()?.parse().ok()?;
        let (name, arguments) = call.split_once('(')?;
        let target = arguments.split_once('<')?.1;
        match name {
            "pwrite64" | "pwritev" | "pwritev2" => {
                let file = log_file(target)?;
                let start = offset(name, arguments)?;
                self.writes.push(DiskWrite {
                    file,
                    start,
                    end: start + result,
                    returned,
                });
            }
            "fdatasync" | "fsync" => {
                let file = log_file(target)?;
                self.syncs.push(Sync {
                    file,
                    began,
                    returned,
                });
            }
            _ if target.starts_with("TCP") => {
                let created = arguments.contains("HTTP/1.1 201");
                let index = arguments.split_once("quorate-index: ")?.1;
                let digits = index.split(|c: char| !c.is_ascii_digit()).next()?;
                let index = digits.parse().ok()?;
                if created {
                    self.acks.push(Ack { index, began });
                }
            }
            _ => {}
        }
        Some(())
    }

    /// When the record at `place` had reached the disk: the end of the first sync of its file that began after the record
    /// was written whole.
    pub(crate) fn durable(&self, place: &Place) -> Option<Micros> {
        let covers = |write: &&DiskWrite| {
            write.file == place.file && write.start <= place.start && place.end <= write.end
        };
        // The last such write: zeros may have been written there before, to allocate the file.
        let written = self
            .writes
            .iter()
            .filter(covers)
            .map(|write| write.returned)
            .max()?;
        let after = self
            .syncs
            .iter()
            .filter(|s| s.file == place.file && s.began >= written);
        after.map(|sync| sync.returned).min()
    }
}

/// Seconds with six decimals, as microseconds.
fn micros(text: &str) -> Option<Micros> {
    let (seconds, fraction) = text.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let fraction: u64 = (fraction.len() == 6).then(|| fraction.parse().ok())??;
    Some(seconds * 1_000_000 + fraction)
}

/// The name of the segment that a descriptor stands for, if it is one.
fn log_file(target: &str) -> Option<String> {
    let path = target.split_once('>')?.0;
    let (folder, name) = path.rsplit_once('/')?;
    (folder.ends_with("/log") && name.ends_with(".log")).then(|| name.to_owned())
}

/// The offset among the arguments: the last one, or the one before the flags.
fn offset(name: &str, arguments: &str) -> Option<u64> {
    let arguments = arguments.strip_suffix(')')?;
    let mut from_last = arguments.rsplit(", ");
    if name == "pwritev2" {
        from_last.next()?;
    }
    from_last.next()?.parse().ok()
}

/// Where each entry lies in the segments of `log_dir`, by index. An entry that was written twice counts where it was last.
pub(crate) fn places(log_dir: &Path) -> BTreeMap<u64, Place> {
    let listing = fs::read_dir(log_dir).expect("a log").flatten();
    let mut files: Vec<String> = listing
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".log"))
        .collect();
    files.sort();
    let mut places = BTreeMap::new();
    for file in files {
        let bytes = fs::read(log_dir.join(&file)).expect("a readable segment");
        places.extend(records(&file, &bytes));
    }
    places
}

/// A segment is a head of 4 KiB, then records without a gap: length (u32), kind, 27 bytes of checks, then as many bytes as
/// the length says. Kind 3 is an entry; its payload begins with term, node and index. After the last come zeros.
fn records(file: &str, bytes: &[u8]) -> Vec<(u64, Place)> {
    const HEAD: usize = 4096;
    const HEADER: usize = 32;
    const ENTRY: u8 = 3;
    let mut found = Vec::new();
    let mut at = HEAD;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let kind = header[4];
        if kind == 0 {
            break;
        }
        let end = at + HEADER + usize::try_from(length).expect("32 bits");
        if kind == ENTRY {
            let index = &bytes[at + HEADER + 16..at + HEADER + 24];
            let index = u64::from_le_bytes(index.try_into().expect("eight bytes"));
            let (start, end) = (at as u64, end as u64);
            found.push((
                index,
                Place {
                    file: file.to_owned(),
                    start,
                    end,
                },
            ));
        }
        at = end;
    }
    found
}
