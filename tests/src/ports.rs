//! Addresses that no other test uses, so that tests run in parallel with fixed, readable ports.
//!
//! Linux answers on all of 127.0.0.0/8. A test claims one /24 of it and may then use any port on any of its hosts:
//! `reviews` on 127.40.7.2:9080, `ratings` on 127.40.7.3:9080. 127.0.0.0/16 stays free for people and for the README.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Second octets that are claimed from, which leaves 127.0 and 127.1 to documentation and examples.
const SECOND_OCTETS: std::ops::RangeInclusive<u8> = 16..=239;
/// The host of a subnet whose UDP port stands for the claim. Tests get the hosts below it.
const CLAIM_HOST: u8 = 254;
/// The UDP port that is held while a subnet is claimed.
const CLAIM_PORT: u16 = 10_009;
/// How many subnets are tried before giving up; of 57,344 only a handful is ever in use.
const CLAIM_ATTEMPTS: u32 = 4096;

/// A /24 of the loopback network that belongs to one test until it is dropped, across processes as well.
#[derive(Debug)]
pub struct Subnet {
    prefix: [u8; 3],
    /// Held, never read: that it is bound is the claim.
    _claim: UdpSocket,
}

impl Subnet {
    /// Claims a subnet that nobody else has.
    ///
    /// # Panics
    /// When none can be had, which means that this machine lets nobody bind loopback addresses.
    #[must_use]
    pub fn claim() -> Self {
        let start = std::process::id().wrapping_mul(0x9E37_79B9);
        let mut last = None;
        for attempt in 0..CLAIM_ATTEMPTS {
            let prefix = candidate(start.wrapping_add(attempt));
            match hold(prefix) {
                Ok(claim) => return Self { prefix, _claim: claim },
                Err(error) => last = Some(error),
            }
        }
        panic!("no loopback subnet could be claimed in {CLAIM_ATTEMPTS} attempts: {last:?}")
    }

    /// The address of host `number`.
    ///
    /// # Panics
    /// When `number` is not in 1..=253.
    #[must_use]
    pub fn host(&self, number: u8) -> Ipv4Addr {
        assert!((1..CLAIM_HOST).contains(&number), "a host of a test subnet is in 1..=253, not {number}");
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, number)
    }

    /// The address of `port` on host `number`.
    ///
    /// # Panics
    /// As [`Subnet::host`].
    #[must_use]
    pub fn address(&self, number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.host(number)), port)
    }
}

/// A port on 127.0.0.1 that was free a moment ago.
///
/// Something else may take it before the test does; where the listener itself can choose, give it port 0, and where
/// the port has to be known beforehand, prefer a [`Subnet`].
///
/// # Panics
/// When 127.0.0.1 has no free port.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}

fn candidate(number: u32) -> [u8; 3] {
    let span = u32::from(SECOND_OCTETS.end() - SECOND_OCTETS.start()) + 1;
    let [.., low] = number.to_be_bytes();
    let second = (number >> 8) % span;
    // The remainder is below 224, so it fits.
    [127, SECOND_OCTETS.start() + u8::try_from(second).unwrap_or_default(), low]
}

fn hold([a, b, c]: [u8; 3]) -> io::Result<UdpSocket> {
    let host = Ipv4Addr::new(a, b, c, CLAIM_HOST);
    UdpSocket::bind((host, CLAIM_PORT))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_tests_get_the_same_subnet() {
        let subnets: Vec<_> = (0..64).map(|_| Subnet::claim()).collect();
        let distinct: HashSet<_> = subnets.iter().map(|subnet| subnet.prefix).collect();
        assert_eq!(distinct.len(), subnets.len());
    }

    #[test]
    fn a_subnet_is_loopback_and_can_be_listened_on() {
        let subnet = Subnet::claim();
        assert!(subnet.host(1).is_loopback());
        let _first = TcpListener::bind(subnet.address(1, 9080)).unwrap();
        let _second = TcpListener::bind(subnet.address(2, 9080)).unwrap();
    }

    #[test]
    fn every_candidate_leaves_the_documented_addresses_alone() {
        for number in (0..=u32::MAX).step_by(65_521) {
            let [first, second, _] = candidate(number);
            assert_eq!(first, 127);
            assert!(SECOND_OCTETS.contains(&second), "127.{second}");
        }
    }

    #[test]
    fn a_free_port_can_be_bound() {
        TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    }
}
