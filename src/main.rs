//! The `quorate` binary: server, client and tools in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::main()
}
