//! What is measured: who stands between load and origin, what they speak, how much work there is, and who takes part.

use std::fmt;

use crate::contender::Contender;

/// One kind of work that every contender does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One hop, HTTP/1.1.
    S1,
    /// One hop, HTTP/1.1, large bodies.
    S2,
    /// One hop, HTTP/2 in cleartext.
    S3,
    /// The mesh pair: two sidecars with mutual TLS between them, HTTP/1.1.
    S4,
    /// The mesh pair at a fixed rate.
    S4Rate,
    /// The mesh pair, unary calls like those of gRPC.
    S4g,
    /// One hop, a connection for each request.
    S5,
    /// The mesh pair, a connection of the client for each request.
    S5Pair,
    /// The mesh pair, one full handshake for each connection of the client.
    S5t,
    /// One hop, bytes that nobody looks at.
    S6,
    /// The mesh pair, bytes that nobody looks at.
    S6t,
    /// Memory: idle, and with idle connections.
    S7,
    /// Memory with a large mesh configured.
    S7x,
    /// One hop at a fixed rate.
    S8,
    /// The control plane with many proxies.
    S9,
    /// The mesh pair with many authorization rules where requests come in: what they cost there.
    S10,
}

/// What stands between load and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// One proxy.
    OneHop,
    /// Two proxies, mutual TLS between them.
    Pair,
}

/// What load and origin speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 with prior knowledge, in cleartext, requests without a body.
    Http2,
    /// The same with what a unary call of gRPC has: a POST of one message, one message back, and trailers.
    Grpc,
    /// Bytes without a meaning.
    Tcp,
}

/// How long a connection of the load lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connections {
    /// As long as the load.
    Kept,
    /// For one request.
    Fresh,
}

/// How much work there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Ask again as soon as answered. `streams` requests at a time on each of `connections`, answers of `body_bytes`.
    Closed { protocol: Protocol, connections: usize, streams: usize, body_bytes: usize, kept: Connections },
    /// Ask at a fixed rate over HTTP/1.1, whatever the answers do; `connections` are used in turn.
    Open { per_second: u32, connections: usize, body_bytes: usize },
    /// The origin sends as fast as it can, bytes are counted.
    Bulk { connections: usize },
    /// Connect, send a few bytes, get them back, close; `connections` at a time.
    Handshakes { connections: usize },
    /// Open connections, use each for one request, leave it idle.
    Hold { connections: usize },
    /// Configure that many services of which a few are dialled.
    Mesh { services: usize, endpoints_each: usize, dialled: usize },
    /// Simulated proxies of a control plane that knows that many services.
    ControlPlane { proxies: usize, services: usize },
}

/// What load and origin of one kind of work tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Requests, each answered with a body of so many bytes.
    Requests { protocol: Protocol, body_bytes: usize },
    /// As many bytes as the origin can send.
    Bulk,
    /// A few bytes there and back.
    Echo,
}

/// The load of the closed loop over HTTP/1.1.
const CLOSED_HTTP1: Work = Work::Closed {
    protocol: Protocol::Http1,
    connections: 64,
    streams: 1,
    body_bytes: 1024,
    kept: Connections::Kept,
};
/// Short answers, as those of most calls are.
const CALL_BYTES: usize = 128;
/// The body of a gRPC message comes after its flag and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const GRPC_PREFIX_BYTES: usize = 5;
/// The answers where memory is what is measured.
const HELD_BYTES: usize = 1024;

use Contender::{Direct, Envoy, Floor, Haproxy, Nginx, Outrigger, Unguarded};

impl Scenario {
    /// Every scenario, in the order of the report.
    pub(crate) const ALL: [Self; 16] = [
        Self::S1,
        Self::S2,
        Self::S3,
        Self::S4,
        Self::S4Rate,
        Self::S4g,
        Self::S5,
        Self::S5Pair,
        Self::S5t,
        Self::S6,
        Self::S6t,
        Self::S7,
        Self::S7x,
        Self::S8,
        Self::S9,
        Self::S10,
    ];

