//! What is written for a peer is what the real program accepts.

use std::env;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;

use super::super::hop::Wire;
use super::*;
use crate::descriptors;
use crate::scenario::Path;

/// Set when a program that is missing is a failure, as `cargo xtask test` does.
const REQUIRE: &str = "OUTRIGGER_REQUIRE_COUNTERPARTS";

/// A directory with certificates, and addresses that nobody listens at.
struct Site {
    dir: TempDir,
    certificates: [certificates::Certificates; 2],
    addresses: [SocketAddr; 3],
}

impl Site {
    fn new() -> Self {
        descriptors::allow_all().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let certificates = certificates::make(dir.path()).unwrap();
        Self { certificates, addresses: endpoints().unwrap(), dir }
    }

    fn place<'a>(&'a self, services: &'a [Service], between: &'a [Service]) -> Place<'a> {
        let (dir, [near, far, _]) = (self.dir.path(), self.addresses);
        Place { dir, near, far, certificates: &self.certificates, services, between }
    }

    fn service(&self, name: &str) -> Service {
        Service { name: name.to_owned(), endpoints: vec![self.addresses[2]; 2] }
    }

    /// What the real program says against the configuration of one process; nothing when it accepts it.
    fn complaint(&self, peer: Peer, hop: &Hop<'_>) -> Option<String> {
        let file = self.dir.path().join("checked.json");
        let config = peer.config(hop).unwrap();
        fs::write(&file, &config).unwrap();
        let mut command = Command::new(programs::find(peer).unwrap());
        command.args(peer.args(&file, self.dir.path()));
        match peer {
            Peer::Envoy => command.args(["--mode", "validate"]),
            Peer::Nginx => command.arg("-t"),
            Peer::Haproxy => command.arg("-c"),
        };
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_fine = output.status.success() && !said.contains("[warn]") && !said.contains("[WARNING]");
        (!is_fine)
            .then(|| format!("{peer:?}, {} of {:?}: {said}\n{config}", hop.name, hop.downstream.protocol))
    }
}

/// Whether the programs are there. When not: says on stderr, past the capture of the test harness, what is left out.
fn is_there(peers: &[Peer]) -> bool {
    let missing = peers.iter().filter_map(|peer| programs::find(*peer).err());
    let missing: Vec<String> =
        missing.chain(programs::nginx_stream_module().err()).map(|e| e.to_string()).collect();
    assert!(
        missing.is_empty() || env::var_os(REQUIRE).is_none(),
        "{REQUIRE} is set, and {}",
        missing.join("; ")
    );
    if !missing.is_empty() {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "left out: {test}: {}", missing.join("; "));
    }
    missing.is_empty()
}

#[test]
fn every_path_is_configured_so_that_the_real_program_accepts_it() {
    if !is_there(&Peer::ALL) {
        return;
    }
    let site = Site::new();
    let (services, between) = ([site.service("origin.bench")], [site.service("far.bench")]);
    for peer in Peer::ALL {
        for (path, protocol) in [
            (Path::OneHop, Protocol::Http1),
            (Path::OneHop, Protocol::Http2),
            (Path::OneHop, Protocol::Tcp),
            (Path::Pair, Protocol::Http1),
            (Path::Pair, Protocol::Grpc),
            (Path::Pair, Protocol::Tcp),
        ] {
            for hop in Hop::all(peer, (path, protocol), site.place(&services, &between)) {
                assert_eq!(site.complaint(peer, &hop), None);
            }
        }
    }
}

#[test]
fn a_large_mesh_is_configured_so_that_the_real_program_accepts_it() {
    if !is_there(&Peer::ALL) {
        return;
    }
    let site = Site::new();
    let services: Vec<Service> = (0..1000).map(|i| site.service(&format!("service-{i}.bench"))).collect();
    for peer in Peer::ALL {
        let hops = Hop::all(peer, (Path::OneHop, Protocol::Http1), site.place(&services, &[]));
        assert_eq!(hops.len(), 1);
        assert_eq!(site.complaint(peer, &hops[0]), None);
    }
}

#[test]
fn the_two_of_a_pair_speak_the_same_over_tls_and_plainly_elsewhere() {
    let site = Site::new();
    let (services, between) = ([site.service("origin.bench")], [site.service("far.bench")]);
    for (peer, middle) in
        [(Peer::Envoy, Protocol::Http2), (Peer::Haproxy, Protocol::Http2), (Peer::Nginx, Protocol::Http1)]
    {
        let hops = Hop::all(peer, (Path::Pair, Protocol::Http1), site.place(&services, &between));
        let [far, near] = hops.as_slice() else { panic!("a pair is two: {hops:?}") };
        let wire = |wire: Wire<'_>| (wire.protocol, wire.tls.is_some());
        assert_eq!((wire(near.downstream), wire(near.upstream)), ((Protocol::Http1, false), (middle, true)));
        assert_eq!((wire(far.downstream), wire(far.upstream)), ((middle, true), (Protocol::Http1, false)));
        assert_eq!((near.services, far.services), (&between[..], &services[..]));
    }
}
