//! The lives of processes: what traffic notices when one of them starts, ends or is killed, and what a person is told
//! when one cannot start.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::Version;
use outrigger_tests::client::{self, Client, read_until};
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::{Origin, Relay, TcpEcho};
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Program, Signal};
use outrigger_tests::town::{
    NAMESPACE, PATIENCE, PORT, Town, http_route, inbound, mesh_config, meshed, metric, outbound, plain,
    resident_kib, service,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// A change is in force within this after the control plane has come back (issue 2).
const AFTER_RETURN: Duration = Duration::from_secs(2);
/// How often each of the clients of a [`Load`] sends a request.
const EACH: Duration = Duration::from_millis(16);
/// Clients of a [`Load`]: together about 500 requests a second.
const CLIENTS: usize = 8;

/// Clients of both versions that keep their connections and send requests at a fixed rate, until they are told to stop, or their server
/// takes no more connections.
struct Load {
    counts: Arc<Counts>,
    clients: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    answered: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn on(entrances: &[SocketAddr]) -> Self {
        let counts = Arc::<Counts>::default();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let version = if number < CLIENTS / 2 { Version::HTTP_11 } else { Version::HTTP_2 };
            clients.spawn(drive(entrances[number % entrances.len()], version, Arc::clone(&counts)));
        }
        Self { counts, clients }
    }

    fn answered(&self) -> u64 {
        self.counts.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests have been answered.
    async fn more(&self, requests: u64) {
        let until = self.answered() + requests;
        let came = eventually(PATIENCE, async || (self.answered() >= until).then_some(())).await;
        assert!(came.is_some(), "{} of {until} answers, failures: {:?}", self.answered(), self.failures());
    }

    fn failures(&self) -> Vec<String> {
        self.counts.failures.lock().unwrap().clone()
    }

    /// Stops and waits for the clients; what failed.
    async fn end(mut self) -> Vec<String> {
        self.counts.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.failures()
    }
}

async fn drive(entrance: SocketAddr, version: Version, counts: Arc<Counts>) {
    let mut pace = tokio::time::interval(EACH);
    let mut client = None;
    while !counts.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let mut connection = match client.take() {
            Some(connection) => connection,
            None => match Client::connect(entrance, version).await {
                Ok(connection) => connection,
                // Not accepted, so nothing was promised.
                Err(_) => return,
            },
        };
        match connection.get("/").await {
            Ok(answer) if answer.status.is_success() => {
                counts.answered.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") != "close" {
                    client = Some(connection);
                }
            }
            // Its next hop takes no more connections: nothing was accepted.
            Ok(answer) if answer.reason() == "connect_failed" => return,
            Ok(answer) => {
                let said = answer.header("x-outrigger-reason").to_owned();
                counts.failures.lock().unwrap().push(format!("{} {said}", answer.status));
            }
            Err(error) if Client::is_unsent(&error) => {}
            Err(error) => counts.failures.lock().unwrap().push(format!("{version:?}: {error:#}")),
        }
    }
}

/// The control plane of a mesh at this address, so that it can come back there.
fn control_plane(mesh: &Mesh, xds: SocketAddr) -> Program {
    let mut args = mesh.control_plane_args();
    let at = args.iter().position(|arg| arg == "--xds").unwrap();
    args[at + 1] = xds.to_string().into();
    Program::of_workspace("outrigger").args(args)
}

fn to(name: &str) -> String {
    http_route("files", &[format!("{{backendRefs: [{{name: {name}, port: {PORT}}}]}}")])
}

