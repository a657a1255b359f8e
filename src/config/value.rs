//! Values of settings as text with their units, both ways: what [`Kind::read`] takes, [`Value`] prints.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use super::Layout;

/// What a setting holds, and between which bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A time, such as `500ms`.
    Duration(Duration, Duration),
    /// A size, such as `64MiB`.
    Bytes(u64, u64),
    /// A number of something.
    Count(&'static str, u64, u64),
    /// `true` or `false`.
    Switch,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// `host:port` to listen on.
    Address,
    /// A path.
    Path,
    /// Any other text, with what it stands for.
    Text(&'static str),
}

/// A value that is of its kind and within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// See [`Kind::Duration`].
    Duration(Duration),
    /// See [`Kind::Bytes`].
    Bytes(u64),
    /// See [`Kind::Count`].
    Count(u64),
    /// See [`Kind::Switch`].
    Switch(bool),
    /// See [`Kind::Address`].
    Address(SocketAddr),
    /// See [`Kind::Choice`], [`Kind::Path`] and [`Kind::Text`].
    Text(String),
}

/// Units of time, largest first, in milliseconds.
const TIMES: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Units of size, largest first, in bytes.
const SIZES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Kind {
    /// Reads what a person wrote.
    ///
    /// # Errors
    /// What is wrong with it, to stand after the name of the setting and a colon.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        let value = match self {
            Kind::Duration(..) => crate::http::parse_duration(text)
                .map(Value::Duration)
                .ok_or_else(|| {
                    format!("{text:?} is not a time with its unit, such as 500ms, 5s, 2m or 1h")
                })?,
            Kind::Bytes(..) => size(text).map(Value::Bytes).ok_or_else(|| {
                format!("{text:?} is not a size with its unit, such as 512B, 64KiB, 8MiB or 1GiB")
            })?,
            Kind::Count(what, ..) => whole(text)
                .map(Value::Count)
                .ok_or_else(|| format!("{text:?} is not a whole number of {what}"))?,
            Kind::Switch => match text {
                "true" => Value::Switch(true),
                "false" => Value::Switch(false),
                _ => return Err(format!("{text:?} is neither true nor false")),
            },
            Kind::Choice(words) if words.contains(&text) => Value::Text(text.to_owned()),
            Kind::Choice(words) => {
                return Err(format!("{text:?} is none of {}", words.join(", ")));
            }
            Kind::Address => Value::Address(address(text)?),
            Kind::Path | Kind::Text(_) if text.is_empty() => return Err("is empty".to_owned()),
            Kind::Path | Kind::Text(_) => Value::Text(text.to_owned()),
        };
        let in_bounds = match (self, &value) {
            (Kind::Duration(min, max), Value::Duration(value)) => (min..=max).contains(&value),
            (Kind::Bytes(min, max) | Kind::Count(_, min, max), value) => {
                value.number().is_some_and(|n| (*min..=*max).contains(&n))
            }
            _ => true,
        };
        match self.bounds() {
            Some(bounds) if !in_bounds => Err(format!("{value} is not {bounds}")),
            _ => Ok(value),
        }
    }

    /// The bounds in words, if there are any.
    pub fn bounds(&self) -> Option<String> {
        let (min, max) = match *self {
            Kind::Duration(min, max) => (Value::Duration(min), Value::Duration(max)),
            Kind::Bytes(min, max) => (Value::Bytes(min), Value::Bytes(max)),
            Kind::Count(_, min, u64::MAX) => return Some(format!("{min} or more")),
            Kind::Count(_, min, max) => (Value::Count(min), Value::Count(max)),
            Kind::Switch | Kind::Choice(_) | Kind::Address | Kind::Path | Kind::Text(_) => {
                return None;
            }
        };
        Some(format!("from {min} to {max}"))
    }

    /// What stands for the value in a usage line.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Kind::Duration(..) => "TIME",
            Kind::Bytes(..) => "SIZE",
            Kind::Count(..) => "N",
            Kind::Switch => "BOOL",
            Kind::Choice(_) => "WORD",
            Kind::Address => "HOST:PORT",
            Kind::Path => "DIR",
            Kind::Text(what) => what,
        }
    }

    /// What is counted, where the value itself does not say.
    pub fn unit(&self) -> &'static str {
        match self {
            Kind::Count(what, ..) => what,
            _ => "",
        }
    }
}

impl Value {
    fn number(&self) -> Option<u64> {
        match self {
            Value::Bytes(number) | Value::Count(number) => Some(*number),
            Value::Duration(_) | Value::Switch(_) | Value::Address(_) | Value::Text(_) => None,
        }
    }

