//! Every kind once as it is meant, and what is asked of its fields.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::backend_policy::{HashOn, LoadBalancer, LocalityMode, PeakEwma, Probe};
use crate::external_service::{ExternalProtocol, Resolution};
use crate::kubernetes::{InternalTrafficPolicy, ServiceType, TargetPort, Transport};
use crate::mesh_config::{AccessLogFormat, Egress, MeshConfigSpec, Mtls};
use crate::object::select;

/// The own kinds of this version as the reference writes them.
const OWN: &str = "apiVersion: outrigger.dev/v1alpha1
kind: Workload                 # a process that is not a pod
metadata: {name: reviews-v1, namespace: shop, labels: {app: reviews, version: v1}}
spec:
  address: 127.0.1.2           # what others dial
  ports: {http: 9080}          # name -> port others dial
  serviceAccount: reviews
  meshed: true
  locality: {region: eu, zone: eu-a}
  weight: 1
---
apiVersion: outrigger.dev/v1alpha1
kind: ExternalService          # a destination outside the mesh
metadata: {name: payments, namespace: shop}
spec:
  hosts: [api.payments.example]
  ports: [{name: https, port: 443, protocol: TLS}]
  resolution: DNS
  endpoints: []
---
apiVersion: outrigger.dev/v1alpha1
kind: BackendPolicy            # how clients treat a destination
metadata: {name: reviews, namespace: shop}
spec:
  targetRefs: [{group: \"\", kind: Service, name: reviews}]
  loadBalancer: {algorithm: PeakEwma, peakEwma: {defaultRoundTrip: 5ms, decay: 3s}}
  slowStart: {window: 30s, minWeightPercent: 10}
  circuitBreaker: {maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3}
  outlierDetection:
    enabled: true
    consecutiveErrors: 7
    successRatePercent: 80
    minimumRequests: 5
    window: 10s
    baseEjectionTime: 1s
    maxEjectionTime: 60s
    maxEjectionPercent: 50
  healthCheck: {http: {path: /healthz}, interval: 5s, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 3}
  retryBudget: {percent: 20, minRetriesPerSecond: 10, interval: 10s}
  connection: {connectTimeout: 1s, idleTimeout: 60s, maxLifetime: 1h, tcpUserTimeout: 30s}
  locality: {mode: PreferLocal}
---
apiVersion: outrigger.dev/v1alpha1
kind: MeshConfig               # one, named \"mesh\"
metadata: {name: mesh, namespace: outrigger-system}
spec:
  trustDomain: cluster.local
  mtls: Permissive
  egress: Allow
  accessLog: {enabled: true, format: json}
  tracing: {otlpEndpoint: \"http://otel-collector:4317\", samplePercent: 1}
  opaquePorts: [25, 587, 3306, 4444, 5432, 6379, 9300, 11211]
";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn own_kinds_are_read_to_the_last_field() {
    let parsed = check(OWN, "");
    let mut objects = parsed.objects.into_iter().map(|sourced| sourced.object);
    let Some(Object::Workload(workload)) = objects.next() else { panic!("a Workload") };
    assert_eq!((workload.spec.address, workload.spec.ports["http"]), (ip("127.0.1.2"), 9080));
    assert_eq!((&*workload.spec.service_account, workload.spec.meshed), ("reviews", true));
    assert_eq!((&*workload.spec.locality.region, &*workload.spec.locality.zone), ("eu", "eu-a"));

    let Some(Object::ExternalService(external)) = objects.next() else { panic!("an ExternalService") };
    assert_eq!(external.spec.hosts, ["api.payments.example".into()]);
    assert_eq!((external.spec.ports[0].port, external.spec.ports[0].protocol), (443, ExternalProtocol::Tls));
    assert_eq!(external.spec.resolution, Resolution::Dns);

    let Some(Object::BackendPolicy(policy)) = objects.next() else { panic!("a BackendPolicy") };
    let spec = policy.spec;
    let ewma =
        PeakEwma { default_round_trip: Some(Duration::from_millis(5)), decay: Some(Duration::from_secs(3)) };
    assert_eq!(
        (spec.load_balancer, spec.locality),
        (Some(LoadBalancer::PeakEwma(ewma)), Some(LocalityMode::PreferLocal))
    );
    assert_eq!(spec.slow_start.map(|slow| slow.window), Some(Duration::from_secs(30)));
    assert_eq!(spec.circuit_breaker.max_retries, Some(3));
    assert_eq!(spec.outlier_detection.success_rate_percent, Some(80.0));
    assert_eq!(spec.outlier_detection.max_ejection_time, Some(Duration::from_secs(60)));
    assert_eq!(
        spec.health_check.map(|check| check.probe),
        Some(Probe::Http { path: "/healthz".to_owned(), statuses: vec![200..=399] })
    );
    assert_eq!(spec.retry_budget.percent, Some(20.0));
    assert_eq!(spec.connection.max_lifetime, Some(Duration::from_secs(3600)));

    let Some(Object::MeshConfig(mesh)) = objects.next() else { panic!("a MeshConfig") };
    assert_eq!(
        mesh.spec.access_log.map(|log| (log.enabled, log.format)),
        Some((true, AccessLogFormat::Json))
    );
    assert_eq!(mesh.spec.tracing.as_ref().map(|tracing| tracing.sample_percent), Some(1.0));
    let defaults = MeshConfigSpec {
        access_log: mesh.spec.access_log,
        tracing: mesh.spec.tracing.clone(),
        trust_bundles: mesh.spec.trust_bundles.clone(),
        ..Default::default()
    };
    assert_eq!(mesh.spec, defaults);
}

#[test]
fn absent_fields_of_own_kinds_have_defaults() {
    let own = |kind: &str, name: &str, spec: &str| {
        only(&format!(
            "{{apiVersion: outrigger.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}"
        ))
    };
    let Object::Workload(workload) = own("Workload", "a", "{address: 'fd00::1'}") else {
        panic!("a Workload")
    };
    assert_eq!(
        (&*workload.spec.service_account, workload.spec.meshed, workload.spec.weight),
        ("default", false, 1)
    );
    let Object::MeshConfig(mesh) = own("MeshConfig", "mesh", "{mtls: Strict, egress: Deny}") else {
        panic!("a MeshConfig")
    };
    assert_eq!(
        (mesh.spec.mtls, mesh.spec.egress, &*mesh.spec.trust_domain),
        (Mtls::Strict, Egress::Deny, "cluster.local")
    );
    let spec = "{targetRefs: [{kind: Service, name: a}], loadBalancer: {algorithm: RingHash, hashOn: {cookie: {name: SID, ttl: 1h}}}}";
    let Object::BackendPolicy(policy) = own("BackendPolicy", "a", spec) else { panic!("a BackendPolicy") };
    let cookie = HashOn::Cookie { name: "SID".into(), ttl: Some(Duration::from_secs(3600)) };
    assert_eq!(policy.spec.load_balancer, Some(LoadBalancer::RingHash(cookie)));
    assert!(policy.spec.outlier_detection.enabled);
}

/// The problem with the spec of one of our kinds, without the place.
#[track_caller]
fn check_spec(kind: &str, spec: &str, expected: &str) {
    let name = if kind == "MeshConfig" { "mesh" } else { "a" };
    let text = format!(
        "{{apiVersion: outrigger.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}"
    );
    let parsed = parse_yaml("f", &text);
    let found: Vec<String> =
        parsed.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    assert_eq!(found, [format!("spec.{expected}")], "{text}");
    assert!(parsed.objects.is_empty());
}

#[test]
fn an_external_service_is_judged_strictly() {
    for (spec, expected) in [
        ("{hosts: [], ports: [{port: 1}]}", "hosts: an empty list; at least one entry is needed"),
        (
            "{hosts: ['https://a'], ports: [{port: 1}]}",
            r#"hosts[0]: "https://a" is not a host name; write one like api.example.com, without scheme or port"#,
        ),
        (
            "{hosts: [a.b, '*.c'], ports: [{port: 1}]}",
            r#"hosts: "*.c" cannot be looked up; write whole names, or resolution: Passthrough"#,
        ),
        (
            "{hosts: [a.b], ports: [{port: 1}], resolution: Static}",
            "endpoints: missing; resolution Static needs at least one address",
        ),
        (
            "{hosts: [a.b], ports: [{port: 1}], endpoints: [10.0.0.1]}",
            "endpoints: only for resolution Static; remove them or change resolution",
        ),
        (
            "{hosts: [a.b], ports: [{port: 1, protocol: UDP}]}",
            r#"ports[0].protocol: unknown value "UDP"; write HTTP, HTTPS, HTTP2, GRPC, TCP, TLS"#,
        ),
    ] {
        check_spec("ExternalService", spec, expected);
    }
}

#[test]
fn a_backend_policy_is_judged_strictly() {
    check_spec("BackendPolicy", "{}", "targetRefs: missing; it has to be written");
    for (rest, expected) in [
        (
            "loadBalancer: {algorithm: Maglev}",
            "loadBalancer.hashOn: missing; write header, cookie or sourceIp",
        ),
        (
            "loadBalancer: {algorithm: Random, peakEwma: {decay: 1s}}",
            "loadBalancer.peakEwma: only for PeakEwma; remove it or change algorithm",
        ),
        (
            "loadBalancer: {hashOn: {sourceIp: true}}",
            "loadBalancer.hashOn: only for RingHash and Maglev; remove it or change algorithm",
        ),
        (
            "loadBalancer: {algorithm: Maglev, hashOn: {sourceIp: false}}",
            "loadBalancer.hashOn: write one of header: NAME, cookie: {name: NAME}, sourceIp: true",
        ),
        (
            "outlierDetection: {maxEjectionPercent: 101}",
            "outlierDetection.maxEjectionPercent: 101 is not a whole number from 0 to 100",
        ),
        (
            "outlierDetection: {enabled: yes}",
            r#"outlierDetection.enabled: string "yes" where true or false is expected"#,
        ),
        ("connection: {connectTimeout: 0s}", "connection.connectTimeout: 0s; it must be longer than nothing"),
        (
            "healthCheck: {http: {path: healthz}}",
            r#"healthCheck.http.path: "healthz" is not a path; write one like /healthz"#,
        ),
        ("healthCheck: {interval: 1s}", "healthCheck: write one of http: {path}, grpc: {}, tcp: {}"),
        ("healthCheck: {tcp: {}, grpc: {}}", "healthCheck: write one of http: {path}, grpc: {}, tcp: {}"),
        (
            "healthCheck: {http: {path: /, expectedStatuses: [{start: 300, end: 200}]}}",
            "healthCheck.http.expectedStatuses: 300 to 200 is not a range of statuses from 100 to 599",
        ),
    ] {
        check_spec(
            "BackendPolicy",
            &format!("{{targetRefs: [{{kind: Service, name: a}}], {rest}}}"),
            expected,
        );
    }
}

#[test]
fn workloads_and_mesh_config_are_judged_strictly() {
    for (spec, expected) in [
        ("{address: 10.0.0.1, weight: 0}", "weight: 0 is not a whole number from 1 to 1000000"),
        (
            "{address: 10.0.0.1, serviceAccount: a/b}",
            r#"serviceAccount: "a/b" is not a name; write at most 253 of a-z, 0-9, - and ."#,
        ),
    ] {
        check_spec("Workload", spec, expected);
    }
    for (spec, expected) in [
        (
            "{trustDomain: Example}",
            r#"trustDomain: "Example" is not a trust domain; write 1 to 255 of a-z, 0-9, -, . and _"#,
        ),
        (
            "{tracing: {otlpEndpoint: collector}}",
            r#"tracing.otlpEndpoint: "collector" is not an address; write one like http://otel-collector:4317"#,
        ),
        ("{opaquePorts: [0]}", "opaquePorts[0]: 0 is not a whole number from 1 to 65535"),
        (
            "{tracing: {otlpEndpoint: 'http://a', samplePercent: 101}}",
            "tracing.samplePercent: 101 is not a number from 0 to 100",
        ),
    ] {
        check_spec("MeshConfig", spec, expected);
    }
}

#[test]
fn kubernetes_objects_are_read_loosely() {
    let object = only(
        "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, generation: 3, creationTimestamp: 2026-01-31T12:00:00Z, uid: x}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, 'fd00::1']
  internalTrafficPolicy: Local
  trafficDistribution: PreferClose
  sessionAffinity: None
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30000, appProtocol: kubernetes.io/h2c}
  - {port: 53, protocol: UDP}
",
    );
    let Object::Service(service) = object else { panic!("a Service") };
    assert_eq!(service.spec.cluster_ips, [ip("10.96.0.1"), ip("fd00::1")]);
    assert_eq!((service.spec.type_, service.spec.headless), (ServiceType::NodePort, false));
    assert_eq!(service.spec.internal_traffic_policy, InternalTrafficPolicy::Local);
    assert_eq!(service.spec.ports[0].target_port, TargetPort::Name("web".into()));
    assert_eq!(service.spec.ports[1].target_port, TargetPort::Number(53));
    assert_eq!(service.spec.ports[1].protocol, Transport::Udp);
    assert_eq!(service.meta.generation, 3);
    assert_eq!(service.meta.creation_timestamp, humantime::parse_rfc3339("2026-01-31T12:00:00Z").ok());
    assert!(select(&service.spec.selector, &[("app".into(), "web".into()), ("x".into(), "y".into())].into()));
    assert!(!select(&service.spec.selector, &[("app".into(), "other".into())].into()));
    assert!(!select(&Default::default(), &service.spec.selector));

    let object = only(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None, clusterIPs: [None]}}",
    );
    let Object::Service(service) = object else { panic!("a Service") };
    assert!(service.spec.headless && service.spec.cluster_ips.is_empty());
}

