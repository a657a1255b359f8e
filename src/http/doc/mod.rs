//! The description of the API (OpenAPI 3.1), made of what the endpoints say of themselves: [`mod@super::routes`].
//!
//! Bodies of requests are described by running their readers over a sheet that notes which fields they ask for
//! ([`super::fields`]), bodies of answers by the types that are serialized. So neither can differ from what is served.

mod operation;
pub(super) mod schema;
mod shared;

pub(super) use operation::Operation;
use operation::Problems;

use std::sync::LazyLock;

use axum::extract::State;
use bytes::Bytes;
use utoipa::openapi::path::{HttpMethod, PathItem, PathsBuilder};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};

use super::Shared;
use super::accept::JSON;
use super::answer::Answer;
use super::call::Input;
use super::error::ApiError;
use super::routes::Routes;

/// The document as it is served: made once.
static TEXT: LazyLock<Bytes> = LazyLock::new(|| {
    let document = document(&super::routes());
    Bytes::from(document.to_pretty_json().expect("our own document is JSON"))
});

const ABOUT: &str = "A strongly consistent, replicated ledger and key-value store. Any node takes any request; what needs the \
leader is forwarded to it. Every answer says at which log index and level it was true, every problem whether the change was \
made. Amounts, indexes and terms are texts of digits, because JSON readers lose integers beyond 2^53. Unknown parameters and \
fields are refused. Every GET may be asked as HEAD, and OPTIONS of every path lists its methods.";

pub(super) fn routes() -> Routes {
    let operation = Operation::new(
        "getOpenapi",
        "node",
        "This document",
        "The description of the API that this node serves.",
    );
    let operation = operation.answers_in(200, "The document.", &[(JSON, anything())]);
    Routes::new().get("/openapi.json", show, operation)
}

async fn show(_: State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    Ok(Answer::bytes(JSON, TEXT.clone()))
}

fn anything() -> utoipa::openapi::Object {
    schema::object(utoipa::openapi::Type::Object).build()
}

/// The document of `routes`.
pub(super) fn document(routes: &Routes) -> OpenApi {
    let mut components = shared::components();
    let mut paths = PathsBuilder::new();
    let mut problems = Problems::default();
    for route in routes.listed() {
        let method = match route.method.as_str() {
            "GET" => HttpMethod::Get,
            "POST" => HttpMethod::Post,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            other => unreachable!("no endpoint is added with {other}"),
        };
        // The router's way to write a parameter that holds slashes.
        let path = route.path.replace("{*", "{");
        let operation = route.operation.build(&mut problems);
        paths = paths.path(&path, PathItem::new(method, operation));
        components
            .schemas
            .extend(route.operation.schemas().iter().cloned());
    }
    components.responses.extend(problems.build());
    let license = LicenseBuilder::new()
        .name("Apache-2.0")
        .identifier(Some("Apache-2.0"));
    let info = InfoBuilder::new()
        .title("Quorate")
        .version("v1")
        .description(Some(ABOUT))
        .license(Some(license.build()));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components))
        .build()
}

#[cfg(test)]
mod tests;
