//! One check: a connection as traffic has it, a question, an answer.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_base::tls::Alpn;
use outrigger_model::cluster::UpstreamProtocol;
use outrigger_model::health_check::{HealthCheck, Probe};
use outrigger_model::name::Destination;
use prost::Message;
use tokio::io::AsyncReadExt;

use crate::upstream::cluster::Cluster;
use crate::upstream::dial::{DialError, Stream, dial};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Security;
use crate::worker::Shared;

/// How much of an answer's body is read.
const MAX_ANSWER_BYTES: usize = 4096;

const USER_AGENT: &str = "outrigger-health-check";
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";

/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Dial(#[from] DialError),
    #[error("the connection was closed")]
    Closed,
    #[error("no answer as HTTP has it: {0}")]
    Http(#[from] hyper::Error),
    #[error("the question cannot be asked: {0}")]
    Question(#[from] http::Error),
    #[error("the answer has status {0}")]
    Status(http::StatusCode),
    #[error("the answer is no gRPC health answer: {0}")]
    NotGrpc(String),
    #[error("the answer has gRPC status {0}")]
    GrpcStatus(String),
    #[error("the service says that it is not serving ({0})")]
    NotServing(i32),
}

#[derive(Clone, PartialEq, Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks an endpoint.
pub(super) async fn probe(
    shared: &Shared,
    cluster: &Cluster,
    endpoint: &Endpoint,
    check: &HealthCheck,
) -> Result<(), ProbeError> {
    let alpn = match (&check.probe, cluster.config().protocol) {
        (Probe::Tcp, _) => Alpn::Tcp,
        (Probe::Grpc { .. }, _) | (_, UpstreamProtocol::Http2) => Alpn::H2,
        (Probe::Http { .. }, _) => Alpn::Http1,
    };
    let security = cluster.security(endpoint.config());
    let policy = &cluster.config().connection;
    let stream = dial(shared, endpoint.config().address, &security, alpn, policy).await?;
    match &check.probe {
        Probe::Tcp => stays_open(stream, &security, check).await,
        Probe::Http { path, statuses } => {
            let question = question(cluster, alpn, (Method::GET, path), Bytes::new())?;
            let answer = ask(stream, question).await?;
            let status = answer.status();
            let passes = statuses.iter().any(|range| range.contains(&status.as_u16()));
            if passes { Ok(()) } else { Err(ProbeError::Status(status)) }
        }
        Probe::Grpc { service } => {
            let mut question =
                question(cluster, alpn, (Method::POST, GRPC_PATH), framed(service.as_ref().to_owned()))?;
            let headers = question.headers_mut();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, http::HeaderValue::from_static("trailers"));
            serving(ask(stream, question).await?).await
        }
    }
}

/// A sidecar takes connections whether or not its application does; when the application refuses, it closes.
async fn stays_open(mut stream: Stream, security: &Security, check: &HealthCheck) -> Result<(), ProbeError> {
    if !matches!(security, Security::Mesh(_)) {
        return Ok(());
    }
    let mut byte = [0];
    match tokio::time::timeout(check.timeout / 2, stream.read(&mut byte)).await {
        Ok(Ok(0) | Err(_)) => Err(ProbeError::Closed),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

fn question(
    cluster: &Cluster,
    alpn: Alpn,
    (method, path): (Method, &str),
    body: Bytes,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let config = cluster.config();
    let authority = Destination::from_cluster_name(&config.name)
        .map_or_else(|| config.service.name.to_string(), |destination| destination.to_string());
    let request = Request::builder().method(method).header(header::USER_AGENT, USER_AGENT);
    let request = match alpn {
        Alpn::H2 => request.version(Version::HTTP_2).uri(format!("http://{authority}{path}")),
        _ => request.uri(path).header(header::HOST, authority),
    };
    request.body(Full::new(body))
}

/// Sends a question and drives the connection until the head of the answer. Of the answer's body the connection, which ends with
/// it, gives what comes while it is read.
async fn ask(stream: Stream, question: Request<Full<Bytes>>) -> Result<Response<Answer>, ProbeError> {
    let io = TokioIo::new(stream);
    if question.version() == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        return drive(connection, sender.send_request(question)).await;
    }
    let (mut sender, connection) = http1::handshake(io).await?;
    drive(connection, sender.send_request(question)).await
}

/// An answer that is read to its end, or to the bound.
struct Answer {
    bytes: Bytes,
    trailers: HeaderMap,
}

/// One task does both: nothing of a check is left behind when it is given up.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    sending: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> Result<Response<Answer>, ProbeError> {
    let reading = async {
        let (parts, body) = sending.await?.into_parts();
        let answer = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(collected) => {
                let trailers = collected.trailers().cloned().unwrap_or_default();
                Answer { bytes: collected.to_bytes(), trailers }
            }
            // The head is what counts for HTTP; a gRPC answer without a message fails by that.
            Err(_) => Answer { bytes: Bytes::new(), trailers: HeaderMap::new() },
        };
        Ok(Response::from_parts(parts, answer))
    };
    let mut connection = std::pin::pin!(connection);
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        biased;
        answer = &mut reading => answer,
        // What was read before the end still counts; without it the question fails by itself.
        _ = &mut connection => reading.await,
    }
}

/// A message as gRPC frames it.
fn framed(service: String) -> Bytes {
    let message = HealthRequest { service };
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    framed.extend_from_slice(&message.encode_to_vec());
    framed.freeze()
}

async fn serving(answer: Response<Answer>) -> Result<(), ProbeError> {
    if !answer.status().is_success() {
        return Err(ProbeError::Status(answer.status()));
    }
    let code = |headers: &HeaderMap| {
        headers.get("grpc-status").map(|code| String::from_utf8_lossy(code.as_bytes()).into_owned())
    };
    let code = code(&answer.body().trailers).or_else(|| code(answer.headers()));
    if let Some(code) = code.filter(|code| code != "0") {
        return Err(ProbeError::GrpcStatus(code));
    }
    let bytes = &answer.body().bytes;
    let message = bytes.get(PREFIX_BYTES..).filter(|_| bytes[0] == 0);
    let message = message.ok_or_else(|| ProbeError::NotGrpc("no message".to_owned()))?;
    let answer = HealthAnswer::decode(message).map_err(|error| ProbeError::NotGrpc(error.to_string()))?;
    if answer.status == SERVING { Ok(()) } else { Err(ProbeError::NotServing(answer.status)) }
}