#[test]
fn endpoint_slices_say_what_is_unknown() {
    let object = only(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1], zone: a, nodeName: n, targetRef: {kind: Pod, name: web-1, uid: x}, hints: {forZones: [{name: a}]}}
- {addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}
ports: [{name: http, port: 80, protocol: TCP}, {}]
",
    );
    let Object::EndpointSlice(slice) = object else { panic!("an EndpointSlice") };
    assert_eq!(slice.service.as_deref(), Some("web"));
    let [first, second] = slice.endpoints.as_slice() else { panic!("two endpoints") };
    assert!(first.ready && first.serving && !first.terminating);
    assert_eq!(
        (first.hint_zones.as_slice(), first.target_ref.as_ref().map(|target| &*target.name)),
        (&["a".to_owned()][..], Some("web-1"))
    );
    assert!(!second.ready && second.serving && second.terminating);
    assert_eq!((slice.ports[0].port, slice.ports[1].port), (Some(80), None));
    check(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: FQDN, endpoints: []}",
        r#"f:1:77: EndpointSlice/default/a: addressType: unknown value "FQDN"; write IPv4 or IPv6"#,
    );
}

#[test]
fn a_pod_with_our_container_is_meshed() {
    let pod = |containers: &str| {
        let spec = format!(
            "{{serviceAccountName: web, initContainers: [{containers}], containers: [{{name: app, ports: [{{name: http, containerPort: 8080}}]}}]}}"
        );
        let status = "{phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}";
        let Object::Pod(pod) = only(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {spec}, status: {status}}}"
        )) else {
            panic!("a Pod")
        };
        pod
    };
    let meshed = pod("{name: outrigger-proxy, restartPolicy: Always}");
    assert!(meshed.spec.meshed && meshed.status.ready);
    assert_eq!(meshed.status.addresses, [ip("10.0.0.1"), ip("fd00::1")]);
    assert_eq!((meshed.spec.ports[0].port, &*meshed.spec.service_account), (8080, "web"));
    assert!(!pod("{name: other}").spec.meshed);
    let Object::Pod(bare) = only("{apiVersion: v1, kind: Pod, metadata: {name: a}}") else { panic!("a Pod") };
    assert_eq!((bare.status.ready, &*bare.spec.service_account), (false, "default"));
}

