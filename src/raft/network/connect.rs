//! How bytes reach a peer: TCP in production, something that drops and delays in tests and simulations.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// An append stream.
    Stream,
    /// Calls with one answer each.
    Unary,
    /// A snapshot.
    Snapshot,
}

impl Lane {
    /// For the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Lane::Stream => "stream",
            Lane::Unary => "call",
            Lane::Snapshot => "snapshot",
        }
    }
}

/// Makes connections. Callers bound the time.
pub(crate) trait Connect: Clone + Send + Sync + 'static {
    /// Both directions of a connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;

    /// Connects to `addr` (`host:port`) for use as `lane`.
    fn connect(&self, addr: &str, lane: Lane) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

/// Plain TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tcp;

impl Connect for Tcp {
    type Io = TcpStream;

    async fn connect(&self, addr: &str, _lane: Lane) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
