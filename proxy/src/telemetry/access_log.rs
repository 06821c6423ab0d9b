//! The access log: one line a request, made when it is over and handed to a writer that never blocks a worker.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;

use outrigger_base::telemetry::access_log::Writer;
use outrigger_model::inbound::AccessLogFormat;
use serde::Serialize;

/// What a line says. Field names are fixed; people and programs rely on them.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    pub(super) direction: &'static str,
    /// Whose sidecar writes.
    pub(super) workload: &'a str,
    pub(super) namespace: &'a str,
    /// The Service that was asked for, as `reviews.shop`; empty when it is not known.
    pub(super) service: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) authority: &'a str,
    pub(super) protocol: &'static str,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grpc_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) duration_ms: f64,
    pub(super) response_bytes: u64,
    #[serde(rename = "downstream.addr")]
    pub(super) downstream: SocketAddr,
    #[serde(rename = "peer.identity")]
    pub(super) identity: &'a str,
    #[serde(rename = "route.name")]
    pub(super) route: &'a str,
    #[serde(rename = "cluster.name")]
    pub(super) cluster: &'a str,
    #[serde(rename = "endpoint.addr", skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) attempts: u32,
    pub(super) security: &'static str,
    pub(super) trace_id: &'a str,
    /// Policies with the action Audit that matched, with commas between them.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) audit: &'a str,
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: String,
    log: &'static str,
    #[serde(flatten)]
    line: &'a Line<'a>,
}

/// Hands a line to the writer; a full writer drops and counts it.
pub(super) fn write(writer: &Writer, format: AccessLogFormat, line: &Line<'_>) {
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let bytes = match format {
        AccessLogFormat::Json => json(time, line),
        AccessLogFormat::Text => text(&time, line),
    };
    writer.write(bytes);
}

fn json(time: String, line: &Line<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    if serde_json::to_writer(&mut bytes, &Stamped { time, log: "access", line }).is_err() {
        bytes.clear();
    }
    bytes.push(b'\n');
    bytes
}

fn text(time: &str, line: &Line<'_>) -> Vec<u8> {
    let mut text = format!(
        "{time} {} {} {} {} {} {} {:.3}ms {}B {}",
        line.direction,
        line.downstream,
        line.method,
        Printable(line.path),
        line.protocol,
        line.status,
        line.duration_ms,
        line.response_bytes,
        line.security,
    );
    if let Some(endpoint) = line.endpoint {
        let _ = write!(text, " -> {endpoint}");
    }
    if let Some(reason) = line.reason {
        let _ = write!(text, " reason={reason}");
    }
    if !line.audit.is_empty() {
        let _ = write!(text, " audit={}", line.audit);
    }
    text.push('\n');
    text.into_bytes()
}

/// Control characters never reach a terminal.
struct Printable<'a>(&'a str);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| if c.is_control() { f.write_char('?') } else { f.write_char(c) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line<'static> {
        Line {
            direction: "outbound",
            workload: "web-1",
            namespace: "shop",
            service: "reviews.shop",
            method: "GET",
            path: "/a\"b",
            authority: "reviews.shop:9080",
            protocol: "http1",
            status: 503,
            grpc_status: None,
            reason: Some("no_endpoint"),
            duration_ms: 1.25,
            response_bytes: 0,
            downstream: "127.0.0.1:1".parse().unwrap(),
            identity: "",
            route: "HTTPRoute/shop/reviews",
            cluster: "outbound|9080|reviews.shop",
            endpoint: None,
            attempts: 1,
            security: "mtls",
            trace_id: "",
            audit: "",
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fixed_names() {
        let bytes = json("2026-01-01T00:00:00.000Z".into(), &line());
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["reason"], "no_endpoint");
        assert_eq!((&value["workload"], &value["service"]), (&"web-1".into(), &"reviews.shop".into()));
        assert_eq!(value["route.name"], "HTTPRoute/shop/reviews");
        assert_eq!(value["path"], "/a\"b");
        assert_eq!(bytes.iter().filter(|b| **b == b'\n').count(), 1);
    }

    #[test]
    fn a_text_line_has_no_control_characters() {
        let mut line = line();
        line.path = "/a\u{1b}[31m";
        let text = String::from_utf8(text("t", &line)).unwrap();
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    }
}
