//! Whose socket it is, from what the system shows of its processes.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The node whose process has the socket at `local` that is connected to `remote`.
pub(super) fn find(
    local: SocketAddr,
    remote: SocketAddr,
    processes: &BTreeMap<u64, u32>,
) -> Option<u64> {
    let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, local, remote)?;
    let wanted = format!("socket:[{inode}]");
    let owns = |process: u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd"));
        files.is_ok_and(|files| {
            files.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*wanted)
            })
        })
    };
    let mut processes = processes.iter();
    processes
        .find(|(_, process)| owns(**process))
        .map(|(node, _)| *node)
}

/// The inode of a connection in the system's table of them.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (spelled(local)?, spelled(remote)?);
    let rows = table.lines().map(|row| row.split_whitespace());
    rows.filter_map(|row| {
        let fields: Vec<&str> = row.collect();
        let is_this =
            fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str());
        is_this.then(|| fields.get(9)?.parse().ok()).flatten()
    })
    .find(|inode| *inode != 0)
}

/// An address as the table spells it: the four bytes as one number of this machine, then the port, in hexadecimal.
fn spelled(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let number = u32::from_ne_bytes(ip.octets());
    Some(format!("{number:08X}:{:04X}", address.port()))
}
