//! The open loop: a request is due at fixed times, whatever the answers do, and the time it takes counts from when it was
//! due. A load that waited for answers would ask less of those who are slow, and never see how slow they are.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::closed::Ground;
use super::http1::{Asker, Question};
use super::tally::{Phase, Tally};
use super::{Args, PATIENCE};

/// Requests that wait for a connection. With more of them nobody keeps up with the rate.
const MAX_DUE: usize = 10_000;
/// The token of the timer.
const TIMER: usize = usize::MAX;

/// Connections that are used in turn, and what is due.
struct Turnstile {
    ground: Ground,
    question: Question,
    timer: OwnedFd,
    askers: Vec<Asker>,
    /// Who waits for nothing, the longest idle first.
    idle: VecDeque<usize>,
    /// When requests were due that wait for a connection.
    due: VecDeque<Instant>,
    /// When the next is due.
    next: Instant,
    /// What the timer is set to.
    armed: Option<Instant>,
    period: Duration,
}

/// Runs until the measured time is over and every answer is there.
pub(super) fn run(args: &Args, tally: &mut Tally<'_>) -> Result<()> {
    let mut turnstile = Turnstile::new(args)?;
    loop {
        // What is due before the end is asked, however late this is.
        turnstile.ask(tally)?;
        let now = Instant::now();
        if tally.tick(now)? == Phase::Over {
            let waiting = turnstile.askers.iter().filter(|asker| asker.waits()).count() + turnstile.due.len();
            if waiting == 0 {
                return Ok(());
            }
            if now >= tally.end() + PATIENCE {
                bail!("{waiting} requests were not answered within {PATIENCE:?}");
            }
        }
        let count = turnstile.wait(now, tally)?;
        // Before answers are read: what is due must not wait for them.
        turnstile.ask(tally)?;
        for index in 0..count {
            turnstile.take(index, tally)?;
        }
    }
}

impl Turnstile {
    fn new(args: &Args) -> Result<Self> {
        let (ground, question) = (Ground::new()?, Question::new(args));
        // Finer than a timeout of waiting, and without the slack that the kernel gives to these.
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        let timer = timer.context("there is no timer")?;
        ground.poll.add(&timer, TIMER)?;
        let connect = |token| Ok(Asker::new(ground.connect(question.target, token)?, &question));
        let askers = (0..args.connections).map(connect).collect::<Result<Vec<_>>>()?;
        let period = Duration::from_secs(1) / args.per_second.max(1);
        // The first is due now, however short the run is.
        let now = Instant::now();
        let (idle, due, next) = ((0..askers.len()).collect(), VecDeque::from([now]), now + period);
        Ok(Self { ground, question, timer, askers, idle, due, next, armed: None, period })
    }

    /// Waits until something is due or has come.
    fn wait(&mut self, now: Instant, tally: &Tally<'_>) -> Result<usize> {
        // While connections are missing only an answer helps; and after the end nothing is due.
        if self.due.is_empty() && self.next < tally.end() && self.armed != Some(self.next) {
            self.set_timer(self.next.saturating_duration_since(now))?;
            self.armed = Some(self.next);
        }
        let timeout = tally.until_next(now, PATIENCE);
        self.ground.poll.wait(Some(timeout)).context("nothing can be waited for")
    }

    /// Once, so that every time is an edge of its own.
    fn set_timer(&self, after: Duration) -> Result<()> {
        // Zero would mean never.
        let after = after.max(Duration::from_nanos(1));
        let time = |duration: Duration| Timespec {
            tv_sec: duration.as_secs() as i64,
            tv_nsec: i64::from(duration.subsec_nanos()),
        };
        let setting = Itimerspec { it_interval: time(Duration::ZERO), it_value: time(after) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .context("the timer cannot be set")?;
        Ok(())
    }

    /// Asks everything that is due, as far as there are connections.
    fn ask(&mut self, tally: &Tally<'_>) -> Result<()> {
        let now = Instant::now();
        while self.next <= now && self.next < tally.end() {
            self.due.push_back(self.next);
            self.next += self.period;
        }
        ensure!(self.due.len() <= MAX_DUE, "more than {MAX_DUE} requests wait for a connection: too slow");
        while let (Some(&due), Some(&place)) = (self.due.front(), self.idle.front()) {
            self.askers[place].ask(&self.question, due)?;
            self.due.pop_front();
            self.idle.pop_front();
        }
        Ok(())
    }

    fn take(&mut self, index: usize, tally: &mut Tally<'_>) -> Result<()> {
        let ready = self.ground.poll.ready(index);
        let Some(asker) = self.askers.get_mut(ready.token) else { return Ok(()) };
        if let Some(asked) = asker.ready(ready, &self.question, &mut self.ground.buffer)? {
            tally.answered_due(asked, Instant::now(), self.question.body_bytes);
            self.idle.push_back(ready.token);
        }
        Ok(())
    }
}
