//! Connections with faults.

use super::*;

/// What a connection does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Passes them on.
    None,
    /// Cannot be made.
    Refuse,
    /// Takes and gives nothing, without an error.
    Hang,
    /// Hangs only towards the peer.
    HangOut,
    /// Hangs only from the peer.
    HangIn,
    /// Takes this many bytes a millisecond towards the peer.
    Throttle(usize),
}

/// TCP with faults. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty(Arc<Mutex<FaultyState>>);

#[derive(Debug, Default)]
struct FaultyState {
    faults: Vec<(String, Lane, Fault)>,
    waiting: Vec<Waker>,
    connected: usize,
}

impl Faulty {
    /// From now on, for old and new connections to `addr` as `lane`.
    pub(crate) fn set(&self, addr: &str, lane: Lane, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        state
            .faults
            .retain(|(a, l, _)| (a.as_str(), *l) != (addr, lane));
        state.faults.push((addr.to_owned(), lane, fault));
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Connections made so far.
    pub(crate) fn connected(&self) -> usize {
        self.0.lock().unwrap().connected
    }

    fn get(&self, addr: &str, lane: Lane) -> Fault {
        let state = self.0.lock().unwrap();
        let mut faults = state.faults.iter();
        let fault = faults.find(|(a, l, _)| (a.as_str(), *l) == (addr, lane));
        fault.map_or(Fault::None, |(_, _, fault)| *fault)
    }

    fn wait(&self, cx: &Context<'_>) {
        self.0.lock().unwrap().waiting.push(cx.waker().clone());
    }
}

impl Connect for Faulty {
    type Io = FaultyIo;

    async fn connect(&self, addr: &str, lane: Lane) -> io::Result<FaultyIo> {
        if self.get(addr, lane) == Fault::Refuse {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.0.lock().unwrap().connected += 1;
        Ok(FaultyIo {
            inner: Tcp.connect(addr, lane).await?,
            faults: self.clone(),
            addr: addr.to_owned(),
            lane,
            pause: None,
        })
    }
}

/// A connection of [`Faulty`].
pub(crate) struct FaultyIo {
    inner: TcpStream,
    faults: Faulty,
    addr: String,
    lane: Lane,
    pause: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for FaultyIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Fault::Hang | Fault::HangIn = self.faults.get(&self.addr, self.lane) {
            self.faults.wait(cx);
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for FaultyIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = match self.faults.get(&self.addr, self.lane) {
            Fault::Hang | Fault::HangOut => {
                self.faults.wait(cx);
                return Poll::Pending;
            }
            Fault::Throttle(bytes) => {
                let pause = || Box::pin(tokio::time::sleep(Duration::from_millis(1)));
                ready!(self.pause.get_or_insert_with(pause).as_mut().poll(cx));
                self.pause = None;
                bytes.min(buf.len())
            }
            Fault::None | Fault::Refuse | Fault::HangIn => buf.len(),
        };
        Pin::new(&mut self.inner).poll_write(cx, &buf[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
