//! What is measured, by name: every figure that tables, charts and targets speak of, and which of them a scenario is
//! judged by. It must not know where figures come from.

use crate::scenario::Scenario;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// CPU time of all proxies for one request, in microseconds.
    CpuPerRequest,
    /// CPU time of all proxies for 10^9 bytes of bodies, in seconds.
    CpuPerGb,
    /// What the middle request took longer than with no proxy in the same round, in microseconds.
    AddedP50,
    /// Requests answered in a second.
    Requests,
    /// Bytes in a second, in 10^6.
    Megabytes,
    /// Half of the requests took at most this long, in microseconds.
    P50,
    /// 99 of 100 requests took at most this long, in microseconds.
    P99,
    /// 999 of 1,000 requests took at most this long, in microseconds.
    P999,
    /// Resident memory of all proxies at the end of a run, in MiB.
    Rss,
    /// How busy the proxies kept their core, in percent.
    ProxyCore,
    /// How busy load and origin kept theirs, in percent.
    WorkCore,
    /// What anybody else took of the two cores together, in percent of one.
    Others,
    /// Resident memory of a proxy that has answered one request, in MiB.
    IdleMib,
    /// Resident memory of a proxy with all its idle connections, in MiB.
    ConnectedMib,
    /// What one idle connection adds, in KiB.
    KibPerConnection,
    /// Resident memory of a proxy in a large mesh, in MiB.
    MeshMib,
    /// Of the memory of an idle proxy or one in a large mesh: its share of pages that several processes have, in MiB.
    PssMib,
    /// Of the same: what is no file's, in MiB.
    AnonymousMib,
    /// Half of the proxies had acknowledged a change after this long, in milliseconds.
    ConvergeP50,
    /// 99 of 100 proxies had acknowledged a change after this long, in milliseconds.
    ConvergeP99,
    /// The last proxy had acknowledged the slowest change after this long, in milliseconds.
    ConvergeMax,
    /// CPU time of the control plane for one change, in seconds.
    CpuPerChange,
    /// Resident memory of the control plane after the last change, in MiB.
    ControlPlaneMib,
    /// The most resident memory the control plane ever had, in MiB: what a memory limit sees.
    ControlPlanePeakMib,
    /// From the start of the control plane until it was ready, in seconds.
    StartSeconds,
    /// Until every proxy had everything it asked for when all came at once, in seconds.
    FirstSyncSeconds,
}

use Measure::{
    AddedP50, AnonymousMib, ConnectedMib, ControlPlaneMib, ControlPlanePeakMib, ConvergeMax, ConvergeP50,
    ConvergeP99, CpuPerChange, CpuPerGb, CpuPerRequest, FirstSyncSeconds, IdleMib, KibPerConnection,
    Megabytes, MeshMib, Others, P50, P99, P999, ProxyCore, PssMib, Requests, Rss, StartSeconds, WorkCore,
};

impl Measure {
    /// What a scenario is judged by, and its chart shows. The first is the one that matters most.
    pub(crate) fn keys(scenario: Scenario) -> &'static [Self] {
        match scenario {
            Scenario::S2 | Scenario::S6 | Scenario::S6t => &[CpuPerGb],
            Scenario::S4Rate | Scenario::S8 => &[CpuPerRequest, AddedP50],
            Scenario::S7 => &[IdleMib, KibPerConnection],
            Scenario::S7x => &[MeshMib],
            Scenario::S9 => &[ConvergeP99, ControlPlanePeakMib, CpuPerChange],
            Scenario::S1
            | Scenario::S3
            | Scenario::S4
            | Scenario::S4g
            | Scenario::S5
            | Scenario::S5Pair
            | Scenario::S5t
            | Scenario::S10 => &[CpuPerRequest],
        }
    }

    /// What else its table has.
    pub(crate) fn others(scenario: Scenario) -> &'static [Self] {
        match scenario {
            Scenario::S2 => &[CpuPerRequest, Requests, Megabytes, P50, P99, P999, Rss],
            Scenario::S6 | Scenario::S6t => &[Megabytes, Rss],
            Scenario::S7 => &[ConnectedMib, PssMib, AnonymousMib],
            Scenario::S7x => &[PssMib, AnonymousMib],
            Scenario::S9 => &[ConvergeP50, ConvergeMax, ControlPlaneMib, StartSeconds, FirstSyncSeconds],
            _ => &[Requests, P50, P99, P999, Rss],
        }
    }

    /// Its name and unit, as the head of a column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            CpuPerRequest => "CPU µs/request",
            CpuPerGb => "CPU s/GB",
            AddedP50 => "p50 added, µs",
            Requests => "requests/s",
            Megabytes => "MB/s",
            P50 => "p50 µs",
            P99 => "p99 µs",
            P999 => "p99.9 µs",
            Rss => "RSS MiB",
            ProxyCore => "proxies' core %",
            WorkCore => "load's core %",
            Others => "others %",
            IdleMib => "RSS idle, MiB",
            ConnectedMib => "RSS with connections, MiB",
            KibPerConnection => "KiB/connection",
            MeshMib => "RSS in a large mesh, MiB",
            PssMib => "of it PSS, MiB",
            AnonymousMib => "of it anonymous, MiB",
            ConvergeP50 => "acknowledged p50, ms",
            ConvergeP99 => "acknowledged p99, ms",
            ConvergeMax => "acknowledged by all, ms",
            CpuPerChange => "CPU s/change",
            ControlPlaneMib => "RSS MiB",
            ControlPlanePeakMib => "peak RSS MiB",
            StartSeconds => "ready after s",
            FirstSyncSeconds => "first sync s",
        }
    }

    /// How many decimals make sense for a figure of about this size: three digits that count, none for percentages.
    pub(crate) fn decimals(self, size: f64) -> usize {
        let size = size.abs();
        match self {
            ProxyCore | WorkCore | Others | Requests => 0,
            _ if size >= 100.0 => 0,
            _ if size >= 10.0 => 1,
            _ if size >= 1.0 || size == 0.0 => 2,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_judged_by_something_and_says_nothing_twice() {
        for scenario in Scenario::ALL {
            let mut all = [Measure::keys(scenario), Measure::others(scenario)].concat();
            assert!(!Measure::keys(scenario).is_empty(), "{scenario}");
            let said = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), said, "{scenario}");
        }
    }

    #[test]
    fn three_digits_count() {
        for (size, decimals) in
            [(1234.5, 0), (100.0, 0), (99.9, 1), (9.31, 2), (0.41, 3), (0.0, 2), (-12.0, 1)]
        {
            assert_eq!(CpuPerRequest.decimals(size), decimals, "{size}");
        }
        assert_eq!(ProxyCore.decimals(9.31), 0);
    }
}
