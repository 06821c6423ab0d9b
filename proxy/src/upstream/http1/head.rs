//! HTTP/1.1 heads: a request head written, a response head read (RFC 9112, sections 3 to 6). Plain functions of bytes.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::ext::ReasonPhrase;

use super::decode::Decoder;

/// The largest head of a response, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The most fields of a response.
pub(super) const MAX_FIELDS: usize = 100;

/// How the end of a request body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Bodyless,
    /// This many bytes.
    Length(u64),
    /// Chunks, with trailers at their end.
    Chunked,
}

/// A response head and what follows it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) body: Decoder,
    /// Whether the connection can carry another request after the body.
    pub(super) persistent: bool,
}

/// Why a response head cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP.
    #[error("the response head cannot be read: {0}")]
    Syntax(#[from] httparse::Error),
    /// Beyond [`MAX_HEAD_BYTES`].
    #[error("the response head is larger than {MAX_HEAD_BYTES} bytes")]
    TooLarge,
    /// A field or the status that HTTP does not allow.
    #[error("the response head has an invalid {0}")]
    Invalid(&'static str),
    /// RFC 9112, section 6: the end of the body cannot be told.
    #[error("the length of the response body is told in a way that cannot be trusted")]
    Framing,
}

/// Appends a request head. What frames the body is written as it will be sent, whatever the fields say.
pub(super) fn write_request(parts: &Parts, framing: Framing, into: &mut Vec<u8>) {
    into.extend_from_slice(parts.method.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(target(parts).as_bytes());
    into.extend_from_slice(b" HTTP/1.1\r\n");
    let mut announced = false;
    for (name, value) in &parts.headers {
        if name == CONTENT_LENGTH {
            announced = true;
        } else if name != TRANSFER_ENCODING {
            write_field(name, value, into);
        }
    }
    match framing {
        Framing::Bodyless if !announced && !expects_body(&parts.method) => {}
        Framing::Bodyless => into.extend_from_slice(b"content-length: 0\r\n"),
        Framing::Length(bytes) => {
            into.extend_from_slice(b"content-length: ");
            into.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
            into.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => into.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    into.extend_from_slice(b"\r\n");
}

/// Appends one field line.
pub(super) fn write_field(name: &HeaderName, value: &HeaderValue, into: &mut Vec<u8>) {
    into.extend_from_slice(name.as_str().as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value.as_bytes());
    into.extend_from_slice(b"\r\n");
}

/// RFC 9110, section 6.5.1: what frames, routes or authenticates a message does not come behind it, in either direction: nobody
/// who believes it there is to get it.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 10] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
    ];
    !NEVER.contains(name)
}

fn target(parts: &Parts) -> &str {
    if parts.method == Method::CONNECT {
        return parts.uri.authority().map_or("", |authority| authority.as_str());
    }
    parts.uri.path_and_query().map_or("/", |path| path.as_str())
}

/// RFC 9110, section 8.6: a method that means something by its content says so even when there is none.
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Takes a response head off the front of `read`; `None` when it is not complete. An interim response is given too: the
/// caller passes over it.
pub(super) fn read_response(read: &mut Bytes, method: &Method) -> Result<Option<Head>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, read, &mut fields)? {
        httparse::Status::Complete(length) if length <= MAX_HEAD_BYTES => length,
        httparse::Status::Partial if read.len() <= MAX_HEAD_BYTES => return Ok(None),
        _ => return Err(HeadError::TooLarge),
    };
    let mut response = status_line(&parsed, read)?;
    let mut persistence = Persistence::of(response.version());
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::Invalid("field name"))?;
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value));
        let value = value.map_err(|_| HeadError::Invalid("field value"))?;
        if name == CONNECTION {
            persistence.heed(&value);
        }
        headers.append(name, value);
    }
    read.advance(length);
    let body = body(&response, method)?;
    let persistent = persistence.lasts() && !matches!(body, Decoder::UntilClose | Decoder::Switched);
    Ok(Some(Head { response, body, persistent }))
}

fn status_line(parsed: &httparse::Response<'_, '_>, read: &Bytes) -> Result<Response<()>, HeadError> {
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or(HeadError::Invalid("status"))?;
    *response.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let phrase = parsed.reason.filter(|phrase| !phrase.is_empty());
    if let Some(phrase) = phrase.filter(|phrase| response.status().canonical_reason() != Some(*phrase)) {
        // Another reason phrase than the usual one goes on to the client.
        let phrase = ReasonPhrase::try_from(read.slice_ref(phrase.as_bytes()));
        response.extensions_mut().insert(phrase.map_err(|_| HeadError::Invalid("reason phrase"))?);
    }
    Ok(response)
}

/// Whether a connection outlives its response (RFC 9112, section 9.3).
enum Persistence {
    /// Unless `close` is said.
    Lasting,
    /// Unless `keep-alive` is said.
    Ending,
    /// `close` was said.
    Closed,
}

impl Persistence {
    fn of(version: Version) -> Self {
        if version == Version::HTTP_11 { Self::Lasting } else { Self::Ending }
    }

    fn heed(&mut self, value: &HeaderValue) {
        for token in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            match self {
                _ if token.eq_ignore_ascii_case(b"close") => *self = Self::Closed,
                Self::Ending if token.eq_ignore_ascii_case(b"keep-alive") => *self = Self::Lasting,
                _ => {}
            }
        }
    }

    fn lasts(&self) -> bool {
        matches!(self, Self::Lasting)
    }
}

/// RFC 9112, section 6.3. What is told in two ways is refused where messages are checked; here it must only never be
/// read past its end.
fn body(response: &Response<()>, method: &Method) -> Result<Decoder, HeadError> {
    let (status, headers) = (response.status(), response.headers());
    if status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success()) {
        return Ok(Decoder::Switched);
    }
    let without = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD;
    if without {
        return Ok(Decoder::Ended);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        return match response.version() {
            Version::HTTP_10 => Err(HeadError::Framing),
            _ if ends_in_chunked(headers) => Ok(Decoder::chunked()),
            _ => Ok(Decoder::UntilClose),
        };
    }
    Ok(length(headers)?.map_or(Decoder::UntilClose, Decoder::exact))
}

fn ends_in_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    let coding = last.and_then(|value| value.as_bytes().rsplit(|b| *b == b',').next());
    coding.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// One length, however often it is said; anything else cannot be trusted.
fn length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for text in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let length = number(text).ok_or(HeadError::Framing)?;
            if known.is_some_and(|known| known != length) {
                return Err(HeadError::Framing);
            }
            known = Some(length);
        }
    }
    Ok(known)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests;
