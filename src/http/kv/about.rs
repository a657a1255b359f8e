//! The endpoints of the key-value store, and what is said of them.

use utoipa::openapi::Object;

use super::{Deleted, MADE, Put, Record, delete, list, put, show};
use crate::http::accept::BYTES;
use crate::http::answer::Indexed;
use crate::http::doc::{Operation, schema};
use crate::http::error::Code;
use crate::http::page::Page;
use crate::http::routes::Routes;
use crate::machine::command::VALUE_LEN_MAX;

pub(in crate::http) fn routes() -> Routes {
    let about = |id, summary, description| Operation::new(id, "kv", summary, description);
    let list_about = about(
        "listKeys",
        "List keys",
        "With their values, in byte order. A page holds 4 MiB at most.",
    );
    let show_about = about(
        "getKey",
        "The value of a key",
        "As the bytes that were written, or as a record in JSON.",
    );
    let put_about = about(
        "putKey",
        "Write a key",
        "Creates or replaces, on a condition if one is given. Any bytes will do.",
    );
    let delete_about = about(
        "deleteKey",
        "Remove a key",
        "On a condition if one is given.",
    );
    let missing = [Code::KeyNotFound];
    Routes::new()
        .get(
            "/v1/kv",
            list,
            list_about
                .reads()
                .pages()
                .query("prefix", "Only keys that start so.", schema::text())
                .answers::<Page<Record>>(200, "A page of keys."),
        )
        .get(
            PATH,
            show,
            key_of(show_about)
                .reads()
                .reads_header(
                    "If-None-Match",
                    "A tag that the client has, or `*`.",
                    condition_tag(),
                )
                .makes(MADE)
                .answers_also::<Indexed<Record>>(
                    200,
                    "The value.",
                    &[(BYTES, schema::bytes(VALUE_LEN_MAX))],
                )
                .answers_in(304, "The client has it.", &[])
                .sends(&["ETag", "Kv-Version", "Kv-Create-Index"])
                .fails(&missing),
        )
        .put(
            PATH,
            put,
            conditional(key_of(put_about))
                .takes_bytes(BYTES, VALUE_LEN_MAX)
                .answers::<Put>(201, "It was created.")
                .answers::<Put>(200, "It was replaced.")
                .sends(&["ETag", "Kv-Version"]),
        )
        .delete(
            PATH,
            delete,
            conditional(key_of(delete_about))
                .answers::<Deleted>(200, "It was removed.")
                .fails(&missing),
        )
}

const PATH: &str = "/v1/kv/{*key}";

fn key_of(operation: Operation) -> Operation {
    let about =
        "The key: 1 to 1024 bytes of UTF-8, percent-encoded. Slashes may stand as they are.";
    operation.path("key", about, schema::key())
}

/// A write that takes conditions.
fn conditional(operation: Operation) -> Operation {
    operation
        .writes()
        .reads_header(
            "If-Match",
            "The key must exist (`*`) or have this tag.",
            condition_tag(),
        )
        .reads_header(
            "If-None-Match",
            "The key must not exist.",
            schema::one_of(&["*"]),
        )
        .fails(&[Code::PreconditionFailed])
}

fn condition_tag() -> Object {
    schema::pattern(r#"^([*]|"(0|[1-9][0-9]{0,18})[.](0|[1-9][0-9]{0,8})")$"#)
}
