//! What a load counts, and when.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Answered, BEGIN, END};
use crate::latencies::Latencies;

/// The measured time and what came in it.
pub(super) struct Tally<'a> {
    begin: Instant,
    end: Instant,
    phase: Phase,
    latencies: Latencies,
    bytes: u64,
    say: Box<Say<'a>>,
}

/// Who is told when the measured time begins and ends.
type Say<'a> = dyn FnMut(&str) -> Result<()> + 'a;

/// Where in the run we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    WarmUp,
    Measured,
    /// Nothing more is asked.
    Over,
}

impl<'a> Tally<'a> {
    /// The warm-up begins now.
    pub(super) fn begin(
        warmup: Duration,
        measured: Duration,
        say: impl FnMut(&str) -> Result<()> + 'a,
    ) -> Self {
        let begin = Instant::now() + warmup;
        let (phase, latencies) = (Phase::WarmUp, Latencies::new());
        Self { begin, end: begin + measured, phase, latencies, bytes: 0, say: Box::new(say) }
    }

    /// An answer came to what was asked then.
    pub(super) fn answered(&mut self, asked: Instant, now: Instant, bytes: usize) {
        if self.counts(now) {
            self.latencies.record(now.saturating_duration_since(asked));
            self.bytes += bytes as u64;
        }
    }

    /// The same where what counts is when it was due: however late the answer is, it is not left out.
    pub(super) fn answered_due(&mut self, due: Instant, now: Instant, bytes: usize) {
        if self.counts(due) {
            self.latencies.record(now.saturating_duration_since(due));
            self.bytes += bytes as u64;
        }
    }

    /// Bytes came that answer nothing.
    pub(super) fn received(&mut self, now: Instant, bytes: usize) {
        if self.counts(now) {
            self.bytes += bytes as u64;
        }
    }

    /// When nothing more is asked.
    pub(super) fn end(&self) -> Instant {
        self.end
    }

    /// Says what begins or ends, if it does.
    pub(super) fn tick(&mut self, now: Instant) -> Result<Phase> {
        if self.phase == Phase::WarmUp && now >= self.begin {
            (self.say)(BEGIN)?;
            self.phase = Phase::Measured;
        }
        if self.phase == Phase::Measured && now >= self.end {
            (self.say)(END)?;
            self.phase = Phase::Over;
        }
        Ok(self.phase)
    }

    /// How long it is until something begins or ends; once all is over, `patience` lasts from the end.
    pub(super) fn until_next(&self, now: Instant, patience: Duration) -> Duration {
        let next = match self.phase {
            Phase::WarmUp => self.begin,
            Phase::Measured => self.end,
            Phase::Over => self.end + patience,
        };
        next.saturating_duration_since(now)
    }

    /// What came of it.
    pub(super) fn answered_all(&self) -> Answered {
        Answered {
            requests: self.latencies.total(),
            bytes: self.bytes,
            seconds: (self.end - self.begin).as_secs_f64(),
            p50_us: self.latencies.percentile_us(50.0),
            p99_us: self.latencies.percentile_us(99.0),
            p999_us: self.latencies.percentile_us(99.9),
        }
    }

    fn counts(&self, now: Instant) -> bool {
        now >= self.begin && now < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_time_counts_and_it_is_said_once() {
        let mut said = Vec::new();
        let say = |line: &str| {
            said.push(line.to_owned());
            Ok(())
        };
        let mut tally = Tally::begin(Duration::from_secs(10), Duration::from_secs(10), say);
        let begin = tally.begin;
        let at = |seconds| begin + Duration::from_secs(seconds);
        let before = begin - Duration::from_nanos(1);
        tally.answered(before, before, 5);
        assert_eq!(tally.tick(before).unwrap(), Phase::WarmUp);
        assert_eq!(tally.until_next(before, PATIENCE), Duration::from_nanos(1));
        assert_eq!(tally.tick(begin).unwrap(), Phase::Measured);
        tally.answered(before, at(1), 7);
        tally.received(at(2), 100);
        assert_eq!(tally.tick(at(3)).unwrap(), Phase::Measured);
        assert_eq!(tally.tick(at(10)).unwrap(), Phase::Over);
        tally.answered(at(9), at(10), 5);
        tally.received(at(10), 100);
        assert_eq!(tally.tick(at(11)).unwrap(), Phase::Over);
        assert_eq!(tally.until_next(at(11), PATIENCE), PATIENCE - Duration::from_secs(1));
        let answered = tally.answered_all();
        assert_eq!((answered.requests, answered.bytes, answered.seconds), (1, 107, 10.0));
        tally.answered_due(before, at(1), 5);
        tally.answered_due(at(9), at(12), 5);
        assert_eq!((tally.answered_all().requests, tally.answered_all().bytes), (2, 112));
        drop(tally);
        assert_eq!(said, [BEGIN, END]);
    }

    const PATIENCE: Duration = Duration::from_secs(5);
}
