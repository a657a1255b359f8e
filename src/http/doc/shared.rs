//! What many endpoints have in common: parameters, headers, problems. The document refers to each by name.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Array, Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Components, HeaderBuilder, Ref, Required};

use super::schema;
use crate::http::call::LEVELS;
use crate::http::error::Code;
use crate::http::idempotency::key_schema;
use crate::http::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::http::problems::LISTED_MAX;

/// What can go wrong everywhere.
pub(super) const ALWAYS: &[Code] = &[
    Code::UnknownParameter,
    Code::DuplicateParameter,
    Code::InvalidValue,
    Code::MalformedRequest,
    Code::NotAcceptable,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UriTooLong,
    Code::HeadTooLarge,
    Code::Overloaded,
    Code::Internal,
];

/// What can go wrong with every read of replicated state.
pub(super) const OF_READS: &[Code] = &[
    Code::NoLeader,
    Code::NotReady,
    Code::ShuttingDown,
    Code::ReadTimeout,
];

/// What can go wrong with every write.
pub(super) const OF_WRITES: &[Code] = &[
    Code::Overloaded,
    Code::DiskFull,
    Code::NoLeader,
    Code::NotReady,
    Code::ShuttingDown,
    Code::WriteTimeout,
    Code::CommitTimeout,
    Code::IdempotencyKeyReused,
    Code::IdempotencyKeysFull,
];

/// What can be wrong with every JSON body.
pub(super) const OF_JSON_BODIES: &[Code] = &[
    Code::MalformedJson,
    Code::UnknownField,
    Code::DuplicateField,
    Code::MissingField,
    Code::UnsupportedMediaType,
];

/// Headers of every answer.
pub(super) const ALL_HEADERS: &[&str] = &[
    "X-Request-Id",
    "Quorate-Node",
    "Quorate-Role",
    "Quorate-Served-By",
    "Quorate-Leader",
    "Quorate-Leader-Url",
    "Quorate-Term",
    "Quorate-Applied-Index",
    "Quorate-Commit-Index",
];

/// Headers of every answer to a read.
pub(super) const READ_HEADERS: &[&str] = &[
    "Quorate-Index",
    "Quorate-Staleness",
    "Consistency-Requested",
    "Consistency-Effective",
];

/// Every header of an answer that is described: name and meaning.
const HEADERS: &[(&str, &str)] = &[
    (
        "X-Request-Id",
        "The request's id: the one sent, or one made here. Names the request in the node's log.",
    ),
    ("Quorate-Node", "The node that answers."),
    (
        "Quorate-Role",
        "What that node is: `leader`, `follower`, `candidate`, `learner` or `stopped`.",
    ),
    (
        "Quorate-Served-By",
        "The node that did the work; another one if the request was forwarded to the leader.",
    ),
    (
        "Quorate-Leader",
        "The leader, as the serving node knows it. Absent if it knows none.",
    ),
    (
        "Quorate-Leader-Url",
        "Where the leader serves clients. Absent if none is known.",
    ),
    ("Quorate-Term", "The serving node's term."),
    (
        "Quorate-Applied-Index",
        "What the serving node has applied.",
    ),
    (
        "Quorate-Commit-Index",
        "What the serving node knows to be committed.",
    ),
    (
        "Quorate-Index",
        "The log index of this write, or the index of the state that was read.",
    ),
    (
        "Quorate-Staleness",
        "A proven bound on the age of what was read, such as `0ms`; `unknown` if there is none.",
    ),
    ("Consistency-Requested", "The level that was asked for."),
    (
        "Consistency-Effective",
        "The level that was reached: the same or a stronger one.",
    ),
    (
        "Link",
        "The next page: its path and query, with `rel=\"next\"`. Absent on the last page.",
    ),
    (
        "Idempotency-Replayed",
        "`true` on an answer that was given before, to the same request under the same idempotency key.",
    ),
    (
        "Location",
        "The path of what was created, or was there already.",
    ),
    (
        "Retry-After",
        "Seconds after which asking again makes sense.",
    ),
    (
        "ETag",
        "The modification index of the key in quotes, for `If-Match` and `If-None-Match`.",
    ),
    (
        "Kv-Version",
        "How often the key was written since it was created, from 1.",
    ),
    ("Kv-Create-Index", "Where in the log the key was created."),
];

/// Refers to a shared parameter.
pub(super) fn parameter(name: &str) -> Ref {
    Ref::new(format!("#/components/parameters/{name}"))
}

/// Refers to a header of answers.
pub(super) fn header(name: &str) -> Ref {
    assert!(
        HEADERS.iter().any(|(known, _)| *known == name),
        "{name} is not described"
    );
    Ref::new(format!("#/components/headers/{name}"))
}

