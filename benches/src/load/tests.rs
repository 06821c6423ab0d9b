//! Each load against each origin, in process; and against origins that do it wrong.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::*;
use crate::origin::Server;
use crate::origin::talk::{Bulk, Echo, Http1, Http2, Talk};
use crate::poll;
use crate::wire;
use crate::wire::http2::fields;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const DATE: &str = "Sat, 21 Nov 2026 10:00:00 GMT";

/// An origin on a thread of its own; it ends with this.
struct Origin {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// `prepare` makes what begins with each connection.
    fn start<T: Talk, M: Fn() -> T>(prepare: impl FnOnce() -> M + Send + 'static) -> Self {
        let listener = poll::listen(ANY).unwrap();
        let address = poll::local_address(&listener).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let talk = prepare();
            let mut server = Server::new(vec![listener]).unwrap();
            while !ends.load(Ordering::Relaxed) {
                server.turn(Some(Duration::from_millis(1)), &talk).unwrap();
            }
        });
        Self { address, over, thread: Some(thread) }
    }

    fn speaking(way: Way, bytes: usize) -> Self {
        match way {
            Way::Http1 | Way::Fresh | Way::Open => Self::start(move || {
                let answer: Rc<[u8]> = wire::http1::answer(bytes).into();
                move || Http1::new(answer.clone())
            }),
            Way::Http2 => Self::start(move || {
                let answer = Rc::new(fields::answer(bytes, DATE));
                move || Http2::new(answer.clone(), bytes)
            }),
            Way::Grpc => Self::start(move || {
                let answer = Rc::new(fields::reply(bytes, DATE));
                move || Http2::new(answer.clone(), bytes)
            }),
            Way::Bulk => Self::start(|| {
                let bytes = Bulk::prepare();
                move || Bulk::new(bytes.clone())
            }),
            Way::Echo => Self::start(|| Echo::default),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn args(way: Way, target: SocketAddr, body_bytes: usize) -> Args {
    let (path, host) = ("/items/17?view=full".to_owned(), "origin.bench".to_owned());
    let streams = if matches!(way, Way::Http2 | Way::Grpc) { 100 } else { 1 };
    let (warmup, measured) = (Duration::from_millis(20), Duration::from_millis(80));
    Args { target, way, host, path, body_bytes, connections: 8, streams, per_second: 2000, warmup, measured }
}

const WAYS: [(Way, usize); 9] = [
    (Way::Http1, 1024),
    (Way::Http1, 300_000),
    (Way::Http1, 0),
    (Way::Fresh, 1024),
    (Way::Http2, 128),
    (Way::Grpc, 133),
    (Way::Open, 1024),
    (Way::Bulk, 0),
    (Way::Echo, 0),
];

/// On a machine that is busy the measured time may pass without anything in it.
const ATTEMPTS: usize = 20;

#[test]
fn every_load_is_answered_by_its_origin() {
    for (way, bytes) in WAYS {
        let origin = Origin::speaking(way, bytes);
        let counted = (0..ATTEMPTS).find_map(|_| {
            let mut said = Vec::new();
            let answered = run(&args(way, origin.address, bytes), |line| {
                said.push(line.to_owned());
                Ok(())
            });
            let answered = answered.unwrap_or_else(|error| panic!("{way:?}: {error:#}"));
            assert_eq!(said, [BEGIN, END], "{way:?}");
            (answered.requests + answered.bytes > 0).then_some(answered)
        });
        let answered = counted.unwrap_or_else(|| panic!("{way:?}: nothing came in the measured time"));
        assert_eq!(answered.requests == 0, way == Way::Bulk, "{way:?}: {answered:?}");
        assert_eq!(answered.bytes == 0, bytes == 0 && way == Way::Http1, "{way:?}: {answered:?}");
        assert!(way == Way::Bulk || answered.p999_us >= answered.p50_us && answered.p50_us > 0.0);
    }
}

#[test]
fn a_fixed_rate_is_kept() {
    let origin = Origin::speaking(Way::Open, 64);
    let answered = run(&args(Way::Open, origin.address, 64), |_| Ok(())).unwrap();
    // One each half millisecond of the 80, wherever the first is.
    assert!((159..=161).contains(&answered.requests), "{answered:?}");
}

#[test]
fn a_probe_asks_once_and_is_enough_to_see_an_error() {
    for (way, bytes) in WAYS {
        let origin = Origin::speaking(way, bytes);
        run(&args(way, origin.address, bytes).probe(), |_| Ok(())).unwrap();
        if bytes > 0 {
            assert!(run(&args(way, origin.address, bytes + 1).probe(), |_| Ok(())).is_err(), "{way:?}");
        }
    }
}

#[test]
fn nobody_at_the_address_is_an_error() {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for (way, bytes) in WAYS {
        let error = run(&args(way, address, bytes), |_| Ok(())).expect_err("nobody answers");
        assert!(format!("{error:#}").contains("refused"), "{way:?}: {error:#}");
    }
}

/// Says these one after the other to everybody, each when it was sent something, and closes.
fn says(answers: Vec<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind(ANY).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            for answer in &answers {
                // Who asks may be gone by now: its first error has ended it.
                let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer));
            }
            let _ = linger(stream);
        }
    });
    address
}

