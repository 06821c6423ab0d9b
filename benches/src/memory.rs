//! S7 and S7x: how much memory a proxy takes, from fresh starts: idle, with idle connections, in a large mesh.
//!
//! Resident memory is what users pay for, so that is the figure. It counts pages of the program's file that others may
//! share, and a large program has many of these; so the proportional share (PSS) and what is the process's alone
//! (anonymous) are told too. All of it is read from `smaps_rollup`, which is exact: `VmRSS` lags behind by some pages
//! for each CPU, and that is as much as a hundred connections of a frugal proxy.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::contender::{Contender, Door, Running};
use crate::rounds::Plan;
use crate::scenario::{Scenario, Work};
use crate::site::Site;

use self::resident::{Resident, Settling};
use self::visit::Visit;

mod resident;
mod visit;

/// Fresh starts of every contender; memory differs little from one to the next.
const MOST_STARTS: u32 = 3;
/// How often it is looked whether memory still changes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Memory that has not settled by then is read as it is.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// A contender must answer its first request within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long after a failed request the next one is made.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);
const KIB_OF_MIB: f64 = 1024.0;

/// What the starts of one contender came to: one figure for each valid start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MemoryOutcome {
    pub(crate) contender: Contender,
    /// Resident after one request, in MiB.
    pub(crate) idle_mib: Vec<f64>,
    /// Of that, the proportional share, in MiB.
    pub(crate) idle_pss_mib: Vec<f64>,
    /// Of that, what is no file's, in MiB.
    pub(crate) idle_anonymous_mib: Vec<f64>,
    /// Resident with all connections of S7 idle, in MiB.
    pub(crate) connected_mib: Vec<f64>,
    /// What each of these connections added, in KiB.
    pub(crate) kib_per_connection: Vec<f64>,
    /// Resident in the large mesh of S7x, in MiB.
    pub(crate) big_mib: Vec<f64>,
    /// Of that, the proportional share, in MiB.
    pub(crate) big_pss_mib: Vec<f64>,
    /// Of that, what is no file's, in MiB.
    pub(crate) big_anonymous_mib: Vec<f64>,
    /// Why the other starts are void.
    pub(crate) voids: Vec<String>,
}

/// Runs S7 and S7x as far as the plan has them, saying on standard error what is being done.
pub(crate) async fn run(plan: &Plan, site: &Site) -> Result<Vec<MemoryOutcome>> {
    let mut outcomes: Vec<MemoryOutcome> =
        Scenario::S7.contenders().iter().copied().map(MemoryOutcome::new).collect();
    for &scenario in plan.scenarios.iter().filter(|scenario| is_of_memory(**scenario)) {
        let starts = plan.rounds.min(MOST_STARTS);
        for start in 1..=starts {
            for outcome in &mut outcomes {
                let told = match outcome.measure(scenario, site).await {
                    Ok(told) => told,
                    Err(error) => {
                        outcome.voids.push(format!("{scenario}: {error:#}"));
                        format!("void: {error:#}")
                    }
                };
                eprintln!("{scenario} start {start} of {starts}, {}: {told}", outcome.contender);
            }
        }
    }
    Ok(outcomes)
}

/// Whether a scenario is measured here.
pub(crate) fn is_of_memory(scenario: Scenario) -> bool {
    matches!(scenario.work(), Work::Hold { .. } | Work::Mesh { .. })
}

impl MemoryOutcome {
    fn new(contender: Contender) -> Self {
        Self {
            contender,
            idle_mib: Vec::new(),
            idle_pss_mib: Vec::new(),
            idle_anonymous_mib: Vec::new(),
            connected_mib: Vec::new(),
            kib_per_connection: Vec::new(),
            big_mib: Vec::new(),
            big_pss_mib: Vec::new(),
            big_anonymous_mib: Vec::new(),
            voids: Vec::new(),
        }
    }

    /// One fresh start; returns what there is to tell of it.
    async fn measure(&mut self, scenario: Scenario, site: &Site) -> Result<String> {
        match scenario.work() {
            Work::Mesh { .. } => {
                let (running, doors) = self.contender.start_large(scenario, site).await?;
                let big = finish(in_mesh(&running, &doors, scenario).await, running).await?;
                Ok(self.add_big(big))
            }
            Work::Hold { connections } => {
                let running = self.contender.start(scenario, site).await?;
                let held = finish(with_connections(&running, connections, scenario).await, running).await?;
                Ok(self.add_held(&held))
            }
            _ => Ok("is not about memory".to_owned()),
        }
    }

