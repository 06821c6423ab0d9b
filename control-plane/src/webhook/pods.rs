//! `/inject`: a pod as it is made gets its sidecar.
//!
//! That the API server asks at all means that the pod is to have one: a pod without an annotation comes from a namespace
//! that is labelled, by the selectors of our webhooks. Our own view of the namespace may be older than theirs, and a pod
//! that was left out because of that would speak plaintext unnoticed.

use super::review::{Answer, Question};
use crate::injector::template::reference;
use crate::injector::{NamespaceFacts, Outcome, Settings, Wish, inject, patch};

/// The outcomes that are counted.
const INJECTED: &str = "injected";
const SKIPPED: &str = "skipped";
const REFUSED: &str = "refused";
/// The outcome of what is no review.
pub(super) const MALFORMED: &str = "malformed";

/// The answer, and its outcome.
pub(super) fn answer(question: &Question, settings: &Settings) -> (Answer, &'static str) {
    let is_pod =
        question.kind.group.is_empty() && question.kind.kind == "Pod" && question.sub_resource.is_empty();
    if !is_pod || question.operation != "CREATE" {
        let warning = "outrigger: only Pods get a sidecar, when they are created";
        return (Answer::allow(question).with_warnings(vec![warning.to_owned()]), SKIPPED);
    }
    let namespace = NamespaceFacts { name: question.namespace.clone(), wish: Wish::Enabled };
    let pod = reference(&question.object, "Pod");
    let (namespace_name, dry_run) = (namespace.name.as_str(), question.dry_run.unwrap_or_default());
    match inject(&question.object, settings, &namespace) {
        Ok(Outcome::Injected(after)) => {
            tracing::info!(pod, namespace = namespace_name, dry_run, "injected");
            (Answer::allow(question).with_patch(patch::diff(&question.object, &after)), INJECTED)
        }
        Ok(Outcome::Skipped(skip)) => {
            tracing::info!(
                pod,
                namespace = namespace_name,
                dry_run,
                reason = skip.word(),
                "not injected: {skip}"
            );
            (Answer::allow(question), SKIPPED)
        }
        Err(refusal) => {
            tracing::warn!(pod, namespace = namespace_name, dry_run, "refused: {refusal}");
            (Answer::refuse(question, refusal.to_string()), REFUSED)
        }
    }
}
