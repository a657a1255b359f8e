//! `peers load`: closed-loop load for systems to compare Quorate with. `peers table`: what the runs of both amount to.
//!
//! The generator shares its machine with the servers, so it is as lean as `quorate bench`: one thread, requests written
//! straight into bytes in each system's native protocol, connections kept. Output has the shape of `quorate bench --json`.

mod drive;
mod etcd;
mod options;
mod postgres;
mod table;
mod zookeeper;

use std::io;
use std::process::ExitCode;

use options::{Options, System};

const USAGE: &str = "usage:
  peers load etcd|zookeeper|postgres WORKLOAD --endpoints HOST:PORT,... [--clients N] [--connections N] [--seconds N]
    [--warmup-seconds N] [--keys N] [--accounts N] [--value-bytes N] [--batch N]
  peers fill etcd|zookeeper|postgres --endpoints HOST:PORT,... [--keys N] [--value-bytes N]
  peers table FILE [--json [CONDITIONS]]
workloads: kv-put, kv-get-leader, kv-get-follower, transfer, transfer-batch";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> io::Result<String> {
    match args.first().map(String::as_str) {
        Some("load" | "fill") => {
            let options = Options::parse(args)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let report = runtime.block_on(async {
                match options.system {
                    System::Etcd => drive::run(&options, etcd::Etcd::new).await,
                    System::Zookeeper => drive::run(&options, zookeeper::Zookeeper::new).await,
                    System::Postgres => drive::run(&options, postgres::Postgres::new).await,
                }
            })?;
            Ok(format!("{report}\n"))
        }
        Some("table") => table::print(&args[1..]),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    }
}
