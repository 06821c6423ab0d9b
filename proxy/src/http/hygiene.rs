//! What is let through: HTTP messages that can be read in one way only (design, decision 8).
//!
//! hyper refuses every Content-Length and chunk trick before a message gets here. This adds what a proxy owes:
//! one valid host (RFC 9112, section 3.2), one canonical Transfer-Encoding, no hop-by-hop fields
//! (RFC 9110, section 7.6.1), no version switch that was not understood, no impossible answers.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts as RequestParts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, Version};

use crate::reason::Reason;
use crate::upstream::HttpVersion;

/// Fields a head may have; hyper holds HTTP/1 to the same number.
const MAX_FIELDS: usize = 100;

/// The largest request head, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What each field of HTTP/2 counts beside its bytes (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Says who a client is, in meshes whose proxies forward certificates.
pub(crate) const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Which fields that matter to a proxy a head has: found in one pass, so that what is not there is not looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields(u16);

impl Fields {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const UPGRADE: Self = Self(1 << 1);
    pub(crate) const TE: Self = Self(1 << 2);
    pub(crate) const KEEP_ALIVE: Self = Self(1 << 3);
    pub(crate) const PROXY_CONNECTION: Self = Self(1 << 4);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 5);
    pub(crate) const FORWARDED_CLIENT_CERT: Self = Self(1 << 6);
    pub(crate) const TRACE: Self = Self(1 << 7);
    pub(crate) const LOAD_REPORT: Self = Self(1 << 9);
    /// What only proxies say of their answers.
    pub(crate) const SAID_BY_PROXIES: Self = Self(1 << 8);
    /// How long the caller waits, in our words and in those of gRPC.
    pub(crate) const TIMEOUT_MS: Self = Self(1 << 10);
    pub(crate) const GRPC_TIMEOUT: Self = Self(1 << 11);

    /// Those of a head.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |found, name| Self(found.0 | Self::named(name.as_str()).0))
    }

    /// Whether it has one of `any`.
    pub(crate) fn have(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "connection" => Self::CONNECTION,
            "upgrade" => Self::UPGRADE,
            "te" => Self::TE,
            "keep-alive" => Self::KEEP_ALIVE,
            "proxy-connection" => Self::PROXY_CONNECTION,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "x-forwarded-client-cert" => Self::FORWARDED_CLIENT_CERT,
            "traceparent" | "tracestate" => Self::TRACE,
            "endpoint-load-metrics" | "endpoint-load-metrics-bin" => Self::LOAD_REPORT,
            "x-outrigger-reason" | "x-outrigger-retries" => Self::SAID_BY_PROXIES,
            "x-outrigger-timeout-ms" => Self::TIMEOUT_MS,
            "grpc-timeout" => Self::GRPC_TIMEOUT,
            _ => Self::default(),
        }
    }
}

/// What a request is besides a message: decided once, before routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    /// An ordinary exchange.
    Plain,
    /// The client wants to switch to this protocol on the same connection.
    Upgrade(HeaderValue),
    /// The client wants a tunnel.
    Connect,
}

/// Checks and cleans a request head. `Err` is never forwarded.
pub(crate) fn check_request(parts: &mut RequestParts, fields: Fields) -> Result<Checked, Reason> {
    if parts.headers.len() > MAX_FIELDS || is_large_http2(parts) {
        return Err(Reason::HeadersTooLarge);
    }
    check_target(parts)?;
    if fields.have(Fields::TRANSFER_ENCODING) {
        check_transfer_encoding(parts)?;
    }
    let checked = wanted(parts, fields);
    let trailers = fields.have(Fields::TE) && accepts_trailers(&parts.headers);
    strip_hop_by_hop(&mut parts.headers, fields);
    if trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(checked)
}

/// hyper holds HTTP/1 to this size; in HTTP/2 it would answer too large a head itself, without saying why.
fn is_large_http2(parts: &RequestParts) -> bool {
    let size =
        |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES;
    parts.version == Version::HTTP_2 && parts.headers.iter().map(size).sum::<usize>() > MAX_HEAD_BYTES
}

