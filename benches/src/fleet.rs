//! S9: how fast and at what cost one control plane brings a change to many proxies.
//!
//! `outrigger run` on a directory of thousands of Services has the first core to itself; one process on the second core
//! is all the proxies. One endpoint of a Service that every proxy holds is moved again and again; what counts is the
//! time from the moment the file is in place until each proxy has acknowledged it, and what the control plane spent.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::account::{CpuTimes, peak_resident_kib, resident_kib};
use crate::latencies::Latencies;
use crate::process::{Process, Program, last_lines};
use crate::site::Site;
use drive::Said;

pub(crate) use drive::{Args, drive};
pub(crate) use mesh::Mesh;

mod drive;
mod mesh;
mod proxy;

/// From one change to the next. A change that took longer is followed at once.
const SPACING: Duration = Duration::from_secs(1);
/// What the process of the proxies may take beyond what it waits for itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct FleetPlan {
    #[command(flatten)]
    pub(crate) mesh: Mesh,
    /// How many changes are made
    #[arg(long, default_value_t = 20)]
    pub(crate) changes: u16,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FleetOutcome {
    /// Proxies that were simulated.
    pub(crate) proxies: usize,
    /// Services that were configured.
    pub(crate) services: usize,
    /// Changes that were made, one after the other.
    pub(crate) changes: usize,
    /// From the change of the file until a proxy has acknowledged it, over all proxies and changes.
    pub(crate) converge_ms: Percentiles,
    /// CPU time of the control plane for one change, whatever it did because of it, in seconds.
    pub(crate) cpu_s_per_change: f64,
    /// Resident memory of the control plane after the last change, in MiB.
    pub(crate) rss_mib: f64,
    /// The most it ever had, in MiB.
    pub(crate) peak_rss_mib: f64,
    /// From its start until it was ready, in seconds.
    pub(crate) start_seconds: f64,
    /// From the first connection until every proxy had everything it asked for, when all come at once; in seconds.
    pub(crate) first_sync_seconds: f64,
}

/// Some ranks of many times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The process of the proxies.
struct Fleet {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
}

impl FleetPlan {
    /// What can be quoted.
    pub(crate) fn full(proxies: usize, services: usize) -> Self {
        Self { mesh: Mesh { proxies, services }, changes: 20 }
    }

    /// Enough to see that it works.
    pub(crate) fn quick(proxies: usize, services: usize) -> Self {
        Self { changes: 5, ..Self::full(proxies, services) }
    }
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Self {
        let ms = |percent| latencies.percentile_us(percent) / 1000.0;
        Self { p50: ms(50.0), p99: ms(99.0), max: ms(100.0) }
    }
}

/// Measures. Any error, be it of one proxy, voids all of it.
pub(crate) async fn run(plan: &FleetPlan, site: &Site) -> Result<FleetOutcome> {
    let dir =
        tempfile::Builder::new().prefix("outrigger-fleet-").tempdir().context("no temporary directory")?;
    drive::write_all(plan.mesh, &dir.path().join("config"))?;
    let begun = Instant::now();
    let mut control_plane = start_control_plane(site, dir.path()).await?;
    let start_seconds = begun.elapsed().as_secs_f64();
    let measured = measure(plan, &control_plane, (site, dir.path())).await;
    // A control plane that ended is the cause, what the proxies saw is its effect.
    control_plane.check()?;
    control_plane.end().await?;
    Ok(FleetOutcome { start_seconds, ..measured? })
}

/// As [`run`], with the outcome as JSON on standard output.
pub(crate) async fn show(plan: FleetPlan) -> Result<()> {
    let outcome = run(&plan, &Site::prepare()?).await?;
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    Ok(())
}

