//! Callers from the metrics of sidecars, in the text format of Prometheus. They say who called whom, not what was asked for.

use std::collections::BTreeMap;

use outrigger_model::identity::SpiffeId;

use super::observed::{By, Destination, Observed};

const REQUESTS: &str = "outrigger_requests_total";
const CONNECTIONS: &str = "outrigger_tcp_connections_opened_total";
/// Reasons and statuses of requests that nobody needs to be allowed.
const REFUSED: [&str; 4] = ["denied", "unauthenticated", "bad_request", "headers_too_large"];
const TURNED_AWAY: [&str; 4] = ["401", "403", "404", "405"];

/// One series.
struct Series<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: u64,
}

/// Takes in what a sidecar answers at `/metrics`.
pub(super) fn take(text: &str, observed: &mut Observed) {
    for series in text.lines().filter_map(series) {
        if matches!(series.name, REQUESTS | CONNECTIONS) && series.label("direction") == "inbound" {
            count(&series, observed);
        }
    }
}

fn count(series: &Series<'_>, observed: &mut Observed) {
    let Some(destination) = destination(series) else { return };
    let seen = observed.destinations.entry(destination).or_default();
    let identity = series.label("source_identity").parse::<SpiffeId>().map(|identity| identity.to_string());
    let is_refused =
        REFUSED.contains(&series.label("reason")) || TURNED_AWAY.contains(&series.label("status"));
    match (series.name, identity) {
        _ if is_refused => seen.refused += series.value,
        (REQUESTS, Ok(identity)) => *seen.counted.entry(identity).or_default() += series.value,
        (CONNECTIONS, Ok(identity)) => *seen.connections.entry(identity).or_default() += series.value,
        (CONNECTIONS, Err(_)) => seen.plaintext_connections += series.value,
        _ => {}
    }
}

fn destination(series: &Series<'_>) -> Option<Destination> {
    let namespace = series.label("destination_namespace").to_owned();
    let by = match series.label("destination_service") {
        "" => By::Workload(series.label("destination_workload").to_owned()),
        service => By::Service(service.to_owned()),
    };
    (!namespace.is_empty()).then_some(Destination { namespace, by })
}

impl Series<'_> {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// `name{label="value",…} 12`; `None` for anything else and for what never happened.
fn series(line: &str) -> Option<Series<'_>> {
    let (name, rest) = line.split_once('{')?;
    let (mut rest, mut labels) = (rest, BTreeMap::new());
    while let Some((label, after)) = rest.split_once("=\"") {
        let (value, after) = quoted(after)?;
        labels.insert(label, value);
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None => {
                rest = after;
                break;
            }
        };
    }
    let value: f64 = rest.strip_prefix('}')?.split_whitespace().next()?.parse().ok()?;
    (value >= 1.0).then_some(Series { name, labels, value: value as u64 })
}

/// A value up to its closing quote, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut escaped) = (String::new(), false);
    for (place, c) in text.char_indices() {
        match (escaped, c) {
            (false, '"') => return Some((value, &text[place + 1..])),
            (false, '\\') => escaped = true,
            (true, 'n') => {
                value.push('\n');
                escaped = false;
            }
            (_, c) => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}
