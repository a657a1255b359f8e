//! The closed loop: every client sends a request, waits for its answer and sends the next.
//!
//! A [`Protocol`] knows bytes only; what is read and written when, and what is counted, is decided here, alike for all.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::options::{Options, Workload};

/// One connection's side of a protocol. Several clients may share it: each has a slot, with one request under way.
pub(crate) trait Protocol {
    /// Appends what opens the connection.
    fn open(&mut self, out: &mut Vec<u8>);

    /// Appends the next request of `slot`; `number` is the key to make, for [`Workload::Fill`].
    ///
    /// # Errors
    /// If the connection cannot take it.
    fn request(&mut self, slot: usize, number: u64, out: &mut Vec<u8>) -> io::Result<()>;

    /// Takes whole messages off the front of `input` and says how many bytes that were. Appends what must be said in
    /// return to `out`, and what was found to `events`.
    ///
    /// # Errors
    /// If the other side does not speak the protocol.
    fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> io::Result<usize>;
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Requests may be sent.
    Ready,
    /// The request of a slot has its answer: nothing, or why it failed.
    Answer(usize, Option<String>),
}

/// A message that is not as the protocol wants it.
pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[derive(Debug)]
struct Plan {
    options: Options,
    from: Instant,
    until: Instant,
    /// The next key to make.
    next: AtomicU64,
}

impl Plan {
    /// The number of the next request, if there is to be one.
    fn next(&self) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let goes_on = match self.options.workload {
            Workload::Fill => number < self.options.keys,
            _ => Instant::now() < self.until,
        };
        goes_on.then_some(number)
    }
}

#[derive(Debug, Default)]
struct Tally {
    micros: Vec<u32>,
    errors: BTreeMap<String, u64>,
}

/// Runs the load and reports it.
///
/// # Errors
/// If a connection fails or the other side breaks the protocol.
pub(crate) async fn run<P, F>(options: &Options, protocol: F) -> io::Result<Value>
where
    P: Protocol + 'static,
    F: Fn(&Options, &str, usize) -> P,
{
    let from = Instant::now() + Duration::from_secs(options.warmup_seconds);
    let plan = Arc::new(Plan {
        options: options.clone(),
        from,
        until: from + Duration::from_secs(options.seconds),
        next: AtomicU64::new(0),
    });
    let local = tokio::task::LocalSet::new();
    let connections: Vec<_> = (0..options.connections)
        .map(|number| {
            let endpoint = options.endpoints[number % options.endpoints.len()].clone();
            let spare = usize::from(number < options.clients % options.connections);
            let slots = options.clients / options.connections + spare;
            let protocol = protocol(options, &endpoint, number);
            local.spawn_local(connection(plan.clone(), endpoint, protocol, slots))
        })
        .collect();
    let mut all = Tally::default();
    local
        .run_until(async {
            for connection in connections {
                let tally = connection.await.map_err(io::Error::other)??;
                all.micros.extend(tally.micros);
                for (kind, count) in tally.errors {
                    *all.errors.entry(kind).or_default() += count;
                }
            }
            Ok::<_, io::Error>(())
        })
        .await?;
    let expected = options.workload == Workload::Fill && !all.errors.is_empty();
    if expected {
        return Err(io::Error::other(format!("filling: {:?}", all.errors)));
    }
    Ok(report(options, all))
}

async fn connection<P: Protocol>(
    plan: Arc<Plan>,
    endpoint: String,
    mut protocol: P,
    slots: usize,
) -> io::Result<Tally> {
    let mut stream = TcpStream::connect(&endpoint).await?;
    stream.set_nodelay(true)?;
    let (mut input, mut out, mut events) = (Vec::with_capacity(64 << 10), Vec::new(), Vec::new());
    let mut begun = vec![Instant::now(); slots];
    let mut busy = slots;
    let mut tally = Tally::default();
    protocol.open(&mut out);
    while busy > 0 {
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = protocol.take(&input, &mut out, &mut events)?;
        input.drain(..taken);
        let now = Instant::now();
        for event in events.drain(..) {
            let freed = match event {
                Event::Ready => 0..slots,
                Event::Answer(slot, why) => {
                    tally.count(&plan, begun[slot], now, why);
                    slot..slot + 1
                }
            };
            for slot in freed {
                match plan.next() {
                    Some(number) => protocol.request(slot, number, &mut out)?,
                    None => busy -= 1,
                }
                begun[slot] = now;
            }
        }
    }
    Ok(tally)
}

impl Tally {
    fn count(&mut self, plan: &Plan, begun: Instant, ended: Instant, why: Option<String>) {
        if let Some(why) = why {
            *self.errors.entry(why).or_default() += 1;
        } else if begun >= plan.from && ended <= plan.until {
            let micros = (ended - begun).as_micros();
            self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
    }
}

fn report(options: &Options, mut tally: Tally) -> Value {
    let all = &mut tally.micros;
    all.sort_unstable();
    let at = |quantile: f64| match all.len() {
        0 => 0,
        n => all[((n - 1) as f64 * quantile) as usize],
    };
    let per_second = all.len() as f64 / options.seconds as f64;
    let items = match options.workload {
        Workload::TransferBatch => options.batch as f64,
        _ => 1.0,
    };
    json!({
        "workload": options.name,
        "clients": options.clients,
        "seconds": options.seconds,
        "ops": all.len(),
        "ops_per_s": per_second,
        "items_per_s": per_second * items,
        "latency_us": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0) },
        "errors": tally.errors,
    })
}
