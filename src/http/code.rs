//! The stable codes of problems: what each means to a client, in one table. The only file that names a status code of an error.

use axum::http::StatusCode;

/// What happened to the change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It was not made and never will be, unless it is asked for again.
    NotApplied,
    /// It may have been made, may be made later, or never.
    Unknown,
}

impl Outcome {
    /// The name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::NotApplied => "not_applied",
            Outcome::Unknown => "unknown",
        }
    }
}

/// What a code means to a client: see [`Code::row`].
struct Row {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
    retryable: bool,
}

macro_rules! codes {
    ($($variant:ident $name:literal $status:ident $retry:literal $title:literal;)+) => {
        /// The stable codes of problems. A client matches on these, never on titles or details.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::http) enum Code {
            $(#[doc = $title] $variant,)+
        }

        impl Code {
            /// Every code.
            pub(in crate::http) const ALL: &'static [Code] = &[$(Code::$variant),+];

            fn row(self) -> Row {
                match self {
                    $(Code::$variant => Row {
                        status: StatusCode::$status,
                        name: $name,
                        title: $title,
                        retryable: $retry,
                    },)+
                }
            }
        }
    };
}

codes! {
    MalformedJson "malformed_json" BAD_REQUEST false "The body is not JSON";
    MalformedRequest "malformed_request" BAD_REQUEST false "The request cannot be read";
    UnknownField "unknown_field" BAD_REQUEST false "The body has a field this resource does not have";
    DuplicateField "duplicate_field" BAD_REQUEST false "The body names a field twice";
    MissingField "missing_field" BAD_REQUEST false "The body lacks a field";
    UnknownParameter "unknown_parameter" BAD_REQUEST false "The query has a parameter this resource does not have";
    DuplicateParameter "duplicate_parameter" BAD_REQUEST false "The query names a parameter twice";
    InvalidValue "invalid_value" BAD_REQUEST false "A value is not one of those allowed";
    InvalidCursor "invalid_cursor" BAD_REQUEST false "The cursor is not one of this list";
    UnsupportedSort "unsupported_sort" BAD_REQUEST false "The list cannot be sorted so";
    NotFound "not_found" NOT_FOUND false "There is no such path";
    LedgerNotFound "ledger_not_found" NOT_FOUND false "There is no such ledger";
    AccountNotFound "account_not_found" NOT_FOUND false "There is no such account";
    TransferNotFound "transfer_not_found" NOT_FOUND false "There is no such transfer";
    KeyNotFound "key_not_found" NOT_FOUND false "There is no such key";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED false "The path does not take this method";
    NotAcceptable "not_acceptable" NOT_ACCEPTABLE false "The answer cannot be made in a media type that is accepted";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT true "The request did not arrive in time";
    ExistsWithDifferentFields "exists_with_different_fields" CONFLICT false "The id is taken by something else";
    AlreadyInitialized "already_initialized" CONFLICT false "This node belongs to a cluster already";
    NoHeir "no_heir" CONFLICT true "No other voter can take over now";
    NodeIdUsed "node_id_used" CONFLICT false "The node id was used before";
    LastVoter "last_voter" CONFLICT false "No voter would be left";
    MembershipChangeInProgress "membership_change_in_progress" CONFLICT true "The last change of members is not finished";
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED false "The condition of the write does not hold";
    IndexNotReached "index_not_reached" PRECONDITION_FAILED true "This node has not applied that much yet";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE false "The body is too large";
    TooManyItems "too_many_items" PAYLOAD_TOO_LARGE false "The body has too many items";
    UriTooLong "uri_too_long" URI_TOO_LONG false "The path and query are too long";
    HeadTooLarge "head_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE false "The head of the request is too large";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE false "The body must be JSON";
    RefusedLedgerNotFound "ledger_not_found" UNPROCESSABLE_ENTITY false "The ledger does not exist";
    AmountMustNotBeZero "amount_must_not_be_zero" UNPROCESSABLE_ENTITY false "A transfer moves more than nothing";
    AccountsMustDiffer "accounts_must_differ" UNPROCESSABLE_ENTITY false "Debit and credit account are one";
    DebitAccountNotFound "debit_account_not_found" UNPROCESSABLE_ENTITY false "The debit account does not exist";
    CreditAccountNotFound "credit_account_not_found" UNPROCESSABLE_ENTITY false "The credit account does not exist";
    LedgerMismatch "ledger_mismatch" UNPROCESSABLE_ENTITY false "The accounts belong to two ledgers";
    AmountOverflow "amount_overflow" UNPROCESSABLE_ENTITY false "A balance would pass 2^128 - 1";
    ExceedsCredits "exceeds_credits" UNPROCESSABLE_ENTITY false "Insufficient funds in the debit account";
    ExceedsDebits "exceeds_debits" UNPROCESSABLE_ENTITY false "The credit account would be credited beyond its debits";
    ChainOpen "chain_open" UNPROCESSABLE_ENTITY false "The chain of linked transfers has no end";
    ChainFailed "chain_failed" UNPROCESSABLE_ENTITY false "Another transfer of the chain was refused";
    InvalidMembers "invalid_members" UNPROCESSABLE_ENTITY false "The list of members is wrong";
    PeerUnreachable "peer_unreachable" UNPROCESSABLE_ENTITY true "A member cannot be reached";
    PeerInOtherCluster "peer_in_other_cluster" UNPROCESSABLE_ENTITY false "A member belongs to another cluster";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY false "The idempotency key was used for another request";
    IdempotencyKeyNotFound "idempotency_key_not_found" NOT_FOUND false "Nothing is held under this idempotency key";
    IdempotencyKeysFull "idempotency_keys_full" TOO_MANY_REQUESTS true "As many idempotency keys as may be are held";
    MemberNotFound "member_not_found" UNPROCESSABLE_ENTITY false "The node is no member of the cluster";
    NotAVoter "not_a_voter" UNPROCESSABLE_ENTITY false "The member has no vote";
    LearnerNotCaughtUp "learner_not_caught_up" UNPROCESSABLE_ENTITY true "The member lacks too much of the log";
    QuorumWouldBeLost "quorum_would_be_lost" UNPROCESSABLE_ENTITY false "Too few voters would answer";
    Overloaded "overloaded" TOO_MANY_REQUESTS true "Too much is waiting";
    BackupInProgress "backup_in_progress" TOO_MANY_REQUESTS true "This node is at a backup already";
    Internal "internal" INTERNAL_SERVER_ERROR true "The node failed";
    NoLeader "no_leader" SERVICE_UNAVAILABLE true "No leader is known";
    NotReady "not_ready" SERVICE_UNAVAILABLE true "The node is not ready";
    ShuttingDown "shutting_down" SERVICE_UNAVAILABLE true "The node is stopping";
    DiskFull "disk_full" INSUFFICIENT_STORAGE true "A disk has no room";
    CommitTimeout "commit_timeout" GATEWAY_TIMEOUT true "The outcome is not known";
    WriteTimeout "write_timeout" GATEWAY_TIMEOUT true "The deadline passed before the write was proposed";
    ReadTimeout "read_timeout" GATEWAY_TIMEOUT true "The read could not be confirmed before the deadline";
}

impl Code {
    /// The name in JSON.
    pub(super) fn name(self) -> &'static str {
        self.row().name
    }

    /// The HTTP status.
    pub(super) fn status(self) -> StatusCode {
        self.row().status
    }

    /// What it means in short, for people.
    pub(super) fn title(self) -> &'static str {
        self.row().title
    }

    /// Whether asking again may help.
    pub(super) fn retryable(self) -> bool {
        self.row().retryable
    }

    /// What it says of the change that was asked for.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Code::Internal | Code::CommitTimeout => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// Seconds after which trying again makes sense: with every 429, 503 and 507.
    pub(super) fn retry_after(self) -> Option<u32> {
        matches!(
            self.status(),
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        )
        .then_some(1)
    }
}
