//! Rate limits that a service keeps for all: what it is asked, and what its answer says.
//!
//! The protocol of Envoy, `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`, a unary call of gRPC over HTTP/2
//! (grpc/grpc `doc/PROTOCOL-HTTP2.md`). Messages only; who sends them where is the filter's business.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::HeaderValue as WireField;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use http::{HeaderName, HeaderValue, Uri};
use outrigger_base::telemetry::metrics::Counter;
use outrigger_model::filter::{Descriptor, GlobalRateLimit, LimitKey};
use outrigger_model::name::Destination;
use prost::Message;

use super::rate::{Quota, Subject};
use crate::upstream::Cluster;

/// The largest answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The most fields that an answer adds to requests, and to responses.
const MAX_FIELDS: usize = 32;
/// Before each message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
const METHOD: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A limit that a service keeps, with what it takes to ask.
#[derive(Debug)]
pub struct GlobalLimit {
    /// What configuration says.
    pub config: GlobalRateLimit,
    /// The service; `None` when there is none of the name.
    pub cluster: Option<Arc<Cluster>>,
    /// What is called.
    pub uri: Uri,
    /// Counts calls without a usable answer.
    pub errors: Counter,
}

/// What the service says.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// Whether the limit is exceeded.
    pub over: bool,
    /// How the limit stands that is nearest to its end, if the service says it.
    pub quota: Option<Quota>,
    /// For the request, if it goes on.
    pub request_fields: Vec<(HeaderName, HeaderValue)>,
    /// For the response, whoever gives it.
    pub response_fields: Vec<(HeaderName, HeaderValue)>,
}

/// Why an answer says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// It is no one message of gRPC, or it is compressed, which nobody asked for.
    #[error("the answer is not one plain message of gRPC")]
    Framing,
    /// The message cannot be read.
    #[error("the answer cannot be read")]
    Message,
    /// It says neither yes nor no.
    #[error("the answer has no code")]
    Code,
}

impl GlobalLimit {
    /// A limit whose service is at `cluster`.
    pub fn new(config: GlobalRateLimit, cluster: Option<Arc<Cluster>>, errors: Counter) -> Self {
        let authority = Destination::from_cluster_name(&config.cluster).map(|name| name.to_string());
        let authority = authority.unwrap_or_else(|| "ratelimit".to_owned());
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(METHOD).build();
        Self { uri: uri.unwrap_or_else(|_| Uri::from_static(METHOD)), config, cluster, errors }
    }

    /// The body of the call, `None` when the request lacks what the descriptor is made of: then, as in Envoy, there is
    /// nothing to ask.
    pub fn question(&self, subject: &Subject<'_>) -> Option<Bytes> {
        let entries = self.config.descriptor.iter().map(|entry| entry_of(entry, subject));
        let descriptor = RateLimitDescriptor {
            entries: entries.collect::<Option<_>>()?,
            ..RateLimitDescriptor::default()
        };
        let domain = self.config.domain.as_ref().to_owned();
        let message = RateLimitRequest { domain, descriptors: vec![descriptor], hits_addend: 0 };
        let mut body = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
        body.put_u8(0);
        body.put_u32(message.encoded_len() as u32);
        body.put_slice(&message.encode_to_vec());
        Some(body.freeze())
    }
}

fn entry_of(entry: &Descriptor, subject: &Subject<'_>) -> Option<Entry> {
    let (key, value) = match entry {
        Descriptor::Fixed { key, value } => (key, text(value)),
        Descriptor::FromRequest { key, value } => (key, value_of(value, subject)?),
    };
    Some(Entry { key: key.as_ref().to_owned(), value })
}

fn value_of(key: &LimitKey, subject: &Subject<'_>) -> Option<String> {
    let parts = subject.parts;
    Some(match key {
        LimitKey::SourceIdentity => subject.identity?.to_string(),
        LimitKey::SourceAddress => subject.address.to_string(),
        LimitKey::Header(name) => text(parts.headers.get(name)?),
        LimitKey::Method => parts.method.as_str().to_owned(),
        LimitKey::Path => parts.uri.path().to_owned(),
    })
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Reads the body of an answer.
///
/// # Errors
/// It says nothing that can be used.
pub fn read(body: &[u8]) -> Result<Answer, AnswerError> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>().ok_or(AnswerError::Framing)?;
    let [compressed, length @ ..] = prefix;
    if *compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return Err(AnswerError::Framing);
    }
    let response = RateLimitResponse::decode(message).map_err(|_| AnswerError::Message)?;
    let over = match response.overall_code() {
        Code::Ok => false,
        Code::OverLimit => true,
        Code::Unknown => return Err(AnswerError::Code),
    };
    let quotas = response.statuses.iter().filter_map(quota);
    Ok(Answer {
        over,
        quota: quotas.min_by_key(|quota| quota.remaining),
        request_fields: fields(&response.request_headers_to_add),
        response_fields: fields(&response.response_headers_to_add),
    })
}

