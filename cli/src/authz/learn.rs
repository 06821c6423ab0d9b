//! `outrigger authz learn`: observed traffic to Allow policies that somebody reviews.
//!
//! [`observed`] reads what sidecars said, [`policies`] makes policies of it, [`write`] prints them. Only this file does I/O.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::output;

mod metrics;
mod observed;
mod paths;
mod policies;
mod write;

use observed::Observed;

/// Turns access logs and metrics of sidecars into Allow policies to review, as YAML on standard output.
#[derive(clap::Args)]
#[command(
    after_help = "Example: kubectl logs -n shop -l app=reviews -c outrigger-proxy | outrigger authz learn -f - > reviews.yaml"
)]
pub(crate) struct Args {
    /// Files with the access log of sidecars as JSON lines, or - for standard input; lines of other kinds are passed over.
    #[arg(short, long = "file", value_name = "PATH", required_unless_present = "metrics")]
    files: Vec<PathBuf>,
    /// Where sidecars serve their metrics, addresses with ports: who called, where no access log says what was called.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Paths beside each other, up to the same slash, become one pattern when there are more of them.
    #[arg(long, default_value_t = 10, value_name = "N")]
    siblings: usize,
}

/// The longest line that is read; what is longer is no line of an access log.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The longest answer of a sidecar to a question for its metrics.
const MAX_METRICS_BYTES: usize = 64 * 1024 * 1024;
/// A sidecar answers at once, or not at all.
const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn main(args: &Args) -> anyhow::Result<()> {
    let mut observed = Observed::default();
    for path in &args.files {
        if path == Path::new("-") {
            read_lines(std::io::stdin().lock(), &mut observed).context("cannot read standard input")?;
        } else {
            let file =
                std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let read = read_lines(BufReader::new(file), &mut observed);
            read.with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    if !args.metrics.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for address in &args.metrics {
            let text = runtime.block_on(ask(address))?;
            metrics::take(&text, &mut observed);
        }
    }
    if observed.is_empty() {
        bail!(
            "nothing to learn from: no line is of the access log of a request that came in. Is it on \
             (MeshConfig.accessLog: {{enabled: true, format: json}}), and are these the lines of the sidecars that were called?"
        );
    }
    output::write(&write::yaml(&observed, &policies::learn(&observed, args.siblings)))
}

fn read_lines(mut reader: impl BufRead, observed: &mut Observed) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        observed.take_line(&line);
    }
}

async fn ask(address: &str) -> anyhow::Result<String> {
    let asked = timeout(METRICS_TIMEOUT, get(address)).await;
    let text = asked.with_context(|| format!("--metrics {address}: no answer within {METRICS_TIMEOUT:?}"))?;
    text.with_context(|| {
        format!("--metrics {address}: write where a sidecar serves metrics, as 127.0.0.1:15020")
    })
}

async fn get(address: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/metrics").header("host", address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("it answered {}", response.status());
    }
    let body = Limited::new(response.into_body(), MAX_METRICS_BYTES).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?.to_bytes();
    String::from_utf8(body.to_vec()).context("the answer is no text")
}

#[cfg(test)]
mod tests;
