//! The fields of a JSON object, taken out one by one; what is wrong with them is noted, not returned.
//!
//! The same readers describe the body: run by [`describe`], they note on a [`Sheet`] which fields they would take.

use std::borrow::Cow;
use std::collections::BTreeMap;

use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, Type,
};

use super::doc::schema;
use super::error::Code;
use super::json::{Pairs, Value};
use super::problems::{Place, Problems};
use crate::machine::command::METADATA_LEN_MAX;
use crate::machine::id;

/// Largest integer that every JSON reader keeps exact.
const EXACT_MAX: u64 = (1 << 53) - 1;
/// Digits of 2^128 - 1.
const AMOUNT_LEN_MAX: usize = 39;
/// Characters of a bad text that are shown to the caller.
const SHOWN_MAX: usize = 160;
/// Most pairs of metadata.
pub(super) const METADATA_PAIRS_MAX: usize = 32;
/// Longest key of metadata, in bytes.
pub(super) const METADATA_KEY_LEN_MAX: usize = 64;
/// Longest value of metadata, in bytes.
pub(super) const METADATA_VALUE_LEN_MAX: usize = 512;

/// The fields of one object, taken out one by one.
pub(super) struct Fields<'v, 'a> {
    base: &'v str,
    place: Option<usize>,
    pairs: &'v mut Pairs<'a>,
    problems: &'v mut Problems,
    sheet: Option<&'v mut Sheet>,
}

/// What an object may hold, in the order its reader asks: names, whether they are needed, what their values may be.
#[derive(Default)]
struct Sheet(Vec<(String, bool, Schema)>);

/// The schema of the object that `read` reads.
pub(super) fn describe<'a, T>(read: impl FnOnce(&mut Fields<'_, 'a>) -> T) -> Object {
    let (mut pairs, mut problems, mut sheet) =
        (Pairs::new(), Problems::default(), Sheet::default());
    let mut fields = Fields::new("", None, &mut pairs, &mut problems);
    fields.sheet = Some(&mut sheet);
    read(&mut fields);
    let mut object =
        ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for (name, needed, schema) in sheet.0 {
        if needed {
            object = object.required(&name);
        }
        object = object.property(name, schema);
    }
    object.build()
}

impl<'v, 'a> Fields<'v, 'a> {
    /// The fields `pairs` of the object at pointer `base`, or at its element `place`.
    pub(super) fn new(
        base: &'v str,
        place: Option<usize>,
        pairs: &'v mut Pairs<'a>,
        problems: &'v mut Problems,
    ) -> Fields<'v, 'a> {
        Fields {
            base,
            place,
            pairs,
            problems,
            sheet: None,
        }
    }

    /// Notes a field on the sheet, if this run is to describe the object.
    fn note(&mut self, name: &str, needed: bool, schema: impl FnOnce() -> Schema) {
        if let Some(sheet) = &mut self.sheet {
            sheet.0.push((name.to_owned(), needed, schema()));
        }
    }

    fn pointer(&self, name: &str) -> Place {
        let name = name.replace('~', "~0").replace('/', "~1");
        Place::Pointer(match self.place {
            Some(place) => format!("{}/{place}/{name}", self.base),
            None => format!("{}/{name}", self.base),
        })
    }