#[tokio::test]
async fn killing_the_control_plane_costs_no_request_and_its_return_brings_what_changed() {
    let (old, new) = (Origin::start("old", ANY).await.unwrap(), Origin::start("new", ANY).await.unwrap());
    let subnet = Subnet::claim();
    let (at_old, at_new, xds) =
        (subnet.address(2, PORT), subnet.address(3, PORT), subnet.address(250, 15010));
    let yaml = service("files", "http")
        + &meshed("files-1", "files", at_old)
        + &service("next", "http")
        + &meshed("next-1", "next", at_new);
    let mut town = Town::start(subnet, &yaml).await.unwrap();
    town.control_plane = control_plane(&town.mesh, xds).start_ready(READY_WITHIN).await.unwrap();
    let _files = town.sidecar("files", &[inbound(at_old, old.address())]).await.unwrap();
    let _next = town.sidecar("next", &[inbound(at_new, new.address())]).await.unwrap();
    let (web, entrance) = town.dialling(1, "files").await.unwrap();

    let load = Load::on(&[entrance]);
    load.more(200).await;
    town.control_plane.signal(Signal::Kill).unwrap();
    town.control_plane.wait_exit(PATIENCE).await.unwrap();
    town.rewrite(&(yaml + &to("next"))).unwrap();
    load.more(1500).await;
    assert_eq!(new.arrived(), 0, "nobody was there to bring the change");
    let ready = client::get(web.address("/health").unwrap(), "/healthz/ready").await.unwrap();
    assert_eq!(ready.status, 200, "what was in force stays in force");

    town.control_plane = control_plane(&town.mesh, xds).start_ready(READY_WITHIN).await.unwrap();
    let back = Instant::now();
    let moved = eventually(PATIENCE, async || (new.arrived() > 0).then_some(back.elapsed())).await;
    let moved = moved.expect("the change never arrives");
    load.more(200).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    assert!(moved < AFTER_RETURN, "the change was in force {moved:?} after the return");
}

#[tokio::test]
async fn a_sidecar_that_starts_first_is_ready_when_the_control_plane_comes() {
    let origin = Origin::start("files", ANY).await.unwrap();
    let subnet = Subnet::claim();
    let (xds, health) = (subnet.address(250, 15010), subnet.address(1, 15021));
    let mesh = Mesh::new().unwrap();
    mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
    mesh.write("town.yaml", &(service("files", "http") + &plain("files-1", "files", origin.address())))
        .unwrap();
    let token = mesh.token(NAMESPACE, "web").await.unwrap();
    let entrance = subnet.address(1, 9001);
    let web =
        proxy(xds, &token).args([outbound(entrance, "files"), format!("--health={health}")]).start().unwrap();
    let waiting =
        eventually(PATIENCE, async || client::get(health, "/healthz/ready").await.ok()).await.unwrap();
    assert_eq!(waiting.status, 503);
    assert!(String::from_utf8_lossy(&waiting.body).contains("control plane"), "{:?}", waiting.body);
    let alive = client::get(health, "/healthz/live").await.unwrap();
    assert_eq!(alive.status, 200, "waiting is no reason to be restarted");

    let _control_plane = control_plane(&mesh, xds).start_ready(READY_WITHIN).await.unwrap();
    let ready = eventually(PATIENCE, async || {
        let answer = client::get(health, "/healthz/ready").await.ok()?;
        answer.status.is_success().then_some(())
    });
    assert!(ready.await.is_some(), "{}", web.stderr());
    assert_eq!(client::get(entrance, "/").await.unwrap().origin(), "files");
}

#[tokio::test]
async fn a_sidecar_that_starts_again_while_the_control_plane_is_away_carries_on() {
    let origin = Origin::start("files", ANY).await.unwrap();
    let yaml = service("files", "http") + &plain("files-1", "files", origin.address());
    let town = Town::start(Subnet::claim(), &yaml).await.unwrap();
    let entrance = town.subnet.address(1, 9001);
    let state = town.mesh.path().join("state").display().to_string();
    let flags = [outbound(entrance, "files"), format!("--state-dir={state}")];
    let mut web = town.sidecar("web", &flags).await.unwrap();
    assert_eq!(client::get(entrance, "/").await.unwrap().origin(), "files");
    // What is in force is written down a moment later.
    let file = Path::new(&state).join("configuration");
    let written = eventually(PATIENCE, async || file.is_file().then_some(()));
    assert!(written.await.is_some(), "nothing is kept in --state-dir");
    town.control_plane.signal(Signal::Kill).unwrap();
    web.signal(Signal::Terminate).unwrap();
    assert_eq!(web.wait_exit(PATIENCE).await.unwrap(), 0);

    let again = town.program("web", &flags).await.unwrap().start().unwrap();
    let answered = eventually(PATIENCE, async || {
        let answer = client::get(entrance, "/").await.ok()?;
        (answer.origin() == "files").then_some(())
    });
    assert!(answered.await.is_some(), "{}", again.stderr());
}

