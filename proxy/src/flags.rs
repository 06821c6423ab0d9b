//! What a person types after `outrigger-proxy` (contracts, section 6).
//!
//! `run` is the default subcommand: without one the flags are its flags. Every flag has an environment variable
//! `OUTRIGGER_<NAME>`; repeatable ones take a comma-separated list there.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use outrigger_base::flags::{ListenAddr, parse_duration, usage_error};
use outrigger_base::lifecycle::exit::ExitError;
use outrigger_base::telemetry::logs::{DEFAULT_FILTER, LogFormat};
use outrigger_model::endpoint::Locality;
use outrigger_model::name::Destination;

use crate::application::metrics::MetricsUrl;
use crate::application::probes::Probes;
use crate::redirect::RedirectArgs;
use crate::state::DEFAULT_MAX_AGE;
use crate::wait::WaitArgs;

/// The most worker threads.
pub const MAX_WORKERS: usize = 256;

const EXAMPLE: &str = "Example: outrigger-proxy run --control-plane http://127.0.0.1:15010 --namespace shop \
    --service-account web --workload web-1 --token-file web.token --inbound 127.0.1.1:9080=127.0.0.1:18080 \
    --outbound 127.0.1.1:9001=reviews.shop:9080";

/// The sidecar proxy of the Outrigger service mesh.
#[derive(Debug, Parser)]
#[command(name = "outrigger-proxy", version, after_help = EXAMPLE)]
pub struct ProxyCli {
    /// What to do.
    #[command(subcommand)]
    pub command: ProxyCommand,
}

