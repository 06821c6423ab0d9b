//! Certificates that live for seconds: renewed by themselves, missed when the control plane stays away, and back with it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use outrigger_tests::client;
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::town::{
    PATIENCE, PORT, ask, backend_policy, inbound, mesh_config, meshed, metric, outbound, service,
};

/// Where the application listens.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A mesh whose certificates live for 12 s, and whose control plane is reached by TLS alone.
struct Brief {
    mesh: Mesh,
    subnet: Subnet,
    origin: Origin,
}

impl Brief {
    async fn new() -> Self {
        let (subnet, mesh) = (Subnet::claim(), Mesh::new().unwrap());
        let origin = Origin::start("reviews", ANY).await.unwrap();
        let at = subnet.address(2, PORT);
        let town = service("reviews", "http") + &meshed("reviews-1", "reviews", at);
        // Connections that are kept outlive their certificates; these end soon, so that there are handshakes.
        let young = backend_policy("reviews", "connection: {maxLifetime: 1s}");
        mesh.write("mesh.yaml", &(mesh_config("Strict") + &town + &young)).unwrap();
        Self { mesh, subnet, origin }
    }

    fn control(&self) -> SocketAddr {
        self.subnet.address(3, 15012)
    }

    fn entrance(&self) -> SocketAddr {
        self.subnet.address(1, 9001)
    }

    async fn control_plane(&self) -> Process {
        let control = self.control();
        let program = Program::of_workspace("outrigger").args(self.mesh.control_plane_args());
        let program =
            program.args(["--xds-tls", &control.to_string(), "--tls-name", &control.ip().to_string()]);
        let program = program.args(["--certificate-ttl=12s", "--shortest-certificate-ttl=12s"]);
        program.start_ready(READY_WITHIN).await.unwrap()
    }

    async fn token(&self, service_account: &str, more: &[&str]) -> PathBuf {
        let create =
            Program::of_workspace("outrigger").args(["token", "create", "--data"]).args([self.mesh.data()]);
        let create = create.args(["--namespace", "shop", "--service-account", service_account]).args(more);
        let file = self.mesh.path().join(format!("{service_account}.token"));
        fs::write(&file, create.output(PATIENCE).await.unwrap()).unwrap();
        file
    }

    async fn sidecar(&self, name: &str, token: &PathBuf, flags: &[String]) -> Process {
        let program = Program::of_workspace("outrigger-proxy").args(["run", "--namespace", "shop"]);
        let program = program.args(["--control-plane", &format!("https://{}", self.control())]);
        let program =
            program.args(["--service-account", name, "--workload", name, "--token-file"]).args([token]);
        let program = program.args(["--trust-bundle"]).args([self.mesh.data().join("root-cert.pem")]);
        let program = program.args(["--admin=127.0.0.1:0", "--metrics=127.0.0.1:0", "--health=127.0.0.1:0"]);
        program.args(flags).start_ready(READY_WITHIN).await.unwrap()
    }

    /// The sidecars of a caller and of the application.
    async fn pair(&self, token: &[&str]) -> [Process; 2] {
        let (one, two) = (self.token("reviews", token).await, self.token("web", token).await);
        let reviews = inbound(self.subnet.address(2, PORT), self.origin.address());
        let reviews = self.sidecar("reviews", &one, &[reviews]).await;
        let web = self.sidecar("web", &two, &[outbound(self.entrance(), "reviews")]).await;
        [web, reviews]
    }

    async fn status(&self) -> u16 {
        client::get(self.entrance(), "/").await.unwrap().status.as_u16()
    }
}

async fn serial(sidecar: &Process) -> String {
    let shown = ask(sidecar, "/admin", "/certs").await.unwrap();
    shown["chain"][0]["serial"].as_str().unwrap_or_else(|| panic!("no serial in {shown}")).to_owned()
}

#[tokio::test]
async fn with_a_token_for_one_use_the_certificate_renews_itself() {
    let brief = Brief::new().await;
    let _control_plane = brief.control_plane().await;
    let [web, reviews] = brief.pair(&["--one-use"]).await;
    for _ in 0..2 {
        let before = (serial(&web).await, serial(&reviews).await);
        let renewed = eventually(PATIENCE, async || {
            assert_eq!(brief.status().await, 200, "{}", web.stderr());
            let now = (serial(&web).await, serial(&reviews).await);
            (now.0 != before.0 && now.1 != before.1).then_some(())
        });
        assert!(renewed.await.is_some(), "not renewed:\n{}", web.stderr());
    }
}

#[tokio::test]
async fn a_certificate_that_ends_while_the_control_plane_is_away_is_alarmed_before_and_comes_back_with_it() {
    let brief = Brief::new().await;
    let mut control_plane = brief.control_plane().await;
    let [web, reviews] = brief.pair(&[]).await;
    assert_eq!(brief.status().await, 200);
    control_plane.signal(Signal::Kill).unwrap();
    control_plane.wait_exit(PATIENCE).await.unwrap();

    let alarm = async |sidecar: &Process| {
        metric(sidecar, "/metrics", "outrigger_certificate_alarm", &[]).await.unwrap()
    };
    let raised = eventually(PATIENCE, async || {
        let raised = alarm(&web).await == 1.0;
        // Whoever is alarmed still has the time to do something.
        (raised && brief.status().await == 200).then_some(())
    });
    assert!(raised.await.is_some(), "no alarm before the end:\n{}", web.stderr());
    let over = eventually(PATIENCE, async || {
        let answer = client::get(brief.entrance(), "/").await.unwrap();
        (answer.status.as_u16() == 503).then(|| answer.reason().to_owned())
    });
    let reason = over.await.unwrap();
    assert!(matches!(reason.as_str(), "tls_failed" | "no_endpoint" | "connect_failed"), "{reason}");
    let unfit = eventually(PATIENCE, async || {
        let ready = client::get(reviews.address("/health").unwrap(), "/healthz/ready").await.unwrap();
        let body = String::from_utf8_lossy(&ready.body).into_owned();
        (ready.status.as_u16() == 503).then_some(body)
    });
    let body = unfit.await.unwrap();
    assert!(body.contains("expired"), "{body}");

    let _back = brief.control_plane().await;
    let again = eventually(PATIENCE, async || {
        let ready = client::get(web.address("/health").unwrap(), "/healthz/ready").await.unwrap();
        (brief.status().await == 200 && ready.status.as_u16() == 200 && alarm(&web).await == 0.0)
            .then_some(())
    });
    assert!(again.await.is_some(), "it does not come back:\n{}", web.stderr());
}
