//! Schemas of texts and numbers that occur all over the API.

use serde_json::Value;
use utoipa::Number;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Array, ArrayBuilder};

use crate::machine::command::{ASSET_LEN_MAX, KEY_LEN_MAX};

/// A text, described by a pattern that all of it matches.
pub(in crate::http) fn pattern(pattern: &str) -> Object {
    object(Type::String).pattern(Some(pattern)).build()
}

/// A text that is one of a few.
pub(in crate::http) fn one_of(values: &[&str]) -> Object {
    let values = values.iter().map(|value| Value::from(*value));
    object(Type::String).enum_values(Some(values)).build()
}

/// An id that a client chose.
pub(in crate::http) fn id() -> Object {
    object(Type::String)
        .pattern(Some("^[A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}$"))
        .max_length(Some(crate::machine::id::ID_LEN_MAX))
        .build()
}

/// The start of an id.
pub(in crate::http) fn id_prefix() -> Object {
    object(Type::String)
        .pattern(Some("^([A-Za-z0-9][A-Za-z0-9:_.@-]{0,127})?$"))
        .build()
}

/// A key of the key-value store. Its length is counted in bytes, which a schema cannot say: characters are fewer.
pub(in crate::http) fn key() -> Object {
    object(Type::String)
        .min_length(Some(1))
        .max_length(Some(KEY_LEN_MAX))
        .build()
}

/// An asset code.
pub(in crate::http) fn asset() -> Object {
    object(Type::String)
        .pattern(Some("^[A-Za-z0-9._-]+$"))
        .min_length(Some(1))
        .max_length(Some(ASSET_LEN_MAX))
        .build()
}

/// A number as a text, because JSON readers lose integers beyond 2^53.
pub(in crate::http) fn digits() -> Object {
    object(Type::String)
        .pattern(Some("^[0-9]+$"))
        .examples(["4211"])
        .build()
}

/// The same, or null.
pub(in crate::http) fn maybe_digits() -> Object {
    nullable(Type::String).pattern(Some("^[0-9]+$")).build()
}

/// An amount of minor units in a request: up to 2^128 - 1, which a pattern cannot say to the last digit.
pub(in crate::http) fn amount() -> Object {
    object(Type::String).pattern(Some("^[0-9]{1,39}$")).build()
}

/// Any text, or null.
pub(in crate::http) fn maybe_text(about: &str) -> Object {
    nullable(Type::String).description(Some(about)).build()
}

/// A 32-bit number without a sign.
pub(in crate::http) fn small() -> Object {
    integer(0, u32::MAX as usize)
}

/// A number as a text, with a sign if it is below zero.
pub(in crate::http) fn signed_digits() -> Object {
    pattern("^-?[0-9]+$")
}

/// An amount in major units, for people.
pub(in crate::http) fn display() -> Object {
    pattern("^-?[0-9]+([.][0-9]+)?$")
}

/// A time.
pub(in crate::http) fn time() -> Object {
    object(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-01-31T09:08:07.123456789Z"])
        .build()
}

/// A time in a request.
pub(in crate::http) fn moment() -> Object {
    object(Type::String)
        .pattern(Some(
            "^(19[7-9][0-9]|2[0-4][0-9]{2}|25[0-5][0-9])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])\
             (T([01][0-9]|2[0-3])(:[0-5][0-9]){2}([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))?$",
        ))
        .examples(["2026-01-31T09:08:07Z", "2026-01-31"])
        .build()
}

/// Where in the log a key was written: entry and command.
pub(in crate::http) fn mod_index() -> Object {
    object(Type::String)
        .pattern(Some("^[0-9]+[.][0-9]+$"))
        .examples(["40.0"])
        .build()
}

/// A deadline of a request.
pub(in crate::http) fn timeout() -> Object {
    object(Type::String)
        .pattern(Some("^([1-9][0-9]{0,3}ms|([1-9]|[1-5][0-9]|60)s|1m)$"))
        .examples(["5s", "500ms"])
        .build()
}

/// An integer between two bounds, both included.
pub(in crate::http) fn integer(min: usize, max: usize) -> Object {
    object(Type::Integer)
        .minimum(Some(Number::UInt(min)))
        .maximum(Some(Number::UInt(max)))
        .build()
}

/// Any bytes, up to so many.
pub(in crate::http) fn bytes(max: usize) -> Object {
    object(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
        .max_length(Some(max))
        .build()
}

/// Any text.
pub(in crate::http) fn text() -> Object {
    object(Type::String).build()
}

/// `true` or `false`.
pub(in crate::http) fn flag() -> Object {
    object(Type::Boolean).build()
}

/// An array.
pub(in crate::http) fn list(items: Object, min: usize, max: usize) -> Array {
    ArrayBuilder::new()
        .items(items)
        .min_items(Some(min))
        .max_items(Some(max))
        .build()
}

/// A schema of one type, to be completed.
pub(super) fn object(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

fn nullable(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([kind, Type::Null]))
}
