//! Under which version the API server has a kind, if it has it: the definitions of Gateway API and our own come and go.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use kube::discovery::pinned_kind;
use outrigger_resources::Kind;

use crate::kubernetes::timed::{CallError, call};

/// The kinds that were found.
#[derive(Debug, Default)]
pub(super) struct Served(BTreeMap<Kind, ApiResource>);

impl Served {
    /// Forgets what was found, so that it is asked again.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The resource of a kind, `None` when the server does not have it.
    pub(super) async fn resource(
        &mut self,
        client: &Client,
        kind: Kind,
    ) -> Result<Option<ApiResource>, CallError> {
        if let Some(known) = self.0.get(&kind) {
            return Ok(Some(known.clone()));
        }
        for version in kind.versions() {
            let asked = GroupVersionKind::gvk(kind.group(), version, kind.name());
            match call(pinned_kind(client, &asked)).await {
                Ok((found, _)) => {
                    self.0.insert(kind, found.clone());
                    return Ok(Some(found));
                }
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
