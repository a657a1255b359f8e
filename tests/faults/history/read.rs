//! Reading and validating a history.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::event::{Event, Kind, NEMESIS};
use super::nemesis::{Happening, Moment, Window, windows};
use super::operation::{Answer, Operation, Outcome, Point};

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatError {
    /// File, or a description of the text.
    pub(crate) name: String,
    /// Line from 1, as editors count; 0 when the file could not be read at all.
    pub(crate) line: usize,
    /// The rule that it breaks.
    pub(crate) reason: String,
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.name, self.reason),
            line => write!(f, "{}:{line}: {}", self.name, self.reason),
        }
    }
}

impl std::error::Error for FormatError {}

/// A whole run as its clients saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Every line.
    pub(crate) events: Vec<Event>,
    /// Every operation of the clients, by invoke.
    pub(crate) operations: Vec<Operation>,
    /// Writes that had been answered and were sent once more, by invoke. They are no operations of their own.
    pub(crate) again: Vec<Operation>,
    /// Every line of the nemesis.
    pub(crate) moments: Vec<Moment>,
}

impl History {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// The first line that breaks a rule of the format.
    pub(crate) fn load(path: &Path) -> Result<History, FormatError> {
        let name = path.display().to_string();
        History::parse(&name, &read_text(path)?)
    }

    /// Reads and validates a text; `name` is for errors.
    ///
    /// # Errors
    /// The first line that breaks a rule of the format.
    pub(crate) fn parse(name: &str, text: &str) -> Result<History, FormatError> {
        let events: Vec<Event> = parse_lines(name, text)?;
        History::from_events(name, events)
    }

    /// Validates events that are already in memory.
    ///
    /// # Errors
    /// The first event that breaks a rule of the format.
    pub(crate) fn from_events(name: &str, events: Vec<Event>) -> Result<History, FormatError> {
        let mut reader = Reader::default();
        for (number, event) in events.iter().enumerate() {
            reader
                .take(number as u64, event)
                .map_err(|reason| FormatError {
                    name: name.to_owned(),
                    line: number + 1,
                    reason,
                })?;
        }
        Ok(History {
            events,
            operations: reader.operations,
            again: reader.again,
            moments: reader.moments,
        })
    }

    /// Faults from their install to their heal.
    pub(crate) fn windows(&self) -> Vec<Window> {
        windows(&self.moments, self.end_time())
    }

    /// When the last event happened, in nanoseconds.
    pub(crate) fn end_time(&self) -> u64 {
        self.events.last().map_or(0, |event| event.time)
    }

    /// The operations of each key, those without a key left out.
    pub(crate) fn by_key(&self) -> BTreeMap<&str, Vec<&Operation>> {
        let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            if let Some(key) = &operation.key {
                keys.entry(key).or_default().push(operation);
            }
        }
        keys
    }

    /// Where the final phase begins: after everything is healed, each key is written and read once more.
    pub(crate) fn final_phase(&self) -> Option<u64> {
        let is_final =
            |moment: &&Moment| matches!(&moment.what, Happening::Phase(name) if name == "final");
        self.moments
            .iter()
            .find(is_final)
            .map(|moment| moment.index)
    }
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, FormatError> {
    fs::read_to_string(path).map_err(|e| FormatError {
        name: path.display().to_string(),
        line: 0,
        reason: e.to_string(),
    })
}

/// One JSON value a line. A last line without its end is refused too: the file was cut.
pub(crate) fn parse_lines<T: for<'a> Deserialize<'a>>(
    name: &str,
    text: &str,
) -> Result<Vec<T>, FormatError> {
    let fault = |line: usize, reason: String| FormatError {
        name: name.to_owned(),
        line,
        reason,
    };
    let mut values = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let value = serde_json::from_str(line).map_err(|e| fault(number + 1, e.to_string()))?;
        values.push(value);
    }
    if text.is_empty() || text.ends_with('\n') {
        Ok(values)
    } else {
        Err(fault(
            values.len(),
            "the last line has no end: the file was cut".to_owned(),
        ))
    }
}

