//! `ExternalService.spec`.

use serde_json::Value;

use super::schema::{list, name, object, port, some, text, word};

/// At most so many hosts, and as many ports.
const MAX_HOSTS: usize = 64;
/// At most so many endpoints.
const MAX_ENDPOINTS: usize = 1000;

pub(super) fn spec() -> Value {
    let port = object(
        "A port that applications dial.",
        &["port"],
        vec![
            ("name", text("Its name.")),
            ("port", port("The port.")),
            (
                "protocol",
                word(
                    "What is spoken: TCP unless written.",
                    &["HTTP", "HTTPS", "HTTP2", "GRPC", "TCP", "TLS"],
                ),
            ),
        ],
    );
    object(
        "What is wanted.",
        &["hosts", "ports"],
        vec![
            (
                "hosts",
                some(
                    "The names that applications dial; `*.` and the end of names only with resolution: Passthrough.",
                    MAX_HOSTS,
                    name("A host name."),
                ),
            ),
            ("ports", some("The ports that applications dial.", MAX_HOSTS, port)),
            (
                "resolution",
                word(
                    "How its endpoints are found: by looking up its hosts (DNS, unless written), as listed under endpoints \
                     (Static), or at the address that was dialled (Passthrough).",
                    &["DNS", "Static", "Passthrough"],
                ),
            ),
            (
                "endpoints",
                list("IP addresses, for resolution: Static.", MAX_ENDPOINTS, name("An IP address.")),
            ),
        ],
    )
}
