//! The demo's mesh: a control plane, five workloads behind their sidecars, and a visitor's sidecar as the way in.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use outrigger_control_plane::token::Caller;
use outrigger_control_plane::token::manage::{self, Uses, Wanted};
use tempfile::TempDir;

use super::files::{self, Member, PORT};
use super::process::Process;

/// Where applications find the next one in the chain, at their sidecar.
const NEXT_PORT: u16 = 9001;

/// Blocks of loopback addresses that are tried before giving up.
const BLOCKS_TRIED: u32 = 50;

/// Tokens outlive any demo.
const TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything that runs.
pub(super) struct Mesh {
    dir: TempDir,
    xds: SocketAddr,
    http: SocketAddr,
    control_plane: Option<Process>,
    members: Vec<Running>,
    visitor: Running,
}

/// A workload and its sidecar.
pub(super) struct Running {
    pub(super) member: Member,
    application: Option<Process>,
    sidecar: Option<Process>,
}

impl Mesh {
    /// Starts everything, saying what on standard error.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let begun = Instant::now();
        let dir =
            tempfile::Builder::new().prefix("outrigger-demo-").tempdir().context("no temporary directory")?;
        let (members, visitor) = cast()?;
        write_config(dir.path(), &members)?;
        say("starting the control plane");
        let control_plane = start_control_plane(dir.path(), "127.0.0.1:0", "127.0.0.1:0").await?;
        let (xds, http) = (control_plane.address("xds")?, control_plane.address("http")?);
        say(&format!("starting {} workloads and {} sidecars", members.len(), members.len() + 1));
        let starting = members.into_iter().map(|member| start_running(dir.path(), xds, member, true));
        let members = try_join_all(starting).await?;
        let visitor = start_running(dir.path(), xds, visitor, false).await?;
        say(&format!("ready after {} ms", begun.elapsed().as_millis()));
        Ok(Self { dir, xds, http, control_plane: Some(control_plane), members, visitor })
    }

    /// Where traffic goes in.
    pub(super) fn entrance(&self) -> SocketAddr {
        SocketAddr::from((self.visitor.member.address, NEXT_PORT))
    }

    /// The directory the control plane reads.
    pub(super) fn config_dir(&self) -> PathBuf {
        config_dir(self.dir.path())
    }

    /// The control plane's HTTP address.
    pub(super) fn control_plane_http(&self) -> SocketAddr {
        self.http
    }

    /// Changes the shares of the two versions of reviews.
    pub(super) fn share(&self, v1: u32, v2: u32) -> anyhow::Result<()> {
        write_atomically(&self.config_dir().join("reviews-route.yaml"), &files::route(v1, v2))
    }

    /// A workload by name.
    pub(super) fn running(&self, name: &str) -> anyhow::Result<&Running> {
        let found = self.members.iter().find(|running| running.member.name == name);
        found.with_context(|| format!("there is no workload {name}"))
    }

    /// Addresses at which sidecars that run show something: their key in what they wrote when they were ready.
    pub(super) fn sidecars(&self, key: &str) -> Vec<(&'static str, SocketAddr)> {
        let all = self.members.iter().chain([&self.visitor]);
        all.filter_map(|running| Some((running.member.name, running.sidecar.as_ref()?.address(key).ok()?)))
            .collect()
    }

    /// Kills a workload and its sidecar at once.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let running = self.members.iter_mut().find(|running| running.member.name == name);
        let running = running.with_context(|| format!("there is no workload {name}"))?;
        for process in [running.application.take(), running.sidecar.take()].into_iter().flatten() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts a killed workload again, where it was.
    pub(super) async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let index = self.members.iter().position(|running| running.member.name == name);
        let index = index.with_context(|| format!("there is no workload {name}"))?;
        let member = self.members[index].member.clone();
        self.members[index] = start_running(self.dir.path(), self.xds, member, true).await?;
        Ok(())
    }

    /// Kills the control plane.
    pub(super) async fn kill_control_plane(&mut self) -> anyhow::Result<()> {
        match self.control_plane.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts the control plane again, where it was.
    pub(super) async fn restart_control_plane(&mut self) -> anyhow::Result<()> {
        let (xds, http) = (self.xds.to_string(), self.http.to_string());
        self.control_plane = Some(start_control_plane(self.dir.path(), &xds, &http).await?);
        Ok(())
    }

    /// Ends everything, sidecars first.
    pub(super) async fn end(&mut self) {
        let all = self.members.iter_mut().chain([&mut self.visitor]);
        let mut processes: Vec<Process> = Vec::new();
        for running in all {
            processes.extend(running.sidecar.take());
            processes.extend(running.application.take());
        }
        processes.extend(self.control_plane.take());
        futures_util::future::join_all(processes.into_iter().map(Process::end)).await;
    }
}

impl Running {
    /// Where its sidecar is dialled.
    pub(super) fn inbound(&self) -> SocketAddr {
        SocketAddr::from((self.member.address, PORT))
    }
}

