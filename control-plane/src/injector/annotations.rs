//! What a pod says about its own sidecar, read from its annotations into a form that cannot be wrong.

use std::net::IpAddr;

use serde_json::Value;

use super::quantity::amount;
use super::{Refusal, annotation};

/// Ports of the pod that are reached without the sidecar.
pub const SKIP_INBOUND_PORTS: &str = "outrigger.dev/skip-inbound-ports";
/// Ports that the pod dials without the sidecar.
pub const SKIP_OUTBOUND_PORTS: &str = "outrigger.dev/skip-outbound-ports";
/// Networks that the pod dials without the sidecar.
pub const SKIP_OUTBOUND_CIDRS: &str = "outrigger.dev/skip-outbound-cidrs";
/// Ports of the pod whose bytes the sidecar carries without looking at them.
pub const OPAQUE_PORTS: &str = "outrigger.dev/opaque-ports";
/// CPU that is set aside for the sidecar.
pub const CPU_REQUEST: &str = "outrigger.dev/proxy-cpu-request";
/// CPU that the sidecar does not exceed.
pub const CPU_LIMIT: &str = "outrigger.dev/proxy-cpu-limit";
/// Memory that is set aside for the sidecar.
pub const MEMORY_REQUEST: &str = "outrigger.dev/proxy-memory-request";
/// Memory that the sidecar does not exceed.
pub const MEMORY_LIMIT: &str = "outrigger.dev/proxy-memory-limit";
/// What the sidecar logs about itself.
pub const LOG_LEVEL: &str = "outrigger.dev/log-level";
/// Whether and how the sidecar logs requests: the control plane reads it.
pub const ACCESS_LOG: &str = "outrigger.dev/access-log";

/// The most items of a list: each is a rule in the kernel. The redirect step has the same bound.
const MAX_ITEMS: usize = 256;
/// The longest log level that is taken, in bytes.
const MAX_LOG_LEVEL_BYTES: usize = 1024;

/// What a pod says about its own sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) skip_inbound_ports: Vec<String>,
    pub(super) skip_outbound_ports: Vec<String>,
    pub(super) skip_outbound_cidrs: Vec<String>,
    pub(super) cpu_request: Option<String>,
    pub(super) cpu_limit: Option<String>,
    pub(super) memory_request: Option<String>,
    pub(super) memory_limit: Option<String>,
    pub(super) log_level: Option<String>,
}

/// Reads the annotations of a pod.
pub(super) fn read(pod: &Value) -> Result<Wishes, Refusal> {
    checked(pod, OPAQUE_PORTS, |text| items(text, port))?;
    checked(pod, ACCESS_LOG, access_log)?;
    Ok(Wishes {
        skip_inbound_ports: checked(pod, SKIP_INBOUND_PORTS, |text| items(text, ports))?.unwrap_or_default(),
        skip_outbound_ports: checked(pod, SKIP_OUTBOUND_PORTS, |text| items(text, ports))?
            .unwrap_or_default(),
        skip_outbound_cidrs: checked(pod, SKIP_OUTBOUND_CIDRS, |text| items(text, cidr))?.unwrap_or_default(),
        cpu_request: checked(pod, CPU_REQUEST, cpu)?,
        cpu_limit: checked(pod, CPU_LIMIT, cpu)?,
        memory_request: checked(pod, MEMORY_REQUEST, memory)?,
        memory_limit: checked(pod, MEMORY_LIMIT, memory)?,
        log_level: checked(pod, LOG_LEVEL, log_level)?,
    })
}

/// The field of an annotation, as people write it.
pub(super) fn field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

fn checked<T>(
    pod: &Value,
    key: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Refusal> {
    let text = annotation(pod, key).map(str::trim);
    text.map(read).transpose().map_err(|message| Refusal::new(field(key), message))
}

/// The items of a list with commas; an empty text is an empty list.
fn items(text: &str, check: fn(&str) -> Result<(), String>) -> Result<Vec<String>, String> {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.len() > MAX_ITEMS {
        return Err(format!("{} items, at most {MAX_ITEMS} are possible; use ranges", items.len()));
    }
    items.iter().try_for_each(|item| check(item))?;
    Ok(items.into_iter().map(str::to_owned).collect())
}

fn number(text: &str) -> Option<u16> {
    // A sign would be read by Rust, and by nobody else.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

fn port(text: &str) -> Result<(), String> {
    number(text)
        .map(drop)
        .ok_or_else(|| format!("{text:?} is not a port from 1 to 65535; write for example 3306 or 3306,6379"))
}

fn ports(text: &str) -> Result<(), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(()),
        _ => Err(format!(
            "{text:?} is not a port from 1 to 65535 or a range; write for example 22 or 22,9100-9110"
        )),
    }
}

fn cidr(text: &str) -> Result<(), String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let most = address.parse().ok().map(|address: IpAddr| if address.is_ipv4() { 32 } else { 128 });
    let fits = |bits: &str| most.is_some_and(|most: u8| bits.parse().is_ok_and(|bits: u8| bits <= most));
    match most.is_some() && bits.is_none_or(fits) {
        true => Ok(()),
        false => Err(format!("{text:?} is not a network; write for example 10.9.0.0/16 or fd09::/16")),
    }
}

pub(super) fn cpu(text: &str) -> Result<String, String> {
    amount(text).map(|_| text.to_owned()).ok_or_else(|| {
        format!("{text:?} is not an amount of CPU; write for example 100m (a tenth of a CPU) or 1.5")
    })
}

pub(super) fn memory(text: &str) -> Result<String, String> {
    amount(text)
        .filter(|bytes| *bytes >= 1.0)
        .map(|_| text.to_owned())
        .ok_or_else(|| format!("{text:?} is not an amount of memory; write for example 64Mi or 1Gi"))
}

/// A level, or pairs of target and level, as the flag of the proxy takes them.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let is_level = |level: &str| {
        ["off", "error", "warn", "info", "debug", "trace"].contains(&level.to_ascii_lowercase().as_str())
    };
    let is_target = |target: &str| {
        !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    };
    if text.len() <= MAX_LOG_LEVEL_BYTES && text.split(',').all(|directive| is_directive(directive.trim())) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a log level; write error, warn, info, debug, trace, or pairs such as outrigger_proxy=debug,hyper=warn"
    ))
}

fn access_log(text: &str) -> Result<(), String> {
    match text {
        "enabled" | "disabled" | "json" | "text" => Ok(()),
        _ => Err(format!("{text:?} is not known; write enabled, disabled, json or text")),
    }
}
