//! As whom a container runs, and what its root may do.

use anyhow::{Result, bail};
use serde_json::Value;

use super::image::Image;
use super::services::list;

/// What a container runtime leaves to a container that drops nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// The arguments of `setpriv` before the program.
///
/// # Errors
/// When the container has to be another user than root and is root, as the kubelet refuses it.
pub(super) fn setpriv(pod: &Value, container: &Value, image: &Image) -> Result<Vec<String>> {
    let own = &container["securityContext"];
    let of_pod = &pod["spec"]["securityContext"];
    let number = |name: &str| own[name].as_u64().or_else(|| of_pod[name].as_u64());
    let user = number("runAsUser").unwrap_or(image.user.into());
    let group = number("runAsGroup").unwrap_or(user);
    let not_root = own["runAsNonRoot"].as_bool().or_else(|| of_pod["runAsNonRoot"].as_bool());
    if user == 0 && not_root == Some(true) {
        bail!("container has runAsNonRoot and image will run as root");
    }
    let mut args = vec![format!("--reuid={user}"), format!("--regid={group}")];
    args.push(match of_pod["fsGroup"].as_u64() {
        Some(group) => format!("--groups={group}"),
        None => "--clear-groups".into(),
    });
    args.push("--inh-caps=-all".into());
    args.push(format!("--bounding-set={}", bounding_set(&own["capabilities"])));
    if own["allowPrivilegeEscalation"] == false {
        args.push("--no-new-privs".into());
    }
    Ok(args)
}

fn bounding_set(capabilities: &Value) -> String {
    let names = |value: &Value| -> Vec<String> {
        list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (drop, add) = (names(&capabilities["drop"]), names(&capabilities["add"]));
    let default = DEFAULT_CAPABILITIES.iter().map(|&name| name.to_owned());
    let kept = default.filter(|name| !drop.iter().any(|dropped| dropped == "ALL" || dropped == name));
    let all: Vec<_> = kept.chain(add).map(|name| format!(",+{}", name.to_lowercase())).collect();
    format!("-all{}", all.concat())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn image(user: u32) -> Image {
        Image { entrypoint: Vec::new(), user, program: None }
    }

    #[test]
    fn what_is_dropped_is_gone_and_what_is_added_is_there() {
        let capabilities = json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]});
        assert_eq!(bounding_set(&capabilities), "-all,+net_admin,+net_raw");
        assert!(bounding_set(&json!(null)).contains("+net_bind_service"));
        assert!(!bounding_set(&json!({"drop": ["CHOWN"]})).contains("+chown"));
    }

    #[test]
    fn a_container_says_more_than_its_pod_and_its_pod_more_than_the_image() {
        let pod = json!({"spec": {"securityContext": {"runAsUser": 7, "runAsNonRoot": true}}});
        let args = setpriv(&pod, &json!({"securityContext": {"runAsUser": 9}}), &image(0)).unwrap();
        assert_eq!(args[0], "--reuid=9");
        assert_eq!(setpriv(&pod, &json!({}), &image(0)).unwrap()[0], "--reuid=7");
        assert_eq!(setpriv(&json!({}), &json!({}), &image(5)).unwrap()[0], "--reuid=5");
        assert!(setpriv(&pod, &json!({"securityContext": {"runAsUser": 0}}), &image(5)).is_err());
    }
}
