//! The order of routes: by what a kind of route says first, then by age, then as written.

use outrigger_model::route::Route;

/// Where a match was written; the last tie-break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The route among those in force, the oldest first.
    pub(super) route: usize,
    /// The rule within the route.
    pub(super) rule: usize,
    /// The match within the rule.
    pub(super) matching: usize,
}

/// Sorts by rank, the least first. Ranks end with a [`Place`], so no two are equal and the order is total.
pub(super) fn in_order<R: Ord>(mut ranked: Vec<(R, Route)>) -> Vec<Route> {
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    ranked.into_iter().map(|(_, route)| route).collect()
}
