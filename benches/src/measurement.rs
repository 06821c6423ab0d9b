//! The whole measurement: every scenario of the plan with the instrument that its work needs, in the order of the report.

use anyhow::Result;

use crate::fleet::{self, FleetPlan};
use crate::memory;
use crate::rounds::{self, Plan};
use crate::scenario::Work;
use crate::sheet::{Sheet, Turns};
use crate::site::Site;

/// Measures everything that is planned. What fails is void and said in the report; the rest is measured nevertheless.
pub(crate) async fn run(plan: &Plan, site: &Site) -> Result<Sheet> {
    let mut turns = Vec::new();
    for &scenario in &plan.scenarios {
        let alone = Plan { scenarios: vec![scenario], ..plan.clone() };
        match scenario.work() {
            Work::ControlPlane { proxies, services } => {
                let outcome = fleet::run(&fleet_plan(plan, proxies, services), site).await;
                turns.push(Turns::of_fleet(outcome.map_err(|error| format!("{error:#}"))));
            }
            Work::Hold { .. } | Work::Mesh { .. } => {
                turns.extend(memory::run(&alone, site).await?.iter().map(Turns::of_memory));
            }
            Work::Closed { .. } | Work::Open { .. } | Work::Bulk { .. } | Work::Handshakes { .. } => {
                turns.extend(rounds::run(&alone, site).await?.iter().map(Turns::of_rounds));
            }
        }
    }
    Ok(Sheet::new(turns))
}

fn fleet_plan(plan: &Plan, proxies: usize, services: usize) -> FleetPlan {
    if plan.measured < Plan::full().measured {
        FleetPlan::quick(proxies, services)
    } else {
        FleetPlan::full(proxies, services)
    }
}