/// What the proxy program does.
#[derive(Debug, Subcommand)]
pub enum ProxyCommand {
    /// Carry the traffic of a workload (the default)
    #[command(after_help = EXAMPLE)]
    Run(Box<RunArgs>),
    /// Program the packet redirection of a pod (its init step)
    Redirect(RedirectArgs),
    /// Wait until the proxy of this pod is ready, or for a time: for hooks of the pod
    Wait(WaitArgs),
}

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Where the control plane listens: http:// (loopback and tests) or https:// with --trust-bundle
    #[arg(long, value_name = "URL", env = "OUTRIGGER_CONTROL_PLANE", value_parser = parse_url)]
    pub control_plane: http::Uri,
    /// The namespace of the workload
    #[arg(long, env = "OUTRIGGER_NAMESPACE", value_parser = parse_name)]
    pub namespace: String,
    /// The service account of the workload
    #[arg(long, env = "OUTRIGGER_SERVICE_ACCOUNT", default_value = "default", value_parser = parse_name)]
    pub service_account: String,
    /// The name of the workload in metrics and status
    #[arg(long, env = "OUTRIGGER_WORKLOAD", value_parser = parse_name)]
    pub workload: String,
    /// The token that proves who the workload is; without it the workload has no identity and speaks plaintext only
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Where the identity comes from: control-plane, by --token-file, or spiffe-workload-api:unix:///PATH
    #[arg(long, value_name = "SOURCE", env = "OUTRIGGER_IDENTITY", default_value = "control-plane")]
    pub identity: IdentitySource,
    /// PEM certificates to trust for an https:// control plane and as the roots of the mesh
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_TRUST_BUNDLE")]
    pub trust_bundle: Option<PathBuf>,
    /// Where others reach the workload, and where the application listens: listen=application
    #[arg(long, value_name = "LISTEN=APPLICATION", env = "OUTRIGGER_INBOUND", value_delimiter = ',')]
    pub inbound: Vec<InboundFlag>,
    /// Where the application dials, and what it reaches there: listen=service:port or listen=ip:port
    #[arg(long, value_name = "LISTEN=DESTINATION", env = "OUTRIGGER_OUTBOUND", value_delimiter = ',')]
    pub outbound: Vec<OutboundFlag>,
    /// The port that captured inbound connections are redirected to; used without --inbound and --outbound
    #[arg(long, value_name = "PORT", env = "OUTRIGGER_INBOUND_PORT", default_value_t = 15006)]
    pub inbound_port: u16,
    /// The port that captured outbound connections are redirected to; used without --inbound and --outbound
    #[arg(long, value_name = "PORT", env = "OUTRIGGER_OUTBOUND_PORT", default_value_t = 15001)]
    pub outbound_port: u16,
    /// Worker threads; by default as many as the CPUs this process may use
    #[arg(long, value_name = "N", env = "OUTRIGGER_WORKERS", value_parser = parse_workers)]
    pub workers: Option<NonZeroUsize>,
    /// The admin server, addr:port or off; it has no protection, keep it on loopback
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_ADMIN", default_value = "127.0.0.1:15000")]
    pub admin: ListenAddr,
    /// The metrics server, addr:port or off
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_METRICS", default_value = "0.0.0.0:15020")]
    pub metrics: ListenAddr,
    /// The health server, addr:port or off
    #[arg(long, value_name = "ADDR", env = "OUTRIGGER_HEALTH", default_value = "0.0.0.0:15021")]
    pub health: ListenAddr,
    /// How long open connections may take to finish when the proxy ends
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_DRAIN_TIMEOUT", default_value = "30s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// Where the last good configuration is kept for the next start
    #[arg(long, value_name = "DIR", env = "OUTRIGGER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// How old what is kept in --state-dir may be when it is used
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_STATE_MAX_AGE", default_value = DEFAULT_MAX_AGE, value_parser = parse_duration)]
    pub state_max_age: Duration,
    /// Keep the certificate and its key in --state-dir as well; only for a directory in memory, or one that nobody else reads
    #[arg(long, env = "OUTRIGGER_STATE_IDENTITY", value_parser = FalseyValueParser::new(), requires = "state_dir")]
    pub state_identity: bool,
    /// Not ready while the configuration is older than this, because the control plane is away; by default however old it is
    #[arg(long, value_name = "TIME", env = "OUTRIGGER_MAX_STALENESS", value_parser = parse_duration)]
    pub max_staleness: Option<Duration>,
    /// Where the workload runs: region/zone
    #[arg(long, value_name = "REGION/ZONE", env = "OUTRIGGER_LOCALITY", value_parser = parse_locality)]
    pub locality: Option<Locality>,
    /// A label of the workload: key=value
    #[arg(long, value_name = "KEY=VALUE", env = "OUTRIGGER_LABEL", value_delimiter = ',')]
    pub label: Vec<LabelFlag>,
    /// The address of the workload, where others reach it; by default found out
    #[arg(long, value_name = "IP", env = "OUTRIGGER_ADDRESS")]
    pub address: Option<IpAddr>,
    /// Where the application shows its own metrics, which are added to ours
    #[arg(long, value_name = "URL", env = "OUTRIGGER_APPLICATION_METRICS")]
    pub application_metrics: Option<MetricsUrl>,
    /// Probes of the application that /app-health/CONTAINER/PROBE of the health server answers, as JSON
    #[arg(long, value_name = "JSON", env = "OUTRIGGER_PROBES")]
    pub probes: Option<Probes>,
    /// Written when the proxy is ready, as JSON
    #[arg(long, value_name = "FILE", env = "OUTRIGGER_READY_FILE")]
    pub ready_file: Option<PathBuf>,
    /// An open descriptor that gets the same line
    #[arg(long, value_name = "N", env = "OUTRIGGER_READY_FD")]
    pub ready_fd: Option<i32>,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "OUTRIGGER_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or pairs target=level
    #[arg(long, value_name = "FILTER", env = "OUTRIGGER_LOG_LEVEL", default_value = DEFAULT_FILTER)]
    pub log_level: String,
}

/// `--identity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The control plane's authority, asked with the token.
    ControlPlane,
    /// A SPIFFE Workload API at this socket.
    WorkloadApi(PathBuf),
}

/// `--inbound listen=application`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundFlag {
    /// Where others dial.
    pub listen: SocketAddr,
    /// Where the application listens.
    pub application: SocketAddr,
}

