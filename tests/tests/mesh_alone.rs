//! Life without the control plane: sidecars that start while it is away, what they do not know, and how old they may get.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use outrigger_tests::client;
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::town::{
    NAMESPACE, PATIENCE, PORT, Town, ask, inbound, mesh_config, meshed, metric, outbound, service,
};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A sidecar that starts alone serves within a second; a debug build on a busy machine gets more.
const ALONE_WITHIN: Duration = Duration::from_secs(10);

/// The control plane of a mesh at this address, so that it can come back there.
fn control_plane(mesh: &Mesh, xds: SocketAddr) -> Program {
    let mut args = mesh.control_plane_args();
    let at = args.iter().position(|arg| arg == "--xds").unwrap();
    args[at + 1] = xds.to_string().into();
    Program::of_workspace("outrigger").args(args)
}

/// A Strict mesh in which `web` calls `files`, both with sidecars that keep their state.
struct Pair {
    origin: Origin,
    town: Town,
    at_files: SocketAddr,
    entrance: SocketAddr,
    xds: SocketAddr,
}

impl Pair {
    async fn start() -> Self {
        let origin = Origin::start("files", ANY).await.unwrap();
        let subnet = Subnet::claim();
        let (entrance, at_files) = (subnet.address(1, 9001), subnet.address(2, PORT));
        let xds = subnet.address(250, 15010);
        let yaml = service("files", "http") + &meshed("files-1", "files", at_files);
        let mut town = Town::start(subnet, &yaml).await.unwrap();
        town.control_plane = control_plane(&town.mesh, xds).start_ready(READY_WITHIN).await.unwrap();
        Self { origin, town, at_files, entrance, xds }
    }

    /// Flags that keep state, beside `more`.
    fn keeping(&self, workload: &str, more: &[String]) -> Vec<String> {
        let state = self.town.mesh.path().join(format!("state-{workload}"));
        let flags = [format!("--state-dir={}", state.display()), "--state-identity".to_owned()];
        flags.iter().chain(more).cloned().collect()
    }

    fn files(&self) -> Vec<String> {
        self.keeping("files", &[inbound(self.at_files, self.origin.address())])
    }

    fn web(&self, more: &[String]) -> Vec<String> {
        self.keeping("web", &[&[outbound(self.entrance, "files")], more].concat())
    }

    async fn sidecar(&self, workload: &str, flags: &[String]) -> Process {
        self.town.program(workload, flags).await.unwrap().start_ready(READY_WITHIN).await.unwrap()
    }

    async fn lose_control_plane(&mut self) {
        kill(&mut self.town.control_plane).await;
    }

    async fn regain_control_plane(&mut self) {
        self.town.control_plane =
            control_plane(&self.town.mesh, self.xds).start_ready(READY_WITHIN).await.unwrap();
    }

    async fn answers(&self) -> Option<()> {
        let answer = client::get(self.entrance, "/").await.ok()?;
        (answer.origin() == "files").then_some(())
    }
}

async fn kill(process: &mut Process) {
    process.signal(Signal::Kill).unwrap();
    process.wait_exit(PATIENCE).await.unwrap();
}

async fn ready(sidecar: &Process) -> (u16, String) {
    let answer = client::get(sidecar.address("/health").unwrap(), "/healthz/ready").await.unwrap();
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn sidecars_that_are_killed_with_the_control_plane_start_alone_and_speak_mutual_tls() {
    let mut pair = Pair::start().await;
    let mut files = pair.sidecar("files", &pair.files()).await;
    let mut web = pair.sidecar("web", &pair.web(&[])).await;
    pair.answers().await.unwrap();
    pair.lose_control_plane().await;
    kill(&mut web).await;
    kill(&mut files).await;

    // Both from nothing but their directories: one accepts, the other dials.
    let files = pair.sidecar("files", &pair.files()).await;
    let program = pair.town.program("web", &pair.web(&[])).await.unwrap();
    let started = Instant::now();
    let web = program.start().unwrap();
    let first = eventually(ALONE_WITHIN, async || pair.answers().await).await;
    let took = started.elapsed();
    assert!(first.is_some(), "{}\n{}", web.stderr(), files.stderr());
    println!("first request over mutual TLS {} ms after the sidecar was started alone", took.as_millis());
    let secure = ["direction=\"inbound\"", "security=\"mtls\"", "status=\"200\""];
    let counted = eventually(PATIENCE, async || {
        let count = metric(&files, "/metrics", "outrigger_requests_total", &secure).await.ok()?;
        (count >= 1.0).then_some(())
    });
    assert!(counted.await.is_some(), "not over mutual TLS");
    let dump = ask(&files, "/admin", "/config_dump").await.unwrap();
    assert_eq!(dump["control_plane"]["connected"], false, "{dump}");
    assert!(dump["control_plane"]["staleness_seconds"].is_u64(), "{dump}");

    pair.regain_control_plane().await;
    let connected = eventually(PATIENCE, async || {
        let value = metric(&files, "/metrics", "outrigger_xds_connected", &[]).await.ok()?;
        (value == 1.0).then_some(())
    });
    assert!(connected.await.is_some(), "{}", files.stderr());
    pair.answers().await.unwrap();
}

#[tokio::test]
async fn state_of_another_workload_or_that_was_damaged_is_passed_over_and_said() {
    let mut pair = Pair::start().await;
    let mut web = pair.sidecar("web", &pair.web(&[])).await;
    pair.lose_control_plane().await;
    kill(&mut web).await;
    let state = pair.town.mesh.path().join("state-web");
    let health = pair.town.subnet.address(1, 15021);
    let flags = pair.web(&[format!("--health={health}")]);
    for (workload, what) in [("intruder", "belongs to shop/web/web"), ("web", "is damaged")] {
        if workload == "web" {
            let file = state.join("configuration");
            let mut bytes = std::fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&file, bytes).unwrap();
        }
        let mut alone = alone(&pair.town, workload, &flags).await;
        let told = eventually(PATIENCE, async || alone.stderr().contains(what).then_some(())).await;
        assert!(told.is_some(), "{what}: {}", alone.stderr());
        let answer =
            eventually(PATIENCE, async || client::get(health, "/healthz/ready").await.ok()).await.unwrap();
        assert_eq!(answer.status, 503, "{what}: nothing is half used");
        kill(&mut alone).await;
    }
}

