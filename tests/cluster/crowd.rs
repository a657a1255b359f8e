//! A crowd of slow connections: it fills its own places and no others, and the memory it takes is bounded.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::{Connection, request};
use crate::support::wait::wait_for;

/// Slow connections, from so many addresses.
const CROWD: usize = 10_000;
const ADDRESSES: usize = 10;
/// How long each round of dribbling takes; rounds.
const ROUND: Duration = Duration::from_millis(500);
const ROUNDS: usize = 16;
/// What the crowd may cost, in bytes: 4096 connections, the buffers of each, and what a busy node takes anyway.
const MEMORY_MAX: u64 = 300 << 20;

/// A connection from 127.0.1.`from`, a request begun: half of them a head that does not end, half a body.
async fn join(place: usize, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let from = u8::try_from(1 + place % ADDRESSES).expect("few addresses");
    socket.bind(([127, 0, 1, from], 0).into())?;
    let mut stream = socket.connect(to).await?;
    let begun: &[u8] = match place % 2 {
        0 => b"GET /v1/kv/x HTTP/1.1\r\nhost: x\r\nx-slow: ",
        _ => b"PUT /v1/kv/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n",
    };
    stream.write_all(begun).await?;
    Ok(stream)
}

/// Opens the crowd and keeps it dribbling, a byte each a round; whoever is cut off comes again. Gives how many were.
async fn besiege(to: SocketAddr) -> usize {
    let mut crowd: Vec<Option<TcpStream>> = Vec::new();
    crowd.resize_with(CROWD, || None);
    let mut cut = 0;
    for _ in 0..ROUNDS {
        let round = Instant::now();
        for (place, member) in crowd.iter_mut().enumerate() {
            if let Some(stream) = member
                && stream.try_write(b"a").is_err()
            {
                cut += 1;
                *member = None;
            }
            if member.is_none() {
                *member = join(place, to).await.ok();
            }
        }
        tokio::time::sleep(ROUND.saturating_sub(round.elapsed())).await;
    }
    cut
}

#[test]
fn ten_thousand_slow_connections_keep_nobody_else_from_being_served() {
    quorate::node::raise_open_files(12_000).expect("so many files may be open");
    // A machine that runs many tests may be late by itself.
    let flags = [
        "--head-timeout",
        "3s",
        "--body-grace",
        "3s",
        "--lag-max",
        "60s",
    ];
    let mut cluster = Cluster::formed_with(1, &flags);
    let addr = cluster.addr(1);
    let before = cluster.memory(1);
    let mut beside = Connection::open(addr).expect("a connection");
    let siege = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(besiege(addr))
    });
    let (mut served, mut came, mut peak) = (0, 0, 0);
    while !siege.is_finished() {
        // Who was there before is not disturbed: never a failure on this connection.
        let answer = beside
            .request("PUT", "/v1/kv/beside", b"1")
            .expect("an answer");
        // A disk that hangs for a moment is another matter, and is said to be.
        let hung = answer.status == 503 && answer.text().contains("the disk of the log");
        assert!(answer.status < 300 || hung, "{}", answer.text());
        served += u64::from(!hung);
        peak = peak.max(cluster.memory(1));
        // Who comes new gets in, if not at once: places of the slow are taken from them.
        if let Ok(answer) = request(addr, "GET", "/v1/kv/beside", b"") {
            assert!([200, 429].contains(&answer.status), "{}", answer.text());
            came += u64::from(answer.status == 200);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let cut = siege.join().expect("the siege ends");
    assert!(served > 20, "only {served} requests were served beside");
    assert!(came > 5, "only {came} newcomers got in");
    assert!(cut > 1000, "only {cut} slow connections were cut off");
    let grown = peak.saturating_sub(before);
    assert!(grown < MEMORY_MAX, "memory grew by {grown} bytes");
    // All places are free again.
    wait_for("a calm node", PATIENCE, || {
        let answer = request(addr, "GET", "/readyz", b"").ok()?;
        (answer.status == 200).then_some(())
    });
}
