use super::*;

#[test]
fn the_code_of_a_refusal_is_the_name_the_machine_gives_it() {
    for rejection in [
        Rejection::KeyNotFound,
        Rejection::PreconditionFailed { current: None },
        Rejection::LedgerNotFound,
        Rejection::ExistsWithDifferentFields { fields: 1 },
        Rejection::AmountMustNotBeZero,
        Rejection::AccountsMustDiffer,
        Rejection::DebitAccountNotFound,
        Rejection::CreditAccountNotFound,
        Rejection::LedgerMismatch,
        Rejection::AmountOverflow,
        Rejection::ExceedsCredits {
            balance: Default::default(),
        },
        Rejection::ExceedsDebits {
            balance: Default::default(),
        },
        Rejection::ChainOpen,
        Rejection::ChainFailed,
        Rejection::IdempotencyKeyReused {
            index: 7,
            time_ns: 1,
        },
        Rejection::IdempotencyKeysFull,
    ] {
        assert_eq!(code_of(&rejection).name(), rejection.code());
        assert!(!describe(&rejection).is_empty());
    }
}

#[test]
fn only_what_was_proposed_or_failed_has_an_unknown_outcome() {
    for code in Code::ALL {
        let unknown = matches!(code, Code::Internal | Code::CommitTimeout);
        assert_eq!(code.outcome() == Outcome::Unknown, unknown, "{code:?}");
    }
}

#[test]
fn a_refusal_to_wait_says_when_to_come_back() {
    let frame = Frame {
        instance: "/v1/kv/a",
        request_id: "r",
        safe: false,
        retry_safe: false,
        raft: Value::Null,
    };
    for code in Code::ALL {
        let response = Problem::new(*code, "x").render(&frame);
        let waits = matches!(code.status().as_u16(), 429 | 503 | 507);
        assert_eq!(
            response.headers().contains_key("retry-after"),
            waits,
            "{code:?}"
        );
    }
}
