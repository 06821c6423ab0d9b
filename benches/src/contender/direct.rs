//! Starts nobody between load and origin: what a fixed rate takes without a proxy.

use anyhow::Result;
use tempfile::TempDir;

use super::Running;
use super::addresses::ANY;
use crate::origin;
use crate::scenario::Scenario;
use crate::site::Site;

pub(super) async fn start(scenario: Scenario, site: &Site, dir: TempDir) -> Result<Running> {
    let origin = origin::start(&[ANY], scenario.work(), (site, dir.path())).await?;
    let entry = origin.address("/http/0")?;
    Ok(Running { entry, host: "origin.bench", proxies: Vec::new(), origin, beside: Vec::new(), dir })
}
