//! JSON bodies: read once, borrowing their texts, with everything that is wrong reported by pointer.
//!
//! A body becomes a [`Value`] that borrows from it; [`Fields`] then takes the fields of an object out one by one, noting a
//! problem where a field is missing or of the wrong kind, and at the end one for each field that was left over. A batch is read
//! object by object through one scratch list, so thousands of transfers cost no allocation each.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::{ApiError, Code};
use super::fields::Fields;
use super::problems::{Place, Problems};

/// Name and value of the fields of an object, in the order they came.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A JSON value that borrows from the body.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer from 0 to 2^64 - 1, written without sign, fraction or exponent.
    Uint(u64),
    /// Any other number.
    Number,
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Value<'a>>),
    /// An object.
    Object(Pairs<'a>),
}

impl Value<'_> {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Uint(_) => "an integer",
            Value::Number => "a number that is not a plain integer",
            Value::Text(_) => "a string",
            Value::List(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Uint(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(ValueSeed)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value<'de>, A::Error> {
        let mut pairs = Vec::new();
        read_pairs(map, &mut pairs)?;
        Ok(Value::Object(pairs))
    }
}

fn read_pairs<'de, A: MapAccess<'de>>(mut map: A, into: &mut Pairs<'de>) -> Result<(), A::Error> {
    while let Some(name) = map.next_key_seed(ValueSeed)? {
        let Value::Text(name) = name else {
            return Err(A::Error::custom("a name is a string"));
        };
        into.push((name, map.next_value_seed(ValueSeed)?));
    }
    Ok(())
}

/// Reads an object whose field `list` is an array of objects, handing those to `each` one at a time with their place in the
/// array and without keeping them. Fields other than `list` come back.
pub(super) fn read_list<'a>(
    body: &'a [u8],
    list: &'static str,
    each: impl FnMut(usize, Element<'_, 'a>),
) -> Result<Listed<'a>, ApiError> {
    let mut listed = Listed {
        others: Vec::new(),
        lists: 0,
        wrong: None,
        count: 0,
    };
    let seed = ListSeed {
        list,
        each,
        listed: &mut listed,
    };
    parse(body, seed)?;
    Ok(listed)
}

/// One element of a list: its fields, which the receiver empties, or what it is instead of an object.
pub(super) type Element<'v, 'a> = Result<&'v mut Pairs<'a>, &'static str>;

/// What [`read_list`] found beside the elements.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    /// The other fields.
    pub(super) others: Pairs<'a>,
    /// How often the list was given: once, or something is wrong.
    pub(super) lists: usize,
    /// What stands in its place, if that is not an array.
    pub(super) wrong: Option<&'static str>,
    /// Elements seen.
    pub(super) count: usize,
}

struct ListSeed<'v, 'a, F> {
    list: &'static str,
    each: F,
    listed: &'v mut Listed<'a>,
}

impl<'de, F: FnMut(usize, Element<'_, 'de>)> DeserializeSeed<'de> for ListSeed<'_, 'de, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(usize, Element<'_, 'de>)> Visitor<'de> for ListSeed<'_, 'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the array {:?}", self.list)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(ValueSeed)? {
            let Value::Text(name) = name else {
                return Err(A::Error::custom("a name is a string"));
            };
            if name == self.list {
                self.listed.lists += 1;
                let (listed, each) = (&mut *self.listed, &mut self.each);
                map.next_value_seed(Elements { listed, each })?;
            } else {
                self.listed
                    .others
                    .push((name, map.next_value_seed(ValueSeed)?));
            }
        }
        Ok(())
    }
}

struct Elements<'v, 'a, F> {
    listed: &'v mut Listed<'a>,
    each: &'v mut F,
}

impl<'de, F: FnMut(usize, Element<'_, 'de>)> DeserializeSeed<'de> for Elements<'_, 'de, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Forwards every kind but one to [`ValueSeed`], for visitors that only want that one.
macro_rules! otherwise_wrong {
    ($($method:ident($kind:ty))+) => {
        $(fn $method<E: serde::de::Error>(self, value: $kind) -> Result<Self::Value, E> {
            let kind = ValueSeed.$method::<E>(value)?.kind();
            Ok(self.wrong(kind))
        })+
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(self.wrong("null"))
        }
    };
}

impl<F> Elements<'_, '_, F> {
    fn wrong(self, kind: &'static str) {
        self.listed.wrong = Some(kind);
    }
}

impl<'de, F: FnMut(usize, Element<'_, 'de>)> Visitor<'de> for Elements<'_, 'de, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut scratch = Pairs::with_capacity(8);
        while let Some(wrong) = items.next_element_seed(ObjectInto(&mut scratch))? {
            let place = self.listed.count;
            self.listed.count += 1;
            match wrong {
                None => (self.each)(place, Ok(&mut scratch)),
                Some(kind) => (self.each)(place, Err(kind)),
            }
            scratch.clear();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        read_pairs(map, &mut Vec::new())?;
        self.wrong("an object");
        Ok(())
    }

    otherwise_wrong!(visit_bool(bool) visit_u64(u64) visit_i64(i64) visit_f64(f64) visit_str(&str));
}

/// Reads an object into a list that is used again; anything else is named.
struct ObjectInto<'v, 'a>(&'v mut Pairs<'a>);

impl ObjectInto<'_, '_> {
    fn wrong(self, kind: &'static str) -> Option<&'static str> {
        Some(kind)
    }
}

impl<'de> DeserializeSeed<'de> for ObjectInto<'_, 'de> {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectInto<'_, 'de> {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        read_pairs(map, self.0)?;
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        ValueSeed.visit_seq(items)?;
        Ok(self.wrong("an array"))
    }

    otherwise_wrong!(visit_bool(bool) visit_u64(u64) visit_i64(i64) visit_f64(f64) visit_str(&str));
}

fn parse<'a, S: DeserializeSeed<'a>>(body: &'a [u8], seed: S) -> Result<S::Value, ApiError> {
    let malformed = |detail: String| ApiError::new(Code::MalformedJson, detail);
    // Checked once for the whole body, so that the reader need not check every string.
    let text = std::str::from_utf8(body)
        .map_err(|error| malformed(format!("not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed
        .deserialize(&mut deserializer)
        .map_err(|error| match error.is_data() {
            true => ApiError::new(Code::InvalidValue, format!("the body has an {error}")),
            false => malformed(error.to_string()),
        })?;
    deserializer
        .end()
        .map_err(|error| malformed(error.to_string()))?;
    Ok(value)
}

/// Reads a body that must be one object, takes it apart with `read`, and gives what that made unless anything was wrong.
pub(super) fn read_object<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut Fields<'_, 'a>) -> T,
) -> Result<T, ApiError> {
    let mut pairs = match parse(body, ValueSeed)? {
        Value::Object(pairs) => pairs,
        other => {
            let mut problems = Problems::default();
            let detail = format!("the body must be an object, not {}", other.kind());
            problems.add(Place::Pointer(String::new()), Code::InvalidValue, detail);
            problems.finish()?;
            unreachable!("a problem was added above")
        }
    };
    let mut problems = Problems::default();
    let made = read(&mut Fields::new("", None, &mut pairs, &mut problems));
    problems.finish()?;
    Ok(made)
}
