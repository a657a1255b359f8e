//! What the system tells a node: a first signal asks it to stop, a second one ends the process.
//!
//! Heard by a thread of its own. A node that starts or stops may wait for a disk that does not answer, with any of its other
//! threads, and then is just when somebody sends the second signal.

use std::convert::Infallible;
use std::thread;

use anyhow::Context;
use rustix::process::{Signal as Kill, getpid, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Signals to this process, from [`Signals::listen`] on.
#[derive(Clone, Debug)]
pub(super) struct Signals(watch::Receiver<Option<&'static str>>);

impl Signals {
    /// Listens for SIGTERM and SIGINT. The second of them ends the process.
    ///
    /// # Errors
    /// If the system gives no thread, or does not tell of signals.
    pub(super) fn listen() -> anyhow::Result<Signals> {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.context("watching for signals")?;
        let (told, first) = watch::channel(None);
        let heard = {
            // They are caught from here on, not from when the thread runs.
            let _inside = runtime.enter();
            let terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
            let interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
            [terminate, interrupt]
        };
        thread::Builder::new()
            .name("quorate-signals".to_owned())
            .spawn(move || runtime.block_on(follow(heard, told)))
            .context("watching for signals")?;
        Ok(Signals(first))
    }

    /// Waits for the first one, and names it.
    pub(super) async fn first(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await.map(|name| *name) {
            Ok(Some(name)) => name,
            // The thread ends with the process only.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

async fn follow(
    [mut terminate, mut interrupt]: [Signal; 2],
    told: watch::Sender<Option<&'static str>>,
) -> Infallible {
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if told.borrow().is_some() {
            end(name);
        }
        told.send_replace(Some(name));
    }
}

/// Ends this process as a crash would: nothing that waits for a disk can hold that up.
fn end(name: &str) -> ! {
    tracing::error!("{name}: a second signal, this process ends at once");
    if let Err(error) = kill_process(getpid(), Kill::KILL) {
        tracing::error!(%error, "it cannot be killed");
    }
    std::process::abort();
}
