//! What sidecars have seen, summed up.

use std::borrow::Cow;
use std::collections::BTreeMap;

use outrigger_model::identity::SpiffeId;
use outrigger_proxy::authorization::path::Readings;
use serde::Deserialize;

/// At most so many different requests and callers are kept; what is new beyond is counted and not learned.
const MAX_DIFFERENT: usize = 100_000;
/// The longest method that is learned, in bytes.
const MAX_METHOD_BYTES: usize = 64;
/// Answers of an application that say that the request should not have been.
const TURNED_AWAY: [u16; 4] = [401, 403, 404, 405];
/// Reasons for which a proxy refuses what is no business of anybody's.
const REFUSED: [&str; 4] = ["denied", "unauthenticated", "bad_request", "headers_too_large"];

/// What was seen of all workloads.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// By who was called.
    pub(super) destinations: BTreeMap<Destination, Seen>,
    /// The times of the first and of the last line, as they are written.
    pub(super) span: Option<(String, String)>,
    /// What was new beyond [`MAX_DIFFERENT`].
    pub(super) untold: u64,
    different: usize,
}

/// Who was called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    pub(super) namespace: String,
    pub(super) by: By,
}

/// What is known of who was called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// The Service in front of it.
    Service(String),
    /// Its own name alone.
    Workload(String),
}

/// What was seen at one destination.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By caller.
    pub(super) requests: BTreeMap<String, Calls>,
    /// Of callers without an identity.
    pub(super) plaintext: Calls,
    /// By caller: how many requests are known from metrics, which do not say what was asked for.
    pub(super) counted: BTreeMap<String, u64>,
    /// By caller: opaque connections.
    pub(super) connections: BTreeMap<String, u64>,
    /// Opaque connections of callers without an identity.
    pub(super) plaintext_connections: u64,
    /// Refused by the sidecar, or turned away by the application.
    pub(super) refused: u64,
    /// Requests with a path or method that no policy can name.
    pub(super) unclear: BTreeMap<String, u64>,
}

/// How often a request was made.
pub(super) type Calls = BTreeMap<Request, u64>;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Request {
    pub(super) method: String,
    /// As everybody reads it.
    pub(super) path: String,
}

/// A line of the access log, as far as it matters here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    direction: Cow<'a, str>,
    #[serde(borrow)]
    workload: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    service: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    status: u16,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "peer.identity", default)]
    identity: Cow<'a, str>,
}

impl Observed {
    /// Whether there is nothing to learn from.
    pub(super) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Takes in a line of output of a sidecar; what is no line about a request that came in is passed over.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return };
        if line.log != "access" || line.direction != "inbound" || line.namespace.is_empty() {
            return;
        }
        self.widen(&line.time);
        let seen = self.destinations.entry(destination(&line)).or_default();
        let refused = line.reason.as_ref().is_some_and(|reason| REFUSED.contains(&&**reason));
        if refused || TURNED_AWAY.contains(&line.status) {
            seen.refused += 1;
            return;
        }
        let Some(request) = request(&line) else {
            let shown: String = format!("{} {}", line.method, line.path).chars().take(200).collect();
            return count(&mut seen.unclear, shown, (&mut self.different, &mut self.untold));
        };
        let bounds = (&mut self.different, &mut self.untold);
        match line.identity.parse::<SpiffeId>() {
            Ok(identity) => {
                count(seen.requests.entry(identity.to_string()).or_default(), request, bounds);
            }
            Err(_) => count(&mut seen.plaintext, request, bounds),
        }
    }

    fn widen(&mut self, time: &str) {
        if time.is_empty() {
            return;
        }
        let (first, last) = self.span.get_or_insert_with(|| (time.to_owned(), time.to_owned()));
        if time < first.as_str() {
            time.clone_into(first);
        }
        if time > last.as_str() {
            time.clone_into(last);
        }
    }
}

/// Counts one more, unless it is new and there are too many already.
fn count<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, (different, untold): (&mut usize, &mut u64)) {
    match counts.get_mut(&key) {
        Some(count) => *count += 1,
        None if *different >= MAX_DIFFERENT => *untold += 1,
        None => {
            *different += 1;
            counts.insert(key, 1);
        }
    }
}

fn destination(line: &Line<'_>) -> Destination {
    let service = line.service.split_once('.').filter(|(_, namespace)| *namespace == line.namespace);
    let by = match service {
        Some((name, _)) => By::Service(name.to_owned()),
        None => By::Workload(line.workload.to_string()),
    };
    Destination { namespace: line.namespace.to_string(), by }
}

/// What was asked for; `None` when no policy can name it.
fn request(line: &Line<'_>) -> Option<Request> {
    let method = line.method.to_string();
    let is_upper = method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    let path = plain(&line.path)?;
    (is_upper && !method.is_empty() && method.len() <= MAX_METHOD_BYTES).then_some(Request { method, path })
}

/// A path as everybody reads it; `None` where servers may differ.
fn plain(path: &str) -> Option<String> {
    let bytes = match Readings::of(path) {
        Readings::One(bytes) => bytes.to_vec(),
        Readings::Several(mut ways) if ways.len() == 1 => ways.remove(0),
        Readings::Several(_) | Readings::Unreadable => return None,
    };
    let text = String::from_utf8(bytes).ok()?;
    (text.starts_with('/') && !text.chars().any(char::is_control)).then_some(text)
}
