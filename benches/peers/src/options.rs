//! The command line, and what it asks for.

use std::io;

/// Whom to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Over gRPC.
    Etcd,
    /// Over its own protocol.
    Zookeeper,
    /// Over its own protocol, with prepared statements.
    Postgres,
}

/// One request's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Make key number N; the setup of the others.
    Fill,
    /// Write a random key.
    Put,
    /// Read a random key, seeing every write acknowledged before.
    GetLeader,
    /// Read a random key as the asked node has it.
    GetFollower,
    /// One transfer between random accounts.
    Transfer,
    /// Many transfers at once.
    TransferBatch,
}

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) system: System,
    pub(crate) workload: Workload,
    /// Name of the workload, as given.
    pub(crate) name: String,
    pub(crate) endpoints: Vec<String>,
    /// Requests under way at once.
    pub(crate) clients: usize,
    /// Connections that the clients share, where the protocol has a way to.
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) warmup_seconds: u64,
    pub(crate) keys: u64,
    pub(crate) accounts: u64,
    pub(crate) value_bytes: usize,
    /// Transfers in a batch.
    pub(crate) batch: usize,
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Options {
    /// From the arguments after the program's name.
    ///
    /// # Errors
    /// Names the argument that is wrong.
    pub(crate) fn parse(args: &[String]) -> io::Result<Options> {
        let mut args = args.iter().map(String::as_str);
        let verb = args.next().unwrap_or_default();
        let system = match args.next().unwrap_or_default() {
            "etcd" => System::Etcd,
            "zookeeper" => System::Zookeeper,
            "postgres" => System::Postgres,
            other => {
                return Err(bad(format!(
                    "{other:?} is none of etcd, zookeeper, postgres"
                )));
            }
        };
        let name = match verb {
            "fill" => "fill",
            _ => args.next().unwrap_or_default(),
        };
        let workload = match name {
            "fill" => Workload::Fill,
            "kv-put" => Workload::Put,
            "kv-get-leader" => Workload::GetLeader,
            "kv-get-follower" => Workload::GetFollower,
            "transfer" => Workload::Transfer,
            "transfer-batch" => Workload::TransferBatch,
            other => return Err(bad(format!("no workload is called {other:?}"))),
        };
        let mut options = Options {
            system,
            workload,
            name: name.to_owned(),
            endpoints: Vec::new(),
            clients: 64,
            connections: 64,
            seconds: 5,
            warmup_seconds: 1,
            keys: 10_000,
            accounts: 10_000,
            value_bytes: 256,
            batch: 8190,
        };
        while let Some(flag) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| bad(format!("{flag} wants a value")))?;
            options.set(flag, value)?;
        }
        if options.endpoints.is_empty() {
            return Err(bad("--endpoints is missing".to_owned()));
        }
        options.connections = match system {
            System::Etcd => options.connections.clamp(1, options.clients),
            System::Zookeeper | System::Postgres => options.clients,
        };
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: &str) -> io::Result<()> {
        if flag == "--endpoints" {
            self.endpoints = value.split(',').map(str::to_owned).collect();
            return Ok(());
        }
        let number: u32 = value
            .parse()
            .ok()
            .filter(|number| *number > 0 || flag == "--warmup-seconds")
            .ok_or_else(|| bad(format!("{flag} {value}: not a number that makes sense")))?;
        let size = number as usize;
        match flag {
            "--clients" => self.clients = size,
            "--connections" => self.connections = size,
            "--seconds" => self.seconds = number.into(),
            "--warmup-seconds" => self.warmup_seconds = number.into(),
            "--keys" => self.keys = number.into(),
            "--accounts" => self.accounts = u64::from(number).max(2),
            "--value-bytes" => self.value_bytes = size,
            "--batch" => self.batch = size,
            _ => return Err(bad(format!("{flag} is unknown"))),
        }
        Ok(())
    }
}

/// Xorshift, as in `quorate bench`: enough to spread keys.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The generator of connection number `seed`.
    pub(crate) fn new(seed: usize) -> Random {
        Random((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
