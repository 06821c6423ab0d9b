//! The figures of one run, and what several runs come to: medians, ranges, ratios.

use std::time::Duration;

use crate::load::Answered;

/// What one run of one contender came to. What the work has no figure for is `None`: bytes that nobody looks at are no
/// requests, no proxy has no cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    /// CPU time of all proxies for one request (or one connection, where these are counted), in microseconds: the key
    /// figure.
    pub(crate) cpu_us_per_request: Option<f64>,
    /// CPU time of all proxies for 10^9 bytes of bodies, in seconds: the key figure where bytes are the work.
    pub(crate) cpu_s_per_gb: Option<f64>,
    /// Requests answered in a second.
    pub(crate) requests_per_s: Option<f64>,
    /// Bytes of bodies in a second, in 10^6.
    pub(crate) mb_per_s: f64,
    /// How long requests took.
    pub(crate) latency: Option<LatencyFigures>,
    /// Resident memory of all proxies at the end, in MiB.
    pub(crate) rss_mib: Option<f64>,
    /// How busy the proxies kept their core, in percent.
    pub(crate) proxy_core_percent: f64,
    /// How busy load and origin kept theirs, in percent: near 100, they are what limited the rate.
    pub(crate) work_core_percent: f64,
    /// What anybody else took of the two cores together, in percent of one.
    pub(crate) others_percent: f64,
}

/// How long requests took, in microseconds: that share of them at most this long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LatencyFigures {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
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
    /// CPU time that anybody else had on the two cores.
    pub(crate) others: Duration,
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
    /// Puts together what clients saw and what the kernel accounted; `None` when nothing came back.
    pub(crate) fn new(answered: &Answered, cost: &Cost) -> Option<Self> {
        if answered.requests == 0 && answered.bytes == 0 || cost.wall.is_zero() {
            return None;
        }
        // Below 2^53, so nothing is lost.
        let (requests, bytes) = (answered.requests as f64, answered.bytes as f64);
        let requests = (answered.requests > 0).then_some(requests);
        let proxied = cost.rss_kib > 0;
        let percent = |spent: Duration| 100.0 * spent.as_secs_f64() / cost.wall.as_secs_f64();
        Some(Self {
            cpu_us_per_request: requests.filter(|_| proxied).map(|n| cost.proxies.as_secs_f64() * 1e6 / n),
            cpu_s_per_gb: (proxied && answered.bytes > 0).then(|| cost.proxies.as_secs_f64() * 1e9 / bytes),
            requests_per_s: requests.map(|n| n / answered.seconds),
            mb_per_s: bytes / 1e6 / answered.seconds,
            latency: requests.map(|_| LatencyFigures {
                p50_us: answered.p50_us,
                p99_us: answered.p99_us,
                p999_us: answered.p999_us,
            }),
            rss_mib: proxied.then_some(cost.rss_kib as f64 / 1024.0),
            proxy_core_percent: percent(cost.proxies),
            work_core_percent: percent(cost.work),
            others_percent: percent(cost.others),
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

    const ANSWERED: Answered = Answered {
        requests: 200_000,
        bytes: 2_000_000_000,
        seconds: 4.0,
        p50_us: 900.0,
        p99_us: 2000.0,
        p999_us: 2500.0,
    };
    const COST: Cost = Cost {
        wall: Duration::from_secs(4),
        proxies: Duration::from_secs(3),
        work: Duration::from_secs(4),
        others: Duration::from_secs(1),
        rss_kib: 20 * 1024,
    };

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
    fn cost_is_shared_by_the_requests_and_by_the_bytes() {
        let figures = Figures::new(&ANSWERED, &COST).unwrap();
        assert_eq!((figures.cpu_us_per_request, figures.cpu_s_per_gb), (Some(15.0), Some(1.5)));
        assert_eq!((figures.requests_per_s, figures.mb_per_s), (Some(50_000.0), 500.0));
        assert_eq!((figures.proxy_core_percent, figures.work_core_percent), (75.0, 100.0));
        assert_eq!((figures.others_percent, figures.rss_mib), (25.0, Some(20.0)));
        assert_eq!(Figures::new(&Answered { requests: 0, bytes: 0, ..ANSWERED }, &COST), None);
    }

    #[test]
    fn bytes_are_no_requests_and_no_proxy_costs_nothing() {
        let bytes = Figures::new(&Answered { requests: 0, ..ANSWERED }, &COST).unwrap();
        assert_eq!((bytes.cpu_us_per_request, bytes.requests_per_s, bytes.latency), (None, None, None));
        assert_eq!(bytes.cpu_s_per_gb, Some(1.5));
        let direct = Cost { proxies: Duration::ZERO, rss_kib: 0, ..COST };
        let direct = Figures::new(&ANSWERED, &direct).unwrap();
        assert_eq!((direct.cpu_us_per_request, direct.cpu_s_per_gb, direct.rss_mib), (None, None, None));
        assert!(direct.latency.is_some());
    }
}
