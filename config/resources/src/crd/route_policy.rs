//! `RoutePolicy.spec`.

use serde_json::{Value, json};

use super::schema::{duration, name, number_or_text, object, percent, port, some, text, whole, word};
use super::shared;

/// At most so many conditions of a retry.
const MAX_CONDITIONS: usize = 64;
/// At most so many tries after the first.
const MAX_ATTEMPTS: u32 = 100;
/// At most so many entries of a descriptor.
const MAX_DESCRIPTORS: usize = 16;

pub(super) fn spec() -> Value {
    object(
        "What is wanted.",
        &[],
        vec![
            (
                "targetRefs",
                shared::targets(
                    "HTTPRoutes, GRPCRoutes, Services and ExternalServices; empty for a policy that rules name by an \
                     ExtensionRef filter only.",
                ),
            ),
            ("retry", retry()),
            ("hedge", hedge()),
            ("fault", fault()),
            (
                "rateLimit",
                object(
                    "How many requests are let through; local, global or both.",
                    &[],
                    vec![
                        ("local", shared::local_limit("A limit that each proxy keeps for itself.")),
                        ("global", global_limit()),
                    ],
                ),
            ),
            (
                "sessionAffinity",
                object(
                    "What a client stays with an endpoint by; one of these.",
                    &[],
                    vec![
                        ("cookie", shared::cookie("A cookie that the proxy makes.")),
                        ("header", name("A header that the client sends back.")),
                    ],
                ),
            ),
        ],
    )
}

fn retry() -> Value {
    let backoff = object(
        "How long is waited before a try is repeated: at random up to base, doubled each time up to max.",
        &[],
        vec![
            ("base", duration("The bound of the first wait: 25ms unless written.")),
            ("max", duration("The bound of all waits: ten times the first unless written.")),
        ],
    );
    object(
        "What is tried again.",
        &[],
        vec![
            (
                "on",
                some(
                    "Which ends of a try are tried again; replaces the codes of the rule.",
                    MAX_CONDITIONS,
                    number_or_text(
                        "5xx, gateway-error, reset, connect-failure, refused-stream, retriable-4xx, cancelled, \
                         deadline-exceeded, resource-exhausted, internal, unavailable, or a status from 400 to 599.",
                    ),
                ),
            ),
            ("attempts", whole("Tries after the first.", 0, MAX_ATTEMPTS)),
            ("perTryTimeout", duration("How long one try may take until the head of its response.")),
            ("backoff", backoff),
        ],
    )
}

fn hedge() -> Value {
    let percentile = json!({
        "type": "number", "minimum": 50, "maximum": 99.9,
        "description": "A try is slow when it takes longer than so many percent of those before it: 95 unless written.",
    });
    object(
        "A second try beside one that is slow.",
        &[],
        vec![
            ("delayPercentile", percentile),
            ("maxExtraPercent", percent("Second tries as a share of requests at most: 5 unless written.")),
        ],
    )
}

fn fault() -> Value {
    let delay = object(
        "Requests that wait.",
        &["fixed"],
        vec![("percent", percent("How many: 100 unless written.")), ("fixed", duration("How long."))],
    );
    let abort = object(
        "Requests that are answered and go nowhere.",
        &["httpStatus"],
        vec![
            ("percent", percent("How many: 100 unless written.")),
            ("httpStatus", whole("The status.", 200, 599)),
        ],
    );
    object("Failures made on purpose; delay, abort or both.", &[], vec![("delay", delay), ("abort", abort)])
}

fn global_limit() -> Value {
    let service = object(
        "The Service that is asked.",
        &["name", "port"],
        vec![
            ("name", name("Its name.")),
            ("namespace", name("Its namespace: that of the policy unless written.")),
            ("port", port("Its port.")),
        ],
    );
    let descriptor = object(
        "One entry: {key, value}, or {key, from}.",
        &["key"],
        vec![
            ("key", name("Its key.")),
            ("value", text("The same for every request.")),
            ("from", shared::limit_key()),
        ],
    );
    object(
        "A limit that a service of envoy.service.ratelimit.v3 keeps for all.",
        &["service", "domain", "descriptors"],
        vec![
            ("service", service),
            ("domain", name("What the service knows the limit's owner by.")),
            (
                "descriptors",
                some(
                    "What the service is told: one descriptor, entry by entry.",
                    MAX_DESCRIPTORS,
                    descriptor,
                ),
            ),
            ("timeout", duration("How long it is waited for: 20ms unless written.")),
            (
                "onFailure",
                word(
                    "What becomes of requests while it cannot be asked: Allow unless written.",
                    &["Allow", "Deny"],
                ),
            ),
        ],
    )
}
