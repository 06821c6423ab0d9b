//! `outrigger status`: what the control plane says of objects and of the proxies that are connected to it.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, ClusterArgs};
use crate::output::{self, Format};

/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Shows objects with their conditions, and the proxies that are connected.
#[derive(clap::Args)]
#[command(after_help = "Example: outrigger status --http 127.0.0.1:15014")]
pub(crate) struct Args {
    /// Where the control plane serves HTTP.
    #[arg(long, env = "OUTRIGGER_HTTP", default_value = "127.0.0.1:15014", value_name = "ADDR:PORT")]
    http: String,
    /// Ask the control plane of a Kubernetes cluster, through its API server.
    #[arg(long, conflicts_with = "http")]
    kubernetes: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Only what has a problem.
    #[arg(long)]
    problems: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Report {
    status: Value,
    proxies: Value,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        if args.kubernetes {
            return of_cluster(&args.cluster).await;
        }
        let status = get(&args.http, "/api/v1/status").await?;
        let proxies = get(&args.http, "/api/v1/proxies").await?;
        anyhow::Ok(Report { status, proxies })
    })?;
    output::print(args.output, &report, |report| table(report, args.problems))
}

/// What one replica of a cluster's control plane says of objects, and all of them of proxies.
async fn of_cluster(args: &ClusterArgs) -> anyhow::Result<Report> {
    let cluster = Cluster::connect(args).await?;
    let token = cluster.api_token().await?;
    let mut report = Report { status: Value::Null, proxies: json!({"proxies": []}) };
    for pod in cluster.control_planes().await? {
        if report.status.is_null() {
            report.status = cluster.ask_control_plane(&pod, "/api/v1/status", &token).await?;
        }
        let answer = cluster.ask_control_plane(&pod, "/api/v1/proxies", &token).await?;
        let proxies = answer["proxies"].as_array().into_iter().flatten().cloned();
        if let Some(all) = report.proxies["proxies"].as_array_mut() {
            all.extend(proxies);
        }
    }
    if report.status.is_null() {
        bail!("no pod of the control plane runs in namespace {}; see `outrigger check`", cluster.namespace);
    }
    Ok(report)
}

/// GET from the JSON API of a control plane.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<Value> {
    let unreachable = || {
        format!(
            "no control plane answers at {address}; start one with `outrigger run`, or say where with --http"
        )
    };
    let stream = TcpStream::connect(address).await.with_context(unreachable)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.with_context(unreachable)?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path).header("host", address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(unreachable)?;
    if !response.status().is_success() {
        bail!("{address}{path} answered {}: is it the control plane?", response.status());
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer of {address}{path} was cut: {error}"))?;
    serde_json::from_slice(&body.to_bytes())
        .with_context(|| format!("{address}{path} did not answer in JSON"))
}

fn table(report: &Report, problems_only: bool) -> String {
    let objects = report.status["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = objects.iter().flat_map(|object| condition_rows(object, problems_only)).collect::<Vec<_>>();
    let problems = report.status["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() && problems.is_empty() {
        return "no problems".to_owned();
    }
    let mut text = output::table(&["OBJECT", "PARENT", "CONDITION", "STATUS", "REASON", "MESSAGE"], rows);
    for problem in problems {
        text.push_str(&format!("\n{}", problem_line(problem)));
    }
    if !problems_only {
        text.push_str("\n\n");
        text.push_str(&output::table(
            &["PROXY", "ADDRESS", "TYPE", "SENT", "IN FORCE", "REFUSED"],
            proxy_rows(&report.proxies),
        ));
    }
    text
}

/// `file:line:column: object: field: message`, as `outrigger validate` says it.
fn problem_line(problem: &Value) -> String {
    let mut parts: Vec<String> =
        ["location", "object", "field", "message"].iter().map(|key| plain(&problem[*key])).collect();
    parts.retain(|part| !part.is_empty());
    parts.join(": ")
}

fn condition_rows(object: &Value, problems_only: bool) -> Vec<Vec<String>> {
    let conditions = object["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_problem = |condition: &Value| {
        condition["status"].as_bool() == Some(condition["type"].as_str() == Some("PartiallyInvalid"))
    };
    let shown = conditions.iter().filter(|condition| !problems_only || is_problem(condition));
    let row = |condition: &Value| {
        let text = |key: &str| plain(&condition[key]);
        vec![
            reference(&object["object"]),
            reference(&object["parent"]),
            text("type"),
            text("status"),
            text("reason"),
            text("message"),
        ]
    };
    shown.map(row).collect()
}

fn proxy_rows(proxies: &Value) -> Vec<Vec<String>> {
    let all = proxies["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = Vec::new();
    for proxy in all {
        for state in proxy["types"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let text = |key: &str| plain(&state[key]);
            let refused = plain(&state["nack"]["reason"]);
            rows.push(vec![
                plain(&proxy["id"]),
                plain(&proxy["address"]),
                text("type"),
                text("sent_version"),
                text("acked_version"),
                refused,
            ]);
        }
    }
    rows
}

fn reference(value: &Value) -> String {
    if value.is_null() {
        return String::new();
    }
    let part = |key: &str| value[key].as_str().unwrap_or_default();
    format!("{}/{}/{}", part("kind"), part("namespace"), part("name"))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_begins_with_its_place() {
        let problem = serde_json::json!({
            "location": "reviews.yaml:7:3",
            "object": "HTTPRoute/shop/reviews",
            "field": "spec.rules[0].wieght",
            "message": "unknown field",
        });
        assert_eq!(
            problem_line(&problem),
            "reviews.yaml:7:3: HTTPRoute/shop/reviews: spec.rules[0].wieght: unknown field"
        );
        let bare = serde_json::json!({"location": null, "object": null, "field": "", "message": "gone"});
        assert_eq!(problem_line(&bare), "gone");
    }

    #[test]
    fn nothing_wrong_is_said_in_words() {
        let report =
            Report { status: serde_json::json!({"objects": [], "problems": []}), proxies: Value::Null };
        assert_eq!(table(&report, true), "no problems");
    }
}
