//! `outrigger authz check`: the decision that a sidecar would make, by the sidecar's own code.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_control_plane::explain::receiving::receivers;
use outrigger_control_plane::world::World;
use outrigger_model::identity::SpiffeId;
use outrigger_proxy::jwt::Claims;
use outrigger_resources::{Kind, ObjectRef};

use crate::offline;
use crate::output::{self, Format};

mod answer;

pub(super) use answer::{Answer, answer};

/// Says whether a request would be let in, and by which policy and rule.
#[derive(clap::Args)]
#[command(
    after_help = "Example: outrigger authz check -f mesh/ --to Service/shop/reviews:9080 --from spiffe://cluster.local/ns/shop/sa/web \"GET /api/reviews\" --expect allow"
)]
pub(crate) struct Args {
    /// Directories, files, or - for standard input; read together, as one mesh.
    #[arg(short, long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Who is called: KIND/NAMESPACE/NAME of a Service, Workload or Pod, and perhaps the port that is dialled.
    #[arg(long, value_name = "KIND/NAMESPACE/NAME[:PORT]")]
    to: String,
    /// Who calls, proven by mutual TLS; plaintext unless written.
    #[arg(long, value_name = "SPIFFE ID")]
    from: Option<SpiffeId>,
    /// The address the connection comes from.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    source_ip: IpAddr,
    /// A header field of the request, name=value; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The claims of the request's verified token, as JSON; no token unless written.
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
    /// The method and the path as one argument, or tcp for a connection that carries bytes.
    #[arg(value_name = "METHOD PATH|tcp")]
    request: String,
    /// What the answer has to be; another one exits with 1.
    #[arg(long, value_enum)]
    expect: Option<Expected>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Expected {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) identity: Option<SpiffeId>,
    pub(super) source: IpAddr,
    /// `None` is a connection that carries bytes.
    pub(super) request: Option<Asked>,
}

/// A request that somebody might send.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    /// As it is sent.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) claims: Option<Claims>,
}

/// Whether the answer is the one that is expected.
pub(super) fn main(args: &Args) -> anyhow::Result<bool> {
    let question = question(args)?;
    let (to, port) = destination(&args.to)?;
    let read = offline::read(&args.files)?;
    for problem in &read.problems {
        eprintln!("{problem}");
    }
    let world = World::default().apply(read.changes).0;
    let found = receivers(&world, &to, port).with_context(|| format!("--to {}", args.to))?;
    let answers: Vec<Answer> = found.iter().map(|receiver| answer(&world, receiver, &question)).collect();
    output::print(args.output, &answers, |answers| {
        answers.iter().map(Answer::line).collect::<Vec<_>>().join("\n")
    })?;
    let wanted = args.expect.map(|expected| expected == Expected::Allow);
    Ok(wanted.is_none_or(|wanted| answers.iter().all(|answer| answer.is_allowed() == wanted)))
}

fn question(args: &Args) -> anyhow::Result<Question> {
    let request = match args.request.trim() {
        "tcp" => None,
        line => Some(asked(args, line)?),
    };
    Ok(Question { identity: args.from.clone(), source: args.source_ip, request })
}

fn asked(args: &Args, line: &str) -> anyhow::Result<Asked> {
    let (method, path) = line
        .split_once(' ')
        .with_context(|| format!("{line:?} is no request; write one like \"GET /api\", or tcp"))?;
    http::Method::from_bytes(method.as_bytes()).with_context(|| format!("{method:?} is not a method"))?;
    let mut headers = HeaderMap::new();
    for field in &args.headers {
        let (name, value) =
            field.split_once('=').with_context(|| format!("--header {field}: write name=value"))?;
        let name =
            HeaderName::try_from(name.trim()).with_context(|| format!("--header {field}: not a name"))?;
        let value =
            HeaderValue::try_from(value.trim()).with_context(|| format!("--header {field}: not a value"))?;
        headers.append(name, value);
    }
    let claims = args.claims.as_deref().map(claims).transpose()?;
    Ok(Asked { method: method.to_owned(), path: path.trim().to_owned(), headers, claims })
}

fn claims(json: &str) -> anyhow::Result<Claims> {
    let claims = serde_json::from_str(json)
        .context("--claims: not a JSON object; write one like {\"sub\": \"ann\"}")?;
    Ok(Claims::new(claims))
}

/// `KIND/NAMESPACE/NAME`, and perhaps a port.
fn destination(text: &str) -> anyhow::Result<(ObjectRef, Option<u16>)> {
    let (object, port) = match text.rsplit_once(':') {
        Some((object, port)) => {
            (object, Some(port.parse().with_context(|| format!("--to {text}: {port:?} is not a port"))?))
        }
        None => (text, None),
    };
    let parts: Vec<&str> = object.split('/').collect();
    let &[kind, namespace, name] = parts.as_slice() else {
        bail!("--to {text}: write KIND/NAMESPACE/NAME, as in Service/shop/reviews");
    };
    let kind = match kind {
        "Service" => Kind::Service,
        "Workload" => Kind::Workload,
        "Pod" => Kind::Pod,
        _ => bail!("--to {text}: a {kind} receives nothing; write Service, Workload or Pod"),
    };
    Ok((ObjectRef { kind, namespace: namespace.into(), name: name.into() }, port))
}

#[cfg(test)]
mod tests;
