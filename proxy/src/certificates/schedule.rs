//! When a certificate is renewed. Pure: time and chance are arguments.

use std::time::Duration;

use outrigger_base::identity::CertificateFacts;
use rustls::pki_types::UnixTime;
use tokio::time::Instant;

/// The share of its life after which a certificate is renewed.
const RENEW_AFTER: f64 = 2.0 / 3.0;
/// How far the renewal is moved at most, as a share of life, so that workloads do not all renew at once.
const JITTER: f64 = 0.1;

/// The share of its life after which somebody should look: half of what is left after the usual renewal.
const ALARM_AFTER: f64 = (1.0 + RENEW_AFTER) / 2.0;
/// When the root that signs is another one: the share of what is left of its life within which a certificate is renewed.
const MOVE_WITHIN_SHARE: f64 = 1.0 / 3.0;
/// The same, in seconds at most.
const MOVE_WITHIN_SECONDS: f64 = 60.0;
/// The share of what is left that one wait between two tries may take.
const WAIT_SHARE: u32 = 4;

/// The moments of one certificate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    /// It is to be renewed.
    pub(super) renew_at: Instant,
    /// Somebody should look: it was not renewed.
    pub(super) alarm_at: Instant,
    /// It is over.
    pub(super) expires_at: Instant,
}

impl Schedule {
    /// The moments of a certificate, seen from `now`.
    pub(super) fn of(facts: &CertificateFacts, now: UnixTime, rng: &mut fastrand::Rng) -> Self {
        let share = RENEW_AFTER + JITTER * (rng.f64() * 2.0 - 1.0);
        Self {
            renew_at: at_share(facts, share, now),
            alarm_at: alarm_at(facts, now),
            expires_at: expires_at(facts, now),
        }
    }

    /// The same with a renewal that is near: at a random moment, so that workloads do not all move at once, and early
    /// enough for several tries.
    pub(super) fn hastened(self, now: Instant, rng: &mut fastrand::Rng) -> Self {
        let left = self.expires_at.saturating_duration_since(now).as_secs_f64();
        let within = (left * MOVE_WITHIN_SHARE).min(MOVE_WITHIN_SECONDS);
        let moved = now + Duration::from_secs_f64(within * rng.f64());
        Self { renew_at: self.renew_at.min(moved), ..self }
    }

    /// How long to wait between two tries when the back-off says `wait`: a short life is not slept through.
    pub(super) fn wait(&self, wait: Duration, shortest: Duration, now: Instant) -> Duration {
        wait.min((self.expires_at.saturating_duration_since(now) / WAIT_SHARE).max(shortest))
    }
}

/// When somebody should look, whoever renews the certificate.
pub(super) fn alarm_at(facts: &CertificateFacts, now: UnixTime) -> Instant {
    at_share(facts, ALARM_AFTER, now)
}

/// When the certificate is over.
pub(super) fn expires_at(facts: &CertificateFacts, now: UnixTime) -> Instant {
    at_share(facts, 1.0, now)
}

/// The moment at which a share of the life has passed; now when it is past.
fn at_share(facts: &CertificateFacts, share: f64, now: UnixTime) -> Instant {
    let seconds = |time: UnixTime| time.as_secs() as f64;
    let life = (seconds(facts.not_after) - seconds(facts.not_before)).max(0.0);
    let expire = (seconds(facts.not_after) - seconds(now)).max(0.0);
    let moment = (seconds(facts.not_before) + life * share - seconds(now)).clamp(0.0, expire);
    Instant::now() + Duration::from_secs_f64(moment)
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

    #[tokio::test(start_paused = true)]
    async fn a_move_to_another_root_is_near_and_in_proportion_to_what_is_left() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (life, latest) in [(30, 10.0), (120, 40.0), (86_400, 60.0)] {
            let facts = CertificateFacts { serial: String::new(), not_before: at(0), not_after: at(life) };
            let moved: Vec<f64> = (0..100)
                .map(|_| {
                    let schedule = Schedule::of(&facts, at(0), &mut rng).hastened(Instant::now(), &mut rng);
                    (schedule.renew_at - Instant::now()).as_secs_f64()
                })
                .collect();
            let (low, high) = moved.iter().fold((f64::MAX, 0.0_f64), |(l, h), m| (l.min(*m), h.max(*m)));
            assert!(low < latest * 0.1 && high > latest * 0.9 && high <= latest, "{life}: {low} to {high}");
        }
        let facts = CertificateFacts { serial: String::new(), not_before: at(0), not_after: at(3000) };
        let due = Schedule::of(&facts, at(2900), &mut rng);
        assert_eq!(due.hastened(Instant::now(), &mut rng).renew_at, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_life_is_not_slept_through() {
        let facts = CertificateFacts { serial: String::new(), not_before: at(0), not_after: at(30) };
        let schedule = Schedule::of(&facts, at(20), &mut fastrand::Rng::with_seed(1));
        let (second, now) = (Duration::from_secs(1), Instant::now());
        assert_eq!(schedule.wait(300 * second, second, now), Duration::from_millis(2500));
        assert_eq!(schedule.wait(second, second, now), second);
        assert_eq!(schedule.wait(8 * second, second, now + 9 * second), second);
    }
}
