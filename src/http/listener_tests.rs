use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

async fn start(limits: Limits) -> (String, watch::Sender<Phase>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (phase, follow) = watch::channel(Phase::Serving);
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
    });
    let refuse: Refuse = Arc::new(|refused| format!("refused: {refused:?}").into());
    (
        address,
        phase,
        tokio::spawn(serve(listener, service, limits, Some(refuse), follow)),
    )
}

async fn read_answer(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"answer") {
        assert_ne!(
            stream.read_buf(&mut seen).await.unwrap(),
            0,
            "closed before an answer"
        );
    }
}

#[tokio::test]
async fn stopping_answers_who_connected_and_closes_who_is_idle() {
    let (address, phase, serving) = start(Limits::default()).await;
    let mut idle = TcpStream::connect(&address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    read_answer(&mut idle).await;

    // Connected, as far as this side can tell, before the listener closes.
    let mut queued = TcpStream::connect(&address).await.unwrap();
    phase.send_replace(Phase::Closing);
    queued.write_all(REQUEST).await.unwrap();
    read_answer(&mut queued).await;
    // An idle connection may still be used.
    idle.write_all(REQUEST).await.unwrap();
    read_answer(&mut idle).await;

    phase.send_replace(Phase::Closed);
    serving.await.unwrap();
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_dribbled_head_is_cut_off_and_an_idle_connection_is_not() {
    let head = Duration::from_secs(2);
    let limits = Limits {
        head,
        idle: Duration::from_secs(60),
        ..Limits::default()
    };
    let (address, _phase, _serving) = start(limits).await;
    let mut idle = TcpStream::connect(&address).await.unwrap();
    idle.write_all(REQUEST).await.unwrap();
    read_answer(&mut idle).await;

    let mut slow = TcpStream::connect(&address).await.unwrap();
    let begun = std::time::Instant::now();
    let mut bytes = REQUEST.iter();
    let closed = loop {
        let byte = *bytes.next().expect("cut off long before the last byte");
        if slow.write_all(&[byte]).await.is_err() {
            break begun.elapsed();
        }
        let mut buffer = [0; 8];
        let pause = tokio::time::timeout(Duration::from_millis(300), slow.read(&mut buffer));
        if let Ok(ended) = pause.await {
            assert_eq!(ended.unwrap_or(0), 0);
            break begun.elapsed();
        }
    };
    assert!(closed >= Duration::from_secs(1), "{closed:?}");
    idle.write_all(REQUEST).await.unwrap();
    read_answer(&mut idle).await;
}

#[tokio::test]
async fn who_finds_no_place_is_told_and_a_place_given_back_is_used_again() {
    let limits = Limits {
        connections_max: 2,
        per_address_max: 1,
        ..Limits::default()
    };
    let (address, _phase, _serving) = start(limits).await;
    let connect = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(address.parse().unwrap()).await.unwrap()
    };
    let told = async |mut stream: TcpStream| {
        let mut seen = String::new();
        stream.read_to_string(&mut seen).await.unwrap();
        seen
    };
    let mut one = connect("127.0.0.1").await;
    one.write_all(REQUEST).await.unwrap();
    read_answer(&mut one).await;
    let again = told(connect("127.0.0.1").await).await;
    assert_eq!(again, "refused: Address(127.0.0.1, 1)");
    let mut two = connect("127.0.0.2").await;
    two.write_all(REQUEST).await.unwrap();
    read_answer(&mut two).await;
    let third = told(connect("127.0.0.3").await).await;
    assert_eq!(third, "refused: Connections(2)");
    drop(one);
    loop {
        let mut stream = connect("127.0.0.1").await;
        stream.write_all(REQUEST).await.unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        if first == *b"H" {
            break;
        }
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_in_our_words() {
    let (address, _phase, _serving) = start(Limits::default()).await;
    for (head, status) in [
        ("GARBAGE\r\n\r\n".to_owned(), 400),
        (
            format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(40_000)),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)),
            431,
        ),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = String::new();
        stream.read_to_string(&mut seen).await.unwrap();
        assert_eq!(seen, format!("refused: Head({status})"));
    }
    // What came before it on the connection is answered as ever.
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    stream.write_all(b"GARBAGE\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    stream.read_to_string(&mut seen).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    assert!(seen.contains("answer"), "{seen}");
}

/// Bytes of a piece of a long answer: as much as shows that somebody is there.
const PIECE: usize = 64 << 10;

/// Answers with `pieces`, one every `pace`.
async fn start_long(pieces: usize, pace: Duration) -> (String, watch::Sender<Phase>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (phase, follow) = watch::channel(Phase::Serving);
    let service = service_fn(move |_: Request<Incoming>| async move {
        let body = futures_util::stream::unfold(0, move |made| async move {
            tokio::time::sleep(pace).await; // no wait for anything: a pace
            let piece = hyper::body::Frame::data(Bytes::from_static(&[b'x'; PIECE]));
            (made < pieces).then_some((Ok::<_, Infallible>(piece), made + 1))
        });
        Ok::<_, Infallible>(Response::new(http_body_util::StreamBody::new(body)))
    });
    let limits = Limits {
        head: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        ..Limits::default()
    };
    tokio::spawn(serve(listener, service, limits, None, follow));
    (address, phase)
}

#[tokio::test]
async fn who_goes_on_taking_a_long_answer_gets_all_of_it() {
    let (address, _phase) = start_long(12, Duration::from_millis(500)).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).await.unwrap();
    let taken = seen.iter().filter(|byte| **byte == b'x').count();
    assert!(taken >= 12 * PIECE, "cut off after {taken} bytes");
    assert!(seen.ends_with(b"0\r\n\r\n"), "it has no end");
}

#[tokio::test]
async fn who_does_not_take_a_long_answer_is_cut_off() {
    let (address, _phase) = start_long(usize::MAX, Duration::ZERO).await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    stream.readable().await.unwrap();
    // Nothing is read until the other side has given up: a byte that it would not take then says so.
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "it goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stream.write_all(b"\r\n").await.is_err() {
            break;
        }
    }
}
