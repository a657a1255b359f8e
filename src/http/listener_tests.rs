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
    (
        address,
        phase,
        tokio::spawn(serve(listener, service, limits, follow)),
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

#[test]
fn an_unchanged_connection_is_judged_by_what_it_waits_for() {
    let limits = Limits {
        head: Duration::from_secs(2),
        idle: Duration::from_secs(3),
        ..Limits::default()
    };
    let activity = Activity::default();
    for (state, verdicts) in [
        (
            BUSY,
            [Verdict::Fine, Verdict::Fine, Verdict::Fine, Verdict::Fine],
        ),
        (
            HEAD,
            [Verdict::Fine, Verdict::Fine, Verdict::Slow, Verdict::Slow],
        ),
        (
            IDLE,
            [Verdict::Fine, Verdict::Fine, Verdict::Fine, Verdict::Idle],
        ),
    ] {
        activity.set(state);
        let mut watcher = Watcher::default();
        for verdict in verdicts {
            assert_eq!(watcher.look(&activity, &limits), verdict, "state {state}");
        }
    }
}
