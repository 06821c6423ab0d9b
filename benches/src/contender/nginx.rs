//! nginx's configuration: what a measurement needs, everything else as it is by default.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use super::certificates::{Certificates, PEER_NAME};
use super::hop::{Hop, Service, Wire};
use super::programs;
use crate::scenario::Protocol;

/// Idle connections kept for an upstream: as many as there are requests at once, so that none has to connect.
const KEPT: u32 = 1024;
/// The same for each of many upstreams: room for them is taken at the start, and a thousand times that much would not
/// be what anybody configures.
const KEPT_EACH: u32 = 16;
/// Connections of the process on both sides.
const CONNECTIONS: u32 = 4096;
/// Requests on one connection, and streams of it at once: more than there ever are.
const MANY: u32 = 1_000_000_000;
const MAX_STREAMS: u32 = 1024;

/// Its arguments with this configuration file.
pub(super) fn args(file: &Path, dir: &Path) -> Vec<String> {
    let (file, dir) = (file.display().to_string(), dir.display().to_string());
    ["-e", "stderr", "-p", &dir, "-c", &file].map(str::to_owned).to_vec()
}

/// The configuration file. One process that works by itself: with a master beside it nothing would be faster, and a
/// worker outlives a master that is killed.
pub(super) fn config(hop: &Hop<'_>) -> Result<String> {
    let mut text = String::new();
    if hop.downstream.protocol == Protocol::Tcp {
        text = format!("load_module {};\n", programs::nginx_stream_module()?.display());
    }
    text += &format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/{name}.pid;\nerror_log stderr warn;\n\
         worker_rlimit_nofile {files};\nevents {{ worker_connections {CONNECTIONS}; }}\n",
        dir = hop.dir.display(),
        name = hop.name,
        files = 2 * CONNECTIONS,
    );
    text += &match hop.downstream.protocol {
        Protocol::Tcp => stream(hop),
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => http(hop),
    };
    Ok(text)
}

fn stream(hop: &Hop<'_>) -> String {
    let upstreams: String = hop.services.iter().map(|service| upstream(service, "")).collect();
    let to = hop.services.first().map_or("", |service| &service.name);
    let listen = listen(hop, "");
    format!(
        "stream {{\n{upstreams}  server {{\n{listen}{downstream}{upstream}    proxy_pass {to};\n  }}\n}}\n",
        downstream = hop.downstream.tls.map(downstream_tls).unwrap_or_default(),
        // In the HTTP module the scheme of the destination says it.
        upstream = hop
            .upstream
            .tls
            .map(|tls| format!("    proxy_ssl on;\n{}", upstream_tls("proxy", tls)))
            .unwrap_or_default(),
    )
}

fn http(hop: &Hop<'_>) -> String {
    let connections = if hop.services.len() == 1 { KEPT } else { KEPT_EACH };
    let kept =
        format!("    keepalive {connections};\n    keepalive_requests {MANY};\n    keepalive_timeout 1h;\n");
    let upstreams: String = hop.services.iter().map(|service| upstream(service, &kept)).collect();
    let is_http2 = matches!(hop.downstream.protocol, Protocol::Http2 | Protocol::Grpc);
    let h2 = if is_http2 { " http2" } else { "" };
    let mut text = format!(
        "http {{\n  access_log off;\n  keepalive_requests {MANY};\n  keepalive_timeout 1h;\n\
         \x20 http2_max_concurrent_streams {MAX_STREAMS};\n"
    );
    for temporary in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {temporary}_temp_path {}/{}-{temporary};", hop.dir.display(), hop.name);
    }
    text += &upstreams;
    text += &by_host(hop.services);
    text += &format!(
        "  server {{\n{}{}    location / {{\n{}    }}\n  }}\n}}\n",
        listen(hop, h2),
        hop.downstream.tls.map(downstream_tls).unwrap_or_default(),
        pass(hop),
    );
    text
}

/// With several services a table says which one a Host means.
fn by_host(services: &[Service]) -> String {
    if services.len() == 1 {
        return String::new();
    }
    let mut text = format!("  map_hash_max_size {};\n  map $host $service {{\n", 4 * services.len());
    for Service { name, .. } in services {
        let _ = writeln!(text, "    {name} {name};");
    }
    text + "  }\n"
}

fn pass(hop: &Hop<'_>) -> String {
    let to = match hop.services {
        [only] => &only.name,
        _ => "$service",
    };
    match hop.upstream {
        // There is no other way to speak HTTP/2 to an upstream; it carries any request.
        Wire { protocol: Protocol::Http2 | Protocol::Grpc, .. } => format!("      grpc_pass grpc://{to};\n"),
        Wire { tls, .. } => {
            let scheme = if tls.is_some() { "https" } else { "http" };
            format!(
                "      proxy_pass {scheme}://{to};\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
                 \x20     proxy_set_header Host $http_host;\n      proxy_max_temp_file_size 0;\n{}",
                tls.map(|tls| upstream_tls("proxy", tls)).unwrap_or_default(),
            )
        }
    }
}

fn listen(hop: &Hop<'_>, version: &str) -> String {
    let ssl = if hop.downstream.tls.is_some() { " ssl" } else { "" };
    format!("    listen {}{ssl}{version} backlog=4096;\n", hop.listen)
}

fn upstream(service: &Service, kept: &str) -> String {
    let servers: String = service.endpoints.iter().map(|to| format!("    server {to};\n")).collect();
    format!("  upstream {} {{\n{servers}{kept}  }}\n", service.name)
}

fn downstream_tls(tls: &Certificates) -> String {
    format!(
        "    ssl_certificate {};\n    ssl_certificate_key {};\n    ssl_client_certificate {};\n    ssl_verify_client on;\n\
         \x20   ssl_protocols TLSv1.3;\n    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n\
         \x20   ssl_session_cache off;\n    ssl_session_tickets off;\n",
        tls.certificate.display(),
        tls.key.display(),
        tls.ca.display(),
    )
}

/// No session is resumed: where every connection is to cost a handshake it must, elsewhere connections are pooled.
fn upstream_tls(module: &str, tls: &Certificates) -> String {
    let settings = [
        ("certificate", tls.certificate.display().to_string()),
        ("certificate_key", tls.key.display().to_string()),
        ("trusted_certificate", tls.ca.display().to_string()),
        ("verify", "on".to_owned()),
        ("name", PEER_NAME.to_owned()),
        ("server_name", "on".to_owned()),
        ("protocols", "TLSv1.3".to_owned()),
        ("conf_command", "Ciphersuites TLS_AES_128_GCM_SHA256".to_owned()),
        ("session_reuse", "off".to_owned()),
    ];
    settings.iter().map(|(name, value)| format!("      {module}_ssl_{name} {value};\n")).collect()
}