    /// Notes that field `name` is wrong.
    pub(super) fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        let place = self.pointer(name);
        self.problems.add(place, Code::InvalidValue, detail);
    }

    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.remove(at).1)
    }

    fn take_needed(&mut self, name: &str) -> Option<Value<'a>> {
        let value = self.take(name);
        if value.is_none() {
            let place = self.pointer(name);
            self.problems
                .add(place, Code::MissingField, format!("{name:?} is missing"));
        }
        value
    }

    fn mismatch(&mut self, name: &str, wanted: &str, value: &Value<'_>) {
        self.wrong(
            name,
            format!("{name:?} must be {wanted}, not {}", value.kind()),
        );
    }

    /// A string that must be there and be `good`; `wanted` says what that is, `schema` as exactly as a schema can.
    pub(super) fn text(
        &mut self,
        name: &str,
        wanted: &str,
        schema: fn() -> Object,
        good: impl Fn(&str) -> bool,
    ) -> Cow<'a, str> {
        self.note(name, true, || schema().into());
        match self.take_needed(name) {
            Some(Value::Text(text)) => {
                if !good(&text) {
                    let shown: String = text.chars().take(SHOWN_MAX).collect();
                    self.wrong(name, format!("{name:?} must be {wanted}, not {shown:?}"));
                }
                text
            }
            Some(other) => {
                self.mismatch(name, wanted, &other);
                Cow::Borrowed("")
            }
            None => Cow::Borrowed(""),
        }
    }

    /// An id that must be there.
    pub(super) fn id(&mut self, name: &str) -> Cow<'a, str> {
        self.text(
            name,
            "an id: 1 to 128 letters, digits or : _ . @ -, the first a letter or digit",
            schema::id,
            id::is_valid,
        )
    }

    /// Minor units: a string of digits, or an integer that JSON keeps exact. Whether zero will do is the ledger's decision.
    pub(super) fn amount(&mut self, name: &str) -> u128 {
        const WANTED: &str = "a string of digits up to 2^128 - 1, or an integer up to 2^53 - 1";
        self.note(name, true, amount_schema);
        match self.take_needed(name) {
            Some(Value::Uint(value)) if value <= EXACT_MAX => u128::from(value),
            Some(Value::Text(text))
                if (1..=AMOUNT_LEN_MAX).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_digit()) =>
            {
                text.parse().unwrap_or_else(|_| {
                    self.wrong(name, format!("{name:?} is above 2^128 - 1"));
                    0
                })
            }
            Some(Value::Uint(_)) => {
                self.wrong(
                    name,
                    format!("{name:?} is above 2^53 - 1: send it as a string"),
                );
                0
            }
            Some(Value::Text(_)) => {
                self.wrong(
                    name,
                    format!("{name:?} must be {WANTED}; no sign, fraction or exponent"),
                );
                0
            }
            Some(other) => {
                self.mismatch(name, WANTED, &other);
                0
            }
            None => 0,
        }
    }

    /// An integer from 0 to `max` that must be there.
    pub(super) fn integer(&mut self, name: &str, max: u32) -> u32 {
        self.note(name, true, || integer_schema(max));
        match self.take_needed(name) {
            Some(value) => self.checked_integer(name, max, &value),
            None => 0,
        }
    }

    /// A number of a node, nothing if absent.
    pub(super) fn node(&mut self, name: &str) -> Option<u64> {
        self.note(name, false, || integer_schema(u32::MAX));
        let value = self.take(name)?;
        Some(self.checked_integer(name, u32::MAX, &value).into())
    }

    /// An integer from 0 to 2^32 - 1, 0 if absent.
    pub(super) fn code(&mut self, name: &str) -> u32 {
        self.note(name, false, || integer_schema(u32::MAX));
        match self.take(name) {
            Some(value) => self.checked_integer(name, u32::MAX, &value),
            None => 0,
        }
    }

    fn checked_integer(&mut self, name: &str, max: u32, value: &Value<'_>) -> u32 {
        match value {
            Value::Uint(value) if *value <= u64::from(max) => {
                u32::try_from(*value).expect("bounded above")
            }
            Value::Uint(_) => {
                self.wrong(name, format!("{name:?} is above {max}"));
                0
            }
            other => {
                self.mismatch(name, &format!("an integer from 0 to {max}"), other);
                0
            }
        }
    }

    /// A boolean, false if absent.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.note(name, false, || schema::flag().into());
        match self.take(name) {
            None => false,
            Some(Value::Bool(value)) => value,
            Some(other) => {
                self.mismatch(name, "true or false", &other);
                false
            }
        }
    }

    /// An object, taken apart with `read`; nothing if absent.
    pub(super) fn object<T: Default>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Fields<'_, 'a>) -> T,
    ) -> T {
        if self.sheet.is_some() {
            let described = describe(read);
            self.note(name, false, || described.into());
            return T::default();
        }
        match self.take(name) {
            None => T::default(),
            Some(Value::Object(mut pairs)) => {
                let Place::Pointer(base) = self.pointer(name) else {
                    unreachable!("a field's place is a pointer")
                };
                read(&mut Fields::new(&base, None, &mut pairs, self.problems))
            }
            Some(other) => {
                self.mismatch(name, "an object", &other);
                T::default()
            }
        }
    }

    /// A list of objects that must be there, each taken apart with `read`.
    pub(super) fn objects<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(&mut Fields<'_, 'a>) -> T,
    ) -> Vec<T> {
        if self.sheet.is_some() {
            let list = ArrayBuilder::new().items(describe(read));
            self.note(name, true, || list.build().into());
            return Vec::new();
        }
        let items = match self.take_needed(name) {
            None => return Vec::new(),
            Some(Value::List(items)) => items,
            Some(other) => {
                self.mismatch(name, "an array", &other);
                return Vec::new();
            }
        };
        let base = format!("{}/{name}", self.base);
        let mut made = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            match item {
                Value::Object(mut pairs) => {
                    made.push(read(&mut Fields::new(
                        &base,
                        Some(place),
                        &mut pairs,
                        self.problems,
                    )));
                }
                other => {
                    let detail = format!("must be an object, not {}", other.kind());
                    let place = Place::Pointer(format!("{base}/{place}"));
                    self.problems.add(place, Code::InvalidValue, detail);
                }
            }
        }
        made
    }

    /// Metadata: an object of strings, made canonical (sorted, no spaces); empty if absent or without pairs.
    pub(super) fn metadata(&mut self, name: &str) -> Cow<'a, str> {
        self.note(name, false, metadata_schema);
        let pairs = match self.take(name) {
            None => return Cow::Borrowed(""),
            Some(Value::Object(pairs)) => pairs,
            Some(other) => {
                self.mismatch(name, "an object of strings", &other);
                return Cow::Borrowed("");
            }
        };
        if pairs.is_empty() {
            return Cow::Borrowed("");
        }
        if pairs.len() > METADATA_PAIRS_MAX {
            let have = pairs.len();
            self.wrong(
                name,
                format!("{name:?} has {have} pairs, {METADATA_PAIRS_MAX} are allowed"),
            );
        }
        let mut sorted = BTreeMap::new();
        for (key, value) in pairs {
            self.check_pair(name, &key, &value);
            if let Value::Text(text) = value
                && sorted.insert(key.clone(), text).is_some()
            {
                self.wrong(name, format!("{name:?} has the key {key:?} twice"));
            }
        }
        let text = serde_json::to_string(&sorted).expect("a map of strings is JSON");
        if text.len() > METADATA_LEN_MAX {
            self.wrong(
                name,
                format!("{name:?} is longer than {METADATA_LEN_MAX} bytes as JSON"),
            );
        }
        Cow::Owned(text)
    }

    fn check_pair(&mut self, name: &str, key: &str, value: &Value<'_>) {
        if key.is_empty() || key.len() > METADATA_KEY_LEN_MAX {
            let have = key.len();
            self.wrong(
                name,
                format!("a key has 1 to {METADATA_KEY_LEN_MAX} bytes, one has {have}"),
            );
        }
        match value {
            Value::Text(text) if text.len() <= METADATA_VALUE_LEN_MAX => {}
            Value::Text(text) => {
                let have = text.len();
                let max = METADATA_VALUE_LEN_MAX;
                self.wrong(
                    name,
                    format!("the value of {key:?} has {have} bytes, {max} are allowed"),
                );
            }
            other => {
                let kind = other.kind();
                self.wrong(
                    name,
                    format!("the value of {key:?} must be a string, not {kind}"),
                );
            }
        }
    }

    /// Ends the object: what was not taken out is unknown, or there twice.
    pub(super) fn done(&mut self, known: &[&str]) {
        for (name, _) in std::mem::take(self.pairs) {
            let place = self.pointer(&name);
            if known.contains(&name.as_ref()) {
                let detail = format!("{name:?} is given twice");
                self.problems.add(place, Code::DuplicateField, detail);
            } else {
                let detail = format!("no field {name:?}; there are {}", known.join(", "));
                self.problems.add(place, Code::UnknownField, detail);
            }
        }
    }
}

fn amount_schema() -> Schema {
    let exact = usize::try_from(EXACT_MAX).unwrap_or(usize::MAX);
    let either = OneOfBuilder::new()
        .item(schema::amount())
        .item(schema::integer(0, exact));
    Schema::OneOf(either.build())
}

fn integer_schema(max: u32) -> Schema {
    schema::integer(0, max as usize).into()
}

fn metadata_schema() -> Schema {
    let text = |min, max| {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.min_length(Some(min)).max_length(Some(max)).build()
    };
    ObjectBuilder::new()
        .property_names(Some(text(1, METADATA_KEY_LEN_MAX)))
        .additional_properties(Some(Schema::from(text(0, METADATA_VALUE_LEN_MAX))))
        .max_properties(Some(METADATA_PAIRS_MAX))
        .build()
        .into()
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
