//! The life of the process: start in order, be ready, finish what was begun, end.
//!
//! This thread is the control thread: discovery, certificates, DNS, admin, metrics and health live on its runtime. Traffic
//! lives on the worker threads. The process ends well on SIGTERM, SIGINT or `/quit`, after a drain; a second signal ends
//! it at once; a task or a worker that ends when it should not ends it with a line that names it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use outrigger_base::admin::Readiness;
use outrigger_base::lifecycle::drain::{self, DrainTrigger};
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::ready;
use outrigger_base::lifecycle::signals::{Signals, signals};
use outrigger_base::lifecycle::supervisor::Supervisor;
use outrigger_base::telemetry::access_log;
use outrigger_base::telemetry::logs::{self, LogHandle, LogOptions};
use outrigger_base::telemetry::metrics::Registry;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::accept::Bound;
use crate::admin::Wish;
use crate::demand::{self, Demanded};
use crate::flags::{ProxyCli, ProxyCommand, RunArgs, Unrunnable};
use crate::redirect;
use crate::snapshot::Snapshot;
use crate::telemetry::{Name, Telemetry};
use crate::wait;
use crate::worker::{Drains, Interception, Shared};
use workers::Workers;

mod control;
mod listeners;
mod memory;
mod readiness;
mod servers;
mod workers;

use servers::Servers;

/// The name of the program in errors.
const PROGRAM: &str = "outrigger-proxy";
/// Wishes of the admin server that wait.
const MAX_QUEUED_WISHES: usize = 4;

/// The whole program: reads a command line whose first item is the program's name, and does what it says.
pub fn main(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    memory::forgo_huge_pages();
    match ProxyCli::read(line) {
        Ok(cli) => run_command(cli.command),
        Err(Unrunnable::Text(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(Unrunnable::Usage(error)) => error.report(PROGRAM),
    }
}

/// Does what was asked for.
pub fn run_command(command: ProxyCommand) -> ExitCode {
    match command {
        ProxyCommand::Run(args) => run_blocking(*args),
        ProxyCommand::Redirect(args) => match redirect::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(PROGRAM),
        },
        ProxyCommand::Wait(args) => match wait::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(PROGRAM),
        },
    }
}

