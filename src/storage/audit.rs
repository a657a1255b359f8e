//! What was asked of a node as of a part of its cluster, by whom, and what came of it: a line of JSON for each, in `audit.jsonl` of its
//! data directory, for people and programs.
//!
//! ```text
//! {"line":7,"before":"00112233445566778899aabbccddeeff","at":"2026-01-31T09:08:07.000000123Z",...}
//! ```
//!
//! `before` is the beginning of the BLAKE3 hash of the line before, so that one that was changed, taken out or put in shows; one taken off
//! the end does not. A line is on the disk before its request is answered. A file of [`LEN_MAX`] bytes becomes `audit.old.jsonl`, in
//! place of the one before: the newest lines are kept, and the disk is not filled.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where new lines go, in the data directory.
const CURRENT: &str = "audit.jsonl";
/// Where the ones before them are.
const OLD: &str = "audit.old.jsonl";
/// Bytes of a file that nothing more is added to.
const LEN_MAX: u64 = 8 << 20;
/// Hex digits of a hash that a line names.
const HASH_LEN: usize = 32;

/// The lines of one node, to be added to.
#[derive(Debug)]
pub struct Audit {
    dir: PathBuf,
    len_max: u64,
    end: Mutex<Option<End>>,
}

/// Where the next line goes.
#[derive(Debug)]
struct End {
    file: File,
    len: u64,
    next: Next,
}

/// What the next line begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Next {
    line: u64,
    before: String,
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Whole lines.
    pub lines: u64,
    /// Where the chain is broken.
    pub problems: Vec<String>,
}

impl Audit {
    /// The lines in the data directory at `dir`; nothing is read or made before the first one is added.
    pub fn of(dir: &Path) -> Audit {
        Audit {
            dir: dir.to_owned(),
            len_max: LEN_MAX,
            end: Mutex::default(),
        }
    }

    /// Adds `object`, the text of a JSON object that is not empty, as a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// If the disk fails. What was half written is cut off by the next line.
    pub fn add(&self, object: &str) -> io::Result<()> {
        let mut held = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not put back after an error is looked for again.
        let mut end = match held.take() {
            Some(end) => end,
            None => self.find_end()?,
        };
        if end.len >= self.len_max {
            fs::rename(self.dir.join(CURRENT), self.dir.join(OLD))?;
            end = self.find_end()?;
        }
        let Next { line, before } = &end.next;
        let rest = object.strip_prefix('{').unwrap_or(object);
        let text = format!("{{\"line\":{line},\"before\":\"{before}\",{rest}");
        debug_assert!(!text.contains('\n'), "a line is one line");
        end.file.write_all(format!("{text}\n").as_bytes())?;
        end.file.sync_data()?;
        end.len += text.len() as u64 + 1;
        end.next = Next {
            line: line + 1,
            before: hash(&text),
        };
        *held = Some(end);
        Ok(())
    }

    /// Opens the file, cuts off what was torn, and finds what the next line begins with. After a line that makes no sense the count
    /// begins anew, which [`verify`] will tell.
    fn find_end(&self) -> io::Result<End> {
        let path = self.dir.join(CURRENT);
        let is_new = !path.try_exists()?;
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        if is_new {
            File::open(&self.dir)?.sync_all()?;
        }
        let text = read(&path)?;
        let len = whole(&text).len() as u64;
        if len < text.len() as u64 {
            file.set_len(len)?;
        }
        let last = match last_line(&text) {
            Some(line) => Some(line.to_owned()),
            None => last_line(&read(&self.dir.join(OLD))?).map(str::to_owned),
        };
        let next = last.and_then(|line| {
            Some(Next {
                line: head(&line)?.line + 1,
                before: hash(&line),
            })
        });
        Ok(End {
            file,
            len,
            next: next.unwrap_or_else(Next::first),
        })
    }
}

impl Next {
    fn first() -> Next {
        Next {
            line: 0,
            before: "0".repeat(HASH_LEN),
        }
    }
}

/// Checks that the lines in the data directory at `dir` follow one another as they were written.
///
/// # Errors
/// If a file cannot be read.
pub fn verify(dir: &Path) -> io::Result<Checked> {
    let mut checked = Checked::default();
    let mut next = None;
    for name in [OLD, CURRENT] {
        for line in whole(&read(&dir.join(name))?).lines() {
            checked.lines += 1;
            let found = head(line);
            // Of the lines before the oldest file nothing is left.
            let expected = next.or_else(|| (name == CURRENT).then(Next::first));
            if found.is_none() || expected.is_some_and(|next| Some(next) != found) {
                let at = checked.lines;
                checked.problems.push(format!(
                    "line {at} of {OLD} and {CURRENT} together does not follow the one before it"
                ));
            }
            let number = found.map_or(0, |found| found.line + 1);
            next = Some(Next {
                line: number,
                before: hash(line),
            });
        }
    }
    Ok(checked)
}

