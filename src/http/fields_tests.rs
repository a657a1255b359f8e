use super::super::error::ApiError;
use super::super::json::{read_list, read_object};
use super::*;

/// Pointer and code of every problem of `body`, read by `read`.
fn problems<'a, T>(body: &'a str, read: impl FnOnce(&mut Fields<'_, 'a>) -> T) -> Vec<String> {
    match read_object(body.as_bytes(), read) {
        Ok(_) => Vec::new(),
        Err(ApiError::Problem(problem)) if problem.errors.is_empty() => {
            vec![problem.code.name().to_owned()]
        }
        Err(ApiError::Problem(problem)) => problem
            .errors
            .iter()
            .map(|wrong| match &wrong.place {
                Place::Pointer(pointer) => format!("{pointer} {}", wrong.code.name()),
                other => panic!("{other:?}"),
            })
            .collect(),
        Err(other) => panic!("{other:?}"),
    }
}

fn amount(json: &str) -> Option<u128> {
    let body = format!("{{\"amount\":{json}}}");
    read_object(body.as_bytes(), |fields| fields.amount("amount")).ok()
}

#[test]
fn an_amount_is_digits_or_an_exact_integer() {
    assert_eq!(amount("\"0\""), Some(0));
    assert_eq!(amount("\"1250\""), Some(1250));
    assert_eq!(amount("1250"), Some(1250));
    assert_eq!(amount("9007199254740991"), Some((1 << 53) - 1));
    assert_eq!(
        amount("\"340282366920938463463374607431768211455\""),
        Some(u128::MAX)
    );
    for bad in [
        "9007199254740992",
        "18446744073709551616",
        "-1",
        "-0",
        "1.0",
        "1e3",
        "\"\"",
        "\"-1\"",
        "\"+1\"",
        "\"1.5\"",
        "\"1e3\"",
        "\" 1\"",
        "\"0x1\"",
        "\"340282366920938463463374607431768211456\"",
        "null",
        "true",
        "[1]",
        "{}",
    ] {
        assert_eq!(amount(bad), None, "{bad}");
    }
}

#[test]
fn every_problem_of_a_body_is_listed_with_its_pointer() {
    let body = r#"{"id":"-bad","amount":1.5,"code":"7","linked":1,"extra":1,"a/b~c":2,"code":8}"#;
    let found = problems(body, |fields| {
        fields.id("id");
        fields.id("debit_account");
        fields.amount("amount");
        fields.code("code");
        fields.flag("linked");
        fields.done(&["id", "debit_account", "amount", "code", "linked"]);
    });
    assert_eq!(
        found[..5],
        [
            "/id invalid_value",
            "/debit_account missing_field",
            "/amount invalid_value",
            "/code invalid_value",
            "/linked invalid_value",
        ]
    );
    let mut rest = found[5..].to_vec();
    rest.sort();
    assert_eq!(
        rest,
        [
            "/a~1b~0c unknown_field",
            "/code duplicate_field",
            "/extra unknown_field"
        ]
    );
}

#[test]
fn trailing_data_bad_syntax_and_bad_utf8_are_malformed() {
    for body in [
        "{} x",
        "{}{}",
        "{",
        "",
        "{\"a\":}",
        "{'a':1}",
        "[1,]",
        "\u{feff}{}",
    ] {
        assert_eq!(
            problems(body, |fields| fields.done(&[])),
            ["malformed_json"],
            "{body:?}"
        );
    }
    assert!(read_object(b"{\"a\":\"\xff\"}", |fields| fields.done(&["a"])).is_err());
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(
        problems(&deep, |fields| fields.done(&[])),
        ["malformed_json"]
    );
    assert_eq!(
        problems("[]", |fields| fields.done(&[])),
        [" invalid_value"]
    );
}

#[test]
fn metadata_becomes_canonical() {
    let read = |body: &str| {
        read_object(body.as_bytes(), |f| f.metadata("m").into_owned()).map_err(|_| "refused")
    };
    assert_eq!(
        read(r#"{"m":{"b":"2", "a":"\u0031"}}"#),
        Ok(r#"{"a":"1","b":"2"}"#.to_owned())
    );
    assert_eq!(read(r#"{"m":{}}"#), Ok(String::new()));
    assert_eq!(read("{}"), Ok(String::new()));
    let long = "x".repeat(METADATA_KEY_LEN_MAX + 1);
    let many: Vec<_> = (0..=METADATA_PAIRS_MAX)
        .map(|i| format!("\"{i}\":\"\""))
        .collect();
    for bad in [
        r#"{"m":{"a":"1","a":"2"}}"#.to_owned(),
        r#"{"m":{"a":1}}"#.to_owned(),
        r#"{"m":{"":"1"}}"#.to_owned(),
        r#"{"m":[]}"#.to_owned(),
        format!("{{\"m\":{{\"{long}\":\"1\"}}}}"),
        format!(
            "{{\"m\":{{\"a\":\"{}\"}}}}",
            "x".repeat(METADATA_VALUE_LEN_MAX + 1)
        ),
        format!("{{\"m\":{{{}}}}}", many.join(",")),
    ] {
        assert_eq!(read(&bad), Err("refused"), "{bad}");
    }
}

#[test]
fn objects_and_lists_of_objects_carry_their_place() {
    let body = r#"{"limits":{"x":true},"members":[{"id":1},{"id":"2"},3]}"#;
    let found = problems(body, |fields| {
        fields.object("limits", |limits| limits.done(&["a"]));
        fields.objects("members", |member| {
            member.integer("id", 9);
            member.done(&["id"]);
        });
        fields.done(&["limits", "members"]);
    });
    assert_eq!(
        found,
        [
            "/limits/x unknown_field",
            "/members/1/id invalid_value",
            "/members/2 invalid_value"
        ]
    );
}

#[test]
fn a_list_is_read_object_by_object() {
    let body = br#"{"transfers":[{"id":"a"},7,{"id":"b","z":1}],"other":true}"#;
    let mut seen = Vec::new();
    let listed = read_list(body, "transfers", |place, element| {
        seen.push((place, element.map(|pairs| pairs.len())));
    })
    .unwrap();
    assert_eq!(seen, [(0, Ok(1)), (1, Err("an integer")), (2, Ok(2))]);
    assert_eq!((listed.count, listed.lists, listed.wrong), (3, 1, None));
    assert_eq!(listed.others, [("other".into(), Value::Bool(true))]);

    let wrong = read_list(br#"{"transfers":"x"}"#, "transfers", |_, _| ()).unwrap();
    assert_eq!(wrong.wrong, Some("a string"));
    assert!(read_list(b"[]", "transfers", |_, _| ()).is_err());
}
