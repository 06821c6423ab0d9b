//! Probes: what is asked, and what a row of answers means.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Version;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{self, Client};
use crate::process::Program;

use super::services::list;

/// A probe and its answers so far.
#[derive(Debug)]
pub(super) struct Probe {
    spec: Value,
    due: Instant,
    successes: u64,
    failures: u64,
}

/// What the answers mean, once there are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Success,
    Failure,
}

impl Probe {
    /// A probe that is due when its initial delay is over; `None` where the spec has none.
    pub(super) fn new(spec: &Value, now: Instant) -> Option<Self> {
        let delay = Duration::from_secs(spec["initialDelaySeconds"].as_u64().unwrap_or(0));
        spec.is_object().then(|| Self { spec: spec.clone(), due: now + delay, successes: 0, failures: 0 })
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Takes an answer into account; the verdict when there are enough of its kind in a row.
    pub(super) fn answered(&mut self, is_good: bool, now: Instant) -> Option<Verdict> {
        let number = |name: &str, default| self.spec[name].as_u64().unwrap_or(default);
        let (wanted, allowed) = (number("successThreshold", 1), number("failureThreshold", 3));
        self.due = now + Duration::from_secs(number("periodSeconds", 10));
        if is_good {
            (self.successes, self.failures) = (self.successes + 1, 0);
            (self.successes >= wanted).then_some(Verdict::Success)
        } else {
            (self.successes, self.failures) = (0, self.failures + 1);
            (self.failures >= allowed).then_some(Verdict::Failure)
        }
    }

    /// Asks once. `exec` starts a command in the container.
    pub(super) async fn ask(
        &self,
        container: &Value,
        pod: IpAddr,
        exec: impl FnOnce(&[&str]) -> Program,
    ) -> Result<()> {
        let patience = Duration::from_secs(self.spec["timeoutSeconds"].as_u64().unwrap_or(1));
        let asking = async {
            if self.spec["httpGet"].is_object() {
                http(&self.spec["httpGet"], container, pod).await
            } else if self.spec["tcpSocket"].is_object() {
                let port = port(&self.spec["tcpSocket"]["port"], container)?;
                TcpStream::connect(SocketAddr::new(pod, port)).await.map(drop).context("nobody listens")
            } else if self.spec["exec"].is_object() {
                let words: Vec<_> =
                    list(&self.spec["exec"]["command"]).iter().filter_map(Value::as_str).collect();
                exec(&words).output(patience).await.map(drop)
            } else {
                bail!("the test node does not know this probe: {}", self.spec)
            }
        };
        tokio::time::timeout(patience, asking).await.context("no answer in time")?
    }
}

/// A `GET` as the kubelet sends it, for a probe or a hook.
pub(super) async fn http(spec: &Value, container: &Value, pod: IpAddr) -> Result<()> {
    if spec["scheme"].as_str().is_some_and(|scheme| scheme != "HTTP") {
        bail!("the test node probes by HTTP only: {spec}");
    }
    let host = spec["host"].as_str().and_then(|host| host.parse().ok()).unwrap_or(pod);
    let address = SocketAddr::new(host, port(&spec["port"], container)?);
    let mut request = http::Request::get(spec["path"].as_str().unwrap_or("/"));
    for header in list(&spec["httpHeaders"]) {
        let (name, value) = (header["name"].as_str(), header["value"].as_str());
        request = request.header(name.unwrap_or_default(), value.unwrap_or_default());
    }
    let answer =
        Client::connect(address, Version::HTTP_11).await?.send(request.body(client::empty())?).await?;
    match answer.status.as_u16() {
        200..400 => Ok(()),
        status => bail!("{status}: {}", String::from_utf8_lossy(&answer.body)),
    }
}

/// A port by number or by name.
fn port(port: &Value, container: &Value) -> Result<u16> {
    let named = |name: &str| {
        let ports = list(&container["ports"]);
        ports.iter().find(|port| port["name"] == name).map(|port| &port["containerPort"])
    };
    let number = port.as_str().map_or(Some(port), named).and_then(Value::as_u64);
    number.and_then(|number| u16::try_from(number).ok()).with_context(|| format!("there is no port {port}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_verdict_takes_as_many_answers_in_a_row_as_the_spec_says() {
        let now = Instant::now();
        let mut probe = Probe::new(&json!({"successThreshold": 2, "failureThreshold": 2}), now).unwrap();
        let answers = [true, false, true, true, false, true, false, false];
        let verdicts: Vec<_> = answers.iter().map(|&is_good| probe.answered(is_good, now)).collect();
        let (good, bad) = (Some(Verdict::Success), Some(Verdict::Failure));
        assert_eq!(verdicts, [None, None, None, good, None, None, None, bad]);
        assert!(!probe.is_due(now) && probe.is_due(now + Duration::from_secs(10)));
        assert!(Probe::new(&Value::Null, now).is_none());
    }
}
