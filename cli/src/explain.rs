//! `outrigger explain`: what would become of a request, and why, without a control plane and without sending it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use outrigger_control_plane::explain::{
    Answer, Backend, Explanation, Forwarded, Outcome, Question, Transport, explain,
};
use outrigger_control_plane::translate::Client;
use outrigger_control_plane::world::World;

use crate::offline;
use crate::output::{self, Format};

/// Says which route, rule and backends a request would get, how it would be treated, or exactly why it would be refused.
#[derive(clap::Args)]
#[command(
    after_help = "Example: outrigger explain -f deploy/examples/bookstore --from shop/web \"GET http://reviews.shop:9080/api/x\" -H x-user:beta"
)]
pub(crate) struct Args {
    /// Directories, files, or - for standard input; read together, as one mesh.
    #[arg(short, long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Who sends it: the namespace and the name of a workload.
    #[arg(long, default_value = "default/client", value_name = "NAMESPACE/NAME")]
    from: String,
    /// The method and the address that is dialled, as one argument; GET unless written.
    #[arg(value_name = "METHOD URL")]
    request: String,
    /// A header field of the request, name:value; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    headers: Vec<String>,
    /// The name that a TLS client asks for (SNI), with an https:// URL; the host of the URL unless written.
    #[arg(long, value_name = "HOST")]
    sni: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Exits with 0 when the request would be sent on or redirected, with 1 when it would not, with 2 on bad usage.
pub(crate) fn main(args: &Args) -> ExitCode {
    match answer(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("outrigger: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn answer(args: &Args) -> anyhow::Result<bool> {
    let question = question(args)?;
    let read = offline::read(&args.files)?;
    for problem in &read.problems {
        eprintln!("{problem}");
    }
    let explanation = explain(&World::default().apply(read.changes).0, &question);
    output::print(args.output, &explanation, table)?;
    Ok(!matches!(explanation.outcome, Outcome::Answered(_) | Outcome::Closed { .. }))
}

fn question(args: &Args) -> anyhow::Result<Question> {
    let (namespace, name) =
        args.from.split_once('/').with_context(|| format!("--from {}: write NAMESPACE/NAME", args.from))?;
    let (method, url) = args.request.trim().split_once(' ').unwrap_or(("GET", args.request.trim()));
    let method =
        Method::from_bytes(method.as_bytes()).with_context(|| format!("{method} is not a method"))?;
    let url: Uri = url.trim().parse().with_context(|| format!("{url} is not a URL"))?;
    let authority = url.authority().with_context(|| format!("{url}: write http://host:port/path"))?;
    let (transport, known_port) = match url.scheme_str() {
        Some("http") => (Transport::Plain, 80),
        Some("https") => (Transport::Tls { server_name: server_name(args, authority) }, 443),
        _ => bail!("{url}: write http://{authority}, or https:// for TLS that the application speaks itself"),
    };
    let port = authority.port_u16().unwrap_or(known_port);
    let destination = format!("{}:{port}", authority.host()).parse()?;
    let headers = headers(&args.headers)?;
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    Ok(Question {
        client: Client { namespace: namespace.into(), name: name.into(), ..Client::default() },
        destination,
        method,
        host: host.unwrap_or(authority.as_str()).to_owned(),
        path: url.path().to_owned(),
        query: url.query().map(str::to_owned),
        headers,
        transport,
    })
}

/// What the client would ask for in its handshake: what is said, else the host of the URL. Addresses are no names
/// (RFC 6066, section 3).
fn server_name(args: &Args, authority: &Authority) -> Option<String> {
    let name = args.sni.as_deref().unwrap_or(authority.host()).to_ascii_lowercase();
    (name.trim_matches(['[', ']']).parse::<IpAddr>().is_err()).then_some(name)
}

fn headers(written: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for field in written {
        let (name, value) = field.split_once(':').with_context(|| format!("-H {field}: write name:value"))?;
        let name = HeaderName::try_from(name.trim()).with_context(|| format!("-H {field}: not a name"))?;
        let value =
            HeaderValue::try_from(value.trim()).with_context(|| format!("-H {field}: not a value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn table(explanation: &Explanation) -> String {
    let mut lines = vec![format!("{} is taken for {}", explanation.destination, explanation.protocol)];
    for tried in &explanation.routes {
        let verdict = match &tried.mismatch {
            Some(mismatch) => format!("no: {mismatch}"),
            None => "yes".to_owned(),
        };
        lines.push(format!("  {}  {}  {verdict}", tried.object, tried.matches));
    }
    match &explanation.outcome {
        Outcome::Forwarded(forwarded) => lines.extend(forwarded_lines(forwarded)),
        Outcome::Redirected { object, status, location } => {
            lines.push(format!("answered {status} by {object}, location {location}"));
        }
        Outcome::Answered(answer) => lines.push(answer_line(answer)),
        Outcome::Bytes { object, backends } => {
            lines.push(format!("bytes are sent on by {object}"));
            lines.extend(backends.iter().flat_map(backend_lines));
        }
        Outcome::PassedThrough { why } => {
            lines.push(format!("passed through to where it was dialled: {why}"))
        }
        Outcome::Closed { why } => lines.push(format!("the connection is closed: {why}")),
    }
    lines.join("\n")
}

fn answer_line(answer: &Answer) -> String {
    format!("answered {} {}: {}", answer.status, answer.reason, answer.why)
}

fn forwarded_lines(forwarded: &Forwarded) -> Vec<String> {
    let host = forwarded.host.as_ref().map(|host| format!(" host {host}")).unwrap_or_default();
    let mut lines = vec![format!("sent on by {} as {}{host}", forwarded.object, forwarded.path)];
    lines.extend(forwarded.steps.iter().map(|step| format!("  {step}")));
    lines.extend(forwarded.backends.iter().flat_map(backend_lines));
    lines
}

fn backend_lines(backend: &Backend) -> Vec<String> {
    let mut lines = Vec::new();
    let endpoints = match backend.endpoints {
        Some(count) => format!("{count} endpoints"),
        None => "endpoints by DNS".to_owned(),
    };
    lines.push(match &backend.answer {
        Some(answer) => format!("  {} %  {}", backend.percent, answer_line(answer)),
        None => format!("  {} %  {}  {endpoints}", backend.percent, backend.service),
    });
    lines.extend(backend.steps.iter().map(|step| format!("    {step}")));
    if let Some(settings) = &backend.settings {
        let all = [
            ("load balancer", &settings.load_balancer),
            ("circuit breaker", &settings.limits),
            ("ejection", &settings.outlier_detection),
            ("retry budget", &settings.retry_budget),
            ("connections", &settings.connection),
        ];
        lines.extend(all.map(|(name, value)| format!("    {name}: {value}")));
        lines.extend(settings.more.iter().map(|line| format!("    {line}")));
    }
    lines
}
