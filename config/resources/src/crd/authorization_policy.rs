//! `AuthorizationPolicy.spec`.

use serde_json::Value;

use super::schema::{list, name, object, port, some, word};
use super::shared;

/// At most so many rules, and so many entries of a list within one.
const MAX_ENTRIES: usize = 256;

pub(super) fn spec() -> Value {
    object(
        "What is wanted.",
        &[],
        vec![
            (
                "targetRefs",
                shared::some_services(
                    "The Services whose workloads it is about; neither this nor a selector is the namespace.",
                ),
            ),
            ("selector", shared::selector()),
            (
                "action",
                word(
                    "What becomes of requests that a rule matches. Deny wins over Allow, Audit only records, and an Allow \
                     policy makes everything that it does not name forbidden.",
                    &["Allow", "Deny", "Audit"],
                ),
            ),
            ("rules", list("Any of them matches.", MAX_ENTRIES, rule())),
        ],
    )
}

fn rule() -> Value {
    object(
        "It matches when from, to and when all do: one entry of from, one of to, all of when.",
        &[],
        vec![
            ("from", list("Who calls.", MAX_ENTRIES, from())),
            ("to", list("What is called.", MAX_ENTRIES, to())),
            ("when", list("What must be so beside, all of it.", MAX_ENTRIES, when())),
        ],
    )
}

fn from() -> Value {
    object(
        "A caller, all of what is written.",
        &[],
        vec![
            (
                "identities",
                list(
                    "SPIFFE identities.",
                    MAX_ENTRIES,
                    name("A SPIFFE identity; a * at its end stands for anything."),
                ),
            ),
            (
                "namespaces",
                list("Namespaces.", MAX_ENTRIES, name("A namespace; a * at its end stands for anything.")),
            ),
            (
                "sourceIps",
                list(
                    "Addresses or networks.",
                    MAX_ENTRIES,
                    name("An address, or a network like 10.0.0.0/8."),
                ),
            ),
        ],
    )
}

fn to() -> Value {
    object(
        "A request, all of what is written.",
        &[],
        vec![
            ("methods", list("Methods of HTTP.", MAX_ENTRIES, name("A method."))),
            ("paths", list("Paths.", MAX_ENTRIES, name("A path; a * at its end stands for anything."))),
            ("ports", list("Ports of the workload.", MAX_ENTRIES, port("A port."))),
        ],
    )
}

fn when() -> Value {
    object(
        "A condition: either a claim or a header, and its values.",
        &[],
        vec![
            (
                "claim",
                name("A claim of the caller's verified token; dots lead into objects, as in realm.roles."),
            ),
            ("header", name("A header of the request.")),
            (
                "values",
                some(
                    "One of them is there; any value unless written.",
                    MAX_ENTRIES,
                    name("A value; a * at its end stands for anything."),
                ),
            ),
        ],
    )
}
