//! The cluster itself: version, clocks, the kinds of Gateway API, and what an installation may do.

use outrigger_resources::object::GATEWAY_GROUP;
use serde_json::Value;

use super::Finding;
use super::gather::Platform;
use crate::cluster::text;

/// The first Kubernetes with sidecars of its own (`initContainers` with `restartPolicy: Always`), on by default.
const SIDECARS_SINCE_MINOR: u32 = 29;
/// The oldest Kubernetes that is tried.
const OLDEST_MINOR: u32 = 27;
/// Clocks may differ by so much: certificates are good from five minutes before they are signed.
const MAX_SKEW_SECONDS: u64 = 60;
/// The Gateway API kinds without which there is nothing to route by.
const NEEDED: [&str; 2] = ["httproutes", "grpcroutes"];
/// The annotation by which Gateway API says its version.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// What is judged always.
pub(super) fn judge(platform: &Platform) -> Vec<Finding> {
    vec![version(platform), clock(platform), gateway_api(platform)]
}

/// What is judged before an installation only.
pub(super) fn judge_before(platform: &Platform, namespace: &str) -> Vec<Finding> {
    vec![rights(platform), other_installation(platform, namespace)]
}

fn version(platform: &Platform) -> Finding {
    let (check, version) = ("kubernetes api", &platform.version);
    match platform.minor {
        SIDECARS_SINCE_MINOR.. => Finding::ok(check, format!("reachable, version {version}")),
        OLDEST_MINOR.. => Finding::warning(
            check,
            format!("version {version} has no sidecar containers of its own"),
            "install with --injection-mode legacy: pods of Jobs then get no sidecar",
        ),
        _ => Finding::failed(
            check,
            format!("version {version} is older than 1.{OLDEST_MINOR}"),
            format!("upgrade the cluster to 1.{SIDECARS_SINCE_MINOR} or later"),
        ),
    }
}

fn clock(platform: &Platform) -> Finding {
    let check = "clock";
    match platform.skew_seconds {
        None => Finding::unknown(check, "the API server does not say what time it is"),
        Some(skew) if skew.unsigned_abs() <= MAX_SKEW_SECONDS => {
            Finding::ok(check, format!("this host and the API server differ by {} s", skew.abs()))
        }
        Some(skew) => Finding::warning(
            check,
            format!("this host and the API server differ by {} s", skew.abs()),
            "set both by NTP: certificates and tokens are judged by the clock",
        ),
    }
}

fn gateway_api(platform: &Platform) -> Finding {
    let check = "gateway api";
    let definitions = match &platform.definitions {
        Ok(definitions) => definitions,
        Err(why) => return Finding::unknown(check, why),
    };
    let named = |plural: &str| {
        let name = format!("{plural}.{GATEWAY_GROUP}");
        definitions.iter().find(|definition| text(definition, "/metadata/name") == name)
    };
    let missing: Vec<&str> = NEEDED.into_iter().filter(|plural| named(plural).is_none()).collect();
    if !missing.is_empty() {
        return Finding::warning(
            check,
            format!("not installed: {}", missing.join(", ")),
            "install the standard channel of Gateway API (gateway-api.sigs.k8s.io); routes are read as soon as it is \
             there",
        );
    }
    let version = named(NEEDED[0]).map(bundle_version).unwrap_or_default();
    Finding::ok(check, format!("installed, version {version}"))
}

fn bundle_version(definition: &Value) -> &str {
    let said = definition["metadata"]["annotations"][BUNDLE_VERSION].as_str();
    said.unwrap_or("unknown")
}

fn rights(platform: &Platform) -> Finding {
    let check = "rights to install";
    match platform.denied.as_slice() {
        [] => Finding::ok(check, "everything an installation makes may be made"),
        denied => Finding::failed(
            check,
            format!("you may not create {}", denied.join(", ")),
            "install as a cluster administrator",
        ),
    }
}

fn other_installation(platform: &Platform, namespace: &str) -> Finding {
    let check = "other installations";
    match platform.installed_in.as_deref() {
        None | Some("") => Finding::ok(check, "none"),
        Some(there) if there == namespace => {
            Finding::ok(check, format!("Outrigger is installed in {there}: this is an upgrade"))
        }
        Some(there) => Finding::failed(
            check,
            format!("Outrigger is installed in namespace {there}"),
            format!(
                "a cluster has one mesh: upgrade it with --namespace {there}, or remove it first with `outrigger \
                 uninstall --namespace {there}`"
            ),
        ),
    }
}