/// Who takes part, on a block of loopback addresses that nobody uses.
fn cast() -> anyhow::Result<(Vec<Member>, Member)> {
    let mut seed = std::process::id();
    for _ in 0..BLOCKS_TRIED {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, b, c, _] = seed.to_be_bytes();
        let block = (b % 100 + 64, c);
        let free = |last| {
            let address = Ipv4Addr::new(127, block.0, block.1, last);
            [PORT, NEXT_PORT].into_iter().all(|port| TcpListener::bind((address, port)).is_ok())
        };
        if (1..=6).all(free) {
            return Ok(members(block));
        }
    }
    bail!(
        "no free loopback addresses: the demo needs 127.x.y.1 to 127.x.y.6 with ports {PORT} and {NEXT_PORT}"
    )
}

fn members((b, c): (u8, u8)) -> (Vec<Member>, Member) {
    let member =
        |name, app, version, last| Member { name, app, version, address: Ipv4Addr::new(127, b, c, last) };
    let shop = vec![
        member("ratings", "ratings", "v1", 5),
        member("reviews-v1-a", "reviews", "v1", 2),
        member("reviews-v1-b", "reviews", "v1", 3),
        member("reviews-v2", "reviews", "v2", 4),
        member("web", "web", "v1", 1),
    ];
    (shop, member("visitor", "visitor", "v1", 6))
}

fn config_dir(dir: &Path) -> PathBuf {
    dir.join("config")
}

fn write_config(dir: &Path, members: &[Member]) -> anyhow::Result<()> {
    let config = config_dir(dir);
    std::fs::create_dir(&config).with_context(|| format!("cannot make {}", config.display()))?;
    write_atomically(&config.join("shop.yaml"), &files::shop(members))?;
    write_atomically(&config.join("web-route.yaml"), &files::entrance())?;
    write_atomically(&config.join("reviews-route.yaml"), &files::route(90, 10))
}

fn write_atomically(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}

async fn start_control_plane(dir: &Path, xds: &str, http: &str) -> anyhow::Result<Process> {
    let config = config_dir(dir).display().to_string();
    let data = dir.join("data").display().to_string();
    let args = ["run", "--config", &config, "--data", &data, "--xds", xds, "--http", http];
    Process::start(dir, "control-plane", &args.map(str::to_owned)).await
}

async fn start_running(dir: &Path, xds: SocketAddr, member: Member, serves: bool) -> anyhow::Result<Running> {
    let application = if serves { Some(start_application(dir, &member).await?) } else { None };
    let listens = application.as_ref().map(|process| process.address("http")).transpose()?;
    let sidecar = start_sidecar(dir, xds, &member, listens).await?;
    Ok(Running { member, application, sidecar: Some(sidecar) })
}

async fn start_application(dir: &Path, member: &Member) -> anyhow::Result<Process> {
    let name = format!("{}-app", member.name);
    let mut args =
        ["demo", "workload", "--name", member.name, "--version", member.version, "--listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
    if let Some(next) = next(member.app) {
        let at = SocketAddr::from((member.address, NEXT_PORT)).to_string();
        args.extend(["--next".to_owned(), at, "--next-name".to_owned(), next.to_owned()]);
    }
    Process::start(dir, &name, &args).await
}

async fn start_sidecar(
    dir: &Path,
    xds: SocketAddr,
    member: &Member,
    application: Option<SocketAddr>,
) -> anyhow::Result<Process> {
    let token_file = dir.join(format!("{}.token", member.app));
    let caller = Caller { namespace: "shop".to_owned(), service_account: member.app.to_owned() };
    let wanted = Wanted { caller, ttl: TOKEN_TTL, uses: Uses::Any };
    let created = manage::create(&dir.join("data"), &wanted, SystemTime::now())?;
    write_atomically(&token_file, &created.token)?;
    let mut args: Vec<String> =
        ["proxy", "run", "--namespace", "shop", "--workers", "1"].map(str::to_owned).to_vec();
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    flag("--control-plane", format!("http://{xds}"));
    flag("--service-account", member.app.to_owned());
    flag("--workload", member.name.to_owned());
    flag("--token-file", token_file.display().to_string());
    flag("--label", format!("app={}", member.app));
    flag("--label", format!("version={}", member.version));
    flag("--admin", "127.0.0.1:0".to_owned());
    flag("--metrics", "127.0.0.1:0".to_owned());
    flag("--health", "off".to_owned());
    if let Some(application) = application {
        flag("--inbound", format!("{}:{PORT}={application}", member.address));
    }
    if let Some(next) = next(member.app) {
        flag("--outbound", format!("{}:{NEXT_PORT}={next}.shop:{PORT}", member.address));
    }
    Process::start(dir, member.name, &args).await
}

/// Whom an application calls.
fn next(app: &str) -> Option<&'static str> {
    match app {
        "visitor" => Some("web"),
        "web" => Some("reviews"),
        "reviews" => Some("ratings"),
        _ => None,
    }
}

/// Says on standard error what is being done.
pub(super) fn say(what: &str) {
    eprintln!("demo: {what}");
}
