//! The page of each code of a problem: what it means, what causes it, what to do. A problem's `type` leads here.

mod advice;

use axum::extract::State;

use super::Shared;
use super::accept::TEXT;
use super::answer::Answer;
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::{ApiError, Code, Outcome};
use super::routes::Routes;

const ERRORS: &str = "/errors/";

pub(super) fn routes() -> Routes {
    let list_about = Operation::new(
        "listErrors",
        "node",
        "The codes of problems",
        "Each with its status and what it means.",
    );
    let show_about = Operation::new(
        "getError",
        "node",
        "What a code of a problem means",
        "What causes it, and what to do. The `type` of a problem leads here.",
    );
    let page = |operation: Operation, about| {
        let operation = operation.makes(&[TEXT]);
        operation.answers_in(200, about, &[(TEXT, schema::text())])
    };
    Routes::new()
        .get("/errors", list, page(list_about, "One line for each code."))
        .get(
            "/errors/{code}",
            show,
            page(show_about, "The page of the code.")
                .path("code", "The code.", schema::pattern("^[a-z_]+$"))
                .fails(&[Code::NotFound]),
        )
}

async fn list(_: State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    let mut lines: Vec<String> = Code::ALL
        .iter()
        .map(|code| {
            format!(
                "{}  {}  {}\n",
                code.name(),
                code.status().as_u16(),
                code.title()
            )
        })
        .collect();
    lines.sort();
    Ok(text(lines.concat()))
}

async fn show(_: State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let name = call.path_tail(ERRORS)?.into_owned();
    call.params(&[]).problems.finish()?;
    let page = page(&name).ok_or_else(|| {
        let detail = format!("no problem has the code {name:?}; /errors lists them");
        ApiError::new(Code::NotFound, detail)
    })?;
    Ok(text(page))
}

fn text(body: String) -> Answer {
    Answer::bytes("text/plain; charset=utf-8", body.into())
}

/// The page of the code called `name`. A name may have more than one status: what is not there in a path is 404, what a body
/// names and is not there is 422.
fn page(name: &str) -> Option<String> {
    let codes = Code::ALL.iter().filter(|code| code.name() == name);
    let parts: Vec<String> = codes.map(|code| part(*code)).collect();
    (!parts.is_empty()).then(|| format!("{name}\n\n{}", parts.join("\n")))
}

fn part(code: Code) -> String {
    let (cause, remedy) = advice::of(code);
    let outcome = match code.outcome() {
        Outcome::NotApplied => "not_applied: the change was not made and will not be",
        Outcome::Unknown => {
            "unknown: the change may have been made, or may still be (a read changes nothing)"
        }
    };
    let retry = match code.retryable() {
        true => "sending the same request again may help",
        false => "sending the same request again gives the same answer",
    };
    format!(
        "Status   {}\nMeaning  {}.\nOutcome  {outcome}.\nRetry    {retry}.\nCause    {cause}\nWhat to do  {remedy}\n",
        code.status().as_u16(),
        code.title(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_says_what_to_do() {
        for code in Code::ALL {
            let page = page(code.name()).unwrap();
            assert!(page.contains(code.title()), "{page}");
            assert!(page.contains(code.status().as_str()), "{page}");
            let (cause, remedy) = advice::of(*code);
            for sentence in [cause, remedy] {
                assert!(
                    sentence.len() > 20 && sentence.ends_with('.'),
                    "{code:?}: {sentence}"
                );
            }
        }
        assert_eq!(
            page("ledger_not_found").unwrap().matches("Status").count(),
            2
        );
        assert_eq!(page("no_such_code"), None);
    }
}