    /// What it is, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::S1 => "one hop, HTTP/1.1, 1 KiB, 64 connections",
            Self::S2 => "one hop, HTTP/1.1, 64 KiB, 64 connections",
            Self::S3 => "one hop, HTTP/2 in cleartext, 10 connections of 100 streams",
            Self::S4 => "mesh pair with mutual TLS, HTTP/1.1, 1 KiB, 64 connections",
            Self::S4Rate => "mesh pair with mutual TLS, HTTP/1.1, 1 KiB, 1,000 requests a second",
            Self::S4g => "mesh pair with mutual TLS, unary gRPC calls, 10 connections of 100 streams",
            Self::S5 => "one hop, HTTP/1.1, a connection for each request",
            Self::S5Pair => {
                "mesh pair with mutual TLS, HTTP/1.1, a connection of the client for each request"
            }
            Self::S5t => {
                "mesh pair, opaque TCP, a full mutual TLS handshake for each connection of the client"
            }
            Self::S6 => "one hop, opaque TCP, as many bytes as go",
            Self::S6t => "mesh pair with mutual TLS, opaque TCP, as many bytes as go",
            Self::S7 => "memory of one proxy: idle, and with 1,000 idle connections",
            Self::S7x => "memory of one proxy: 1,000 services of 10 endpoints in the mesh",
            Self::S8 => "one hop, HTTP/1.1, 1 KiB, 2,000 requests a second",
            Self::S10 => {
                "100 authorization rules at the origin's sidecar of a mesh pair, HTTP/1.1, 1 KiB, 64 connections"
            }
            Self::S9 => "control plane: 1,000 proxies, 5,000 services, one endpoint changes",
        }
    }

    /// What stands between load and origin.
    pub(crate) fn path(self) -> Path {
        match self {
            Self::S4 | Self::S4Rate | Self::S4g | Self::S5Pair | Self::S5t | Self::S6t | Self::S10 => {
                Path::Pair
            }
            _ => Path::OneHop,
        }
    }

    /// How much work there is.
    pub(crate) fn work(self) -> Work {
        match self {
            Self::S1 | Self::S4 | Self::S10 => CLOSED_HTTP1,
            Self::S2 => closed(Protocol::Http1, (64, 1), 64 * 1024),
            Self::S3 => closed(Protocol::Http2, (10, 100), CALL_BYTES),
            Self::S4g => closed(Protocol::Grpc, (10, 100), GRPC_PREFIX_BYTES + CALL_BYTES),
            Self::S4Rate => Work::Open { per_second: 1000, connections: 64, body_bytes: 1024 },
            Self::S8 => Work::Open { per_second: 2000, connections: 64, body_bytes: 1024 },
            Self::S5 | Self::S5Pair => Work::Closed {
                protocol: Protocol::Http1,
                connections: 16,
                streams: 1,
                body_bytes: 1024,
                kept: Connections::Fresh,
            },
            Self::S5t => Work::Handshakes { connections: 16 },
            Self::S6 | Self::S6t => Work::Bulk { connections: 4 },
            Self::S7 => Work::Hold { connections: 1000 },
            Self::S7x => Work::Mesh { services: 1000, endpoints_each: 10, dialled: 5 },
            Self::S9 => Work::ControlPlane { proxies: 1000, services: 5000 },
        }
    }

    /// What load and origin speak; in S9, what proxies and the control plane do.
    pub(crate) fn protocol(self) -> Protocol {
        match self.work() {
            Work::Closed { protocol, .. } => protocol,
            Work::Open { .. } | Work::Hold { .. } | Work::Mesh { .. } => Protocol::Http1,
            Work::Bulk { .. } | Work::Handshakes { .. } => Protocol::Tcp,
            Work::ControlPlane { .. } => Protocol::Grpc,
        }
    }

    /// What every request asks for.
    pub(crate) fn request_path(self) -> &'static str {
        match self.protocol() {
            Protocol::Grpc => "/bench.Items/Get",
            Protocol::Http1 | Protocol::Http2 | Protocol::Tcp => "/items/17?view=full",
        }
    }

    /// Who takes part, in the order of a round.
    pub(crate) fn contenders(self) -> &'static [Contender] {
        match self {
            Self::S4Rate | Self::S8 => &[Direct, Floor, Outrigger, Envoy, Nginx, Haproxy],
            // nginx speaks no HTTP/2 to an origin but as gRPC, and in a pair it would be between TLS and cleartext.
            Self::S4g => &[Floor, Outrigger, Envoy, Haproxy],
            // Proxies pool connections between each other; a relay cannot, so its handshakes would be no floor.
            Self::S5Pair => &[Outrigger, Envoy, Nginx, Haproxy],
            Self::S7 | Self::S7x => &[Outrigger, Envoy, Nginx, Haproxy],
            Self::S9 => &[Outrigger],
            Self::S10 => &[Unguarded, Outrigger],
            _ => &[Floor, Outrigger, Envoy, Nginx, Haproxy],
        }
    }
}

impl Work {
    /// What load and origin tell each other; `None` where there is neither.
    pub(crate) fn exchange(self) -> Option<Exchange> {
        match self {
            Self::Closed { protocol, body_bytes, .. } => Some(Exchange::Requests { protocol, body_bytes }),
            Self::Open { body_bytes, .. } => {
                Some(Exchange::Requests { protocol: Protocol::Http1, body_bytes })
            }
            Self::Hold { .. } | Self::Mesh { .. } => {
                Some(Exchange::Requests { protocol: Protocol::Http1, body_bytes: HELD_BYTES })
            }
            Self::Bulk { .. } => Some(Exchange::Bulk),
            Self::Handshakes { .. } => Some(Exchange::Echo),
            Self::ControlPlane { .. } => None,
        }
    }
}

/// The closed loop over connections that are kept.
fn closed(protocol: Protocol, (connections, streams): (usize, usize), body_bytes: usize) -> Work {
    Work::Closed { protocol, connections, streams, body_bytes, kept: Connections::Kept }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S4Rate => "S4-rate",
            Self::S4g => "S4g",
            Self::S5 => "S5",
            Self::S5Pair => "S5-pair",
            Self::S5t => "S5t",
            Self::S6 => "S6",
            Self::S6t => "S6t",
            Self::S7 => "S7",
            Self::S7x => "S7x",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_scenario_is_written_on_the_command_line_as_in_the_report() {
        for scenario in Scenario::ALL {
            let value = scenario.to_possible_value().unwrap();
            assert_eq!(value.get_name(), scenario.to_string().to_lowercase());
        }
        assert_eq!(Scenario::value_variants(), Scenario::ALL);
    }

    #[test]
    fn nothing_is_added_over_no_proxy_where_there_is_no_fixed_rate() {
        for scenario in Scenario::ALL {
            let open = matches!(scenario.work(), Work::Open { .. });
            assert_eq!(scenario.contenders().contains(&Contender::Direct), open, "{scenario}");
        }
    }
}
