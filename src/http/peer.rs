//! The peer listener: paths to [`Peer`], bytes both ways.

use std::io;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::listener::Place;
use crate::raft::{
    CALL_LEN_MAX, Call, Peer, PeerError, SNAPSHOT_PATH, SNAPSHOT_PROTOCOL, STREAM_PATH,
    STREAM_PROTOCOL,
};

/// The peer listener's paths.
pub fn router(peer: Peer) -> Router {
    let calls = Call::ALL.into_iter().fold(Router::new(), |router, call| {
        let answer = move |State(peer): State<Peer>, body: Bytes| answer(peer, call, body);
        router.route(call.path(), post(answer))
    });
    calls
        .route(STREAM_PATH, get(stream))
        .route(SNAPSHOT_PATH, get(snapshot))
        .layer(DefaultBodyLimit::max(CALL_LEN_MAX))
        .with_state(peer)
}

/// Serves peers on `listener` until `stop` is ready. Open append streams end with their connections, not with this.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    peer: Peer,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // A small answer must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|io| {
        if let Err(error) = io.set_nodelay(true) {
            tracing::warn!("a peer connection keeps Nagle's delay: {error}");
        }
    });
    axum::serve(listener, router(peer))
        .with_graceful_shutdown(stop)
        .await
}

async fn answer(peer: Peer, call: Call, body: Bytes) -> Response {
    match peer.call(call, body).await {
        Ok(answer) => answer.into_response(),
        Err(error) => (StatusCode::CONFLICT, error.0).into_response(),
    }
}

async fn stream(State(peer): State<Peer>, request: Request) -> Response {
    upgrade(request, STREAM_PROTOCOL, move |io| async move {
        peer.stream(io).await
    })
}

async fn snapshot(State(peer): State<Peer>, request: Request) -> Response {
    upgrade(request, SNAPSHOT_PROTOCOL, move |io| async move {
        peer.snapshot(io).await
    })
}

/// Upgrades the connection and has `serve` serve it in a task of its own, as the response must go out first.
fn upgrade<F, S>(mut request: Request, protocol: &'static str, serve: F) -> Response
where
    F: FnOnce(TokioIo<Upgraded>) -> S + Send + 'static,
    S: Future<Output = Result<(), PeerError>> + Send + 'static,
{
    let asked = request.headers().get(UPGRADE);
    let asked = asked.is_some_and(|asked| asked == protocol);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (true, Some(upgrade)) = (asked, upgrade) else {
        let reason = format!("this is for connections that upgrade to {protocol}");
        return (StatusCode::UPGRADE_REQUIRED, reason).into_response();
    };
    // What the connection was upgraded to counts as a connection for as long as it lives.
    let place = request.extensions_mut().remove::<Place>();
    tokio::spawn(async move {
        match upgrade.await {
            // Why it ended is said where it ended.
            Ok(io) => drop(serve(TokioIo::new(io)).await),
            Err(error) => tracing::debug!("a peer connection was not upgraded: {error}"),
        }
        drop(place);
    });
    let headers = [
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (UPGRADE, HeaderValue::from_static(protocol)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[cfg(test)]
mod tests;
