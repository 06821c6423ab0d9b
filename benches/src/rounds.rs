//! The measurement: contenders take turns on the same work, A B C A B C, so that what else happens on the machine
//! happens to all of them. A run with any error is void: it is reported, and none of its figures counts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::{sleep, timeout};

use crate::account::{CpuTimes, resident_kib};
use crate::client::{Connection, Target};
use crate::contender::{Contender, Running};
use crate::figures::{Cost, Figures};
use crate::load::{self, Answered, Said};
use crate::process::{Program, last_lines};
use crate::scenario::{Exchange, Scenario};
use crate::site::Site;

/// What every request asks for.
const PATH: &str = "/items/17?view=full";
/// A contender must answer through its whole chain within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long after a failed probe the next one is made.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// What is measured, how often and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    /// Turns of every contender in every scenario.
    pub(crate) rounds: u32,
    /// How long there is load before anything counts.
    pub(crate) warmup: Duration,
    /// How long it counts.
    pub(crate) measured: Duration,
}

/// All rounds of one contender in one scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) scenario: Scenario,
    pub(crate) contender: Contender,
    /// One for each round, in order: the figures, or why the run is void.
    pub(crate) rounds: Vec<Result<Figures, String>>,
}

/// The load while it runs.
struct Driver {
    child: Child,
    pid: u32,
    lines: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
}

/// The accounts at one moment.
struct Reading {
    at: Instant,
    proxies: CpuTimes,
    work: CpuTimes,
}

impl Plan {
    /// What can be quoted.
    pub(crate) fn full() -> Self {
        let (warmup, measured) = (Duration::from_secs(1), Duration::from_secs(5));
        Self { scenarios: Scenario::ALL.to_vec(), rounds: 5, warmup, measured }
    }

    /// Enough to see that it works.
    pub(crate) fn quick() -> Self {
        let (warmup, measured) = (Duration::from_millis(500), Duration::from_millis(1500));
        Self { rounds: 2, warmup, measured, ..Self::full() }
    }
}

impl Outcome {
    /// The figures of the valid rounds.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.rounds.iter().flatten()
    }

    /// Why the void rounds are void.
    pub(crate) fn voids(&self) -> impl Iterator<Item = &str> {
        self.rounds.iter().filter_map(|round| round.as_ref().err().map(String::as_str))
    }
}

/// Runs the plan, saying on standard error what is being done.
pub(crate) async fn run(plan: &Plan, site: &Site) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &scenario in &plan.scenarios {
        let new = |contender| Outcome { scenario, contender, rounds: Vec::new() };
        let mut turns: Vec<Outcome> = scenario.contenders().iter().copied().map(new).collect();
        for round in 1..=plan.rounds {
            for turn in &mut turns {
                let result = measure(plan, turn, site).await.map_err(|error| format!("{error:#}"));
                let told = match &result {
                    Ok(figures) => {
                        format!("{:.1} CPU us/request", figures.cpu_us_per_request.unwrap_or_default())
                    }
                    Err(why) => format!("void: {why}"),
                };
                eprintln!("{scenario} round {round} of {}, {}: {told}", plan.rounds, turn.contender);
                turn.rounds.push(result);
            }
        }
        outcomes.extend(turns);
    }
    Ok(outcomes)
}

/// One run: start, measure, end.
async fn measure(plan: &Plan, turn: &Outcome, site: &Site) -> Result<Figures> {
    let mut running = turn.contender.start(turn.scenario, site).await?;
    let Some(Exchange::Requests { body_bytes, .. }) = turn.scenario.work().exchange() else {
        bail!("there is no load for {}", turn.scenario);
    };
    let target = Target {
        address: running.entry,
        host: running.host.parse().context("the host is no header value")?,
        path: PATH.parse().context("the path is no URI")?,
        body_bytes,
    };
    let measured = match probe(&target).await {
        Ok(()) => under_load(plan, body_bytes, (site, &running)).await,
        Err(error) => Err(error),
    };
    let alive = running.check();
    running.end().await?;
    // A process that ended is the cause, what the load saw is its effect.
    alive?;
    measured
}