/// Runs the sidecar until it is told to end.
pub fn run_blocking(args: RunArgs) -> ExitCode {
    memory::forgo_huge_pages();
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

fn try_run(args: RunArgs) -> Result<(), ExitError> {
    let options = LogOptions { format: args.log_format, filter: args.log_level.clone() };
    let log = logs::init(&options).map_err(|error| ExitError::usage(format!("--log-level: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ExitError::failure(format!("cannot start a runtime: {error}")))?;
    let ended = runtime.block_on(run(args, log));
    // A name that is still being looked up is nobody's concern any more.
    runtime.shutdown_background();
    ended
}

/// The process, on a current-thread runtime of its own.
async fn run(args: RunArgs, log: LogHandle) -> Result<(), ExitError> {
    let signals =
        signals().map_err(|error| ExitError::failure(format!("cannot listen for signals: {error}")))?;
    if let Some(token) = &args.token_file {
        read_file("--token-file", token)?;
    }
    let workers = workers::count(args.workers);
    let (inbound_trigger, inbound) = drain::new(args.drain_timeout);
    let (outbound_trigger, outbound) = drain::new(args.drain_timeout);
    let drains = Drains { inbound: inbound.clone(), outbound };
    let (access_log, closer) = access_log::open(std::io::stderr())
        .map_err(|error| ExitError::failure(format!("cannot start the access log: {error}")))?;
    let (shared, demanded) = shared(&args, access_log, drains);
    let listeners = listeners::bind(&args, &shared.demand, workers)?;
    let ready_line = ReadyLine::new(&listeners);

    let mut supervisor = Supervisor::new(inbound);
    let control::Views { issued, currency } = control::start(&args, &shared, demanded, &mut supervisor)?;
    let readiness = readiness::watch(&args, &shared, currency.clone(), &mut supervisor);
    let (wishes, wished) = mpsc::channel(MAX_QUEUED_WISHES);
    let views = listeners::views(&args, &listeners);
    let admin =
        crate::admin::Admin { shared: shared.clone(), log, issued, currency, listeners: views, wishes };
    let servers = Servers::start(&args, admin, readiness.subscribe(), &mut supervisor).await?;
    let workers = Workers::start(&shared, listeners, &mut supervisor)?;

    let process = Process { args, supervisor, signals, wished, readiness, inbound_trigger, outbound_trigger };
    let ended = process.live(ready_line.with(&servers)).await;
    workers.end();
    servers.end().await;
    closer.close();
    ended
}

/// What the threads share, before anything is known.
fn shared(args: &RunArgs, access_log: access_log::Writer, drains: Drains) -> (Arc<Shared>, Demanded) {
    let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::empty()));
    let (demand, demanded) = demand::channel(snapshot.clone());
    let me = Name {
        name: args.workload.as_str().into(),
        namespace: args.namespace.as_str().into(),
        identity: control::presumed_identity(args),
    };
    let shared = Shared {
        snapshot,
        tls: ArcSwapOption::empty(),
        demand,
        telemetry: Telemetry::new(Registry::new(), me, access_log),
        workload: args.workload.as_str().into(),
        namespace: args.namespace.as_str().into(),
        interception: if args.inbound.is_empty() && args.outbound.is_empty() {
            Interception::Capture
        } else {
            Interception::Explicit
        },
        drains,
    };
    (Arc::new(shared), demanded)
}

/// A process whose parts are all started.
struct Process {
    args: RunArgs,
    supervisor: Supervisor,
    signals: Signals,
    wished: mpsc::Receiver<Wish>,
    readiness: Arc<watch::Sender<Readiness>>,
    inbound_trigger: DrainTrigger,
    outbound_trigger: DrainTrigger,
}

impl Process {
    /// Until it is told to end, and the drain after that.
    async fn live(mut self, line: ReadyLine) -> Result<(), ExitError> {
        let mut readiness = self.readiness.subscribe();
        let mut announced = false;
        loop {
            tokio::select! {
                failure = self.supervisor.failure() => return Err(ExitError::failure(failure)),
                signal = self.signals.next() => {
                    tracing::info!(%signal, "ending");
                    return self.end().await;
                }
                wish = next_wish(&mut self.wished) => match wish {
                    Wish::Quit => {
                        tracing::info!("ending: asked to by the admin server");
                        return self.end().await;
                    }
                    Wish::Drain => self.begin_drain(),
                },
                changed = readiness.wait_for(|now| *now == Readiness::Ready), if !announced => {
                    announced = changed.is_ok();
                    drop(changed);
                    announce(&self.args, &line)?;
                }
            }
        }
    }

    fn begin_drain(&self) {
        self.readiness.send_replace(Readiness::Draining);
        self.inbound_trigger.start();
    }

    /// Finishes what was begun, within the drain timeout; a second signal cuts it short.
    async fn end(self) -> Result<(), ExitError> {
        self.begin_drain();
        let Self { args, mut supervisor, mut signals, inbound_trigger, outbound_trigger, .. } = self;
        tokio::select! {
            left = drain_both(args.drain_timeout, inbound_trigger, outbound_trigger) => match left {
                0 => tracing::info!("drained"),
                left => tracing::warn!(connections = left, "the drain timeout has passed: connections are cut"),
            },
            signal = signals.next() => tracing::warn!(%signal, "ending at once: connections are cut"),
            failure = supervisor.failure() => return Err(ExitError::failure(failure)),
        }
        Ok(())
    }
}

/// The next wish of the admin server; none ever comes when it is off, and nobody must ask for it again and again.
async fn next_wish(wished: &mut mpsc::Receiver<Wish>) -> Wish {
    match wished.recv().await {
        Some(wish) => wish,
        None => std::future::pending().await,
    }
}

/// First what comes to the application, then what it sends: it may need others to finish its answers. Gives how many
/// connections were left when the time was over.
async fn drain_both(within: Duration, inbound: DrainTrigger, outbound: DrainTrigger) -> usize {
    let begun = tokio::time::Instant::now();
    let left = inbound.drain_and_wait().await.left;
    outbound.start();
    let rest = tokio::time::timeout(within.saturating_sub(begun.elapsed()), outbound.drain_and_wait()).await;
    left + rest.map_or(0, |drained| drained.left)
}

fn announce(args: &RunArgs, line: &ReadyLine) -> Result<(), ExitError> {
    let listening = serde_json::to_string(line).unwrap_or_default();
    tracing::info!(listening, "ready");
    ready::write(args.ready_file.as_deref(), args.ready_fd, line)
        .map_err(|error| ExitError::caused_by(&error))
}

/// What `--ready-file` says.
#[derive(Debug, Serialize)]
struct ReadyLine {
    pid: u32,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    health: Option<SocketAddr>,
    inbound: Vec<SocketAddr>,
    outbound: Vec<SocketAddr>,
}

impl ReadyLine {
    fn new(listeners: &[Bound]) -> Self {
        let of = |direction| {
            let chosen = listeners.iter().filter(move |bound| listeners::direction(bound.kind) == direction);
            chosen.map(|bound| bound.address).collect()
        };
        Self {
            pid: std::process::id(),
            admin: None,
            metrics: None,
            health: None,
            inbound: of(listeners::INBOUND),
            outbound: of(listeners::OUTBOUND),
        }
    }

    fn with(self, servers: &Servers) -> Self {
        let Servers { admin, metrics, health, .. } = *servers;
        Self { admin, metrics, health, ..self }
    }
}

/// Reads a file that a flag names.
fn read_file(flag: &str, path: &Path) -> Result<Vec<u8>, ExitError> {
    std::fs::read(path).map_err(|error| {
        ExitError::usage(format!(
            "{flag}: cannot read {}: {error}; does the file exist, and may this user read it?",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn without_an_admin_server_the_process_waits_and_does_not_spin() {
        let (wishes, mut wished) = mpsc::channel(MAX_QUEUED_WISHES);
        wishes.try_send(Wish::Drain).unwrap();
        drop(wishes);
        assert!(matches!(next_wish(&mut wished).now_or_never(), Some(Wish::Drain)));
        assert!(next_wish(&mut wished).now_or_never().is_none(), "it comes back at once, for ever");
    }
}
