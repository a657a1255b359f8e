//! etcd's gRPC API over HTTP/2 by hand: the part of both that two unary calls need.
//!
//! A real client's optimisations are kept: headers are indexed after the first request of a connection, the requests of all
//! clients of a connection go out in one write, and flow control never holds the server back. A compressed header of the
//! server is not decoded: a call succeeded if a message came that has the fields of a success; an error has none.

use std::io;

use crate::drive::{Event, Protocol, broken};
use crate::options::{Options, Random, Workload};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const HEAD_LEN: usize = 9;
/// What the server may send ahead, a connection and a stream: never reached.
const WINDOW: u32 = 1 << 30;

/// See the module.
#[derive(Debug)]
pub(crate) struct Etcd {
    workload: Workload,
    keys: u64,
    value: Vec<u8>,
    authority: String,
    random: Random,
    /// The stream of each slot's request, and whether its message has come.
    slots: Vec<(u32, bool)>,
    next_stream: u32,
    ready: bool,
    /// Bytes that may be sent before the server makes room.
    room: i64,
    /// Bytes received since the server was last given room.
    received: u32,
    message: Vec<u8>,
}

impl Etcd {
    /// Connection number `number`, to `endpoint`.
    pub(crate) fn new(options: &Options, endpoint: &str, number: usize) -> Etcd {
        Etcd {
            workload: options.workload,
            keys: options.keys,
            value: vec![b'x'; options.value_bytes],
            authority: endpoint.to_owned(),
            random: Random::new(number),
            slots: vec![(0, false); options.clients],
            next_stream: 1,
            ready: false,
            room: 65_535,
            received: 0,
            message: Vec::new(),
        }
    }

    fn writes(&self) -> bool {
        matches!(self.workload, Workload::Fill | Workload::Put)
    }

    /// The protobuf of the request for key `key`.
    fn encode(&mut self, key: u64) {
        let message = &mut self.message;
        message.clear();
        field(message, 1, format!("bench/{key:08}").as_bytes());
        match self.workload {
            Workload::Fill | Workload::Put => {
                let letter = b'a' + (self.random.below(26) as u8);
                self.value.fill(letter);
                field(message, 2, &self.value);
            }
            // serializable = true
            Workload::GetFollower => message.extend_from_slice(&[7 << 3, 1]),
            _ => {}
        }
    }

    /// The header block: literal and indexed by the server the first time, six bytes after that.
    fn headers(&self, block: &mut Vec<u8>) {
        // :method POST, :scheme http
        block.extend_from_slice(&[0x83, 0x86]);
        if self.next_stream > 1 {
            block.extend_from_slice(&[0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
            return;
        }
        let path: &[u8] = match self.writes() {
            true => b"/etcdserverpb.KV/Put",
            false => b"/etcdserverpb.KV/Range",
        };
        block.push(0x44);
        string(block, path);
        block.push(0x41);
        string(block, self.authority.as_bytes());
        block.push(0x40 | 31);
        string(block, b"application/grpc");
        block.push(0x40);
        string(block, b"te");
        string(block, b"trailers");
    }

    fn slot(&mut self, stream: u32) -> io::Result<usize> {
        let slot = self.slots.iter().position(|(id, _)| *id == stream);
        slot.ok_or_else(|| broken("a frame of a stream that was not opened"))
    }

    /// A message that only a success has: for a read, one that holds the key.
    fn is_success(&self, message: &[u8]) -> bool {
        let wanted = if self.writes() { 1 } else { 2 };
        let mut rest = message;
        while let [tag, after @ ..] = rest {
            if tag >> 3 == wanted {
                return true;
            }
            let skipped = match tag & 7 {
                0 => varint(after).map(|(_, len)| len),
                2 => varint(after).map(|(value, len)| len + value as usize),
                _ => None,
            };
            match skipped.and_then(|skipped| after.get(skipped..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        false
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        match head.kind {
            DATA => {
                if head.flags & PADDED != 0 || payload.first().is_some_and(|flag| *flag != 0) {
                    return Err(broken("padded or compressed data"));
                }
                let success = payload.len() >= 5 && self.is_success(&payload[5..]);
                let slot = self.slot(head.stream)?;
                self.slots[slot].1 |= success;
                self.received += payload.len() as u32;
                if self.received > WINDOW / 2 {
                    window_update(out, self.received);
                    self.received = 0;
                }
            }
            SETTINGS if head.flags & ACK == 0 => {
                head_of(out, 0, SETTINGS, ACK, 0);
                // The server may change its settings later.
                if !std::mem::replace(&mut self.ready, true) {
                    events.push(Event::Ready);
                }
            }
            PING if head.flags & ACK == 0 => {
                head_of(out, payload.len(), PING, ACK, 0);
                out.extend_from_slice(payload);
            }
            WINDOW_UPDATE if head.stream == 0 => {
                let more = payload.try_into().map(u32::from_be_bytes);
                self.room += i64::from(more.map_err(|_| broken("a window update"))?);
            }
            RST_STREAM => {
                // Of a stream that has its answer it means nothing.
                if let Ok(slot) = self.slot(head.stream) {
                    self.slots[slot].0 = 0;
                    events.push(Event::Answer(slot, Some("reset".to_owned())));
                }
            }
            GOAWAY => return Err(broken("the server ends the connection")),
            _ => {}
        }
        if matches!(head.kind, DATA | HEADERS) && head.flags & END_STREAM != 0 {
            let slot = self.slot(head.stream)?;
            let why = (!self.slots[slot].1).then(|| "an answer without a success".to_owned());
            self.slots[slot].0 = 0;
            events.push(Event::Answer(slot, why));
        }
        Ok(())
    }
}

impl Protocol for Etcd {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        // No server push, no header table for the server, large windows.
        let settings: [(u16, u32); 3] = [(1, 0), (2, 0), (4, WINDOW)];
        head_of(out, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(out, WINDOW);
    }

    fn request(&mut self, slot: usize, number: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let key = match self.workload {
            Workload::Fill => number,
            _ => self.random.below(self.keys),
        };
        self.encode(key);
        let mut block = Vec::with_capacity(80);
        self.headers(&mut block);
        let stream = self.next_stream;
        self.next_stream += 2;
        self.slots[slot] = (stream, false);
        head_of(out, block.len(), HEADERS, END_HEADERS, stream);
        out.extend_from_slice(&block);
        let len = self.message.len();
        head_of(out, 5 + len, DATA, END_STREAM, stream);
        out.push(0);
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&self.message);
        self.room -= 5 + len as i64;
        if self.room < 0 {
            return Err(broken(
                "more clients on a connection than its window has room for",
            ));
        }
        Ok(())
    }

    fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> io::Result<usize> {
        let mut at = 0;
        while let Some(head) = Head::parse(&input[at..]) {
            let start = at + HEAD_LEN;
            let Some(payload) = input.get(start..start + head.len) else {
                break;
            };
            at = start + head.len;
            self.frame(head, payload, out, events)?;
        }
        Ok(at)
    }
}

/// A frame's first nine bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, s @ ..] = bytes.get(..HEAD_LEN)? else {
            return None;
        };
        Some(Head {
            len: u32::from_be_bytes([0, *a, *b, *c]) as usize,
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(s.try_into().ok()?) & 0x7fff_ffff,
        })
    }
}

fn head_of(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, more: u32) {
    head_of(out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&more.to_be_bytes());
}

/// A header string of less than 127 bytes.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).expect("header strings here are short"));
    out.extend_from_slice(text);
}

/// A protobuf field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// A protobuf number, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}
