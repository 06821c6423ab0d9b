//! S7 and S7x: how much memory a proxy takes, from fresh starts: idle, with idle connections, in a large mesh.
//!
//! Resident memory is what users pay for, so that is the figure. It counts pages of the program's file that others may
//! share, and a large program has many of these; so the proportional share (PSS) and what is the process's alone
//! (anonymous) are told too. All of it is read from `smaps_rollup`, which is exact: `VmRSS` lags behind by some pages
//! for each CPU, and that is as much as a hundred connections of a frugal proxy.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use crate::contender::{Contender, Door, Running};
use crate::rounds::Plan;
use crate::scenario::{Scenario, Work};
use crate::site::Site;

pub(crate) use self::resident::Resident;
use self::resident::{KIB_OF_MIB, Settling};
use self::visit::Visit;

mod resident;
mod visit;

/// Fresh starts of every contender; memory differs little from one to the next.
const MOST_STARTS: u32 = 3;
/// How often it is looked whether memory still changes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Connections are idle when nothing has gone over them for so long; before, everybody still has the buffers of the requests.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// Memory that has not settled by then is read as it is.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// A contender must answer its first request within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long after a failed request the next one is made.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// All starts of one contender in one scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MemoryOutcome {
    pub(crate) scenario: Scenario,
    pub(crate) contender: Contender,
    /// One for each start, in order: the figures, or why the start is void.
    pub(crate) starts: Vec<Result<MemoryFigures, String>>,
}

/// What one start came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MemoryFigures {
    /// S7: after one request; with all connections idle; and what each of these added, in KiB.
    Held { idle: Resident, connected: Resident, kib_per_connection: f64 },
    /// S7x: in the large mesh.
    Mesh(Resident),
}

/// Runs S7 and S7x as far as the plan has them, saying on standard error what is being done.
pub(crate) async fn run(plan: &Plan, site: &Site) -> Result<Vec<MemoryOutcome>> {
    let mut outcomes = Vec::new();
    for &scenario in plan.scenarios.iter().filter(|scenario| is_of_memory(**scenario)) {
        let new =
            |contender: &Contender| MemoryOutcome { scenario, contender: *contender, starts: Vec::new() };
        let mut turns: Vec<MemoryOutcome> = scenario.contenders().iter().map(new).collect();
        let starts = plan.rounds.min(MOST_STARTS);
        for start in 1..=starts {
            for turn in &mut turns {
                let figures = measure(turn, site).await.map_err(|error| format!("{error:#}"));
                let told = match &figures {
                    Ok(figures) => figures.to_string(),
                    Err(why) => format!("void: {why}"),
                };
                eprintln!("{scenario} start {start} of {starts}, {}: {told}", turn.contender);
                turn.starts.push(figures);
            }
        }
        outcomes.extend(turns);
    }
    Ok(outcomes)
}

/// Whether a scenario is measured here.
pub(crate) fn is_of_memory(scenario: Scenario) -> bool {
    matches!(scenario.work(), Work::Hold { .. } | Work::Mesh { .. })
}

impl MemoryFigures {
    fn held(idle: Resident, connected: Resident, connections: usize) -> Self {
        // Memory may also have been given back.
        let kib_per_connection = KIB_OF_MIB * (connected.rss_mib - idle.rss_mib) / connections as f64;
        Self::Held { idle, connected, kib_per_connection }
    }
}

impl fmt::Display for MemoryFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { idle, kib_per_connection, .. } => {
                write!(f, "{:.1} MiB idle, {kib_per_connection:.2} KiB a connection", idle.rss_mib)
            }
            Self::Mesh(resident) => write!(f, "{:.1} MiB", resident.rss_mib),
        }
    }
}

