//! A steady stream of requests through the whole chain, and what came of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::client::Client;

/// Connections the requests are spread over.
const CONNECTIONS: u32 = 10;

/// A request without an answer after this time has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running load.
pub(super) struct Traffic {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

/// What came of all requests so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// Answers by the instance of reviews that made them.
    pub(super) instances: BTreeMap<String, u64>,
    /// Answers by the version of reviews.
    pub(super) versions: BTreeMap<String, u64>,
    pub(super) last_failure: Option<String>,
    latency: Latency,
}

impl Traffic {
    /// Starts sending `rate` requests a second.
    pub(super) fn start(entrance: SocketAddr, rate: u32) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let every = Duration::from_secs(1) * CONNECTIONS / rate;
        for number in 0..CONNECTIONS {
            let first = Instant::now() + every * number / CONNECTIONS;
            tasks.spawn(send(entrance, first, every, seen.clone()));
        }
        Self { seen, _tasks: tasks }
    }

    /// What came of all requests so far.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

async fn send(entrance: SocketAddr, first: Instant, every: Duration, seen: Arc<Mutex<Seen>>) {
    let mut client = Client::new(entrance, "web.shop");
    let mut ticks = interval_at(first, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let outcome = ask(&mut client).await;
        lock(&seen).add(outcome, begun.elapsed());
    }
}

async fn ask(client: &mut Client) -> Result<Value, String> {
    let answer = client.get("/product/1", PATIENCE).await.map_err(|error| format!("{error:#}"))?;
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    match body {
        Some(body) if answer.status == http::StatusCode::OK => Ok(body),
        _ => {
            let reason = answer.headers.get("x-outrigger-reason").and_then(|reason| reason.to_str().ok());
            let said = String::from_utf8_lossy(&answer.body);
            Err(format!("{} {}", answer.status, reason.unwrap_or(&said)))
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn add(&mut self, outcome: Result<Value, String>, took: Duration) {
        self.requests += 1;
        match outcome {
            Ok(body) => {
                let reviews = &body["reviews"];
                let text = |key: &str| reviews[key].as_str().unwrap_or("?").to_owned();
                *self.instances.entry(text("app")).or_default() += 1;
                *self.versions.entry(text("version")).or_default() += 1;
                self.latency.add(took);
            }
            Err(failure) => {
                self.failed += 1;
                self.last_failure = Some(failure);
            }
        }
    }

    /// A latency percentile of all answers, in milliseconds.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        self.latency.percentile_ms(percent)
    }

    /// Answers of an instance.
    pub(super) fn of_instance(&self, name: &str) -> u64 {
        self.instances.get(name).copied().unwrap_or_default()
    }

    /// The share of version 2 among the answers since `before`, from 0 to 1, and how many those are.
    pub(super) fn share_v2_since(&self, before: &Self) -> (f64, u64) {
        let since = |version: &str| {
            let count = |seen: &Self| seen.versions.get(version).copied().unwrap_or_default();
            count(self) - count(before)
        };
        let (v1, v2) = (since("v1"), since("v2"));
        let all = v1 + v2;
        (v2 as f64 / all.max(1) as f64, all)
    }
}

/// Latencies in buckets of one percent, up to about 100 seconds.
#[derive(Debug, Clone)]
struct Latency {
    buckets: Vec<u32>,
}

/// `ln(100 s in microseconds) * 100`, rounded up.
const BUCKETS: usize = 1843;

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS] }
    }
}

impl Latency {
    fn add(&mut self, took: Duration) {
        let micros = took.as_micros().max(1) as f64;
        let index = (micros.ln() * 100.0) as usize;
        self.buckets[index.min(BUCKETS - 1)] += 1;
    }

    fn percentile_ms(&self, percent: f64) -> f64 {
        let all: u64 = self.buckets.iter().map(|n| u64::from(*n)).sum();
        let mut left = (all as f64 * percent / 100.0).ceil() as u64;
        for (index, count) in self.buckets.iter().enumerate() {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 && all > 0 {
                let millis = ((index as f64 + 0.5) / 100.0).exp() / 1000.0;
                return (millis * 100.0).round() / 100.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_percent() {
        let mut latency = Latency::default();
        assert_eq!(latency.percentile_ms(50.0), 0.0);
        for millis in 1..=100 {
            latency.add(Duration::from_millis(millis));
        }
        for percent in [50.0, 99.0, 100.0] {
            let found = latency.percentile_ms(percent);
            assert!((found - percent).abs() / percent < 0.02, "p{percent} is {found}");
        }
    }

    #[test]
    fn the_share_counts_from_a_mark() {
        let answer = |version: &str| Ok(serde_json::json!({"reviews": {"app": "x", "version": version}}));
        let mut seen = Seen::default();
        seen.add(answer("v1"), Duration::ZERO);
        let mark = seen.clone();
        seen.add(answer("v1"), Duration::ZERO);
        seen.add(answer("v2"), Duration::ZERO);
        seen.add(Err("503".into()), Duration::ZERO);
        assert_eq!(seen.share_v2_since(&mark), (0.5, 2));
        assert_eq!((seen.requests, seen.failed), (4, 1));
    }
}
