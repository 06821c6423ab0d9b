//! `/app-health/<container>/<probe>`: the probes that the application had before it got a sidecar.
//!
//! The kubelet judges as ever, by the status of the answer; timeouts and thresholds stay in the pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::ask::{Question, ask, connect};
use super::grpc;

/// The most probes of a pod.
pub const MAX_PROBES: usize = 256;
/// The most that is read of an answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 1 << 20;
/// A probe without a timeout has the kubelet's default.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1;
/// The longest timeout, in seconds.
const MAX_TIMEOUT_SECONDS: u64 = 3600;

/// `--probes`: what the pod said, by `<container>/<startup|liveness|readiness>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probes(Arc<BTreeMap<String, Probe>>);

/// One probe, as a pod has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Written")]
struct Probe {
    asks: Asks,
    within: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asks {
    Http(HttpGet),
    Tcp { host: Option<String>, port: u16 },
    Grpc { port: u16, service: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct HttpGet {
    host: Option<String>,
    port: u16,
    scheme: Scheme,
    path: String,
    headers: HeaderMap,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    http_get: Option<WrittenHttp>,
    tcp_socket: Option<WrittenTcp>,
    grpc: Option<WrittenGrpc>,
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenHttp {
    port: u16,
    #[serde(default)]
    path: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    http_headers: Vec<WrittenHeader>,
}

#[derive(Deserialize)]
struct WrittenHeader {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct WrittenTcp {
    port: u16,
    #[serde(default)]
    host: String,
}

#[derive(Deserialize)]
struct WrittenGrpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

impl FromStr for Probes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let probes: BTreeMap<String, Probe> = serde_json::from_str(text)
            .map_err(|error| format!("not a JSON object of probes by container/probe: {error}"))?;
        match probes.len() {
            ..=MAX_PROBES => Ok(Self(Arc::new(probes))),
            many => Err(format!("{many} probes, at most {MAX_PROBES} are possible")),
        }
    }
}

impl TryFrom<Written> for Probe {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let asks = match (written.http_get, written.tcp_socket, written.grpc) {
            (Some(http), None, None) => Asks::Http(http.try_into()?),
            (None, Some(tcp), None) => Asks::Tcp { host: said(tcp.host), port: tcp.port },
            (None, None, Some(grpc)) => {
                Asks::Grpc { port: grpc.port, service: grpc.service.unwrap_or_default() }
            }
            _ => return Err("a probe has one of httpGet, tcpSocket and grpc".to_owned()),
        };
        let seconds = written.timeout_seconds.filter(|seconds| *seconds > 0);
        let seconds = seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS).min(MAX_TIMEOUT_SECONDS);
        Ok(Self { asks, within: Duration::from_secs(seconds) })
    }
}

impl TryFrom<WrittenHttp> for HttpGet {
    type Error = String;

    fn try_from(written: WrittenHttp) -> Result<Self, Self::Error> {
        let scheme = match written.scheme.as_str() {
            "" | "HTTP" => Scheme::HTTP,
            "HTTPS" => Scheme::HTTPS,
            other => return Err(format!("scheme is HTTP or HTTPS, not {other:?}")),
        };
        let slash = if written.path.starts_with('/') { "" } else { "/" };
        let headers = written.http_headers.into_iter().map(|header| {
            let bad = |_| format!("httpHeaders: {:?} is no header", header.name);
            let name = HeaderName::try_from(&header.name).map_err(|_| bad(()))?;
            Ok((name, HeaderValue::try_from(&header.value).map_err(|_| bad(()))?))
        });
        Ok(Self {
            host: said(written.host),
            port: written.port,
            scheme,
            path: format!("{slash}{}", written.path),
            headers: headers.collect::<Result<_, String>>()?,
        })
    }
}

fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Answers for the application, which is asked at `address`, where the kubelet would ask it.
pub fn router(probes: Probes, address: IpAddr) -> Router {
    let host: Arc<str> = address.to_string().into();
    Router::new().route("/app-health/{container}/{probe}", get(answer)).with_state((probes, host))
}

async fn answer(
    State((Probes(probes), address)): State<(Probes, Arc<str>)>,
    Path((container, probe)): Path<(String, String)>,
) -> (StatusCode, String) {
    let name = format!("{container}/{probe}");
    let Some(probe) = probes.get(&name) else {
        return (StatusCode::NOT_FOUND, format!("the pod has no probe {name}\n"));
    };
    match probe.run(&address).await {
        Ok(status) => (status, format!("the application answered {status}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

impl Probe {
    async fn run(&self, address: &str) -> Result<StatusCode, String> {
        match &self.asks {
            Asks::Http(http) => http.run(address, self.within).await,
            Asks::Tcp { host, port } => {
                let connecting = connect(host.as_deref().unwrap_or(address), *port);
                match tokio::time::timeout(self.within, connecting).await {
                    Ok(connected) => connected.map(|_| StatusCode::OK).map_err(|error| error.to_string()),
                    Err(_) => Err(format!("no connection within {:?}", self.within)),
                }
            }
            Asks::Grpc { port, service } => {
                let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                grpc::check(&format!("{host}:{port}"), service, self.within).await.map(|()| StatusCode::OK)
            }
        }
    }
}

impl HttpGet {
    async fn run(&self, address: &str, within: Duration) -> Result<StatusCode, String> {
        let question = Question {
            host: self.host.as_deref().unwrap_or(address),
            port: self.port,
            scheme: self.scheme.clone(),
            path: &self.path,
            headers: self.headers.clone(),
            within,
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        let status = ask(question).await.map_err(|error| error.to_string())?.status;
        // The kubelet takes a redirect for health, and must not follow one of the application's from here.
        Ok(if status.is_redirection() { StatusCode::OK } else { status })
    }
}

#[cfg(test)]
mod tests;