/// One fresh start.
async fn measure(turn: &MemoryOutcome, site: &Site) -> Result<MemoryFigures> {
    let scenario = turn.scenario;
    match scenario.work() {
        Work::Mesh { .. } => {
            let (running, doors) = turn.contender.start_large(scenario, site).await?;
            finish(in_mesh(&running, &doors, scenario).await, running).await
        }
        Work::Hold { connections } => {
            let running = turn.contender.start(scenario, site).await?;
            finish(with_connections(&running, connections, scenario).await, running).await
        }
        _ => bail!("{scenario} is not about memory"),
    }
}

/// Ends what was started. A process that ended by itself is the cause of what was seen.
async fn finish(measured: Result<MemoryFigures>, mut running: Running) -> Result<MemoryFigures> {
    let alive = running.check();
    running.end().await?;
    alive?;
    measured
}

async fn in_mesh(running: &Running, doors: &[Door], scenario: Scenario) -> Result<MemoryFigures> {
    for door in doors {
        first_answer(door, scenario).await?;
    }
    Ok(MemoryFigures::Mesh(settled(running).await?))
}

async fn with_connections(
    running: &Running,
    connections: usize,
    scenario: Scenario,
) -> Result<MemoryFigures> {
    let door = Door { address: running.entry, host: running.host.to_owned() };
    first_answer(&door, scenario).await?;
    let idle = settled(running).await?;
    let mut visits = Vec::with_capacity(connections);
    for place in 1..=connections {
        let opened = Visit::open(&door).await;
        visits.push(opened.with_context(|| format!("connection {place} of {connections}"))?);
    }
    // All ask before one is answered, as clients do that have woken up together: what a proxy needs for so many
    // requests at once, and connections to the origin that it keeps, count for what they are.
    for (place, visit) in (1..).zip(&mut visits) {
        visit.ask(scenario).await.with_context(|| format!("connection {place} of {connections}"))?;
    }
    for (place, visit) in (1..).zip(&mut visits) {
        visit.hear().await.with_context(|| format!("connection {place} of {connections}"))?;
    }
    sleep(QUIET_FOR).await;
    let connected = settled(running).await?;
    for (place, visit) in (1..).zip(&visits) {
        visit.check_open().with_context(|| format!("connection {place} of {connections}"))?;
    }
    Ok(MemoryFigures::held(idle, connected, connections))
}

/// Waits until a request goes all the way through.
async fn first_answer(door: &Door, scenario: Scenario) -> Result<()> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        match visit(door, scenario).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not one good answer within {ANSWERS_WITHIN:?}")));
            }
            Err(_) => sleep(ASK_AGAIN_AFTER).await,
        }
    }
}

async fn visit(door: &Door, scenario: Scenario) -> Result<()> {
    let mut visit = Visit::open(door).await?;
    visit.ask(scenario).await?;
    visit.hear().await
}

/// The memory of all proxies together, once it has settled.
async fn settled(running: &Running) -> Result<Resident> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let mut settling = Settling::new();
    loop {
        let resident = Resident::read(running.proxy_pids())?;
        if settling.has_settled(resident.rss_mib) || Instant::now() >= deadline {
            return Ok(resident);
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(rss_mib: f64) -> Resident {
        Resident { rss_mib, pss_mib: rss_mib / 2.0, anonymous_mib: rss_mib / 4.0 }
    }

    #[test]
    fn connections_share_what_they_added() {
        let held = MemoryFigures::held(resident(10.0), resident(12.0), 1000);
        assert_eq!(held.to_string(), "10.0 MiB idle, 2.05 KiB a connection");
        let shrunk = MemoryFigures::held(resident(10.0), resident(9.0), 1000);
        assert_eq!(shrunk.to_string(), "10.0 MiB idle, -1.02 KiB a connection");
    }

    #[test]
    fn only_two_scenarios_are_about_memory() {
        let found: Vec<Scenario> = Scenario::ALL.into_iter().filter(|s| is_of_memory(*s)).collect();
        assert_eq!(found, [Scenario::S7, Scenario::S7x]);
    }
}
