//! TLS to servers outside the mesh, and the budget of retries in the standard's words.

use outrigger_model::cluster::Cluster;
use outrigger_model::upstream_tls::{PeerName, Trust, UpstreamTls};
use outrigger_resources::{Kind, ObjectRef};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::world::{Change, Changed};

fn authority() -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap().pem()
}

fn config_map(name: &str, pem: &str) -> String {
    let pem = pem.trim().replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata:\n  ca.crt: |\n    {pem}\n---\n"
    )
}

fn standard(group: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n---\n")
}

/// A BackendTLSPolicy of `reviews` with this validation.
fn policy(validation: &str) -> String {
    let targets = "[{group: '', kind: Service, name: reviews}]";
    let spec = format!("{{targetRefs: {targets}, validation: {validation}}}");
    standard("gateway.networking.k8s.io/v1", "BackendTLSPolicy", &spec)
}

fn cluster_of(world: &World, name: &str) -> Cluster {
    match resource(world, &client(""), ResourceType::Cluster, name) {
        Some(Resource::Cluster(cluster)) => cluster,
        other => panic!("{name} is {other:?}"),
    }
}

fn tls_of(yaml: &str) -> Option<UpstreamTls> {
    let cluster = cluster_of(&world(yaml), "outbound|80|reviews.shop.svc.cluster.local");
    cluster.tls.map(|tls| (*tls).clone())
}

fn dns(name: &str) -> PeerName {
    PeerName::Dns(name.into())
}

const CA: &str = "{group: '', kind: ConfigMap, name: ca}";

#[test]
fn a_policy_says_who_must_answer() {
    let pem = authority();
    let base = service("reviews", 1) + &config_map("ca", &pem);
    assert_eq!(tls_of(&base), None);
    let tls =
        tls_of(&(base.clone() + &policy(&format!("{{caCertificateRefs: [{CA}], hostname: a.example}}"))));
    let tls = tls.unwrap();
    assert_eq!((&*tls.server_name, tls.names), ("a.example", vec![dns("a.example")]));
    let Trust::Roots(roots) = tls.trust else { panic!("{:?}", tls.trust) };
    assert_eq!(roots.trim(), pem.trim());
    let names = "[{type: Hostname, hostname: '*.b.example'}, {type: URI, uri: 'spiffe://c/d'}]";
    let validation =
        format!("{{wellKnownCACertificates: System, hostname: a.example, subjectAltNames: {names}}}");
    let tls = tls_of(&(base + &policy(&validation))).unwrap();
    assert_eq!((tls.trust, &*tls.server_name), (Trust::System, "a.example"));
    assert_eq!(tls.names, [dns("*.b.example"), PeerName::Uri("spiffe://c/d".into())]);
}

#[test]
fn a_policy_that_cannot_be_used_trusts_nobody() {
    let base = service("reviews", 1) + &config_map("bad", "no certificate");
    for (validation, expected) in [
        (format!("{{caCertificateRefs: [{CA}], hostname: a.example}}"), "ConfigMap/shop/ca is not there"),
        (
            format!("{{caCertificateRefs: [{}], hostname: a.example}}", CA.replace("name: ca", "name: bad")),
            "ConfigMap/shop/bad, ca.crt: the authorities cannot be used",
        ),
        (
            format!("{{caCertificateRefs: [{}], hostname: a.example}}", CA.replace("ConfigMap", "Secret")),
            "Secret/ca cannot hold authorities; use a ConfigMap",
        ),
        (
            "{hostname: a.example}".to_owned(),
            "write either caCertificateRefs or wellKnownCACertificates: System",
        ),
        ("{wellKnownCACertificates: System, hostname: '*.a'}".to_owned(), "is not a host name"),
        ("{wellKnownCACertificates: System, hostname: a.example, pin: x}".to_owned(), "unknown field"),
    ] {
        let tls = tls_of(&(base.clone() + &policy(&validation))).expect("plaintext instead of nothing");
        let Trust::Nobody(why) = &tls.trust else { panic!("{validation}: {tls:?}") };
        assert!(why.contains(expected), "{why}");
    }
    let options = standard(
        "gateway.networking.k8s.io/v1",
        "BackendTLSPolicy",
        "{targetRefs: [{group: '', kind: Service, name: reviews}], \
         validation: {wellKnownCACertificates: System, hostname: a.example}, options: {x: y}}",
    );
    assert!(matches!(tls_of(&(base + &options)).unwrap().trust, Trust::Nobody(_)));
}

