//! The report: a table for each scenario, in Markdown that reads as well on a terminal.

use comfy_table::{CellAlignment, Table, presets};

use crate::contender::Contender;
use crate::figures::{Figures, Spread, ratios};
use crate::rounds::{Outcome, Plan};
use crate::scenario::{Path, Scenario};

/// A column of a table: its title, its figure, and how many decimals make sense.
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    decimals: usize,
}

const KEY: Column =
    Column { title: "CPU us/request", figure: |figures| figures.cpu_us_per_request, decimals: 1 };
const OTHERS: [Column; 6] = [
    Column { title: "requests/s", figure: |figures| figures.requests_per_s, decimals: 0 },
    Column { title: "p50 us", figure: |figures| figures.latency.map(|l| l.p50_us), decimals: 0 },
    Column { title: "p99 us", figure: |figures| figures.latency.map(|l| l.p99_us), decimals: 0 },
    Column { title: "RSS MiB", figure: |figures| figures.rss_mib, decimals: 1 },
    Column { title: "proxies' core %", figure: |figures| Some(figures.proxy_core_percent), decimals: 0 },
    Column { title: "load's core %", figure: |figures| Some(figures.work_core_percent), decimals: 0 },
];
const RATIO_DECIMALS: usize = 2;

/// The whole report. `machine` is what it was made on.
pub(crate) fn markdown(plan: &Plan, machine: &[String], outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "# Side by side measurements\n\nMedian (range) of {} interleaved rounds of {:?}, each after {:?} of warm-up. CPU us/request is \
         the CPU time\nof all proxy processes, all threads, as the kernel accounts it, shared by the requests answered; \
         \"x relay\" is the\nmedian of its ratios to the byte relay of the same round.\n\n",
        plan.rounds, plan.measured, plan.warmup,
    );
    text.extend(machine.iter().map(|line| format!("- {line}\n")));
    for &scenario in &plan.scenarios {
        let of_scenario: Vec<&Outcome> =
            outcomes.iter().filter(|outcome| outcome.scenario == scenario).collect();
        text.push_str(&section(scenario, &of_scenario));
    }
    text
}

fn section(scenario: Scenario, outcomes: &[&Outcome]) -> String {
    let relay = match scenario.path() {
        Path::OneHop => "The byte relay is one process that copies between connections.",
        Path::Pair => {
            "The byte relay is two processes that copy between connections, with the mesh's mutual TLS between them."
        }
    };
    let mut text = format!("\n## {scenario}: {}\n\n{relay}\n\n{}\n", scenario.title(), table(outcomes));
    for outcome in outcomes {
        for why in outcome.voids() {
            text.push_str(&format!(
                "\nA void run of {}: {}\n",
                outcome.contender,
                why.replace('\n', "\n    ")
            ));
        }
    }
    text
}

fn table(outcomes: &[&Outcome]) -> String {
    let floor: Vec<_> = outcomes
        .iter()
        .find(|outcome| outcome.contender == Contender::Floor)
        .map(|outcome| key_figures(outcome))
        .unwrap_or_default();
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let titles = OTHERS.iter().map(|column| column.title);
    table.set_header(["", KEY.title, "x relay"].into_iter().chain(titles).chain(["valid runs"]));
    for outcome in outcomes {
        let ratios = Spread::of(ratios(&key_figures(outcome), &floor));
        let mut row = vec![outcome.contender.to_string(), cell(&KEY, outcome), show(ratios, RATIO_DECIMALS)];
        row.extend(OTHERS.iter().map(|column| cell(column, outcome)));
        row.push(format!("{} of {}", outcome.figures().count(), outcome.rounds.len()));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn key_figures(outcome: &Outcome) -> Vec<Option<f64>> {
    outcome.rounds.iter().map(|round| round.as_ref().ok().and_then(KEY.figure)).collect()
}

fn cell(column: &Column, outcome: &Outcome) -> String {
    show(Spread::of(outcome.figures().filter_map(column.figure)), column.decimals)
}

fn show(spread: Option<Spread>, decimals: usize) -> String {
    let Some(Spread { median, low, high }) = spread else { return "-".to_owned() };
    let (low, high) = (format!("{low:.decimals$}"), format!("{high:.decimals$}"));
    if low == high { low } else { format!("{median:.decimals$} ({low}-{high})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::LatencyFigures;

    fn figures(cpu_us_per_request: f64) -> Figures {
        Figures {
            cpu_us_per_request: Some(cpu_us_per_request),
            cpu_s_per_gb: Some(cpu_us_per_request / 1.024),
            requests_per_s: Some(40_000.4),
            mb_per_s: 41.0,
            latency: Some(LatencyFigures { p50_us: 1500.0, p99_us: 3000.0, p999_us: 3500.0 }),
            rss_mib: Some(12.34),
            proxy_core_percent: 98.0,
            work_core_percent: 71.0,
            others_percent: 3.0,
        }
    }

    fn outcome(contender: Contender, rounds: Vec<Result<Figures, String>>) -> Outcome {
        Outcome { scenario: Scenario::S1, contender, rounds }
    }

    #[test]
    fn a_table_has_medians_ranges_ratios_and_says_what_was_void() {
        let floor = vec![Ok(figures(10.0)), Ok(figures(8.0)), Ok(figures(12.0))];
        let ours = vec![Ok(figures(15.0)), Err("64 of 64 connections failed".to_owned()), Ok(figures(30.0))];
        let outcomes = [outcome(Contender::Floor, floor), outcome(Contender::Outrigger, ours)];
        let plan = Plan { scenarios: vec![Scenario::S1], rounds: 3, ..Plan::quick() };
        let text = markdown(&plan, &["a machine".to_owned()], &outcomes);
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap();
            line.split('|')
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let others = ["40000", "1500", "3000", "12.3"];
        assert_eq!(row("byte relay")[1..3], ["10.0 (8.0-12.0)", "1.00"]);
        assert_eq!(row("Outrigger")[1..3], ["22.5 (15.0-30.0)", "2.00 (1.50-2.50)"]);
        assert_eq!(row("Outrigger")[3..7], others);
        assert_eq!(row("Outrigger")[9], "2 of 3");
        assert!(text.contains("- a machine\n"), "{text}");
        assert!(text.contains("A void run of Outrigger: 64 of 64 connections failed"), "{text}");
    }

    #[test]
    fn a_contender_without_a_valid_run_has_no_figures() {
        let outcomes = [outcome(Contender::Outrigger, vec![Err("it did not start".to_owned())])];
        let plan = Plan { scenarios: vec![Scenario::S1], ..Plan::quick() };
        let text = markdown(&plan, &[], &outcomes);
        assert!(text.contains("0 of 1") && text.contains("it did not start"), "{text}");
    }
}
