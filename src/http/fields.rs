//! The fields of a JSON object, taken out one by one; what is wrong with them is noted, not returned.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::error::Code;
use super::json::{Pairs, Value};
use super::problems::{Place, Problems};
use crate::machine::command::METADATA_LEN_MAX;
use crate::machine::id;

/// Largest integer that every JSON reader keeps exact.
const EXACT_MAX: u64 = (1 << 53) - 1;
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

    /// A string that must be there and be `good`; `wanted` says what that is.
    pub(super) fn text(
        &mut self,
        name: &str,
        wanted: &str,
        good: impl Fn(&str) -> bool,
    ) -> Cow<'a, str> {
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
            "an id such as [A-Za-z0-9][A-Za-z0-9:_.@-]{0,127}",
            id::is_valid,
        )
    }

    /// Minor units: a string of digits, or an integer that JSON keeps exact. Whether zero will do is the ledger's decision.
    pub(super) fn amount(&mut self, name: &str) -> u128 {
        const WANTED: &str = "a string of digits up to 2^128 - 1, or an integer up to 2^53 - 1";
        match self.take_needed(name) {
            Some(Value::Uint(value)) if value <= EXACT_MAX => u128::from(value),
            Some(Value::Text(text))
                if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) =>
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
    pub(super) fn integer(&mut self, name: &str, max: u64) -> u64 {
        match self.take_needed(name) {
            Some(value) => self.checked_integer(name, max, &value),
            None => 0,
        }
    }

    /// An integer from 0 to 2^32 - 1, 0 if absent.
    pub(super) fn code(&mut self, name: &str) -> u32 {
        let value = match self.take(name) {
            Some(value) => self.checked_integer(name, u64::from(u32::MAX), &value),
            None => 0,
        };
        u32::try_from(value).expect("bounded above")
    }

    fn checked_integer(&mut self, name: &str, max: u64, value: &Value<'_>) -> u64 {
        match value {
            Value::Uint(value) if *value <= max => *value,
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

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
