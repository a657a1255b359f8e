//! What all attempts of a call prove together: the weakest of them, until one of them is proof.

use bytes::Bytes;
use hyper::Response;

use super::ask::{Ask, Key, Repeat};
use super::attempt::{Attempt, NotNow};
use super::error::{Error, Problem, Rejection, Unavailable, Unknown};

/// What is known of a call so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    attempts: u32,
    /// The first attempt that may have been applied. Kept: nothing but proof takes it away.
    doubt: Option<Doubt>,
    last: Option<NotNow>,
}

#[derive(Clone, Debug)]
struct Doubt {
    why: String,
    check: Option<String>,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    /// It is over.
    Over(Result<Response<Bytes>, Error>),
    /// Ask again.
    Again,
    /// Ask again without an idempotency key, because the cluster can hold no more of them.
    WithoutKey,
}

impl Fate {
    /// Attempts so far.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Adds what an attempt of `ask` proved.
    pub(super) fn add(&mut self, ask: &Ask, attempt: Attempt) -> Step {
        self.attempts += 1;
        match attempt {
            Attempt::Done(response) => Step::Over(Ok(response)),
            Attempt::Refused(problem) => Step::Over(Err(self.refused(ask, problem))),
            Attempt::NotNow(why) => {
                // Certain, and no earlier attempt is in doubt: one without a key does no harm, if it is the only one. Under a
                // key of the caller's it would: what was done under it before is not found without.
                let full = is(&why, "idempotency_keys_full") && self.doubt.is_none();
                self.last = Some(why);
                match full && matches!(ask.key(), Some(Key::Made(_))) {
                    true => Step::WithoutKey,
                    false => Step::Again,
                }
            }
            Attempt::Doubtful { why, check, .. } => {
                self.doubt.get_or_insert(Doubt { why, check });
                match ask.repeat() {
                    Repeat::Never => Step::Over(Err(self.end(ask))),
                    Repeat::Read | Repeat::ById | Repeat::ByKey(_) => Step::Again,
                }
            }
        }
    }

    /// What is to be reported when there is no time for another attempt.
    pub(super) fn end(&self, ask: &Ask) -> Error {
        if let Some(doubt) = &self.doubt {
            return self.unknown(ask, doubt.why.clone(), doubt.check.clone());
        }
        let last = self.last.clone();
        Error::Unavailable(Box::new(Unavailable {
            why: last
                .as_ref()
                .map_or("there was no time to ask anyone".to_owned(), |last| {
                    last.why.clone()
                }),
            problem: last.and_then(|last| last.problem),
            attempts: self.attempts,
        }))
    }

    fn refused(&self, ask: &Ask, problem: Problem) -> Error {
        match &self.doubt {
            Some(doubt) if !is_proof(ask, &problem) => {
                let why = format!("{}; then {problem}", doubt.why);
                self.unknown(ask, why, doubt.check.clone())
            }
            _ => Error::Rejection(Box::new(Rejection {
                problem,
                attempts: self.attempts,
            })),
        }
    }

    fn unknown(&self, ask: &Ask, why: String, check: Option<String>) -> Error {
        let idempotency_key = ask.key().map(|key| key.text().to_owned());
        Error::Unknown(Box::new(Unknown {
            why,
            idempotency_key,
            check,
            attempts: self.attempts,
        }))
    }
}

fn is(why: &NotNow, code: &str) -> bool {
    why.problem
        .as_ref()
        .is_some_and(|problem| problem.code == code)
}

