//! The root of a mesh is exchanged twice under load, with certificates that live for half a minute and a sidecar that is cut
//! off from its control plane for a while: nobody notices.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Version;
use outrigger_tests::client::Client;
use outrigger_tests::counterparts;
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use outrigger_tests::town::{
    PATIENCE, PORT, ask, backend_policy, inbound, mesh_config, meshed, metric, outbound, service,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// Where the application listens.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Clients, each of which asks once in [`EVERY`]: together a thousand times a second.
const CLIENTS: usize = 50;
const EVERY: Duration = Duration::from_millis(50);
/// So few requests a second would be no load.
const LEAST_RATE: f64 = 200.0;
/// How long one exchange of the root may take.
const ROTATED_WITHIN: Duration = Duration::from_secs(180);

/// The only way to the control plane for one sidecar; it can be cut.
struct Link {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Link {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let (address, is_open) = (listener.local_addr().unwrap(), watch::Sender::new(true));
        let opened = is_open.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target, opened.subscribe()));
            }
        });
        Self { address, is_open }
    }
}

/// Ends with the connection, or when the link is cut.
async fn carry(mut near: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    if !*open.borrow_and_update() {
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

/// What became of the requests.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    failed: AtomicU64,
    first_failure: std::sync::Mutex<Option<String>>,
    is_over: AtomicBool,
}

impl Tally {
    fn failed(&self, why: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.first_failure.lock().unwrap().get_or_insert(why);
    }
}

/// One client: over a connection that it keeps, until the tally is over.
async fn ask_again_and_again(entrance: SocketAddr, tally: Arc<Tally>) {
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept: Option<Client> = None;
    while !tally.is_over.load(Ordering::Relaxed) {
        clock.tick().await;
        let mut client = match kept.take() {
            Some(client) => client,
            None => match Client::connect(entrance, Version::HTTP_11).await {
                Ok(client) => client,
                Err(error) => {
                    tally.failed(format!("{error:#}"));
                    continue;
                }
            },
        };
        match client.get("/").await {
            Ok(answer) if answer.status.as_u16() == 200 => {
                tally.answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") != "close" {
                    kept = Some(client);
                }
            }
            Ok(answer) => tally.failed(format!("{}: {}", answer.status, answer.reason())),
            Err(error) => tally.failed(format!("{error:#}")),
        }
    }
}

/// A control plane whose certificates live for 30 s, and a pair of sidecars that make new connections all the time.
struct Changing {
    entrance: SocketAddr,
    link: Link,
    web: Process,
    reviews: Process,
    _origin: Origin,
    control_plane: Process,
    mesh: Mesh,
    _subnet: Subnet,
}

impl Changing {
    async fn start() -> Self {
        let (subnet, mesh) = (Subnet::claim(), Mesh::new().unwrap());
        let origin = Origin::start("reviews", ANY).await.unwrap();
        let (entrance, at) = (subnet.address(1, 9001), subnet.address(2, PORT));
        let town = service("reviews", "http") + &meshed("reviews-1", "reviews", at);
        let young = backend_policy("reviews", "connection: {maxLifetime: 1s}");
        mesh.write("mesh.yaml", &(mesh_config("Strict") + &town + &young)).unwrap();
        let flags = ["--certificate-ttl=30s", "--shortest-certificate-ttl=30s"];
        let control_plane = Program::of_workspace("outrigger").args(mesh.control_plane_args()).args(flags);
        let control_plane = control_plane.start_ready(READY_WITHIN).await.unwrap();
        let xds = control_plane.address("/xds").unwrap();
        let link = Link::to(xds).await;
        let reviews = mesh.sidecar(xds, "shop", "reviews").await.unwrap();
        let reviews = reviews.args([inbound(at, origin.address())]).start_ready(READY_WITHIN).await.unwrap();
        let web = mesh.sidecar(link.address, "shop", "web").await.unwrap();
        let web = web.args([outbound(entrance, "reviews")]).start_ready(READY_WITHIN).await.unwrap();
        Self { entrance, link, web, reviews, _origin: origin, control_plane, mesh, _subnet: subnet }
    }

    fn rotation(&self) -> Process {
        let http = self.control_plane.address("/http").unwrap().to_string();
        let command =
            Program::of_workspace("outrigger").args(["certs", "rotate-root", "--http", &http, "--data"]);
        command.args([self.mesh.data()]).start().unwrap()
    }

    /// The one root that both sidecars trust, once there is only one.
    async fn only_root(&self) -> String {
        let found = eventually(PATIENCE, async || {
            let mut roots = Vec::new();
            for sidecar in [&self.web, &self.reviews] {
                let shown: Value = ask(sidecar, "/admin", "/certs").await.unwrap();
                roots.push(shown["root_sha256"].clone());
            }
            let one = roots[0].as_array().filter(|all| all.len() == 1)?[0].as_str()?.to_owned();
            (roots[0] == roots[1]).then_some(one)
        });
        found.await.unwrap_or_else(|| panic!("{}{}", self.web.stderr(), self.reviews.stderr()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_exchanged_twice_under_load_and_no_request_fails() {
    if !counterparts::slow_tests_wanted() {
        return;
    }
    let changing = Changing::start().await;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask_again_and_again(changing.entrance, tally.clone()));
    }
    let (begun, first) = (Instant::now(), changing.only_root().await);

    // Nothing is signed by a root that one who is away does not know yet.
    changing.link.is_open.send_replace(false);
    let mut rotation = changing.rotation();
    let named = eventually(PATIENCE, async || rotation.stdout().contains("web").then_some(())).await;
    assert!(named.is_some(), "who is cut off is not named: {}{}", rotation.stdout(), rotation.stderr());
    changing.link.is_open.send_replace(true);
    assert_eq!(rotation.wait_exit(ROTATED_WITHIN).await.unwrap(), 0, "{}", rotation.stderr());
    let second = changing.only_root().await;
    let mut rotation = changing.rotation();
    assert_eq!(rotation.wait_exit(ROTATED_WITHIN).await.unwrap(), 0, "{}", rotation.stderr());
    let third = changing.only_root().await;
    assert!(first != second && second != third && first != third, "{first} {second} {third}");

    tally.is_over.store(true, Ordering::Relaxed);
    clients.join_all().await;
    let answered = tally.answered.load(Ordering::Relaxed);
    let rate = answered as f64 / begun.elapsed().as_secs_f64();
    eprintln!("two exchanges of the root took {:?} at {rate:.0} requests a second", begun.elapsed());
    let failed = tally.failed.load(Ordering::Relaxed);
    let why = tally.first_failure.lock().unwrap().clone();
    assert_eq!(failed, 0, "of {answered}; the first: {why:?}\n{}", changing.web.stderr());
    assert!(rate > LEAST_RATE, "{rate} requests a second are no load");
    let handshakes =
        metric(&changing.reviews, "/metrics", "outrigger_requests_total", &["security=\"mtls\""]);
    assert!(handshakes.await.unwrap() >= answered as f64, "something went in plaintext");
}
