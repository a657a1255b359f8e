//! The inode of a connection, asked of the system for this one alone (`sock_diag`): its table of all of them takes longer to
//! read the busier the machine is, longer than nodes wait for each other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, SocketType, netlink, socket};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Bytes of a message's head.
const HEAD: usize = 16;
/// Where the inode stands in an answer: after its head, four bytes, the two addresses, and four numbers.
const INODE: usize = HEAD + 4 + 48 + 16;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// A line to the system.
pub(super) struct Inodes(File);

impl Inodes {
    /// Opens one; nobody needs a privilege for it.
    pub(super) fn open() -> io::Result<Inodes> {
        let protocol = Some(netlink::SOCK_DIAG);
        let line = socket(AddressFamily::NETLINK, SocketType::DGRAM, protocol)?;
        Ok(Inodes(File::from(line)))
    }

    /// The inode of the socket at `local` that is connected to `remote`; none if there is no such socket.
    pub(super) fn of(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u64>> {
        let mut question = Vec::with_capacity(72);
        question.extend_from_slice(&72_u32.to_ne_bytes());
        question.extend_from_slice(&BY_FAMILY.to_ne_bytes());
        question.extend_from_slice(&REQUEST.to_ne_bytes());
        question.extend_from_slice(&[0; 8]);
        question.extend_from_slice(&[AF_INET, IPPROTO_TCP, 0, 0]);
        // In whichever state.
        question.extend_from_slice(&u32::MAX.to_ne_bytes());
        question.extend_from_slice(&local.port().to_be_bytes());
        question.extend_from_slice(&remote.port().to_be_bytes());
        for address in [local, remote] {
            let IpAddr::V4(ip) = address.ip() else {
                return Ok(None);
            };
            question.extend_from_slice(&ip.octets());
            question.extend_from_slice(&[0; 12]);
        }
        // On whichever interface, and no cookie.
        question.extend_from_slice(&[0; 4]);
        question.extend_from_slice(&[0xff; 8]);
        self.0.write_all(&question)?;
        let mut answer = [0; 512];
        let length = self.0.read(&mut answer)?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if length < INODE + 4 || kind != BY_FAMILY {
            return Ok(None);
        }
        let inode: [u8; 4] = answer[INODE..INODE + 4].try_into().expect("four bytes");
        Ok(Some(u64::from(u32::from_ne_bytes(inode))).filter(|inode| *inode != 0))
    }
}
