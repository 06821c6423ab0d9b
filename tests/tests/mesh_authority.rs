//! The certificate authority as others see it: a client that knows the public definition of its API only, `openssl` as the
//! judge of what it signs, files that somebody else exchanges, and a root that takes over from another.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use outrigger_tests::client;
use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::mesh::{Mesh, READY_WITHIN};
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program, Signal};
use outrigger_tests::town::{PATIENCE, inbound, mesh_config, meshed, service};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;

const CLIENT: &str = include_str!("python/create_certificate.py");

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // RFC 5280, section 4.2.1.1 asks for it below a root.
    params.use_authority_key_identifier_extension = true;
    params
}

fn root(name: &str) -> Issuer {
    Issuer::self_signed(params(name), KeyPair::generate().unwrap()).unwrap()
}

/// A directory as cert-manager fills it.
fn fill(dir: &Path, signer: &Issuer, above: &[&Issuer], roots: &[&Issuer]) {
    let chain: String = [signer].iter().chain(above).map(|issuer| issuer.pem()).collect();
    let roots: String = roots.iter().map(|issuer| issuer.pem()).collect();
    for (file, text) in [("tls.crt", chain), ("tls.key", signer.key().serialize_pem()), ("ca.crt", roots)] {
        fs::write(dir.join(format!("{file}.new")), text).unwrap();
        fs::rename(dir.join(format!("{file}.new")), dir.join(file)).unwrap();
    }
}

async fn start(mesh: &Mesh, flags: &[String]) -> Process {
    let program = Program::of_workspace("outrigger").args(mesh.control_plane_args()).args(flags);
    program.start_ready(READY_WITHIN).await.unwrap()
}

