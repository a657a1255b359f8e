//! PostgreSQL's own protocol: one prepared statement a connection, one round trip a request.

use std::io;

use crate::drive::{Event, Protocol, broken};
use crate::options::{Options, Random, Workload};

/// See the module.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: Options,
    random: Random,
    ready: Ready,
    error: Option<String>,
    rows: u32,
    params: Vec<Vec<u8>>,
}

/// How far a connection is; each step ends with "ready for query".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Starting,
    Preparing,
    Yes,
}

impl Postgres {
    /// Connection number `number`.
    pub(crate) fn new(options: &Options, _endpoint: &str, number: usize) -> Postgres {
        Postgres {
            options: options.clone(),
            random: Random::new(number),
            ready: Ready::Starting,
            error: None,
            rows: 0,
            params: Vec::new(),
        }
    }

    fn statement(&self) -> &'static str {
        match self.options.workload {
            Workload::Fill | Workload::Put => {
                "insert into kv values ($1, $2) on conflict (key) do update set value = excluded.value"
            }
            Workload::GetLeader | Workload::GetFollower => "select value from kv where key = $1",
            Workload::Transfer => "select transfer($1, $2, $3)",
            Workload::TransferBatch => "select transfer_batch($1, $2, $3)",
        }
    }

    fn pair(&mut self) -> (u64, u64, u64) {
        let accounts = self.options.accounts;
        let debit = self.random.below(accounts);
        let credit = (debit + 1 + self.random.below(accounts - 1)) % accounts;
        (debit, credit, 1 + self.random.below(1000))
    }

    fn make_params(&mut self, number: u64) {
        let workload = self.options.workload;
        self.params = match workload {
            Workload::Transfer => {
                let (debit, credit, amount) = self.pair();
                [debit, credit, amount]
                    .map(|n| n.to_string().into_bytes())
                    .into()
            }
            Workload::TransferBatch => {
                let mut lists = vec![Vec::from(b"{"); 3];
                for place in 0..self.options.batch {
                    let (debit, credit, amount) = self.pair();
                    for (list, n) in lists.iter_mut().zip([debit, credit, amount]) {
                        if place > 0 {
                            list.push(b',');
                        }
                        list.extend_from_slice(n.to_string().as_bytes());
                    }
                }
                lists.iter_mut().for_each(|list| list.push(b'}'));
                lists
            }
            _ => {
                let key = match workload {
                    Workload::Fill => number,
                    _ => self.random.below(self.options.keys),
                };
                let mut params = vec![format!("bench/{key:08}").into_bytes()];
                if matches!(workload, Workload::Fill | Workload::Put) {
                    // Letters are a bytea's own text form.
                    let letter = b'a' + (self.random.below(26) as u8);
                    params.push(vec![letter; self.options.value_bytes]);
                }
                params
            }
        };
    }

    /// Notes what a message says of the request under way.
    fn message(&mut self, kind: u8, body: &[u8], out: &mut Vec<u8>, events: &mut Vec<Event>) {
        match kind {
            b'E' => {
                let text = String::from_utf8_lossy(body).replace('\0', " ");
                self.error = Some(text.trim().to_owned());
            }
            b'D' => self.rows += 1,
            b'Z' => match self.ready {
                Ready::Starting => {
                    self.ready = Ready::Preparing;
                    let text = format!("s\0{}\0", self.statement());
                    message(out, b'P', &[text.as_bytes(), &[0, 0]]);
                    message(out, b'S', &[]);
                }
                Ready::Preparing => {
                    self.ready = Ready::Yes;
                    events.push(Event::Ready);
                }
                Ready::Yes => {
                    let writes = matches!(self.options.workload, Workload::Fill | Workload::Put);
                    let missing = !writes && self.rows != 1;
                    let why = self.error.take();
                    let why = why.or_else(|| missing.then(|| "no row".to_owned()));
                    events.push(Event::Answer(0, why));
                }
            },
            _ => {}
        }
    }
}

impl Protocol for Postgres {
    fn open(&mut self, out: &mut Vec<u8>) {
        let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        out.extend_from_slice(&(4 + body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
    }

    fn request(&mut self, _slot: usize, number: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.make_params(number);
        self.rows = 0;
        // To the nameless portal, from the statement, all parameters as text.
        let mut bind = Vec::from(b"\0s\0\0\0");
        bind.extend_from_slice(&(self.params.len() as u16).to_be_bytes());
        for param in &self.params {
            bind.extend_from_slice(&(param.len() as u32).to_be_bytes());
            bind.extend_from_slice(param);
        }
        bind.extend_from_slice(&[0, 1, 0, 1]);
        message(out, b'B', &[&bind]);
        message(out, b'E', &[&[0; 5]]);
        message(out, b'S', &[]);
        Ok(())
    }

    fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> io::Result<usize> {
        let mut at = 0;
        while let Some([kind, len @ ..]) = input.get(at..at + 5) {
            let len = len.try_into().map(u32::from_be_bytes).unwrap_or(0) as usize;
            let Some(body) = input.get(at + 5..at + 1 + len) else {
                break;
            };
            if len < 4 {
                return Err(broken("a message of no length"));
            }
            at += 1 + len;
            self.message(*kind, body, out, events);
        }
        if let (false, Some(why)) = (self.ready == Ready::Yes, &self.error) {
            return Err(io::Error::other(why.clone()));
        }
        Ok(at)
    }
}

fn message(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.push(kind);
    out.extend_from_slice(&(4 + len as u32).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