fn check_target(parts: &mut RequestParts) -> Result<(), Reason> {
    if parts.method == Method::CONNECT {
        return check_connect(parts);
    }
    let path = parts.uri.path();
    let asterisk = path == "*" && parts.method == Method::OPTIONS;
    let bare_authority = path.is_empty() && parts.uri.scheme().is_some();
    if !(path.starts_with('/') || asterisk || bare_authority) {
        return Err(Reason::BadRequest);
    }
    let host = single_host(&parts.headers)?;
    match (parts.uri.authority(), host) {
        (Some(authority), host) => {
            let differs =
                host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
            if !valid_host(authority.as_str().as_bytes()) || (differs && parts.version == Version::HTTP_2) {
                return Err(Reason::BadRequest);
            }
            absolute_wins(parts);
        }
        (None, Some(host)) if valid_host(host.as_bytes()) => {}
        (None, None) if parts.version == Version::HTTP_10 => {}
        _ => return Err(Reason::BadRequest),
    }
    Ok(())
}

fn check_connect(parts: &mut RequestParts) -> Result<(), Reason> {
    let authority = parts.uri.authority().ok_or(Reason::BadRequest)?;
    let bytes = authority.as_str().as_bytes();
    single_host(&parts.headers)?;
    // Bytes behind a CONNECT could be a body, the tunnel's, or the next request.
    let framed = parts.headers.contains_key(CONTENT_LENGTH) || parts.headers.contains_key(TRANSFER_ENCODING);
    if framed || !valid_host(bytes) || authority.port_u16().is_none() {
        return Err(Reason::BadRequest);
    }
    parts.headers.remove(HOST);
    Ok(())
}

fn single_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Reason> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() { Err(Reason::BadRequest) } else { Ok(first) }
}

/// In HTTP/1.1 the absolute form replaces what Host says (RFC 9112, section 3.2.2); in HTTP/2 `:authority` stands alone.
fn absolute_wins(parts: &mut RequestParts) {
    parts.headers.remove(HOST);
    if parts.version == Version::HTTP_2 {
        return;
    }
    let authority = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        parts.headers.insert(HOST, authority);
    }
    parts.uri = origin_form(&parts.uri);
}

fn origin_form(uri: &Uri) -> Uri {
    let path = uri.path_and_query().filter(|path| path.as_str().starts_with(['/', '*'])).cloned();
    Uri::from(path.unwrap_or(PathAndQuery::from_static("/")))
}

/// `host[:port]` with a name, an IPv4 address or a bracketed IPv6 address: no list, user, path, percent sign or space.
fn valid_host(text: &[u8]) -> bool {
    let (host, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|b| *b == b']') else { return false };
            let inside = &rest[..end];
            let v6 = inside.contains(&b':')
                && inside.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
            if !v6 {
                return false;
            }
            (inside, &rest[end + 1..])
        }
        None => {
            let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
            let name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
            if !text[..end].iter().all(name) {
                return false;
            }
            text.split_at(end)
        }
    };
    let port_ok = match port.split_first() {
        None => true,
        Some((b':', digits)) => std::str::from_utf8(digits).is_ok_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }),
        Some(_) => false,
    };
    !host.is_empty() && host.len() <= 255 && port_ok
}

/// Exactly one `chunked`, written canonically, or none (RFC 9112, section 6.1).
fn check_transfer_encoding(parts: &mut RequestParts) -> Result<(), Reason> {
    let mut values = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = values.next() else { return Ok(()) };
    let canonical = first.as_bytes().eq_ignore_ascii_case(b"chunked");
    if values.next().is_some() || !canonical || parts.version != Version::HTTP_11 {
        return Err(Reason::BadRequest);
    }
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    Ok(())
}

fn wanted(parts: &RequestParts, fields: Fields) -> Checked {
    if parts.method == Method::CONNECT {
        return Checked::Connect;
    }
    if !fields.have(Fields::UPGRADE)
        || parts.version != Version::HTTP_11
        || !names_token(&parts.headers, b"upgrade")
    {
        return Checked::Plain;
    }
    let mut values = parts.headers.get_all(UPGRADE).iter();
    match (values.next(), values.next()) {
        // h2c over an upgrade would smuggle requests past this proxy (RFC 9113, section 3.1).
        (Some(one), None) if !one.as_bytes().to_ascii_lowercase().starts_with(b"h2") && is_token(one) => {
            Checked::Upgrade(one.clone())
        }
        _ => Checked::Plain,
    }
}

fn is_token(value: &HeaderValue) -> bool {
    !value.is_empty() && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-._/".contains(b))
}

fn names_token(headers: &HeaderMap, token: &[u8]) -> bool {
    connection_tokens(headers).any(|found| found.eq_ignore_ascii_case(token))
}

fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    let tokens = headers.get_all(TE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// Removes hop-by-hop fields and what Connection nominates, but never the fields that frame the message or name its host.
fn strip_hop_by_hop(headers: &mut HeaderMap, fields: Fields) {
    if fields.have(Fields::CONNECTION) {
        strip_nominated(headers);
        headers.remove(CONNECTION);
        headers.remove(HTTP2_SETTINGS);
    }
    for (field, name) in [
        (Fields::UPGRADE, UPGRADE),
        (Fields::TE, TE),
        (Fields::PROXY_CONNECTION, PROXY_CONNECTION),
        (Fields::KEEP_ALIVE, KEEP_ALIVE),
    ] {
        if fields.have(field) {
            headers.remove(name);
        }
    }
}

fn strip_nominated(headers: &mut HeaderMap) {
    const KEPT: [HeaderName; 5] = [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, TRAILER, COOKIE];
    let plain =
        |token: &[u8]| token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close");
    let nominated: Vec<HeaderName> = connection_tokens(headers)
        .filter(|token| !plain(token))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Writes the request the way the upstream version wants it: where the authority stands, how cookies are split,
/// and what frames a body of unknown length.
pub(crate) fn fit_version(parts: &mut RequestParts, to: HttpVersion, fallback_host: &str, body: BodyLength) {
    match to {
        HttpVersion::Http1 => fit_http1(parts, fallback_host, body),
        HttpVersion::Http2 => fit_http2(parts, fallback_host),
    }
}

/// What is known of a body's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// It is there and its end is not known ahead.
    Unknown,
    /// It has this many bytes.
    Exact(u64),
}

impl BodyLength {
    pub(crate) fn of(body: &impl http_body::Body) -> Self {
        body.size_hint().exact().map_or(Self::Unknown, Self::Exact)
    }
}

fn fit_http1(parts: &mut RequestParts, fallback_host: &str, body: BodyLength) {
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
        if body == BodyLength::Unknown && !parts.headers.contains_key(CONTENT_LENGTH) {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    // HTTP/1.1 has a Host here, or it would have been refused; only CONNECT has lost it.
    let from = std::mem::replace(&mut parts.version, Version::HTTP_11);
    let perhaps_without = from != Version::HTTP_11 || parts.method == Method::CONNECT;
    if perhaps_without && !parts.headers.contains_key(HOST) {
        let host = parts.uri.authority().map_or(fallback_host, Authority::as_str);
        if let Ok(host) = HeaderValue::from_str(host) {
            parts.headers.insert(HOST, host);
        }
    }
    if parts.uri.authority().is_some() && parts.method != Method::CONNECT {
        parts.uri = origin_form(&parts.uri);
    }
}

fn fit_http2(parts: &mut RequestParts, fallback_host: &str) {
    for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
        parts.headers.remove(name);
    }
    let from = std::mem::replace(&mut parts.version, Version::HTTP_2);
    let complete = from == Version::HTTP_2 && parts.uri.authority().is_some();
    if complete || parts.method == Method::CONNECT {
        return;
    }
    let host = parts.headers.remove(HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(fallback_host);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = host.parse().ok();
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

/// HTTP/2 may split cookies, HTTP/1 has one field (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.by_ref().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Checks and cleans a response head. `Err` is answered with 502.
pub(crate) fn check_response<B>(response: &mut Response<B>, asked: &Checked) -> Result<Fields, Reason> {
    let status = response.status();
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let accepted = switches && switch_was_asked(response.headers(), asked);
    if (switches && !accepted) || status.as_u16() > 599 || (status.is_informational() && !switches) {
        return Err(Reason::UpstreamProtocol);
    }
    let fields = Fields::of(response.headers());
    if fields.have(Fields::TRANSFER_ENCODING) {
        check_response_framing(response.headers())?;
        response.headers_mut().remove(TRANSFER_ENCODING);
    }
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    let upgrade = if accepted { headers.get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(headers, fields);
    if let Some(upgrade) = upgrade {
        switch_to(headers, upgrade);
    }
    Ok(fields)
}

/// Says on this hop that the protocol is to be switched.
pub(super) fn switch_to(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// A body whose end is told in two ways, or in one we do not take off, would reach the client cut or mislabelled.
fn check_response_framing(headers: &HeaderMap) -> Result<(), Reason> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else { return Ok(()) };
    let chunked = first.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    if chunked && !headers.contains_key(CONTENT_LENGTH) { Ok(()) } else { Err(Reason::UpstreamProtocol) }
}

fn switch_was_asked(headers: &HeaderMap, asked: &Checked) -> bool {
    match (asked, headers.get(UPGRADE)) {
        (Checked::Upgrade(wanted), Some(got)) => got.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