/// `--outbound listen=destination`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundFlag {
    /// Where the application dials.
    pub listen: SocketAddr,
    /// What it reaches there.
    pub destination: Destination,
}

/// `--label key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFlag {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// What a command line comes to when there is nothing to run.
#[derive(Debug)]
pub enum Unrunnable {
    /// Help or the version was asked for: print it and end well.
    Text(String),
    /// It cannot be understood.
    Usage(ExitError),
}

impl ProxyCli {
    /// Reads a command line whose first item is the program's name. A line that does not begin with a subcommand is
    /// one of `run`.
    pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, Unrunnable> {
        Self::try_parse_from(with_subcommand(line)).map_err(|error| unrunnable(&error))
    }
}

impl RunArgs {
    /// Whether the workload can prove who it is.
    pub fn has_identity(&self) -> bool {
        match self.identity {
            IdentitySource::ControlPlane => self.token_file.is_some(),
            IdentitySource::WorkloadApi(_) => true,
        }
    }
}

impl FromStr for IdentitySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "control-plane" {
            return Ok(Self::ControlPlane);
        }
        // SPIFFE Workload Endpoint, section 4: unix:///path or unix:/path.
        let socket = text.strip_prefix("spiffe-workload-api:unix:");
        let path =
            socket.map(|path| path.strip_prefix("//").unwrap_or(path)).filter(|path| path.starts_with('/'));
        let path = path.filter(|path| path.len() > 1).ok_or(
            "write control-plane, or spiffe-workload-api:unix:///PATH with the absolute path of the agent's socket",
        )?;
        Ok(Self::WorkloadApi(path.into()))
    }
}

impl FromStr for InboundFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = "write listen=application, for example 127.0.1.1:9080=127.0.0.1:18080";
        let (listen, application) = text.split_once('=').ok_or(shape)?;
        let application = address("the application's address", application)?;
        if application.port() == 0 {
            return Err(format!("the application's port is 0; {shape}"));
        }
        Ok(Self { listen: address("the address to listen on", listen)?, application })
    }
}

impl FromStr for OutboundFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = "write listen=service:port, for example 127.0.1.1:9001=reviews.shop:9080";
        let (listen, destination) = text.split_once('=').ok_or(shape)?;
        let destination = destination.parse().map_err(|error| format!("{error}; {shape}"))?;
        Ok(Self { listen: address("the address to listen on", listen)?, destination })
    }
}

impl FromStr for LabelFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = parts.ok_or("write key=value, for example app=web")?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

fn address(what: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{what}, {text:?}, is not an IP address with a port"))
}

fn parse_url(text: &str) -> Result<http::Uri, String> {
    let shape = || format!("{text:?} is not http://host:port or https://host:port");
    let url: http::Uri = text.parse().map_err(|_| shape())?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let bare = matches!(url.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/"));
    if scheme && bare && url.port().is_some() { Ok(url) } else { Err(shape()) }
}

fn parse_name(text: &str) -> Result<String, String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) {
        return Err("a name has 1 to 253 letters, digits, '.', '-' and '_'".to_owned());
    }
    Ok(text.to_owned())
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    let workers = text.parse().ok().and_then(NonZeroUsize::new).filter(|n| n.get() <= MAX_WORKERS);
    workers.ok_or_else(|| format!("the number of workers is from 1 to {MAX_WORKERS}"))
}

fn parse_locality(text: &str) -> Result<Locality, String> {
    let (region, zone) = text.split_once('/').unwrap_or((text, ""));
    if region.is_empty() || zone.contains('/') {
        return Err("write region/zone, for example eu/eu-a".to_owned());
    }
    Ok(Locality { region: region.into(), zone: zone.into() })
}

fn with_subcommand(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<OsString> = line.into_iter().collect();
    let known = ["run", "redirect", "wait", "help", "-h", "--help", "-V", "--version"];
    let first = line.get(1).map(|first| first.to_string_lossy());
    if !first.is_some_and(|first| known.contains(&&*first)) {
        line.insert(line.len().min(1), "run".into());
    }
    line
}

