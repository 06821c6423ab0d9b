//! Addresses that have to be known before their owner listens, because configuration names them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// Any free port of the loopback address.
pub(super) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The port of everything in a block.
const PORT: u16 = 9080;
/// Blocks that are tried before giving up.
const BLOCKS_TRIED: u32 = 50;
/// Second octets that blocks are taken from: above what people and tests use.
const SECOND_OCTETS: (u8, u8) = (240, 14);

/// Addresses of `N` endpoints with a port that nobody has, on loopback addresses that nobody else uses.
pub(super) fn endpoints<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut seed = std::process::id();
    for _ in 0..BLOCKS_TRIED {
        // A step of a linear congruential generator (Numerical Recipes): spreads neighbouring process ids.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, b, c, _] = seed.to_be_bytes();
        let (first, count) = SECOND_OCTETS;
        let block = std::array::from_fn(|i| {
            // N is a handful; a block has 250 hosts.
            SocketAddr::from((Ipv4Addr::new(127, first + b % count, c, i as u8 + 1), PORT))
        });
        if block.iter().all(|address: &SocketAddr| TcpListener::bind(address).is_ok()) {
            return Ok(block);
        }
    }
    bail!(
        "no free loopback addresses: 127.x.y.1 to 127.x.y.{N} with port {PORT} are needed, for x from 240 to 253"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_can_be_listened_at_and_is_not_given_twice() {
        let first: [SocketAddr; 2] = endpoints().unwrap();
        let _held = first.map(|address| TcpListener::bind(address).unwrap());
        let second: [SocketAddr; 2] = endpoints().unwrap();
        assert!(first[0] != first[1] && second.iter().all(|address| !first.contains(address)));
    }
}
