//! A TCP proxy in front of a node that loses what passes through it: requests, answers, halves of either; or keeps a request
//! and hands it in long after its sender has given up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// What happens to one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connection ends before a byte of the request went on.
    CutBefore,
    /// It ends in the middle of the request.
    CutWithin,
    /// It ends once the request went on; nobody waits for the answer.
    CutAfter,
    /// The answer is read, and lost.
    DropAnswer,
    /// Half of the answer goes back, then a reset.
    HalfAnswer,
    /// The answer is read, and the connection stays open without a word.
    Silence,
    /// The answer comes late.
    Delay,
    /// The connection ends, and the request goes on a good while later.
    Late,
}

const FAULTS: [Fault; 8] = [
    Fault::CutBefore,
    Fault::CutWithin,
    Fault::CutAfter,
    Fault::DropAnswer,
    Fault::HalfAnswer,
    Fault::Silence,
    Fault::Delay,
    Fault::Late,
];

/// One in this many exchanges meets a fault.
const ONE_IN: u64 = 12;
/// The longest that a request or an answer is kept.
const LATE_MS_MAX: u64 = 700;

/// A proxy, for as long as the runtime that it was started on.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    node: SocketAddr,
    faulty: AtomicBool,
    /// State of the generator of faults. Relaxed: which exchange draws which number does not matter.
    random: AtomicU64,
    faults: AtomicU64,
}

impl Proxy {
    /// Starts one in front of `node` on the threads of `runtime`; it loses nothing until told to.
    pub(crate) fn start(runtime: &Handle, node: SocketAddr, seed: u64) -> Proxy {
        let bound = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            node,
            faulty: AtomicBool::new(false),
            random: AtomicU64::new(seed),
            faults: AtomicU64::new(0),
        });
        let sharing = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // However an exchange ends, both connections end with it.
                tokio::spawn(pass(stream, Arc::clone(&sharing)));
            }
        });
        Proxy { address, shared }
    }

    /// Loses things from now on, or no more.
    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.shared.faulty.store(faulty, Ordering::Relaxed);
    }

    /// How many exchanges met a fault.
    pub(crate) fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// SplitMix64: a counter, well mixed, so that tasks can draw at once.
    fn draw(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.random.fetch_add(step, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fault(&self) -> Option<Fault> {
        let drawn = self.draw();
        let unlucky = self.faulty.load(Ordering::Relaxed) && drawn.is_multiple_of(ONE_IN);
        unlucky.then(|| {
            self.faults.fetch_add(1, Ordering::Relaxed);
            let place = (drawn / ONE_IN) % FAULTS.len() as u64;
            FAULTS[usize::try_from(place).expect("few faults")]
        })
    }

    async fn late(&self) {
        tokio::time::sleep(Duration::from_millis(self.draw() % LATE_MS_MAX)).await;
    }
}

/// Passes exchanges on until one of the three ends it.
async fn pass(mut client: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut node: Option<TcpStream> = None;
    while let Some(request) = message(&mut client).await? {
        let fault = shared.fault();
        match fault {
            Some(Fault::CutBefore) => return Ok(()),
            Some(Fault::Late) => {
                drop(client);
                shared.late().await;
                exchange(&mut None, &shared, &request).await?;
                return Ok(());
            }
            _ => {}
        }
        if fault == Some(Fault::CutWithin) {
            let open = connected(&mut node, &shared).await?;
            open.write_all(&request[..request.len() / 2]).await?;
            return Ok(());
        }
        if fault == Some(Fault::CutAfter) {
            drop(client);
            exchange(&mut node, &shared, &request).await?;
            return Ok(());
        }
        let answer = exchange(&mut node, &shared, &request).await?;
        match fault {
            Some(Fault::DropAnswer) => return Ok(()),
            Some(Fault::HalfAnswer) => {
                client.write_all(&answer[..answer.len() / 2]).await?;
                return client.set_zero_linger();
            }
            Some(Fault::Silence) => {
                // Until the client has had enough.
                client.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
            Some(Fault::Delay) => shared.late().await,
            _ => {}
        }
        client.write_all(&answer).await?;
    }
    Ok(())
}

async fn connected<'a>(
    node: &'a mut Option<TcpStream>,
    shared: &Shared,
) -> io::Result<&'a mut TcpStream> {
    if node.is_none() {
        let stream = TcpStream::connect(shared.node).await?;
        stream.set_nodelay(true)?;
        *node = Some(stream);
    }
    Ok(node.as_mut().expect("connected above"))
}

/// Hands a request to the node and waits for the answer.
async fn exchange(
    node: &mut Option<TcpStream>,
    shared: &Shared,
    request: &[u8],
) -> io::Result<Vec<u8>> {
    let open = connected(node, shared).await?;
    open.write_all(request).await?;
    let answer = message(open).await?;
    answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// One whole message with a length; nothing if the connection ended before its first byte.
async fn message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = head + 4;
            let rest = length(&bytes[..head]).saturating_sub(bytes.len() - head);
            let whole = bytes.len();
            bytes.resize(whole + rest, 0);
            stream.read_exact(&mut bytes[whole..]).await?;
            return Ok(Some(bytes));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return match bytes.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
    }
}

/// The length of the body that a head announces.
fn length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines
        .into_iter()
        .find(|(name, _)| *name == "content-length");
    found
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0)
}
