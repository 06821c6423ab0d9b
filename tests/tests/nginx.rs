//! nginx serves files behind a pair of sidecars: what HTTP promises about them still holds for curl.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use outrigger_tests::counterparts::{self, Counterpart, Found};
use outrigger_tests::eventually;
use outrigger_tests::ports::Subnet;
use outrigger_tests::process::{Process, Program};
use tempfile::TempDir;
use tokio::net::TcpStream;

use pair::{Pair, run};

#[path = "support/pair.rs"]
mod pair;

const FILE_BYTES: usize = 1024 * 1024;
/// How long nginx may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// nginx behind a pair, and curl in front.
struct Site {
    found: Found,
    dir: TempDir,
    pair: Pair,
    content: Vec<u8>,
    _nginx: Process,
    _subnet: Subnet,
}

impl Site {
    async fn start() -> Option<Self> {
        let found = counterparts::need(&[Counterpart::Nginx, Counterpart::Curl])?;
        let subnet = Subnet::claim();
        let address = subnet.address(1, 8080);
        let dir = tempfile::tempdir().unwrap();
        // Not a period of 256, so that a chunk that is lost or comes twice shows.
        let content: Vec<u8> = (0..FILE_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::create_dir(dir.path().join("www")).unwrap();
        fs::write(dir.path().join("www/file"), &content).unwrap();
        let nginx = start_nginx(found.path(Counterpart::Nginx), dir.path(), address).await;
        let pair = Pair::to(address).await;
        Some(Self { found, dir, pair, content, _nginx: nginx, _subnet: subnet })
    }

    /// What curl writes for a request of `path` through the pair.
    async fn curl(&self, args: &[&str], path: &str) -> String {
        let curl = Program::at(self.found.path(Counterpart::Curl)).args([
            "-s",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ]);
        run(curl.args(args).args([format!("http://{}/{path}", self.pair.entrance)])).await
    }

    fn downloaded(&self) -> String {
        self.dir.path().join("downloaded").display().to_string()
    }
}

#[tokio::test]
async fn a_file_arrives_whole() {
    let Some(site) = Site::start().await else { return };
    let said =
        site.curl(&["-o", &site.downloaded(), "-w", "%{http_code} %header{content-length}"], "file").await;
    assert_eq!(said, format!("200 {FILE_BYTES}"));
    assert!(fs::read(site.downloaded()).unwrap() == site.content, "the file is not the same");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let Some(site) = Site::start().await else { return };
    let said = site.curl(&["-I", "-w", "%{size_download}"], "file").await.to_lowercase();
    assert!(said.starts_with("http/1.1 200") && said.contains("content-length: 1048576"), "{said}");
    assert!(said.ends_with("\r\n\r\n0"), "{said}");
}

#[tokio::test]
async fn ranges_and_conditions_are_answered_by_the_server() {
    let Some(site) = Site::start().await else { return };
    let format = "%{http_code} %header{content-range} %header{etag}";
    let said = site.curl(&["-r", "1000-1999", "-o", &site.downloaded(), "-w", format], "file").await;
    let etag = said.strip_prefix("206 bytes 1000-1999/1048576 ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(fs::read(site.downloaded()).unwrap(), site.content[1000..2000]);

    // Both requests over one connection: the first answer, which has no body, does not hold up the second.
    let condition = format!("if-none-match: {etag}");
    let format = "%{http_code} %{size_download} %{num_connects}\n";
    let url = format!("http://{}/file", site.pair.entrance);
    let said = site.curl(&["-H", &condition, "-w", format, &url], "file").await;
    assert_eq!(said, "304 0 1\n304 0 0\n");
    let said = site.curl(&["-X", "POST", "-o", &site.downloaded(), "-w", "%{http_code}"], "file").await;
    assert_eq!(said, "405");
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let Some(site) = Site::start().await else { return };
    // nginx says which of its connections this is, and which request on it. Two workers have a pool each.
    let said = site.curl(&["-w", " %{num_connects}\n"], "connection?[1-50]").await;
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 50, "{said}");
    assert!(lines[1..].iter().all(|line| line[2] == "0"), "curl connects again: {said}");
    let first = lines.iter().filter(|line| line[1] == "1").count();
    assert_eq!(first, 1, "one client connection uses one connection to the server: {said}");
}

#[tokio::test]
async fn the_sidecar_of_the_server_takes_mutual_tls_only() {
    let Some(site) = Site::start().await else { return };
    let curl =
        Program::at(site.found.path(Counterpart::Curl)).args(["-s", "--noproxy", "*", "--max-time", "20"]);
    let url = format!("http://{}/file", site.pair.inbound);
    let said =
        run(curl.args(["-o", &site.downloaded(), "-w", "%{http_code} %header{x-outrigger-reason}", &url]))
            .await;
    assert!(said.starts_with("401 unauthenticated;"), "{said}");
}

async fn start_nginx(program: &Path, dir: &Path, address: SocketAddr) -> Process {
    let config = dir.join("nginx.conf");
    fs::write(&config, nginx_config(dir, address)).unwrap();
    let nginx = Program::at(program)
        .args(["-e", "stderr", "-p"])
        .args([dir])
        .args(["-c".as_ref(), config.as_os_str()]);
    let nginx = nginx.start().unwrap();
    let listens = eventually(PATIENCE, async || TcpStream::connect(address).await.ok());
    assert!(listens.await.is_some(), "nginx does not start: {}", nginx.stderr());
    nginx
}

fn nginx_config(dir: &Path, address: SocketAddr) -> String {
    let dir = dir.display();
    // The directory belongs to who runs the test, so the worker has to be the same user.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "daemon off;\n{user}\nworker_processes 1;\npid {dir}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n  access_log off;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n\
         \x20 fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n\
         \x20 server {{\n    listen {address};\n    root {dir}/www;\n\
         \x20   location /connection {{ return 200 \"$connection $connection_requests\"; }}\n  }}\n}}\n"
    )
}
