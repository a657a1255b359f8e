//! What is taken in and what is refused at once, because there is too much of it.
//!
//! Work that will be late is in vain, and it delays the rest: beyond what a node can do, it does the more of it the sooner it
//! refuses the others. A write waits in three places, and each says how long: for a processor, to be read and parsed
//! ([`Lag`]); among the writes under way, counted; and for consensus ([`raft::Client::check_room`]). What these say of a
//! large write is asked for before its body is read, since reading is most of what a refusal costs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::body;
use super::call::Call;
use super::error::{ApiError, Code, Problem};
use super::forward::deadline;
use super::lag::Lag;
use super::limits::{Bound, Limits};
use crate::raft;

/// Bodies from this size on, in bytes, are not even read while there is no room for what they ask.
const SHED_LEN_MIN: u64 = 16 << 10;

/// Decides who is let in; clones share what they count.
#[derive(Clone)]
pub(super) struct Admission {
    limits: Arc<Limits>,
    raft: raft::Client,
    writes: Arc<Semaphore>,
    lag: Lag,
}

impl Admission {
    pub(super) fn new(limits: Arc<Limits>, raft: raft::Client) -> Admission {
        Admission {
            writes: Arc::new(Semaphore::new(limits.writes_max)),
            lag: Lag::new(),
            limits,
            raft,
        }
    }

    /// Measures for ever how late the threads are that this runs on.
    pub(super) async fn measure_lag(&self) -> Infallible {
        self.lag.clone().measure().await
    }

    /// Refuses what its head alone says cannot be served, before its body, of `announced` bytes at least, costs anything.
    pub(super) fn by_head(
        &self,
        call: &Call,
        bound: Bound,
        announced: u64,
    ) -> Result<(), ApiError> {
        check_uri(call, self.limits.uri_bytes_max)?;
        if announced > bound.bytes as u64 {
            return Err(body::too_large(announced, bound));
        }
        if !call.is_shed() {
            return Ok(());
        }
        check_lag(self.lag.now(), self.limits.lag_max)?;
        self.check_room(call, announced)
    }

    /// Whether consensus has room for what a body of `len` bytes asks. Of a small one that is not asked before it is parsed:
    /// finding out costs as much.
    fn check_room(&self, call: &Call, len: u64) -> Result<(), ApiError> {
        let path = call.uri.path();
        // Of a value its bytes go into the log, of transfers about a third of their JSON.
        let share = match path {
            _ if len < SHED_LEN_MIN => return Ok(()),
            _ if path.starts_with("/v1/kv/") => 1,
            _ if path.starts_with("/v1/transfers") => 3,
            _ => return Ok(()),
        };
        let bytes = usize::try_from(len).unwrap_or(usize::MAX) / share;
        Ok(self.raft.check_room(bytes, deadline(call))?)
    }

    /// A place among the writes under way. Those that wait for a processor are in no queue that says how long it is, so they
    /// are bounded by their number: with too many, each would be late, and all the work on them in vain. The room in consensus is
    /// looked at again: many may have seen the same room before their bodies were read.
    pub(super) fn place(&self, call: &Call) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        if !call.is_shed() {
            return Ok(None);
        }
        self.check_room(call, call.body.len() as u64)?;
        self.writes.try_acquire().map(Some).map_err(|_| {
            let max = self.limits.writes_max;
            let detail = format!("as many writes are under way as writes_max allows, {max}");
            let problem = Problem::new(Code::Overloaded, detail);
            problem
                .with("limit", max)
                .with("setting", "writes_max")
                .into()
        })
    }
}

fn check_uri(call: &Call, max: usize) -> Result<(), ApiError> {
    let target = call.uri.path_and_query();
    let have = target.map_or(0, |both| both.as_str().len());
    if have <= max {
        return Ok(());
    }
    let detail = format!("path and query have {have} bytes, uri_bytes_max is {max}");
    let problem = Problem::new(Code::UriTooLong, detail);
    Err(problem
        .with("limit", max)
        .with("setting", "uri_bytes_max")
        .into())
}

fn check_lag(late: Duration, max: Duration) -> Result<(), ApiError> {
    if late <= max {
        return Ok(());
    }
    let (late, max) = (late.as_millis(), max.as_millis());
    let detail = format!("requests wait {late} ms for a processor, lag_max is {max} ms");
    Err(Problem::new(Code::Overloaded, detail)
        .with("setting", "lag_max")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_may_be_as_late_as_lag_max_and_no_later() {
        let max = Duration::from_millis(1000);
        assert!(check_lag(max, max).is_ok());
        let Err(ApiError::Problem(refused)) = check_lag(max + Duration::from_millis(1), max) else {
            panic!("it was let in");
        };
        assert_eq!(refused.code, Code::Overloaded);
        assert_eq!(refused.extra["setting"], "lag_max");
        assert!(refused.detail.contains("1001 ms"), "{}", refused.detail);
    }
}
