//! `MeshConfig.spec`.

use serde_json::Value;

use super::schema::{flag, list, name, object, percent, port, word};
use super::shared;
use crate::mesh_config::MAX_TRUST_BUNDLES;

/// As many as there are ports.
const MAX_PORTS: usize = 65_535;

pub(super) fn spec() -> Value {
    object(
        "What is wanted.",
        &[],
        vec![
            ("trustDomain", name("The trust domain of every identity: cluster.local unless written.")),
            ("mtls", shared::mtls()),
            (
                "egress",
                word(
                    "Whether destinations that the mesh does not know are let through: Allow unless written.",
                    &["Allow", "Deny"],
                ),
            ),
            (
                "accessLog",
                object(
                    "The access log of every proxy; none unless written.",
                    &[],
                    vec![
                        ("enabled", flag("Whether there is one: true unless written.")),
                        ("format", word("The shape of a line: json unless written.", &["json", "text"])),
                    ],
                ),
            ),
            (
                "tracing",
                object(
                    "Where spans go; nowhere unless written.",
                    &["otlpEndpoint"],
                    vec![
                        (
                            "otlpEndpoint",
                            name("An OTLP collector over gRPC, like http://otel-collector:4317."),
                        ),
                        (
                            "samplePercent",
                            percent("The share of requests that are traced: 1 unless written."),
                        ),
                    ],
                ),
            ),
            ("opaquePorts", list("Ports whose bytes are never looked into.", MAX_PORTS, port("A port."))),
            (
                "trustBundles",
                list(
                    "Roots of other trust domains, and more of the own one; none unless written.",
                    MAX_TRUST_BUNDLES,
                    object(
                        "The roots of a trust domain.",
                        &["trustDomain", "certificates"],
                        vec![
                            ("trustDomain", name("Whose identities the roots may sign.")),
                            ("certificates", name("The roots, as PEM.")),
                        ],
                    ),
                ),
            ),
        ],
    )
}
