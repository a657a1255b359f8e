//! Which of the media types that an endpoint makes a client wants (RFC 9110, `Accept`).

use axum::http::{HeaderMap, header};

use super::error::{ApiError, Code, Problem};

/// JSON, as nearly every endpoint answers.
pub(super) const JSON: &str = "application/json";
/// Bytes, as a value of the key-value store is stored.
pub(super) const BYTES: &str = "application/octet-stream";
/// Plain text, as probes answer.
pub(super) const TEXT: &str = "text/plain";

/// The one of `made` that `headers` like best: by the client's weights, then by how exactly it names them, then in the order of
/// `made`. Everything goes if the client says nothing.
///
/// # Errors
/// If it accepts none of them.
pub(super) fn choose(
    headers: &HeaderMap,
    made: &'static [&'static str],
) -> Result<&'static str, ApiError> {
    if !headers.contains_key(header::ACCEPT) {
        return Ok(made[0]);
    }
    let ranges = ranges(headers);
    let mut best: Option<(&'static str, Liking)> = None;
    for media in made {
        let liking = liking(&ranges, media);
        let better = best.is_none_or(|(_, known)| liking > known);
        if liking.weight > 0 && better {
            best = Some((media, liking));
        }
    }
    let refused = || {
        let detail = format!(
            "none of what is accepted can be made: there is {}",
            made.join(", ")
        );
        Problem::new(Code::NotAcceptable, detail).with("available", made)
    };
    best.map(|(media, _)| media).ok_or_else(|| refused().into())
}

/// How much a client likes a media type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Liking {
    /// Thousandths; 0 is a refusal.
    weight: u32,
    /// 1 for anything, 2 for a type with any subtype, 3 for a media type by name.
    exactness: u8,
}

struct Range<'a> {
    kind: &'a str,
    sub: &'a str,
    weight: u32,
}

/// The media ranges that `headers` accept. One that cannot be read accepts nothing.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(header::ACCEPT).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .filter_map(range)
        .collect()
}

fn range(text: &str) -> Option<Range<'_>> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, sub) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("q")
            .then_some(value.trim())
    });
    let weight = weight.map_or(Some(1000), thousandths)?;
    Some(Range { kind, sub, weight })
}

/// A weight from 0 to 1 with up to three decimals.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.bytes().all(|b| b.is_ascii_digit());
    if !digits || decimals.len() > 3 || !matches!(whole, "0" | "1") {
        return None;
    }
    let weight: u32 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
}

/// What the most exact of `ranges` that covers `media` says of it.
fn liking(ranges: &[Range<'_>], media: &str) -> Liking {
    let (kind, sub) = media.split_once('/').expect("a media type has two parts");
    let exactness = |range: &Range<'_>| {
        let same = |ours: &str, theirs: &str| ours.eq_ignore_ascii_case(theirs);
        match (range.kind, range.sub) {
            ("*", "*") => 1,
            (k, "*") if same(kind, k) => 2,
            (k, s) if same(kind, k) && same(sub, s) => 3,
            _ => 0,
        }
    };
    let covering = ranges
        .iter()
        .map(|range| (exactness(range), range.weight))
        .filter(|(exactness, _)| *exactness > 0);
    covering
        .max()
        .map(|(exactness, weight)| Liking { weight, exactness })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        choose(&headers, &[BYTES, JSON]).ok()
    }

    #[test]
    fn the_type_a_client_likes_best_is_chosen() {
        for (accept, media) in [
            ("*/*", BYTES),
            ("application/*", BYTES),
            ("application/json", JSON),
            ("Application/JSON; charset=utf-8", JSON),
            ("application/json, */*", JSON),
            ("application/json;q=0.5, */*;q=0.4", JSON),
            ("application/json;q=0.5, */*", BYTES),
            ("text/html, application/xml;q=0.9, */*;q=0.8", BYTES),
            ("application/octet-stream;q=0, */*", JSON),
            ("nonsense, application/json", JSON),
        ] {
            assert_eq!(chosen(accept), Some(media), "{accept}");
        }
        assert_eq!(choose(&HeaderMap::new(), &[BYTES, JSON]).unwrap(), BYTES);
    }

    #[test]
    fn a_client_that_takes_nothing_we_make_is_told_what_there_is() {
        for accept in [
            "text/html",
            "application/json;q=0",
            "application/json;q=2",
            "json",
            "",
        ] {
            assert_eq!(chosen(accept), None, "{accept}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "text/html".parse().unwrap());
        let Err(ApiError::Problem(problem)) = choose(&headers, &[BYTES, JSON]) else {
            panic!("chosen")
        };
        assert_eq!(problem.code, Code::NotAcceptable);
        assert_eq!(problem.extra["available"][1], JSON);
    }
}