#[test]
fn of_several_authorities_those_that_can_be_read_are_trusted() {
    let pem = authority();
    let refs = format!("[{CA}, {}]", CA.replace("name: ca", "name: gone"));
    let yaml = service("reviews", 1)
        + &config_map("ca", &pem)
        + &policy(&format!("{{caCertificateRefs: {refs}, hostname: a.example}}"));
    assert!(matches!(tls_of(&yaml).unwrap().trust, Trust::Roots(_)));
    let told: Vec<_> = crate::status::evaluate(&world(&yaml))
        .into_iter()
        .filter(|status| status.object.kind == Kind::BackendTlsPolicy)
        .flat_map(|status| status.conditions)
        .filter(|condition| condition.is_problem())
        .map(|condition| format!("{:?} {}: {}", condition.type_, condition.reason, condition.message))
        .collect();
    let expected =
        "ResolvedRefs InvalidCACertificateRef: caCertificateRefs: ConfigMap/shop/gone is not there";
    assert_eq!(told, [expected]);
}

#[test]
fn an_authority_that_comes_or_goes_concerns_the_targets() {
    let yaml =
        service("reviews", 1) + &policy(&format!("{{caCertificateRefs: [{CA}], hostname: a.example}}"));
    let before = world(&yaml);
    let objects = outrigger_resources::parse_yaml("ca.yaml", &config_map("ca", &authority())).objects;
    let (with, came) = before.apply(objects.into_iter().map(Change::from).collect());
    let gone = ObjectRef { kind: Kind::ConfigMap, namespace: "shop".into(), name: "ca".into() };
    let (_, went) = with.apply(vec![Change::Delete(gone)]);
    for changed in [came, went] {
        let Changed::Destinations(keys) = changed else { panic!("everything changed") };
        let host = DestinationKey::Host("reviews.shop.svc.cluster.local".into());
        assert!(keys.contains(&host) && keys.len() == 2, "{keys:?}");
    }
}

#[test]
fn an_external_service_with_https_is_http_to_the_application_and_tls_to_the_server() {
    let yaml = "apiVersion: outrigger.dev/v1alpha1\nkind: ExternalService\nmetadata: {name: e, namespace: shop}\n\
                spec: {hosts: [api.example], ports: [{name: https, port: 443, protocol: HTTPS}, \
                {name: tls, port: 444, protocol: TLS}]}\n---\n";
    check(yaml, "listener api.example:443", "api.example:443: http api.example:443");
    let world = world(yaml);
    let tls = cluster_of(&world, "outbound|443|api.example").tls.unwrap();
    assert_eq!(
        *tls,
        UpstreamTls {
            server_name: "api.example".into(),
            trust: Trust::System,
            names: vec![dns("api.example")]
        }
    );
    assert_eq!(cluster_of(&world, "outbound|444|api.example").tls, None);
}

#[test]
fn the_standards_constraint_on_retries_is_our_budget_unless_our_own_words_say_otherwise() {
    let target = "targetRefs: [{group: '', kind: Service, name: reviews}]";
    let constraint = standard(
        "gateway.networking.x-k8s.io/v1alpha1",
        "XBackendTrafficPolicy",
        &format!(
            "{{{target}, retryConstraint: {{budget: {{percent: 50, interval: 20s}}, minRetryRate: {{count: 6, interval: 4s}}}}}}"
        ),
    );
    let own = |spec: &str| {
        format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: o, namespace: shop}}\nspec: {{{target}, {spec}}}\n---\n"
        )
    };
    let budget = |yaml: &str| {
        let cluster = cluster_of(&world(yaml), "outbound|80|reviews.shop.svc.cluster.local");
        let budget = cluster.retry_budget;
        (budget.percent, budget.interval.as_secs(), budget.min_retries_per_second)
    };
    let base = service("reviews", 1) + &constraint;
    assert_eq!(budget(&base), (50.0, 20, 2));
    assert_eq!(budget(&(base.clone() + &own("circuitBreaker: {maxRequests: 7}"))), (50.0, 20, 2));
    let both = base + &own("retryBudget: {percent: 5}");
    assert_eq!(budget(&both), (5.0, 10, 10));
    let told = crate::status::evaluate(&world(&both));
    let of = told.iter().find(|status| status.object.kind == Kind::XBackendTrafficPolicy).unwrap();
    assert!(of.conditions.iter().any(|it| it.is_problem() && it.reason == "Conflicted"), "{of:?}");
}
