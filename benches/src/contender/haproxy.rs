//! HAProxy's configuration: what a measurement needs, everything else as it is by default.

use std::fmt::Write;
use std::path::Path;

use super::certificates::{Certificates, PEER_NAME};
use super::hop::{Hop, Service, Wire};
use crate::scenario::Protocol;

/// Connections of the process on the downstream side.
const CONNECTIONS: u32 = 4096;
/// Idle connections kept for a server: as many as there are requests at once, so that none has to connect.
const KEPT: u32 = 1024;
/// Streams of a connection: all requests there are at once, so that one connection between proxies can carry them.
const MAX_STREAMS: u32 = 1024;

/// Its arguments with this configuration file.
pub(super) fn args(file: &Path) -> Vec<String> {
    ["-db".to_owned(), "-f".to_owned(), file.display().to_string()].to_vec()
}

/// The configuration file.
pub(super) fn config(hop: &Hop<'_>) -> String {
    let mode = if hop.downstream.protocol == Protocol::Tcp { "tcp" } else { "http" };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn {CONNECTIONS}\n  tune.h2.max-concurrent-streams {MAX_STREAMS}\n\
         \x20 tune.ssl.cachesize 0\n  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n\
         \x20 ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  ssl-default-server-options ssl-min-ver TLSv1.3\n\
         \x20 ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
    );
    if mode == "http" {
        text += "  http-reuse always\n";
    }
    text += &format!("frontend near\n  bind {}{} backlog 4096\n", hop.listen, bind(hop.downstream));
    text += &match hop.services {
        [only] => format!("  default_backend {}\n", only.name),
        _ => "  use_backend %[req.hdr(host),field(1,:)]\n".to_owned(),
    };
    for service in hop.services {
        text += &backend(service, hop.upstream);
    }
    text
}

fn backend(service: &Service, upstream: Wire<'_>) -> String {
    let mut text = format!("backend {}\n", service.name);
    for (place, to) in service.endpoints.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  server s{place} {to}{}", server(upstream));
    }
    text
}

fn bind(Wire { protocol, tls }: Wire<'_>) -> String {
    match (protocol, tls) {
        (Protocol::Http1 | Protocol::Tcp, None) => String::new(),
        (Protocol::Http2 | Protocol::Grpc, None) => " proto h2".to_owned(),
        (_, Some(Certificates { ca, both, .. })) => {
            format!(" ssl crt {} ca-file {} verify required{}", both.display(), ca.display(), alpn(protocol))
        }
    }
}

/// No session is resumed: where every connection is to cost a handshake it must, elsewhere connections are pooled.
fn server(Wire { protocol, tls }: Wire<'_>) -> String {
    let pool = if protocol == Protocol::Tcp {
        String::new()
    } else {
        format!(" pool-max-conn {KEPT} pool-purge-delay 1h")
    };
    match (protocol, tls) {
        (Protocol::Http1 | Protocol::Tcp, None) => pool,
        (Protocol::Http2 | Protocol::Grpc, None) => format!(" proto h2{pool}"),
        (_, Some(Certificates { ca, both, .. })) => format!(
            " ssl crt {} ca-file {} verify required verifyhost {PEER_NAME} sni str({PEER_NAME}) no-ssl-reuse{}{pool}",
            both.display(),
            ca.display(),
            alpn(protocol)
        ),
    }
}

fn alpn(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => " alpn http/1.1",
        Protocol::Http2 | Protocol::Grpc => " alpn h2",
        Protocol::Tcp => "",
    }
}
