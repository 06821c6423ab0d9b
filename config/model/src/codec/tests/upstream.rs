//! Health checks and TLS of clusters that cannot be honoured, or would leave a server unverified, are refused.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, TransportSocket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::SystemRootCerts;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use envoy_types::pb::google::protobuf::Duration as WireDuration;

use crate::codec::{decode, wire};

fn cluster() -> Cluster {
    let eds = EdsClusterConfig { eds_config: Some(wire::ads()), service_name: String::new() };
    Cluster {
        name: "outbound|80|a".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(eds),
        ..Cluster::default()
    }
}

#[test]
fn health_checks() {
    let good = wire_check(HealthChecker::TcpHealthCheck(TcpHealthCheck::default()));
    let read = |checks| decode(&wire::pack(&Cluster { health_checks: checks, ..cluster() }));
    assert!(read(vec![good.clone()]).is_ok());
    let http = |change: fn(&mut HttpHealthCheck)| {
        let mut http = HttpHealthCheck { path: "/".to_owned(), ..HttpHealthCheck::default() };
        change(&mut http);
        vec![wire_check(HealthChecker::HttpHealthCheck(http))]
    };
    let within = |start, end| Int64Range { start, end };
    assert!(read(http(|it| it.expected_statuses = vec![Int64Range { start: 100, end: 600 }])).is_ok());
    for (checks, why) in [
        (vec![good.clone(), good.clone()], "health_checks: has 2 entries, at most 1"),
        (vec![HealthCheck { interval: None, ..good.clone() }], "health_checks[0].interval: is missing or 0"),
        (vec![HealthCheck { timeout: None, ..good.clone() }], "health_checks[0].timeout: is missing or 0"),
        (
            vec![HealthCheck { unhealthy_threshold: wire::number(0), ..good.clone() }],
            "health_checks[0].unhealthy_threshold: is missing or 0",
        ),
        (
            vec![HealthCheck { alt_port: wire::number(80), ..good }],
            "health_checks[0].alt_port: is not supported",
        ),
        (http(|it| it.path = "x".to_owned()), "health_checks[0].http_health_check.path: is not a path"),
        (http(|it| it.method = 4), "health_checks[0].http_health_check.method: is not supported"),
    ] {
        let error = read(checks).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    for range in [within(0, 200), within(200, 200), within(200, 601), within(i64::MIN, i64::MAX)] {
        let http = HttpHealthCheck {
            path: "/".to_owned(),
            expected_statuses: vec![range],
            ..HttpHealthCheck::default()
        };
        let error = read(vec![wire_check(HealthChecker::HttpHealthCheck(http))]).unwrap_err().to_string();
        assert!(error.contains("expected_statuses: has a range"), "{error}");
    }
}

fn wire_check(checker: HealthChecker) -> HealthCheck {
    HealthCheck {
        timeout: Some(WireDuration { seconds: 1, nanos: 0 }),
        interval: Some(WireDuration { seconds: 1, nanos: 0 }),
        unhealthy_threshold: wire::number(1),
        healthy_threshold: wire::number(1),
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}

/// A server whose certificate nobody asks for a name, or for an authority, is refused: it would be anybody.
#[test]
fn tls_to_servers_that_could_be_anybody() {
    let names = || {
        let exact = StringMatcher {
            match_pattern: Some(MatchPattern::Exact("api.example".to_owned())),
            ..StringMatcher::default()
        };
        vec![SubjectAltNameMatcher {
            san_type: SanType::Dns.into(),
            matcher: Some(exact),
            ..SubjectAltNameMatcher::default()
        }]
    };
    let good = CertificateValidationContext {
        system_root_certs: Some(SystemRootCerts {}),
        match_typed_subject_alt_names: names(),
        ..CertificateValidationContext::default()
    };
    let read = |sni: &str, validation: Option<CertificateValidationContext>| {
        let common = CommonTlsContext {
            validation_context_type: validation.map(ValidationContextType::ValidationContext),
            ..CommonTlsContext::default()
        };
        let context = UpstreamTlsContext {
            sni: sni.to_owned(),
            common_tls_context: Some(common),
            ..UpstreamTlsContext::default()
        };
        let config_type = Some(ConfigType::TypedConfig(wire::pack(&context)));
        let socket = TransportSocket { config_type, ..TransportSocket::default() };
        decode(&wire::pack(&Cluster { transport_socket: Some(socket), ..cluster() }))
    };
    assert!(read("api.example", Some(good.clone())).is_ok());
    let with = |change: fn(&mut CertificateValidationContext)| {
        let mut changed = good.clone();
        change(&mut changed);
        Some(changed)
    };
    for (sni, validation, why) in [
        ("", Some(good.clone()), "transport_socket.sni: is empty"),
        ("a", None, "validation_context: is missing, so that any certificate would do"),
        (
            "a",
            with(|it| it.match_typed_subject_alt_names.clear()),
            "match_typed_subject_alt_names: is empty, so",
        ),
        ("a", with(|it| it.system_root_certs = None), "trusted_ca: is needed, or system_root_certs"),
        ("a", with(|it| it.trust_chain_verification = 1), "trust_chain_verification: is not supported"),
        ("a", with(|it| it.allow_expired_certificate = true), "allow_expired_certificate: is not supported"),
        (
            "a",
            with(|it| it.match_typed_subject_alt_names[0].san_type = SanType::Email.into()),
            "match_typed_subject_alt_names[0].san_type: is neither DNS nor URI",
        ),
        (
            "a",
            with(|it| it.match_typed_subject_alt_names[0].matcher = None),
            "match_typed_subject_alt_names[0].matcher: is not exact",
        ),
    ] {
        let error = read(sni, validation).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
