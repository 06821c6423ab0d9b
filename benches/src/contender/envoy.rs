//! Envoy's configuration: what a measurement needs, everything else as it is by default.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::certificates::{Certificates, PEER_NAME};
use super::hop::{Hop, Service, Wire};
use crate::scenario::Protocol;

/// More than there ever are of anything: the load must not be turned away.
const NO_LIMIT: u32 = 1_000_000;
/// Streams of a connection: all requests there are at once, so that one connection between proxies can carry them.
const MAX_STREAMS: u32 = 1024;
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Its arguments with this configuration file.
pub(super) fn args(file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    let args =
        ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--config-path", &file];
    args.map(str::to_owned).to_vec()
}

/// The bootstrap. Envoy reads JSON as well as YAML.
pub(super) fn config(hop: &Hop<'_>) -> String {
    let clusters: Vec<Value> = hop.services.iter().map(|service| cluster(service, hop.upstream)).collect();
    let mut filter_chain = json!({ "filters": [filter(hop)] });
    if let Some(tls) = hop.downstream.tls {
        filter_chain["transport_socket"] =
            transport_socket("DownstreamTlsContext", &downstream_tls(hop, tls));
    }
    let listener = json!({ "name": "near", "address": address(hop.listen), "filter_chains": [filter_chain] });
    json!({ "static_resources": { "listeners": [listener], "clusters": clusters } }).to_string()
}

fn filter(hop: &Hop<'_>) -> Value {
    let codec = match hop.downstream.protocol {
        Protocol::Http1 => "HTTP1",
        Protocol::Http2 | Protocol::Grpc => "HTTP2",
        Protocol::Tcp => {
            let cluster = hop.services.first().map(|service| &service.name);
            let proxy = json!({ "stat_prefix": "tcp", "cluster": cluster });
            return extension("envoy.filters.network.tcp_proxy", "network.tcp_proxy.v3.TcpProxy", &proxy);
        }
    };
    let router = extension("envoy.filters.http.router", "http.router.v3.Router", &json!({}));
    let manager = json!({
        "stat_prefix": "http",
        "codec_type": codec,
        "http2_protocol_options": { "max_concurrent_streams": MAX_STREAMS },
        "route_config": { "virtual_hosts": virtual_hosts(hop.services) },
        "http_filters": [router],
    });
    let name = "envoy.filters.network.http_connection_manager";
    extension(name, "network.http_connection_manager.v3.HttpConnectionManager", &manager)
}

fn virtual_hosts(services: &[Service]) -> Vec<Value> {
    let virtual_host = |service: &Service| {
        let domain = if services.len() == 1 { "*" } else { &service.name };
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": service.name } });
        json!({ "name": service.name, "domains": [domain], "routes": [route] })
    };
    services.iter().map(virtual_host).collect()
}

fn cluster(service: &Service, upstream: Wire<'_>) -> Value {
    let endpoint = |to: &SocketAddr| json!({ "endpoint": { "address": address(*to) } });
    let endpoints: Vec<Value> = service.endpoints.iter().map(endpoint).collect();
    let limits = json!({
        "max_connections": NO_LIMIT,
        "max_pending_requests": NO_LIMIT,
        "max_requests": NO_LIMIT,
        "max_retries": NO_LIMIT,
    });
    let mut cluster = json!({
        "name": service.name,
        "type": "STATIC",
        "load_assignment": { "cluster_name": service.name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "circuit_breakers": { "thresholds": [limits] },
    });
    if matches!(upstream.protocol, Protocol::Http2 | Protocol::Grpc) {
        let http2 = json!({ "http2_protocol_options": { "max_concurrent_streams": MAX_STREAMS } });
        cluster["typed_extension_protocol_options"] = json!({
            HTTP_OPTIONS: { "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"), "explicit_http_config": http2 },
        });
    }
    if let Some(tls) = upstream.tls {
        cluster["transport_socket"] = transport_socket("UpstreamTlsContext", &upstream_tls(upstream, tls));
    }
    cluster
}

/// No session is resumed: where every connection is to cost a handshake it must, elsewhere connections are pooled.
fn upstream_tls(upstream: Wire<'_>, tls: &Certificates) -> Value {
    json!({ "common_tls_context": tls_context(upstream, tls), "sni": PEER_NAME, "max_session_keys": 0 })
}

fn downstream_tls(hop: &Hop<'_>, tls: &Certificates) -> Value {
    json!({
        "common_tls_context": tls_context(hop.downstream, tls),
        "require_client_certificate": true,
        "disable_stateless_session_resumption": true,
        "disable_stateful_session_resumption": true,
    })
}

/// TLS 1.3 only. Its cipher suites cannot be chosen in BoringSSL; where the CPU has AES, a client offers AES-128-GCM first.
fn tls_context(wire: Wire<'_>, tls: &Certificates) -> Value {
    let file = |path: &Path| json!({ "filename": path });
    let name = json!({ "san_type": "DNS", "matcher": { "exact": PEER_NAME } });
    let mut context = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{ "certificate_chain": file(&tls.certificate), "private_key": file(&tls.key) }],
        "validation_context": { "trusted_ca": file(&tls.ca), "match_typed_subject_alt_names": [name] },
    });
    match wire.protocol {
        Protocol::Http1 => context["alpn_protocols"] = json!(["http/1.1"]),
        Protocol::Http2 | Protocol::Grpc => context["alpn_protocols"] = json!(["h2"]),
        Protocol::Tcp => {}
    }
    context
}

fn transport_socket(context: &str, config: &Value) -> Value {
    extension("envoy.transport_sockets.tls", &format!("transport_sockets.tls.v3.{context}"), config)
}

fn extension(name: &str, message: &str, config: &Value) -> Value {
    let mut typed = config.clone();
    // filters.network.…, filters.http.…, transport_sockets.…: all below one name.
    let kind = if message.starts_with("transport_sockets") { "" } else { "filters." };
    typed["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}{message}"));
    json!({ "name": name, "typed_config": typed })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
