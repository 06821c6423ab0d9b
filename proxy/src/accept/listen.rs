//! Binding: one socket a worker on the same address, and a port in use is told with its flag.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::ListenKind;

/// Connections that may wait to be accepted, for each worker.
const BACKLOG: i32 = 4096;

/// An address to listen on.
#[derive(Debug, Clone, Copy)]
pub struct ListenSpec {
    /// Where; port 0 picks a free one.
    pub address: SocketAddr,
    /// What for.
    pub kind: ListenKind,
    /// The flag that says so, for errors.
    pub flag: &'static str,
}

/// Sockets on one address.
#[derive(Debug)]
pub struct Bound {
    /// Where, with the port that was chosen.
    pub address: SocketAddr,
    /// What for.
    pub kind: ListenKind,
    /// One for each worker.
    pub sockets: Vec<TcpListener>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: cannot listen at {address}: {why}")]
pub struct BindError {
    /// The flag.
    pub flag: &'static str,
    /// The address.
    pub address: SocketAddr,
    why: String,
    #[source]
    source: io::Error,
}

/// Binds one socket for each of `workers` on the address.
///
/// # Errors
/// Names the flag and what to do. A port that any other process uses is an error, even one that would share it.
pub fn bind(spec: &ListenSpec, workers: usize) -> Result<Bound, BindError> {
    let error = |source: io::Error| BindError {
        flag: spec.flag,
        address: spec.address,
        why: advice(&source),
        source,
    };
    // SO_REUSEPORT would silently share a port with another process of the same user; a plain bind does not.
    let address = probe(spec.address).map_err(error)?;
    let sockets =
        (0..workers.max(1)).map(|_| shared(address)).collect::<io::Result<Vec<_>>>().map_err(error)?;
    Ok(Bound { address, kind: spec.kind, sockets })
}

fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = new_socket(address)?;
    socket.bind(&address.into())?;
    // Only a listening socket collides with one that listens.
    socket.listen(1)?;
    local(&socket)
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a former process in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 as well, any other address only its own kind.
        socket.set_only_v6(address.ip() != IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED))?;
    }
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no IP address"))
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use; stop what listens there or choose another (port 0 picks a free one)"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "no permission; ports below 1024 need CAP_NET_BIND_SERVICE, choose a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have the address; see `ip address`".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: SocketAddr) -> ListenSpec {
        ListenSpec { address, kind: ListenKind::CaptureInbound, flag: "--inbound" }
    }

    #[test]
    fn every_worker_has_a_socket_on_the_port_that_was_picked() {
        let bound = bind(&spec("127.0.0.1:0".parse().unwrap()), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        assert_eq!(bound.sockets.len(), 3);
        assert!(bound.sockets.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
    }

    #[test]
    fn a_port_in_use_is_told_even_when_it_would_be_shared() {
        let first = bind(&spec("127.0.0.1:0".parse().unwrap()), 1).unwrap();
        let error = bind(&spec(first.address), 1).unwrap_err().to_string();
        assert!(error.contains("--inbound") && error.contains("in use"), "{error}");
    }

    #[test]
    fn an_address_of_another_host_is_told() {
        let error = bind(&spec("192.0.2.1:1".parse().unwrap()), 1).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:1") && error.contains("does not have the address"), "{error}");
    }
}
