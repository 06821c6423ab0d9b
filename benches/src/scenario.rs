//! What is measured: who stands between load and origin, and how much work there is.

use std::fmt;

/// One kind of work that every contender does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One hop, HTTP/1.1.
    S1,
    /// The mesh pair: two sidecars with mutual TLS between them, HTTP/1.1.
    S4,
}

/// How much work there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Connections of the load, each with one request at a time.
    pub(crate) connections: usize,
    /// The body of every answer.
    pub(crate) body_bytes: usize,
}

/// What stands between load and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// One proxy.
    OneHop,
    /// Two proxies, mutual TLS between them.
    Pair,
}

impl Scenario {
    /// Every scenario, in the order of the report.
    pub(crate) const ALL: [Self; 2] = [Self::S1, Self::S4];

    /// What it is, for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::S1 => "one hop, HTTP/1.1, 1 KiB, 64 connections",
            Self::S4 => "mesh pair with mutual TLS, HTTP/1.1, 1 KiB, 64 connections",
        }
    }

    /// How much work there is.
    pub(crate) fn work(self) -> Work {
        match self {
            Self::S1 | Self::S4 => Work { connections: 64, body_bytes: 1024 },
        }
    }

    /// What stands between load and origin.
    pub(crate) fn path(self) -> Path {
        match self {
            Self::S1 => Path::OneHop,
            Self::S4 => Path::Pair,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S1 => "S1",
            Self::S4 => "S4",
        })
    }
}
