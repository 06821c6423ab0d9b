//! Which workloads a policy about receiving is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::field::{self, Misfit};
use crate::route::TargetRef;

/// Which workloads a policy is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Scope {
    /// All of its namespace.
    #[default]
    Namespace,
    /// Those behind these Services.
    Targets(Vec<TargetRef>),
    /// Those with these labels, at least one.
    Labels(BTreeMap<String, String>),
}

/// At most so many targets (Gateway API's bound for policies).
const MAX_TARGETS: usize = 16;

/// The fields that say a [`Scope`], nothing else.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenScope {
    #[serde(default, deserialize_with = "targets")]
    pub(crate) target_refs: Option<Vec<TargetRef>>,
    pub(crate) selector: Option<WrittenSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WrittenSelector {
    match_labels: BTreeMap<String, String>,
}

impl TryFrom<WrittenScope> for Scope {
    type Error = Misfit;

    fn try_from(written: WrittenScope) -> Result<Self, Misfit> {
        match (written.target_refs, written.selector) {
            (None, None) => Ok(Self::Namespace),
            (Some(targets), None) => Ok(Self::Targets(targets)),
            (None, Some(selector)) if selector.match_labels.is_empty() => {
                let message =
                    "matchLabels is empty; write labels, or no selector to mean the whole namespace";
                Err(Misfit::new("selector", message))
            }
            (None, Some(selector)) => Ok(Self::Labels(selector.match_labels)),
            (Some(_), Some(_)) => {
                Err(Misfit::new("selector", "beside targetRefs; write one of them, or two policies"))
            }
        }
    }
}

/// Services as a whole: what a policy says is about a workload, not about one of its ports.
pub(crate) fn targets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<TargetRef>>, D::Error> {
    use serde::de::Error;
    let targets: Vec<TargetRef> = field::one_to::<MAX_TARGETS, _, _>(deserializer)?;
    match targets.iter().any(|target| target.section_name.is_some()) {
        true => Err(D::Error::custom("sectionName: the policy is about whole workloads; remove it")),
        false => Ok(Some(targets)),
    }
}