async fn trust(control_plane: &Process) -> Value {
    let answer = client::get(control_plane.address("/http").unwrap(), "/api/v1/trust").await.unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// Waits until what the control plane says of trust is as it should be.
async fn trusted(control_plane: &Process, is_so: impl Fn(&Value) -> bool) -> Value {
    let found = eventually(PATIENCE, async || Some(trust(control_plane).await).filter(|found| is_so(found)));
    match found.await {
        Some(found) => found,
        None => panic!("{}", trust(control_plane).await),
    }
}

/// The command `outrigger certs` on this mesh.
fn certs(mesh: &Mesh, control_plane: &Process, words: &[&str]) -> Program {
    let http = control_plane.address("/http").unwrap().to_string();
    let program = Program::of_workspace("outrigger").args(["certs"]).args(words);
    program.args(["--data".into(), mesh.data().into_os_string()]).args(["--http", &http])
}

struct Tools {
    found: Found,
}

impl Tools {
    async fn openssl(&self, args: &[&str]) -> anyhow::Result<String> {
        Program::at(self.found.path(Counterpart::Openssl)).args(args).output(PATIENCE).await
    }

    /// Makes a key and a request, and asks for a certificate; what the client wrote.
    async fn ask(&self, xds: SocketAddr, token: &Path, curve: &str, dir: &Path) -> String {
        let csr = dir.join("request.pem");
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let key = path(&dir.join("leaf.key"));
        let make = ["req", "-new", "-newkey"];
        let kind: &[&str] = match curve {
            "rsa" => &["rsa:2048"],
            _ => &["ec", "-pkeyopt"],
        };
        let curve = format!("ec_paramgen_curve:{curve}");
        let rest = ["-nodes", "-subj", "/", "-keyout", &key, "-out"];
        let mut args: Vec<&str> = make.iter().chain(kind).copied().collect();
        if kind.len() == 2 {
            args.push(&curve);
        }
        let csr = path(&csr);
        args.extend(rest);
        args.push(&csr);
        self.openssl(&args).await.unwrap();
        let client = Program::at(self.found.path(Counterpart::GrpcPython)).args(["-c", CLIENT]);
        let client = client.args([&xds.to_string(), &path(token), &csr, "3600"]);
        client.output(PATIENCE).await.unwrap()
    }
}

/// Splits a chain into files; the leaf, what stands between, the root.
fn split(chain: &str, dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (number, pem) in chain.split_inclusive("-----END CERTIFICATE-----\n").enumerate() {
        let file = dir.join(format!("{number}.pem"));
        fs::write(&file, pem).unwrap();
        files.push(file);
    }
    files
}

#[tokio::test]
async fn a_client_of_the_public_api_gets_a_chain_that_openssl_believes_up_to_the_root_above_an_intermediate()
{
    let Some(found) = counterparts::need(&[Counterpart::GrpcPython, Counterpart::Openssl]) else { return };
    let tools = Tools { found };
    let mesh = Mesh::new().unwrap();
    mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
    let ca = mesh.path().join("ca");
    fs::create_dir(&ca).unwrap();
    let top = root("top");
    let low = Issuer::signed_by(params("low"), KeyPair::generate().unwrap(), &top).unwrap();
    fill(&ca, &low, &[], &[&top]);
    let control_plane = start(&mesh, &[format!("--ca-dir={}", ca.display())]).await;
    let xds = control_plane.address("/xds").unwrap();
    let token = mesh.token("shop", "web").await.unwrap();
    for curve in ["prime256v1", "secp384r1"] {
        let files = split(&tools.ask(xds, &token, curve, mesh.path()).await, mesh.path());
        let [leaf, between, last] = &files[..] else { panic!("{files:?}") };
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        assert_eq!(fs::read_to_string(last).unwrap().trim(), top.pem().trim());
        let verified = tools
            .openssl(&[
                "verify",
                "-x509_strict",
                "-purpose",
                "sslclient",
                "-CAfile",
                &text(last),
                "-untrusted",
                &text(between),
                &text(leaf),
            ])
            .await
            .unwrap();
        assert!(verified.contains("OK"), "{verified}");
        let shown = tools.openssl(&["x509", "-in", &text(leaf), "-noout", "-text"]).await.unwrap();
        for part in ["URI:spiffe://cluster.local/ns/shop/sa/web", "CA:FALSE", "TLS Web Client Authentication"]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }
    let refused = tools.ask(xds, &token, "rsa", mesh.path()).await;
    assert!(refused.starts_with("INVALID_ARGUMENT") && refused.contains("P-256"), "{refused}");
    let shown = trust(&control_plane).await;
    assert_eq!((shown["source"].as_str(), shown["leaves"].as_array().unwrap().len()), (Some("files"), 2));
}

#[tokio::test]
async fn an_authority_in_files_is_exchanged_without_a_restart_and_never_by_us() {
    let mesh = Mesh::new().unwrap();
    mesh.write("mesh.yaml", &mesh_config("Strict")).unwrap();
    let ca = mesh.path().join("ca");
    fs::create_dir(&ca).unwrap();
    let (old, new) = (root("old"), root("new"));
    fill(&ca, &old, &[], &[&old]);
    let control_plane = start(&mesh, &[format!("--ca-dir={}", ca.display())]).await;
    let first = trust(&control_plane).await;
    let signer = first["signer"].clone();
    fill(&ca, &old, &[], &[&old, &new]);
    trusted(&control_plane, |now| now["roots"].as_array().unwrap().len() == 2 && now["signer"] == signer)
        .await;
    fs::write(ca.join("tls.key"), "nonsense").unwrap();
    let said = eventually(PATIENCE, async || {
        control_plane.stderr().lines().find(|line| line.contains("tls.key")).map(str::to_owned)
    });
    assert!(said.await.unwrap().contains("stays"), "{}", control_plane.stderr());
    assert_eq!(trust(&control_plane).await["signer"], signer);
    fill(&ca, &new, &[], &[&old, &new]);
    trusted(&control_plane, |now| now["signer"] != signer && now["roots"].as_array().unwrap().len() == 2)
        .await;
    let refused = certs(&mesh, &control_plane, &["rotate-root"]).output(PATIENCE).await.unwrap_err();
    assert!(refused.to_string().contains("ca.crt"), "{refused}");
}

#[tokio::test]
async fn a_straggler_is_named_and_a_rotation_that_is_killed_in_each_phase_goes_on() {
    let subnet = Subnet::claim();
    let mesh = Mesh::new().unwrap();
    let at = subnet.address(2, 9080);
    let town = service("reviews", "http") + &meshed("reviews-1", "reviews", at);
    mesh.write("mesh.yaml", &(mesh_config("Strict") + &town)).unwrap();
    let flags = ["--certificate-ttl=30s", "--shortest-certificate-ttl=30s"].map(str::to_owned);
    let control_plane = start(&mesh, &flags).await;
    let xds = control_plane.address("/xds").unwrap();
    let sidecar = mesh.sidecar(xds, "shop", "reviews").await.unwrap();
    let sidecar = sidecar.args([inbound(at, subnet.address(2, 1))]).start_ready(READY_WITHIN).await.unwrap();
    let first = trust(&control_plane).await["signer"].clone();

    sidecar.signal(Signal::Stop).unwrap();
    let rotation = certs(&mesh, &control_plane, &["rotate-root"]).start().unwrap();
    let named = eventually(PATIENCE, async || rotation.stdout().contains("reviews").then_some(())).await;
    assert!(named.is_some(), "the sidecar that stands still is not named: {}", rotation.stdout());
    rotation.signal(Signal::Kill).unwrap();
    let status = certs(&mesh, &control_plane, &["status", "-o", "json"]).output(PATIENCE).await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["rotation"]["phase"], "trusting", "{status}");
    assert!(status["waiting"][0]["who"].as_str().unwrap().contains("reviews"), "{status}");
    assert_eq!(trust(&control_plane).await["signer"], first, "nothing is signed by the new root yet");

    sidecar.signal(Signal::Continue).unwrap();
    let rotation = certs(&mesh, &control_plane, &["rotate-root"]).start().unwrap();
    trusted(&control_plane, |now| now["signer"] != first).await;
    rotation.signal(Signal::Kill).unwrap();
    let done = certs(&mesh, &control_plane, &["rotate-root", "-o", "json"]);
    let done = done.output(4 * PATIENCE).await.unwrap();
    assert!(done.lines().last().unwrap().contains("\"phase\":\"done\""), "{done}");
    let after = trusted(&control_plane, |now| now["roots"].as_array().unwrap().len() == 1).await;
    assert!(after["rotation"].is_null() && after["roots"][0]["signs"] == true, "{after}");
    assert_ne!(after["signer"], first);
    let mut files: Vec<String> = fs::read_dir(mesh.data())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("root") || name.contains("rotation"))
        .collect();
    files.sort();
    assert_eq!(files, ["root-cert.pem", "root-key.pem"]);
}
