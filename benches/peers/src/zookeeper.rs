//! ZooKeeper's own protocol: length-prefixed big-endian frames, one session a client.
//!
//! A read that must see every acknowledged write is `sync` and `getData`, sent together: that is how ZooKeeper offers it.

use std::io;

use crate::drive::{Event, Protocol, broken};
use crate::options::{Options, Random, Workload};

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const SYNC: i32 = 9;
/// The node exists: what filling may find.
const NODE_EXISTS: i32 = -110;
const SESSION_TIMEOUT_MS: i32 = 40_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Zookeeper {
    workload: Workload,
    keys: u64,
    value: Vec<u8>,
    random: Random,
    connected: bool,
    /// Answers to come before the request is answered.
    awaited: u8,
    xid: i32,
}

impl Zookeeper {
    /// Connection number `number`.
    pub(crate) fn new(options: &Options, _endpoint: &str, number: usize) -> Zookeeper {
        Zookeeper {
            workload: options.workload,
            keys: options.keys,
            value: vec![b'x'; options.value_bytes],
            random: Random::new(number),
            connected: false,
            awaited: 0,
            xid: 0,
        }
    }

    fn call(&mut self, code: i32, path: &str, out: &mut Vec<u8>) {
        self.xid = (self.xid + 1) & i32::MAX;
        self.awaited += 1;
        let start = begin(out);
        out.extend_from_slice(&self.xid.to_be_bytes());
        out.extend_from_slice(&code.to_be_bytes());
        bytes(out, path.as_bytes());
        match code {
            // No watch.
            GET_DATA => out.push(0),
            SET_DATA => {
                bytes(out, &self.value);
                // Any version.
                out.extend_from_slice(&(-1i32).to_be_bytes());
            }
            CREATE => {
                bytes(out, &self.value);
                // One rule of access: everyone may do all.
                out.extend_from_slice(&1i32.to_be_bytes());
                out.extend_from_slice(&31i32.to_be_bytes());
                bytes(out, b"world");
                bytes(out, b"anyone");
                // Persistent.
                out.extend_from_slice(&0i32.to_be_bytes());
            }
            _ => {}
        }
        end(out, start);
    }
}

impl Protocol for Zookeeper {
    fn open(&mut self, out: &mut Vec<u8>) {
        let start = begin(out);
        // Version, last transaction seen, timeout, session, password, read-only.
        out.extend_from_slice(&0i32.to_be_bytes());
        out.extend_from_slice(&0i64.to_be_bytes());
        out.extend_from_slice(&SESSION_TIMEOUT_MS.to_be_bytes());
        out.extend_from_slice(&0i64.to_be_bytes());
        bytes(out, &[0; 16]);
        out.push(0);
        end(out, start);
    }

    fn request(&mut self, _slot: usize, number: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let key = match self.workload {
            Workload::Fill => number,
            _ => self.random.below(self.keys),
        };
        let path = format!("/bench{key:08}");
        match self.workload {
            Workload::Fill => self.call(CREATE, &path, out),
            Workload::Put => {
                self.value.fill(b'a' + (self.random.below(26) as u8));
                self.call(SET_DATA, &path, out);
            }
            Workload::GetLeader => {
                self.call(SYNC, &path, out);
                self.call(GET_DATA, &path, out);
            }
            Workload::GetFollower => self.call(GET_DATA, &path, out),
            Workload::Transfer | Workload::TransferBatch => {
                return Err(io::Error::other("ZooKeeper has no transfers"));
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> io::Result<usize> {
        let mut at = 0;
        while let Some(len) = number(input, at) {
            let len = usize::try_from(len).map_err(|_| broken("a frame of no length"))?;
            let Some(frame) = input.get(at + 4..at + 4 + len) else {
                break;
            };
            at += 4 + len;
            if !self.connected {
                self.connected = true;
                events.push(Event::Ready);
                continue;
            }
            // Request id, transaction id, error.
            let error = number(frame, 12).ok_or_else(|| broken("an answer without a head"))?;
            self.awaited = self
                .awaited
                .checked_sub(1)
                .ok_or_else(|| broken("an answer too many"))?;
            let fine = error == 0 || (self.workload == Workload::Fill && error == NODE_EXISTS);
            if self.awaited == 0 || !fine {
                self.awaited = 0;
                events.push(Event::Answer(0, (!fine).then(|| format!("error {error}"))));
            }
        }
        Ok(at)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    let four = bytes.get(at..at + 4)?;
    Some(i32::from_be_bytes(four.try_into().ok()?))
}

fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

fn end(out: &mut [u8], start: usize) {
    let len = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&len.to_be_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}
