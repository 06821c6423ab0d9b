//! The load: a fixed number of connections, each of which asks again as soon as it is answered (closed loop).
//!
//! On standard output it says [`BEGIN`] when the warm-up is over and one line of JSON, a [`Said`], when the measured
//! time is: whoever started it reads the accounts of the proxies at these two moments. Any error spoils the run, so
//! there is no retry, and the first one is told.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use outrigger_base::flags::parse_duration;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Connection, Target};
use crate::latencies::Latencies;

/// The line that ends the warm-up.
pub(crate) const BEGIN: &str = "begin";
/// A request that takes longer after the end of the measured time is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What the load is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Connections, each with one request at a time
    #[arg(long)]
    connections: usize,
    /// How long it asks before anything is counted
    #[arg(long, value_parser = parse_duration)]
    warmup: Duration,
    /// How long it counts
    #[arg(long, value_parser = parse_duration)]
    measured: Duration,
}

/// What the load says at its end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// Every request was answered as it should be.
    Answered(Answered),
    /// Something failed: how many connections were lost, and why the first.
    Failed { connections: usize, first: String },
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

/// The time in which answers are counted.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// Generates the load and says what came of it.
pub(crate) async fn generate(args: Args) -> Result<()> {
    let begin = Instant::now() + args.warmup;
    let window = Window { begin, end: begin + args.measured };
    let mut clients = JoinSet::new();
    for _ in 0..args.connections {
        clients.spawn(ask_on(args.target.clone(), window));
    }
    sleep_until(window.begin).await;
    say(BEGIN)?;
    let said = collect(clients, window, args.target.body_bytes as u64).await?;
    say(&serde_json::to_string(&said)?)
}

/// Asks on one connection until the window ends.
async fn ask_on(target: Target, window: Window) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut connection = Connection::open(&target).await?;
    let mut asked = Instant::now();
    while asked < window.end {
        connection.ask().await?;
        let answered = Instant::now();
        if answered >= window.begin && answered < window.end {
            latencies.record(answered - asked);
        }
        asked = answered;
    }
    Ok(latencies)
}

async fn collect(mut clients: JoinSet<Result<Latencies>>, window: Window, body_bytes: u64) -> Result<Said> {
    let mut all = Latencies::new();
    let mut errors = Vec::new();
    let deadline = window.end + PATIENCE;
    while !clients.is_empty() {
        match timeout_at(deadline, clients.join_next()).await {
            Ok(Some(client)) => match client.context("a client broke")? {
                Ok(latencies) => all.merge(&latencies),
                Err(error) => errors.push(format!("{error:#}")),
            },
            Ok(None) => break,
            Err(_) => {
                errors.extend((0..clients.len()).map(|_| format!("no answer came within {PATIENCE:?}")));
                break;
            }
        }
    }
    let connections = errors.len();
    Ok(match errors.into_iter().next() {
        Some(first) => Said::Failed { connections, first },
        None => Said::Answered(Answered {
            requests: all.total(),
            bytes: all.total() * body_bytes,
            seconds: (window.end - window.begin).as_secs_f64(),
            p50_us: all.percentile_us(50.0),
            p99_us: all.percentile_us(99.0),
            p999_us: all.percentile_us(99.9),
        }),
    })
}

/// A whole line at once: somebody waits for it.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("nobody listens to the load any more")
}
