//! Starts the floor: one byte relay, or two with mutual TLS between them.

use std::net::SocketAddr;

use anyhow::Result;
use tempfile::TempDir;

use super::Running;
use super::addresses::ANY;
use crate::origin;
use crate::process::{Process, Program};
use crate::scenario::{Path, Scenario};
use crate::site::Site;

pub(super) async fn start(scenario: Scenario, site: &Site, dir: TempDir) -> Result<Running> {
    let origin = origin::start(&[ANY], scenario.work(), (site, dir.path())).await?;
    let to = origin.address("/http/0")?;
    let mut proxies = Vec::new();
    match scenario.path() {
        Path::OneHop => proxies.push(relay("relay", to, &[], (site, &dir)).await?),
        Path::Pair => {
            let far = relay("far-relay", to, &["--tls", "downstream"], (site, &dir)).await?;
            let between = far.address("/listen")?;
            proxies.push(far);
            proxies.push(relay("near-relay", between, &["--tls", "upstream"], (site, &dir)).await?);
        }
    }
    let entry = proxies[proxies.len() - 1].address("/listen")?;
    Ok(Running { entry, host: "origin.bench", proxies, origin, beside: Vec::new(), dir })
}

async fn relay(
    name: &'static str,
    to: SocketAddr,
    tls: &[&str],
    (site, dir): (&Site, &TempDir),
) -> Result<Process> {
    let (listen, to) = (ANY.to_string(), to.to_string());
    let mut args = ["relay", "--listen", &listen, "--to", &to].map(str::to_owned).to_vec();
    if !tls.is_empty() {
        args.extend(tls.iter().map(|arg| (*arg).to_owned()));
        args.extend(["--data".to_owned(), dir.path().join("data").display().to_string()]);
    }
    let program = Program { name, path: &site.benches, args, core: site.cores.proxies };
    Process::start(program, dir.path()).await
}
