//! A ReferenceGrant of Gateway API: a namespace lets routes of other namespaces send to its objects.

use std::sync::Arc;

use serde::Deserialize;

use crate::field;
use crate::object::{Kind, Meta, ObjectRef};

/// A permission that a namespace gives to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Its metadata; the namespace is the one that permits.
    pub meta: Meta,
    /// What is permitted.
    pub spec: ReferenceGrantSpec,
}

/// `ReferenceGrant.spec`: each of `from` may refer to each of `to`. It is read strictly: a permission that was only
/// half understood could be wider than it was meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceGrantSpec {
    /// Who may refer, at least one.
    #[serde(deserialize_with = "field::one_to::<MAX_ENTRIES, _, _>")]
    pub from: Vec<GrantFrom>,
    /// To what, at least one.
    #[serde(deserialize_with = "field::one_to::<MAX_ENTRIES, _, _>")]
    pub to: Vec<GrantTo>,
}

/// Objects of a kind in a namespace that may refer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantFrom {
    /// The API group of what refers.
    pub group: String,
    /// The kind of what refers.
    pub kind: String,
    /// The namespace of what refers.
    pub namespace: Arc<str>,
}

/// Objects of the namespace of the grant that may be referred to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTo {
    /// The API group of what is referred to, empty for a Service.
    pub group: String,
    /// The kind of what is referred to.
    pub kind: String,
    /// Its name; `None` is all of that kind.
    pub name: Option<Arc<str>>,
}

/// At most so many entries in `from` and in `to` (Gateway API).
const MAX_ENTRIES: usize = 16;

impl ReferenceGrant {
    /// Whether one object may refer to another one because of this grant.
    pub fn permits(&self, from: &ObjectRef, to: &ObjectRef) -> bool {
        let is = |kind: Kind, group: &str, name: &str| kind.group() == group && kind.name() == name;
        let refers =
            |entry: &GrantFrom| entry.namespace == from.namespace && is(from.kind, &entry.group, &entry.kind);
        let referred = |entry: &GrantTo| {
            is(to.kind, &entry.group, &entry.kind) && entry.name.as_ref().is_none_or(|name| *name == to.name)
        };
        self.meta.namespace == to.namespace
            && self.spec.from.iter().any(refers)
            && self.spec.to.iter().any(referred)
    }
}