/// A sidecar `web` of this control plane with free ports, but for `--health`.
fn proxy(xds: SocketAddr, token: &Path) -> Program {
    let program =
        Program::of_workspace("outrigger-proxy").args(["run", "--namespace", NAMESPACE, "--workload", "web"]);
    let program = program.args([
        "--service-account",
        "web",
        "--control-plane",
        &format!("http://{xds}"),
        "--token-file",
    ]);
    program.args([token]).args(["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
}

#[tokio::test]
async fn a_sidecar_that_ends_under_load_answers_what_it_accepted() {
    let ratings = Origin::start("ratings", ANY).await.unwrap();
    let subnet = Subnet::claim();
    let address = subnet.address(2, PORT);
    let yaml = service("web", "http")
        + &meshed("web-1", "web", address)
        + &service("ratings", "http")
        + &plain("ratings-1", "ratings", ratings.address());
    let town = Town::start(subnet, &yaml).await.unwrap();
    town.mesh.write("mesh.yaml", &mesh_config("Permissive")).unwrap();
    let (next, application) = (town.subnet.address(2, 9001), town.subnet.address(2, 8080));
    let _app = Relay::start(application, next).await.unwrap();
    let flags = [inbound(address, application), outbound(next, "ratings"), "--drain-timeout=10s".to_owned()];
    let mut web = town.sidecar("web", &flags).await.unwrap();
    let visitor = town.sidecar("visitor", &[outbound(town.subnet.address(1, 9001), "web")]).await.unwrap();

    let load = Load::on(&[address, visitor.address("/outbound/0").unwrap()]);
    load.more(600).await;
    let before = ratings.arrived();
    let began = Instant::now();
    web.signal(Signal::Terminate).unwrap();
    assert_eq!(web.wait_exit(PATIENCE).await.unwrap(), 0, "{}", web.stderr());
    let took = began.elapsed();
    let answered = load.answered();
    assert_eq!(load.end().await, Vec::<String>::new(), "failed while the sidecar ended in {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(answered > 700 && ratings.arrived() > before, "{answered} requests were answered");
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_the_drain_timeout() {
    let echo = TcpEcho::start(ANY, b"hello").await.unwrap();
    let subnet = Subnet::claim();
    let yaml = service("db", "tcp") + &plain("db-1", "db", echo.address());
    let town = Town::start(subnet, &yaml).await.unwrap();
    let entrance = town.subnet.address(1, 9001);
    let flags = [outbound(entrance, "db"), "--drain-timeout=2s".to_owned()];
    let mut web = town.sidecar("web", &flags).await.unwrap();
    let mut stream = TcpStream::connect(entrance).await.unwrap();
    read_until(&mut stream, "hello").await.unwrap();

    let began = Instant::now();
    web.signal(Signal::Terminate).unwrap();
    stream.write_all(b"still here").await.unwrap();
    assert_eq!(
        read_until(&mut stream, "still here").await.unwrap(),
        "still here",
        "it is left alone at first"
    );
    assert_eq!(web.wait_exit(PATIENCE).await.unwrap(), 0, "{}", web.stderr());
    let took = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&took), "{took:?}");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn the_memory_of_a_sidecar_does_not_grow_with_the_mesh() {
    const DIALLED: [&str; 3] = ["s0", "s1", "s2"];
    let origin = Origin::start("files", ANY).await.unwrap();
    let yaml = |services: usize| -> String {
        let each = (0..services).map(|number| {
            let name = format!("s{number}");
            let one = |at: u8| {
                plain(
                    &format!("{name}-{at}"),
                    &name,
                    SocketAddr::new([127, 0, 0, at].into(), origin.address().port()),
                )
            };
            service(&name, "http") + &(1..=5).map(one).collect::<String>()
        });
        each.collect()
    };
    let few = Town::start(Subnet::claim(), &yaml(10)).await.unwrap();
    let many = Town::start(Subnet::claim(), &yaml(2000)).await.unwrap();
    let mut measured = Vec::new();
    for town in [&few, &many] {
        let flags: Vec<String> =
            (1..).zip(DIALLED).map(|(host, name)| outbound(town.subnet.address(host, 9001), name)).collect();
        let mut samples = Vec::new();
        for _ in 0..3 {
            let web = town.sidecar("web", &flags).await.unwrap();
            for at in 0..DIALLED.len() {
                let entrance = web.address(&format!("/outbound/{at}")).unwrap();
                let mut client = Client::connect(entrance, Version::HTTP_11).await.unwrap();
                for _ in 0..50 {
                    client.get("/").await.unwrap();
                }
            }
            samples.push(resident_kib(&web).unwrap());
        }
        samples.sort_unstable();
        measured.push(samples[1]);
    }
    println!("RSS of a sidecar: {} KiB of 10 Services, {} KiB of 2,000", measured[0], measured[1]);
    assert!(measured[1] * 10 <= measured[0] * 11, "{measured:?} KiB");
}

#[tokio::test]
async fn a_token_that_proves_nothing_leaves_a_sidecar_waiting_and_is_counted() {
    let town = Town::start(Subnet::claim(), "").await.unwrap();
    let stranger = Mesh::new().unwrap();
    let forged = stranger.token(NAMESPACE, "web").await.unwrap();
    let expired = town.mesh.path().join("expired.token");
    let create = Program::of_workspace("outrigger")
        .args(["token", "create", "--ttl", "1s", "--data"])
        .args([town.mesh.data()]);
    let create = create.args(["--namespace", NAMESPACE, "--service-account", "web"]);
    std::fs::write(&expired, create.output(PATIENCE).await.unwrap()).unwrap();
    let made = Instant::now();
    let over = eventually(PATIENCE, async || (made.elapsed() > Duration::from_secs(2)).then_some(()));
    assert!(over.await.is_some(), "the life of the token, and the second it was made in, are over");
    let xds = town.control_plane.address("/xds").unwrap();
    for (host, token, reason) in [(1, &forged, "forged"), (2, &expired, "expired")] {
        let health = town.subnet.address(host, 15021);
        let web = proxy(xds, token).args([format!("--health={health}")]).start().unwrap();
        let counted = eventually(PATIENCE, async || {
            let label = format!("reason=\"{reason}\"");
            let name = "outrigger_control_plane_tokens_refused_total";
            let refused = metric(&town.control_plane, "/http", name, &[&label]).await.ok()?;
            (refused > 0.0).then_some(())
        });
        assert!(counted.await.is_some(), "{reason} is not counted: {}", web.stderr());
        let word = if reason == "forged" { "signature" } else { "expired" };
        let told = eventually(PATIENCE, async || web.stderr().contains(word).then_some(())).await;
        assert!(told.is_some(), "{reason}: {}", web.stderr());
        let ready =
            eventually(PATIENCE, async || client::get(health, "/healthz/ready").await.ok()).await.unwrap();
        assert_eq!(ready.status, 503, "{reason}: {:?}", ready.body);
    }
}

#[tokio::test]
async fn a_token_file_that_is_not_there_is_named() {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut web = proxy(nowhere, Path::new("/nowhere/web.token")).start().unwrap();
    assert_eq!(web.wait_exit(PATIENCE).await.unwrap(), 2);
    let written = web.stderr();
    assert!(written.contains("--token-file") && written.contains("/nowhere/web.token"), "{written}");
    assert_eq!(written.lines().count(), 1, "{written}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let mesh = Mesh::new().unwrap();
    let token = mesh.token(NAMESPACE, "web").await.unwrap();
    let listener = TcpListener::bind(ANY).await.unwrap();
    let taken = listener.local_addr().unwrap();
    let plane = |flag: &str, value: &str| {
        let mut args = mesh.control_plane_args();
        let at = args.iter().position(|arg| arg == flag).unwrap();
        args[at + 1] = value.into();
        Program::of_workspace("outrigger").args(args)
    };
    let sidecar = |flag: String| proxy(taken, &token).args([flag]);
    let port = taken.to_string();
    for (program, code, words) in [
        (Program::of_workspace("outrigger").args(["run"]), 2, ["--config DIR", "--kubernetes"]),
        (plane("--config", "/nowhere/at/all"), 1, ["--config", "/nowhere/at/all"]),
        (plane("--xds", &port), 1, ["--xds", &port]),
        (plane("--http", &port), 1, ["--http", &port]),
        (sidecar(inbound(taken, taken)), 1, ["--inbound", &port]),
        (sidecar(outbound(taken, "files")), 1, ["--outbound", &port]),
        (sidecar(format!("--health={taken}")), 1, ["--health", &port]),
        (sidecar("--inbound=9080".to_owned()), 2, ["--inbound", "listen=application"]),
        (Program::of_workspace("outrigger-proxy"), 2, ["--control-plane", "--workload"]),
    ] {
        let mut process = program.start().unwrap();
        let ended = process.wait_exit(PATIENCE).await.unwrap();
        let written = process.stderr();
        assert_eq!(ended, code, "{words:?}: {written}");
        let said: Vec<&str> = written.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(words.iter().all(|word| said.concat().contains(word)), "{words:?}: {written}");
        // What is wrong with a command line may come with the right one.
        assert!(said.len() == 1 || code == 2, "{words:?}: {written}");
    }
}