/// What a line begins with; nothing if it is none.
fn head(line: &str) -> Option<Next> {
    let (line, rest) = line.strip_prefix("{\"line\":")?.split_once(',')?;
    let (before, _) = rest.strip_prefix("\"before\":\"")?.split_once('"')?;
    Some(Next {
        line: line.parse().ok()?,
        before: before.to_owned(),
    })
}

fn hash(line: &str) -> String {
    let hash = blake3::hash(line.as_bytes()).to_hex();
    hash[..HASH_LEN].to_owned()
}

/// Of a file that is not there, nothing.
fn read(path: &Path) -> io::Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Without what was torn off at its end, which nobody was told of.
fn whole(text: &str) -> &str {
    text.rfind('\n').map_or("", |end| &text[..=end])
}

fn last_line(text: &str) -> Option<&str> {
    whole(text).lines().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(count: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::of(dir.path());
        (0..count).for_each(|n| audit.add(&format!("{{\"n\":{n}}}")).unwrap());
        dir
    }

    fn problems(dir: &Path) -> usize {
        verify(dir).unwrap().problems.len()
    }

    #[test]
    fn lines_follow_one_another_over_starts() {
        let dir = dir_with(2);
        Audit::of(dir.path()).add("{\"n\":2}").unwrap();
        let text = read(&dir.path().join(CURRENT)).unwrap();
        let zeros = "0".repeat(32);
        assert!(text.starts_with(&format!("{{\"line\":0,\"before\":\"{zeros}\",\"n\":0}}\n")));
        let last = last_line(&text).unwrap();
        assert!(
            last.starts_with("{\"line\":2,") && last.ends_with(",\"n\":2}"),
            "{last}"
        );
        let checked = verify(dir.path()).unwrap();
        assert_eq!(
            (checked.lines, checked.problems.len()),
            (3, 0),
            "{checked:?}"
        );
    }

    #[test]
    fn a_line_that_was_changed_taken_out_or_put_in_shows() {
        let dir = dir_with(5);
        let path = dir.path().join(CURRENT);
        let text = read(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let write = |lines: &[&str]| fs::write(&path, lines.join("\n") + "\n").unwrap();
        for at in 0..lines.len() - 1 {
            let changed = lines[at].replace("\"n\":", "\"m\":");
            let mut others = lines.clone();
            others[at] = &changed;
            write(&others);
            assert_eq!(problems(dir.path()), 1, "line {at} changed");
            let mut fewer = lines.clone();
            fewer.remove(at);
            write(&fewer);
            assert_eq!(problems(dir.path()), 1, "line {at} taken out");
            let mut more = lines.clone();
            more.insert(at, "{\"line\":7,\"before\":\"\"}");
            write(&more);
            assert!(problems(dir.path()) > 0, "a line put in at {at}");
        }
        write(&lines);
        assert_eq!(problems(dir.path()), 0);
    }

    #[test]
    fn what_was_torn_off_is_cut_off_by_the_next_line() {
        let dir = dir_with(2);
        let path = dir.path().join(CURRENT);
        let text = read(&path).unwrap();
        let first = text.find('\n').unwrap() + 1;
        for len in first..text.len() {
            fs::write(&path, &text[..len]).unwrap();
            assert_eq!(problems(dir.path()), 0, "nobody was told of it");
            Audit::of(dir.path()).add("{\"n\":1}").unwrap();
            assert_eq!(read(&path).unwrap(), text, "cut at {len}");
        }
    }

    #[test]
    fn after_damage_lines_are_added_and_the_damage_is_told() {
        let dir = dir_with(2);
        let path = dir.path().join(CURRENT);
        fs::write(&path, "nonsense\n").unwrap();
        let audit = Audit::of(dir.path());
        audit.add("{\"n\":0}").unwrap();
        audit.add("{\"n\":1}").unwrap();
        let checked = verify(dir.path()).unwrap();
        assert_eq!(checked.lines, 3);
        assert!(!checked.problems.is_empty());
    }

    #[test]
    fn the_newest_lines_are_kept_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit {
            len_max: 300,
            ..Audit::of(dir.path())
        };
        (0..40).for_each(|n| audit.add(&format!("{{\"n\":{n}}}")).unwrap());
        let sizes = [OLD, CURRENT].map(|name| fs::metadata(dir.path().join(name)).unwrap().len());
        assert!(sizes.iter().all(|size| *size < 400), "{sizes:?}");
        let checked = verify(dir.path()).unwrap();
        assert_eq!(checked.problems, Vec::<String>::new());
        assert!((4..40).contains(&checked.lines), "{checked:?}");
        Audit::of(dir.path()).add("{\"n\":40}").unwrap();
        assert_eq!(problems(dir.path()), 0);
    }
}
