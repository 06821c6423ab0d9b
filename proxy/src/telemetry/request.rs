//! One record a request: opened with its head, closed when its response is over, whatever way that comes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use outrigger_base::telemetry::metrics::{Counter, Histogram, Labels};
use outrigger_model::inbound::AccessLogFormat;
use tokio::time::Instant;

use super::access_log::{self, Line};
use super::labels::{Name, Parties};
use super::{Protection, Telemetry, Way, milliseconds};
use crate::reason::Reason;
use crate::worker::Worker;

/// Handles a worker keeps at most; beyond that it forgets all and starts again.
const HANDLES_MAX: usize = 16_384;

const NO_GRPC_STATUS: u8 = u8::MAX;

/// The handles a worker has looked up before.
pub struct LocalTelemetry {
    handles: RefCell<HashMap<Key, Rc<Handles>, foldhash::fast::FixedState>>,
}

struct Handles {
    requests: Counter,
    duration: Histogram,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    way: Way,
    protection: Protection,
    version: Version,
    status: u16,
    grpc_status: u8,
    reason: Option<Reason>,
    peer: u32,
    service: u32,
    endpoint: u32,
    route: u32,
}

/// The record of one request. Dropping it closes it.
pub struct RequestRecord {
    worker: Rc<Worker>,
    started: Instant,
    key: Key,
    response_bytes: u64,
    line: Option<Box<LineFields>>,
}

/// What the access log shows of the request itself.
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target.
    pub uri: &'a Uri,
    /// The authority that was asked for.
    pub authority: &'a str,
    /// Who connected.
    pub downstream: SocketAddr,
    /// How the line looks.
    pub format: AccessLogFormat,
}

struct LineFields {
    method: Method,
    uri: Uri,
    authority: Box<str>,
    trace_id: Box<str>,
    audit: String,
    downstream: SocketAddr,
    format: AccessLogFormat,
    upstream: Option<SocketAddr>,
    cluster: Arc<str>,
    attempts: u32,
}

impl LocalTelemetry {
    /// No handles yet.
    pub fn new(_telemetry: &Telemetry) -> Self {
        Self { handles: RefCell::default() }
    }

    fn handles(&self, telemetry: &Telemetry, key: &Key) -> Rc<Handles> {
        let mut handles = self.handles.borrow_mut();
        if let Some(found) = handles.get(key) {
            return found.clone();
        }
        if handles.len() >= HANDLES_MAX {
            handles.clear();
        }
        let labels = key.labels(telemetry);
        let registry = telemetry.registry();
        let made = Rc::new(Handles {
            requests: registry.counter("outrigger_requests_total", labels.clone()),
            duration: registry.histogram("outrigger_request_duration_seconds", labels),
        });
        handles.insert(*key, made.clone());
        made
    }
}

impl RequestRecord {
    /// Opens a record of a request whose first byte came at `started`.
    pub fn open(worker: &Rc<Worker>, way: Way, version: Version, started: Instant) -> Self {
        let key = Key {
            way,
            protection: Protection::Plaintext,
            version,
            status: 0,
            grpc_status: NO_GRPC_STATUS,
            reason: None,
            peer: 0,
            service: 0,
            endpoint: 0,
            route: 0,
        };
        Self { worker: worker.clone(), started, key, response_bytes: 0, line: None }
    }

    /// Remembers what the access log shows. Only called when it is on.
    pub fn log(&mut self, line: &RequestLine<'_>) {
        self.line = Some(Box::new(LineFields {
            method: line.method.clone(),
            uri: line.uri.clone(),
            authority: line.authority.into(),
            trace_id: Box::default(),
            audit: String::new(),
            downstream: line.downstream,
            format: line.format,
            upstream: None,
            cluster: Arc::default(),
            attempts: 0,
        }));
    }

