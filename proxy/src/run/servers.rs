//! Admin, metrics and health: they can be read until the very end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use outrigger_base::admin::{Readiness, bind, health_router, metrics_router, serve};
use outrigger_base::flags::ListenAddr;
use outrigger_base::lifecycle::drain::{self, Drain, DrainTrigger};
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::lifecycle::supervisor::Supervisor;
use tokio::sync::watch;

use crate::admin::{Admin, router};
use crate::application::metrics::merged;
use crate::application::probes;
use crate::flags::RunArgs;

/// How long answers of these servers may take at the end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The servers, and where they listen.
pub(super) struct Servers {
    pub(super) admin: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) health: Option<SocketAddr>,
    trigger: DrainTrigger,
}

impl Servers {
    pub(super) async fn start(
        args: &RunArgs,
        admin: Admin,
        readiness: watch::Receiver<Readiness>,
        supervisor: &mut Supervisor,
    ) -> Result<Self, ExitError> {
        let (trigger, drain) = drain::new(END_TIMEOUT);
        let application = args.application_metrics.clone().map(merged);
        let metrics = metrics_router(admin.shared.telemetry.registry().clone(), application);
        let mut health = health_router(readiness);
        if let Some(probes) = args.probes.clone() {
            health = health.merge(probes::router(probes, super::control::own_address(args)));
        }
        let mut starter = Starter { drain, supervisor };
        Ok(Self {
            metrics: starter.start(args.metrics, ("metrics", "--metrics"), metrics).await?,
            health: starter.start(args.health, ("health", "--health"), health).await?,
            admin: starter.start(args.admin, ("admin", "--admin"), router(admin)).await?,
            trigger,
        })
    }

    /// Answers what is being asked, and closes.
    pub(super) async fn end(self) {
        self.trigger.drain_and_wait().await;
    }
}

struct Starter<'a> {
    drain: Drain,
    supervisor: &'a mut Supervisor,
}

impl Starter<'_> {
    /// Listens where the flag says, and gives the address.
    async fn start(
        &mut self,
        at: ListenAddr,
        (name, flag): (&'static str, &'static str),
        router: Router,
    ) -> Result<Option<SocketAddr>, ExitError> {
        let Some(address) = at.address() else { return Ok(None) };
        let listener = bind(address, flag).await.map_err(ExitError::failure)?;
        let address = listener.local_addr().map_err(ExitError::failure)?;
        let drain = self.drain.clone();
        self.supervisor.spawn(name, async move {
            serve(listener, router, drain).await;
            Ok::<_, Infallible>(())
        });
        Ok(Some(address))
    }
}
