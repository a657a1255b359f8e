use super::*;

/// A call as the edge would make it.
pub(in crate::http) fn call(
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Call {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        map.append(name, value.parse().unwrap());
    }
    Call {
        method,
        uri: uri.parse().unwrap(),
        headers: map,
        body: Bytes::copy_from_slice(body.as_bytes()),
        request_id: "test".to_owned(),
        received: Instant::now(),
        limits: Arc::default(),
        remote: None,
        endpoint: OnceLock::new(),
    }
}

fn codes(problems: Problems) -> Vec<&'static str> {
    match problems.finish() {
        Ok(()) => Vec::new(),
        Err(ApiError::Problem(problem)) => problem.errors.iter().map(|e| e.code.name()).collect(),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn unknown_and_duplicate_parameters_are_problems() {
    let call = call(Method::GET, "/v1/x?a=1&b=2&a=3&c=%zz", &[], "");
    let params = call.params(&["a"]);
    assert_eq!(params.get("a").as_deref(), Some("1"));
    let found = codes(params.problems);
    assert_eq!(
        found,
        ["unknown_parameter", "duplicate_parameter", "invalid_value"]
    );
}

#[test]
fn a_header_that_makes_no_sense_is_refused_though_the_parameter_wins() {
    let of = |header: &str| {
        let headers = [("quorate-consistency", header)];
        let call = call(Method::GET, "/v1/x?consistency=lease", &headers, "");
        let mut params = call.params(&["consistency"]);
        let level = call.level(&mut params);
        (level, codes(params.problems))
    };
    assert_eq!(of("follower"), (ReadLevel::Lease, Vec::new()));
    assert_eq!(of("weak").1, ["invalid_value"]);
}

#[test]
fn every_alias_of_a_level_works_and_nothing_else() {
    for (text, level) in [
        ("leader", ReadLevel::Leader),
        ("linearizable", ReadLevel::Leader),
        ("lease", ReadLevel::Lease),
        ("follower", ReadLevel::Follower),
        ("follower-stale", ReadLevel::Follower),
        ("stale", ReadLevel::Follower),
    ] {
        assert_eq!(parse_level(text), Some(level));
        assert!(LEVELS.contains(&text));
    }
    let call = call(Method::GET, "/v1/x?consistency=Leader", &[], "");
    let mut params = call.params(&["consistency"]);
    call.level(&mut params);
    assert_eq!(codes(params.problems), ["invalid_value"]);
}

#[test]
fn the_consistency_parameter_wins_over_the_header() {
    let headers = [(CONSISTENCY_HEADER, "lease")];
    let call = call(Method::GET, "/v1/x?consistency=stale", &headers, "");
    let mut params = call.params(&["consistency"]);
    assert_eq!(call.level(&mut params), ReadLevel::Follower);
    let mut without = Params::parse("", &[]);
    assert_eq!(call.level(&mut without), ReadLevel::Lease);
}

#[test]
fn the_shorter_timeout_counts() {
    for (query, header, expected) in [
        ("timeout=2s", "500ms", 500),
        ("timeout=200ms", "5s", 200),
        ("", "1m", 60_000),
    ] {
        let uri = format!("/v1/x?{query}");
        let call = call(Method::GET, &uri, &[(TIMEOUT_HEADER, header)], "");
        let mut params = call.params(&["timeout"]);
        let deadline = call.deadline(&mut params);
        assert_eq!(deadline - call.received, Duration::from_millis(expected));
        assert!(params.problems.is_empty());
    }
}

#[test]
fn a_duration_is_digits_and_a_unit() {
    assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
    for bad in [
        "",
        "5",
        "s",
        "-1s",
        "1.5s",
        "1 s",
        "5S",
        "99999999999999999999s",
        "1h1m",
    ] {
        assert_eq!(parse_duration(bad), None, "{bad:?}");
    }
    for bad in ["0s", "61s", "x"] {
        let mut problems = Problems::default();
        let call = call(Method::GET, "/v1/x", &[], "");
        call.checked_timeout(bad, Place::Header("t"), &mut problems);
        assert!(!problems.is_empty(), "{bad:?}");
    }
}

#[test]
fn paths_and_queries_are_decoded_once_and_must_be_utf8() {
    assert_eq!(decode("a%2Fb+c", Plus::Literal).unwrap(), "a/b+c");
    assert_eq!(decode("a%2fb+c", Plus::Space).unwrap(), "a/b c");
    assert_eq!(decode("%2541", Plus::Literal).unwrap(), "%41");
    assert!(decode("%", Plus::Literal).is_err());
    assert!(decode("%f", Plus::Literal).is_err());
    assert!(decode("%ff", Plus::Literal).is_err());
}

#[test]
fn the_id_in_a_path_is_checked() {
    let good = call(Method::GET, "/v1/accounts/a%3Ab/transfers", &[], "");
    assert_eq!(good.path_id("/v1/accounts/").unwrap(), "a:b");
    let bad = call(Method::GET, "/v1/accounts/%20", &[], "");
    assert!(bad.path_id("/v1/accounts/").is_err());
}

#[test]
fn a_body_must_be_declared_as_json() {
    for (declared, good) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("text/plain", false),
        ("application/jsonx", false),
    ] {
        let call = call(Method::POST, "/v1/x", &[("content-type", declared)], "{}");
        assert_eq!(call.expect_json().is_ok(), good, "{declared}");
    }
    assert!(
        call(Method::POST, "/v1/x", &[], "{}")
            .expect_json()
            .is_err()
    );
}

#[test]
fn writes_are_shed_and_reads_and_the_care_of_the_cluster_are_not() {
    let is_shed = |method: Method, path: &str| call(method, path, &[], "").is_shed();
    assert!(is_shed(Method::PUT, "/v1/kv/a"));
    assert!(is_shed(Method::POST, "/v1/transfers/batch"));
    assert!(!is_shed(Method::GET, "/v1/kv/a"));
    assert!(!is_shed(Method::POST, "/v1/cluster/leader/transfer"));
}
