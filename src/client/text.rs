//! Numbers that travel as JSON strings, because JSON readers lose integers beyond 2^53.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Reads a number from its text.
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("has {text:?} where a number belongs")))
}

/// Writes a number as its text.
pub(super) fn serialize<T: Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The same for numbers that may be missing or `null`.
pub(super) mod option {
    use super::{Deserialize, Deserializer, FromStr};
    use serde::de::Error as _;

    /// Reads a number from its text, if there is one.
    pub(in crate::client) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr,
        D: Deserializer<'de>,
    {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let wrong = || D::Error::custom(format!("has {text:?} where a number belongs"));
        text.parse().map(Some).map_err(|_| wrong())
    }
}