/// A sidecar on free ports but for the health server, which the flags name.
async fn alone(town: &Town, workload: &str, flags: &[String]) -> Process {
    let token = town.mesh.token(NAMESPACE, workload).await.unwrap();
    let xds = town.control_plane.address("/xds").unwrap();
    let program = Program::of_workspace("outrigger-proxy").args(["run", "--namespace", NAMESPACE]);
    let program = program.args(["--service-account", workload, "--workload", workload, "--token-file"]);
    let program = program.args([token]).args([format!("--control-plane=http://{xds}")]);
    program.args(["--admin=127.0.0.1:0", "--metrics=127.0.0.1:0"]).args(flags).start().unwrap()
}

#[tokio::test]
async fn a_key_is_on_disk_only_when_that_is_wanted() {
    let pair = Pair::start().await;
    let mut web = pair.sidecar("web", &pair.web(&[])).await;
    let state = pair.town.mesh.path().join("state-web");
    let kept = eventually(PATIENCE, async || state.join("identity").is_file().then_some(())).await;
    assert!(kept.is_some(), "{}", web.stderr());
    kill(&mut web).await;
    let flags: Vec<String> = pair.web(&[]).into_iter().filter(|flag| flag != "--state-identity").collect();
    let web = pair.sidecar("web", &flags).await;
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["configuration"], "the key of the process before is removed");
    assert!(!web.stderr().contains("PRIVATE"), "{}", web.stderr());
}

#[tokio::test]
async fn a_configuration_that_is_too_old_is_not_ready_until_the_control_plane_is_back() {
    let mut pair = Pair::start().await;
    let _files = pair.sidecar("files", &pair.files()).await;
    let web = pair.sidecar("web", &pair.web(&["--max-staleness=1s".to_owned()])).await;
    let patient = pair.sidecar("patient", &pair.keeping("patient", &[])).await;
    assert_eq!(ready(&web).await.0, 200);
    pair.lose_control_plane().await;
    let stale = eventually(PATIENCE, async || {
        let (status, body) = ready(&web).await;
        (status == 503).then_some(body)
    });
    let body = stale.await.unwrap();
    assert!(body.contains("more than --max-staleness 1s"), "{body}");
    assert_eq!(ready(&patient).await.0, 200, "an outage does not take everything out of rotation");
    let age = metric(&patient, "/metrics", "outrigger_xds_version_age_seconds", &[]).await.unwrap();
    assert!(age > 0.0, "{age}");
    assert!(pair.answers().await.is_some(), "what is not ready still serves");
    pair.regain_control_plane().await;
    let again = eventually(PATIENCE, async || (ready(&web).await.0 == 200).then_some(()));
    assert!(again.await.is_some(), "{}", web.stderr());
}

#[tokio::test]
async fn what_was_never_asked_for_goes_as_mesh_config_said_last() {
    for (egress, passes) in [("Allow", true), ("Deny", false)] {
        let mut pair = Pair::start().await;
        let config = mesh_config("Strict").replace("mtls:", &format!("egress: {egress}, mtls:"));
        pair.town.mesh.write("mesh.yaml", &config).unwrap();
        let mut web = pair.sidecar("web", &pair.web(&[])).await;
        let told = eventually(PATIENCE, async || {
            let dump = ask(&web, "/admin", "/config_dump").await.ok()?;
            (dump["mesh"]["egress"] == egress).then_some(())
        });
        assert!(told.await.is_some());
        let new = pair.town.subnet.address(1, 9002);
        let unknown_name = pair.town.subnet.address(1, 9003);
        pair.lose_control_plane().await;
        // Ends in order, so that what was said last is kept.
        web.signal(Signal::Terminate).unwrap();
        web.wait_exit(PATIENCE).await.unwrap();
        let more = [format!("--outbound={new}={}", pair.origin.address()), outbound(unknown_name, "nobody")];
        let _web = pair.sidecar("web", &pair.web(&more)).await;
        let answer = client::get(new, "/").await.unwrap();
        match passes {
            true => assert_eq!(answer.origin(), "files"),
            false => assert_eq!((answer.status.as_u16(), answer.reason()), (503, "no_endpoint")),
        }
        let answer = client::get(unknown_name, "/").await.unwrap();
        assert_eq!(answer.status, 503, "a name leads nowhere: {}", answer.reason());
    }
}

#[tokio::test]
async fn before_any_configuration_nothing_is_let_out() {
    let origin = Origin::start("outside", ANY).await.unwrap();
    let (mesh, subnet) = (Mesh::new().unwrap(), Subnet::claim());
    let entrance = subnet.address(1, 9001);
    let nowhere = subnet.address(250, 15010);
    let web = mesh.sidecar(nowhere, NAMESPACE, "web").await.unwrap();
    let web = web.args([format!("--outbound={entrance}={}", origin.address())]).start().unwrap();
    let answer = eventually(PATIENCE, async || client::get(entrance, "/").await.ok()).await.unwrap();
    assert_eq!(answer.status, 503, "{}", web.stderr());
    assert_eq!(origin.arrived(), 0);
}
