//! `BackendPolicy.spec`.

use serde_json::Value;

use super::schema::{count, duration, flag, mixed, name, object, percent, some, text, whole, word};
use super::shared;

/// At most so many ranges of statuses.
const MAX_RANGES: usize = 16;

pub(super) fn spec() -> Value {
    object(
        "What is wanted.",
        &["targetRefs"],
        vec![
            ("targetRefs", shared::some_targets("What it is about.")),
            ("loadBalancer", load_balancer()),
            ("slowStart", slow_start()),
            ("circuitBreaker", circuit_breaker()),
            ("outlierDetection", outlier_detection()),
            ("healthCheck", health_check()),
            ("retryBudget", retry_budget()),
            ("connection", connection()),
            (
                "locality",
                object(
                    "Whether near endpoints are preferred.",
                    &["mode"],
                    vec![(
                        "mode",
                        word(
                            "PreferLocal prefers them and spills over by load, Strict never uses others, Off treats all alike.",
                            &["PreferLocal", "Strict", "Off"],
                        ),
                    )],
                ),
            ),
        ],
    )
}

fn load_balancer() -> Value {
    let hash_on = object(
        "What RingHash and Maglev hash: one of these.",
        &[],
        vec![
            ("header", name("A request header.")),
            ("cookie", shared::cookie("A cookie, made by the proxy if it is missing and has a ttl.")),
            ("sourceIp", flag("The address of the client.")),
        ],
    );
    let peak_ewma = object(
        "What PeakEwma starts from and how fast it forgets.",
        &[],
        vec![
            ("defaultRoundTrip", duration("Assumed of an endpoint never used.")),
            ("decay", duration("In this time the weight of the past falls by e.")),
        ],
    );
    object(
        "How an endpoint is chosen.",
        &[],
        vec![
            (
                "algorithm",
                word(
                    "PeakEwma unless written.",
                    &["PeakEwma", "LeastRequest", "RoundRobin", "Random", "RingHash", "Maglev"],
                ),
            ),
            ("peakEwma", peak_ewma),
            ("hashOn", hash_on),
        ],
    )
}

fn slow_start() -> Value {
    object(
        "How a new endpoint is given its share.",
        &["window"],
        vec![
            ("window", duration("How long it takes to the full share.")),
            ("minWeightPercent", whole("What it starts with: 10 unless written.", 0, 100)),
        ],
    )
}

fn circuit_breaker() -> Value {
    object(
        "What the destination is given at most by one client.",
        &[],
        vec![
            ("maxConnections", count("Connections, all endpoints together.")),
            ("maxPendingRequests", whole("Requests that wait for a connection.", 0, u32::MAX)),
            ("maxRequests", count("Requests in flight.")),
            ("maxRetries", whole("Retries in flight.", 0, u32::MAX)),
        ],
    )
}

fn outlier_detection() -> Value {
    object(
        "Ejection of endpoints that fail; on unless `enabled: false`.",
        &[],
        vec![
            ("enabled", flag("Whether it is on: true unless written.")),
            ("consecutiveErrors", count("Errors in a row that eject.")),
            ("successRatePercent", percent("The success rate below which an endpoint is ejected.")),
            ("minimumRequests", count("Requests before the success rate counts.")),
            ("window", duration("The window of the success rate.")),
            ("baseEjectionTime", duration("The first ejection.")),
            ("maxEjectionTime", duration("The longest ejection.")),
            ("maxEjectionPercent", whole("The share of endpoints that may be ejected.", 0, 100)),
        ],
    )
}

fn health_check() -> Value {
    let http = object(
        "GET of a path.",
        &["path"],
        vec![
            ("path", name("The path, starting with /.")),
            (
                "expectedStatuses",
                some(
                    "The statuses that pass: 200 to 399 unless written.",
                    MAX_RANGES,
                    mixed("A status, or {start, end} of a range."),
                ),
            ),
        ],
    );
    let grpc = object(
        "grpc.health.v1.Health/Check.",
        &[],
        vec![("service", text("The service asked about; empty is the server as a whole."))],
    );
    object(
        "Active checks of every endpoint by one of http, grpc and tcp; none unless written.",
        &[],
        vec![
            ("http", http),
            ("grpc", grpc),
            ("tcp", object("A connection.", &[], vec![])),
            ("interval", duration("Between two checks: 5s unless written.")),
            ("timeout", duration("For one check: 1s unless written.")),
            ("healthyThreshold", count("Successes in a row that restore: 2 unless written.")),
            ("unhealthyThreshold", count("Failures in a row that eject: 3 unless written.")),
        ],
    )
}

fn retry_budget() -> Value {
    object(
        "How many retries it is given.",
        &[],
        vec![
            ("percent", percent("As a share of requests.")),
            ("minRetriesPerSecond", whole("Always allowed.", 0, u32::MAX)),
            ("interval", duration("The window over which requests are counted.")),
        ],
    )
}

fn connection() -> Value {
    object(
        "Connections to it.",
        &[],
        vec![
            ("connectTimeout", duration("For the TCP and TLS handshakes together.")),
            ("idleTimeout", duration("An unused connection is closed after this.")),
            ("maxLifetime", duration("A connection takes no new request after this.")),
            ("tcpUserTimeout", duration("Unacknowledged bytes for so long end a connection.")),
        ],
    )
}