    /// As TOML.
    pub fn toml(&self) -> String {
        match self {
            Value::Count(_) | Value::Switch(_) => self.to_string(),
            Value::Duration(_) | Value::Bytes(_) | Value::Address(_) => format!("\"{self}\""),
            Value::Text(text) => format!("{text:?}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Duration(time) => {
                let millis = time.as_millis();
                let divides = |(_, unit): &&(&str, u128)| millis != 0 && millis % unit == 0;
                let (name, unit) = TIMES.iter().find(divides).unwrap_or(&("ms", 1));
                write!(f, "{}{name}", millis / unit)
            }
            Value::Bytes(bytes) => {
                let divides = |(_, unit): &&(&str, u64)| *bytes != 0 && bytes % unit == 0;
                let (name, unit) = SIZES.iter().find(divides).unwrap_or(&("B", 1));
                write!(f, "{}{name}", bytes / unit)
            }
            Value::Count(count) => count.fmt(f),
            Value::Switch(on) => on.fmt(f),
            Value::Address(address) => address.fmt(f),
            Value::Text(text) => f.write_str(text),
        }
    }
}

fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    whole(number)?.checked_mul(*factor)
}

/// An address, by number or by name.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{text:?} is no address to listen on: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

/// A field of [`super::Config`] that a setting can read and write.
pub(super) trait Field {
    /// Its value; `None` if it is not set.
    fn get(&self, kind: &Kind) -> Option<Value>;
    /// Takes a value of its kind.
    fn set(&mut self, value: Value);
}

macro_rules! field {
    ($type:ty, $get:expr, $($pattern:pat => $set:expr),+) => {
        impl Field for $type {
            fn get(&self, kind: &Kind) -> Option<Value> {
                let get: fn(&$type, &Kind) -> Option<Value> = $get;
                get(self, kind)
            }
            fn set(&mut self, value: Value) {
                match value {
                    $($pattern => *self = $set,)+
                    other => unreachable!("the table gives a setting the kind of its field: {other:?}"),
                }
            }
        }
    };
}

fn number(number: u64, kind: &Kind) -> Value {
    match kind {
        Kind::Bytes(..) => Value::Bytes(number),
        _ => Value::Count(number),
    }
}

field!(Duration, |d, _| Some(Value::Duration(*d)), Value::Duration(d) => d);
field!(u64, |n, kind| Some(number(*n, kind)), Value::Bytes(n) | Value::Count(n) => n);
field!(
    usize,
    |n, kind| Some(number(u64::try_from(*n).unwrap_or(u64::MAX), kind)),
    Value::Bytes(n) | Value::Count(n) => usize::try_from(n).expect("a bound keeps it small enough")
);
field!(bool, |on, _| Some(Value::Switch(*on)), Value::Switch(on) => on);
field!(SocketAddr, |a, _| Some(Value::Address(*a)), Value::Address(a) => a);
field!(
    PathBuf,
    |path, _| (!path.as_os_str().is_empty()).then(|| Value::Text(path.display().to_string())),
    Value::Text(text) => PathBuf::from(text)
);
field!(Option<String>, |text, _| text.clone().map(Value::Text), Value::Text(text) => Some(text));
field!(
    Layout,
    |layout, _| Some(Value::Text(layout.name().to_owned())),
    Value::Text(text) => Layout::ALL.into_iter().find(|l| l.name() == text).expect("one of its words")
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back() {
        let (time, bytes) = (
            Kind::Duration(Duration::ZERO, Duration::MAX),
            Kind::Bytes(0, u64::MAX),
        );
        for text in ["0ms", "1ms", "1500ms", "2s", "90s", "2m", "3h"] {
            assert_eq!(time.read(text).unwrap().to_string(), text);
        }
        for text in ["0B", "1023B", "1KiB", "1025B", "64MiB", "3GiB", "1TiB"] {
            assert_eq!(bytes.read(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_unit_is_never_guessed() {
        let time = Kind::Duration(Duration::ZERO, Duration::MAX);
        for text in ["5", "5 s", "-5s", "5sec", "", "s", "1.5s"] {
            assert!(time.read(text).unwrap_err().contains("unit"), "{text}");
        }
        let bytes = Kind::Bytes(0, u64::MAX);
        for text in ["5", "5MB", "5k", "-1B", "", "B", "99999999999TiB"] {
            assert!(bytes.read(text).unwrap_err().contains("unit"), "{text}");
        }
    }

    #[test]
    fn a_value_out_of_bounds_is_told_the_bounds() {
        let kind = Kind::Bytes(4 << 10, 1 << 20);
        assert!(kind.read("4KiB").is_ok() && kind.read("1MiB").is_ok());
        for text in ["4095B", "1048577B"] {
            let refused = kind.read(text).unwrap_err();
            assert!(refused.ends_with("is not from 4KiB to 1MiB"), "{refused}");
        }
        let kind = Kind::Count("things", 1, u64::MAX);
        assert_eq!(kind.read("0").unwrap_err(), "0 is not 1 or more");
        assert!(kind.read("+1").is_err());
    }

    #[test]
    fn an_address_may_be_a_name() {
        let number = "127.0.0.1:7001".parse().unwrap();
        assert_eq!(
            Kind::Address.read("127.0.0.1:7001"),
            Ok(Value::Address(number))
        );
        assert!(Kind::Address.read("localhost:7001").is_ok());
        assert!(Kind::Address.read("127.0.0.1").is_err());
    }
}
