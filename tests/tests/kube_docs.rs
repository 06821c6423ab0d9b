//! Every command of docs/kubernetes.md is run, in its order, in a real cluster whose pods run: from the first check to the
//! day the mesh is removed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::kube::GatewayApi;
use outrigger_tests::kube::node::{COUNTERPARTS, Images, Node};
use outrigger_tests::process::{Program, cargo_bin};

/// How long the commands of one block may take.
const BLOCK_WITHIN: Duration = Duration::from_secs(400);
/// What stands for the image `hashicorp/http-echo`.
const HTTP_ECHO: &str = include_str!("python/http_echo.py");

#[tokio::test]
async fn every_command_of_the_page_does_what_the_page_says() {
    let wanted = [&COUNTERPARTS[..], &[Counterpart::Curl, Counterpart::GrpcPython]].concat();
    let Some(found) = counterparts::need_cluster(&wanted) else { return };
    let python = found.path(Counterpart::GrpcPython).display().to_string();
    let images = Images::default()
        .program("outrigger/outrigger-control-plane", &cargo_bin("outrigger-control-plane"), 65532)
        .program("outrigger/outrigger-proxy", &cargo_bin("outrigger-proxy"), 1337)
        .command("hashicorp/http-echo", &[&python, "-c", HTTP_ECHO], 1000)
        .command("curlimages/curl", &["curl"], 1000);
    let node = Node::start(&found, images).await.unwrap();
    node.apply_gateway_api(GatewayApi::Standard).await.unwrap();
    let path = programs(&node);

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/kubernetes.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() > 10, "the page has lost its commands");
    for block in blocks {
        let script = format!("set -euo pipefail\ncd {}\n{block}", root.display());
        let program = Program::at("bash").args(["-c", &script]).env("PATH", &path);
        let program = program.env("KUBECONFIG", node.kubeconfig()).env("HOME", node.path());
        if let Err(error) = program.output(BLOCK_WITHIN).await {
            panic!("{block}\n{error:#}\n{}", state(&node).await);
        }
    }
}

/// The blocks of shell commands, in their order.
fn blocks(page: &str) -> Vec<&str> {
    let opened = page.split("```sh\n").skip(1);
    opened.map(|rest| rest.split("```").next().unwrap()).collect()
}

/// A PATH on which the programs of the page come first.
fn programs(node: &Node) -> String {
    let dir = node.path().join("bin");
    std::fs::create_dir(&dir).unwrap();
    symlink(cargo_bin("outrigger"), dir.join("outrigger")).unwrap();
    for name in ["kubectl", "helm"] {
        symlink(node.program_file(name), dir.join(name)).unwrap();
    }
    let path: PathBuf = std::env::var_os("PATH").unwrap().into();
    format!("{}:{}", dir.display(), path.display())
}

/// What a person would look at next.
async fn state(node: &Node) -> String {
    let pods = node.kubectl(&["get", "pods", "-A", "-o", "wide"]).await.unwrap_or_default();
    let events = node.kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]).await.unwrap_or_default();
    let mut logs = String::new();
    for (namespace, container) in [("outrigger-system", "control-plane"), ("shop", "outrigger-proxy")] {
        for pod in node.list_json("pods", namespace, "").await.unwrap_or_default() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            logs.push_str(&format!("--- {name}\n{}\n", node.logs([namespace, name, container])));
        }
    }
    format!("{pods}\n{events}\n{logs}")
}
