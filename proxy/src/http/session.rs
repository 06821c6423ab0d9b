//! Sessions: the client carries a token that names its cluster and endpoint, so that every proxy finds the same one and
//! none keeps anything. Names are hashes, which do not show addresses; a token that means nothing here starts anew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use outrigger_model::session::{SessionAffinity, SessionCarrier};

use super::affinity::{cookie, set_cookie};
use super::forward::Arrived;
use crate::snapshot::{Backend, Forward};
use crate::upstream::{Cluster, xxh64};

/// The length of a token in hexadecimal digits: two hashes and two moments.
const TOKEN_DIGITS: usize = 16 + 16 + 8 + 8;

/// The session of a request, with what its route says of sessions.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    policy: &'a SessionAffinity,
    now_seconds: u32,
    /// What the client carries, if it is still valid.
    token: Option<Token>,
}

/// What a client carries. Moments are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    cluster: u64,
    endpoint: u64,
    began: u32,
    used: u32,
}

impl<'a> Session<'a> {
    /// The session that a request head names.
    pub(crate) fn read(policy: &'a SessionAffinity, headers: &HeaderMap) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Good until 2106.
        Self::at(now.as_secs() as u32, policy, headers)
    }

    fn at(now_seconds: u32, policy: &'a SessionAffinity, headers: &HeaderMap) -> Self {
        let carried = match &policy.carrier {
            SessionCarrier::Cookie { name, .. } => cookie(headers, name),
            SessionCarrier::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
        };
        let token = carried.and_then(Token::parse).filter(|token| token.is_valid(policy, now_seconds));
        Self { policy, now_seconds, token }
    }

    /// The backend that the session is with, while the route still has it.
    pub(crate) fn backend<'f>(&self, forward: &'f Forward) -> Option<&'f Backend> {
        let token = self.token?;
        let is_it = |cluster: &Cluster| hash_of(cluster) == token.cluster;
        forward.backends.iter().find(|backend| backend.cluster.as_deref().is_some_and(is_it))
    }

    /// The token of the endpoint that the session is with, if it is one of this cluster.
    pub(super) fn endpoint_of(&self, cluster: &Cluster) -> Option<u64> {
        self.token.filter(|token| token.cluster == hash_of(cluster)).map(|token| token.endpoint)
    }

    /// Tells the client where its session is, if that is not what it carries already.
    pub(crate) fn keep(self, arrived: &mut Arrived) {
        let Some(lease) = &arrived.lease else { return };
        let (cluster, endpoint) = (hash_of(lease.cluster()), lease.endpoint().token());
        let stays = self.token.filter(|token| token.cluster == cluster && token.endpoint == endpoint);
        if stays.is_some_and(|token| !token.is_stale(self.policy, self.now_seconds)) {
            return;
        }
        let began = stays.map_or(self.now_seconds, |token| token.began);
        let token = Token { cluster, endpoint, began, used: self.now_seconds }.to_string();
        let headers = arrived.response.headers_mut();
        match &self.policy.carrier {
            SessionCarrier::Cookie { name, max_age } => {
                if let Some(field) = set_cookie(name, &token, *max_age) {
                    headers.append(SET_COOKIE, field);
                }
            }
            SessionCarrier::Header(name) => {
                if let Ok(value) = HeaderValue::from_str(&token) {
                    headers.insert(name.clone(), value);
                }
            }
        }
    }
}

fn hash_of(cluster: &Cluster) -> u64 {
    xxh64(cluster.config().name.as_bytes(), 0)
}

impl Token {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TOKEN_DIGITS || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let hash = |at: usize| u64::from_str_radix(&text[at..at + 16], 16).ok();
        let moment = |at: usize| u32::from_str_radix(&text[at..at + 8], 16).ok();
        Some(Self { cluster: hash(0)?, endpoint: hash(16)?, began: moment(32)?, used: moment(40)? })
    }

    fn is_valid(&self, policy: &SessionAffinity, now_seconds: u32) -> bool {
        let within = |limit: Option<Duration>, since: u32| {
            limit.is_none_or(|limit| u64::from(now_seconds.saturating_sub(since)) < limit.as_secs().max(1))
        };
        within(policy.absolute_timeout, self.began) && within(policy.idle_timeout, self.used)
    }

    /// Whether the moment of the last request has to be told anew: only idle timeouts go by it.
    fn is_stale(&self, policy: &SessionAffinity, now_seconds: u32) -> bool {
        policy.idle_timeout.is_some() && now_seconds > self.used
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}{:016x}{:08x}{:08x}", self.cluster, self.endpoint, self.began, self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Token = Token { cluster: 1, endpoint: u64::MAX, began: 1000, used: 1050 };

    fn policy(absolute: Option<u64>, idle: Option<u64>) -> SessionAffinity {
        SessionAffinity {
            carrier: SessionCarrier::Cookie { name: "s".into(), max_age: None },
            absolute_timeout: absolute.map(Duration::from_secs),
            idle_timeout: idle.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_token_comes_back_as_it_was_and_anything_else_is_none() {
        let text = TOKEN.to_string();
        assert_eq!(Token::parse(text.as_bytes()), Some(TOKEN));
        for end in 0..text.len() {
            assert_eq!(Token::parse(&text.as_bytes()[..end]), None);
        }
        for bad in ["+".to_owned() + &text[1..], text.clone() + "0", "é".repeat(24)] {
            assert_eq!(Token::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_session_ends_by_age_and_by_idleness() {
        for (absolute, idle, now, valid) in [
            (None, None, u32::MAX, true),
            (Some(100), None, 1099, true),
            (Some(100), None, 1100, false),
            (None, Some(20), 1069, true),
            (None, Some(20), 1070, false),
            (Some(60), Some(20), 1065, false),
            // A clock that runs behind ends nothing.
            (Some(1), Some(1), 900, true),
        ] {
            assert_eq!(TOKEN.is_valid(&policy(absolute, idle), now), valid, "{absolute:?} {idle:?} at {now}");
        }
        assert!(TOKEN.is_stale(&policy(None, Some(20)), 1051));
        assert!(!TOKEN.is_stale(&policy(None, Some(20)), 1050), "told within this second");
        assert!(!TOKEN.is_stale(&policy(Some(20), None), 9000));
    }

    #[test]
    fn what_carries_it_is_where_it_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::COOKIE, format!("a=b; s={TOKEN}").parse().unwrap());
        let by_cookie = policy(None, None);
        assert_eq!(Session::at(0, &by_cookie, &headers).token, Some(TOKEN));
        let name = http::HeaderName::from_static("x-session");
        let by_header = SessionAffinity { carrier: SessionCarrier::Header(name.clone()), ..by_cookie };
        assert_eq!(Session::at(0, &by_header, &headers).token, None);
        headers.insert(name, TOKEN.to_string().parse().unwrap());
        assert_eq!(Session::at(0, &by_header, &headers).token, Some(TOKEN));
    }
}
