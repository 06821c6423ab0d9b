//! The measurement: contenders take turns on the same work, A B C A B C, so that what else happens on the machine
//! happens to all of them. All of a scenario run at the same time, idle while it is not their turn. A run with any error
//! is void: it is reported, and none of its figures counts.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::{Instant, sleep};

use crate::contender::{Contender, Running};
use crate::figures::Figures;
use crate::load::{Answered, Args, Said};
use crate::scenario::{Scenario, Work};
use crate::site::Site;

use self::driver::Driver;
use self::reading::Reading;

mod driver;
mod reading;

/// A contender must answer through its whole chain within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long after a failed probe the next one is made.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// Attempts to start a contender in one scenario; after these it has no turn any more.
const MAX_STARTS: u32 = 3;
/// What comes at a fixed rate comes seldom: it is measured this much longer.
const OPEN_LONGER: f64 = 4.0 / 3.0;

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

/// A contender among the others of a scenario.
struct Seat {
    contender: Contender,
    scenario: Scenario,
    running: Option<Running>,
    starts: u32,
    /// Why it could not be started the last time.
    absent: String,
}

impl Plan {
    /// What can be quoted.
    pub(crate) fn full() -> Self {
        let (warmup, measured) = (Duration::from_millis(300), Duration::from_millis(1500));
        Self { scenarios: Scenario::ALL.to_vec(), rounds: 5, warmup, measured }
    }

    /// Enough to see that it works.
    pub(crate) fn quick() -> Self {
        let (warmup, measured) = (Duration::from_millis(200), Duration::from_millis(700));
        Self { rounds: 2, warmup, measured, ..Self::full() }
    }

    /// Warm-up and measured time of one turn.
    fn times(&self, scenario: Scenario) -> (Duration, Duration) {
        match scenario.work() {
            Work::Open { .. } => (self.warmup, self.measured.mul_f64(OPEN_LONGER)),
            _ => (self.warmup, self.measured),
        }
    }
}

/// Runs the scenarios of a plan that are about load, saying on standard error what is being done.
pub(crate) async fn run(plan: &Plan, site: &Site) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for &scenario in &plan.scenarios {
        outcomes.extend(take_turns(plan, scenario, site).await?);
    }
    Ok(outcomes)
}

async fn take_turns(plan: &Plan, scenario: Scenario, site: &Site) -> Result<Vec<Outcome>> {
    let mut seats: Vec<Seat> =
        scenario.contenders().iter().map(|&contender| Seat::new(scenario, contender)).collect();
    let new = |&contender| Outcome { scenario, contender, rounds: Vec::new() };
    let mut outcomes: Vec<Outcome> = scenario.contenders().iter().map(new).collect();
    for seat in &mut seats {
        seat.take(site).await;
    }
    for round in 1..=plan.rounds {
        for place in 0..seats.len() {
            seats[place].take(site).await;
            let result = turn(plan, (&mut seats, place), site).await.map_err(|error| format!("{error:#}"));
            let outcome = &mut outcomes[place];
            eprintln!(
                "{scenario} round {round} of {}, {}: {}",
                plan.rounds,
                outcome.contender,
                told(&result)
            );
            outcome.rounds.push(result);
        }
    }
    for seat in seats {
        seat.leave().await?;
    }
    Ok(outcomes)
}

/// One run of the contender at that place, while the others have nothing to do.
async fn turn(plan: &Plan, (seats, place): (&mut [Seat], usize), site: &Site) -> Result<Figures> {
    let ours: Vec<u32> =
        seats.iter().filter_map(|seat| seat.running.as_ref()).flat_map(Running::pids).collect();
    let seat = &mut seats[place];
    let Some(running) = &mut seat.running else { bail!("{}", seat.absent) };
    let args = load_of(seat.scenario, running, plan.times(seat.scenario))?;
    let measured = under_load(&args, (site, running), ours).await;
    // A process that ended is the cause, what the load saw is its effect; and it takes a fresh start.
    if let Err(ended) = running.check() {
        seat.running = None;
        return Err(ended);
    }
    measured
}

impl Seat {
    fn new(scenario: Scenario, contender: Contender) -> Self {
        Self { contender, scenario, running: None, starts: 0, absent: String::new() }
    }

    /// Starts it if it does not run, and waits until it answers.
    async fn take(&mut self, site: &Site) {
        if self.running.is_some() || self.starts >= MAX_STARTS {
            return;
        }
        self.starts += 1;
        match self.start(site).await {
            Ok(running) => self.running = Some(running),
            Err(error) => self.absent = format!("{error:#}"),
        }
    }

    async fn start(&self, site: &Site) -> Result<Running> {
        let mut running = self.contender.start(self.scenario, site).await?;
        let args = load_of(self.scenario, &running, (Duration::ZERO, Duration::ZERO))?;
        let answers = probe(&args.probe(), (site, &running)).await;
        running.check()?;
        answers.map(|()| running)
    }

    async fn leave(self) -> Result<()> {
        match self.running {
            Some(running) => running.end().await,
            None => Ok(()),
        }
    }
}

fn load_of(scenario: Scenario, running: &Running, times: (Duration, Duration)) -> Result<Args> {
    let args = Args::of(scenario, running.entry, running.host, times);
    args.with_context(|| format!("{scenario} is not about load"))
}

/// Waits until a request goes all the way through.
async fn probe(args: &Args, place: (&Site, &Running)) -> Result<()> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let answered = async {
            let driver = Driver::start(args, place)?;
            let (said, ()) = driver.run(args, || Ok(()), |()| Ok(())).await?;
            answered(&said)
        };
        match answered.await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("not one good answer within {ANSWERS_WITHIN:?}")));
            }
            Err(_) => sleep(PROBE_EVERY).await,
        }
    }
}

async fn under_load(args: &Args, (site, running): (&Site, &Running), ours: Vec<u32>) -> Result<Figures> {
    let driver = Driver::start(args, (site, running))?;
    let load = driver.pid();
    let read = || Reading::take(running, (load, &ours), site);
    let (said, cost) = driver.run(args, read, |before| read()?.since(&before, running)).await?;
    let answered = answered(&said)?;
    Figures::new(&answered, &cost).context("nothing came back in the measured time")
}

fn answered(said: &str) -> Result<Answered> {
    match serde_json::from_str(said).with_context(|| format!("the load said {said:?}"))? {
        Said::Answered(answered) => Ok(answered),
        Said::Failed(why) => Err(anyhow!(why)),
    }
}

/// What there is to say of a run at once.
fn told(result: &Result<Figures, String>) -> String {
    let figures = match result {
        Ok(figures) => figures,
        Err(why) => return format!("void: {why}"),
    };
    match figures {
        Figures { cpu_us_per_request: Some(cpu), .. } => format!("{cpu:.1} CPU us/request"),
        Figures { cpu_s_per_gb: Some(cpu), .. } => format!("{cpu:.2} CPU s/GB"),
        Figures { latency: Some(latency), .. } => format!("p50 {:.0} us", latency.p50_us),
        _ => "done".to_owned(),
    }
}
