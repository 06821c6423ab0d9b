//! What checks have shown of one endpoint: a state machine of thresholds, small enough for one atomic.

use outrigger_model::health_check::HealthCheck;

/// Set in the packed form of what is unhealthy.
const UNHEALTHY: u32 = 1 << 31;

/// Whether an endpoint is healthy, and how many checks in a row say otherwise. The default is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::upstream) struct Vitals {
    unhealthy: bool,
    contrary: u32,
}

impl Vitals {
    pub(in crate::upstream) fn is_healthy(self) -> bool {
        !self.unhealthy
    }

    /// After one more check.
    pub(super) fn after(self, check: &HealthCheck, passed: bool) -> Self {
        if passed != self.unhealthy {
            return Self { contrary: 0, ..self };
        }
        let contrary = (self.contrary + 1).min(UNHEALTHY - 1);
        let enough = if passed { check.healthy_threshold } else { check.unhealthy_threshold };
        match contrary >= enough {
            true => Self { unhealthy: !self.unhealthy, contrary: 0 },
            false => Self { contrary, ..self },
        }
    }

    pub(in crate::upstream) fn pack(self) -> u32 {
        self.contrary | if self.unhealthy { UNHEALTHY } else { 0 }
    }

    pub(in crate::upstream) fn unpack(packed: u32) -> Self {
        Self { unhealthy: packed & UNHEALTHY != 0, contrary: packed & !UNHEALTHY }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrigger_model::health_check::Probe;

    use super::*;

    /// `f` and `p`: a check that fails or passes; the state after each, `H` or `U`.
    #[track_caller]
    fn check(checks: &str, expected: &str) {
        let policy = HealthCheck {
            probe: Probe::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        };
        let mut vitals = Vitals::default();
        let states = checks.chars().map(|result| {
            vitals = Vitals::unpack(vitals.after(&policy, result == 'p').pack());
            if vitals.is_healthy() { 'H' } else { 'U' }
        });
        assert_eq!(states.collect::<String>(), expected, "{checks}");
    }

    #[test]
    fn so_many_in_a_row_change_the_state() {
        check("fff", "HHU");
        check("ffpffpfff", "HHHHHHHHU");
        check("fffpp", "HHUUH");
        check("fffpfpp", "HHUUUUH");
        check("fffppfff", "HHUUHHHU");
        check("fffffff", "HHUUUUU");
    }
}
