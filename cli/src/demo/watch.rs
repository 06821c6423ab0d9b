//! Looks at sidecars from outside: their metrics and what configuration they have in force.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use super::client::Client;

/// A sidecar answers questions about itself within this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the sidecars' metrics say, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Meters {
    /// Requests over mutual TLS.
    pub(super) mtls: f64,
    /// Requests in plaintext that were let through.
    pub(super) plaintext: f64,
    /// Endpoints that are ejected now.
    pub(super) ejected: f64,
}

impl Meters {
    /// Reads the metrics of all sidecars; one that does not answer adds nothing.
    pub(super) async fn read(sidecars: &[(&'static str, SocketAddr)]) -> Self {
        let mut all = Self::default();
        for (_, address) in sidecars {
            let answer = Client::new(*address, "metrics").get("/metrics", PATIENCE).await;
            if let Ok(answer) = answer {
                all.add(&String::from_utf8_lossy(&answer.body));
            }
        }
        all
    }

    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            if series.starts_with("outrigger_requests_total{")
                && !series.contains("reason=\"unauthenticated\"")
            {
                if series.contains("security=\"mtls\"") {
                    self.mtls += value;
                } else {
                    self.plaintext += value;
                }
            } else if series.starts_with("outrigger_upstream_endpoints{")
                && series.contains("state=\"ejected\"")
            {
                self.ejected += value;
            }
        }
    }

    /// The share of requests over mutual TLS, in percent.
    pub(super) fn mtls_percent(&self) -> f64 {
        let all = self.mtls + self.plaintext;
        if all == 0.0 { 0.0 } else { (self.mtls / all * 10_000.0).round() / 100.0 }
    }
}

/// Waits until a sidecar has backends of these weights in force. Gives how long that took.
pub(super) async fn weights_in_force(
    admin: SocketAddr,
    weights: &[u64],
    within: Duration,
) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut client = Client::new(admin, "admin");
    while begun.elapsed() < within {
        let answer = client.get("/config_dump", PATIENCE).await?;
        let dump: Value = serde_json::from_slice(&answer.body)?;
        if has_weights(&dump, weights) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("the new weights are not in force after {within:?}")
}

/// Whether some list in the dump has elements with exactly these weights.
fn has_weights(value: &Value, weights: &[u64]) -> bool {
    match value {
        Value::Array(items) => {
            let found: Vec<u64> = items.iter().filter_map(|item| item["weight"].as_u64()).collect();
            found == weights || items.iter().any(|item| has_weights(item, weights))
        }
        Value::Object(map) => map.values().any(|value| has_weights(value, weights)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_up() {
        let mut meters = Meters::default();
        meters.add(
            "# HELP outrigger_requests_total x\n\
             outrigger_requests_total{reason=\"\",security=\"mtls\"} 3\n\
             outrigger_requests_total{reason=\"\",security=\"plaintext\"} 1\n\
             outrigger_requests_total{reason=\"unauthenticated\",security=\"plaintext\"} 9\n\
             outrigger_upstream_endpoints{state=\"ejected\"} 1\n\
             outrigger_upstream_endpoints{state=\"healthy\"} 4\n",
        );
        assert_eq!(meters, Meters { mtls: 3.0, plaintext: 1.0, ejected: 1.0 });
        assert_eq!(meters.mtls_percent(), 75.0);
        assert_eq!(Meters::default().mtls_percent(), 0.0);
    }

    #[test]
    fn weights_are_found_wherever_they_stand() {
        let dump = serde_json::json!({"a": [{"b": [{"weight": 50}, {"weight": 50}]}]});
        assert!(has_weights(&dump, &[50, 50]));
        assert!(!has_weights(&dump, &[90, 10]));
    }
}
