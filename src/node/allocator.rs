//! How glibc's allocator works in a node: with huge pages, and with few arenas.
//!
//! The state's tables of ids and accounts take hundreds of megabytes and are read at random: with pages of 4 KiB nearly every
//! such read also waits for the page tables, with pages of 2 MiB hardly any does. Entries of transfers between a million accounts
//! took 15 % less time with them.
//!
//! Threads take memory from arenas, by default eight a core, and what one thread frees serves only those of its arena. Large
//! values go through many threads, so each arena came to hold what it once needed: a node that caught up after a snapshot held
//! 515 MiB, with one arena a core 335 MiB, and was as fast.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::available_parallelism;

/// Where the allocator is told how to work. It looks once, before the program begins.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// Ask the system for huge pages, where it gives them to who asks.
const HUGE_PAGES: &str = "glibc.malloc.hugetlb";
/// How many arenas there are at most.
const ARENAS: &str = "glibc.malloc.arena_max";
/// With a single arena, every thread would wait for every other.
const ARENAS_MIN: usize = 2;

/// Has the allocator use huge pages and one arena a core: starts this program once more in the same process, told so. Call it
/// first, before there are threads or open files. What the environment says of either has precedence: with
/// `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` there are no huge pages. Another C library takes no notice.
pub fn tune_allocator() {
    let cores = available_parallelism().map_or(ARENAS_MIN, |cores| cores.get().max(ARENAS_MIN));
    let before = std::env::var_os(VARIABLE);
    let Some(tunables) = tuned(before.as_deref(), cores) else {
        return;
    };
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only if it failed, and then this program goes on as it is.
    let _failed = command.args(arguments).env(VARIABLE, tunables).exec();
}

/// What the variable has to be for `arenas` arenas; `None` if it has its say of everything already.
fn tuned(before: Option<&OsStr>, arenas: usize) -> Option<OsString> {
    let before = before.unwrap_or_default();
    let said = before.to_string_lossy();
    let mut tunables = before.to_owned();
    for (setting, value) in [(HUGE_PAGES, 1), (ARENAS, arenas)] {
        if said.contains(setting) {
            continue;
        }
        if !tunables.is_empty() {
            tunables.push(":");
        }
        tunables.push(format!("{setting}={value}"));
    }
    (tunables != before).then_some(tunables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_is_told_once_and_not_against_the_environments_will() {
        let told = |before: &str| tuned(Some(before.as_ref()), 8);
        let first = tuned(None, 8).unwrap();
        assert_eq!(first, "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=8");
        assert_eq!(tuned(Some(&first), 8), None, "it would go on for ever");
        assert_eq!(
            told("glibc.malloc.hugetlb=0").unwrap(),
            "glibc.malloc.hugetlb=0:glibc.malloc.arena_max=8"
        );
        assert_eq!(
            told("glibc.malloc.arena_max=2").unwrap(),
            "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
        );
    }
}
