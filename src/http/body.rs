//! Bodies: read whole within their bounds, or refused so that the client hears why.

use std::pin::Pin;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use tokio::time::timeout_at;

use super::error::{ApiError, Code, Problem};
use super::limits::{Bound, Limits, Share};

/// Most that is read and dropped of a body that is refused, in bytes (16 MiB).
const DISCARD_LEN_MAX: usize = 16 << 20;

/// A body that is being read.
struct Reader<'a, B> {
    body: Pin<&'a mut B>,
    begun: Instant,
    have: usize,
    limits: &'a Limits,
}

/// Reads a whole body within `bound`, its bytes counted in `share`; one that comes in a single piece is not copied.
///
/// # Errors
/// If it is too large, too slow, broken, or there is no memory for it. The client has then sent all of it, within reason:
/// one that is still writing when its connection is closed sees a reset, and never the answer.
pub(super) async fn read<B>(
    body: B,
    bound: Bound,
    limits: &Limits,
    share: &mut Share,
) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().lower();
    let body = std::pin::pin!(body);
    let mut reader = Reader {
        body,
        begun: Instant::now(),
        have: 0,
        limits,
    };
    if announced > bound.bytes as u64 {
        reader.discard().await;
        return Err(too_large(announced, bound));
    }
    let announced = usize::try_from(announced).expect("checked against a usize above");
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(data) = reader.next().await? {
        if reader.have > bound.bytes {
            let have = reader.have as u64;
            reader.discard().await;
            return Err(too_large(have, bound));
        }
        if !share.grow(data.len()) {
            reader.discard().await;
            return Err(no_memory(limits));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        // Room for as much again as is here, not for all that is announced: memory is for what has come.
        let room = all.len().min(announced.saturating_sub(all.len()));
        all.reserve(room.max(data.len()));
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads and drops a body that is refused before it is read.
pub(super) async fn discard<B>(body: B, limits: &Limits)
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let body = std::pin::pin!(body);
    let begun = Instant::now();
    let mut reader = Reader {
        body,
        begun,
        have: 0,
        limits,
    };
    reader.discard().await;
}

impl<B> Reader<'_, B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    /// The next piece, if it comes in time.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let until = self.begun + self.limits.patience(self.have);
            let frame = timeout_at(until.into(), self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.too_slow())? else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                let detail = format!("the body broke off: {error}");
                ApiError::new(Code::MalformedRequest, detail)
            })?;
            if let Ok(data) = frame.into_data() {
                self.have += data.len();
                return Ok(Some(data));
            }
        }
    }

    async fn discard(&mut self) {
        let end = self.have.saturating_add(DISCARD_LEN_MAX);
        while self.have < end && matches!(self.next().await, Ok(Some(_))) {}
    }

    fn too_slow(&self) -> ApiError {
        let Limits {
            body_timeout,
            body_grace,
            body_rate_min,
            ..
        } = self.limits;
        let took = self.begun.elapsed();
        let (setting, what) = match took < *body_timeout {
            true => (
                "body_rate_min",
                format!("at least {body_rate_min} bytes a second after {body_grace:?}"),
            ),
            false => ("body_timeout", format!("at most {body_timeout:?}")),
        };
        let detail = format!(
            "{} bytes of the body came in {took:.1?}; {setting} asks for {what}",
            self.have
        );
        Problem::new(Code::RequestTimeout, detail)
            .with("setting", setting)
            .into()
    }
}

/// The refusal of a body of `have` bytes or more.
pub(super) fn too_large(have: u64, bound: Bound) -> ApiError {
    let Bound { setting, bytes } = bound;
    let detail = format!("the body has {have} bytes or more, {setting} is {bytes}");
    Problem::new(Code::BodyTooLarge, detail)
        .with("limit", bytes)
        .with("setting", setting)
        .into()
}

/// The refusal for want of memory.
pub(super) fn no_memory(limits: &Limits) -> ApiError {
    let max = limits.bodies_bytes_max;
    let detail = format!("the bodies of all requests under way fill bodies_bytes_max, {max} bytes");
    Problem::new(Code::Overloaded, detail)
        .with("limit", max)
        .with("setting", "bodies_bytes_max")
        .into()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::StreamExt;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::super::limits::Memory;
    use super::*;

    const FOUR: Bound = Bound {
        setting: "four",
        bytes: 4,
    };

    fn pieces(pieces: &'static [&'static str]) -> impl HttpBody<Data = Bytes, Error = Infallible> {
        let frames = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    async fn take(body: impl HttpBody<Data = Bytes, Error = Infallible>) -> Result<Bytes, Problem> {
        take_with(body, &Limits::default()).await
    }

    async fn take_with(
        body: impl HttpBody<Data = Bytes, Error = Infallible>,
        limits: &Limits,
    ) -> Result<Bytes, Problem> {
        let mut share = Memory::new(limits.bodies_bytes_max).share();
        match read(body, FOUR, limits, &mut share).await {
            Ok(body) => Ok(body),
            Err(ApiError::Problem(problem)) => Err(*problem),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_refused() {
        assert_eq!(take(Full::new(Bytes::new())).await.unwrap(), "");
        assert_eq!(take(pieces(&["ab", "c"])).await.unwrap(), "abc");
        assert_eq!(take(pieces(&["ab", "c", "d"])).await.unwrap(), "abcd");
        let in_pieces = take(pieces(&["ab", "c", "de"])).await.unwrap_err();
        let announced = Full::new(Bytes::from_static(b"abcde"));
        let announced = take(announced).await.unwrap_err();
        for refused in [in_pieces, announced] {
            assert_eq!(refused.code, Code::BodyTooLarge);
            assert_eq!(refused.extra["setting"], "four");
            assert_eq!(refused.extra["limit"], 4);
        }
    }

    #[tokio::test]
    async fn a_body_for_which_there_is_no_memory_is_refused() {
        let limits = |bodies_bytes_max| Limits {
            bodies_bytes_max,
            ..Limits::default()
        };
        assert!(take_with(pieces(&["ab", "c"]), &limits(3)).await.is_ok());
        let refused = take_with(pieces(&["ab", "c"]), &limits(2)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, Code::Overloaded);
        assert_eq!(refused.extra["setting"], "bodies_bytes_max");
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_is_cut_off_in_the_name_of_what_it_broke() {
        let soon = Duration::from_millis(50);
        let late = Duration::from_secs(600);
        for (body_grace, body_timeout, setting) in
            [(soon, late, "body_rate_min"), (late, soon, "body_timeout")]
        {
            let limits = Limits {
                body_grace,
                body_timeout,
                ..Limits::default()
            };
            let begun = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"a")))]);
            let body = StreamBody::new(begun.chain(futures_util::stream::pending()));
            let refused = take_with(body, &limits).await.unwrap_err();
            assert_eq!(refused.code, Code::RequestTimeout);
            assert_eq!(refused.extra["setting"], setting);
        }
    }
}
