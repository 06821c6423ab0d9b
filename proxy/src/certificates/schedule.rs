//! When a certificate is renewed. Pure: time and chance are arguments.

use std::time::Duration;

use outrigger_base::identity::CertificateFacts;
use rustls::pki_types::UnixTime;
use tokio::time::Instant;

/// The share of its life after which a certificate is renewed.
const RENEW_AFTER: f64 = 2.0 / 3.0;
/// How far the renewal is moved at most, as a share of life, so that workloads do not all renew at once.
const JITTER: f64 = 0.1;

/// The moments of one certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    /// It is to be renewed.
    pub(super) renew_at: Instant,
    /// Half of what was left at the renewal has passed without one.
    pub(super) alarm_at: Instant,
    /// It is over.
    pub(super) expires_at: Instant,
}

impl Schedule {
    /// The moments of a certificate, seen from `now`.
    pub(super) fn of(facts: &CertificateFacts, now: UnixTime, rng: &mut fastrand::Rng) -> Self {
        let seconds = |time: UnixTime| time.as_secs() as f64;
        let life = (seconds(facts.not_after) - seconds(facts.not_before)).max(0.0);
        let share = RENEW_AFTER + JITTER * (rng.f64() * 2.0 - 1.0);
        let renew = seconds(facts.not_before) + life * share - seconds(now);
        let expire = (seconds(facts.not_after) - seconds(now)).max(0.0);
        let renew = renew.clamp(0.0, expire);
        let begin = Instant::now();
        let after = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        Self { renew_at: after(renew), alarm_at: after((renew + expire) / 2.0), expires_at: after(expire) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn renewal_is_at_two_thirds_of_life_give_or_take_a_tenth() {
        let facts =
            CertificateFacts { serial: String::new(), not_before: at(1000), not_after: at(1000 + 3000) };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut all: Vec<f64> = Vec::new();
        for _ in 0..200 {
            let schedule = Schedule::of(&facts, at(1000), &mut rng);
            all.push((schedule.renew_at - Instant::now()).as_secs_f64());
            assert_eq!(schedule.expires_at - Instant::now(), Duration::from_secs(3000));
            assert!(schedule.renew_at < schedule.alarm_at && schedule.alarm_at < schedule.expires_at);
        }
        let (low, high) =
            (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        assert!((1700.0..1800.0).contains(&low) && (2200.0..2300.0).contains(&high), "{low} to {high}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_over_is_renewed_at_once() {
        let facts = CertificateFacts { serial: String::new(), not_before: at(1000), not_after: at(2000) };
        let schedule = Schedule::of(&facts, at(9000), &mut fastrand::Rng::with_seed(1));
        assert_eq!(schedule.renew_at, Instant::now());
    }
}
