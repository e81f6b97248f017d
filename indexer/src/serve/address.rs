//! How many connections an address has open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The open connections by address. An IPv6 client owns at least a /64 network, so that is what counts as its address.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    most: usize,
    // A std mutex, because it is never held across an await. As large as there are open connections.
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// A place for one more connection, unless the address has as many as it may.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut open = self.lock();
        let count = open.get(&address).copied().unwrap_or_default();
        if self.most <= count {
            return None;
        }
        open.insert(address, count + 1);
        drop(open);
        Some(Place { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Every critical section leaves the map whole, so a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.lock();
        let left = open.get(&self.address).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            open.remove(&self.address);
        } else {
            open.insert(self.address, left);
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address_and_nothing_is_kept_of_who_left() {
        let addresses = Addresses::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = addresses.admit(ip("2001:db8::1")).unwrap();
        let second = addresses.admit(ip("2001:db8::ffff:1")).unwrap();
        assert!(addresses.admit(ip("2001:db8::2")).is_none());
        assert!(addresses.admit(ip("2001:db8:0:1::1")).is_some());
        let mapped = addresses.admit(ip("::ffff:10.0.0.1")).unwrap();
        let plain = addresses.admit(ip("10.0.0.1")).unwrap();
        assert!(addresses.admit(ip("10.0.0.1")).is_none());
        drop(first);
        assert!(addresses.admit(ip("2001:db8::3")).is_some());
        drop((second, mapped, plain));
        assert!(addresses.lock().is_empty());
    }

    #[test]
    fn a_refusal_leaves_no_trace() {
        let addresses = Addresses::new(0);
        assert!(addresses.admit(IpAddr::from([10, 0, 0, 1])).is_none());
        assert!(addresses.lock().is_empty());
    }
}
