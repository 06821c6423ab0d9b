//! Worlds for tests, written as YAML.

use outrigger_resources::parse_yaml;
use proptest::prelude::*;

use super::{Change, World};

/// The world of a YAML text; what is wrong with the text is in its problems.
pub(crate) fn world(yaml: &str) -> World {
    let parsed = parse_yaml("test.yaml", yaml);
    assert!(!parsed.broken, "{:?}", parsed.problems);
    let changes = parsed.objects.into_iter().map(Change::from).collect();
    World::default().apply(changes).0.with_problems(parsed.problems)
}

/// A Service on port 80, named `http`, picked by `app: <name>`, with a Workload of one endpoint.
pub(crate) fn service(name: &str, number: u8) -> String {
    format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: 10.96.0.{number}, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: web}}]}}
---
apiVersion: outrigger.dev/v1alpha1
kind: Workload
metadata: {{name: {name}-1, namespace: shop, labels: {{app: {name}}}}}
spec: {{address: 10.0.0.{number}, ports: {{web: 8080}}, serviceAccount: {name}, meshed: true}}
---
"
    )
}

/// Small objects over few names, so that random ones meet: the YAML of each.
pub(crate) fn any_object() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (any_name("s"), any_of(VIPS), any_of(SELECTORS), any_of(PORTS)).prop_map(|((ns, name), vip, pick, port)| {
            let head = head("v1", "Service", &ns, &name, "");
            format!("{head}spec: {{{vip}selector: {pick}, ports: [{port}, {{name: two, port: 81, targetPort: 8081}}]}}")
        }),
        2 => (any_name("w"), any_of(LABELS), any_of(ADDRESSES), any::<bool>()).prop_map(
            |((ns, name), labels, address, meshed)| {
                let head = head("outrigger.dev/v1alpha1", "Workload", &ns, &name, labels);
                format!("{head}spec: {{address: {address}, ports: {{web: 8080}}, meshed: {meshed}}}")
            }
        ),
        2 => (any_name("p"), any_of(LABELS), any_of(ADDRESSES), any::<bool>()).prop_map(
            |((ns, name), labels, address, ready)| {
                let head = head("v1", "Pod", &ns, &name, labels);
                let ready = if ready { "True" } else { "False" };
                let spec = "{containers: [{name: outrigger-proxy, ports: [{name: web, containerPort: 8080}]}]}";
                let status = format!("{{podIP: {address}, conditions: [{{type: Ready, status: '{ready}'}}]}}");
                format!("{head}spec: {spec}\nstatus: {status}")
            }
        ),
        2 => (any_name("e"), any_name("s"), any_name("p"), any_of(ADDRESSES)).prop_map(
            |((ns, name), (_, service), (_, pod), address)| {
                let owner = format!("kubernetes.io/service-name: {service}");
                let head = head("discovery.k8s.io/v1", "EndpointSlice", &ns, &name, &owner);
                let endpoint = format!("{{addresses: [{address}], targetRef: {{kind: Pod, name: {pod}}}}}");
                format!("{head}addressType: IPv4\nports: [{{name: two, port: 8081}}]\nendpoints: [{endpoint}]")
            }
        ),
        4 => any_route(),
        2 => (any_name("x"), any_of(&["one.example", "s0.a", "'*.example'"]), any_of(EXTERNAL)).prop_map(
            |((ns, name), host, protocol)| {
                let head = head("outrigger.dev/v1alpha1", "ExternalService", &ns, &name, "");
                let port = format!("{{name: h, port: 80, protocol: {protocol}}}");
                format!("{head}spec: {{hosts: [{host}], ports: [{port}], resolution: Passthrough}}")
            }
        ),
        1 => (any_name("b"), any_name("s"), 1..9u32).prop_map(|((ns, name), (_, target), limit)| {
            let head = head("outrigger.dev/v1alpha1", "BackendPolicy", &ns, &name, "");
            let target = format!("[{{group: '', kind: Service, name: {target}}}]");
            format!("{head}spec: {{targetRefs: {target}, circuitBreaker: {{maxRequests: {limit}}}}}")
        }),
        1 => (any_name("g"), any_of(&["HTTPRoute", "TCPRoute"]), any_of(&["", ", name: s0"])).prop_map(
            |((ns, name), kind, only)| {
                let head = head("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", &ns, &name, "");
                let from = ["a", "b"]
                    .map(|from| format!("{{group: gateway.networking.k8s.io, kind: {kind}, namespace: {from}}}"));
                format!("{head}spec: {{from: [{}], to: [{{group: '', kind: Service{only}}}]}}", from.join(", "))
            }
        ),
        2 => (any_name("q"), any_of(TARGETS), any_name("s"), 1..9u32).prop_map(|((ns, name), target, (_, asked), n)| {
            let head = head("outrigger.dev/v1alpha1", "RoutePolicy", &ns, &name, "");
            let service = format!("{{name: {asked}, port: 80}}");
            let limit = format!("{{service: {service}, domain: d, descriptors: [{{key: k, value: v}}]}}");
            format!("{head}spec: {{targetRefs: [{target}], retry: {{attempts: {n}}}, rateLimit: {{global: {limit}}}}}")
        }),
        3 => any_standard_policy(),
        5 => any_protection(),
        1 => any_of(&["Strict", "Permissive"]).prop_map(|mtls| {
            let head = head("outrigger.dev/v1alpha1", "MeshConfig", "outrigger-system", "mesh", "");
            format!("{head}spec: {{mtls: {mtls}}}")
        }),
    ]
}

