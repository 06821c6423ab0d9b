//! What the origin answers to one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::body::Chunks;
use super::{Failure, MAX_CONNECTIONS, Seen, SeenBody, State};

/// How much of a request's body is kept, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// How large one chunk of `/stream` may be, in bytes.
const MAX_CHUNK_BYTES: u32 = 1024 * 1024;

type ResponseBody = UnsyncBoxBody<Bytes, anyhow::Error>;

/// Answers one request; an error breaks the connection or the stream.
pub(super) async fn respond(
    state: Arc<State>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>> {
    let (failure, delay) = {
        let mut inner = state.lock();
        inner.arrived += 1;
        (inner.take_failure(), inner.delay)
    };
    tokio::time::sleep(delay).await;
    let on_upgrade = asks_for_tunnel(&request).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let is_grpc =
        parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if failure.is_none() {
        if let Some(on_upgrade) = on_upgrade {
            state.remember(seen(&parts, peer, SeenBody::Streamed));
            return tunnel(&state, &parts, on_upgrade);
        }
        if is_grpc || parts.uri.path() == "/echo" {
            state.remember(seen(&parts, peer, SeenBody::Streamed));
            return Ok(if is_grpc { grpc_echo(body) } else { echo(&parts, body) });
        }
    }
    let body = read(body).await;
    state.remember(seen(&parts, peer, body.clone()));
    let response = match (failure, body) {
        (Some(failure), _) => fail(failure),
        (None, SeenBody::Cut(_)) => bail!("the request broke off"),
        (None, SeenBody::TooLarge(_)) => Ok(plain(StatusCode::PAYLOAD_TOO_LARGE)),
        (None, _) if parts.uri.path() == "/stream" => Ok(stream(&parts)),
        (None, SeenBody::Complete(body)) => Ok(describe(&state.name, &parts, peer, &body)),
        (None, SeenBody::Streamed) => bail!("a body that was read was not streamed"),
    };
    response.map(|response| without_body(&parts.method, response))
}

/// What `HEAD`, 204 and 304 have to look like. hyper leaves this to the service in HTTP/2.
fn without_body(method: &Method, response: Response<ResponseBody>) -> Response<ResponseBody> {
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if method != Method::HEAD && !bodiless {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|_| !bodiless) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(parts, Empty::new().map_err(anyhow::Error::from).boxed_unsync())
}

fn asks_for_tunnel(request: &Request<Incoming>) -> bool {
    let asks_to_upgrade = request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE);
    asks_to_upgrade || request.method() == Method::CONNECT
}

fn seen(parts: &Parts, peer: SocketAddr, body: SeenBody) -> Seen {
    Seen {
        method: parts.method.clone(),
        uri: parts.uri.clone(),
        version: parts.version,
        headers: parts.headers.clone(),
        peer,
        body,
    }
}

async fn read(mut body: Incoming) -> SeenBody {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) if bytes.len() + data.len() > MAX_BODY_BYTES => {
                return SeenBody::TooLarge(bytes.freeze());
            }
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            // Trailers.
            Ok(Err(_)) => {}
            Err(_) => return SeenBody::Cut(bytes.freeze()),
        }
    }
    SeenBody::Complete(bytes.freeze())
}

fn fail(failure: Failure) -> Result<Response<ResponseBody>> {
    match failure {
        Failure::Status(status) => Ok(plain(status)),
        Failure::Reset => bail!("the origin was told to break off"),
        Failure::CutBody => {
            let body = Chunks::new(1, Bytes::from_static(b"ten bytes."), Duration::ZERO).cut();
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("100"));
            Ok(response)
        }
    }
}

fn plain(status: StatusCode) -> Response<ResponseBody> {
    let body = Full::from(status.to_string()).map_err(anyhow::Error::from);
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

fn describe(name: &str, parts: &Parts, peer: SocketAddr, body: &Bytes) -> Response<ResponseBody> {
    let headers = parts.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let text = json!({
        "origin": name,
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "peer": peer.to_string(),
        "body": String::from_utf8_lossy(body),
        "body_bytes": body.len(),
    });
    let body = Full::from(text.to_string()).map_err(anyhow::Error::from);
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn stream(parts: &Parts) -> Response<ResponseBody> {
    let number = |name: &str, default: u32| {
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        value.and_then(|(_, value)| value.parse().ok()).unwrap_or(default)
    };
    let size_bytes = number("bytes", 16).min(MAX_CHUNK_BYTES);
    let chunk = vec![b'x'; usize::try_from(size_bytes).unwrap_or_default()];
    let pause = Duration::from_millis(number("pause_ms", 0).into());
    Response::new(Chunks::new(number("chunks", 1), chunk.into(), pause).boxed_unsync())
}

fn echo(parts: &Parts, body: Incoming) -> Response<ResponseBody> {
    let mut response = Response::new(body.map_err(anyhow::Error::from).boxed_unsync());
    for name in [CONTENT_TYPE, CONTENT_LENGTH, http::header::TRAILER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn grpc_echo(body: Incoming) -> Response<ResponseBody> {
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let body = body.map_err(anyhow::Error::from).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn tunnel(state: &State, parts: &Parts, on_upgrade: OnUpgrade) -> Result<Response<ResponseBody>> {
    let mut response = Response::new(Empty::new().map_err(anyhow::Error::from).boxed_unsync());
    if let Some(protocol) = parts.headers.get(UPGRADE) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, protocol.clone());
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    let upgraded = &mut state.lock().upgraded;
    while upgraded.try_join_next().is_some() {}
    if upgraded.len() == MAX_CONNECTIONS {
        bail!("{MAX_CONNECTIONS} connections are upgraded already");
    }
    upgraded.spawn(echo_bytes(on_upgrade));
    Ok(response)
}

async fn echo_bytes(on_upgrade: OnUpgrade) {
    // How the tunnel ends shows at its other end, which is what tests look at.
    if let Ok(stream) = on_upgrade.await {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    }
}
