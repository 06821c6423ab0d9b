//! `outrigger-proxy wait`: for the hooks of pods whose sidecar is an ordinary container.
//!
//! There the kubelet starts containers one after the other and waits for the hook behind each start; `wait` as the proxy's
//! own keeps the application from starting without a network. As its hook before the stop, `wait --for 5s` lets an application
//! that ends at the same time finish what it sends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use http::HeaderMap;
use http::uri::Scheme;
use outrigger_base::flags::parse_duration;
use outrigger_base::lifecycle::exit::ExitError;
use tokio::time::sleep;

use crate::application::{Question, ask};

/// How often the proxy is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The most that is read of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Flags of `wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example: outrigger-proxy wait --timeout 60s")]
pub struct WaitArgs {
    /// Only let this time pass
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub time: Option<Duration>,
    /// The health server of the proxy
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15021")]
    pub health: SocketAddr,
    /// How long to wait for it to be ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Waits.
///
/// # Errors
/// When the proxy is not ready in time; the message says what it waits for itself.
pub fn run(args: &WaitArgs) -> Result<(), ExitError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ExitError::failure(format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        match args.time {
            Some(time) => {
                sleep(time).await;
                Ok(())
            }
            None => ready(args).await,
        }
    })
}

async fn ready(args: &WaitArgs) -> Result<(), ExitError> {
    let begun = Instant::now();
    loop {
        let Err(why) = is_ready(args.health).await else { return Ok(()) };
        if begun.elapsed() >= args.timeout {
            return Err(ExitError::failure(format!(
                "the proxy at {} is not ready after {:?}: {}; see its log, or wait longer with --timeout",
                args.health,
                args.timeout,
                why.trim_end(),
            )));
        }
        sleep(ASK_EVERY).await;
    }
}

async fn is_ready(health: SocketAddr) -> Result<(), String> {
    let host = health.ip().to_string();
    let question = Question {
        host: &host,
        port: health.port(),
        scheme: Scheme::HTTP,
        path: "/healthz/ready",
        headers: HeaderMap::new(),
        within: ANSWER_WITHIN,
        max_body_bytes: MAX_ANSWER_BYTES,
    };
    let answer = ask(question).await.map_err(|error| error.to_string())?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use outrigger_base::admin::{Readiness, health_router, serve};
    use outrigger_base::lifecycle::drain;
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn it_waits_until_the_proxy_is_ready_and_says_for_what() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health = listener.local_addr().unwrap();
        let (readiness, receiver) = watch::channel(Readiness::Waiting("a certificate".into()));
        let (_trigger, drain) = drain::new(Duration::from_secs(1));
        tokio::spawn(serve(listener, health_router(receiver), drain));
        let mut args = WaitArgs { time: None, health, timeout: Duration::ZERO };
        let error = ready(&args).await.unwrap_err().to_string();
        assert!(error.contains("waiting for a certificate") && error.contains("--timeout"), "{error}");
        args.timeout = Duration::from_secs(30);
        let waiting = tokio::spawn(async move { ready(&args).await.is_ok() });
        readiness.send_replace(Readiness::Ready);
        assert!(waiting.await.unwrap());
    }
}
