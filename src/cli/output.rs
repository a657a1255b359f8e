//! What goes to standard output and error, and with which exit code a command ends.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use serde_json::Value;

use crate::client::{Error, Problem};
use crate::storage::audit::Audit;

/// How a command ended, for scripts: the table in the help of `quorate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// Failed in a way that has no number of its own. Certainly not applied.
    Failed = 1,
    /// Called wrongly, or with something the API does not take.
    Usage = 2,
    /// What was named is not there.
    NotFound = 3,
    /// The id is taken by something else, or the condition does not hold.
    Conflict = 4,
    /// Refused by the rules: insufficient funds and the like.
    Refused = 5,
    /// No node could do it in time. Certainly not applied.
    Unavailable = 6,
    /// May have been applied.
    Unknown = 7,
    /// Not allowed.
    Forbidden = 8,
    /// It works, but not all of it.
    Degraded = 9,
    /// Something was done, or could be, but not all of it; or it was done and could not be printed.
    Incomplete = 10,
}

/// The exit codes, as the help shows them.
pub(super) const EXIT_CODES: &str = "Exit codes:
  0  done; healthy
  1  failed, certainly not applied; damaged (verify)
  2  called wrongly, or with something the API does not take
  3  what was named is not there
  4  the id is taken by something else, or the condition does not hold
  5  refused by the rules, such as for insufficient funds
  6  no node could do it in time: certainly NOT applied
  7  outcome UNKNOWN: it may have been applied; sending the same again (same id, same
     --idempotency-key) does it once and says so
  8  not allowed
  9  degraded (status)
  10 done in part only, as it says; or done, but not all of it could be printed

`serve` ends with 0 after a graceful stop, with 1 if it cannot start or its core fails, and is
aborted (134) by a fault of its log.";

/// Notes what was done to the data directory of a stopped node. It is done, whether or not that can be noted.
pub(super) fn audited(dir: &Path, act: &Value) {
    if let Err(error) = Audit::of(dir).add(&act.to_string()) {
        note(&format!(
            "done, but the audit file in {} takes no line: {error}",
            dir.display()
        ));
    }
}

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// With this code.
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }

    /// Failed, and certainly not applied.
    pub(super) fn refused(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    /// Called wrongly.
    pub(super) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// The same, after a part of what was asked for was done: "not applied" is not true of the whole any more.
    pub(super) fn after_a_part(mut self) -> Failure {
        if self.exit != Exit::Unknown {
            self.exit = Exit::Incomplete;
        }
        self
    }

    /// Says it on standard error and gives the exit code.
    pub(super) fn report(&self) -> ExitCode {
        complain(&self.message);
        ExitCode::from(self.exit as u8)
    }

    /// How the command ends.
    #[cfg(test)]
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// The same with a few words before it.
    pub(super) fn within(self, what: &str) -> Failure {
        Failure::new(self.exit, format!("{what}: {}", self.message))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let message = error.to_string();
        match error {
            Error::Rejection(rejection) => Failure::new(exit(&rejection.problem), message),
            Error::Unavailable(_) => Failure::new(Exit::Unavailable, message),
            Error::Unknown(unknown) => {
                let mut message = message;
                if let Some(key) = &unknown.idempotency_key {
                    let _ = write!(
                        message,
                        "\nsent again with the idempotency key {key}, it is done once"
                    );
                }
                if let Some(check) = &unknown.check {
                    let _ = write!(message, "\nto see what became of it: GET {check}");
                }
                Failure::new(Exit::Unknown, message)
            }
            Error::Protocol(_) => Failure::new(Exit::Failed, message),
            Error::Invalid(_) => Failure::new(Exit::Usage, message),
        }
    }
}

