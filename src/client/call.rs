//! The way of a call: one attempt after the other until something is proven or the time is over.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Response;
use serde::de::DeserializeOwned;

use super::answer::{Answer, Read, Written};
use super::ask::{Ask, Repeat};
use super::attempt::{Attempt, judge};
use super::error::{Error, Unknown};
use super::fate::{Fate, Step};
use super::pool::SendError;
use super::{Client, pause};

/// Shortest attempt worth making.
const ATTEMPT_MIN: Duration = Duration::from_millis(5);
/// What is kept of an attempt's time, so that a node's own word on its deadline arrives before the attempt is given up: that
/// word is often certain, silence never is.
const RESERVE_MAX: Duration = Duration::from_millis(50);

impl Client {
    /// Asks until something is certain or the time is over.
    ///
    /// # Errors
    /// See [`Error`]: which variant it is says what may have happened.
    pub async fn ask(&self, ask: &Ask) -> Result<Answer, Error> {
        let deadline = Instant::now() + self.options.timeout;
        let mut fate = Fate::default();
        let mut share = self.options.attempt;
        let needs_key = matches!(ask.repeat(), Repeat::ByKey(_));
        let mut keyless = (needs_key && !self.options.keys).then(|| ask.without_key());
        let mut earliest = Instant::now();
        loop {
            let asked = keyless.as_ref().unwrap_or(ask);
            let Some(address) = self.next(asked, &fate, earliest, deadline).await else {
                return Err(fate.end(asked));
            };
            let begun = Instant::now();
            let until = match asked.repeat() {
                // The only one that may be in doubt: cut short, it would be for nothing.
                Repeat::Never => deadline,
                Repeat::Read | Repeat::ById | Repeat::ByKey(_) => deadline.min(begun + share),
            };
            let sent = self.send(&address, asked, until).await?;
            let leader = sent.as_ref().ok().map(leader_url);
            let attempt = judge(asked, sent);
            if Instant::now() >= until {
                share = share.saturating_mul(2);
            }
            earliest = Instant::now() + self.note(&address, &attempt);
            if let Some(url) = leader {
                self.whom.leads(url.as_deref());
            }
            match fate.add(asked, attempt) {
                Step::Over(over) => {
                    return over.map(|response| Answer::new(response, &address, fate.attempts()));
                }
                Step::Again => {}
                Step::WithoutKey => keyless = Some(ask.without_key()),
            }
        }
    }

    /// Asks the node at `address` (`host:port`) once, whatever is known of it.
    ///
    /// # Errors
    /// If there is no answer in time; any status is an answer.
    pub async fn ask_one(&self, address: &str, ask: &Ask) -> Result<Answer, SendError> {
        let until = Instant::now() + self.options.timeout.min(self.options.attempt);
        let request = ask
            .request(until - Instant::now())
            .map_err(|error| SendError::NotSent(error.to_string()))?;
        let response = self.pool.send(address, request, until).await?;
        Ok(Answer::new(response, address, 1))
    }

    /// Waits as long as it takes; gives the address for the next attempt, or nothing if there is no time for one.
    async fn next(
        &self,
        ask: &Ask,
        fate: &Fate,
        earliest: Instant,
        deadline: Instant,
    ) -> Option<String> {
        let drawn = Instant::now() + pause::before(&self.options, fate.attempts());
        let (_, rests) = self.whom.choose(ask.place());
        let at = rests.into_iter().chain([drawn, earliest]).max()?;
        if at + ATTEMPT_MIN > deadline {
            return None;
        }
        if at > Instant::now() {
            tokio::time::sleep_until(at.into()).await;
        }
        // Another call may have learned something in the meantime.
        Some(self.whom.choose(ask.place()).0)
    }

    async fn send(
        &self,
        address: &str,
        ask: &Ask,
        until: Instant,
    ) -> Result<Result<Response<Bytes>, SendError>, Error> {
        let left = until.saturating_duration_since(Instant::now());
        let request = ask.request(left - RESERVE_MAX.min(left / 10))?;
        Ok(self.pool.send(address, request, until).await)
    }

    /// Remembers what an attempt said of the nodes; gives how long this call must wait, whomever it asks next.
    fn note(&self, address: &str, attempt: &Attempt) -> Duration {
        let (rest, status) = match attempt {
            Attempt::Done(_) | Attempt::Refused(_) => {
                self.whom.answered(address);
                return Duration::ZERO;
            }
            Attempt::NotNow(why) => (why.rest, why.problem.as_ref().map(|p| p.status)),
            Attempt::Doubtful { rest, .. } => (*rest, None),
        };
        self.whom.failed(address, rest);
        match (status, rest) {
            // Too much is waiting at the leader: asking it through another node would not be less.
            (Some(429), Some(rest)) => pause::asked_for(rest),
            _ => Duration::ZERO,
        }
    }

    /// Asks for data at this client's level.
    pub(super) async fn read<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Read<T>, Error> {
        self.ask(ask).await?.read()
    }

    /// The same, where the thing may not be there: `absent` is the code that says so.
    pub(super) async fn find<T: DeserializeOwned>(
        &self,
        ask: &Ask,
        absent: &str,
    ) -> Result<Option<Read<T>>, Error> {
        match self.read(ask).await {
            Ok(read) => Ok(Some(read)),
            Err(Error::Rejection(rejection)) if rejection.problem.code == absent => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for a change.
    pub(super) async fn write<T: DeserializeOwned>(&self, ask: &Ask) -> Result<Written<T>, Error> {
        let answer = self.ask(ask).await?;
        match answer.decode() {
            Ok(value) => Ok(Written {
                value,
                index: answer.index().unwrap_or(0),
                replayed: answer.is_replayed(),
                attempts: answer.attempts,
            }),
            // A success that cannot be read is no proof: who knows what gave it.
            Err(why) => Err(Error::Unknown(Box::new(Unknown {
                why,
                idempotency_key: ask.key().map(|key| key.text().to_owned()),
                check: None,
                attempts: answer.attempts,
            }))),
        }
    }
}

/// The leader as the node that answered knows it.
fn leader_url(response: &Response<Bytes>) -> Option<String> {
    let url = response.headers().get("quorate-leader-url")?;
    url.to_str().ok().map(str::to_owned)
}
