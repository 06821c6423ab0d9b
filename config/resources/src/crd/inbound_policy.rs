//! `InboundPolicy.spec`.

use serde_json::Value;

use super::schema::{count, flag, list, name, object, text, whole};
use super::shared;

/// At most so many audiences of tokens.
const MAX_AUDIENCES: usize = 16;
/// As many classes as the data plane knows.
const MAX_LEVELS: u32 = 8;

pub(super) fn spec() -> Value {
    object(
        "What is wanted. Neither targetRefs nor a selector is the whole namespace.",
        &[],
        vec![
            ("targetRefs", shared::some_services("The Services whose workloads it is about.")),
            ("selector", shared::selector()),
            ("mtls", shared::mtls()),
            ("rateLimit", shared::local_limit("How many requests are let in.")),
            ("concurrency", concurrency()),
            ("priorities", priorities()),
            ("jwt", jwt()),
        ],
    )
}

fn concurrency() -> Value {
    object(
        "How many requests may be under way at once.",
        &[],
        vec![
            ("adaptive", flag("Whether the limit follows latency: true unless written.")),
            ("min", count("An adaptive limit never falls below this: 4 unless written.")),
            ("max", count("The limit, or where an adaptive one ends: 1024 unless written.")),
        ],
    )
}

fn priorities() -> Value {
    object(
        "Which requests are refused first when there are too many.",
        &["header"],
        vec![
            ("header", name("The request header whose value is the class, a number; 0 is served longest.")),
            ("default", whole("The class of requests that do not say: 1 unless written.", 0, MAX_LEVELS - 1)),
            ("levels", whole("How many classes there are: 4 unless written.", 2, MAX_LEVELS)),
        ],
    )
}

fn jwt() -> Value {
    object(
        "What tokens requests must carry. One of jwksUri and jwks says the keys.",
        &["issuer"],
        vec![
            ("issuer", name("Who makes them.")),
            ("jwksUri", text("Where the keys are: a URL of http or https that the control plane reaches.")),
            ("jwks", text("The keys themselves, a JSON Web Key Set.")),
            (
                "audiences",
                list("For whom they may be; empty is anybody.", MAX_AUDIENCES, text("An audience.")),
            ),
        ],
    )
}
