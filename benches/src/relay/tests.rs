//! The relay between ends in one process: bytes both ways, ends, back pressure.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A relay on a thread of its own; it ends with this.
struct Started {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Started {
    fn new(joint: Joint, to: SocketAddr) -> Self {
        let listener = poll::listen(ANY).unwrap();
        let address = poll::local_address(&listener).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let mut relay = Relay::new(listener, to, joint).unwrap();
            while !ends.load(Ordering::Relaxed) {
                relay.turn(Some(Duration::from_millis(1))).unwrap();
            }
            relay.pairs.iter().flatten().count()
        });
        Self { address, over, thread: Some(thread) }
    }

    /// Ends it; how many connections it still had.
    fn left(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().unwrap())
    }
}

/// One relay, and two with TLS between them, each with what sends to them first.
fn chains(to: SocketAddr) -> [Vec<Started>; 2] {
    let data = tempfile::tempdir().unwrap();
    let joint = |side| Joint::build(Some(side), Some(data.path())).unwrap();
    let far = Started::new(joint(Side::Downstream), to);
    let near = Started::new(joint(Side::Upstream), far.address);
    [vec![Started::new(Joint::Plain, to)], vec![near, far]]
}

#[test]
fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let origin = TcpListener::bind(ANY).unwrap();
    for chain in chains(origin.local_addr().unwrap()) {
        let mut client = TcpStream::connect(chain[0].address).unwrap();
        client.write_all(b"ping").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut served, _) = origin.accept().unwrap();
        let mut asked = String::new();
        served.read_to_string(&mut asked).unwrap();
        served.write_all(b"pong").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("ping", "pong"));
        drop(client);
    }
}

#[test]
fn nothing_is_lost_when_somebody_reads_slowly() {
    // More than sockets hold, so that a relay has to wait in the middle of it.
    const BYTES: usize = 32 * 1024 * 1024;
    let origin = TcpListener::bind(ANY).unwrap();
    for chain in chains(origin.local_addr().unwrap()) {
        let mut client = TcpStream::connect(chain[0].address).unwrap();
        let (mut served, _) = origin.accept().unwrap();
        let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let sender = std::thread::spawn(move || served.write_all(&sent));
        let mut received = Vec::new();
        // Whoever sends has to stop before anything is read.
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.read_to_end(&mut received).unwrap();
        sender.join().unwrap().unwrap();
        assert!(received == expected, "{} of {BYTES} bytes came as they were sent", received.len());
    }
}

#[test]
fn a_connection_that_is_over_is_forgotten_and_a_lost_one_ends_the_other_side() {
    let origin = TcpListener::bind(ANY).unwrap();
    for chain in chains(origin.local_addr().unwrap()) {
        for _ in 0..3 {
            let mut client = TcpStream::connect(chain[0].address).unwrap();
            client.write_all(b"x").unwrap();
            let (mut served, _) = origin.accept().unwrap();
            served.read_exact(&mut [0; 1]).unwrap();
            drop(client);
            assert_eq!(served.read(&mut [0; 1]).unwrap(), 0);
        }
        // The origin's end is closed now, too, and every relay of the chain sees it.
        let mut last = TcpStream::connect(chain[0].address).unwrap();
        last.write_all(b"x").unwrap();
        let (mut served, _) = origin.accept().unwrap();
        served.read_exact(&mut [0; 1]).unwrap();
        assert!(chain.into_iter().all(|relay| relay.left() <= 2));
    }
}

#[test]
fn who_is_not_of_the_mesh_is_not_relayed() {
    let origin = TcpListener::bind(ANY).unwrap();
    let data = tempfile::tempdir().unwrap();
    let joint = Joint::build(Some(Side::Downstream), Some(data.path())).unwrap();
    let relay = Started::new(joint, origin.local_addr().unwrap());
    let mut client = TcpStream::connect(relay.address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let (mut served, _) = origin.accept().unwrap();
    let mut asked = Vec::new();
    // Closed without a byte.
    served.read_to_end(&mut asked).unwrap();
    assert!(asked.is_empty());
}
