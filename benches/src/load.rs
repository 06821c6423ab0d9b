//! The load: asks the same again and again, and holds every answer to what it should be.
//!
//! On standard output it says [`BEGIN`] when the warm-up is over, [`END`] when the measured time is, and then one line
//! of JSON, a [`Said`]: whoever started it reads the accounts of the proxies at the first two. Any error spoils the run,
//! so there is no retry, and the first one ends it. It shares a core with the origin, so it is as cheap as it can be.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use outrigger_base::flags::parse_duration;
use serde::{Deserialize, Serialize};

use crate::scenario::{Connections, Protocol, Scenario, Work};

mod bytes;
mod closed;
mod http1;
mod http2;
mod open;
mod tally;

use tally::Tally;

/// The line that ends the warm-up.
pub(crate) const BEGIN: &str = "begin";
/// The line that ends the measured time.
pub(crate) const END: &str = "end";
/// A request that takes longer after the end of the measured time is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What the load is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where to connect
    #[arg(long)]
    pub(crate) target: SocketAddr,
    /// What it does
    #[arg(long, value_enum)]
    pub(crate) way: Way,
    /// What is sent as Host
    #[arg(long, default_value = "localhost")]
    pub(crate) host: String,
    /// The path and query of every request
    #[arg(long, default_value = "/")]
    pub(crate) path: String,
    /// The body every answer must have, and a message that is sent, in bytes
    #[arg(long, default_value_t = 0)]
    pub(crate) body_bytes: usize,
    /// Connections at a time
    #[arg(long)]
    pub(crate) connections: usize,
    /// Requests at a time on each of them
    #[arg(long, default_value_t = 1)]
    pub(crate) streams: usize,
    /// Requests in a second, where the rate is fixed
    #[arg(long, default_value_t = 1)]
    pub(crate) per_second: u32,
    /// How long it asks before anything is counted
    #[arg(long, value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// How long it counts
    #[arg(long, value_parser = parse_duration)]
    pub(crate) measured: Duration,
}

/// What a load does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    /// Asks again as soon as it is answered, over HTTP/1.1.
    Http1,
    /// The same with a connection for each request.
    Fresh,
    /// Asks again as soon as it is answered, on streams of HTTP/2.
    Http2,
    /// The same with unary calls of gRPC.
    Grpc,
    /// Asks at a fixed rate, over HTTP/1.1.
    Open,
    /// Takes bytes as fast as they come.
    Bulk,
    /// Connects, has a few bytes echoed, and closes.
    Echo,
}

/// What the load says at its end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Every request was answered as it should be.
    Answered(Answered),
    /// Something failed, and why.
    Failed(String),
}

/// What clients saw in the measured time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answered {
    /// Requests, or connections where these are counted.
    pub(crate) requests: u64,
    /// Bytes of bodies, or of what nobody looks at.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Args {
    /// What the load of a scenario does for so long; `None` where load and origin are not what is measured.
    pub(crate) fn of(
        scenario: Scenario,
        target: SocketAddr,
        host: &str,
        (warmup, measured): (Duration, Duration),
    ) -> Option<Self> {
        let (path, host) = (scenario.request_path().to_owned(), host.to_owned());
        let load = |way, connections, body_bytes| Self {
            target,
            way,
            host,
            path,
            body_bytes,
            connections,
            streams: 1,
            per_second: 1,
            warmup,
            measured,
        };
        Some(match scenario.work() {
            Work::Closed { protocol, connections, streams, body_bytes, kept } => {
                Self { streams, ..load(Way::closed(protocol, kept), connections, body_bytes) }
            }
            Work::Open { per_second, connections, body_bytes } => {
                Self { per_second, ..load(Way::Open, connections, body_bytes) }
            }
            Work::Bulk { connections } => load(Way::Bulk, connections, 0),
            Work::Handshakes { connections } => load(Way::Echo, connections, 0),
            Work::Hold { .. } | Work::Mesh { .. } | Work::ControlPlane { .. } => return None,
        })
    }

    /// The same with as little as shows that it works.
    pub(crate) fn probe(&self) -> Self {
        let (warmup, measured) = (Duration::ZERO, Duration::from_millis(1));
        Self { connections: 1, streams: 1, per_second: 1000, warmup, measured, ..self.clone() }
    }

    /// What makes these on the command line.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = [
            ("--target", self.target.to_string()),
            ("--way", self.way.flag().to_owned()),
            ("--host", self.host.clone()),
            ("--path", self.path.clone()),
            ("--body-bytes", self.body_bytes.to_string()),
            ("--connections", self.connections.to_string()),
            ("--streams", self.streams.to_string()),
            ("--per-second", self.per_second.to_string()),
            ("--warmup", format!("{}ms", self.warmup.as_millis())),
            ("--measured", format!("{}ms", self.measured.as_millis())),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

impl Way {
    fn closed(protocol: Protocol, kept: Connections) -> Self {
        match (protocol, kept) {
            (Protocol::Http1, Connections::Kept) => Self::Http1,
            (Protocol::Http1, Connections::Fresh) => Self::Fresh,
            (Protocol::Http2, _) => Self::Http2,
            (Protocol::Grpc, _) => Self::Grpc,
            (Protocol::Tcp, _) => Self::Echo,
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Fresh => "fresh",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Open => "open",
            Self::Bulk => "bulk",
            Self::Echo => "echo",
        }
    }
}

/// Makes the load, and says on standard output what came of it.
pub(crate) fn generate(args: &Args) -> Result<()> {
    let said = match run(args, say) {
        Ok(answered) => Said::Answered(answered),
        Err(error) => Said::Failed(format!("{error:#}")),
    };
    say(&serde_json::to_string(&said)?)
}

/// Makes the load; `say` is told when the measured time begins and ends.
pub(crate) fn run(args: &Args, say: impl FnMut(&str) -> Result<()>) -> Result<Answered> {
    let mut tally = Tally::begin(args.warmup, args.measured, say);
    match args.way {
        Way::Http1 | Way::Fresh => closed::run(http1::lanes(args)?, &mut tally)?,
        Way::Http2 | Way::Grpc => closed::run(http2::lanes(args)?, &mut tally)?,
        Way::Bulk => closed::run(bytes::bulk(args)?, &mut tally)?,
        Way::Echo => closed::run(bytes::echo(args)?, &mut tally)?,
        Way::Open => open::run(args, &mut tally)?,
    }
    Ok(tally.answered_all())
}

/// A whole line at once: somebody waits for it.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("nobody listens to the load any more")
}

#[cfg(test)]
mod tests;
