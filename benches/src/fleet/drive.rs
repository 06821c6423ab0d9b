//! The fleet as a process: all simulated proxies on one thread, and the changes whose way to them it measures. The clock
//! that a change starts and the one that its last acknowledgement stops are the same.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use outrigger_control_plane::ca::store::Store;
use outrigger_control_plane::token::{Caller, TokenKeys};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::mesh::{File, Mesh};
use super::proxy::{Event, News, Proxy};
use super::{Percentiles, SPACING};
use crate::latencies::Latencies;

/// How long the control plane may take until every proxy has everything.
pub(super) const SYNC_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take until a change has reached everybody.
pub(super) const CONVERGE_WITHIN: Duration = Duration::from_secs(20);
/// How long the control plane is left alone before the first change, so that what came before is not counted.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// How long the tokens of the proxies are good for.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// What the process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    mesh: Mesh,
    /// How many changes are made
    #[arg(long)]
    changes: u16,
    /// The discovery port of the control plane
    #[arg(long)]
    xds: SocketAddr,
    /// The data directory of the control plane, whose key signs tokens
    #[arg(long)]
    data: PathBuf,
    /// The directory of the control plane's YAML
    #[arg(long)]
    config: PathBuf,
}

/// What it says on standard output, a line of JSON each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Said {
    /// Every proxy has everything; that took so long from the first connection on.
    Synced { seconds: f64 },
    /// The first change comes now.
    Begin,
    /// All changes have been made, and everybody has acknowledged each.
    Converged(Percentiles),
}

/// The fleet while it runs.
struct Fleet {
    mesh: Mesh,
    config: PathBuf,
    proxies: JoinSet<Result<()>>,
    news: mpsc::Receiver<News>,
}

/// Plays the fleet.
pub(crate) async fn drive(args: Args) -> Result<()> {
    let started = Instant::now();
    let mut fleet = Fleet::launch(&args)?;
    fleet.all(Event::Synced, SYNC_WITHIN).await?;
    say(&Said::Synced { seconds: started.elapsed().as_secs_f64() })?;
    fleet.quiet(SETTLE).await?;
    say(&Said::Begin)?;
    let mut latencies = Latencies::new();
    for change in 1..=args.changes {
        let next = Instant::now() + SPACING;
        let changed = fleet.change(change)?;
        for news in fleet.all(Event::Acknowledged(change), CONVERGE_WITHIN).await? {
            latencies.record(news.at.saturating_duration_since(changed));
        }
        fleet.quiet(next.saturating_duration_since(Instant::now())).await?;
    }
    say(&Said::Converged(Percentiles::of(&latencies)))
}

impl Fleet {
    fn launch(args: &Args) -> Result<Self> {
        let keys = TokenKeys::open(&Store::open(&args.data)?)?;
        let mut proxies = JoinSet::new();
        let (sender, news) = mpsc::channel(args.mesh.proxies.max(1));
        for number in 0..args.mesh.proxies {
            let home = args.mesh.home(number);
            let caller =
                Caller { namespace: home.namespace.clone(), service_account: home.service_account.clone() };
            let token = keys.issue(&caller, TOKEN_LIFE, SystemTime::now())?;
            let proxy = Proxy { number, home, token, destinations: args.mesh.destinations(number) };
            proxies.spawn(proxy.run(format!("http://{}", args.xds), sender.clone()));
        }
        Ok(Self { mesh: args.mesh, config: args.config.clone(), proxies, news })
    }

    /// Moves one endpoint of the hot Service, the way a careful writer does: the file is whole at every moment. Gives
    /// the moment at which it was so.
    fn change(&self, change: u16) -> Result<Instant> {
        let file = self.mesh.changed(change);
        let hidden = self.config.join(format!(".{}.new", file.name));
        let whole = self.config.join(&file.name);
        fs::write(&hidden, &file.text).with_context(|| format!("cannot write {}", hidden.display()))?;
        let at = Instant::now();
        fs::rename(&hidden, &whole).with_context(|| format!("cannot replace {}", whole.display()))?;
        Ok(at)
    }

    /// Waits until every proxy has said so, each once.
    async fn all(&mut self, event: Event, within: Duration) -> Result<Vec<News>> {
        let deadline = Instant::now() + within;
        let (mut said, mut heard) = (BTreeSet::new(), Vec::with_capacity(self.mesh.proxies));
        while said.len() < self.mesh.proxies {
            let news = tokio::select! {
                news = self.news.recv() => news.context("no proxy is left")?,
                ended = self.proxies.join_next() => return Err(why_ended(ended)),
                () = sleep_until(deadline) => {
                    bail!("{} of {} proxies said {event:?} within {within:?}", said.len(), self.mesh.proxies)
                }
            };
            if news.event == event && said.insert(news.proxy) {
                heard.push(news);
            }
        }
        Ok(heard)
    }

    /// Lets time pass. What proxies say meanwhile is dropped; that one ends is an error as ever.
    async fn quiet(&mut self, time: Duration) -> Result<()> {
        let listening = async {
            loop {
                tokio::select! {
                    news = self.news.recv() => { news.context("no proxy is left")?; }
                    ended = self.proxies.join_next() => return Err(why_ended(ended)),
                }
            }
        };
        timeout(time, listening).await.unwrap_or(Ok(()))
    }
}

/// Writes the files of the mesh.
pub(super) fn write_all(mesh: Mesh, config: &Path) -> Result<()> {
    fs::create_dir(config).with_context(|| format!("cannot make {}", config.display()))?;
    for File { name, text } in mesh.files() {
        let path = config.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn why_ended(ended: Option<Result<Result<()>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow!("a simulated proxy broke: {error}"),
        Some(Ok(Ok(()))) | None => anyhow!("a simulated proxy ended"),
    }
}

fn say(said: &Said) -> Result<()> {
    println!("{}", serde_json::to_string(said)?);
    Ok(())
}