fn unrunnable(error: &clap::Error) -> Unrunnable {
    match usage_error(error) {
        Some(usage) => Unrunnable::Usage(usage),
        None => Unrunnable::Text(error.render().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &str = "--control-plane http://127.0.0.1:15010 --namespace shop --workload web-1";

    fn read(line: &str) -> Result<RunArgs, String> {
        let line = format!("outrigger-proxy {line}");
        match ProxyCli::read(line.split_whitespace().map(OsString::from)) {
            Ok(ProxyCli { command: ProxyCommand::Run(args) }) => Ok(*args),
            Ok(other) => Err(format!("{other:?}")),
            Err(Unrunnable::Text(text)) => Err(text),
            Err(Unrunnable::Usage(error)) => {
                assert_eq!(error.code(), 2);
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn the_line_of_the_contract_is_understood_with_and_without_run() {
        let flags = format!(
            "{NEEDED} --service-account web --token-file web.token --inbound 127.0.1.1:9080=127.0.0.1:18080 \
             --outbound 127.0.1.1:9001=reviews.shop:9080 --outbound 127.0.1.1:9002=[fd00::1]:80 --label app=web \
             --locality eu/eu-a --admin off"
        );
        for line in [flags.clone(), format!("run {flags}")] {
            let args = read(&line).unwrap();
            assert_eq!(args.inbound[0].application, "127.0.0.1:18080".parse().unwrap());
            assert_eq!(args.outbound[1].destination, "[fd00::1]:80".parse().unwrap());
            assert_eq!((args.admin, args.drain_timeout), (ListenAddr::Off, Duration::from_secs(30)));
            assert_eq!(args.locality.unwrap().zone.as_ref(), "eu-a");
        }
    }

    #[test]
    fn bad_usage_is_one_line_that_names_flag_and_fix() {
        for (line, parts) in [
            (format!("{NEEDED} --inbound 9080"), ["--inbound", "write listen=application"]),
            (format!("{NEEDED} --inbound 127.0.0.1:1=127.0.0.1:0"), ["--inbound", "port is 0"]),
            (format!("{NEEDED} --outbound 127.0.0.1:1=reviews"), ["--outbound", "the port is missing"]),
            (format!("{NEEDED} --workers 0"), ["--workers", "from 1 to"]),
            (format!("{NEEDED} --admin localhost"), ["--admin", "nor off"]),
            (format!("{NEEDED} --drain-timeout 30"), ["--drain-timeout", "30s"]),
            (NEEDED.replace("http", "ftp"), ["--control-plane", "https://host:port"]),
            (format!("{NEEDED} --label app"), ["--label", "key=value"]),
            ("--namespace shop".to_owned(), ["--control-plane", "--workload"]),
            (format!("{NEEDED} --nonsense"), ["--nonsense", "--help"]),
        ] {
            let error = read(&line).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{line}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_source_of_the_identity_is_the_control_plane_or_a_socket() {
        let of =
            |text: &str| read(&format!("{NEEDED}{text}")).map(|args| (args.has_identity(), args.identity));
        assert_eq!(of(""), Ok((false, IdentitySource::ControlPlane)));
        assert_eq!(of(" --token-file t"), Ok((true, IdentitySource::ControlPlane)));
        for socket in ["unix:///run/agent.sock", "unix:/run/agent.sock"] {
            let source = IdentitySource::WorkloadApi("/run/agent.sock".into());
            assert_eq!(of(&format!(" --identity spiffe-workload-api:{socket}")), Ok((true, source)));
        }
        for bad in ["spire", "spiffe-workload-api:tcp://127.0.0.1:1", "spiffe-workload-api:unix://agent.sock"]
        {
            let error = of(&format!(" --identity {bad}")).unwrap_err();
            assert!(error.contains("spiffe-workload-api:unix:///PATH"), "{error}");
        }
    }

    #[test]
    fn help_shows_an_example() {
        for line in ["--help", "run --help", "help"] {
            assert!(read(line).unwrap_err().contains("Example: outrigger-proxy run"), "{line}");
        }
    }
}
