//! Where a redirected connection was going (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST).

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address the client dialled.
///
/// # Errors
/// When the connection was not redirected: serving it would make the proxy call itself without end.
pub(super) fn of(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = canonical(stream.local_addr()?);
    let socket = SockRef::from(stream);
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = found.ok().and_then(|address| address.as_socket()).map(canonical);
    redirected(local, original)
}

fn redirected(local: SocketAddr, original: Option<SocketAddr>) -> io::Result<SocketAddr> {
    original.filter(|original| *original != local).ok_or_else(|| {
        io::Error::other(format!(
            "the connection to {local} was not redirected here, and is refused: it would loop"
        ))
    })
}

/// An IPv4 address as such, also where a socket for both families shows it mapped into IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
            None => SocketAddr::new(IpAddr::V6(v6), address.port()),
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_connection_to_the_proxy_itself_is_refused() {
        let local = at("10.0.0.1:15001");
        assert!(redirected(local, Some(local)).is_err());
        assert!(redirected(local, None).unwrap_err().to_string().contains("10.0.0.1:15001"));
        assert_eq!(redirected(local, Some(at("10.96.0.1:80"))).unwrap(), at("10.96.0.1:80"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(canonical(at("[::ffff:10.0.0.1]:80")), at("10.0.0.1:80"));
        assert_eq!(canonical(at("[fd00::1]:80")), at("[fd00::1]:80"));
    }
}
