//! Memory in huge pages. The state's tables of ids and accounts take hundreds of megabytes and are read at random: with pages
//! of 4 KiB nearly every such read also waits for the page tables, with pages of 2 MiB hardly any does. Entries of transfers
//! between a million accounts took 15 % less time with them.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where glibc's allocator is told how to work. It looks once, before the program begins.
const VARIABLE: &str = "GLIBC_TUNABLES";
/// Ask the system for huge pages, where it gives them to who asks.
const SETTING: &str = "glibc.malloc.hugetlb";

/// Has the allocator ask for huge pages: starts this program once more in the same process, told so. Call it first, before
/// there are threads or open files. Does nothing if the environment says anything about huge pages already: with
/// `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` there are none. Another C library takes no notice.
pub fn ask_for_huge_pages() {
    let before = std::env::var_os(VARIABLE);
    let Some(tunables) = with_huge_pages(before.as_deref()) else {
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

/// What the variable has to be; `None` if it has its say already.
fn with_huge_pages(before: Option<&OsStr>) -> Option<OsString> {
    let before = before.unwrap_or_default();
    if before.to_string_lossy().contains(SETTING) {
        return None;
    }
    let mut tunables = before.to_owned();
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(SETTING);
    tunables.push("=1");
    Some(tunables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_asked_for_once_and_not_against_the_environments_will() {
        let told = |before: &str| with_huge_pages(Some(before.as_ref()));
        let first = with_huge_pages(None).unwrap();
        assert_eq!(first, "glibc.malloc.hugetlb=1");
        assert_eq!(
            with_huge_pages(Some(&first)),
            None,
            "it would go on for ever"
        );
        assert_eq!(told("glibc.malloc.hugetlb=0"), None);
        assert_eq!(
            told("glibc.malloc.arena_max=2").unwrap(),
            "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
        );
    }
}
