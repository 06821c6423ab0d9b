//! Which version of a kind the cluster serves, and under which resource name.

use ::kube::Client;
use ::kube::core::{ApiResource, GroupVersionKind};
use outrigger_resources::Kind;
use outrigger_resources::object::{CORE_GROUP, DISCOVERY_GROUP};

/// The first version of ours that the cluster serves; `None` when it serves none, for example because the
/// CustomResourceDefinition is not installed.
pub(super) async fn served(client: &Client, kind: Kind) -> Result<Option<ApiResource>, ::kube::Error> {
    if matches!(kind.group(), CORE_GROUP | DISCOVERY_GROUP) {
        return Ok(kind.versions().first().map(|version| {
            ApiResource::from_gvk(&GroupVersionKind::gvk(kind.group(), version, kind.name()))
        }));
    }
    for version in kind.versions() {
        let group_version = format!("{}/{version}", kind.group());
        let resources = match client.list_api_group_resources(&group_version).await {
            Ok(resources) => resources.resources,
            Err(::kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        // A name with a slash is a part of a resource, like its status.
        let found = resources
            .into_iter()
            .find(|resource| resource.kind == kind.name() && !resource.name.contains('/'));
        if let Some(resource) = found {
            let gvk = GroupVersionKind::gvk(kind.group(), version, kind.name());
            return Ok(Some(ApiResource::from_gvk_with_plural(&gvk, &resource.name)));
        }
    }
    Ok(None)
}
