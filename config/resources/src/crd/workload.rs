//! `Workload.spec`.

use serde_json::Value;

use super::schema::{flag, map, name, object, port, text, whole};

/// The largest weight, as Gateway API has it.
const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn spec() -> Value {
    object(
        "What is wanted.",
        &["address"],
        vec![
            ("address", name("The IP address that others dial.")),
            (
                "ports",
                map(
                    "The ports that others dial, by the name that targetPort of a Service uses.",
                    port("A port."),
                ),
            ),
            ("serviceAccount", name("Who it is: `default` unless written.")),
            (
                "meshed",
                flag(
                    "Whether a sidecar stands in front, so that it is dialled with mutual TLS: false unless written.",
                ),
            ),
            (
                "locality",
                object(
                    "Where it runs.",
                    &[],
                    vec![("region", text("The region.")), ("zone", text("The zone within the region."))],
                ),
            ),
            ("weight", whole("Its share of traffic among its peers: 1 unless written.", 1, MAX_WEIGHT)),
        ],
    )
}