    /// The trace the request belongs to, from its `traceparent`, which is only looked for when the access log is on.
    pub fn traced<'a>(&mut self, traceparent: impl FnOnce() -> Option<&'a HeaderValue>) {
        if let Some(line) = &mut self.line {
            let id = traceparent().and_then(|value| value.to_str().ok()).and_then(|text| text.get(3..35));
            line.trace_id = id.unwrap_or_default().into();
        }
    }

    /// A policy that only records has matched the request: the access log says so.
    pub fn audited(&mut self, policy: &str) {
        if let Some(line) = &mut self.line {
            if !line.audit.is_empty() {
                line.audit.push(',');
            }
            line.audit.push_str(policy);
        }
    }

    /// When the request head came.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The worker the request runs on.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// An inbound request's client.
    pub fn peer(&mut self, label: u32, protection: Protection) {
        self.key.peer = label;
        self.key.protection = protection;
    }

    /// The route that was taken.
    pub fn route(&mut self, label: u32) {
        self.key.route = label;
    }

    /// The service that was asked for.
    pub fn service(&mut self, label: u32) {
        self.key.service = label;
    }

    /// One attempt: the endpoint it went to.
    pub fn attempt(&mut self, endpoint: u32, protection: Protection, to: (SocketAddr, &Arc<str>)) {
        self.key.endpoint = endpoint;
        self.key.protection = protection;
        if let Some(line) = &mut self.line {
            line.upstream = Some(to.0);
            line.cluster = to.1.clone();
            line.attempts += 1;
        }
    }

    /// The status the client got.
    pub fn status(&mut self, status: StatusCode) {
        self.key.status = status.as_u16();
    }

    /// The gRPC status the client got, of a head or of trailers. Codes beyond the known ones count as 2 (unknown).
    pub fn grpc_status(&mut self, code: u8) {
        self.key.grpc_status = if code <= 16 { code } else { 2 };
    }

    /// The proxy answered, or ended the answer, itself.
    pub fn reason(&mut self, reason: Reason) {
        self.key.reason = Some(reason);
    }

    /// Counts body bytes towards the client.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let telemetry = &self.worker.shared.telemetry;
        let handles = self.worker.telemetry.handles(telemetry, &self.key);
        handles.requests.increment(1);
        handles.duration.record(duration.as_secs_f64());
        if let Some(line) = &self.line {
            let format = line.format;
            self.write(line, format, milliseconds(duration));
        }
    }
}

impl RequestRecord {
    fn write(&self, fields: &LineFields, format: AccessLogFormat, duration_ms: f64) {
        let telemetry = &self.worker.shared.telemetry;
        let other = if self.key.way == Way::Inbound { self.key.peer } else { self.key.endpoint };
        let (other, route) = (telemetry.name(other), telemetry.name(self.key.route));
        let (me, service) = (telemetry.me(), telemetry.name(self.key.service));
        let line = Line {
            direction: self.key.way.word(),
            workload: &me.name,
            namespace: &me.namespace,
            service: &service_word(&service),
            method: fields.method.as_str(),
            path: fields.uri.path(),
            authority: &fields.authority,
            protocol: protocol_word(self.key.version),
            status: self.key.status,
            grpc_status: grpc_code(self.key.grpc_status),
            reason: self.key.reason.map(Reason::word),
            duration_ms,
            response_bytes: self.response_bytes,
            downstream: fields.downstream,
            identity: &other.identity,
            route: &route.name,
            cluster: &fields.cluster,
            endpoint: fields.upstream,
            attempts: fields.attempts,
            security: self.key.protection.word(),
            trace_id: &fields.trace_id,
            audit: &fields.audit,
        };
        access_log::write(&telemetry.access_log, format, &line);
    }
}

impl Key {
    fn labels(&self, telemetry: &Telemetry) -> Labels {
        let parties =
            Parties { way: self.way, peer: self.peer, service: self.service, endpoint: self.endpoint };
        let mut labels = parties.labels(telemetry);
        labels.extend([
            ("route", telemetry.name(self.route).name.into()),
            ("protocol", protocol_word(self.version).into()),
            ("status", self.status.to_string().into()),
            ("grpc_status", grpc_code(self.grpc_status).map(|c| c.to_string()).unwrap_or_default().into()),
            ("reason", self.reason.map(Reason::word).unwrap_or_default().into()),
            ("security", self.protection.word().into()),
        ]);
        labels
    }
}

/// A Service as clients write it; empty when it is not known.
fn service_word(service: &Name) -> String {
    match service.namespace.is_empty() {
        true => service.name.to_string(),
        false => format!("{}.{}", service.name, service.namespace),
    }
}

fn grpc_code(code: u8) -> Option<u8> {
    (code != NO_GRPC_STATUS).then_some(code)
}

fn protocol_word(version: Version) -> &'static str {
    if version == Version::HTTP_2 { "http2" } else { "http1" }
}

impl std::fmt::Debug for RequestRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestRecord").field("key", &self.key).finish_non_exhaustive()
    }
}
