//! Says a problem once when it appears and once when it is solved.

use std::collections::BTreeSet;

use super::{ObjectStatus, findings};
use crate::world::World;

/// How many problems are remembered at once; what is beyond is counted, not told.
pub const MAX_REMEMBERED: usize = 1_000;

/// What was said before.
#[derive(Debug, Default)]
pub struct Journal {
    known: BTreeSet<String>,
}

/// What is new since the last time, one line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Problems that were not there before.
    pub appeared: Vec<String>,
    /// Problems that are gone.
    pub solved: Vec<String>,
    /// Problems beyond [`MAX_REMEMBERED`].
    pub untold: usize,
}

impl Journal {
    /// Compares with what was said before.
    pub fn update(&mut self, world: &World) -> News {
        let mut lines: BTreeSet<String> = world.problems().iter().map(ToString::to_string).collect();
        lines.extend(findings(world).iter().flat_map(lines_of));
        let untold = lines.len().saturating_sub(MAX_REMEMBERED);
        let lines: BTreeSet<String> = lines.into_iter().take(MAX_REMEMBERED).collect();
        let appeared = lines.difference(&self.known).cloned().collect();
        let solved = self.known.difference(&lines).cloned().collect();
        self.known = lines;
        News { appeared, solved, untold }
    }
}

fn lines_of(status: &ObjectStatus) -> Vec<String> {
    let place = status.location.as_ref().map(|location| format!("{location}: ")).unwrap_or_default();
    let parent = status.parent.as_ref().map(|parent| format!(" on {parent}")).unwrap_or_default();
    let problems = status.conditions.iter().filter(|condition| condition.is_problem());
    problems
        .map(|condition| {
            let not = if condition.status { "" } else { "not " };
            format!(
                "{place}{}{parent}: {not}{:?} ({}): {}",
                status.object, condition.type_, condition.reason, condition.message
            )
        })
        .collect()
}
