//! What endpoints say of their own load with each answer: ORCA, "Open Request Cost Aggregation", per-request reports.
//!
//! A field or trailer `endpoint-load-metrics` in one of three forms: `TEXT cpu_utilization=0.3,...`, `JSON {...}`, or
//! `BIN` with the base64 of a `xds.data.orca.v3.OrcaLoadReport`, which also stands alone in `endpoint-load-metrics-bin`.
//! It comes from a stranger: what is too long, malformed or out of range is dropped as a whole.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName};
use prost::Message;

use super::ewma::Ewma;

/// The field with a form before the report.
const METRICS: HeaderName = HeaderName::from_static("endpoint-load-metrics");
/// The field with the report in base64 alone.
const METRICS_BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// The longest report that is read, in bytes.
const MAX_REPORT_BYTES: usize = 4096;
/// The most values of a report in text.
const MAX_VALUES: usize = 64;
/// Utilisation beyond this is nonsense: what is measured is full at 1.
const MAX_UTILISATION: f64 = 100.0;

/// How fast reports are forgotten: each weighs by the time since the one before.
const DECAY: Duration = Duration::from_secs(1);
/// A report this old says nothing any more.
const EXPIRES: Duration = Duration::from_secs(30);

/// What a report says that is used here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Report {
    /// What the application says of itself where it does, else of its CPU; above 0, full at 1.
    pub utilisation: Option<f64>,
    /// Requests that it answers in a second.
    pub requests_per_second: Option<f64>,
}

/// What an endpoint has reported lately.
#[derive(Debug)]
pub(super) struct Load {
    utilisation: Ewma,
    /// Requests in a second that would make it full.
    capacity: Ewma,
}

/// How two endpoints compare by what they report: how much of the traffic each would get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Factors {
    pub(super) one: f64,
    pub(super) other: f64,
}

impl Load {
    pub(super) fn new() -> Self {
        Self { utilisation: Ewma::new(), capacity: Ewma::new() }
    }

    pub(super) fn observe(&self, at: Duration, report: Report) {
        let Some(utilisation) = report.utilisation else { return };
        self.utilisation.observe(at, utilisation, DECAY);
        if let Some(rate) = report.requests_per_second {
            self.capacity.observe(at, rate / utilisation, DECAY);
        }
    }

    /// How full it is, while its reports are fresh.
    pub(super) fn utilisation(&self, at: Duration) -> Option<f64> {
        self.utilisation.known(at, EXPIRES)
    }

    /// Shares by what is left to each: the requests that would make it full (gRFC A58, without its penalty for errors,
    /// which are judged elsewhere); where not both say how many they answer, the inverse of how full they are.
    pub(super) fn factors(&self, other: &Self, at: Duration) -> Option<Factors> {
        let capacity = |load: &Self| load.capacity.known(at, EXPIRES);
        if let (Some(one), Some(other)) = (capacity(self), capacity(other)) {
            return Some(Factors { one, other });
        }
        let (one, other) = (self.utilisation(at)?, other.utilisation(at)?);
        Some(Factors { one: 1.0 / one, other: 1.0 / other })
    }
}

/// Whether a field is one that may hold a report.
pub fn is_report(name: &str) -> bool {
    name == METRICS.as_str() || name == METRICS_BINARY.as_str()
}

/// The report of a head or of trailers; `None` where there is none that can be read.
pub fn report(headers: &HeaderMap) -> Option<Report> {
    if let Some(value) = headers.get(METRICS_BINARY) {
        return within(value.as_bytes()).and_then(binary);
    }
    let value = within(headers.get(METRICS)?.as_bytes())?;
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (form, rest) = (&value[..space], value[space..].trim_ascii());
    match form {
        b"TEXT" => text(std::str::from_utf8(rest).ok()?),
        b"JSON" => json(rest),
        b"BIN" => binary(rest),
        _ => None,
    }
}

fn within(value: &[u8]) -> Option<&[u8]> {
    (value.len() <= MAX_REPORT_BYTES).then_some(value)
}

/// `name=value` with commas between them.
fn text(text: &str) -> Option<Report> {
    let mut read = Values::default();
    if text.split(',').count() > MAX_VALUES {
        return None;
    }
    for pair in text.split(',') {
        let (name, value) = pair.split_once('=')?;
        read.value(name.trim(), value.trim().parse().ok()?)?;
    }
    read.report()
}

/// The JSON form of the message, in either spelling of its names.
fn json(bytes: &[u8]) -> Option<Report> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let mut read = Values::default();
    for (name, value) in value.as_object()? {
        match value {
            serde_json::Value::Number(number) => read.value(name, number.as_f64()?)?,
            // Maps of values by name, which nothing here goes by.
            serde_json::Value::Object(named) => {
                named.values().all(serde_json::Value::is_number).then_some(())?;
            }
            _ => return None,
        }
    }
    read.report()
}

fn binary(base64: &[u8]) -> Option<Report> {
    let decoded = STANDARD.decode(base64).or_else(|_| STANDARD_NO_PAD.decode(base64)).ok()?;
    let message = OrcaLoadReport::decode(decoded.as_slice()).ok()?;
    let mut read = Values::default();
    read.value("cpu_utilization", message.cpu_utilization)?;
    read.value("application_utilization", message.application_utilization)?;
    read.value("rps_fractional", message.rps_fractional)?;
    read.report()
}

/// The part of `xds.data.orca.v3.OrcaLoadReport` that is used; other fields are passed over.
#[derive(Clone, PartialEq, Message)]
struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

/// Values by name as they are read; 0 is what protocol buffers say for "not said".
#[derive(Debug, Default)]
struct Values {
    cpu: f64,
    application: f64,
    rate: f64,
}

impl Values {
    /// `None` for a value that cannot be: all values of the message are numbers from 0 on.
    fn value(&mut self, name: &str, value: f64) -> Option<()> {
        if !value.is_finite() || value < 0.0 {
            return None;
        }
        match name {
            "cpu_utilization" | "cpuUtilization" => self.cpu = value,
            "application_utilization" | "applicationUtilization" => self.application = value,
            "rps_fractional" | "rpsFractional" => self.rate = value,
            _ => {}
        }
        Some(())
    }

    fn report(self) -> Option<Report> {
        let said = |value: f64| (value > 0.0).then_some(value);
        let utilisation = said(self.application).or(said(self.cpu));
        if utilisation.is_some_and(|utilisation| utilisation > MAX_UTILISATION) {
            return None;
        }
        Some(Report { utilisation, requests_per_second: said(self.rate) })
    }
}

#[cfg(test)]
mod tests;
