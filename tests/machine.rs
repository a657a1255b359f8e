//! The deterministic core from outside: golden scripts, the order of refusals, codecs under any bytes, and a property test
//! against a model that was written without looking at the machine.

#[path = "machine/script.rs"]
mod script;

#[path = "machine/refusals.rs"]
mod refusals;

#[path = "machine/codec.rs"]
mod codec;

#[path = "machine/known.rs"]
mod known;
#[path = "machine/model.rs"]
mod model;

#[path = "machine/history.rs"]
mod history;

#[path = "machine/draw.rs"]
mod draw;

#[path = "machine/property.rs"]
mod property;