fn quota(status: &DescriptorStatus) -> Option<Quota> {
    let limit = status.current_limit.as_ref()?.requests_per_unit;
    let reset = status.duration_until_reset.as_ref();
    let seconds = reset.and_then(|reset| u64::try_from(reset.seconds).ok()).unwrap_or_default();
    let nanos = reset.and_then(|reset| u32::try_from(reset.nanos).ok()).unwrap_or_default();
    let reset = Duration::from_secs(seconds) + Duration::from_nanos(nanos.into());
    let retry_after = (status.code() == Code::OverLimit).then_some(reset);
    Some(Quota { limit, remaining: status.limit_remaining, reset, retry_after })
}

/// What is no field of HTTP is left out.
fn fields(written: &[WireField]) -> Vec<(HeaderName, HeaderValue)> {
    let read = |field: &WireField| {
        let value = if field.raw_value.is_empty() { field.value.as_bytes() } else { &field.raw_value };
        Some((HeaderName::try_from(&field.key).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    written.iter().take(MAX_FIELDS).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
    use http::Request;

    use super::*;

    fn limit(descriptor: Vec<Descriptor>) -> GlobalLimit {
        let config = GlobalRateLimit {
            name: "RoutePolicy/shop/p".into(),
            cluster: "outbound|8081|limits.infra.svc.cluster.local".into(),
            domain: "shop".into(),
            descriptor,
            timeout: Duration::from_millis(20),
            fail_closed: false,
        };
        GlobalLimit::new(config, None, Counter::noop())
    }

    fn framed(response: &RateLimitResponse) -> Vec<u8> {
        let message = response.encode_to_vec();
        [&[0], &(message.len() as u32).to_be_bytes()[..], &message].concat()
    }

    #[test]
    fn a_question_says_what_the_descriptor_asks_of_the_request() {
        let from = |key: &str, value| Descriptor::FromRequest { key: key.into(), value };
        let header = |name| LimitKey::Header(HeaderName::from_static(name));
        let fixed = Descriptor::Fixed { key: "tier".into(), value: HeaderValue::from_static("gold") };
        let all = limit(vec![
            fixed,
            from("user", header("x-user")),
            from("method", LimitKey::Method),
            from("path", LimitKey::Path),
            from("who", LimitKey::SourceAddress),
        ]);
        assert_eq!(
            all.uri,
            "http://limits.infra.svc.cluster.local:8081/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
        );
        let (parts, ()) = Request::put("/a?b").header("x-user", "ann").body(()).unwrap().into_parts();
        let subject = Subject { identity: None, address: IpAddr::V4(Ipv4Addr::LOCALHOST), parts: &parts };
        let question = all.question(&subject).unwrap();
        let message = RateLimitRequest::decode(&question[PREFIX_BYTES..]).unwrap();
        let entries: Vec<String> = message.descriptors[0]
            .entries
            .iter()
            .map(|entry| format!("{}={}", entry.key, entry.value))
            .collect();
        assert_eq!(message.domain, "shop");
        assert_eq!(entries, ["tier=gold", "user=ann", "method=PUT", "path=/a", "who=127.0.0.1"]);
        assert_eq!(limit(vec![from("team", header("x-team"))]).question(&subject), None);
        assert_eq!(limit(vec![from("id", LimitKey::SourceIdentity)]).question(&subject), None);
    }

    #[test]
    fn an_answer_tells_the_tightest_limit_and_fields_to_add() {
        let status = |code: Code, remaining, seconds| DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit { requests_per_unit: 10, ..RateLimit::default() }),
            limit_remaining: remaining,
            duration_until_reset: Some(envoy_types::pb::google::protobuf::Duration { seconds, nanos: 0 }),
            ..DescriptorStatus::default()
        };
        let header = |key: &str, value: &str| WireField {
            key: key.into(),
            value: value.into(),
            ..WireField::default()
        };
        let response = RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![status(Code::Ok, 5, 3), status(Code::OverLimit, 0, 7)],
            response_headers_to_add: vec![header("x-limit", "a"), header("not a name", "b")],
            request_headers_to_add: vec![header("x-seen", "c")],
            ..RateLimitResponse::default()
        };
        let seven = Duration::from_secs(7);
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let expected = Answer {
            over: true,
            quota: Some(Quota { limit: 10, remaining: 0, reset: seven, retry_after: Some(seven) }),
            request_fields: vec![field("x-seen", "c")],
            response_fields: vec![field("x-limit", "a")],
        };
        assert_eq!(read(&framed(&response)), Ok(expected));
        let fine = RateLimitResponse { overall_code: Code::Ok.into(), ..RateLimitResponse::default() };
        assert_eq!(read(&framed(&fine)), Ok(Answer::default()));
    }

    #[test]
    fn what_is_no_answer_is_told_from_a_yes() {
        let silent = framed(&RateLimitResponse::default());
        let mut compressed = framed(&RateLimitResponse { overall_code: 1, ..RateLimitResponse::default() });
        compressed[0] = 1;
        let table: [(&[u8], AnswerError); 5] = [
            (b"", AnswerError::Framing),
            (&[0, 0, 0, 0], AnswerError::Framing),
            (&[0, 0, 0, 0, 9, 1], AnswerError::Framing),
            (&compressed, AnswerError::Framing),
            (&silent, AnswerError::Code),
        ];
        for (body, expected) in table {
            assert_eq!(read(body), Err(expected), "{body:?}");
        }
        assert_eq!(read(&[0, 0, 0, 0, 2, 0xff, 0xff]), Err(AnswerError::Message));
    }
}