    fn add_big(&mut self, big: Resident) -> String {
        self.big_mib.push(mib(big.rss_kib));
        self.big_pss_mib.push(mib(big.pss_kib));
        self.big_anonymous_mib.push(mib(big.anonymous_kib));
        format!("{:.1} MiB", mib(big.rss_kib))
    }

    fn add_held(&mut self, held: &Held) -> String {
        let per_connection = held.kib_per_connection();
        self.idle_mib.push(mib(held.idle.rss_kib));
        self.idle_pss_mib.push(mib(held.idle.pss_kib));
        self.idle_anonymous_mib.push(mib(held.idle.anonymous_kib));
        self.connected_mib.push(mib(held.connected.rss_kib));
        self.kib_per_connection.push(per_connection);
        format!("{:.1} MiB idle, {per_connection:.2} KiB a connection", mib(held.idle.rss_kib))
    }
}

/// What one start of S7 came to.
struct Held {
    idle: Resident,
    connected: Resident,
    connections: usize,
}

impl Held {
    fn kib_per_connection(&self) -> f64 {
        // Memory may also have been given back.
        (self.connected.rss_kib as f64 - self.idle.rss_kib as f64) / self.connections as f64
    }
}

/// Ends what was started. A process that ended by itself is the cause of what was seen.
async fn finish<T>(measured: Result<T>, mut running: Running) -> Result<T> {
    let alive = running.check();
    running.end().await?;
    alive?;
    measured
}

async fn in_mesh(running: &Running, doors: &[Door], scenario: Scenario) -> Result<Resident> {
    for door in doors {
        first_answer(door, scenario).await?;
    }
    settled(running).await
}

async fn with_connections(running: &Running, connections: usize, scenario: Scenario) -> Result<Held> {
    let door = Door { address: running.entry, host: running.host.to_owned() };
    first_answer(&door, scenario).await?;
    let idle = settled(running).await?;
    let mut held = Vec::with_capacity(connections);
    // One after the other: one connection to the origin is enough, so only those of clients are counted.
    for place in 0..connections {
        let asked = async { Visit::open(&door).await?.ask(scenario).await };
        held.push(asked.await.with_context(|| format!("connection {} of {connections}", place + 1))?);
    }
    let connected = settled(running).await?;
    for (place, visit) in held.iter().enumerate() {
        visit.check_open().with_context(|| format!("connection {} of {connections}", place + 1))?;
    }
    Ok(Held { idle, connected, connections })
}

/// Waits until a request goes all the way through.
async fn first_answer(door: &Door, scenario: Scenario) -> Result<()> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        match async { Visit::open(door).await?.ask(scenario).await }.await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not one good answer within {ANSWERS_WITHIN:?}")));
            }
            Err(_) => sleep(ASK_AGAIN_AFTER).await,
        }
    }
}

/// The memory of all proxies together, once it has settled.
async fn settled(running: &Running) -> Result<Resident> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    let mut settling = Settling::new();
    loop {
        let resident = Resident::read(running.proxy_pids())?;
        if settling.has_settled(resident.rss_kib) || Instant::now() >= deadline {
            return Ok(resident);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn mib(kib: u64) -> f64 {
    // Far below 2^53.
    kib as f64 / KIB_OF_MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(rss_kib: u64) -> Resident {
        Resident { rss_kib, pss_kib: rss_kib / 2, anonymous_kib: rss_kib / 4 }
    }

    #[test]
    fn connections_share_what_they_added() {
        let mut outcome = MemoryOutcome::new(Contender::Nginx);
        let held = Held { idle: resident(10 * 1024), connected: resident(12 * 1024), connections: 1000 };
        assert_eq!(outcome.add_held(&held), "10.0 MiB idle, 2.05 KiB a connection");
        assert_eq!((&outcome.idle_mib[..], &outcome.connected_mib[..]), (&[10.0][..], &[12.0][..]));
        assert_eq!((&outcome.idle_pss_mib[..], &outcome.idle_anonymous_mib[..]), (&[5.0][..], &[2.5][..]));
        assert_eq!(outcome.kib_per_connection, [2.048]);
        let shrunk = Held { connected: resident(9 * 1024), ..held };
        assert_eq!(shrunk.kib_per_connection(), -1.024);
    }

    #[test]
    fn only_two_scenarios_are_about_memory() {
        let found: Vec<Scenario> = Scenario::ALL.into_iter().filter(|s| is_of_memory(*s)).collect();
        assert_eq!(found, [Scenario::S7, Scenario::S7x]);
        // One outcome has the figures of both.
        assert_eq!(Scenario::S7.contenders(), Scenario::S7x.contenders());
    }
}