/// Policies about receiving.
fn any_protection() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => (any_name("i"), any_of(SCOPES), 1..9u32).prop_map(|((ns, name), scope, n)| {
            let head = head("outrigger.dev/v1alpha1", "InboundPolicy", &ns, &name, "");
            format!("{head}spec: {{{scope}mtls: Strict, concurrency: {{max: {n}}}}}")
        }),
        3 => (any_policy_name(), any_of(SCOPES), any_of(&["Allow", "Deny", "Audit"]), 1..9u32).prop_map(
            |((ns, name), scope, action, n)| {
                let head = head("outrigger.dev/v1alpha1", "AuthorizationPolicy", &ns, &name, "");
                let rule = format!("{{from: [{{namespaces: [a{n}]}}], to: [{{paths: [/{n}/*]}}]}}");
                format!("{head}spec: {{{scope}action: {action}, rules: [{rule}]}}")
            }
        ),
    ]
}

/// Policies for backends in the words of Gateway API, and what they trust.
fn any_standard_policy() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => (any_name("t"), any_name("s"), any_of(&["c0", "c1"])).prop_map(|((ns, name), (_, target), map)| {
            let head = head("gateway.networking.k8s.io/v1", "BackendTLSPolicy", &ns, &name, "");
            let target = format!("[{{group: '', kind: Service, name: {target}}}]");
            let refs = format!("[{{group: '', kind: ConfigMap, name: {map}}}]");
            let validation = format!("{{caCertificateRefs: {refs}, hostname: a.example}}");
            format!("{head}spec: {{targetRefs: {target}, validation: {validation}}}")
        }),
        1 => (any_name("c"), any_of(&["{}", "{ca.crt: x}"])).prop_map(|((ns, name), data)| {
            format!("{}data: {data}", head("v1", "ConfigMap", &ns, &name, ""))
        }),
        1 => (any_name("u"), any_name("s"), 1..9u32).prop_map(|((ns, name), (_, target), percent)| {
            let version = "gateway.networking.x-k8s.io/v1alpha1";
            let head = head(version, "XBackendTrafficPolicy", &ns, &name, "");
            let target = format!("[{{group: '', kind: Service, name: {target}}}]");
            let constraint = format!("{{budget: {{percent: {percent}}}}}");
            let session = format!("{{sessionName: s{percent}}}");
            format!(
                "{head}spec: {{targetRefs: {target}, retryConstraint: {constraint}, sessionPersistence: {session}}}"
            )
        }),
    ]
}

