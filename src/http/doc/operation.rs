//! What is said of one endpoint.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, Object, ObjectBuilder, Schema};
use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Responses, path,
};

use super::schema;
use super::shared::{self, header, parameter};
use crate::http::accept::JSON;
use crate::http::error::Code;

/// What is said of one endpoint: what it takes, what it answers, what can go wrong.
pub(in crate::http) struct Operation {
    head: path::Operation,
    made: &'static [&'static str],
    answers: BTreeMap<u16, Response>,
    headers: Vec<&'static str>,
    problems: Vec<Code>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl Operation {
    /// An endpoint that answers JSON. `id` names it for generators of clients, `tag` its group.
    pub(in crate::http) fn new(
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
        description: &'static str,
    ) -> Operation {
        Operation {
            head: OperationBuilder::new()
                .operation_id(Some(id))
                .tag(tag)
                .summary(Some(summary))
                .description(Some(description))
                .parameter_ref(parameter("RequestId"))
                .build(),
            made: &[JSON],
            answers: BTreeMap::new(),
            headers: Vec::new(),
            problems: shared::ALWAYS.to_vec(),
            schemas: Vec::new(),
        }
    }

    /// It reads replicated state: at a level, before a deadline.
    pub(in crate::http) fn reads(mut self) -> Operation {
        self.shares(&["Consistency", "ConsistencyHeader"]);
        self.headers.extend(shared::READ_HEADERS);
        self.problems.extend(shared::OF_READS);
        self.waits()
    }

    /// It changes replicated state: once, before a deadline.
    pub(in crate::http) fn writes(mut self) -> Operation {
        self.shares(&["IdempotencyKey"]);
        self.headers
            .extend(["Quorate-Index", "Idempotency-Replayed"]);
        self.problems.extend(shared::OF_WRITES);
        self.waits()
    }

    /// It has a deadline.
    pub(in crate::http) fn waits(mut self) -> Operation {
        self.shares(&["Timeout", "TimeoutHeader"]);
        self
    }

    /// It gives pages.
    pub(in crate::http) fn pages(mut self) -> Operation {
        self.shares(&["Limit", "Cursor"]);
        self.headers.push("Link");
        self.problems.push(Code::InvalidCursor);
        self
    }

    fn shares(&mut self, parameters: &[&str]) {
        for name in parameters {
            self.change(|head| head.parameter_ref(parameter(name)));
        }
    }

    fn change(&mut self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) {
        self.head = change(std::mem::take(&mut self.head).into()).build();
    }

    /// A parameter of its path.
    pub(in crate::http) fn path(self, name: &str, about: &str, schema: Object) -> Operation {
        self.parameter(ParameterIn::Path, name, about, schema)
    }

    /// A parameter of its query.
    pub(in crate::http) fn query(self, name: &str, about: &str, schema: Object) -> Operation {
        self.parameter(ParameterIn::Query, name, about, schema)
    }

    /// A parameter of its query that must be there.
    pub(in crate::http) fn needs(mut self, name: &str) -> Operation {
        let parameters = self.head.parameters.iter_mut().flatten();
        for parameter in parameters {
            if let RefOr::T(parameter) = parameter
                && parameter.name == name
            {
                parameter.required = Required::True;
            }
        }
        self
    }

    /// A header that it reads.
    pub(in crate::http) fn reads_header(
        self,
        name: &str,
        about: &str,
        schema: Object,
    ) -> Operation {
        self.parameter(ParameterIn::Header, name, about, schema)
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &str,
        about: &str,
        schema: Object,
    ) -> Operation {
        let required = match place {
            ParameterIn::Path => Required::True,
            _ => Required::False,
        };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(required)
            .description(Some(about))
            .schema(Some(schema));
        self.change(|head| head.parameter(parameter));
        self
    }

    /// A JSON body, with one that would do.
    pub(in crate::http) fn takes(mut self, body: Object, example: Value) -> Operation {
        let content = ContentBuilder::new()
            .schema(Some(body))
            .example(Some(example));
        self.problems.extend(shared::OF_JSON_BODIES);
        self.body(JSON, content)
    }

    /// A body of any bytes.
    pub(in crate::http) fn takes_bytes(self, media: &str, max: usize) -> Operation {
        let content = ContentBuilder::new().schema(Some(schema::bytes(max)));
        self.body(media, content)
    }

    fn body(mut self, media: &str, content: ContentBuilder) -> Operation {
        let body = RequestBodyBuilder::new()
            .content(media, content)
            .required(Some(Required::True));
        self.change(|head| head.request_body(Some(body.build())));
        self
    }

    /// The media types it answers in, the one of choice first.
    pub(in crate::http) fn makes(mut self, made: &'static [&'static str]) -> Operation {
        self.made = made;
        self
    }

    /// A success with a JSON body.
    pub(in crate::http) fn answers<T: ToSchema>(self, status: u16, about: &str) -> Operation {
        self.answers_also::<T>(status, about, &[])
    }

    /// A success with a JSON body, or one of `others`.
    pub(in crate::http) fn answers_also<T: ToSchema>(
        mut self,
        status: u16,
        about: &str,
        others: &[(&str, Object)],
    ) -> Operation {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name())));
        let answer = ResponseBuilder::new()
            .description(about)
            .content(JSON, body.build());
        self.answers
            .insert(status, with_others(answer, others).build());
        self
    }

    /// A success whose body is not JSON.
    pub(in crate::http) fn answers_in(
        mut self,
        status: u16,
        about: &str,
        bodies: &[(&str, Object)],
    ) -> Operation {
        let answer = ResponseBuilder::new().description(about);
        self.answers
            .insert(status, with_others(answer, bodies).build());
        self
    }

    /// Headers of its successes beyond those of every answer; see the table of them in [`shared`].
    pub(in crate::http) fn sends(mut self, headers: &[&'static str]) -> Operation {
        self.headers.extend(headers);
        self
    }

    /// What can go wrong beyond what can always go wrong.
    pub(in crate::http) fn fails(mut self, problems: &[Code]) -> Operation {
        self.problems.extend(problems);
        self
    }

    /// The media types it answers in.
    pub(in crate::http) fn made(&self) -> &'static [&'static str] {
        self.made
    }

    /// The problems it can answer with.
    #[cfg(test)]
    pub(in crate::http) fn problems(&self) -> &[Code] {
        &self.problems
    }

    /// The schemas that it refers to.
    pub(super) fn schemas(&self) -> &[(String, RefOr<Schema>)] {
        &self.schemas
    }

    /// As it stands in the document, which has its problems among `shared` answers.
    pub(super) fn build(&self, shared: &mut Problems) -> path::Operation {
        let mut responses = Responses::new();
        for (status, answer) in &self.answers {
            let mut answer = ResponseBuilder::from(answer.clone());
            for name in shared::ALL_HEADERS.iter().chain(&self.headers) {
                answer = answer.header_ref(*name, header(name));
            }
            let answer = answer.build().into();
            responses.responses.insert(status.to_string(), answer);
        }
        for (status, codes) in by_status(&self.problems) {
            let answer = shared.refer_to(status, codes).into();
            responses
                .responses
                .entry(status.to_string())
                .or_insert(answer);
        }
        OperationBuilder::from(self.head.clone())
            .responses(responses)
            .build()
    }
}