/// Waits until a request goes all the way through.
async fn probe(target: &Target) -> Result<()> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let answer = timeout(ANSWERS_WITHIN, async { Connection::open(target).await?.ask().await }).await;
        match answer.map_err(|_| anyhow!("no answer came")).flatten() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not one good answer within {ANSWERS_WITHIN:?}")));
            }
            Err(_) => sleep(PROBE_EVERY).await,
        }
    }
}

async fn under_load(plan: &Plan, body_bytes: usize, (site, running): (&Site, &Running)) -> Result<Figures> {
    let mut driver = Driver::start(plan, body_bytes, (site, running))?;
    let begun = driver.line(plan.warmup).await?;
    let before = Reading::take(running, driver.pid)?;
    if begun != load::BEGIN {
        bail!("the load said {begun:?} instead of {:?}", load::BEGIN);
    }
    let said = driver.line(plan.measured).await?;
    let after = Reading::take(running, driver.pid)?;
    let cost = after.since(&before, resident_kib(running.proxy_pids())?);
    driver.end().await?;
    let answered = answered(&said)?;
    Figures::new(&answered, &cost).context("no request was answered in the measured time")
}

fn answered(said: &str) -> Result<Answered> {
    match serde_json::from_str(said).with_context(|| format!("the load said {said:?}"))? {
        Said::Answered(answered) => Ok(answered),
        Said::Failed { connections, first } => {
            bail!("{connections} connections failed, the first: {first}")
        }
    }
}

impl Driver {
    fn start(plan: &Plan, body_bytes: usize, (site, running): (&Site, &Running)) -> Result<Self> {
        let flags = [
            ("--target", running.entry.to_string()),
            ("--host", running.host.to_owned()),
            ("--path", PATH.to_owned()),
            ("--body-bytes", body_bytes.to_string()),
            ("--connections", 64.to_string()),
            ("--warmup", format!("{}ms", plan.warmup.as_millis())),
            ("--measured", format!("{}ms", plan.measured.as_millis())),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let args = std::iter::once("load".to_owned()).chain(flags).collect();
        let program = Program { name: "load", path: &site.benches, args, core: site.cores.work };
        let (mut child, log) = program.spawn(running.dir(), Stdio::piped())?;
        let pid = child.id().context("the load ended at once")?;
        let out = child.stdout.take().context("the load has no standard output")?;
        Ok(Self { child, pid, lines: BufReader::new(out).lines(), log })
    }

    /// Its next line, which is due after `due`.
    async fn line(&mut self, due: Duration) -> Result<String> {
        // Its own patience ends first; the rest is for a machine that is busy.
        let line = timeout(due + 2 * load::PATIENCE, self.lines.next_line()).await;
        let line =
            line.map_err(|_| anyhow!("the load has said nothing for {:?}", due + 2 * load::PATIENCE))?;
        line?.with_context(|| format!("the load ended too early{}", last_lines(&self.log)))
    }

    async fn end(mut self) -> Result<()> {
        let ended = timeout(load::PATIENCE, self.child.wait()).await;
        let status = ended.map_err(|_| anyhow!("the load does not end"))??;
        if !status.success() {
            bail!("the load ended with {status}{}", last_lines(&self.log));
        }
        Ok(())
    }
}

impl Reading {
    fn take(running: &Running, load: u32) -> Result<Self> {
        let proxies = CpuTimes::read(running.proxy_pids())?;
        let work = CpuTimes::read([running.origin_pid(), load])?;
        Ok(Self { at: Instant::now(), proxies, work })
    }

    fn since(&self, earlier: &Self, rss_kib: u64) -> Cost {
        let proxies = self.proxies.since(&earlier.proxies);
        let work = self.work.since(&earlier.work);
        Cost { wall: self.at - earlier.at, proxies, work, others: Duration::ZERO, rss_kib }
    }
}