#[test]
fn a_reference_grant_is_judged_strictly() {
    let grant = |spec: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: a, namespace: to}}, spec: {spec}}}"
        )
    };
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: from}";
    let Object::ReferenceGrant(read) =
        only(&grant(&format!("{{from: [{from}], to: [{{group: '', kind: Service, name: a}}]}}")))
    else {
        panic!("a ReferenceGrant")
    };
    let object = |kind, namespace: &str, name: &str| ObjectRef {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    };
    let route = object(Kind::HttpRoute, "from", "r");
    assert!(read.permits(&route, &object(Kind::Service, "to", "a")));
    for (from, to) in [
        (&route, object(Kind::Service, "to", "b")),
        (&route, object(Kind::Service, "other", "a")),
        (&route, object(Kind::ExternalService, "to", "a")),
        (&object(Kind::HttpRoute, "other", "r"), object(Kind::Service, "to", "a")),
        (&object(Kind::TcpRoute, "from", "r"), object(Kind::Service, "to", "a")),
    ] {
        assert!(!read.permits(from, &to), "{from} to {to}");
    }
    for (spec, expected) in [
        ("{from: [], to: []}".to_owned(), "spec.from: an empty list; at least one entry is needed"),
        (
            format!("{{from: [{from}], to: [{{kind: Service}}]}}"),
            "spec.to[0].group: missing; it has to be written",
        ),
        (
            format!("{{from: [{from}], to: [{{group: '', kind: Service, port: 80}}]}}"),
            "spec.to[0].port: unknown field; expected one of group, kind, name",
        ),
    ] {
        let parsed = parse_yaml("f", &grant(&spec));
        let found: Vec<String> =
            parsed.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
        assert_eq!(found, [expected], "{spec}");
        assert!(parsed.objects.is_empty());
    }
}
