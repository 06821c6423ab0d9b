//! Where sidecars have their identities from, through real programs: an agent of the host, and a certificate that proves
//! to the control plane who they are.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::net::SocketAddr;

use outrigger_tests::client;
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::origin::Origin;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::town::{PATIENCE, ask, inbound, mesh_config, meshed, metric, outbound, service};

#[path = "mesh_identity/agent.rs"]
mod agent;

use agent::{Agent, authority};

/// Any port on loopback.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A sidecar without anything that proves who it is.
fn nobody(control_plane: &str, workload: &str) -> Program {
    let program = Program::of_workspace("outrigger-proxy").args(["run", "--control-plane", control_plane]);
    let program =
        program.args(["--namespace", "shop", "--service-account", workload, "--workload", workload]);
    program.args(["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--health", "127.0.0.1:0"])
}

/// The serial number of the certificate in force.
async fn serial(sidecar: &Process) -> String {
    ask(sidecar, "/admin", "/certs").await.unwrap()["chain"][0]["serial"].to_string()
}

#[tokio::test]
async fn sidecars_with_identities_of_a_workload_api_speak_mutual_tls_and_follow_its_rotation() {
    let (subnet, mesh) = (Subnet::claim(), Mesh::new().unwrap());
    let (entrance, address) = (subnet.address(1, 9001), subnet.address(2, 9080));
    mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
    mesh.write("town.yaml", &(service("files", "http") + &meshed("files-1", "files", address))).unwrap();
    let control_plane = mesh.start_control_plane().await.unwrap();
    let url = format!("http://{}", control_plane.address("/xds").unwrap());
    let (for_web, for_files) = (Agent::start(mesh.path(), "web"), Agent::start(mesh.path(), "files"));
    let (old, new) = (authority(), authority());
    for agent in [&for_web, &for_files] {
        agent.say(&old, &[&old]);
    }
    let origin = Origin::start("files", ANY).await.unwrap();
    let keys = mesh.path().join("session-keys");
    let files =
        nobody(&url, "files").args(["--identity", &for_files.flag(), &inbound(address, origin.address())]);
    let files = files.env("SSLKEYLOGFILE", &keys).start_ready(READY_WITHIN).await.unwrap();
    let web = nobody(&url, "web").args(["--identity", &for_web.flag(), &outbound(entrance, "files")]);
    let web = web.env("SSLKEYLOGFILE", &keys).start_ready(READY_WITHIN).await.unwrap();
    assert_eq!(client::get(entrance, "/first").await.unwrap().status, 200);
    let identity = &["security=\"mtls\"", "source_identity=\"spiffe://cluster.local/ns/shop/sa/web\""];
    assert_eq!(metric(&files, "/metrics", "outrigger_requests_total", identity).await.unwrap(), 1.0);

    // Both roots are trusted everywhere before the new one signs, and the old one goes when it signs no more.
    for (signer, trusted) in [(&old, &[&old, &new][..]), (&new, &[&old, &new]), (&new, &[&new])] {
        for (sidecar, agent) in [(&files, &for_files), (&web, &for_web)] {
            let before = serial(sidecar).await;
            agent.say(signer, trusted);
            let moved = eventually(PATIENCE, async || (serial(sidecar).await != before).then_some(())).await;
            moved.unwrap();
            assert_eq!(client::get(entrance, "/on").await.unwrap().status, 200);
        }
    }
    for sidecar in [&files, &web] {
        assert_eq!(metric(sidecar, "/metrics", "outrigger_certificate_alarm", &[]).await.unwrap(), 0.0);
    }
    assert!(!keys.exists(), "session keys were written");
}

#[tokio::test]
async fn a_valid_certificate_proves_to_the_control_plane_who_calls_when_the_token_is_gone() {
    let (subnet, mesh) = (Subnet::claim(), Mesh::new().unwrap());
    mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
    let tls = subnet.address(1, 15012);
    let start = async || {
        let args = mesh.control_plane_args();
        let program = Program::of_workspace("outrigger").args(args).args(["--xds-tls", &tls.to_string()]);
        program.args(["--tls-name", &tls.ip().to_string()]).start_ready(READY_WITHIN).await.unwrap()
    };
    let mut control_plane = start().await;
    let token = mesh.token("shop", "web").await.unwrap();
    let bundle = mesh.data().join("root-cert.pem");
    let web =
        nobody(&format!("https://{tls}"), "web").args(["--trust-bundle", &bundle.display().to_string()]);
    let web = web.args(["--token-file", &token.display().to_string()]);
    let web = web
        .args([inbound(subnet.address(2, 9080), ANY_APPLICATION)])
        .start_ready(READY_WITHIN)
        .await
        .unwrap();
    let connected = async |wanted: f64| {
        let seen = async || {
            let now = metric(&web, "/metrics", "outrigger_xds_connected", &[]).await.unwrap();
            (now == wanted).then_some(())
        };
        eventually(PATIENCE, seen).await.unwrap();
    };
    connected(1.0).await;
    std::fs::write(&token, "no token any more").unwrap();
    control_plane.signal(Signal::Kill).unwrap();
    control_plane.wait_exit(PATIENCE).await.unwrap();
    connected(0.0).await;
    let _again = start().await;
    connected(1.0).await;
    assert!(!web.stderr().contains("does not take our certificate"), "{}", web.stderr());
}

/// Where nothing listens: nothing is sent there.
const ANY_APPLICATION: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
