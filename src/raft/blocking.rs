//! Work that may wait for a disk, off the threads that everything else runs on.

use std::io;

/// Runs `work` where it may block.
///
/// # Errors
/// If it panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    // A simulation has one thread, and nothing in it blocks.
    #[cfg(feature = "simulation")]
    if super::sim::is_simulated() {
        super::sim::hesitate().await;
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| io::Error::other(format!("a storage task failed: {error}")))
}

/// [`run`] of work that may fail by itself.
///
/// # Errors
/// As `work`, or if it panicked.
pub(super) async fn io<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run(work).await?
}
