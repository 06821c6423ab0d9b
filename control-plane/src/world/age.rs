//! Who came first: the tie-break wherever two objects contradict each other (Gateway API, conflict resolution).

use std::sync::Arc;
use std::time::SystemTime;

use outrigger_resources::Sourced;

/// Orders objects from the oldest to the youngest.
///
/// Objects with a creation time come before those without, whose place in the files stands in; what is still equal is
/// ordered by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age {
    birth: Birth,
    namespace: Arc<str>,
    name: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Birth {
    At(SystemTime),
    InFile { file: Arc<str>, document: usize },
}

impl Age {
    /// The age of an object.
    pub fn of(sourced: &Sourced) -> Self {
        let meta = sourced.object.meta();
        let birth = match meta.creation_timestamp {
            Some(time) => Birth::At(time),
            None => Birth::InFile { file: sourced.location.file.clone(), document: sourced.order },
        };
        Self { birth, namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}