async fn measure(plan: &FleetPlan, control_plane: &Process, place: (&Site, &Path)) -> Result<FleetOutcome> {
    let mut fleet = Fleet::start(plan, control_plane, place)?;
    let pid = control_plane.pid();
    let Said::Synced { seconds } = fleet.line(drive::SYNC_WITHIN).await? else {
        bail!("the fleet said too much")
    };
    let Said::Begin = fleet.line(drive::SETTLE).await? else { bail!("the fleet did not settle") };
    let before = CpuTimes::read([pid])?;
    let longest = (SPACING + drive::CONVERGE_WITHIN) * u32::from(plan.changes);
    let Said::Converged(converge_ms) = fleet.line(longest).await? else { bail!("the fleet said too little") };
    let spent = CpuTimes::read([pid])?.since(&before);
    let mib = |kib: u64| kib as f64 / 1024.0;
    let outcome = FleetOutcome {
        proxies: plan.mesh.proxies,
        services: plan.mesh.services,
        changes: usize::from(plan.changes),
        converge_ms,
        cpu_s_per_change: spent.as_secs_f64() / f64::from(plan.changes.max(1)),
        rss_mib: mib(resident_kib([pid])?),
        peak_rss_mib: mib(peak_resident_kib(pid)?),
        start_seconds: 0.0,
        first_sync_seconds: seconds,
    };
    fleet.end().await?;
    Ok(outcome)
}

async fn start_control_plane(site: &Site, dir: &Path) -> Result<Process> {
    let path = |name: &str| dir.join(name).display().to_string();
    let any = "127.0.0.1:0";
    let args = ["run", "--config", &path("config"), "--data", &path("data"), "--xds", any, "--http", any];
    let args = args.map(str::to_owned).to_vec();
    let program = Program { name: "control-plane", path: &site.outrigger, args, core: site.cores.proxies };
    Process::start(program, dir).await
}

impl Fleet {
    fn start(plan: &FleetPlan, control_plane: &Process, (site, dir): (&Site, &Path)) -> Result<Self> {
        let path = |name: &str| dir.join(name).display().to_string();
        let flags = [
            ("--proxies", plan.mesh.proxies.to_string()),
            ("--services", plan.mesh.services.to_string()),
            ("--changes", plan.changes.to_string()),
            ("--xds", control_plane.address("/xds")?.to_string()),
            ("--data", path("data")),
            ("--config", path("config")),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let args = std::iter::once("fleet-proxies".to_owned()).chain(flags).collect();
        let program = Program { name: "fleet", path: &site.benches, args, core: site.cores.work };
        let (mut child, log) = program.spawn(dir, Stdio::piped())?;
        let out = child.stdout.take().context("the fleet has no standard output")?;
        Ok(Self { child, lines: BufReader::new(out).lines(), log })
    }

    /// What it says next, which is due after `due`.
    async fn line(&mut self, due: Duration) -> Result<Said> {
        let line = timeout(due + PATIENCE, self.lines.next_line()).await;
        let line = line.map_err(|_| anyhow!("the fleet has said nothing for {:?}", due + PATIENCE))??;
        let line = line.with_context(|| format!("the fleet ended too early{}", last_lines(&self.log)))?;
        serde_json::from_str(&line).with_context(|| format!("the fleet said {line:?}"))
    }

    async fn end(mut self) -> Result<()> {
        let status =
            timeout(PATIENCE, self.child.wait()).await.map_err(|_| anyhow!("the fleet does not end"))??;
        if !status.success() {
            bail!("the fleet ended with {status}{}", last_lines(&self.log));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fleet_says_is_read_back() {
        let percentiles = Percentiles { p50: 1.5, p99: 2.0, max: 3.25 };
        for said in [Said::Synced { seconds: 0.5 }, Said::Begin, Said::Converged(percentiles)] {
            let line = serde_json::to_string(&said).unwrap();
            assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
        }
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latencies = Latencies::new();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let Percentiles { p50, p99, max } = Percentiles::of(&latencies);
        for (found, expected) in [(p50, 50.0), (p99, 99.0), (max, 100.0)] {
            assert!((found - expected).abs() <= expected / 64.0, "{found} is not {expected}");
        }
    }
}
