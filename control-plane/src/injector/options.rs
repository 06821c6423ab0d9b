//! Flags that say what every sidecar has: of the control plane, and of `outrigger inject`.

use super::annotations::{cpu, log_level, memory};
use super::{Mode, ProxyResources, Settings};

/// Flags that say what every sidecar has.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct InjectorOptions {
    /// How sidecars stand in pods: native (Kubernetes 1.29 and newer), or legacy for older clusters.
    #[arg(
        long,
        alias = "mode",
        value_name = "MODE",
        env = "OUTRIGGER_INJECTION_MODE",
        value_enum,
        default_value_t
    )]
    pub injection_mode: Mode,
    /// Image of the sidecar [default: outrigger/outrigger-proxy with the tag of this version].
    #[arg(long, value_name = "IMAGE", env = "OUTRIGGER_PROXY_IMAGE")]
    pub proxy_image: Option<String>,
    /// When the sidecar's image is pulled: Always, IfNotPresent or Never [default: as the cluster decides].
    #[arg(long, value_name = "POLICY", env = "OUTRIGGER_PROXY_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub proxy_image_pull_policy: Option<String>,
    /// Where sidecars reach the control plane [default: its Service in the mesh's namespace, port 15012].
    #[arg(long, value_name = "URL", env = "OUTRIGGER_PROXY_CONTROL_PLANE", value_parser = url)]
    pub proxy_control_plane: Option<String>,
    /// CPU that is set aside for a sidecar [default: 50m].
    #[arg(long, value_name = "AMOUNT", env = "OUTRIGGER_PROXY_CPU_REQUEST", value_parser = cpu)]
    pub proxy_cpu_request: Option<String>,
    /// CPU that a sidecar does not exceed [default: no limit].
    #[arg(long, value_name = "AMOUNT", env = "OUTRIGGER_PROXY_CPU_LIMIT", value_parser = cpu)]
    pub proxy_cpu_limit: Option<String>,
    /// Memory that is set aside for a sidecar [default: 32Mi].
    #[arg(long, value_name = "AMOUNT", env = "OUTRIGGER_PROXY_MEMORY_REQUEST", value_parser = memory)]
    pub proxy_memory_request: Option<String>,
    /// Memory that a sidecar does not exceed [default: no limit].
    #[arg(long, value_name = "AMOUNT", env = "OUTRIGGER_PROXY_MEMORY_LIMIT", value_parser = memory)]
    pub proxy_memory_limit: Option<String>,
    /// What sidecars log: error, warn, info, debug, trace, or pairs target=level [default: info].
    #[arg(long, value_name = "FILTER", env = "OUTRIGGER_PROXY_LOG_LEVEL", value_parser = log_level)]
    pub proxy_log_level: Option<String>,
}

impl InjectorOptions {
    /// The settings of an installation in `mesh_namespace` with these flags.
    pub fn settings(&self, mesh_namespace: &str) -> Settings {
        let usual = Settings::of(mesh_namespace);
        let or = |given: &Option<String>, usual: String| given.clone().unwrap_or(usual);
        Settings {
            mode: self.injection_mode,
            image: or(&self.proxy_image, usual.image),
            image_pull_policy: self.proxy_image_pull_policy.clone(),
            control_plane: or(&self.proxy_control_plane, usual.control_plane),
            resources: ProxyResources {
                cpu_request: or(&self.proxy_cpu_request, usual.resources.cpu_request),
                cpu_limit: self.proxy_cpu_limit.clone(),
                memory_request: or(&self.proxy_memory_request, usual.resources.memory_request),
                memory_limit: self.proxy_memory_limit.clone(),
            },
            log_level: self.proxy_log_level.clone(),
            mesh_namespace: usual.mesh_namespace,
        }
    }
}

fn url(text: &str) -> Result<String, String> {
    let parsed: Option<http::Uri> = text.parse().ok();
    let fits = |url: &http::Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.port().is_some();
    match parsed.as_ref().is_some_and(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not https://host:port")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: InjectorOptions,
    }

    #[test]
    fn flags_become_settings_and_what_is_not_said_stays_as_usual() {
        let read = |line: &str| {
            Program::try_parse_from(line.split(' ')).map(|program| program.options.settings("mesh"))
        };
        assert_eq!(read("x").unwrap(), Settings::of("mesh"));
        let settings =
            read("x --mode legacy --proxy-image a/b:c --proxy-cpu-limit 2 --proxy-memory-request 64Mi")
                .unwrap();
        assert_eq!((settings.mode, settings.image.as_str()), (Mode::Legacy, "a/b:c"));
        assert_eq!(settings.resources.cpu_limit.as_deref(), Some("2"));
        assert_eq!(settings.resources.memory_request, "64Mi");
        for line in [
            "x --proxy-cpu-limit lots",
            "x --proxy-memory-limit 64MB",
            "x --proxy-log-level loud",
            "x --proxy-control-plane control-plane",
            "x --proxy-image-pull-policy Sometimes",
            "x --injection-mode other",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