/// All that is referred to but schemas of endpoints.
pub(super) fn components() -> Components {
    let mut components = Components::new();
    for (name, about) in HEADERS {
        let header = HeaderBuilder::new()
            .schema(Some(schema::text()))
            .description(Some(*about));
        components
            .headers
            .insert((*name).to_owned(), header.build().into());
    }
    for (name, parameter) in parameters() {
        components
            .parameters
            .insert(name.to_owned(), parameter.into());
    }
    components
        .schemas
        .insert("Problem".to_owned(), problem().into());
    components
        .schemas
        .insert("Invalid".to_owned(), invalid().into());
    components
}

fn parameters() -> [(&'static str, Parameter); 8] {
    use ParameterIn::{Header, Query};
    let consistency = "How fresh the answer must be. `leader` (or `linearizable`): everything acknowledged before the \
        request. `lease`: the same while clocks drift apart by less than 20 %, without a round trip. `follower` (or \
        `follower-stale`, `stale`): what this node has applied, possibly old, also without a majority.";
    let timeout = "Deadline, from 1ms to 60s. Without one, 5s.";
    let limit = format!("Most rows of the page; {LIMIT_DEFAULT} if absent.");
    [
        (
            "Consistency",
            named("consistency", Query, consistency, schema::one_of(LEVELS)),
        ),
        (
            "ConsistencyHeader",
            named(
                "Quorate-Consistency",
                Header,
                "As `consistency`, which wins.",
                schema::one_of(LEVELS),
            ),
        ),
        (
            "Timeout",
            named("timeout", Query, timeout, schema::timeout()),
        ),
        (
            "TimeoutHeader",
            named(
                "Quorate-Timeout",
                Header,
                "As `timeout`; the shorter of both counts.",
                schema::timeout(),
            ),
        ),
        (
            "Limit",
            named("limit", Query, &limit, schema::integer(1, LIMIT_MAX)),
        ),
        (
            "Cursor",
            named(
                "cursor",
                Query,
                "Where the page before ended: its `next_cursor`. No other filter may change with it.",
                schema::pattern("^[0-9a-f]+$"),
            ),
        ),
        (
            "IdempotencyKey",
            named(
                "Idempotency-Key",
                Header,
                "The write is done once under this key; sent again, the first answer is given again. Another request under \
                 the key is refused. 1 to 255 printable ASCII characters, held for a day at least.",
                key_schema(),
            ),
        ),
        (
            "RequestId",
            named(
                "X-Request-Id",
                Header,
                "An id of the client's for this request: 1 to 128 visible ASCII characters. Any other is replaced.",
                schema::text(),
            ),
        ),
    ]
}

fn named(name: &str, place: ParameterIn, about: &str, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

/// The members that every problem has, and those that some have.
fn problem() -> ObjectBuilder {
    let node = schema::integer(0, u32::MAX as usize);
    let leader =
        ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Integer, Type::Null]));
    let raft = ObjectBuilder::new()
        .property("node", node)
        .property("leader", leader)
        .property("term", schema::digits())
        .property("index", schema::digits())
        .required("node")
        .required("leader")
        .required("term")
        .required("index");
    let members = [
        (
            "type",
            schema::pattern("^/errors/[a-z_]+$"),
            "The page that explains the code, on every node.",
        ),
        ("title", schema::text(), "What the code means."),
        (
            "status",
            schema::integer(400, 599),
            "The status of the answer.",
        ),
        (
            "code",
            schema::pattern("^[a-z_]+$"),
            "The stable code: what programs decide by.",
        ),
        ("detail", schema::text(), "This occurrence, for people."),
        ("instance", schema::text(), "The path of the request."),
        (
            "outcome",
            schema::one_of(&["not_applied", "unknown"]),
            "Whether the change that was asked for was certainly not made, or may have been.",
        ),
        (
            "retryable",
            schema::flag(),
            "Whether sending the same request again is safe and may help.",
        ),
        ("request_id", schema::text(), "The request's id."),
    ];
    let mut problem = ObjectBuilder::new();
    for (name, schema, about) in members {
        let described = ObjectBuilder::from(schema).description(Some(about));
        problem = problem.property(name, described).required(name);
    }
    problem
        .property("raft", raft)
        .required("raft")
        .property("errors", wrong_places())
        .description(Some(
            "RFC 9457. Some codes have members of their own, such as `index`, `fields`, `current`, `limit` or `check`.",
        ))
}

fn wrong_places() -> Array {
    let mut list = Array::new(Ref::from_schema_name("Invalid"));
    list.max_items = Some(LISTED_MAX);
    list
}

/// One thing that is wrong with a request.
fn invalid() -> ObjectBuilder {
    ObjectBuilder::new()
        .property("pointer", schema::text())
        .property("parameter", schema::text())
        .property("header", schema::text())
        .property("code", schema::pattern("^[a-z_]+$"))
        .property("detail", schema::text())
        .property("allowed", Array::new(schema::text()))
        .required("code")
        .required("detail")
        .description(Some(
            "One thing that is wrong, and where: a JSON pointer into the body, a parameter or a header.",
        ))
}
