//! Who may come in: connections counted in all and by address, and those turned away told why.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Most connections that are being told why they are turned away; others are just closed.
const PARTING_MAX: usize = 64;
/// Longest time for that.
const PARTING: Duration = Duration::from_secs(1);
/// Most that is read from a client that is turned away: closing with unread bytes would reset what it was told.
pub(super) const PARTING_LEN_MAX: usize = 2 << 20;

/// What a listener refuses before there is a request to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many connections as there may be.
    Connections(usize),
    /// There are as many from this address.
    Address(IpAddr, usize),
    /// The head of a request cannot be read; the status the HTTP library gave it.
    Head(StatusCode),
}

/// Makes the bytes of an answer that refuses; the connection is closed after it.
pub type Refuse = Arc<dyn Fn(Refused) -> Bytes + Send + Sync>;

/// Counts connections.
#[derive(Debug)]
pub(super) struct Door {
    free: Arc<Semaphore>,
    max: usize,
    address_max: usize,
    here: Mutex<HashMap<IpAddr, usize>>,
    parting: Arc<Semaphore>,
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    door: Arc<Door>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn new(max: usize, address_max: usize) -> Arc<Door> {
        Arc::new(Door {
            free: Arc::new(Semaphore::new(max)),
            max,
            address_max,
            here: Mutex::default(),
            parting: Arc::new(Semaphore::new(PARTING_MAX)),
        })
    }

    fn here(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`, unless there are too many.
    pub(super) fn enter(self: &Arc<Door>, address: IpAddr) -> Result<Slot, Refused> {
        let address = neighbourhood(address);
        let mut here = self.here();
        let count = here.get(&address).copied().unwrap_or(0);
        if count >= self.address_max {
            return Err(Refused::Address(address, self.address_max));
        }
        let permit = self.free.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Refused::Connections(self.max))?;
        here.insert(address, count + 1);
        Ok(Slot {
            door: self.clone(),
            address,
            _permit: permit,
        })
    }

    /// Whether places are getting few: then who does nothing has to go sooner.
    pub(super) fn is_pressed(&self) -> bool {
        self.free.available_permits() < self.max.div_ceil(8)
    }

    /// Tells a client why it may not come in, in a task of its own.
    pub(super) fn turn_away(&self, mut stream: TcpStream, why: Bytes) {
        let Ok(place) = self.parting.clone().try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let farewell = async {
                stream.write_all(&why).await?;
                stream.shutdown().await?;
                let mut rest = stream.take(PARTING_LEN_MAX as u64);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
            };
            // Whether it listened is its own affair.
            let _ = timeout(PARTING, farewell).await;
            drop(place);
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut here = self.door.here();
        match here.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(here.remove(&self.address)),
        }
    }
}

/// What counts as one address: of IPv6 a network of 2^64, which is what one client is given.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn connections_are_let_in_up_to_both_limits() {
        let door = Door::new(3, 2);
        let one = door.enter(address(1)).unwrap();
        let _two = door.enter(address(1)).unwrap();
        let by_address = door.enter(address(1)).unwrap_err();
        assert_eq!(by_address, Refused::Address(address(1), 2));
        let _three = door.enter(address(2)).unwrap();
        assert_eq!(door.enter(address(3)).unwrap_err(), Refused::Connections(3));
        drop(one);
        door.enter(address(1)).unwrap();
    }

    #[test]
    fn who_left_is_forgotten() {
        let door = Door::new(2, 2);
        for last in 0..100 {
            drop(door.enter(address(last)).unwrap());
        }
        assert!(door.here().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let door = Door::new(9, 1);
        let _one = door.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(door.enter("2001:db8::ffff:2".parse().unwrap()).is_err());
        assert!(door.enter("2001:db8:0:1::1".parse().unwrap()).is_ok());
        let _mapped = door.enter("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(door.enter(address(1)).is_err());
    }

    #[test]
    fn a_door_is_pressed_when_few_places_are_left() {
        let door = Door::new(16, 16);
        let mut slots: Vec<_> = (0..14).map(|_| door.enter(address(1)).unwrap()).collect();
        assert!(!door.is_pressed());
        slots.push(door.enter(address(1)).unwrap());
        assert!(door.is_pressed());
    }
}
