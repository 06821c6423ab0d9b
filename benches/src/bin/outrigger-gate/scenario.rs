//! What is counted: which sidecar, on which path, speaking what.

use std::fmt;

use clap::ValueEnum;

/// A path of a request, and the sidecar on it that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One sidecar, HTTP/1.1 on both sides.
    OneHopHttp1,
    /// One sidecar, HTTP/2 on both sides.
    OneHopHttp2,
    /// Two sidecars, mutual TLS between them, HTTP/1.1: that of the client.
    PairClientHttp1,
    /// The same: that of the server.
    PairServerHttp1,
}

/// What load and origin speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2,
}

/// Which of the sidecars is looked at, and whether there is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The only one.
    Alone,
    /// That of the client, of two.
    Client,
    /// That of the server, of two.
    Server,
}

impl Scenario {
    /// Every scenario, in the order of the file of numbers.
    pub(crate) const ALL: [Self; 4] =
        [Self::OneHopHttp1, Self::OneHopHttp2, Self::PairClientHttp1, Self::PairServerHttp1];

    /// What it is, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OneHopHttp1 => "one sidecar, HTTP/1.1",
            Self::OneHopHttp2 => "one sidecar, HTTP/2",
            Self::PairClientHttp1 => "two sidecars with mutual TLS, HTTP/1.1: the client's",
            Self::PairServerHttp1 => "two sidecars with mutual TLS, HTTP/1.1: the server's",
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::OneHopHttp2 => Protocol::Http2,
            Self::OneHopHttp1 | Self::PairClientHttp1 | Self::PairServerHttp1 => Protocol::Http1,
        }
    }

    pub(crate) fn place(self) -> Place {
        match self {
            Self::OneHopHttp1 | Self::OneHopHttp2 => Place::Alone,
            Self::PairClientHttp1 => Place::Client,
            Self::PairServerHttp1 => Place::Server,
        }
    }

    /// The body of every answer, as in the scenario of the benches that it belongs to.
    pub(crate) fn body_bytes(self) -> usize {
        match self.protocol() {
            Protocol::Http1 => 1024,
            Protocol::Http2 => 128,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}