/// Whether a refusal proves that an earlier attempt in doubt was not applied and, arriving late, will not be.
///
/// The replicated state's own refusal does, because the state remembers it: under the transfer's id, or under the key. The
/// word of a single node does not: one of another version may take what this one cannot read.
fn is_proof(ask: &Ask, problem: &Problem) -> bool {
    match ask.repeat() {
        Repeat::ById | Repeat::ByKey(_) => problem.index.is_some(),
        Repeat::Read | Repeat::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempt::tests::refusal;
    use super::super::attempt::{OF_A_NODE, judge};
    use super::super::pool::SendError;
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Event {
        Done,
        /// The state said no.
        No,
        /// A node could not read it.
        Unreadable,
        Busy,
        Full,
        NotSent,
        Lost,
        TimedOut,
    }
    use Event::{Busy, Done, Full, Lost, No, NotSent, TimedOut, Unreadable};

    const ALL: [Event; 8] = [Done, No, Unreadable, Busy, Full, NotSent, Lost, TimedOut];

    fn attempt(ask: &Ask, event: Event) -> Attempt {
        let sent = match event {
            Done => Ok(Response::builder()
                .header(OF_A_NODE, "1")
                .body(Bytes::new())
                .unwrap()),
            No => Ok(refusal(422, "exceeds_credits", "not_applied", Some("7"))),
            Unreadable => Ok(refusal(400, "unknown_field", "not_applied", None)),
            Busy => Ok(refusal(503, "no_leader", "not_applied", None)),
            Full => Ok(refusal(
                429,
                "idempotency_keys_full",
                "not_applied",
                Some("7"),
            )),
            NotSent => Err(SendError::NotSent("x".into())),
            Lost => Err(SendError::NoAnswer("x".into())),
            TimedOut => Ok(refusal(504, "commit_timeout", "unknown", None)),
        };
        judge(ask, sent)
    }

    fn by_key() -> Ask {
        Ask::put(
            "/v1/kv/a",
            Bytes::new(),
            Repeat::ByKey(Key::Made("k".into())),
        )
    }

    fn by_given_key() -> Ask {
        let key = Key::Given("k".into());
        Ask::put("/v1/kv/a", Bytes::new(), Repeat::ByKey(key))
    }

    /// `+` applied, `-` certainly not, `?` unknown, `.` to be asked again; one letter an event, stopping at the end.
    fn told(ask: &Ask, events: &[Event]) -> String {
        let mut fate = Fate::default();
        let mut told = String::new();
        for event in events {
            match fate.add(ask, attempt(ask, *event)) {
                Step::Again => told.push('.'),
                Step::WithoutKey => told.push('!'),
                Step::Over(Ok(_)) => return told + "+",
                Step::Over(Err(error)) => return told + if error.is_certain() { "-" } else { "?" },
            }
        }
        told + if fate.end(ask).is_certain() { "-" } else { "?" }
    }

    #[test]
    fn the_weakest_attempt_counts_until_there_is_proof() {
        let ask = by_key();
        for (events, expected) in [
            (&[Done][..], "+"),
            (&[No], "-"),
            (&[Busy, NotSent], "..-"),
            (&[Lost, Done], ".+"),
            (&[Lost, No], ".-"),
            (&[Lost, Unreadable], ".?"),
            (&[Unreadable], "-"),
            (&[Lost, Busy, NotSent], "...?"),
            (&[TimedOut, Busy], "..?"),
            (&[Busy, TimedOut], "..?"),
            (&[Full], "!-"),
            (&[Lost, Full], "..?"),
        ] {
            assert_eq!(told(&ask, events), expected, "{events:?}");
        }
    }

    #[test]
    fn a_key_of_the_callers_is_never_left_out() {
        let ask = by_given_key();
        assert_eq!(told(&ask, &[Full, Full]), "..-");
        assert_eq!(told(&ask, &[Full, Done]), ".+");
    }

    #[test]
    fn what_must_not_be_repeated_ends_at_the_first_doubt() {
        let ask = by_key().without_key();
        assert_eq!(told(&ask, &[Busy, NotSent, Lost, Done]), "..?");
        assert_eq!(told(&ask, &[Busy, Done]), ".+");
    }

    #[test]
    fn no_sequence_of_attempts_is_certain_after_a_doubt_without_proof() {
        let ask = by_key();
        let all = ALL.iter();
        for (first, second, third) in all
            .clone()
            .flat_map(|a| ALL.iter().map(move |b| (a, b)))
            .flat_map(|(a, b)| ALL.iter().map(move |c| (*a, *b, *c)))
        {
            let events = [first, second, third];
            let told = told(&ask, &events);
            let heard = &events[..told.trim_end_matches('!').len().min(3)];
            let doubt = heard.iter().any(|event| [Lost, TimedOut].contains(event));
            let proof = heard.iter().any(|event| [Done, No].contains(event));
            if doubt && !proof {
                assert!(told.ends_with('?'), "{events:?} was told as {told}");
            }
            if !doubt {
                assert!(!told.ends_with('?'), "{events:?} was told as {told}");
            }
        }
    }

    #[test]
    fn an_unknown_outcome_names_the_key_to_ask_again_with() {
        let mut fate = Fate::default();
        let ask = by_key();
        assert!(matches!(fate.add(&ask, attempt(&ask, Lost)), Step::Again));
        let Error::Unknown(unknown) = fate.end(&ask) else {
            panic!("certain")
        };
        assert_eq!(unknown.idempotency_key.as_deref(), Some("k"));
        assert_eq!(unknown.attempts, 1);
    }
}
