//! The figures of one run, and what several runs come to: medians, ranges, ratios.

use std::time::Duration;

use crate::load::Answered;

/// What one run of one contender came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    /// CPU time of all proxies for one request, in microseconds: the key figure.
    pub(crate) cpu_us_per_request: f64,
    /// Requests answered in a second.
    pub(crate) requests_per_s: f64,
    /// Half of the requests took at most this long, in microseconds.
    pub(crate) p50_us: f64,
    /// 99 of 100 requests took at most this long, in microseconds.
    pub(crate) p99_us: f64,
    /// Resident memory of all proxies at the end, in MiB.
    pub(crate) rss_mib: f64,
    /// How busy the proxies kept their core, in percent.
    pub(crate) proxy_core_percent: f64,
    /// How busy load and origin kept theirs, in percent: near 100, they are what limited the rate.
    pub(crate) work_core_percent: f64,
}

/// What the kernel accounted during one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Time between the readings.
    pub(crate) wall: Duration,
    /// CPU time of all proxies.
    pub(crate) proxies: Duration,
    /// CPU time of load and origin.
    pub(crate) work: Duration,
    /// Resident memory of all proxies at the end, in KiB.
    pub(crate) rss_kib: u64,
}

/// The middle and the ends of several figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Figures {
    /// Puts together what clients saw and what the kernel accounted; `None` when nothing was answered.
    pub(crate) fn new(answered: &Answered, cost: &Cost) -> Option<Self> {
        if answered.requests == 0 || cost.wall.is_zero() {
            return None;
        }
        // Below 2^53, so nothing is lost.
        let requests = answered.requests as f64;
        let percent = |spent: Duration| 100.0 * spent.as_secs_f64() / cost.wall.as_secs_f64();
        Some(Self {
            cpu_us_per_request: cost.proxies.as_secs_f64() * 1e6 / requests,
            requests_per_s: requests / answered.seconds,
            p50_us: answered.p50_us,
            p99_us: answered.p99_us,
            rss_mib: cost.rss_kib as f64 / 1024.0,
            proxy_core_percent: percent(cost.proxies),
            work_core_percent: percent(cost.work),
        })
    }
}

impl Spread {
    /// The spread of some figures; `None` when there is none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, low, high })
    }
}

/// The ratios of two contenders, round by round: only what ran side by side is compared.
pub(crate) fn ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let both = ours.iter().zip(theirs);
    both.filter_map(|(ours, theirs)| Some((*ours)? / theirs.filter(|theirs| *theirs > 0.0)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(figures.iter().copied()).map(|Spread { median, low, high }| (median, low, high))
    }

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(spread(&[9.0, 1.0, 5.0]), Some((5.0, 1.0, 9.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]), Some((3.0, 1.0, 100.0)));
    }

    #[test]
    fn ratios_are_of_rounds_that_both_finished() {
        let ours = [Some(15.0), None, Some(30.0), Some(8.0)];
        let theirs = [Some(10.0), Some(1.0), None, Some(0.0)];
        assert_eq!(ratios(&ours, &theirs), [1.5]);
    }

    #[test]
    fn cost_is_shared_by_the_requests() {
        let answered = Answered { requests: 200_000, seconds: 4.0, p50_us: 900.0, p99_us: 2000.0 };
        let cost = Cost {
            wall: Duration::from_secs(4),
            proxies: Duration::from_secs(3),
            work: Duration::from_secs(4),
            rss_kib: 20 * 1024,
        };
        let figures = Figures::new(&answered, &cost).unwrap();
        assert_eq!((figures.cpu_us_per_request, figures.requests_per_s), (15.0, 50_000.0));
        assert_eq!((figures.proxy_core_percent, figures.work_core_percent), (75.0, 100.0));
        assert_eq!(figures.rss_mib, 20.0);
        assert_eq!(Figures::new(&Answered { requests: 0, ..answered }, &cost), None);
    }
}
