//! Load generators drive a pair of sidecars: nothing is lost, nothing is answered in another way.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use http::Version;
use outrigger_tests::counterparts::{self, Counterpart};
use outrigger_tests::origin::Origin;
use outrigger_tests::process::Program;

use pair::{Pair, run};

#[path = "support/pair.rs"]
mod pair;

#[tokio::test]
async fn h2load_with_prior_knowledge_loses_nothing() {
    let Some(found) = counterparts::need(&[Counterpart::H2load]) else { return };
    let origin = Origin::start("files", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pair = Pair::to(origin.address()).await;
    let url = format!("http://{}/", pair.entrance);
    let said =
        run(Program::at(found.path(Counterpart::H2load)).args(["-n", "3000", "-c", "4", "-m", "16", &url]))
            .await;
    let counted =
        "requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(said.contains(counted), "{said}");
    assert!(said.contains("status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    assert!(said.contains("Application protocol: h2c"), "{said}");
    assert_eq!(origin.arrived(), 3000, "every request arrives, and none twice");
    let seen = origin.seen();
    assert!(seen.iter().all(|request| request.version == Version::HTTP_2), "a request keeps its version");
}

#[tokio::test]
async fn wrk_sees_no_error() {
    let Some(found) = counterparts::need(&[Counterpart::Wrk]) else { return };
    let origin = Origin::start("files", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pair = Pair::to(origin.address()).await;
    let url = format!("http://{}/", pair.entrance);
    let said =
        run(Program::at(found.path(Counterpart::Wrk)).args(["-t", "1", "-c", "16", "-d", "2s", &url])).await;
    let answered =
        said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u64>().ok());
    let answered = answered.unwrap_or_else(|| panic!("{said}"));
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    // wrk breaks off what is under way when its time is over, at most one request a connection.
    assert!(
        answered > 100 && (answered..=answered + 16).contains(&origin.arrived()),
        "{said}{}",
        origin.arrived()
    );
}

#[tokio::test]
async fn load_without_an_identity_reaches_nobody() {
    let Some(found) = counterparts::need(&[Counterpart::H2load]) else { return };
    let origin = Origin::start("files", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pair = Pair::to(origin.address()).await;
    let url = format!("http://{}/", pair.inbound);
    let said =
        run(Program::at(found.path(Counterpart::H2load)).args(["-n", "500", "-c", "4", "-m", "16", &url]))
            .await;
    assert!(said.contains("500 done, 0 succeeded, 500 failed"), "{said}");
    assert!(said.contains("status codes: 0 2xx, 0 3xx, 500 4xx, 0 5xx"), "{said}");
    assert_eq!(origin.arrived(), 0, "a request without identity arrived");
}