fn any_route() -> impl Strategy<Value = String> {
    let kinds = any_of(&["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"]);
    let backends = any_of(&["kind: Service", "group: outrigger.dev, kind: ExternalService"]);
    let target = (backends, any_of(&["s0", "s1", "x0", "s0, namespace: a", "s0, namespace: b"]));
    (any_name("r"), kinds, any_name("s"), target, any_of(FILTERS)).prop_map(
        |((ns, name), kind, (parent_ns, parent), (backend, to), filters)| {
            // A TCPRoute has none.
            let filters = if kind == "TCPRoute" { "" } else { filters };
            let head = head("gateway.networking.k8s.io/v1", kind, &ns, &name, "");
            let parent = format!("{{group: '', kind: Service, name: {parent}, namespace: {parent_ns}}}");
            let backends = format!("[{{{backend}, name: {to}, port: 80}}]");
            format!("{head}spec: {{parentRefs: [{parent}], rules: [{{{filters}backendRefs: {backends}}}]}}")
        },
    )
}

const SCOPES: &[&str] = &[
    "",
    "targetRefs: [{group: '', kind: Service, name: s0}], ",
    "selector: {matchLabels: {app: x}}, ",
    "selector: {matchLabels: {v: '1'}}, ",
];
const TARGETS: &[&str] = &[
    "",
    "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r0}",
    "{group: gateway.networking.k8s.io, kind: GRPCRoute, name: r1}",
    "{kind: Service, name: s0}",
    "{kind: Service, name: s1, sectionName: http}",
    "{group: outrigger.dev, kind: ExternalService, name: x0}",
];
const FILTERS: &[&str] = &[
    "",
    "",
    "filters: [{type: ExtensionRef, extensionRef: {group: outrigger.dev, kind: RoutePolicy, name: q0}}], ",
];
/// HTTP is rare, because each of its hosts is an expression that takes long to compile without optimisation.
const EXTERNAL: &[&str] = &["TLS", "TLS", "TLS", "TLS", "TCP", "HTTP"];
const VIPS: &[&str] = &["", "clusterIP: 10.96.0.1, ", "clusterIP: 10.96.0.2, "];
const SELECTORS: &[&str] = &["{}", "{app: x}", "{app: x, v: '1'}", "{v: '1'}"];
const LABELS: &[&str] = &["", "app: x", "app: x, v: '1'", "app: y, v: '1'"];
const ADDRESSES: &[&str] = &["10.0.0.1", "10.0.0.2"];
const PORTS: &[&str] = &[
    "{name: http, port: 80, targetPort: web}",
    "{name: tcp, port: 80, targetPort: 8080}",
    "{name: one, port: 80}",
    "{name: http, port: 90}",
];

fn any_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(words)
}

/// A namespace and a name.
fn any_name(prefix: &'static str) -> impl Strategy<Value = (String, String)> {
    (any_of(&["a", "a", "a", "a", "a", "b"]), 0..2u8)
        .prop_map(move |(namespace, number)| (namespace.to_owned(), format!("{prefix}{number}")))
}

/// As [`any_name`], or in the namespace of the mesh, where a policy may be about everything.
fn any_policy_name() -> impl Strategy<Value = (String, String)> {
    prop_oneof![5 => any_name("z"), 1 => any_name("z").prop_map(|(_, name)| ("outrigger-system".to_owned(), name))]
}

fn head(version: &str, kind: &str, namespace: &str, name: &str, labels: &str) -> String {
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}\n"
    )
}

/// One change; what it deletes is the object of the YAML.
pub(crate) fn any_change() -> impl Strategy<Value = Change> {
    (any_object(), prop::bool::weighted(0.25), 0..4usize).prop_map(|(yaml, deletes, order)| {
        let parsed = parse_yaml("test.yaml", &yaml);
        let mut sourced =
            parsed.objects.into_iter().next().unwrap_or_else(|| panic!("{yaml}: {:?}", parsed.problems));
        sourced.order = order;
        match deletes {
            true => Change::Delete(sourced.object.reference()),
            false => Change::from(sourced),
        }
    })
}
