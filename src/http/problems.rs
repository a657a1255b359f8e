//! Everything that is wrong with a request, collected instead of stopping at the first.

use serde_json::{Value, json};

use super::error::{ApiError, Code, Problem};

/// Most problems listed in one answer: a batch can have thousands, and the first ones tell enough.
pub(super) const LISTED_MAX: usize = 100;

/// Where in a request something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// JSON pointer into the body (RFC 6901).
    Pointer(String),
    /// Name of a query or path parameter.
    Parameter(String),
    /// Name of a header.
    Header(&'static str),
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    /// Where.
    pub(super) place: Place,
    /// What, for programs.
    pub(super) code: Code,
    /// What, for people.
    pub(super) detail: String,
    /// The values that would do, where they can be listed.
    pub(super) allowed: &'static [&'static str],
}

impl Invalid {
    /// As it stands in `errors`.
    pub(super) fn json(&self) -> Value {
        let (kind, name) = match &self.place {
            Place::Pointer(pointer) => ("pointer", pointer.as_str()),
            Place::Parameter(name) => ("parameter", name.as_str()),
            Place::Header(name) => ("header", *name),
        };
        let mut value = json!({ kind: name, "code": self.code.name(), "detail": self.detail });
        if !self.allowed.is_empty() {
            value["allowed"] = self.allowed.into();
        }
        value
    }
}

/// The list of them.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Invalid>,
    count: usize,
}

impl Problems {
    /// Adds one.
    pub(super) fn add(&mut self, place: Place, code: Code, detail: impl Into<String>) {
        self.add_allowed(place, code, detail, &[]);
    }

    /// Adds one whose good values can be listed.
    pub(super) fn add_allowed(
        &mut self,
        place: Place,
        code: Code,
        detail: impl Into<String>,
        allowed: &'static [&'static str],
    ) {
        self.count += 1;
        if self.found.len() < LISTED_MAX {
            let detail = detail.into();
            self.found.push(Invalid {
                place,
                code,
                detail,
                allowed,
            });
        }
    }

    /// Whether nothing is wrong so far.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The request may go on, or the problem that lists everything.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let Some(first) = self.found.first() else {
            return Ok(());
        };
        let detail = match self.count {
            1 => first.detail.clone(),
            count => format!("{} (the first of {count} problems)", first.detail),
        };
        let mut problem = Problem::new(first.code, detail);
        problem.errors = self.found;
        Err(problem.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_listed_and_counted() {
        let mut problems = Problems::default();
        problems.add(
            Place::Pointer("/a".into()),
            Code::UnknownField,
            "no field \"a\"",
        );
        problems.add(
            Place::Parameter("b".into()),
            Code::InvalidValue,
            "b is wrong",
        );
        let Err(ApiError::Problem(problem)) = problems.finish() else {
            panic!("no problem")
        };
        assert_eq!(problem.code, Code::UnknownField);
        assert_eq!(problem.errors.len(), 2);
        assert_eq!(problem.errors[1].json()["parameter"], "b");
        assert!(problem.detail.contains("2 problems"));
    }

    #[test]
    fn a_flood_of_problems_is_cut() {
        let mut problems = Problems::default();
        for _ in 0..1000 {
            problems.add(Place::Header("a"), Code::InvalidValue, "x");
        }
        let Err(ApiError::Problem(problem)) = problems.finish() else {
            panic!("no problem")
        };
        assert_eq!(problem.errors.len(), LISTED_MAX);
        assert!(problem.detail.contains("1000"));
    }
}
