//! Addresses that have to be known before their owner listens, because configuration names them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Result, anyhow, bail, ensure};

/// Any free port of the loopback address.
pub(super) const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The port of everything in a block.
const PORT: u16 = 9080;
/// Blocks that are tried before giving up.
const BLOCKS_TRIED: u32 = 50;
/// Second octets that blocks are taken from: above what people and tests use.
const SECOND_OCTETS: (u8, u8) = (240, 14);

/// The most addresses of a block: all nets of a second octet.
const MAX_BLOCK: usize = 255 * HOSTS;
/// Hosts in the last octet that are used: neither 0 nor 255, which look like a network and a broadcast.
const HOSTS: usize = 250;

/// Addresses of `N` endpoints with a port that nobody has, on loopback addresses that nobody else uses.
pub(super) fn endpoints<const N: usize>() -> Result<[SocketAddr; N]> {
    let found = block(N)?;
    found.try_into().map_err(|found: Vec<SocketAddr>| anyhow!("{} addresses instead of {N}", found.len()))
}

/// As [`endpoints`], for a number that is known at run time: at most [`MAX_BLOCK`].
pub(super) fn block(number: usize) -> Result<Vec<SocketAddr>> {
    ensure!(number <= MAX_BLOCK, "{number} addresses are wanted, there are {MAX_BLOCK} in a block");
    let mut seed = std::process::id();
    for _ in 0..BLOCKS_TRIED {
        // A step of a linear congruential generator (Numerical Recipes): spreads neighbouring process ids.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let block = addresses(seed, number);
        if block.iter().all(|address| TcpListener::bind(address).is_ok()) {
            return Ok(block);
        }
    }
    bail!(
        "no {number} free loopback addresses side by side with port {PORT}: they are looked for from 127.240.0.1 to \
         127.253.255.250"
    )
}

/// The block that begins where `seed` says.
fn addresses(seed: u32, number: usize) -> Vec<SocketAddr> {
    let [_, b, c, _] = seed.to_be_bytes();
    let (first, count) = SECOND_OCTETS;
    let address = |place: usize| {
        // A block has fewer nets than an octet has values, and HOSTS is below 255: nothing is cut off.
        let (net, host) = ((place / HOSTS) as u8, (place % HOSTS) as u8);
        SocketAddr::from((Ipv4Addr::new(127, first + b % count, c.wrapping_add(net), host + 1), PORT))
    };
    (0..number).map(address).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_given_can_be_listened_at_and_is_not_given_twice() {
        let first: [SocketAddr; 2] = endpoints().unwrap();
        let _held = first.map(|address| TcpListener::bind(address).unwrap());
        let second: [SocketAddr; 2] = endpoints().unwrap();
        assert!(first[0] != first[1] && second.iter().all(|address| !first.contains(address)));
    }
    #[test]
    fn a_block_may_have_more_addresses_than_an_octet() {
        let block = block(600).unwrap();
        let different: BTreeSet<_> = block.iter().collect();
        assert_eq!((block.len(), different.len()), (600, 600));
        assert!(super::block(MAX_BLOCK + 1).is_err());
    }
}