/// Answers that are problems: each list of codes is described once.
#[derive(Default)]
pub(super) struct Problems(Vec<(String, Vec<Code>)>);

impl Problems {
    /// Refers to the answer that is one of the problems `codes`, all of them with `status`.
    fn refer_to(&mut self, status: u16, codes: Vec<Code>) -> Ref {
        let known = self.0.iter().find(|(_, known)| *known == codes);
        let name = match known {
            Some((name, _)) => name.clone(),
            None => {
                let same = |(name, _): &&(String, Vec<Code>)| {
                    name.starts_with(&format!("Problem{status}"))
                };
                let name = format!("Problem{status}-{}", self.0.iter().filter(same).count() + 1);
                self.0.push((name.clone(), codes));
                name
            }
        };
        Ref::from_response_name(name)
    }

    /// The answers, by name.
    pub(super) fn build(&self) -> impl Iterator<Item = (String, RefOr<Response>)> {
        self.0
            .iter()
            .map(|(name, codes)| (name.clone(), problem(codes).into()))
    }
}

fn with_others(mut answer: ResponseBuilder, others: &[(&str, Object)]) -> ResponseBuilder {
    for (media, schema) in others {
        let content = ContentBuilder::new().schema(Some(schema.clone()));
        answer = answer.content(*media, content.build());
    }
    answer
}

/// The names of `problems` by status, each once, in order of first mention.
fn by_status(problems: &[Code]) -> BTreeMap<u16, Vec<Code>> {
    let mut found: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in problems {
        let codes = found.entry(code.status().as_u16()).or_default();
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    found
}

/// The answer that is one of the problems `codes`.
fn problem(codes: &[Code]) -> Response {
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let lines: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.name(), code.title()))
        .collect();
    let code = ObjectBuilder::new().property("code", schema::one_of(&names));
    let body = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(code);
    let content = ContentBuilder::new().schema(Some(Schema::AllOf(body.build())));
    let mut answer = ResponseBuilder::new()
        .description(lines.join("\n"))
        .content("application/problem+json", content.build());
    let waits = codes.iter().any(|code| code.retry_after().is_some());
    for name in shared::ALL_HEADERS {
        answer = answer.header_ref(*name, header(name));
    }
    // Refusals by the replicated state are dated, and may be given again.
    let refusal = codes
        .iter()
        .any(|code| matches!(code.status().as_u16(), 404 | 409 | 412 | 422));
    if refusal {
        for name in ["Quorate-Index", "Idempotency-Replayed"] {
            answer = answer.header_ref(name, header(name));
        }
    }
    if codes.contains(&Code::PreconditionFailed) {
        answer = answer.header_ref("ETag", header("ETag"));
    }
    if waits {
        answer = answer.header_ref("Retry-After", header("Retry-After"));
    }
    answer.build()
}
