//! What a port speaks, as its Service declares it.

use outrigger_resources::external_service::ExternalProtocol;
use outrigger_resources::kubernetes::{ServicePort, TargetPort};
use outrigger_resources::mesh_config::MeshConfigSpec;

/// What is declared, before routes have their say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    /// HTTP/1.1, WebSocket included.
    Http1,
    /// HTTP/2 and gRPC.
    Http2,
    /// Bytes, TLS of the application's own included.
    Opaque,
    /// Nothing.
    Nothing,
}

impl Declared {
    /// By `appProtocol`, else by the name of the port up to the first `-`, as other meshes do.
    pub(crate) fn of(port: &ServicePort) -> Self {
        let by_field = port.app_protocol.as_deref().map_or(Self::Nothing, Self::of_word);
        if by_field != Self::Nothing {
            return by_field;
        }
        match Self::of_word(&port.name) {
            Self::Nothing => Self::of_word(port.name.split('-').next().unwrap_or_default()),
            by_name => by_name,
        }
    }

    /// What an ExternalService says. With HTTPS it is the proxy that starts TLS; with TLS the application does, which is
    /// bytes.
    pub(crate) fn of_external(protocol: ExternalProtocol) -> Self {
        match protocol {
            ExternalProtocol::Http | ExternalProtocol::Https => Self::Http1,
            ExternalProtocol::Http2 | ExternalProtocol::Grpc => Self::Http2,
            ExternalProtocol::Tcp | ExternalProtocol::Tls => Self::Opaque,
        }
    }

    /// Whether routes for HTTP can apply.
    pub(crate) fn allows_http(self) -> bool {
        self != Self::Opaque
    }

    /// Whether routes for bytes can apply.
    pub(crate) fn allows_opaque(self) -> bool {
        matches!(self, Self::Opaque | Self::Nothing)
    }

    fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "http" | "grpc-web" | "kubernetes.io/ws" | "ws" => Self::Http1,
            "http2" | "h2c" | "grpc" | "kubernetes.io/h2c" => Self::Http2,
            "tcp" | "tls" | "https" | "wss" | "kubernetes.io/wss" => Self::Opaque,
            "mongo" | "mysql" | "postgres" | "postgresql" | "redis" => Self::Opaque,
            _ => Self::Nothing,
        }
    }
}

/// Whether the mesh never looks into this port, by the number that is dialled or by the one behind it.
pub(crate) fn is_opaque_port(port: &ServicePort, mesh: &MeshConfigSpec) -> bool {
    let behind = match port.target_port {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.port,
    };
    mesh.opaque_ports.contains(&port.port) || mesh.opaque_ports.contains(&behind)
}

#[cfg(test)]
mod tests {
    use outrigger_resources::kubernetes::Transport;

    use super::*;

    #[test]
    fn the_field_counts_before_the_name_of_the_port() {
        for (app_protocol, name, expected) in [
            (Some("http"), "", Declared::Http1),
            (Some("kubernetes.io/h2c"), "http", Declared::Http2),
            (Some("kubernetes.io/ws"), "", Declared::Http1),
            (Some("HTTPS"), "http", Declared::Opaque),
            (Some("example.com/unknown"), "grpc-api", Declared::Http2),
            (None, "http-metrics", Declared::Http1),
            (None, "http", Declared::Http1),
            (None, "httpx", Declared::Nothing),
            (None, "grpc-web", Declared::Http1),
            (None, "tcp-db", Declared::Opaque),
            (None, "", Declared::Nothing),
        ] {
            let port = ServicePort {
                name: name.to_owned(),
                port: 80,
                target_port: TargetPort::Number(80),
                protocol: Transport::Tcp,
                app_protocol: app_protocol.map(str::to_owned),
            };
            assert_eq!(Declared::of(&port), expected, "{app_protocol:?} {name:?}");
        }
    }
}
