//! From what was seen to policies: one for each destination, callers that ask for the same together.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{By, Calls, Destination, Observed, Seen};
use super::paths::generalise;

/// At most so many entries of a list, as policies may have.
const MAX_ENTRIES: usize = 256;

/// An Allow policy to review.
#[derive(Debug, PartialEq)]
pub(super) struct Learned {
    pub(super) name: String,
    pub(super) namespace: String,
    /// The Service it is about.
    pub(super) service: String,
    pub(super) rules: Vec<LearnedRule>,
}

/// Callers that ask for the same.
#[derive(Debug, PartialEq)]
pub(super) struct LearnedRule {
    pub(super) identities: Vec<String>,
    /// Empty is anything: what was asked for is not known.
    pub(super) to: Vec<LearnedOperation>,
    /// How many requests and connections it was learned from.
    pub(super) count: u64,
}

/// Methods that are used for the same paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LearnedOperation {
    pub(super) methods: Vec<String>,
    pub(super) paths: Vec<String>,
}

/// The policies under which everything that was seen of callers with an identity passes. Destinations without a Service have
/// none, because only a person knows the labels of their workloads.
pub(super) fn learn(observed: &Observed, siblings: usize) -> Vec<Learned> {
    let destinations = observed.destinations.iter();
    destinations.flat_map(|(destination, seen)| policies(destination, seen, siblings)).collect()
}

fn policies(destination: &Destination, seen: &Seen, siblings: usize) -> Vec<Learned> {
    let By::Service(service) = &destination.by else { return Vec::new() };
    let mut rules = rules(seen, siblings);
    let mut policies = Vec::new();
    let mut part = 0;
    while !rules.is_empty() {
        let rest = rules.split_off(rules.len().min(MAX_ENTRIES));
        part += 1;
        policies.push(Learned {
            name: if part == 1 { format!("{service}-learned") } else { format!("{service}-learned-{part}") },
            namespace: destination.namespace.clone(),
            service: service.clone(),
            rules: std::mem::replace(&mut rules, rest),
        });
    }
    policies
}

fn rules(seen: &Seen, siblings: usize) -> Vec<LearnedRule> {
    let mut alike: BTreeMap<Vec<LearnedOperation>, (Vec<String>, u64)> = BTreeMap::new();
    for (identity, anything) in callers(seen) {
        let calls = seen.requests.get(identity);
        let count = |counts: &BTreeMap<String, u64>| counts.get(identity).copied().unwrap_or_default();
        let counted = if calls.is_some() { 0 } else { count(&seen.counted) };
        let requests = calls.map_or(0, |calls| calls.values().sum());
        let to = calls.filter(|_| !anything).map(|calls| operations(calls, siblings)).unwrap_or_default();
        let (identities, sum) = alike.entry(to).or_default();
        identities.push(identity.clone());
        *sum += requests + counted + count(&seen.connections);
    }
    let mut rules = Vec::new();
    for (to, (identities, count)) in alike {
        rules.extend(identities.chunks(MAX_ENTRIES).map(|part| LearnedRule {
            identities: part.to_vec(),
            to: to.clone(),
            count,
        }));
    }
    rules
}

/// Every caller, and whether it needs a rule for anything: opaque connections have neither method nor path, and metrics do
/// not say them.
fn callers(seen: &Seen) -> BTreeMap<&String, bool> {
    let mut callers: BTreeMap<&String, bool> = seen.requests.keys().map(|caller| (caller, false)).collect();
    for caller in seen.counted.keys() {
        callers.entry(caller).or_insert(true);
    }
    callers.extend(seen.connections.keys().map(|caller| (caller, true)));
    callers
}

/// What was called, methods with the same paths together.
fn operations(calls: &Calls, siblings: usize) -> Vec<LearnedOperation> {
    let mut by_method: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for request in calls.keys() {
        by_method.entry(&request.method).or_default().push(&request.path);
    }
    let mut alike: BTreeMap<BTreeSet<String>, Vec<String>> = BTreeMap::new();
    for (method, paths) in by_method {
        let mut patterns = generalise(paths, siblings);
        if patterns.len() > MAX_ENTRIES * MAX_ENTRIES {
            patterns = ["/*".to_owned()].into();
        }
        alike.entry(patterns).or_default().push(method.to_owned());
    }
    let mut operations = Vec::new();
    for (paths, mut methods) in alike {
        methods.truncate(MAX_ENTRIES);
        let paths: Vec<String> = paths.into_iter().collect();
        operations.extend(
            paths
                .chunks(MAX_ENTRIES)
                .map(|part| LearnedOperation { methods: methods.clone(), paths: part.to_vec() }),
        );
    }
    operations.truncate(MAX_ENTRIES);
    operations
}