/// Reads until the other end is done, so that closing is no reset.
fn linger(mut stream: TcpStream) -> std::io::Result<u64> {
    stream.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut stream, &mut std::io::sink())
}

#[test]
fn a_wrong_origin_is_an_error() {
    let status = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 128\r\n\r\nonly this";
    let unasked = [wire::http1::answer(128), b"HTTP/1.1 200 OK\r\n".to_vec()].concat().leak();
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    // Answers to stream 1: status 404, one byte and no more, ...
    let not_found = b"\0\0\x01\x01\x05\0\0\0\x01\x8d";
    let short = b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x01\0\x01\0\0\0\x01x";
    let reset = b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
    let away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
    let few = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x63";
    let cases: [(Way, &'static [u8], &str); 13] = [
        (Way::Http1, status, "503"),
        (Way::Fresh, status, "503"),
        (Way::Open, status, "503"),
        (Way::Http1, cut, "closed in an answer"),
        (Way::Http1, unasked, "more came than one answer"),
        (Way::Http1, b"", "closed before an answer came"),
        (Way::Http2, not_found, "8d, not with status 200"),
        (Way::Http2, short, "1 bytes instead of 128"),
        (Way::Http2, reset, "reset with code 8"),
        (Way::Grpc, away, "code 11"),
        (Way::Http2, few, "99 streams at a time"),
        (Way::Bulk, b"xxy", "not what the origin sends"),
        (Way::Echo, b"outrigger-bencX", "not what was sent"),
    ];
    for (way, answer, expected) in cases {
        let answers = match way {
            // Nothing follows, but the connection stays until whoever asks has had enough.
            Way::Http2 if answer == few => vec![answer, b""],
            Way::Http2 | Way::Grpc => vec![settings.as_slice(), answer],
            _ => vec![answer],
        };
        let args = Args { connections: 1, ..args(way, says(answers), 128) };
        // A probe has one stream: what is said about more of them is only seen in earnest.
        let error = run(&args, |_| Ok(())).expect_err(expected);
        assert!(format!("{error:#}").contains(expected), "{way:?} says {error:#}");
    }
}

#[test]
fn flags_say_the_same_as_arguments() {
    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    for scenario in Scenario::ALL {
        let times = (Duration::from_millis(300), Duration::from_millis(1500));
        let Some(args) = Args::of(scenario, ANY, "origin.bench", times) else { continue };
        let line = std::iter::once("load".to_owned()).chain(args.flags());
        let read = <Line as clap::Parser>::try_parse_from(line).unwrap().args;
        assert_eq!(format!("{read:?}"), format!("{args:?}"));
    }
}