fn exit(problem: &Problem) -> Exit {
    match problem.status {
        404 => Exit::NotFound,
        409 | 412 => Exit::Conflict,
        422 => Exit::Refused,
        401 | 403 => Exit::Forbidden,
        400 | 405 | 406 | 413..=415 | 431 => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// A line on standard error.
pub(super) fn complain(message: &str) {
    // If standard error is gone there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "quorate: {message}");
}

/// A line on standard error that is no complaint.
pub(super) fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A remark on standard error, for people only: nothing if standard output goes elsewhere than to a terminal.
pub(super) fn remark(message: &str) {
    if std::io::stdout().is_terminal() {
        note(message);
    }
}

/// Text on standard output. A closed pipe is the reader's choice, not a failure; another error is one, in the end: see [`ended`].
pub(super) fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// Bytes on standard output.
pub(super) fn print_bytes(bytes: &[u8]) {
    put(&mut std::io::stdout().lock(), bytes, &LOST);
}

/// Why standard output does not take what is printed, once it does not; empty if its reader has gone.
static LOST: OnceLock<String> = OnceLock::new();

/// Nothing that is printed arrives any more: who prints without end can stop.
pub(super) fn is_lost() -> bool {
    LOST.get().is_some()
}

fn put(out: &mut impl Write, bytes: &[u8], lost: &OnceLock<String>) {
    // Nothing after a gap.
    if lost.get().is_some() {
        return;
    }
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let why = match error.kind() {
            ErrorKind::BrokenPipe => String::new(),
            _ => error.to_string(),
        };
        lost.get_or_init(|| why);
    }
}

/// How a command ends that came to `result`, when all it prints is printed or lost.
pub(super) fn ended(result: Result<(), Failure>) -> Result<(), Failure> {
    told(result, LOST.get().map_or("", String::as_str))
}

fn told(result: Result<(), Failure>, lost: &str) -> Result<(), Failure> {
    if lost.is_empty() {
        return result;
    }
    match result {
        Ok(()) => {
            let what = format!("done, but could not be printed: {lost}");
            Err(Failure::new(Exit::Incomplete, what))
        }
        Err(failure) => {
            let what = format!("{}\nand not all could be printed: {lost}", failure.message);
            Err(Failure::new(failure.exit, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Rejection, Unavailable, Unknown};

    #[test]
    fn the_exit_code_says_what_may_be_assumed() {
        let rejected = |status| {
            let problem = Problem {
                status,
                ..Problem::default()
            };
            let rejection = Rejection {
                problem,
                attempts: 1,
            };
            Failure::from(Error::Rejection(Box::new(rejection))).exit()
        };
        let statuses = [400, 403, 404, 409, 412, 413, 422, 418];
        assert_eq!(
            statuses.map(|status| rejected(status) as u8),
            [2, 8, 3, 4, 4, 2, 5, 1]
        );
        let unavailable = Unavailable {
            why: String::new(),
            problem: None,
            attempts: 1,
        };
        let unavailable = Failure::from(Error::Unavailable(Box::new(unavailable)));
        assert_eq!(unavailable.exit() as u8, 6);
        let unknown = Failure::from(Error::Unknown(Box::new(Unknown {
            why: "cut".to_owned(),
            idempotency_key: Some("k1".to_owned()),
            check: Some("/v1/kv/a".to_owned()),
            attempts: 2,
        })));
        assert_eq!(unknown.exit() as u8, 7);
        assert!(unknown.message.contains("k1") && unknown.message.contains("/v1/kv/a"));
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for code in 0..=10 {
            assert!(EXIT_CODES.contains(&format!("\n  {code:<2} ")), "{code}");
        }
    }
    /// Takes nothing, for this reason.
    struct Full(ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_could_not_be_printed_is_no_success() {
        let after = |kind, result| {
            let lost = OnceLock::new();
            put(&mut Full(kind), b"x", &lost);
            let mut out = Vec::new();
            put(&mut out, b"y", &lost);
            assert!(out.is_empty(), "printed after a gap");
            told(result, lost.get().expect("an error is remembered"))
        };
        let failed = || Err(Failure::new(Exit::Refused, "no"));
        assert_eq!(after(ErrorKind::BrokenPipe, Ok(())), Ok(()));
        assert_eq!(after(ErrorKind::BrokenPipe, failed()), failed());
        let full = after(ErrorKind::StorageFull, Ok(())).unwrap_err();
        assert_eq!(full.exit(), Exit::Incomplete);
        assert!(full.message.starts_with("done, but "), "{full:?}");
        let both = after(ErrorKind::StorageFull, failed()).unwrap_err();
        assert_eq!(both.exit(), Exit::Refused);
        assert!(both.message.starts_with("no\n"), "{both:?}");
        let lost = OnceLock::new();
        put(&mut Vec::new(), b"x", &lost);
        assert_eq!((lost.get(), told(Ok(()), "")), (None, Ok(())));
    }

    #[test]
    fn after_a_part_nothing_is_certainly_not_applied() {
        let after = |exit| Failure::new(exit, "x").after_a_part().exit();
        for exit in [
            Exit::Failed,
            Exit::Conflict,
            Exit::Refused,
            Exit::Unavailable,
        ] {
            assert_eq!(after(exit), Exit::Incomplete);
        }
        assert_eq!(after(Exit::Unknown), Exit::Unknown);
    }
}
