//! A value that is watched: tokio's channel. In a simulation one that behaves the same, and wakes who waits in the order in
//! which they came; tokio's does it by chance.

#[cfg(not(feature = "simulation"))]
pub use tokio::sync::watch::{Receiver, Sender, channel};

#[cfg(feature = "simulation")]
pub use self::fair::{Receiver, Sender, channel};

#[cfg(feature = "simulation")]
mod fair {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tokio::sync::watch::{self, Ref, error::RecvError};

    /// As tokio's.
    #[derive(Debug)]
    pub struct Sender<T> {
        /// There until it is dropped.
        inner: Option<watch::Sender<T>>,
        changed: Arc<Notify>,
    }

    /// As tokio's.
    #[derive(Debug)]
    pub struct Receiver<T> {
        inner: watch::Receiver<T>,
        changed: Arc<Notify>,
    }

    /// As tokio's.
    pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
        let sender = Sender::new(value);
        let receiver = sender.subscribe();
        (sender, receiver)
    }

    impl<T> Sender<T> {
        /// As tokio's.
        pub fn new(value: T) -> Sender<T> {
            Sender {
                inner: Some(watch::Sender::new(value)),
                changed: Arc::default(),
            }
        }

        fn inner(&self) -> &watch::Sender<T> {
            self.inner.as_ref().expect("it is not dropped")
        }

        /// As tokio's.
        pub fn subscribe(&self) -> Receiver<T> {
            Receiver {
                inner: self.inner().subscribe(),
                changed: self.changed.clone(),
            }
        }

        /// As tokio's.
        pub fn borrow(&self) -> Ref<'_, T> {
            self.inner().borrow()
        }

        /// As tokio's.
        pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
            let is_modified = self.inner().send_if_modified(modify);
            if is_modified {
                self.changed.notify_waiters();
            }
            is_modified
        }

        /// As tokio's.
        pub fn send_replace(&self, value: T) -> T {
            let before = self.inner().send_replace(value);
            self.changed.notify_waiters();
            before
        }

        /// As tokio's, but for the error, which is what was not sent.
        pub fn send(&self, value: T) -> Result<(), T> {
            let sent = self.inner().send(value).map_err(|error| error.0);
            self.changed.notify_waiters();
            sent
        }

        /// As tokio's.
        pub async fn closed(&self) {
            self.inner().closed().await;
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Sender<T> {
            Sender {
                inner: self.inner.clone(),
                changed: self.changed.clone(),
            }
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.inner = None;
            self.changed.notify_waiters();
        }
    }

    impl<T> Receiver<T> {
        /// As tokio's.
        pub fn borrow(&self) -> Ref<'_, T> {
            self.inner.borrow()
        }

        /// As tokio's.
        pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
            self.inner.borrow_and_update()
        }

        /// As tokio's.
        pub async fn changed(&mut self) -> Result<(), RecvError> {
            loop {
                let changed = self.changed.notified();
                if self.inner.borrow().has_changed() {
                    self.inner.mark_unchanged();
                    return Ok(());
                }
                if self.inner.has_changed().is_err() {
                    // With the error that only it can make.
                    return self.inner.changed().await;
                }
                changed.await;
            }
        }

        /// As tokio's.
        pub async fn wait_for(
            &mut self,
            mut holds: impl FnMut(&T) -> bool,
        ) -> Result<Ref<'_, T>, RecvError> {
            loop {
                if holds(&self.inner.borrow_and_update()) {
                    return Ok(self.inner.borrow());
                }
                self.changed().await?;
            }
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Receiver<T> {
            Receiver {
                inner: self.inner.clone(),
                changed: self.changed.clone(),
            }
        }
    }
}