/// What must be remembered from line to line.
#[derive(Default)]
struct Reader {
    operations: Vec<Operation>,
    again: Vec<Operation>,
    moments: Vec<Moment>,
    last_time: u64,
    /// By process, its operation that has not ended, and whether that is one sent again.
    open: BTreeMap<i64, (bool, usize)>,
    /// Idempotency keys of writes that were answered.
    answered: BTreeSet<String>,
    /// Processes that ended in `info`.
    retired: BTreeSet<i64>,
}

impl Reader {
    fn take(&mut self, number: u64, event: &Event) -> Result<(), String> {
        if event.index != number {
            return Err(format!(
                "index is {}, the line is number {number} from 0",
                event.index
            ));
        }
        if event.time < self.last_time {
            return Err(format!(
                "time {} is before the line above, {}",
                event.time, self.last_time
            ));
        }
        self.last_time = event.time;
        match event.process {
            NEMESIS => {
                self.moments.push(Moment::parse(event)?);
                Ok(())
            }
            process if process < 0 => Err(format!(
                "process {process} is neither a client nor the nemesis"
            )),
            _ if event.kind == Kind::Invoke => self.begin(event),
            _ => self.end(event),
        }
    }

    fn begin(&mut self, event: &Event) -> Result<(), String> {
        let process = event.process;
        if self.retired.contains(&process) {
            return Err(format!("process {process} is used again after an info"));
        }
        if self.open.contains_key(&process) {
            return Err(format!(
                "process {process} begins an operation before its last one ended"
            ));
        }
        let operation = Operation::begun(event)?;
        let is_write = operation.call.is_write();
        if is_write && operation.id.is_none() {
            return Err(format!("a {} without op, its idempotency key", event.f));
        }
        if is_write == event.level.is_some() {
            return Err(format!(
                "a {} {} a level",
                event.f,
                if is_write { "has" } else { "lacks" }
            ));
        }
        let needs_key = ["write", "cas", "add"].contains(&event.f.as_str());
        if needs_key && operation.key.is_none() {
            return Err(format!("a {} without a key", event.f));
        }
        if event.again {
            let is_answered = |op: &String| self.answered.contains(op);
            if !operation.id.as_ref().is_some_and(is_answered) {
                return Err("what is sent again was not answered before".to_owned());
            }
        }
        let list = self.list(event.again);
        list.push(operation);
        let at = list.len() - 1;
        self.open.insert(process, (event.again, at));
        Ok(())
    }

    fn end(&mut self, event: &Event) -> Result<(), String> {
        let process = event.process;
        let open = self.open.remove(&process);
        let (again, at) = open
            .ok_or_else(|| format!("process {process} ends an operation that it did not begin"))?;
        if event.again != again {
            return Err(
                "an end that is sent again of a begin that is not, or the reverse".to_owned(),
            );
        }
        let operation = &mut self.list(again)[at];
        if event.f != operation.call.name() || event.key != operation.key {
            return Err(format!(
                "process {process} ends {}, but it began {}",
                event.f,
                operation.told()
            ));
        }
        if event.op.is_some() && event.op != operation.id {
            return Err("the op of the end is not that of the invoke".to_owned());
        }
        operation.ended = Some(Point {
            index: event.index,
            time: event.time,
        });
        operation.reached = event.level;
        operation.node = event.node.or(operation.node);
        operation.log_index = event.log_index;
        operation.applied = event.applied;
        operation.staleness = event.staleness;
        operation.outcome = match event.kind {
            Kind::Ok => Outcome::Ok(Answer::parse(&operation.call, &event.value, event.result)?),
            Kind::Fail => Outcome::Fail,
            Kind::Info | Kind::Invoke => Outcome::Info,
        };
        let answered = operation.answer().and(operation.id.clone());
        self.answered.extend(answered);
        if event.kind == Kind::Info {
            self.retired.insert(process);
        }
        Ok(())
    }

    fn list(&mut self, again: bool) -> &mut Vec<Operation> {
        match again {
            true => &mut self.again,
            false => &mut self.operations,
        }
    }
}
